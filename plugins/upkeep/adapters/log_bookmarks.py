"""How far the files of a log set were read: a shortcut, of which nothing but time depends.

A bookmark of a file says: every line before this offset is older than that moment. It holds only while the file is the
one that it was made for, which the bytes at its beginning and those before the offset show. Lost, stale or damaged
bookmarks are as none: the file is read from its beginning. Of lines without times they are all that tells the window.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from upkeep.adapters.log_files import LogFile
from upkeep.core.model import Model

HEAD = 512
_TELLING = 64
"""Bytes of a beginning that two different logs do not share."""
_GUARD = 4096
_POSITIONS = 60
_FILES = 2000


class Position(Model):
    """Every line before `offset` is of a moment up to `latest`; the one before it is of `last`.

    `end` is the end of the window that was reviewed then; in a file without times the lines from one window's position
    to the next one's are those of that window.
    """

    end: datetime
    offset: int
    latest: int | None
    last: int | None
    guard: str


class FileMark(Model):
    """What is known of one file. `earliest` and `latest` are of all lines that it had when its size was `size`."""

    device: int
    inode: int
    head: str
    head_size: int
    size: int
    mtime_ns: int
    timed: bool
    earliest: int | None
    latest: int | None
    last: int | None = None
    """The moment of the last line that has one."""
    born: datetime | None = None
    """A moment at which the file was not there yet: the run before the one that saw it first did not."""
    positions: tuple[Position, ...] = ()

    def unchanged(self, file: LogFile) -> bool:
        """Whether nothing was written to it since."""
        return (self.size, self.mtime_ns) == (file.size, file.mtime_ns)


class _Book(Model):
    reads: str
    files: tuple[FileMark, ...] = ()


def digest(data: bytes) -> str:
    """Return a short name of some bytes."""
    return hashlib.sha256(data).hexdigest()[:32]


def guard(before: bytes, offset: int) -> str:
    """Return what shows that the bytes before an offset are those that they were."""
    return digest(before + b"@%d" % offset)


def guarded(offset: int) -> int:
    """Return how many bytes before an offset its guard is made of."""
    return min(offset, _GUARD)


class Bookmarks:
    """The bookmarks of one target.

    :param reads: how its lines are understood (format, zone): bookmarks of another way of reading are as none.
    """

    def __init__(self, folder: Path, target: str, reads: str) -> None:
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", target)[:100]
        self._path = folder / f"{name}-{digest(target.encode())[:8]}.json"
        self._reads = reads
        self._marks = self._load()

    def find(self, file: LogFile, head: bytes) -> FileMark | None:
        """Return what is known of a file: by its inode, or by how it begins when it was copied or compressed."""
        same = [m for m in self._marks if (m.device, m.inode) == (file.device, file.inode)]
        alike = [m for m in self._marks if m.head_size >= _TELLING]
        for mark in [*same, *sorted(alike, key=lambda m: -m.head_size)]:
            if 0 < mark.head_size <= len(head) and digest(head[: mark.head_size]) == mark.head:
                return mark
        return None

    def reviewed(self, end: datetime) -> bool:
        """Whether a window that ended then was reviewed."""
        return any(position.end == end for mark in self._marks for position in mark.positions)

    def keep(self, fresh: Sequence[FileMark]) -> None:
        """Add what was learned, atomically and alone; positions of other windows stay.

        :raises OSError: the folder cannot be written to.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            known = {(m.device, m.inode): m for m in self._load()}
            for mark in fresh:
                old = known.pop((mark.device, mark.inode), None)
                positions = {p.end: p for p in (old.positions if old and old.head == mark.head else ())}
                positions |= {p.end: p for p in mark.positions}
                newest = tuple(positions[end] for end in sorted(positions)[-_POSITIONS:])
                known[mark.device, mark.inode] = mark.model_copy(update={"positions": newest})
            self._marks = tuple(known.values())[-_FILES:]
            self._store()

    def _load(self) -> tuple[FileMark, ...]:
        try:
            checksum, _, text = self._path.read_text().partition("\n")
            if checksum != digest(text.encode()):
                return ()
            book = _Book.model_validate_json(text)
        except (OSError, ValueError):
            return ()
        return book.files if book.reads == self._reads else ()

    def _store(self) -> None:
        text = _Book(reads=self._reads, files=self._marks).model_dump_json()
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{digest(text.encode())}\n{text}")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def usable(mark: FileMark, start: datetime) -> list[Position]:
    """Return the positions before which no line of a window from `start` on stands, the farthest first."""
    before = start.timestamp()
    fit = [p for p in mark.positions if p.latest is not None and p.latest < before]
    return sorted(fit, key=lambda p: -p.offset)
