"""Storing the contents of a tree: each once, small ones packed together, several uploads at a time."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from upkeep.adapters import tree_list
from upkeep.adapters.object_store import Store, Written
from upkeep.core.errors import TransientError

# An object takes a request of some milliseconds, and a file in a folder two flushes of the disk: files below `SMALL`
# are stored together until they are `PACK` bytes.
SMALL = 64 << 10
PACK = 8 << 20


class Stretch(NamedTuple):
    """Where a content lies: name and size of the object, and the first byte in it."""

    object: str
    offset: int
    object_bytes: int


class Uploads:
    """Uploads of objects in the background; use as a context manager, and call `drain` at the end.

    :param there: size by name of the objects that may be relied on; those that are stored are added.
    """

    def __init__(self, store: Store, series: str, jobs: int, there: dict[str, int]) -> None:
        self.store, self.series, self.there = store, series, there
        self.new: dict[str, int] = {}
        self._jobs = jobs
        self._pool = ThreadPoolExecutor(jobs, "upload")
        self._pending: set[Future[None]] = set()

    def __enter__(self) -> Uploads:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def put(self, sha256: str, size: int, held: bytes | Path) -> str:
        """Store a content unless it is there; return the object's name. A staged file is removed afterwards."""
        name = self.store.name_of(sha256)
        if self.there.get(name) == size or name in self.new:
            if isinstance(held, Path):
                held.unlink()
            return name
        self.new[name] = size
        self._wait(self._jobs - 1)
        self._pending.add(self._pool.submit(self._send, name, sha256, size, held))
        return name

    def drain(self) -> None:
        """Wait for all uploads. :raises UpkeepError: one failed."""
        self._wait(0)

    def _wait(self, most: int) -> None:
        while len(self._pending) > most:
            done, self._pending = wait(self._pending, return_when=FIRST_COMPLETED)
            for one in done:
                one.result()

    def _send(self, name: str, sha256: str, size: int, held: bytes | Path) -> None:
        key = tree_list.key_of(self.series, name)
        written = self.store.write_bytes(key, held) if isinstance(held, bytes) else self.store.write(key, held)
        if isinstance(held, Path):
            held.unlink()
        if written != Written(size, sha256):
            # Under this name other backups would take it for what it is not.
            with contextlib.suppress(Exception):
                self.store.delete([key])
            raise TransientError(
                f"{self.store.location}/{key}: {written.size} bytes were written, {size} were read; or they changed",
                "look at the worker's memory and scratch disk; it is tried again",
            )


class Packer:
    """Puts small contents together. `placed` is told where a content lies as soon as that is known."""

    def __init__(self, uploads: Uploads, placed: Callable[[str, Stretch], None]) -> None:
        self._uploads, self._placed = uploads, placed
        self._data = bytearray()
        self._offsets: dict[str, int] = {}

    def add(self, sha256: str, data: bytes) -> None:
        """Take a content."""
        if sha256 not in self._offsets:
            self._offsets[sha256] = len(self._data)
            self._data += data
        if len(self._data) >= PACK:
            self.flush()

    def flush(self) -> None:
        """Store what has come together."""
        if not self._offsets:
            return
        data = bytes(self._data)
        name = self._uploads.put(hashlib.sha256(data).hexdigest(), len(data), data)
        for sha256, offset in self._offsets.items():
            self._placed(sha256, Stretch(name, offset, len(data)))
        self._data, self._offsets = bytearray(), {}
