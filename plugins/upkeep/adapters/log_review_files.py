"""The files of a log set at one moment, though a rotation may be at work."""

from __future__ import annotations

import re
from collections.abc import Sequence

from upkeep.adapters.log_files import Found, LogFile, discover
from upkeep.adapters.log_lines import MovedError, opened
from upkeep.adapters.rotation_look import COPIED

_TRIES = 5
_HEAD = 4096
_TELLING = 256
"""Bytes of a beginning from which on files of different names may be copies."""


_TIME = re.compile(rb"\d\d:\d\d:\d\d|\d{10}")


def beginning(file: LogFile, limit: int) -> bytes:
    """Return how the text of a file begins; nothing when it cannot be read, which is said when it is."""
    try:
        with opened(file, limit) as text:
            return next((piece[:_HEAD] for piece in text.readable()), b"")
    except OSError:
        return b""


def settled(patterns: Sequence[str]) -> Found:
    """Return the files of some globs, looked up until two looks agree: a rotation may be renaming them right now.

    :raises MovedError: they never did.
    """
    found = discover(patterns)
    for _ in range(_TRIES):
        again = discover(patterns)
        if [(f.path, f.inode) for f in found.files] == [(f.path, f.inode) for f in again.files]:
            return again  # its sizes: what went meanwhile may have been put into another file
        found = again
    raise MovedError("files come and go")


def without_copies(files: Sequence[LogFile], limit: int) -> tuple[list[LogFile], list[str]]:
    """Leave out files of which another one of the same log and folder holds all: copied by copytruncate, or compressed.

    :param limit: bytes that a compressed file may decode to.
    :raises MovedError: one was moved meanwhile.
    """
    kept, copies = list[tuple[LogFile, bytes]](), list[str]()
    for file in sorted(files, key=lambda f: (f.family, -f.size, f.path)):
        begins = beginning(file, limit)
        for n, (other, theirs) in enumerate(kept if file.size else ()):
            if not _alike(file, begins, other, theirs):
                continue
            shorter = _shorter(file, other, limit)
            if shorter is other:
                kept[n] = (file, begins)
            if shorter is not None:
                copies.append(shorter.path)
                break
        else:
            kept.append((file, begins))
    return [file for file, _ in kept], copies


def _alike(file: LogFile, begins: bytes, other: LogFile, theirs: bytes) -> bool:
    """Tell whether one file may hold the other, by their names and beginnings."""
    if (file.folder, file.family) != (other.folder, other.family):
        return False
    copied = file.path.endswith(COPIED) or other.path.endswith(COPIED)
    shorter = min(len(begins), len(theirs))
    if begins[:shorter] != theirs[:shorter]:
        return False
    # A job that says the same every day fills each of its files with the same lines; only times tell them apart.
    return copied or file.plain_path == other.plain_path or (shorter >= _TELLING and _TIME.search(begins) is not None)


def _shorter(file: LogFile, other: LogFile, limit: int) -> LogFile | None:
    """Return the one of two files whose whole text the other one begins with, None when they differ."""
    try:
        with opened(file, limit) as text, opened(other, limit) as theirs:
            ours, their = text.readable(), theirs.readable()
            a = b = b""
            while True:
                a, b = a or next(ours, b""), b or next(their, b"")
                if not a or not b:
                    return other if a else file
                both = min(len(a), len(b))
                if a[:both] != b[:both]:
                    return None
                a, b = a[both:], b[both:]
    except OSError:
        return None
