"""The files of a log set at one moment, though a rotation may be at work."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from upkeep.adapters.log_files import Found, LogFile, discover
from upkeep.adapters.log_lines import MovedError, SpoiltError, opened

_TRIES = 5


def beginning(file: LogFile, limit: int) -> bytes:
    """Return how the text of a file begins; nothing when it cannot be read, which is said when it is."""
    try:
        with opened(file, limit) as text:
            return text.head(4096)
    except (SpoiltError, OSError):
        return b""


def settled(patterns: Sequence[str]) -> Found:
    """Return the files of some globs, looked up until two looks agree: a rotation may be renaming them right now.

    :raises MovedError: they never did.
    """
    found = discover(patterns)
    for _ in range(_TRIES):
        again = discover(patterns)
        if [(f.path, f.inode) for f in found.files] == [(f.path, f.inode) for f in again.files]:
            return found
        found = again
    raise MovedError("files come and go")


def without_copies(files: Sequence[LogFile], head: Callable[[LogFile], bytes]) -> tuple[list[LogFile], list[str]]:
    """Leave out files that repeat another one of the same log: copied by copytruncate, compressed a moment ago."""
    kept, copies = list[tuple[LogFile, bytes]](), list[str]()
    for file in sorted(files, key=lambda f: (f.family, -f.size, f.path)):
        begins = head(file) if file.size else b""
        for other, theirs in kept:
            shorter = min(len(begins), len(theirs))
            if other.family == file.family and shorter >= 256 and begins[:shorter] == theirs[:shorter]:
                copies.append(file.path)
                break
        else:
            kept.append((file, begins))
    return [file for file, _ in kept], copies
