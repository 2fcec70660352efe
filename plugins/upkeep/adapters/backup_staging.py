"""Folders for what is on its way between the database and the store, removed also when their owner was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from upkeep.core.backup import Leftover
from upkeep.core.errors import TransientError

_PREFIX = "backup-"
_LOCK = ".owner"
_MARGIN = 64 << 20


@contextmanager
def staging(scratch: Path, target: str, name: str) -> Iterator[Path]:
    """Make a folder for one backup or check and remove it afterwards, whatever happens.

    The folder's owner holds a lock in it, which the kernel gives up when the owner dies.
    """
    folder = scratch / f"{_PREFIX}{target.replace('/', '~')}-{name}-{os.getpid()}"
    try:
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _locked(folder: Path) -> IO[str]:
    """Make a folder and return its lock, held until that is closed."""
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # empty, it was taken for one that a dead worker had left
            lock = (folder / _LOCK).open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
            return lock


def abandoned(scratch: Path, target: str) -> list[Leftover]:
    """List the folders of this target whose owner is gone."""
    found = []
    for folder in sorted(scratch.glob(f"{_PREFIX}{target.replace('/', '~')}-*")):
        if folder.is_dir() and not _owned(folder):
            found.append(
                Leftover(
                    kind="staging", name=folder.name, bytes=_size(folder), reason="the worker that made it is gone"
                )
            )
    return found


def remove(scratch: Path, leftover: Leftover) -> None:
    """Remove an abandoned folder."""
    shutil.rmtree(scratch / leftover.name, ignore_errors=True)


def free_bytes(scratch: Path) -> int:
    """Return the free space of the scratch folder in bytes, as far as this user may take it."""
    return shutil.disk_usage(scratch).free


def need(scratch: Path, wanted: int, purpose: str) -> None:
    """Refuse to start what would fill the disk.

    :raises TransientError: there is less room than `wanted` bytes and a margin.
    """
    free = free_bytes(scratch)
    if free < wanted + _MARGIN:
        raise TransientError(
            f"{scratch} has {free / 1e6:.0f} MB free, {purpose} is expected to need {(wanted + _MARGIN) / 1e6:.0f} MB",
            "free space there, or point UPKEEP_SCRATCH_DIR to a larger disk",
        )


def _owned(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        # Between its making and its lock a folder is empty; one that is not was half removed.
        with suppress(OSError):
            return not any(folder.iterdir()) and _lives(folder.name.rpartition("-")[2])
    return False


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        return True
    return True


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total
