"""Dated copies of a model's files, `<folder>/versions/<time>-<sha12>/`, each with a manifest of hashes.

A copy is written below a name that begins with a dot, flushed, read back, and renamed when it is whole: a folder with
the name of a version is complete. Restoring writes every file beside the one it replaces before it renames the first,
under a note by which a killed restore is seen and finished. No symbolic link is followed below the model's folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pydantic

from upkeep.adapters.model_files import VERSIONS, read
from upkeep.adapters.tree_scan import opened
from upkeep.core.model_health import FilesSeen, ModelVersion, NotKept

MANIFEST = "manifest.json"
_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{12}")
_PARTIAL = re.compile(r"\.partial-[0-9a-f]{16}")
_RESTORING = ".restoring"
_MANIFEST_BYTES = 4 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class _Refused(Exception):
    """A copy cannot be made or restored, for a reason that is for people."""


class ModelVersions:
    """The copies of any model; see `core.model_health.Versions`."""

    def kept(self, folder: str) -> tuple[ModelVersion, ...]:
        """Return the copies that are complete by their manifests, newest first."""
        found = [v for name in _names(folder) if _NAME.fullmatch(name) and (v := _manifest(folder, name))]
        return tuple(sorted(found, key=lambda version: (version.made, version.name), reverse=True))

    def spoilt(self, folder: str, version: ModelVersion) -> tuple[str, ...]:
        """Read a copy and return the names of files that are not as its manifest says."""
        return tuple(name for name, sha256 in version.files.items() if _sha256(folder, version.name, name) != sha256)

    def leftovers(self, folder: str) -> tuple[str, ...]:
        """Return folders that a killed writer has left; none while one is at work."""
        try:
            with locked(folder, make=False):
                return tuple(name for name in _names(folder) if _PARTIAL.fullmatch(name))
        except (_Refused, OSError):
            return ()

    def unfinished(self, folder: str) -> str:
        """Return the copy whose restore was begun and has not ended, empty when there is none."""
        try:
            with opened(folder, f"{VERSIONS}/{_RESTORING}", os.O_RDONLY) as handle:
                name = os.read(handle, 100).decode(errors="replace")
        except OSError:
            return ""
        return name if _NAME.fullmatch(name) else ""

    def keep(self, seen: FilesSeen, version: ModelVersion) -> NotKept | None:
        """Copy files as they were seen; the folder appears at once and whole, or not at all."""
        return _tried(seen.folder, lambda: _keep(seen, version))

    def approve(self, folder: str, name: str, by: str) -> NotKept | None:
        """Note in a copy's manifest what its hashes are trusted by."""
        return _tried(folder, lambda: _approve(folder, name, by))

    def restore(self, folder: str, name: str) -> NotKept | None:
        """Put the files of a copy back into service, each at once."""
        return _tried(folder, lambda: _restore(folder, name))

    def remove(self, folder: str, names: Sequence[str]) -> tuple[str, ...] | NotKept:
        """Remove copies and leftovers, never the one in service; return the names of those that are gone."""
        return _tried(folder, lambda: tuple(name for name in names if _remove(folder, name)))


def _tried[T](folder: str, work: Callable[[], T]) -> T | NotKept:
    """Do some work with the lock in hand; what is refused, or the machine refuses, is told."""
    try:
        with locked(folder):
            return work()
    except _Refused as error:
        return NotKept(str(error), "nothing was changed; correct that and run it again")
    except OSError as error:
        hint = (
            "make room, or let fewer copies be kept" if error.errno in _FULL else "look at the folder's owner and mode"
        )
        return NotKept(f"{folder}/{VERSIONS}: {error.strerror or error}", hint)


@contextmanager
def locked(folder: str, *, make: bool = True) -> Iterator[None]:
    """Hold the copies of a model, for as long as the block lasts. :raises _Refused: somebody else does."""
    if make:
        with opened(folder, "", _FOLDER) as place, contextlib.suppress(FileExistsError):
            os.mkdir(VERSIONS, 0o700, dir_fd=place)
    with opened(folder, f"{VERSIONS}/.lock", os.O_RDWR | os.O_CREAT) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _Refused("another worker is making or restoring a copy at this moment") from None
        yield


