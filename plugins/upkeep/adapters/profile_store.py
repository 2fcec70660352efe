"""Reference profiles in a folder: one file a version, never changed, and an index with their hashes."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pydantic

from upkeep.core.drift import Profile, ProfileEntry, ProfileIndex
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError

INDEX = "profiles.json"
_LOCK = ".profiles.lock"
_LARGEST = 256 << 20


def index(folder: Path) -> ProfileIndex:
    """Return what a folder holds; nothing where there is no folder, or no index in it.

    :raises DamagedError: the index is none, or names one version twice.
    :raises ConfigurationError: we may not read it.
    """
    path = folder / INDEX
    with _told(path):
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return ProfileIndex()
    try:
        found = ProfileIndex.model_validate_json(text)
    except pydantic.ValidationError as error:
        wrong = error.errors()[0]
        place = ".".join(map(str, wrong["loc"]))
        raise DamagedError(f"{path} is no index of profiles: {place}: {wrong['msg']}", _restore(path)) from None
    numbers = [entry.version for entry in found.versions]
    if len(set(numbers)) < len(numbers):
        raise DamagedError(f"{path} names a version twice: {numbers}", _restore(path))
    return found


def load(folder: Path, entry: ProfileEntry) -> Profile:
    """Return a version.

    :raises DamagedError: its file is missing, or not the one that was kept.
    """
    path = folder / entry.file
    with _told(path):
        try:
            if path.stat().st_size > _LARGEST:
                raise DamagedError(f"{path} has {path.stat().st_size:,} bytes, which no profile has", _restore(path))
            data = path.read_bytes()
        except FileNotFoundError:
            raise DamagedError(f"{path} is missing: version {entry.version} of the profile", _restore(path)) from None
    found = hashlib.sha256(data).hexdigest()
    if found != entry.sha256:
        raise DamagedError(
            f"{path} was altered: its SHA-256 is {found[:12]}..., expected {entry.sha256[:12]}...", _restore(path)
        )
    try:
        return Profile.model_validate_json(data)
    except pydantic.ValidationError as error:
        wrong = error.errors()[0]
        raise DamagedError(f"{path} is no profile: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}", "") from None


def keep(folder: Path, profile: Profile, made_at: datetime) -> ProfileEntry:
    """Add a profile as the next version; the current one is returned when it is the same.

    The file is whole and on the disk before the index names it. Whatever dies in between leaves at most a file that no
    index names, which the next version replaces.

    :raises ConfigurationError: we may not write there.
    :raises DamagedError: the index cannot be read; nothing is written then.
    """
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _keep(folder, profile, made_at)


def _keep(folder: Path, profile: Profile, made_at: datetime) -> ProfileEntry:
    known, data = index(folder), profile.canonical()
    sha256 = hashlib.sha256(data).hexdigest()
    if known.current and known.current.sha256 == sha256:
        return known.current
    version = known.current.version + 1 if known.current else 1
    entry = ProfileEntry(
        version=version,
        file=f"profile-{version:04}-{sha256[:12]}.json",
        sha256=sha256,
        made_at=made_at,
        rows=profile.rows,
    )
    _write(folder / entry.file, data)
    grown = known.model_copy(update={"versions": (*known.versions, entry)})
    _write(folder / INDEX, grown.model_dump_json(indent=1).encode())
    return entry


def _write(path: Path, data: bytes) -> None:
    """Write a file that appears under its name only when it is whole and on the disk."""
    unfinished = path.with_name(f".{path.name}.new")
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _restore(path: Path) -> str:
    return f"find out who changed {path.parent}, restore it from the newest backup, or build a new profile"


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise ConfigurationError(
            f"{error.filename or path}: {error.strerror}", "let the worker's user read and write the profile folder"
        ) from error
    except OSError as error:
        raise TransientError(f"{error.filename or path}: {error.strerror}", "repair the disk or make room") from error
