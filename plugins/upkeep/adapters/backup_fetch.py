"""A backup's files out of their store into a folder, each compared with the manifest while it is read."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from upkeep.adapters.object_store import Store
from upkeep.core.backup import BaseManifest, FileEntry
from upkeep.core.errors import DamagedError


def fetch(
    store: Store,
    prefix: str,
    manifest: BaseManifest,
    folder: Path,
    *,
    jobs: int = 4,
    say: Callable[[int, int], None] = lambda _files, _bytes: None,
) -> int:
    """Download every file of a backup and return their bytes.

    :param prefix: what the keys of the backup begin with, without a slash at the end.
    :param folder: an existing folder; nothing in it is overwritten.
    :param say: called with the files and bytes that are here, from several threads.
    :raises DamagedError: a file is missing, or not the one that the manifest names.
    """
    lock, done = threading.Lock(), [0, 0]
    stop = threading.Event()

    def one(entry: FileEntry) -> None:
        if not stop.is_set():
            _file(store, f"{prefix}/{entry.name}", entry, folder / entry.name)
            with lock:
                done[0] += 1
                done[1] += entry.size
                say(done[0], done[1])

    largest_first = sorted(manifest.files, key=lambda entry: -entry.size)
    with ThreadPoolExecutor(jobs, thread_name_prefix="fetch") as pool:
        futures = [pool.submit(one, entry) for entry in largest_first]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            raise
    return done[1]


def _file(store: Store, key: str, entry: FileEntry, path: Path) -> None:
    seen, size = hashlib.sha256(), 0
    with store.read(key) as blocks, path.open("xb") as copy:
        for block in blocks:
            seen.update(block)
            size += copy.write(block)
    if (size, seen.hexdigest()) != (entry.size, entry.sha256):
        raise DamagedError(
            f"{store.location}/{key}: {size} bytes with SHA-256 {seen.hexdigest()[:16]}..., expected {entry.size} bytes"
            f" with {entry.sha256[:16]}...",
            "this backup cannot be relied on: make a new one now, verify the others (backup.verify, which: all)",
        )
