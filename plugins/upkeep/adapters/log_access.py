"""Reads access logs once and answers every question that the guides ask of them.

A block of some megabytes is taken apart by arithmetic on all its lines at once; lines of any other than the usual
shape are read one by one by a strict grammar, and those that it refuses are counted and sampled. The sum is checked:
what was read is in the window, outside of it, or not understood. See docs/decisions/0014.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

from upkeep.adapters.log_access_read import Block, read
from upkeep.adapters.log_access_secrets import shown
from upkeep.core.access_log import AccessOptions, AccessReview
from upkeep.core.log_files import Lines, Sample, Segment, Unread

if TYPE_CHECKING:
    from upkeep.adapters.log_access_batch import Request
    from upkeep.adapters.log_access_combined import Text
    from upkeep.adapters.log_access_tally import Tally

AccessFormat = Literal["combined", "combined_time", "access_json"]
SAMPLES = 5
_UNIT = {"s": 1000.0, "ms": 1.0, "us": 0.001}


@dataclass
class _Reading:
    """What has been read so far. Times are seconds since 1970."""

    format: AccessFormat
    zone: ZoneInfo
    start: int
    end: int
    unit: float
    tally: Tally
    read: int = 0
    outside: int = 0
    unparsed: int = 0
    size: int = 0
    samples: list[Sample] = field(default_factory=list)

    def add(self, block: Block, path: str) -> None:
        """Read the lines of a block."""
        self.size += len(block.data)
        if not block.whole:
            self.read += 1
            self._refuse(path, block.offset, block.data)
        elif self.format == "access_json":
            self._one_by_one(block, path)
        else:
            self._at_once(block, path)

    def _at_once(self, block: Block, path: str) -> None:
        from upkeep.adapters.log_access_combined import Text, parse

        text = Text.of(block.data)
        batch, outside, left = parse(text, self.start, self.end, timed=self.format == "combined_time", unit=self.unit)
        self.read += len(text.start)
        self.outside += outside
        self.tally.add(batch)
        self._left_over(text, left, block, path)

    def _left_over(self, text: Text, left: Any, block: Block, path: str) -> None:
        from upkeep.adapters.log_access_line import combined
        from upkeep.adapters.log_access_words import FRONT

        timed = self.format == "combined_time"
        requests: list[Request] = []
        for number in left.tolist():
            line = text.line(number)
            place = block.offset + int(text.start[number]) - FRONT
            self._take(combined(line, timed=timed, unit=self.unit), line, place, path, requests)
        self._gather(requests)

    def _one_by_one(self, block: Block, path: str) -> None:
        from upkeep.adapters.log_access_line import json_line

        requests: list[Request] = []
        place = block.offset
        for line in block.data.split(b"\n")[:-1]:
            self.read += 1
            self._take(json_line(line, unit=self.unit, zone=self.zone), line, place, path, requests)
            place += len(line) + 1
        self._gather(requests)

    def _take(self, request: Request | None, line: bytes, place: int, path: str, requests: list[Request]) -> None:
        if request is None:
            self._refuse(path, place, line)
        elif self.start <= request.at < self.end:
            requests.append(request)
        else:
            self.outside += 1

    def _gather(self, requests: list[Request]) -> None:
        from upkeep.adapters.log_access_batch import gathered

        if requests:
            self.tally.add(gathered(requests))

    def _refuse(self, path: str, offset: int, line: bytes) -> None:
        self.unparsed += 1
        if len(self.samples) < SAMPLES:
            self.samples.append(Sample(path=path, offset=offset, text=shown(line)))


def review_access(
    segments: Sequence[Segment],
    *,
    format: AccessFormat,
    zone: ZoneInfo,
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
    tally = Tally(options)
    # Logged times are whole seconds, those at which they began: a window's edges are rounded up alike.
    reading = _Reading(format, zone, _ceiling(start), _ceiling(end), _UNIT[options.time_unit], tally)
    unread: list[Unread] = []
    for segment in segments:
        for block in read(segment, options, unread):
            reading.add(block, segment.path)
    lines = Lines(
        read=reading.read, in_window=tally.requests, outside=reading.outside, unparsed=reading.unparsed,
        bytes=reading.size, samples=tuple(reading.samples), unread=tuple(unread),
    )  # fmt: skip
    if lines.read != lines.in_window + lines.outside + lines.unparsed:
        raise AssertionError(f"of {lines.read} lines read {lines.in_window + lines.outside + lines.unparsed} are told")
    return review(tally, lines)


def _ceiling(at: datetime) -> int:
    whole = int(at.timestamp())
    return whole + (at.timestamp() > whole)
