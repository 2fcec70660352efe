"""A small private folder for things that can be made again: `UPKEEP_CACHE_DIR`, else one in the temporary folder.

Every failure means "no cache": it may make parsing slower and must never make it wrong.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

_LIMIT_BYTES = 8 << 20


def folder() -> Path | None:
    """Return the folder, made if need be; none if it is not ours alone.

    The temporary folder is everybody's: another user may have put a folder or link of this name there first.
    """
    named = os.environ.get("UPKEEP_CACHE_DIR")
    path = Path(named) if named else Path(tempfile.gettempdir()) / f"upkeep-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, parents=bool(named), exist_ok=True)
        found = path.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return path if private else None


def read(name: str) -> bytes | None:
    """Return a cached file's bytes, or none."""
    if (place := folder()) is None:
        return None
    try:
        handle = os.open(place / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            data = file.read(_LIMIT_BYTES + 1)
    except OSError:
        return None
    return data if len(data) <= _LIMIT_BYTES else None


def write(name: str, data: bytes) -> None:
    """Put a file in place in one step: several parse processes write at the same time."""
    if (place := folder()) is None:
        return
    with contextlib.suppress(OSError):
        handle, temporary = tempfile.mkstemp(prefix=name, dir=place)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(temporary).replace(place / name)
        except OSError:
            Path(temporary).unlink()
            raise
