"""Reviews the lines of a window in access logs: finds the files, and lets `log_access` read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from upkeep.adapters.log_files import LogFile, refused
from upkeep.adapters.log_lines import LogText, MovedError, opened
from upkeep.adapters.log_review_files import settled, without_copies
from upkeep.adapters.log_secrets import visible
from upkeep.core.access_log import AccessOptions, AccessReview
from upkeep.core.log_files import Lines, Segment, Unread
from upkeep.core.log_review import LogReport, ReviewOrder

_LATE = timedelta(days=1)


def review_files(order: ReviewOrder, options: AccessOptions) -> tuple[LogReport, AccessReview]:
    """Read an access log; a file that was last written to a day before the window begins holds nothing of it.

    :raises MovedError: files were moved meanwhile.
    """
    from upkeep.adapters.log_access import review_access

    limit = int(options.max_decoded)
    found = settled(order.paths)
    files, copies = without_copies(found.files, limit)
    recent = [f for f in files if f.mtime_ns >= (order.start - _LATE).timestamp() * 1e9]
    segments, unread = list[Segment](), list[Unread]()
    for file in sorted(recent, key=lambda f: (f.family, f.mtime_ns, f.path)):
        try:
            with opened(file, limit) as text:
                segments.append(_segment(file, text))
        except OSError as error:
            unread.append(refused(file.path, error))
    review = review_access(
        segments,
        format=cast(Any, order.format),
        zone=ZoneInfo(order.zone),
        start=order.start,
        end=order.end,
        options=options,
    )
    if {(f.device, f.inode) for f in recent} - {(f.device, f.inode) for f in settled(order.paths).files}:
        raise MovedError("a file went away")
    report = LogReport(
        lines=Lines(unread=(*found.unread, *unread, *review.lines.unread)),
        files=len(files),
        missing=found.missing,
        copies=tuple(visible(path) for path in sorted(copies)),
    )
    # Told once, with the other files.
    return report, review.model_copy(update={"lines": review.lines.model_copy(update={"unread": ()})})


def _segment(file: LogFile, text: LogText) -> Segment:
    return Segment(
        path=file.path,
        device=file.device,
        inode=file.inode,
        start=0,
        end=None if text.compressed else file.size,
        compressed=text.compressed,
        clock=datetime.fromtimestamp(file.mtime_ns / 1e9, UTC),
    )
