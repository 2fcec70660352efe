"""Reads access logs once and answers every question that the guides ask of them.

A block of some megabytes is taken apart by arithmetic on all its lines at once; lines of any other than the usual
shape are read one by one by a strict grammar, and those that it refuses are counted and sampled. The sum is checked:
what was read is in the window, outside of it, or not understood. See docs/decisions/0014.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Literal

from upkeep.adapters.log_access_read import Block, read
from upkeep.adapters.log_access_secrets import shown
from upkeep.adapters.log_secrets import visible
from upkeep.core.access_log import AccessOptions, AccessReview
from upkeep.core.log_files import Lines, Sample, Segment, Unread

if TYPE_CHECKING:
    from upkeep.adapters.log_access_batch import Request
    from upkeep.adapters.log_access_look import Look

AccessFormat = Literal["combined", "combined_time", "access_json"]
SAMPLES = 5
THREADS = 2
"""What takes the time, arithmetic and searching in columns, leaves the interpreter to other threads meanwhile."""
_UNIT = {"s": 1000.0, "ms": 1.0, "us": 0.001}


@dataclass(frozen=True)
class _How:
    """How lines are read. Times are seconds since 1970, `unit` the milliseconds of one unit of the request time."""

    format: AccessFormat
    zone: tzinfo
    start: int
    end: int
    unit: float
    options: AccessOptions


@dataclass
class _Found:
    """What became of the lines of a block."""

    read: int = 0
    outside: int = 0
    size: int = 0
    unparsed: list[Sample] = field(default_factory=list)
    refused: int = 0
    looks: list[Look | None] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def refuse(self, path: str, offset: int, line: bytes) -> None:
        """Count a line that nobody understands."""
        self.refused += 1
        if len(self.unparsed) < SAMPLES:
            self.unparsed.append(Sample(path=visible(path), offset=offset, text=shown(line)))

    def take(self, request: Request | None, line: bytes, path: str, offset: int, how: _How) -> None:
        """Count a line that was read by itself."""
        if request is None:
            self.refuse(path, offset, line)
        elif how.start <= request.at < how.end:
            self.requests.append(request)
        else:
            self.outside += 1


def _find(block: Block, path: str, how: _How) -> _Found:
    """Read the lines of a block."""
    from upkeep.adapters.log_access_batch import gathered
    from upkeep.adapters.log_access_look import look

    found = _Found(size=len(block.data))
    if not block.whole:
        found.read = 1
        found.refuse(path, block.offset, block.data)
    elif how.format == "access_json":
        _one_by_one(block, path, how, found)
    else:
        _at_once(block, path, how, found)
    if found.requests:
        found.looks.append(look(gathered(found.requests), how.options))
    return found


def _at_once(block: Block, path: str, how: _How, found: _Found) -> None:
    from upkeep.adapters.log_access_combined import Text, parse
    from upkeep.adapters.log_access_line import combined
    from upkeep.adapters.log_access_look import look
    from upkeep.adapters.log_access_words import FRONT

    text = Text.of(block.data)
    timed = how.format == "combined_time"
    batch, found.outside, left = parse(text, how.start, how.end, timed=timed, unit=how.unit)
    found.read = len(text.start)
    found.looks.append(look(batch, how.options))
    for number in left.tolist():
        line, place = text.line(number), block.offset + int(text.start[number]) - FRONT
        found.take(combined(line, timed=timed, unit=how.unit), line, path, place, how)


def _one_by_one(block: Block, path: str, how: _How, found: _Found) -> None:
    from upkeep.adapters.log_access_line import json_line

    place = block.offset
    for line in block.data.split(b"\n")[:-1]:
        found.read += 1
        found.take(json_line(line, unit=how.unit, zone=how.zone), line, path, place, how)
        place += len(line) + 1


def _ordered(
    segments: Sequence[Segment], how: _How, unread: list[Unread]
) -> Iterator[_Found]:  # fmt: skip
    """Yield what is found in each block, in order, while the next ones are being read by other threads."""
    waiting: deque[Future[_Found]] = deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="access-log") as threads:
        for segment in segments:
            for block in read(segment, how.options, unread):
                waiting.append(threads.submit(_find, block, segment.path, how))
                if len(waiting) > THREADS:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def review_access(
    segments: Sequence[Segment],
    *,
    format: AccessFormat,
    zone: tzinfo,
    start: datetime,
    end: datetime,
    options: AccessOptions | None = None,
) -> AccessReview:
    """Return what the lines of `segments` whose time lies in [start, end) say.

    :param zone: of times without an offset, which only JSON has.
    """
    from upkeep.adapters.log_access_result import review
    from upkeep.adapters.log_access_tally import Tally

    options = options or AccessOptions()
    # Logged times are whole seconds, those at which they began: a window's edges are rounded up alike.
    how = _How(format, zone, _ceiling(start), _ceiling(end), _UNIT[options.time_unit], options)
    tally, unread, samples = Tally(options), list[Unread](), list[Sample]()
    read_, outside, refused, size = 0, 0, 0, 0
    for found in _ordered(segments, how, unread):
        for seen in found.looks:
            tally.add(seen)
        read_, outside, refused = read_ + found.read, outside + found.outside, refused + found.refused
        size += found.size
        samples += found.unparsed[: SAMPLES - len(samples)]
    if read_ != tally.requests + outside + refused:
        raise AssertionError(f"of {read_} lines read {tally.requests + outside + refused} are accounted for")
    lines = Lines(
        read=read_, in_window=tally.requests, outside=outside, unparsed=refused, bytes=size, samples=tuple(samples),
        unread=tuple(unread),
    )  # fmt: skip
    return review(tally, lines)


def _ceiling(at: datetime) -> int:
    whole = int(at.timestamp())
    return whole + (at.timestamp() > whole)
