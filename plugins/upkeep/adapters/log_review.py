"""Reviews the lines of a window in application and database logs; see `core.log_review`."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from upkeep.adapters.log_app import HeadParser, Parser
from upkeep.adapters.log_app_json import JsonParser
from upkeep.adapters.log_app_scan import Scan
from upkeep.adapters.log_app_tally import Tally
from upkeep.adapters.log_app_time import Clock
from upkeep.adapters.log_bookmarks import HEAD, Bookmarks, FileMark, Position, digest, guard, guarded, usable
from upkeep.adapters.log_files import LogFile, refused
from upkeep.adapters.log_lines import LogText, MovedError, SpoiltError, opened
from upkeep.adapters.log_postgres import parser_for
from upkeep.adapters.log_review_access import review_files
from upkeep.adapters.log_review_files import settled, without_copies
from upkeep.adapters.log_secrets import visible
from upkeep.core.access_log import AccessOptions, AccessReview
from upkeep.core.errors import ConfigurationError, TransientError
from upkeep.core.log_files import Unread
from upkeep.core.log_review import LogReport, ReviewOrder

_TRIES = 5
_PROBE = 64 << 10
_LOG = logging.getLogger(__name__)


class Reader:
    """Reads logs; bookmarks lie in `folder`. See `core.log_review.LogReader`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def review(self, order: ReviewOrder) -> LogReport:
        """Read the lines of a window.

        :raises TransientError: the files kept being rotated while they were read.
        :raises ConfigurationError: an expression of the allow-list is none.
        """
        try:
            ZoneInfo(order.zone)
        except (KeyError, ValueError, OSError):
            raise ConfigurationError(
                f"{order.target}: time_zone {order.zone!r} is none", "give an IANA time zone such as Europe/Berlin"
            ) from None
        return self._steadily(order, lambda: _Review(order, self._folder).run())

    def access(self, order: ReviewOrder, options: AccessOptions) -> tuple[LogReport, AccessReview]:
        """Read the lines of a window of an access log. :raises TransientError: as `review`."""
        return self._steadily(order, lambda: review_files(order, options, self._folder))

    def _steadily[R](self, order: ReviewOrder, work: Callable[[], R]) -> R:
        """Do it again when files were moved meanwhile."""
        reason: Exception | None = None
        for n in range(_TRIES):
            try:
                return work()
            except MovedError as error:
                reason = error
                time.sleep(0.2 * n)
            except re.error as error:
                raise ConfigurationError(
                    f"the allow-list of {order.target}: {error.pattern!r} is no regular expression: {error}",
                    "correct `allow` in the settings of logs.review",
                ) from error
        raise TransientError(
            f"the logs of {order.target} changed {_TRIES} times while they were read: {reason}",
            "a rotation is at work; it is tried again",
        )


