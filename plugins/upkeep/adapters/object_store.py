"""Places for backups: an S3 bucket or a local folder, with one face."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from upkeep.core.errors import ConfigurationError, DamagedError, TransientError
from upkeep.core.targets import StoreRef

BLOCK = 1 << 20
_PART = ".part"
_UNFINISHED = re.compile(r"(.+)\.[0-9a-f]{8}\.part")


class Item(NamedTuple):
    """One object: key below the store's prefix, bytes, time of its last change by the store's clock."""

    key: str
    size: int
    modified: datetime


class Written(NamedTuple):
    """What was written: bytes and SHA-256, computed from the very bytes that were sent."""

    size: int
    sha256: str


class Upload(NamedTuple):
    """An upload in parts that nobody has completed."""

    key: str
    upload_id: str
    started: datetime


class Store(Protocol):
    """A place for objects. Every method raises `TransientError` or `ConfigurationError` when it does not serve."""

    location: str
    key_id: str
    """Id of the key that encrypts what is written; empty: nothing does."""

    def write(self, key: str, source: Path) -> Written:
        """Store a file, in one pass over it and with a fixed amount of memory; the store verifies what arrived."""
        ...

    def write_blocks(self, key: str, blocks: Iterable[bytes], expected: int = 0) -> Written:
        """Store what comes in blocks of any size, with a fixed amount of memory.

        :param expected: about how many bytes it will be; from 72 GB on S3 has to know.
        """
        ...

    def write_bytes(self, key: str, data: bytes) -> Written:
        """Store a small object."""
        ...

    def read(self, key: str) -> AbstractContextManager[Iterator[bytes]]:
        """Open an object as blocks of bytes. :raises DamagedError: there is no such object."""
        ...

    def list(self, prefix: str) -> Iterator[Item]:
        """List the objects whose key begins with `prefix`, in no promised order."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is not there is fine."""
        ...

    def now(self) -> datetime:
        """Return the present time by the clock that dates the objects."""
        ...

    def uploads(self, prefix: str) -> Iterator[Upload]:
        """List unfinished uploads in parts."""
        ...

    def abort(self, upload: Upload) -> None:
        """Give an unfinished upload up, so that its parts are not kept (and paid) for ever."""
        ...

    def name_of(self, sha256: str) -> str:
        """Return how the object with this content is to be called: its hash, or what tells nothing of the content."""
        ...

    def lock(self, keys: Iterable[str]) -> None:
        """Let the store refuse to remove these objects for as long as its `lock_days` say; without them, do nothing."""
        ...

    def for_tier(self, tier: str) -> Store:
        """Return this store, writing to the storage class of a tier (daily, weekly, monthly, quarterly)."""
        ...


def read_bytes(store: Store, key: str, limit: int = 256 << 20) -> bytes:
    """Read an object of at most `limit` bytes. :raises DamagedError: it is missing or longer."""
    data = bytearray()
    with store.read(key) as blocks:
        for block in blocks:
            data += block
            if len(data) > limit:
                raise DamagedError(f"{store.location}/{key} has more than {limit} bytes", "it is not what was written")
    return bytes(data)


def opener(connection: Callable[[str], Any]) -> Callable[[StoreRef], Store]:
    """Return what opens the store that a system file names.

    :param connection: gives the Airflow connection of an id.
    """

    def open_store(ref: StoreRef) -> Store:
        if ref.key_conn_id is None:
            return _opened(ref, connection)
        from upkeep.adapters.encrypted_store import EncryptedStore, keys_of

        keys = keys_of(connection(ref.key_conn_id))
        return EncryptedStore(_opened(ref, connection), keys)

    return open_store


def _opened(ref: StoreRef, connection: Callable[[str], Any]) -> Store:
    parts = urlsplit(ref.url)
    if parts.scheme == "file":
        return FolderStore(Path(ref.url.removeprefix("file://")))
    from upkeep.adapters.object_store_s3 import S3Store, client

    assert ref.conn_id is not None  # StoreRef refuses an s3 store without one
    store = S3Store(
        client(connection(ref.conn_id)),
        parts.netloc,
        parts.path.strip("/"),
        lock_days=ref.lock_days,
        classes={str(tier): name for tier, name in ref.storage_class.items()},
    )
    store.expect_lock()
    return store


def once(open_store: Callable[[StoreRef], Store]) -> Callable[[StoreRef], Store]:
    """Return what opens each store once: a client for S3 takes a tenth of a second to make; threads may share it."""
    opened: dict[str, Store] = {}

    def open_once(ref: StoreRef) -> Store:
        key = ref.model_dump_json()
        if key not in opened:
            opened[key] = open_store(ref)
        return opened[key]

    return open_once


