"""Moments as logs write them, in whole seconds since 1970. Fractions are cut off: windows begin at whole seconds."""

from __future__ import annotations

import re
from calendar import timegm
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

_NAMES = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
_UTC = frozenset({b"Z", b"z", b"UTC", b"GMT"})
_BACK = 300
"""Seconds by which lines of several writers may lie in the wrong order; a larger step back is the clock's."""
_LARGEST = 1 << 18
TIME = re.compile(
    rb"(?P<iso>\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d)(?:[.,]\d{1,9})?"
    rb"(?: ?(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)(?!\w))?"
    rb"|(?P<clf>\d\d/[A-Z][a-z]{2}/\d{4}[: ]\d\d:\d\d:\d\d)(?: (?P<offset>[+-]\d{4}))?"
)


class Clock:
    """Turns times as they are written in one file into moments.

    Where the clock was set back, the same local time comes twice. Lines say which is meant by their order: a time that
    would lie well before the line above it is the second one.

    :param zone: of times without an offset.
    :param newest: a moment that times without a year are not after (when the file was written to, and a day).
    """

    def __init__(self, zone: ZoneInfo, newest: float) -> None:
        self._zone, self._newest = zone, newest
        self._known: dict[tuple[bytes, bytes | None], tuple[int, int] | tuple[()] | None] = {}

    def moment(self, text: bytes, zone: bytes | None, before: int | None) -> int | None:
        """Return the moment that a time means, None when it is none (a 13th month).

        :param zone: `Z`, `+02:00`, an abbreviation such as `CET`, or None.
        :param before: the moment of the line above.
        """
        # Within a minute only the seconds differ: no zone's clock changes there.
        minute, second = text[:-2], text[-2:]
        key = (minute, zone)
        found = self._known.get(key, ())
        if found == ():
            if len(self._known) > _LARGEST:
                self._known.clear()
            found = self._known[key] = self._read(minute + b"00", zone)
        if not found:
            return None
        seconds = min(int(second), 59)  # a leap second is the one before it
        first, again = found
        if again != first and before is not None and first + seconds < before - _BACK:
            return again + seconds
        return first + seconds

    def _read(self, text: bytes, zone: bytes | None) -> tuple[int, int] | None:
        try:
            local = _local(text) if text[:1].isdigit() else self._without_year(text)
            return self._resolve(local, zone)
        except (ValueError, KeyError, OverflowError):
            return None

    def _resolve(self, local: datetime, zone: bytes | None) -> tuple[int, int]:
        """Return the moment of a local time, twice; two moments where the clock shows it twice."""
        if zone in _UTC:
            fixed = timegm(local.timetuple())
            return fixed, fixed
        if zone is not None and (offset := _offset(zone)) is not None:
            fixed = int(local.replace(tzinfo=timezone(offset)).timestamp())
            return fixed, fixed
        both = [local.replace(tzinfo=self._zone, fold=fold) for fold in (0, 1)]
        first, second = (int(at.timestamp()) for at in both)
        if second <= first:  # one time, or one that the clock left out
            return first, first
        named = [int(at.timestamp()) for at in both if (at.tzname() or "").encode() == zone]
        return (named[0], named[0]) if len(named) == 1 else (first, second)

    def _without_year(self, text: bytes) -> datetime:
        """Read syslog's `Jan  2 03:04:05`: the year is the last in which that is not after the file's end."""
        month, day, clock = text.lower().split()
        hour, minute, second = (int(part) for part in clock.split(b":"))
        latest = datetime.fromtimestamp(self._newest, UTC) + timedelta(days=2)
        for year in (latest.year, latest.year - 1, latest.year - 2, latest.year - 3, latest.year - 4):
            try:
                found = datetime(year, _MONTHS[month[:3]], int(day), hour, minute, second)  # noqa: DTZ001
            except ValueError:  # 29 February
                continue
            if found <= latest.replace(tzinfo=None):
                return found
        raise ValueError("no year fits")


def _local(text: bytes) -> datetime:
    """Read `2026-01-31 23:59:00` or `31/Jan/2026 23:59:00`."""
    if text[2:3] == b"/":
        day, month, year = int(text[:2]), _MONTHS[text[3:6].lower()], int(text[7:11])
        clock = text[12:20]
    else:
        year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
        clock = text[11:19]
    hour, minute, second = int(clock[:2]), int(clock[3:5]), int(clock[6:8])
    return datetime(year, month, day, hour, minute, second)  # noqa: DTZ001


def _offset(zone: bytes) -> timedelta | None:
    if zone[:1] not in b"+-" or not zone[1:]:
        return None
    digits = zone[1:].replace(b":", b"")
    minutes = int(digits[:2]) * 60 + int(digits[2:4] or b"0")
    return timedelta(minutes=-minutes if zone[:1] == b"-" else minutes)
