"""Numbers, times and foreign text in the form in which people read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

TEXT_LIMIT = 2000
_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_LINE_BREAK = re.compile("\r\n?|[\u2028\u2029]")
# C0 and C1 controls, marks and overrides of direction (they make a name read as another), lone surrogates.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)
_STATES = ("healthy", "degraded", "down")
_QUANTITIES = {"seconds": "time", "bytes": "size"}
_SINGULAR = {"indexes": "index", "queries": "query", "retries": "retry"}
_SAME_UNIT = {
    "": "count",
    "ratio": "1",
    "percent": "%",
    "B": "bytes",
    "byte": "bytes",
    "B/s": "bytes/s",
    "seconds": "s",
}


class Shown(NamedTuple):
    """A value as people read it, and exactly."""

    text: str
    exact: str = ""


def clean(value: Any, limit: int = TEXT_LIMIT) -> str:
    """Return foreign text without terminal sequences, control characters and overrides of direction, cut to a length.

    What was there stays visible as U+FFFD, so that a forged name does not look like the real one.

    >>> clean("\\x1b[31mred\\x1b[0m a\\x00b")
    'red a\ufffdb'
    """
    text = str(value)
    # Nearly all texts are harmless, and a report prints a hundred thousand of them.
    if not text.isprintable():
        text = _LINE_BREAK.sub("\n", _ESCAPE_SEQUENCE.sub("", text))
        text = _UNPRINTABLE.sub("\ufffd", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_line(value: Any, limit: int = TEXT_LIMIT) -> str:
    """Return foreign text as one line."""
    return " ".join(clean(value, limit).split())


def number(value: float) -> str:
    """Return a number with thousands apart and no more digits than can be taken in.

    >>> number(1234567), number(0.03125), number(12.5)
    ('1,234,567', '0.0312', '12.5')
    """
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if 1000 <= abs(value) < 1e15 else f"{value:.3g}"


def quantity(name: str) -> str:
    """Return the dotted name of a measurement as words that go with its value in human units.

    >>> quantity("vacuum.wal_bytes"), quantity("copy.seconds")
    ('vacuum WAL size', 'copy time')
    >>> quantity("space.used_percent")
    'space used'
    """
    words = label(name).split(" ")
    if len(words) > 1 and words[-1] == "percent":
        words.pop()
    words[-1] = _QUANTITIES.get(words[-1], words[-1])
    return " ".join({"wal": "WAL", "io": "I/O", "toast": "TOAST"}.get(word, word) for word in words)


def size(count: float) -> Shown:
    """Return bytes as PostgreSQL writes them (1 kB is 1024 bytes): the findings of routines do the same.

    >>> size(123456789).text
    '118 MB'
    """
    exact = f"{count:,.0f} bytes"
    if abs(count) < 1024:
        return Shown(f"{count:.0f} B", exact)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        count /= 1024
        if abs(count) < 1023.5 or unit == "PB":
            break
    return Shown(f"{count:.0f} {unit}" if abs(count) >= 100 else f"{count:.1f} {unit}", exact)


def duration(seconds: float) -> Shown:
    """Return a duration in the two units that matter.

    >>> [duration(s).text for s in (0.0042, 0.5, 12.3, 200, 7500, 270000)]
    ['4.2 ms', '500 ms', '12.3 s', '3 min 20 s', '2 h 05 min', '3 d 3 h']
    """
    exact = f"{seconds:,.6g} s"
    if 0 < abs(seconds) < 0.001:
        return Shown(f"{seconds * 1e6:.3g} µs", exact)
    if abs(seconds) < 1:
        return Shown(f"{seconds * 1000:.3g} ms", exact)
    if abs(seconds) < 59.95:
        return Shown(f"{seconds:.1f} s".replace(".0 s", " s"), exact)
    whole = round(seconds)
    if abs(whole) < 3600:
        return Shown(f"{whole // 60} min {whole % 60:02d} s".replace(" 00 s", ""), exact)
    if abs(whole) < 86400:
        return Shown(f"{whole // 3600} h {whole % 3600 // 60:02d} min".replace(" 00 min", ""), exact)
    return Shown(f"{whole // 86400} d {whole % 86400 // 3600} h".replace(" 0 h", ""), exact)


def percent(value: float) -> Shown:
    """Return a percentage; one that is not quite 100 never reads as 100.

    >>> percent(99.996).text, percent(100).text, percent(7.25).text
    ('99.99 %', '100 %', '7.2 %')
    """
    if 99 < value < 100:
        return Shown(f"{int(value * 100) / 100:g} %", f"{value!r} %")
    return Shown(f"{value:.0f} %" if abs(value) >= 100 or value == int(value) else f"{value:.1f} %", f"{value!r} %")


def measured(value: float, unit: str) -> Shown:
    """Return a measurement by its unit; a unit that is not known here stands behind its number.

    >>> [measured(*pair).text for pair in ((0.96, "1"), (2048, "bytes"), (84.2, "ms"), (3, "sessions"), (1, "state"))]
    ['96 %', '2.0 kB', '84.2 ms', '3 sessions', 'degraded']
    """
    by_unit = {
        "1": lambda: Shown(percent(value * 100).text, f"{value!r}"),
        "%": lambda: percent(value),
        "bytes": lambda: size(value),
        "bytes/s": lambda: Shown(f"{size(value).text}/s", f"{size(value).exact} a second"),
        "s": lambda: duration(value),
        "ms": lambda: duration(value / 1000),
        "h": lambda: duration(value * 3600),
        "state": lambda: Shown(_STATES[int(value)] if value in range(len(_STATES)) else number(value), f"{value:g}"),
        "count": lambda: Shown(number(value), f"{value!r}"),
        "epoch s": lambda: _epoch(value),
        "crc32": lambda: Shown(f"{int(value):08x}", f"{value!r}"),
    }
    known = by_unit.get(_SAME_UNIT.get(unit, unit))
    return known() if known else Shown(_counted(value, unit), f"{value!r} {unit}")


def _counted(value: float, unit: str) -> str:
    """Return a number of things: one of them in the singular, very many in millions.

    >>> _counted(1, "indexes"), _counted(1, "xid"), _counted(182_345_678, "xids"), _counted(84.2, "MB/s")
    ('1 index', '1 xid', '182 million xids', '84.2 MB/s')
    """
    if value == 1 and unit.isalpha() and unit.endswith("s"):
        return f"1 {_SINGULAR.get(unit, unit[:-1])}"
    for word, many in (("billion", 1e9), ("million", 1e6)):
        if abs(value) >= 10 * many or (word == "billion" and abs(value) >= many):
            return f"{value / many:.3g} {word} {unit}"
    return f"{number(value)} {unit}"


def _epoch(value: float) -> Shown:
    """Return seconds since 1970 as a moment; what lies outside of the calendar stays a number."""
    try:
        return moment(datetime.fromtimestamp(value, UTC), ZoneInfo("UTC"))
    except (OverflowError, ValueError, OSError):
        return Shown(f"{number(value)} s", f"{value!r} s")


def moment(at: datetime | None, zone: tzinfo) -> Shown:
    """Return a moment in a time zone, to the minute; the exact value is in UTC."""
    if at is None:
        return Shown("unknown")
    return Shown(f"{at.astimezone(zone):%Y-%m-%d %H:%M %Z}", at.astimezone(UTC).isoformat())


def label(name: str) -> str:
    """Return the dotted name of a measurement or a key as words.

    >>> label("connections.used_ratio")
    'connections used ratio'
    """
    return name.replace(".", " ").replace("_", " ").strip()


def plural(count: int, word: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "thing"), plural(1200, "thing")
    ('1 thing', '1,200 things')
    """
    return f"{count:,} {word}{'' if count == 1 else 's'}"
