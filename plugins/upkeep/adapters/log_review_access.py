"""Reviews the lines of a window in access logs: finds the files, and lets `log_access` read them.

The newest window is read from bookmarks (see `log_bookmarks`). One of a file stands before the first line whose time
is not older than the end of the window that was reviewed, and says how new the newest line before it is: it is used for
windows that begin later than that, so that nothing depends on how well the lines are ordered. Of a compressed file,
which cannot be read from the middle, it says only that nothing of it is new. A window that is filled in later is read
from the beginning of the files, and leaves no bookmark.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

from upkeep.adapters.log_access_track import Part, Track
from upkeep.adapters.log_bookmarks import HEAD, Bookmarks, FileMark, Position, digest, guard, guarded, usable
from upkeep.adapters.log_files import LogFile, refused
from upkeep.adapters.log_lines import LogText, MovedError, SpoiltError, opened
from upkeep.adapters.log_review_files import settled, without_copies
from upkeep.adapters.log_secrets import visible
from upkeep.core.access_log import AccessOptions, AccessReview
from upkeep.core.log_files import Lines, Segment, Unread
from upkeep.core.log_review import LogReport, ReviewOrder

_LATE = timedelta(days=1)
_LOG = logging.getLogger(__name__)


def review_files(order: ReviewOrder, options: AccessOptions, folder: Path) -> tuple[LogReport, AccessReview]:
    """Read an access log; a file that was last written to a day before the window begins holds nothing of it.

    :param folder: where bookmarks lie.
    :raises MovedError: files were moved meanwhile.
    """
    return _Review(order, options, folder).run()


@dataclass(frozen=True)
class _Read:
    """A file that is read, how it begins, and what was known of it."""

    file: LogFile
    part: Part
    head: bytes
    mark: FileMark | None


@dataclass
class _Review:
    """One attempt to read everything."""

    order: ReviewOrder
    options: AccessOptions
    folder: Path
    unread: list[Unread] = field(default_factory=list)
    ended: dict[str, int | None] = field(default_factory=dict)
    """By log, when the last file ended that is not read, of those before the next one."""

    def __post_init__(self) -> None:
        order, self.limit = self.order, int(self.options.max_decoded)
        self.book = Bookmarks(self.folder, order.target, f"access 1 {order.format} {order.zone}")

    def run(self) -> tuple[LogReport, AccessReview]:
        from upkeep.adapters.log_access import review_parts

        found = settled(self.order.paths)
        files, copies = without_copies(found.files, self.limit)
        reads = list(self._reads(files))
        order = self.order
        review, tracks = review_parts(
            [read.part for read in reads],
            format=cast(Any, order.format),
            zone=ZoneInfo(order.zone),
            start=order.start,
            end=order.end,
            options=self.options,
            newest=order.newest,
        )
        self._check_moved(reads, review)
        if order.newest:
            self._keep(zip(reads, tracks, strict=True))
        report = LogReport(
            lines=Lines(unread=(*found.unread, *self.unread, *review.lines.unread)),
            files=len(files),
            missing=found.missing,
            copies=tuple(visible(path) for path in sorted(copies)),
        )
        # Told once, with the other files.
        return report, review.model_copy(update={"lines": review.lines.model_copy(update={"unread": ()})})

    def _reads(self, files: list[LogFile]) -> Iterator[_Read]:
        """Yield what is to be read, the files of each log in the order in which they were written."""
        since = (self.order.start - _LATE).timestamp() * 1e9
        for file in sorted(files, key=lambda f: (f.family, f.mtime_ns, f.path)):
            if not file.size:
                continue
            if file.mtime_ns < since:
                self.ended[_log(file)] = file.mtime_ns // 10**9
                continue
            try:
                with opened(file, self.limit) as text:
                    read = self._read(file, text)
            except OSError as error:
                self.unread.append(refused(file.path, error))
            else:
                if read is not None:
                    yield read

    def _read(self, file: LogFile, text: LogText) -> _Read | None:
        """Return what of a file is to be read; None: nothing of it belongs to this window or a later one."""
        try:
            head = text.head(HEAD)
        except SpoiltError:
            head = b""  # what is the matter with it is said when it is read
        mark = self.book.find(file, head) if self.order.newest else None
        if mark and text.compressed and mark.unchanged(file) and _before(mark.latest, self.order.start):
            self.ended[_log(file)] = mark.last
            return None
        place = self._place(mark, file, text) if mark else None
        above = self.ended.pop(_log(file), None)
        segment = Segment(
            path=file.path,
            device=file.device,
            inode=file.inode,
            start=place.offset if place else 0,
            end=None if text.compressed else file.size,
            compressed=text.compressed,
            clock=datetime.fromtimestamp(file.mtime_ns / 1e9, UTC),
        )
        part = Part(segment, place.last, place.latest) if place else Part(segment, above)
        return _Read(file, part, head, mark)

    def _place(self, mark: FileMark, file: LogFile, text: LogText) -> Position | None:
        """Return the farthest place before which no line of the window stands, where that can be proved."""
        if text.compressed or (mark.device, mark.inode) != (file.device, file.inode):
            return None
        return next(
            (p for p in usable(mark, self.order.start) if p.offset <= file.size and p.guard == _guard(text, p.offset)),
            None,
        )

    def _check_moved(self, reads: list[_Read], review: AccessReview) -> None:
        """Look whether files went away, or were moved so that something could not be read.

        :raises MovedError: they were.
        """
        now = {(f.device, f.inode): f for f in settled(self.order.paths).files}
        for file in (read.file for read in reads):
            same = now.get((file.device, file.inode))
            if same is None or (review.lines.unread and (same.path != file.path or same.size < file.size)):
                raise MovedError(f"{file.path} went away")

    def _keep(self, done: Iterator[tuple[_Read, Track]]) -> None:
        """Note how far files were read, but for those that could not be read to their end."""
        marks = [mark for read, track in done if track.whole and (mark := self._mark(read, track)) is not None]
        try:
            self.book.keep(marks)
        except OSError as error:
            _LOG.warning("bookmarks cannot be kept in %s: %s; logs are read from their beginning", self.folder, error)

    def _mark(self, read: _Read, track: Track) -> FileMark | None:
        file, mark = read.file, read.mark
        moments = (track.earliest, mark.earliest if mark else None)
        earliest = min((t for t in moments if t is not None), default=None)
        if earliest is None or not read.head or (track.tail and read.part.segment.compressed):
            return None  # what nobody understands is looked at again
        try:
            with opened(file, self.limit) as text:
                guarding = "" if text.compressed else _guard(text, track.place)
        except (OSError, MovedError):
            return None
        place = Position(
            end=self.order.end, offset=track.place, latest=track.before, last=track.above, guard=guarding
        )  # fmt: skip
        return FileMark(
            device=file.device,
            inode=file.inode,
            head=digest(read.head),
            head_size=len(read.head),
            size=file.size,
            mtime_ns=file.mtime_ns,
            timed=True,
            earliest=earliest,
            latest=track.latest,
            last=track.last,
            positions=(*(mark.positions if mark else ()), place),
        )


def _log(file: LogFile) -> str:
    return f"{Path(file.path).parent}/{file.family}"


def _before(moment: int | None, start: datetime) -> bool:
    return moment is not None and moment < start.timestamp()


def _guard(text: LogText, offset: int) -> str:
    before = guarded(offset)
    return guard(text.read(offset - before, before), offset)