@dataclass
class _Review:
    """One attempt to read everything."""

    order: ReviewOrder
    folder: Path
    unread: list[Unread] = field(default_factory=list)
    untimed: list[str] = field(default_factory=list)
    first_look: list[str] = field(default_factory=list)
    marks: list[FileMark] = field(default_factory=list)
    there: dict[tuple[int, int], LogFile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        order = self.order
        self.zone = ZoneInfo(order.zone)
        self.start, self.end = math.ceil(order.start.timestamp()), math.ceil(order.end.timestamp())
        self.tally = Tally(order.limits, database=order.format == "postgres")
        self.book = Bookmarks(self.folder, order.target, f"1 {order.format} {order.zone}")

    def run(self) -> LogReport:
        found = settled(self.order.paths)
        files, copies = without_copies(found.files, self.order.limits.decoded_bytes)
        self.there = {(file.device, file.inode): file for file in files}
        for file in sorted(files, key=lambda f: (f.family, f.mtime_ns, f.path)):
            self._file(file)
        try:
            self.book.keep(self.marks)
        except OSError as error:
            _LOG.warning("bookmarks cannot be kept in %s: %s; logs are read from their beginning", self.folder, error)
        return self.tally.result([*found.unread, *self.unread]).model_copy(
            update={
                "files": len(files),
                "missing": found.missing,
                "untimed": tuple(sorted(set(self.untimed))),
                "first_look": tuple(sorted(set(self.first_look))),
                "copies": tuple(visible(path) for path in sorted(copies)),
            }
        )

    def _file(self, file: LogFile) -> None:
        try:
            with opened(file, self.order.limits.decoded_bytes) as text:
                if file.size:
                    self._text(file, text)
        except SpoiltError as error:
            hint = f"see what it is: zcat -f {visible(file.path)} | tail; move it away if it is beyond repair"
            self.unread.append(Unread(path=visible(file.path), reason=visible(str(error)), hint=hint))
        except OSError as error:
            self.unread.append(refused(file.path, error))

    def _text(self, file: LogFile, text: LogText) -> None:
        head = text.head(HEAD)
        mark = self.book.find(file, head)
        if mark and mark.unchanged(file) and mark.timed and self._elsewhere(mark):
            return
        parser = self._parser(file, text)
        place = self._shortcut(mark, file, text) if mark else None
        scan = Scan(text, parser, self.tally, self.start, self.end)
        if mark and place:
            scan.last, scan.latest, scan.earliest = place.last, place.latest, mark.earliest
        else:
            scan.last = self._first_time(text, parser)
            if scan.last is None:
                self._without_times(file, text, mark, head, scan)
                return
        scan.run(place.offset if place else 0, None)
        self._keep(text, head, mark, scan)

    def _elsewhere(self, mark: FileMark) -> bool:
        """Whether all lines of a file lie outside of the window."""
        return mark.latest is not None and mark.earliest is not None and (
            mark.latest < self.start or mark.earliest >= self.end
        )  # fmt: skip

    def _parser(self, file: LogFile, text: LogText) -> Parser:
        clock = Clock(self.zone, file.mtime_ns / 1e9)
        kind = self.order.format
        if kind == "postgres":
            return parser_for(text.head(4096), clock)
        return JsonParser(clock) if kind == "json" else HeadParser(clock, every=kind == "plain")

    def _shortcut(self, mark: FileMark, file: LogFile, text: LogText) -> Position | None:
        """Return the farthest place before which no line of the window stands, where that can be proved."""
        if text.compressed or (mark.device, mark.inode) != (file.device, file.inode):
            return None
        return next((p for p in usable(mark, self.order.start) if self._holds(p, file, text)), None)

    def _holds(self, place: Position, file: LogFile, text: LogText) -> bool:
        """Whether what stands before a place is what stood there: files may begin alike, and inodes are used again."""
        if not text.compressed and place.offset > file.size:
            return False
        return place.guard == guard(text.before(place.offset, guarded(place.offset)), place.offset)

    def _first_time(self, text: LogText, parser: Parser) -> int | None:
        """Return the first time in a file: lines above it belong to that moment. None: it has none at all."""
        for block in text.blocks():
            for n in range(0, len(block.data), _PROBE):
                piece = block.data[n : block.data.find(b"\n", n + _PROBE) + 1 or len(block.data)]
                entries, _ = parser.parse(piece, None, True)
                if (first := next((e.time for e in entries if e.time is not None), None)) is not None:
                    return first
        return None

    def _without_times(self, file: LogFile, text: LogText, mark: FileMark | None, head: bytes, scan: Scan) -> None:
        """Read what was added to a file without times from the look before the window to the one at its end."""
        places = {p.end: p for p in mark.positions} if mark else {}
        before = max((end for end in places if end <= self.order.start), default=None)
        finish = places.get(self.order.end)
        sure = places[before] if before is not None else finish or next(iter(places.values()), None)
        if mark and sure and (self._of_another(mark, file, text) or not self._holds(sure, file, text)):
            # It only begins as that one did.
            mark, places, before, finish = None, {}, None, None
        born = mark.born if mark else self._born()
        if before is None and (file.mtime_ns < self.start * 10**9 or (born is not None and self.order.end <= born)):
            return
        begun = before is not None or (born is not None and born >= self.order.start)  # else all of it came later
        if not (begun and finish) and not self.order.newest:
            self.untimed.append(file.family)
            return
        if before is None and not places and born is None:
            self.first_look.append(file.family)
        scan.all_inside = True
        begin = places[before].offset if before is not None else 0
        scan.run(begin, finish.offset if finish else None)
        if finish is None:
            self._keep(text, head, mark, scan)

    def _of_another(self, mark: FileMark, file: LogFile, text: LogText) -> bool:
        """Whether a bookmark is that of a file that is still there: this one is no copy of it then."""
        other = self.there.get((mark.device, mark.inode))
        if other is None or other == file or text.compressed:
            return False
        with opened(other, self.order.limits.decoded_bytes) as theirs:
            head = theirs.head(mark.head_size)
        return len(head) == mark.head_size and digest(head) == mark.head

    def _born(self) -> datetime | None:
        """Return a moment at which a file that nobody knows was not there yet."""
        return self.order.start if self.book.reviewed(self.order.start) else None

    def _keep(self, text: LogText, head: bytes, mark: FileMark | None, scan: Scan) -> None:
        """Note how far the file was read."""
        file, offset = text.file, scan.offset or 0
        guarding = text.before(offset, guarded(offset)) if scan.all_inside or not text.compressed else b""
        place = Position(
            end=self.order.end,
            offset=offset,
            latest=scan.latest_before,
            last=scan.last_before,
            guard=guard(guarding, offset),
        )
        older = tuple(p for p in mark.positions if p.end != place.end) if mark else ()
        self.marks.append(
            FileMark(
                device=file.device,
                inode=file.inode,
                head=digest(head),
                head_size=len(head),
                size=file.size,
                mtime_ns=file.mtime_ns,
                timed=not scan.all_inside,
                earliest=scan.earliest,
                latest=scan.latest,
                born=mark.born if mark else self._born(),
                positions=(*older, place),
            )
        )
