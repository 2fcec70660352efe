"""Reads one file for one window: entries with their moments, and how far the file is older than the window's end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from upkeep.adapters.log_app import Entry, Parser
from upkeep.adapters.log_app_tally import Tally
from upkeep.adapters.log_lines import Block, LogText

_BEGIN = b"-----BEGIN "
_HOLD = 8 << 20
"""Bytes that are held back at most because an entry may go on in the next block."""


@dataclass
class Scan:
    """One pass through (a part of) a file for the moments [start, end), in seconds since 1970.

    `last` is the moment of the line above, `latest` that of the newest line above, `earliest` of the oldest.
    `all_inside`: the file has no times; what is read of it lies in the window.

    When it is done, `offset` is where the first entry stands that is not older than `end`, or the end of the text;
    `latest_before` and `last_before` are of the lines before it.
    """

    text: LogText
    parser: Parser
    tally: Tally
    start: int
    end: int
    last: int | None = None
    latest: int | None = None
    earliest: int | None = None
    all_inside: bool = False
    offset: int | None = None
    latest_before: int | None = None
    last_before: int | None = None

    def run(self, begin: int, finish: int | None) -> int:
        """Read from one offset of the text to another; return where it ended.

        :raises MovedError, SpoiltError: as `LogText.blocks`.
        """
        self.latest_before, self.last_before = self.latest, self.last
        held, places, at, torn = b"", [(0, begin)], begin, begin
        for block in self.text.blocks(begin, finish):
            at = block.offset + block.size
            torn = torn if block.data.endswith(b"\n") else block.offset
            places.append((len(held), block.offset))
            held += block.data
            self._count(block)
            entries, used = self.parser.parse(held, self.last, False)
            if not used and len(held) > _HOLD:
                entries, used = self.parser.parse(held, self.last, True)
            self._take(held, entries, places)
            held, places = held[used:], _moved(places, used)
        entries, _ = self.parser.parse(held, self.last, True)
        whole = held.endswith(b"\n") or not held
        self._take(held, entries, places)
        if self.offset is None:
            # A line that is being written, and its entry, are read again.
            unfinished = None if whole else next((e.start for e in reversed(entries) if e.level is not None), 0)
            self._end_here(at if unfinished is None else _place(places, unfinished), whole)
        return at

    def _end_here(self, offset: int, whole: bool) -> None:
        self.offset = offset
        if whole:
            self.latest_before, self.last_before = self.latest, self.last

    def _count(self, block: Block) -> None:
        self.tally.bytes += block.size

    def _take(self, data: bytes, entries: list[Entry], places: list[tuple[int, int]]) -> None:
        inside = []
        lines = data.count(b"\n", 0, entries[-1].end) if entries else 0
        single = lines == len(entries)
        for entry in entries:
            time = entry.time
            if time is None:
                time = self.last
            else:
                self.last_before = self.last if self.offset is None else self.last_before
                self._note(time, entry, places)
                self.last = time
            count = 1 if single else max(data.count(b"\n", entry.start, entry.end), 1)
            self.tally.read += count
            if self.all_inside or (time is not None and self.start <= time < self.end):
                inside.append(
                    entry if entry.time is not None else entry._replace(time=None if self.all_inside else time)
                )
                strange = 0 if count == 1 and entry.level is not None else self._strangers(data, inside[-1])
                self.tally.unparsed += strange
                self.tally.inside += count - strange
            else:
                self.tally.outside += count
        self.tally.take(data, inside, self.text.file.family)

    def _note(self, time: int, entry: Entry, places: list[tuple[int, int]]) -> None:
        self.earliest = time if self.earliest is None or time < self.earliest else self.earliest
        if self.latest is None or time > self.latest:
            self.latest = time
        if self.offset is None:
            if time >= self.end:
                self.offset = _place(places, entry.start)
            elif self.latest_before is None or time > self.latest_before:
                self.latest_before = time

    def _strangers(self, data: bytes, entry: Entry) -> int:
        """Count the lines of an entry that nobody understands."""
        count, in_traceback = 0, False
        in_key = _BEGIN in data[entry.start : max(data.find(b"\n", entry.start, entry.end), entry.start)][-1000:]
        for line in _lines(data, entry):
            in_key = (in_key or _BEGIN in line) and not line.startswith(b"-----END")
            if in_key:
                continue  # what is in it is not to be shown
            if line.startswith(b"Traceback (most"):
                in_traceback = True
            if not in_traceback and self.parser.strange(line, entry.level is None):
                count += 1
                self.tally.stranger(line, entry.time, self.text.file.family)
        return count


def _lines(data: bytes, entry: Entry) -> Iterator[bytes]:
    """Yield the lines of an entry that are to be understood by themselves: all but its first."""
    at = entry.start if entry.level is None else data.find(b"\n", entry.start, entry.end) + 1 or entry.end
    while at < entry.end:
        end = data.find(b"\n", at, entry.end)
        end = entry.end if end < 0 else end
        yield data[at:end]
        at = end + 1


def _place(places: list[tuple[int, int]], at: int) -> int:
    """Return the offset in the text of a byte of what is held."""
    start, offset = next(p for p in reversed(places) if p[0] <= at)
    return offset + at - start


def _moved(places: list[tuple[int, int]], used: int) -> list[tuple[int, int]]:
    """Return where the bytes stand that are held on, after `used` bytes are gone."""
    kept = [(start - used, offset) for start, offset in places if start > used]
    return [(0, _place(places, used)), *kept]
