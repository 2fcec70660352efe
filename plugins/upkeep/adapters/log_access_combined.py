"""Takes apart lines in the combined format, many at once.

The format (https://httpd.apache.org/docs/2.4/logs.html#combined) has six quotes and fixed places around them. Lines
that have exactly that shape are read here; every other one is handed back for `log_access_line`, which reads the same
grammar strictly, one line at a time: neither can swallow or drop a line, as lines are told apart by newlines alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np  # noqa: TID253 - imported by log_access inside its function only

from upkeep.adapters.log_access_batch import METHODS, Batch, encoded
from upkeep.adapters.log_access_track import NEVER
from upkeep.adapters.log_access_words import (
    BACK,
    FRONT,
    Array,
    digits,
    first,
    number,
    right_number,
    strings,
    u,
    view,
    word,
)

_CLIENT = r"^[0-9A-Za-z.:_%-]+$"
_MONTHS = {int(word(m)): n for n, m in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_LONGEST_CLIENT = 47  # six words


@dataclass(frozen=True)
class Text:
    """A block of lines: its bytes with room around them, its words, and where lines begin and end in it."""

    buffer: Array
    words: Array
    start: Array
    end: Array

    @classmethod
    def of(cls, data: bytes) -> Text:
        """Find the lines of `data`, which ends with a newline; a carriage return before that is no part of the line."""
        buffer = np.frombuffer(b"\n" * FRONT + data + b"\0" * BACK, dtype=np.uint8)
        newline = np.flatnonzero(buffer[FRONT:] == 10) + FRONT
        start = np.empty_like(newline)
        start[0], start[1:] = FRONT, newline[:-1] + 1
        end = newline - ((buffer[newline - 1] == 13) & (newline > start))
        return cls(buffer, view(buffer), start, end)

    def line(self, number: int) -> bytes:
        """Return one line."""
        return bytes(self.buffer[self.start[number] : self.end[number]])


@dataclass
class _Rows:
    """Lines that still look as they should: their numbers, quotes and what was read of them."""

    line: Array
    quotes: Array
    values: dict[str, Array]

    def keep(self, fine: Array) -> None:
        """Leave out the lines that are not `fine`."""
        if not fine.all():
            self.line, self.quotes = self.line[fine], self.quotes[fine]
            self.values = {name: column[fine] for name, column in self.values.items()}

    def quote(self, which: int) -> Array:
        """Return the places of one of the six quotes."""
        column: Array = self.quotes[:, which]
        return column


def parse(text: Text, start: int, end: int, *, timed: bool, unit: float) -> tuple[Batch, Array]:
    """Return the lines in [start, end) (seconds since 1970), and the time of each line: NEVER, where it is left over.

    :param unit: what a request time is multiplied with to give milliseconds.
    """
    rows = _shaped(text)
    _status(text, rows)
    _size(text, rows)
    _client(text, rows)
    _time(text, rows)
    _duration(text, rows, timed=timed, unit=unit)
    codes, clients = _clients(text, rows)
    at = rows.values["at"]
    inside = (at >= start) & (at < end)
    when = np.full(len(text.start), NEVER)
    when[rows.line] = at
    codes = codes[inside]
    rows.keep(inside)
    return _batch(text, rows, codes, clients), when


def _shaped(text: Text) -> _Rows:
    """Find the lines with six quotes, of which the fourth and the fifth are a blank apart, and so on."""
    quote = np.flatnonzero(text.buffer == 34)
    after = np.searchsorted(quote, text.end)
    before = np.concatenate((np.zeros(1, after.dtype), after[:-1]))
    line = np.flatnonzero(after - before == 6)
    quotes = quote[before[line][:, None] + np.arange(6)] if len(line) else np.empty((0, 6), np.int64)
    rows = _Rows(line, quotes, {})
    q = rows.quote
    rows.keep(
        (q(4) == q(3) + 2)
        & (q(2) >= q(1) + 8)
        & (q(0) >= text.start[line] + 31)
        & (text.buffer[q(3) + 1] == 32)
        & (text.buffer[q(2) - 1] == 32)
        # Behind a backslash it may be a quote within the text.
        & (text.buffer[q(1) - 1] != 92)
        & (text.buffer[q(3) - 1] != 92)
        & (text.buffer[q(5) - 1] != 92)
    )
    return rows


def _status(text: Text, rows: _Rows) -> None:
    after = text.words[rows.quote(1) + 1]  # blank, three digits, blank, beginning of the size
    value, fine = right_number(after << u(32), np.full(len(after), 3))
    rows.values["status"] = value
    rows.keep(fine & ((after & u(0xFF000000FF)) == word(b" \0\0\0 ")) & (value >= 100))


def _size(text: Text, rows: _Rows) -> None:
    end = rows.quote(2) - 1
    length = end - (rows.quote(1) + 6)
    value, fine = right_number(text.words[end - 8], np.clip(length, 1, 8))
    none = (length == 1) & (text.buffer[end - 1] == 45)
    rows.values["size"] = np.where(none, 0, value)
    rows.keep(((length >= 1) & (length <= 8) & fine) | none)


def _client(text: Text, rows: _Rows) -> None:
    """Find the end of the client, behind which stand ` - `, the user (blanks may be in it) and the time."""
    start = text.start[rows.line]
    length = first(text.words[start], 32)
    for step in range(8, _LONGEST_CLIENT + 1, 8):
        far = np.flatnonzero(length == step)
        if not len(far):
            break
        # Behind the last line of a block there may be less than that.
        place = np.minimum(start[far] + step, len(text.words) - 1)
        length[far] += first(text.words[place], 32)
    end = start + length
    user = rows.quote(0) - 30 - (end + 3)
    rows.values["client"] = end
    rows.keep(
        (length > 0)
        & (length <= _LONGEST_CLIENT)
        & ((text.words[end] & u(0xFFFFFF)) == word(b" - "))
        & (user >= 1)
        & (user <= 256)
    )


def _time(text: Text, rows: _Rows) -> None:
    """Read `[10/Oct/2026:13:55:36 +0000] "`, which lines that follow each other often share."""
    place = rows.quote(0) - 28
    parts = [text.words[place + at] for at in (0, 8, 16, 21)]
    fine = ((text.words[place - 2] & u(0xFFFF)) == word(b" [")) & ((parts[3] >> u(40)) == word(b'] "'))
    new = np.ones(len(place), bool)
    if len(place):
        new[1:] = np.logical_or.reduce([part[1:] != part[:-1] for part in parts])
    heads = np.flatnonzero(new)
    at, good = _moments(*(part[heads] for part in parts))
    group = np.cumsum(new) - 1
    rows.values["at"] = at[group] if len(heads) else np.empty(0, np.int64)
    rows.keep(fine & good[group] if len(heads) else fine)


def _moments(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, Array]:
    """Return seconds since 1970 of `10/Oct/2`, `026:13:5`, `5:36 +00`, `+0000] "`, and which of them are times."""

    def byte(of: Array, at: int) -> Array:
        return (of >> u(8 * at)) & u(0xFF)

    eight = np.stack([byte(a, 0), byte(a, 1), byte(a, 7), *(byte(b, k) for k in (0, 1, 2, 4, 5))], axis=1)
    seven = np.stack([byte(b, 7), byte(c, 0), byte(c, 2), byte(c, 3), *(byte(d, k) for k in (1, 2, 3, 4))], axis=1)
    left, right = (np.ascontiguousarray(part.astype(np.uint8)).view("<u8").reshape(-1) for part in (eight, seven))
    marks = (
        (byte(a, 2) == 47) & (byte(a, 6) == 47) & (byte(b, 3) == 58) & (byte(b, 6) == 58) & (byte(c, 1) == 58)
        & (byte(c, 4) == 32) & ((byte(d, 0) == 43) | (byte(d, 0) == 45))
    )  # fmt: skip
    month, known = _month((a >> u(24)) & u(0xFFFFFF))
    x, y = number(left), number(right)  # ddyyyyHH, MMSSzzzz
    day, year, hour = x // 1_000_000, x // 100 % 10_000, x % 100
    minute, second, zone_hour, zone_minute = y // 1_000_000, y // 10_000 % 100, y // 100 % 100, y % 100
    fine = (
        marks & known & digits(left) & digits(right) & (hour < 24) & (minute < 60) & (second < 61)
        & (day >= 1) & (day <= _days(year, month)) & (zone_hour < 24) & (zone_minute < 60) & (year >= 1970)
    )  # fmt: skip
    offset = np.where(byte(d, 0) == 45, -1, 1) * (zone_hour * 3600 + zone_minute * 60)
    # A leap second is written as :60 and is told as the second before, as clocks repeat it.
    return _epoch_days(year, month, day) * 86400 + hour * 3600 + minute * 60 + np.minimum(second, 59) - offset, fine


def _month(words: Array) -> tuple[Array, Array]:
    """Return the number of the month for words of three letters, and which are months."""
    names = np.array(list(_MONTHS), np.uint64)
    order = np.argsort(names)
    place = np.searchsorted(names[order], words).clip(0, 11)
    numbers = np.array(list(_MONTHS.values()), np.int64)[order]
    return numbers[place], names[order][place] == words


def _days(year: Array, month: Array) -> Array:
    """Return how many days a month has."""
    table = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
    leap: Array = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0)) & (month == 2)
    days: Array = table[month] + leap
    return days


def _epoch_days(year: Array, month: Array, day: Array) -> Array:
    """Return days since 1970-01-01 in the Gregorian calendar (H. Hinnant, days_from_civil)."""
    y = year - (month <= 2)
    era = y // 400
    of_era = y - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days: Array = era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
    return days


def _duration(text: Text, rows: _Rows, *, timed: bool, unit: float) -> None:
    """Read the request time behind the last quote; -1: there is none."""
    after, end = rows.quote(5) + 1, text.end[rows.line]
    bare = after == end
    rows.values["took"] = np.full(len(after), -1, np.int64)
    if not timed:
        # Whatever a site logs behind the agent is no part of the format, and does no harm.
        rows.keep(bare | (text.buffer[after] == 32))
        return
    length = end - (after + 1)
    last = text.words[end - 8]
    # `0.123` as nginx writes it: seconds, a point, three digits. The point is closed up.
    joined = ((last & u(0xFFFFFFFF)) << u(8)) | (last & u(0xFFFFFF0000000000))
    value, fine = right_number(joined, np.clip(length - 1, 1, 7))
    usual = fine & (length >= 5) & (length <= 8) & ((last >> u(32)) & u(0xFF) == 46)
    dash = (length == 1) & (text.buffer[end - 1] == 45)
    scale = unit / 1000
    taken = value if scale == 1 else np.rint(value * scale).astype(np.int64)
    rows.values["took"] = np.where(usual, taken, -1)
    rows.keep(bare | ((text.buffer[after] == 32) & (usual | dash)))


def _clients(text: Text, rows: _Rows) -> tuple[Array, Any]:
    """Return a code for each line and the clients they stand for; lines of what cannot be a client are left out."""
    import pyarrow.compute as pc

    codes, values = encoded(strings(text.buffer, text.words, text.start[rows.line], rows.values["client"]))
    fine = pc.match_substring_regex(values, _CLIENT).to_numpy(zero_copy_only=False)
    if not fine.all():
        good = fine[codes]
        codes = codes[good]
        rows.keep(good)
    return codes, values


def _batch(text: Text, rows: _Rows, codes: Array, clients: Any) -> Batch:
    q = rows.quote
    begin, end = q(0) + 1, q(1)
    head = text.words[begin]
    method = np.zeros(len(begin), np.int64)
    target = begin.copy()
    for code, name in enumerate(METHODS[1:], 1):
        sign = name.encode() + b" "
        these = np.flatnonzero((head & u((1 << 8 * len(sign)) - 1)) == word(sign))
        method[these] = code
        target[these] += len(sign)
    tail = text.words[end - 8]
    protocol = ((tail & u(0xFFFFFFFFFF)) == word(b"HTTP/")) & (text.buffer[end - 9] == 32) & (end - 9 >= target)
    target_end = np.maximum(np.where(protocol, end - 9, end), target)
    query = np.flatnonzero(text.buffer == 63)
    mark = np.append(query, len(text.buffer))[np.searchsorted(query, target)]
    path_end = np.minimum(mark, target_end)

    def cut(start: Array, stop: Array) -> Any:
        return strings(text.buffer, text.words, start, stop)

    return Batch(
        at=rows.values["at"],
        status=rows.values["status"],
        method=method,
        size=rows.values["size"],
        took=rows.values["took"],
        client=codes,
        clients=clients,
        target=cut(target, target_end),
        path=cut(target, path_end),
        referer=cut(q(2) + 1, q(3)),
        agent=cut(q(4) + 1, q(5)),
    )
