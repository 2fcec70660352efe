"""Reading one file of a tree: all of it but the holes, and knowing whether it held still meanwhile."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from upkeep.adapters import backup_staging
from upkeep.adapters.tree_scan import Found, opened
from upkeep.core.errors import TransientError

BLOCK = 1 << 20
# Up to this size a file is held in memory; a larger one is staged, so that what is stored is what was hashed.
MEMORY = 8 << 20
_TRIES = 3
_PAUSE = 0.1
_ZEROS = bytes(BLOCK)
# What a file is that is there no more, or is no file any more.
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE, errno.ENXIO}


class Content(NamedTuple):
    """What a file held. `data` are its stretches that are no holes; empty: it has none.

    `stored_sha256` is the hash of what is to be stored (the stretches one after the other), in `held`.
    """

    stat: os.stat_result
    size: int
    sha256: str
    data: tuple[tuple[int, int], ...]
    stored_sha256: str
    stored_bytes: int
    held: bytes | Path
    steady: bool


def vanished(error: OSError) -> bool:
    """Tell whether an error means that the file is gone, and not that it cannot be read."""
    return error.errno in _GONE


def read(found: Found, staging: Path) -> Content:
    """Read a file, again when it changes meanwhile; after some tries it is taken as it was read last.

    :param staging: a path that does not exist, for a file that is too large for the memory.
    :raises OSError: it cannot be read; see `vanished`.
    :raises TransientError: there is no room to stage it.
    """
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE)
        # Without O_NONBLOCK a pipe that took the file's place would hold us for ever.
        with opened(found.root, found.path, os.O_RDONLY | os.O_NONBLOCK) as handle:
            before = os.fstat(handle)
            if not stat.S_ISREG(before.st_mode):
                raise FileNotFoundError(errno.ENOENT, "no file any more")
            content = _read(handle, before, staging)
            if content.steady and _same(before, os.fstat(handle)):
                return content
    return content._replace(steady=False)


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )


def _read(handle: int, seen: os.stat_result, staging: Path) -> Content:
    stretches = _stretches(handle, seen)
    taking = _Taking(staging, sum(length for _, length in stretches))
    try:
        for start, block in _blocks(handle, stretches):
            taking.take(start, block)
    finally:
        taking.close()
    # Behind the last stretch there may be a hole; of a file that became shorter there is nothing.
    whole = taking.stored == sum(length for _, length in stretches)
    size = seen.st_size if whole else taking.end
    taking.fill(size)
    data = tuple(taking.data) if taking.data != [(0, size)] and size else ()
    return Content(
        stat=seen,
        size=size,
        sha256=taking.whole.hexdigest(),
        data=data or (((0, 0),) if size and not taking.data else ()),
        stored_sha256=taking.dense.hexdigest(),
        stored_bytes=taking.stored,
        held=staging if taking.file else bytes(taking.memory),
        steady=whole,
    )


def _stretches(handle: int, seen: os.stat_result) -> list[tuple[int, int]]:
    """Return what of a file is not a hole. Holes are looked for only where fewer blocks are taken than bytes told."""
    if seen.st_blocks * 512 >= seen.st_size:
        return [(0, seen.st_size)] if seen.st_size else []
    found, at = [], 0
    try:
        while at < seen.st_size:
            start = os.lseek(handle, at, os.SEEK_DATA)
            at = min(os.lseek(handle, start, os.SEEK_HOLE), seen.st_size)
            if start < at:
                found.append((start, at - start))
    except OSError as error:
        if error.errno != errno.ENXIO:  # no data behind here
            return [(0, seen.st_size)]
    return found


def _blocks(handle: int, stretches: list[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    for start, length in stretches:
        at, end = start, start + length
        while at < end:
            block = os.pread(handle, min(BLOCK, end - at), at)
            if not block:
                return
            yield at, block
            at += len(block)


class _Taking:
    """Hashes what is read, with zeros for the holes and without, and keeps it."""

    def __init__(self, staging: Path, expected: int) -> None:
        self.whole, self.dense = hashlib.sha256(), hashlib.sha256()
        self.data: list[tuple[int, int]] = []
        self.memory = bytearray()
        self.stored = self.end = 0
        self.file = None
        if expected > MEMORY:
            backup_staging.need(staging.parent, expected, "a large file")
            self.file = staging.open("wb")

    def take(self, start: int, block: bytes) -> None:
        """Take the next block, which stands at `start` in the file."""
        self.fill(start)
        self.whole.update(block)
        self.dense.update(block)
        self._keep(block)
        if self.data and sum(self.data[-1]) == start:
            self.data[-1] = (self.data[-1][0], self.data[-1][1] + len(block))
        else:
            self.data.append((start, len(block)))
        self.stored += len(block)
        self.end = start + len(block)

    def fill(self, until: int) -> None:
        """Hash the hole that ends at `until`."""
        while self.end < until:
            step = min(BLOCK, until - self.end)
            self.whole.update(_ZEROS if step == BLOCK else _ZEROS[:step])
            self.end += step

    def close(self) -> None:
        """Close the staged file."""
        if self.file:
            self.file.close()

    def _keep(self, block: bytes) -> None:
        if self.file is None:
            self.memory += block
            return
        try:
            self.file.write(block)
        except OSError as error:
            raise TransientError(
                f"{error.strerror} while a large file was staged", "free space in the scratch folder; it is tried again"
            ) from None