def _names(folder: str) -> list[str]:
    try:
        with opened(folder, VERSIONS, _FOLDER) as handle, os.scandir(handle) as entries:
            return [entry.name for entry in entries]
    except OSError:
        return []


def _manifest(folder: str, name: str) -> ModelVersion | None:
    """Read a copy's manifest; none when it is missing or is not one."""
    try:
        with opened(folder, f"{VERSIONS}/{name}/{MANIFEST}", os.O_RDONLY) as handle:
            version = ModelVersion.model_validate_json(os.read(handle, _MANIFEST_BYTES))
    except (OSError, pydantic.ValidationError):
        return None
    safe = all(_is_inside(file) for file in version.files)
    return version if version.name == name and safe and version.files else None


def _is_inside(name: str) -> bool:
    return bool(name) and not name.startswith("/") and not {"", ".", ".."} & set(name.split("/"))


def _sha256(folder: str, name: str, file: str) -> str:
    try:
        return read(folder, f"{VERSIONS}/{name}/{file}").sha256
    except OSError:
        return ""


def _is_whole(folder: str, version: ModelVersion) -> bool:
    return all(_sha256(folder, version.name, name) == sha256 for name, sha256 in version.files.items())


def _in_service(folder: str, name: str, sha256: str) -> bool:
    try:
        return read(folder, name).sha256 == sha256
    except OSError:
        return False


def _keep(seen: FilesSeen, version: ModelVersion) -> None:
    there = _manifest(seen.folder, version.name)
    if there and there.files == version.files and _is_whole(seen.folder, there):
        # Copied in the same second; names hold the time and the content.
        if version.approved and not there.approved:
            _approve(seen.folder, version.name, version.approved)
        return
    _room(seen.folder, version.size)
    partial = f".partial-{secrets.token_hex(8)}"
    with opened(seen.folder, VERSIONS, _FOLDER) as versions:
        os.mkdir(partial, 0o700, dir_fd=versions)
        try:
            _fill(seen.folder, version, partial)
            os.rename(partial, version.name, src_dir_fd=versions, dst_dir_fd=versions)
            os.fsync(versions)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True, dir_fd=versions)
            raise


def _room(folder: str, size: int) -> None:
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free < size + (1 << 20):
        raise _Refused(f"a copy takes {size} bytes and {free} are free")


def _fill(folder: str, version: ModelVersion, partial: str) -> None:
    """Write files and manifest of a copy, and read back what was written.

    :raises _Refused: a file is no longer as it was seen, or was not written as it was read.
    """
    with opened(folder, f"{VERSIONS}/{partial}", _FOLDER) as place:
        for name, sha256 in version.files.items():
            _make_folders(place, name)
            if _copy(folder, name, f"{VERSIONS}/{partial}/{name}") != sha256:
                raise _Refused(f"{name} changed while it was being copied")
            if _sha256(folder, partial, name) != sha256:
                raise _Refused(f"{name} was not written as it was read: look at the disk")
        replace(place, MANIFEST, version.model_dump_json(indent=1).encode())


def _copy(folder: str, source: str, target: str) -> str:
    """Copy a file to a new name, both below the folder, and return the SHA-256 of what was copied."""
    with opened(folder, source, os.O_RDONLY | os.O_NONBLOCK) as here, opened(folder, target, _NEW) as there:
        if not stat.S_ISREG(os.fstat(here).st_mode):
            raise _Refused(f"{source} is no regular file")
        os.fchmod(there, stat.S_IMODE(os.fstat(here).st_mode) & 0o666)
        return _poured(here, there)


def _poured(here: int, there: int) -> str:
    hashed = hashlib.sha256()
    while chunk := os.read(here, 1 << 20):
        hashed.update(chunk)
        while chunk:
            chunk = chunk[os.write(there, chunk) :]
    os.fsync(there)
    return hashed.hexdigest()


