"""Files that should not stay, such as forgotten test databases: found by pattern and age, and what keeps one back."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta

from upkeep.adapters import rotation_procs
from upkeep.adapters.rotation_folder import Folder, OutsideError, fits
from upkeep.adapters.rotation_look import moment
from upkeep.core.logs import StrayFiles
from upkeep.core.model import Severity
from upkeep.core.rotation import Refusal, StrayFile, StrayFolder, quoted

_SQLITE = b"SQLite format 3\x00"
_COMPANIONS = ("-wal", "-journal", "-shm")


def look(folder: Folder, stray: StrayFiles, now: datetime) -> StrayFolder:
    """List the files of some patterns that nobody has written to for so many days. :raises OSError: no folder."""
    found: dict[str, os.stat_result] = {}
    refused: dict[str, Refusal] = {}
    old = now - timedelta(days=stray.older_than_days)
    for pattern in stray.patterns:
        links: list[str] = []
        try:
            parts = folder.relative(f"{folder.path}/{pattern}")
        except OutsideError:
            refused[pattern] = _refusal(pattern, "leaves the folder", Severity.CRITICAL)
            continue
        for prefix in folder.folders(parts[:-1], links):
            found |= _matching(folder, prefix, parts[-1], refused)
        refused |= {link: _refusal(link, "is a symbolic link out of the folder", Severity.WARNING) for link in links}
    for prefix, error in folder.blocked:
        refused[prefix] = _refusal(prefix or ".", f"cannot be listed: {error.strerror}", Severity.UNKNOWN)
    opened = rotation_procs.scan({(seen.st_dev, seen.st_ino) for seen in found.values()})
    files = tuple(_file(folder, name, seen, old, opened) for name, seen in sorted(found.items()) if _aged(seen, old))
    return StrayFolder(path=folder.path, files=files, refusals=tuple(refused.values()), unseen=len(opened.unseen))


def _matching(folder: Folder, prefix: str, leaf: str, refused: dict[str, Refusal]) -> dict[str, os.stat_result]:
    found = {}
    try:
        entries = folder.entries(prefix)
    except OSError as error:
        refused[prefix] = _refusal(prefix or ".", f"cannot be listed: {error.strerror}", Severity.UNKNOWN)
        return {}
    for entry in entries:
        if not fits(entry.name, leaf) or entry.is_dir(follow_symlinks=False):
            continue
        try:
            seen = folder.stat(prefix + entry.name)
        except OSError:
            continue  # it went between two looks, or its folder did
        if stat.S_ISREG(seen.st_mode):
            found[prefix + entry.name] = seen
    return found


def _aged(seen: os.stat_result, old: datetime) -> bool:
    return moment(seen.st_mtime) < old


def _file(
    folder: Folder, name: str, seen: os.stat_result, old: datetime, opened: rotation_procs.OpenFiles
) -> StrayFile:
    beside = _companions(folder, name)
    return StrayFile(
        name=quoted(name),
        device=seen.st_dev,
        inode=seen.st_ino,
        size=seen.st_size,
        modified=moment(seen.st_mtime),
        keep="; ".join(_reasons(beside, seen, old, opened)),
        companions=tuple(map(quoted, beside)),
    )


def _reasons(
    beside: dict[str, os.stat_result], seen: os.stat_result, old: datetime, opened: rotation_procs.OpenFiles
) -> Iterator[str]:
    """Yield why a file must not be deleted. What a database was told last may stand in the file beside it only."""
    if holders := opened.holders(seen.st_dev, seen.st_ino):
        yield f"is open in {', '.join(map(str, holders))}"
    for name, other in beside.items():
        if not _aged(other, old):
            yield f"{quoted(name)} was written to at {moment(other.st_mtime):%Y-%m-%d %H:%M} UTC"


def _companions(folder: Folder, name: str) -> dict[str, os.stat_result]:
    """Return the files that belong to a SQLite database."""
    found = {}
    if _is_sqlite(folder, name):
        for ending in _COMPANIONS:
            with contextlib.suppress(OSError):
                found[name + ending] = folder.stat(name + ending)
    return found


def _is_sqlite(folder: Folder, name: str) -> bool:
    try:
        handle = folder.open(name)
    except OSError:
        return True  # a guess to the safe side
    try:
        return os.pread(handle, len(_SQLITE), 0) in (_SQLITE, b"")
    finally:
        os.close(handle)


def _refusal(name: str, reason: str, severity: Severity) -> Refusal:
    hint = "correct `stray` in the system file, or let the user that runs maintenance look there"
    return Refusal(name=quoted(name), check="stray_folder", severity=severity, reason=reason, hint=hint)