class FolderStore:
    """A local (or mounted) folder. A file appears under its name only when it is whole and on the disk."""

    key_id = ""

    def __init__(self, folder: Path) -> None:
        if not folder.is_absolute():
            raise ConfigurationError(f"store folder {folder} is relative", "write file:///an/absolute/folder")
        self.folder = folder
        self.location = folder.as_uri()

    def write(self, key: str, source: Path) -> Written:
        """Copy a file: written beside its place, flushed to the disk, then renamed."""
        with self._told(key), source.open("rb") as file:
            return self._keep(key, iter(lambda: file.read(BLOCK), b""))

    def write_blocks(self, key: str, blocks: Iterable[bytes], expected: int = 0) -> Written:  # noqa: ARG002
        """Write what comes in blocks, like a file."""
        with self._told(key):
            return self._keep(key, iter(blocks))

    def write_bytes(self, key: str, data: bytes) -> Written:
        """Store a small object."""
        with self._told(key):
            return self._keep(key, iter((data,)))

    @contextmanager
    def read(self, key: str) -> Iterator[Iterator[bytes]]:
        """Open a file as blocks of bytes."""
        with self._told(key):
            file = self._path(key).open("rb")
        try:
            with file, self._told(key):
                yield iter(lambda: file.read(BLOCK), b"")
        except DamagedError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            # It is open, so what is missing is where its reader writes to: that says nothing of the backup.
            missing = f"{error.__cause__.filename}: {error.__cause__.strerror}"
            raise TransientError(missing, "look at who removes from the scratch folder; it is tried again") from error

    def list(self, prefix: str) -> Iterator[Item]:
        """List the files below the folder that `prefix` ends in, unfinished ones included."""
        with self._told(prefix):
            for path in _files(self._path(prefix)):
                with contextlib.suppress(FileNotFoundError):  # renamed by its writer a moment ago
                    seen = path.stat()
                    changed = datetime.fromtimestamp(seen.st_mtime, UTC)
                    yield Item(path.relative_to(self.folder).as_posix(), seen.st_size, changed)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove files, and folders that have become empty; no power cut brings back what is gone."""
        folders = set()
        for key in keys:
            with self._told(key):
                self._path(key).unlink(missing_ok=True)
            folders.add(self._path(key).parent)
        for folder in folders:
            with contextlib.suppress(OSError):
                _flush_names(folder)
                folder.rmdir()

    def now(self) -> datetime:
        """Return the present time."""
        return datetime.now(UTC)

    def uploads(self, prefix: str) -> Iterator[Upload]:  # noqa: ARG002
        """There are none: an unfinished file stands in the list under a name of its own."""
        return iter(())

    def abort(self, upload: Upload) -> None:
        """There is nothing to abort."""

    def name_of(self, sha256: str) -> str:
        """Return the hash."""
        return sha256

    def lock(self, keys: Iterable[str]) -> None:
        """A folder cannot."""

    def for_tier(self, tier: str) -> FolderStore:  # noqa: ARG002
        """There is one class of storage."""
        return self

    def _path(self, key: str) -> Path:
        if ".." in Path(key).parts or Path(key).is_absolute():
            raise ConfigurationError(f"{self.location}: key {key!r} leaves the folder", "correct target and file names")
        return self.folder / key

    def _keep(self, key: str, blocks: Iterator[bytes]) -> Written:
        path = self._path(key)
        made = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}{_PART}")
        size, seen = 0, hashlib.sha256()
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                for block in blocks:
                    seen.update(block)
                    size += file.write(block)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        for folder in (path.parent, *(one.parent for one in made)):
            _flush_names(folder)
        return Written(size, seen.hexdigest())

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Turn errors of the file system into errors that say what to do."""
        place = f"{self.location}/{key}"
        try:
            yield
        except FileNotFoundError as error:
            raise DamagedError(f"{place} is missing", "look at who removed it; make a new backup") from error
        except (PermissionError, NotADirectoryError, IsADirectoryError) as error:
            raise ConfigurationError(f"{place}: {error.strerror}", "let the worker's user write there") from error
        except OSError as error:
            raise TransientError(
                f"{place}: {error.strerror}", "free space or repair the disk; it is tried again"
            ) from error


def unfinished(name: str) -> str:
    """Return what a file in a folder was to be called whose writer was killed; empty when it is none."""
    match = _UNFINISHED.fullmatch(name)
    return match[1] if match else ""


def _files(folder: Path) -> Iterator[Path]:
    """Give all files below a folder; none where there is no such folder.

    `Path.rglob` passes over what it may not or cannot read. A list with gaps looks like fewer backups, and then what
    the others need would be removed: here it is an error.
    """
    try:
        with os.scandir(folder) as items:
            found = sorted(items, key=lambda item: item.name)
    except (FileNotFoundError, NotADirectoryError):
        return  # not there, or removed a moment ago
    for item in found:
        if item.is_dir():
            yield from _files(Path(item.path))
        else:
            yield Path(item.path)


def _flush_names(folder: Path) -> None:
    """Flush a rename to the disk: without it, a power cut may bring the old name back."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
