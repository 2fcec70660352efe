"""An archive of pg_basebackup becomes files: several threads decode and write, whose order does not matter."""

from __future__ import annotations

import os
import tarfile
import threading
from collections.abc import Callable, Generator
from pathlib import Path, PurePosixPath

from upkeep.adapters.physical_tar import Segment, TarWalk
from upkeep.adapters.physical_zstd import Codec, Part
from upkeep.core.errors import DamagedError

_HINT = "take an older backup, make a new one now, and look at the store"
_MOST_THREADS = 4  # one of them fetches and hashes at a time: more would only wait for it


def extract(blocks: Callable[[], Generator[bytes]], codec: Codec, into: Path, place: str) -> None:
    """Decompress and unpack a stream into a new folder. Files get their modes, and belong to this user.

    :param blocks: what yields the stream; called once, and drawn from by one thread at a time.
    :raises DamagedError: the stream is not an archive, or not a whole one, or names a place outside of the folder.
    """
    into.mkdir(mode=0o700)
    work = _Unpacking(blocks(), codec, into)
    threads = [
        threading.Thread(target=work.run, name=f"unpack-{number}", daemon=True)
        for number in range(min(os.cpu_count() or 1, _MOST_THREADS))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    work.close(place)


class _Unpacking:
    """One archive; each thread takes the next part, decodes it, waits for its turn to read headers, and writes."""

    def __init__(self, blocks: Generator[bytes], codec: Codec, into: Path) -> None:
        self._blocks, self._parts = blocks, codec.parts(blocks)
        self._into, self._walk, self._folders = into, TarWalk(), {into}
        self._taken, self._turn = 0, 0
        self._take, self._passed = threading.Lock(), threading.Condition()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Work until nothing is left or somebody has failed."""
        try:
            while (taken := self._next()) is not None:
                number, part = taken
                data = part()
                for segment in self._segments(number, data):
                    self._write(segment)
        except BaseException as error:  # a thread has nobody to raise to: `close` does
            with self._passed:
                self._error = self._error or error
                self._passed.notify_all()

    def close(self, place: str) -> None:
        """Raise what was met on the way, or say that the archive is not whole."""
        self._blocks.close()
        if isinstance(self._error, tarfile.TarError):
            raise DamagedError(f"{place}: the archive cannot be unpacked: {self._error}", _HINT) from self._error
        if self._error is not None:
            raise self._error
        if not self._walk.ended:
            raise DamagedError(f"{place}: the archive ends before its end", _HINT)

    def _next(self) -> tuple[int, Part] | None:
        with self._take:
            part = None if self._error is not None else next(self._parts, None)
            if part is None:
                return None
            self._taken += 1
            return self._taken - 1, part

    def _segments(self, number: int, data: memoryview) -> list[Segment]:
        with self._passed:
            self._passed.wait_for(lambda: self._turn == number or self._error is not None)
            if self._error is not None:
                return []
            segments = list(self._walk.feed(data))
            for segment in segments:
                self._make_room(segment.member)
            self._turn += 1
            self._passed.notify_all()
        return [s for s in segments if s.member.isreg()]

    def _make_room(self, member: tarfile.TarInfo) -> None:
        """Make the folder that a member is, or lies in."""
        if not (member.isreg() or member.isdir()):
            raise tarfile.ReadError(f"{member.name!r} is neither a file nor a folder (type {member.type!r})")
        path = self._path(member)
        folder = path if member.isdir() else path.parent
        if folder not in self._folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folders.add(folder)

    def _path(self, member: tarfile.TarInfo) -> Path:
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            raise tarfile.ReadError(f"{member.name!r} lies outside of the folder")
        return self._into / name

    def _write(self, segment: Segment) -> None:
        # There are no links in it, so that no name leads out of the folder.
        mode = (segment.member.mode & 0o755) | 0o600
        handle = os.open(self._path(segment.member), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, mode)
        try:
            at, left = segment.offset, segment.data
            while left:
                written = os.pwrite(handle, left, at)
                at, left = at + written, left[written:]
        finally:
            os.close(handle)
