"""To which window the lines belong that nobody understands, and how far each file was read."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from upkeep.adapters.log_access_read import Block
from upkeep.adapters.log_files import family
from upkeep.adapters.log_secrets import visible
from upkeep.core.log_files import Sample, Segment, Unread

NEVER = -(1 << 62)
"""The time of a line that has none."""
SAMPLES = 5
_HINT = "see what writes such lines, or correct `format` of the log set"
STRAY = 20
"""Lines in a row that nobody understands, with no request of the window near them, from which on it is unknown."""


@dataclass(frozen=True)
class Part:
    """A segment of a log. `above` and `newest_above` are the times of the line above it and of the newest one there,
    for a segment that begins in the middle of a file; `above` alone says of when the end of the file before it is.
    """

    segment: Segment
    above: int | None = None
    newest_above: int | None = None

    @property
    def name(self) -> str:
        """Name of the log, the same after rotation."""
        return visible(family(self.segment.path))

    @property
    def log(self) -> str:
        """What the parts of one log have in common."""
        return f"{Path(self.segment.path).parent}/{self.name}"


@dataclass(frozen=True)
class Order:
    """What the lines of a block say of time: seconds since 1970.

    Lines without a time stand before the first one that has one (`head`), or are counted by the window of the line
    above: `inside`, `outside`; `gap` are those between a line before the window (the first such is of `gap_after`)
    and one after it, `tail` those after the last line with a time. `samples` are numbers of lines.

    `late`: there are lines from the window's end on. Of the lines before the first of them that have a time, `done` is
    the number of the line below the last one, `above` the time of that one, `before` the newest; None: there is none.
    """

    lines: int
    timed: int = 0
    requests: int = 0
    head: int = 0
    tail: int = 0
    inside: int = 0
    outside: int = 0
    gap: int = 0
    gap_after: int | None = None
    first: int | None = None
    last: int | None = None
    earliest: int | None = None
    latest: int | None = None
    late: bool = False
    done: int | None = None
    above: int | None = None
    before: int | None = None
    samples: tuple[int, ...] = ()


@dataclass
class Track:
    """How far a file was read: every line before `place` is of a moment up to `before`, the last of them of `above`.

    It is below the last line with a time before the first one of the window's end or later (`late`): what nobody
    understands there is looked at again. The others are of all lines that were read. `tail`: the last ones have no
    time. `whole`: nothing of it was left unread.
    """

    part: Part
    whole: bool = True
    earliest: int | None = None
    latest: int | None = None
    last: int | None = None
    place: int = 0
    above: int | None = None
    before: int | None = None
    late: bool = False
    tail: bool = False

    def __post_init__(self) -> None:
        self.place = self.part.segment.start
        if self.part.newest_above is not None:
            self.above = self.last = self.part.above
            self.before = self.latest = self.part.newest_above

    def take(self, block: Block, order: Order, done: int | None) -> None:
        """Go on by a block; `done` is the offset of the line that `order.done` names."""
        self.earliest, self.latest = _least(self.earliest, order.earliest), _most(self.latest, order.latest)
        self.last = self.last if order.last is None else order.last
        self.tail = order.tail > 0 or order.last is None
        # A line that is being written is read again.
        if done is not None and block.ended and not self.late:
            self.place, self.above, self.before = done, order.above, _most(self.before, order.before)
        self.late |= order.late


def _least(a: int | None, b: int | None) -> int | None:
    return min((x for x in (a, b) if x is not None), default=None)


def _most(a: int | None, b: int | None) -> int | None:
    return max((x for x in (a, b) if x is not None), default=None)


@dataclass
class Stream:
    """The files of one log, one after the other: a line that nobody understands belongs where the line above does.

    Those at the very beginning belong to the first line that has a time. In that way a line belongs to the same window
    whenever and in whatever file it is read.
    """

    name: str
    start: int
    end: int
    last: int | None = None
    requests: int = 0
    inside: int = 0
    outside: int = 0
    waiting: int = 0
    early: list[Sample] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    pending: int = 0
    stray: int = 0
    after: int | None = None
    """The time of the line that strays came after."""

    def begin(self, part: Part) -> None:
        """Go on with another file."""
        if part.above is not None:
            self.last, self.pending = part.above, 0

    def take(self, order: Order, early: list[Sample], samples: list[Sample]) -> None:
        """Count the lines of a block; `early` shows those of its head, `samples` those inside."""
        self.requests += order.requests
        self.inside, self.outside = self.inside + order.inside, self.outside + order.outside
        self.waiting += order.head
        self.early += early[: SAMPLES - len(self.early)]
        owner = order.first if self.last is None else self.last
        if owner is not None:
            self._settle(self.start <= owner < self.end)
        self.samples += samples[: max(SAMPLES - len(self.samples), 0)]
        self._strays(order)
        self.last = self.last if order.last is None else order.last

    def _settle(self, inside: bool) -> None:
        if inside:
            self.inside += self.waiting
            self.samples += self.early[: max(SAMPLES - len(self.samples), 0)]
        else:
            self.outside += self.waiting
        self.waiting, self.early = 0, []

    def _strays(self, order: Order) -> None:
        self.pending += order.head
        if order.first is None:
            return
        if self.last is not None and self.last < self.start and order.first >= self.end:
            self.stray += self.pending
            self.after = self.last if self.after is None else self.after
        self.stray += order.gap
        self.after = order.gap_after if self.after is None else self.after
        self.pending = order.tail

    def close(self, clock: datetime | None, newest: bool) -> Unread | None:
        """End it; say why it is not known what the window's lines say.

        :param clock: when it was last written to. Lines of a log without any time belong to the newest window.
        """
        if self.last is not None and self.last < self.start:
            self.stray += self.pending
            self.after = self.last if self.after is None else self.after
        written = clock is None or clock.timestamp() >= self.start
        reason = "none of its lines has the declared format, and so none tells its window"
        unknown = Unread(path=self.name, reason=reason, hint=_HINT) if self.waiting and written and not newest else None
        self._settle(written and newest)
        return unknown or self._unread()

    def _unread(self) -> Unread | None:
        if self.requests or self.stray <= STRAY or self.after is None:
            return None
        return Unread(
            path=self.name,
            reason=f"no line of the window has the declared format, and more than {STRAY} lines that do not have it"
            f" follow that of {datetime.fromtimestamp(self.after, UTC):%Y-%m-%d %H:%M:%S} UTC",
            hint=_HINT,
        )
