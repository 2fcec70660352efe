"""Reads access logs once and answers every question that the guides ask of them.

A block of some megabytes is taken apart by arithmetic on all its lines at once; lines of any other than the usual
shape are read one by one by a strict grammar, and those that it refuses are counted and sampled. The sum is checked:
what was read is in the window, outside of it, or not understood. See docs/decisions/0014.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Literal

from upkeep.adapters.log_access_read import Block, read
from upkeep.adapters.log_access_secrets import shown
from upkeep.adapters.log_access_track import NEVER, SAMPLES, Order, Part, Stream, Track
from upkeep.core.access_log import AccessOptions, AccessReview
from upkeep.core.log_files import Lines, Sample, Segment, Unread

if TYPE_CHECKING:
    from upkeep.adapters.log_access_batch import Request
    from upkeep.adapters.log_access_look import Look
    from upkeep.adapters.log_access_words import Array

AccessFormat = Literal["combined", "combined_time", "access_json"]
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
    """What became of the lines of a block: `early` shows those of its head that nobody understands, `samples` those of
    the window, `done` is the offset of the line that `order.done` names.
    """

    block: Block
    order: Order
    early: list[Sample]
    samples: list[Sample]
    done: int | None
    looks: list[Look | None]


@dataclass
class _Lines:
    """The lines of a block as they were taken apart: the time and the place of each, NEVER for those not understood."""

    when: Array
    start: Array
    line: Callable[[int], bytes]
    looks: list[Look | None] = field(default_factory=list)


def _find(block: Block, name: str, how: _How) -> _Found:
    """Read the lines of a block of a log."""
    from upkeep.adapters.log_access_order import order_of

    if not block.whole:
        lines = _overlong(block)
    elif how.format == "access_json":
        lines = _one_by_one(block, how)
    else:
        lines = _at_once(block, how)
    order = order_of(lines.when, how.start, how.end)

    def place(number: int) -> int:
        return block.offset + (int(lines.start[number]) if number < len(lines.start) else len(block.data))

    def sample(number: int) -> Sample:
        return Sample(path=name, offset=place(number), text=shown(lines.line(number)))

    return _Found(
        block,
        order,
        early=[sample(n) for n in range(min(order.head, SAMPLES))],
        samples=[sample(n) for n in order.samples],
        done=None if order.done is None else place(order.done),
        looks=lines.looks,
    )


def _overlong(block: Block) -> _Lines:
    import numpy as np

    return _Lines(np.array([NEVER]), np.array([0]), lambda _: block.data)


def _at_once(block: Block, how: _How) -> _Lines:
    import numpy as np

    from upkeep.adapters.log_access_combined import Text, parse
    from upkeep.adapters.log_access_line import combined
    from upkeep.adapters.log_access_look import look
    from upkeep.adapters.log_access_words import FRONT

    text = Text.of(block.data)
    timed = how.format == "combined_time"
    batch, when = parse(text, how.start, how.end, timed=timed, unit=how.unit)
    lines = _Lines(when, text.start - FRONT, text.line, [look(batch, how.options)])
    _singly(lines, np.flatnonzero(when == NEVER), lambda line: combined(line, timed=timed, unit=how.unit), how)
    return lines


def _one_by_one(block: Block, how: _How) -> _Lines:
    import numpy as np

    from upkeep.adapters.log_access_line import json_line

    texts = block.data.split(b"\n")[:-1]
    start = np.cumsum([0, *(len(text) + 1 for text in texts[:-1])])
    lines = _Lines(np.full(len(texts), NEVER), start, lambda number: texts[number])
    _singly(lines, np.arange(len(texts)), lambda line: json_line(line, unit=how.unit, zone=how.zone), how)
    return lines


def _singly(lines: _Lines, numbers: Array, read_: Callable[[bytes], Request | None], how: _How) -> None:
    """Read some lines each by itself."""
    from upkeep.adapters.log_access_batch import gathered
    from upkeep.adapters.log_access_look import look

    requests = []
    for number in numbers.tolist():
        if (request := read_(lines.line(number))) is not None:
            lines.when[number] = request.at
            if how.start <= request.at < how.end:
                requests.append(request)
    if requests:
        lines.looks.append(look(gathered(requests), how.options))


def _ordered(tracks: Sequence[Track], how: _How, unread: list[Unread]) -> Iterator[tuple[Track, _Found]]:
    """Yield what is found in each block, in order, while the next ones are being read by other threads."""
    waiting: deque[tuple[Track, Future[_Found]]] = deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="access-log") as threads:
        for track in tracks:
            before = len(unread)
            for block in read(track.part.segment, how.options, unread):
                waiting.append((track, threads.submit(_find, block, track.part.name, how)))
                if len(waiting) > THREADS:
                    done, future = waiting.popleft()
                    yield done, future.result()
            track.whole = len(unread) == before
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()


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
    parts = [Part(segment) for segment in segments]
    return review_parts(parts, format=format, zone=zone, start=start, end=end, options=options)[0]


def review_parts(
    parts: Sequence[Part],
    *,
    format: AccessFormat,
    zone: tzinfo,
    start: datetime,
    end: datetime,
    options: AccessOptions | None = None,
    newest: bool = True,
) -> tuple[AccessReview, tuple[Track, ...]]:
    """Return what the lines of parts of logs say and how far each part was read.

    Parts of one log stand in the order in which they were written.

    :param newest: lines of a log without any time belong to this window.
    """
    from upkeep.adapters.log_access_result import review
    from upkeep.adapters.log_access_tally import Tally

    options = options or AccessOptions()
    # Logged times are whole seconds, those at which they began: a window's edges are rounded up alike.
    how = _How(format, zone, _ceiling(start), _ceiling(end), _UNIT[options.time_unit], options)
    tally, unread, read_, size = Tally(options), list[Unread](), 0, 0
    tracks = [Track(part) for part in parts]
    streams = {part.log: Stream(part.name, how.start, how.end) for part in parts}
    timed, ahead, at = 0, deque(tracks), None
    for track, found in _ordered(tracks, how, unread):
        stream = streams[track.part.log]
        if track is not at:
            at = _begin(ahead, streams, track)
        for seen in found.looks:
            tally.add(seen)
        stream.take(found.order, found.early, found.samples)
        track.take(found.block, found.order, found.done)
        read_, timed, size = read_ + found.order.lines, timed + found.order.timed, size + len(found.block.data)
    _begin(ahead, streams, None)
    clocks = {part.log: part.segment.clock for part in parts}
    unread += [gap for log, stream in streams.items() if (gap := stream.close(clocks[log], newest))]
    refused = sum(stream.inside for stream in streams.values())
    outside = timed - tally.requests + sum(stream.outside for stream in streams.values())
    if read_ != tally.requests + outside + refused:
        raise AssertionError(f"of {read_} lines read {tally.requests + outside + refused} are accounted for")
    samples = [sample for stream in streams.values() for sample in stream.samples]
    lines = Lines(
        read=read_, in_window=tally.requests, outside=outside, unparsed=refused, bytes=size,
        samples=tuple(samples[:SAMPLES]), unread=tuple(unread),
    )  # fmt: skip
    return review(tally, lines), tuple(tracks)


def _begin(ahead: deque[Track], streams: dict[str, Stream], track: Track | None) -> Track | None:
    """Let the logs go on with the next files up to one (all: None), those without a line included."""
    while ahead:
        one = ahead.popleft()
        streams[one.part.log].begin(one.part)
        if one is track:
            break
    return track


def _ceiling(at: datetime) -> int:
    whole = int(at.timestamp())
    return whole + (at.timestamp() > whole)