def replace(place: int, name: str, data: bytes) -> None:
    """Write a small file at once: it is there as before or as it is to be, whatever happens."""
    fresh = f".{name.lstrip('.')}-{secrets.token_hex(4)}"
    handle = os.open(fresh, _NEW | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=place)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(fresh, name, src_dir_fd=place, dst_dir_fd=place)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh, dir_fd=place)
        raise
    os.fsync(place)


def _approve(folder: str, name: str, by: str) -> None:
    version = _manifest(folder, name)
    if version is None:
        raise _Refused(f"there is no copy {name}")
    with opened(folder, f"{VERSIONS}/{name}", _FOLDER) as place:
        replace(place, MANIFEST, version.model_copy(update={"approved": by}).model_dump_json(indent=1).encode())


def _restore(folder: str, name: str) -> None:
    """Write every file of a copy aside, then rename them over those in service, under a note that it is going on."""
    version = _manifest(folder, name)
    if version is None:
        raise _Refused(f"there is no copy {name}")
    _room(folder, version.size)
    partial = f".partial-{secrets.token_hex(8)}"
    with opened(folder, VERSIONS, _FOLDER) as versions, opened(folder, "", _FOLDER) as place:
        os.mkdir(partial, 0o700, dir_fd=versions)
        try:
            _aside(folder, version, partial)
            replace(versions, _RESTORING, name.encode())
            for file in version.files:
                _make_folders(place, file)
                os.rename(f"{VERSIONS}/{partial}/{file}", file, src_dir_fd=place, dst_dir_fd=place)
            os.fsync(place)
            os.unlink(_RESTORING, dir_fd=versions)
            os.fsync(versions)
        finally:
            shutil.rmtree(partial, ignore_errors=True, dir_fd=versions)


def _aside(folder: str, version: ModelVersion, partial: str) -> None:
    """Write the files of a copy into a folder beside it, ready to be renamed. :raises _Refused: one is damaged."""
    with opened(folder, f"{VERSIONS}/{partial}", _FOLDER) as place:
        for file, sha256 in version.files.items():
            _make_folders(place, file)
            if _copy(folder, f"{VERSIONS}/{version.name}/{file}", f"{VERSIONS}/{partial}/{file}") != sha256:
                raise _Refused(f"copy {version.name} is damaged: {file} differs from its manifest")
            _as_before(folder, file, f"{VERSIONS}/{partial}/{file}")


def _make_folders(place: int, name: str) -> None:
    """Make the folders that a name lies in, where they are missing."""
    parts = name.split("/")
    for number in range(1, len(parts)):
        with contextlib.suppress(FileExistsError):
            os.mkdir("/".join(parts[:number]), 0o755, dir_fd=place)


def _as_before(folder: str, name: str, fresh: str) -> None:
    """Give a file the owner and mode of the one that it is going to replace, where there is one."""
    with contextlib.suppress(FileNotFoundError), opened(folder, name, os.O_RDONLY | os.O_NONBLOCK) as old:
        seen = os.fstat(old)
        with opened(folder, fresh, os.O_RDONLY) as new:
            os.fchmod(new, stat.S_IMODE(seen.st_mode))
            if os.geteuid() == 0:
                os.fchown(new, seen.st_uid, seen.st_gid)


def _remove(folder: str, name: str) -> bool:
    version = _manifest(folder, name) if _NAME.fullmatch(name) else None
    if version and all(_in_service(folder, file, sha256) for file, sha256 in version.files.items()):
        return False
    if not version and not _PARTIAL.fullmatch(name):
        return False
    with opened(folder, VERSIONS, _FOLDER) as versions:
        # Out of the way first: half of a copy must not pass for one.
        last = name if _PARTIAL.fullmatch(name) else f".partial-{secrets.token_hex(8)}"
        os.rename(name, last, src_dir_fd=versions, dst_dir_fd=versions)
        shutil.rmtree(last, dir_fd=versions)
    return True
