"""Disk space as this machine sees it."""

from __future__ import annotations

import os

from upkeep.core.job import Disk, Failed


def disk(path: str) -> Disk | Failed:
    """Return the space of the volume that holds `path`, or why it cannot be told."""
    try:
        found = os.statvfs(path)
    except PermissionError as error:
        return Failed("privilege", f"{path}: {error.strerror}")
    except OSError as error:
        return Failed("other", f"{path}: {error.strerror}")
    return Disk(total=found.f_blocks * found.f_frsize, free=found.f_bavail * found.f_frsize)
