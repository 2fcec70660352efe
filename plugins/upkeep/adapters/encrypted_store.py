"""A store whose objects are encrypted on the worker; what lies outside cannot be read, nor changed unnoticed.

Not hidden: keys of objects (but see `name_of`), their sizes, when they were made, and what manifests say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from upkeep.adapters import encryption, encryption_keys
from upkeep.adapters.encryption_keys import Keys
from upkeep.adapters.object_store import BLOCK, Item, Store, Upload, Written
from upkeep.core.backup import BaseManifest
from upkeep.core.errors import ConfigurationError, NoKeyError


def keys_of(connection: Any) -> Keys:
    """Return the keys that an Airflow connection holds, and keep them out of every log.

    :raises ConfigurationError: what is wrong with them, without showing them.
    """
    from airflow.sdk.log import mask_secret

    try:
        extra = connection.extra_dejson
    except ValueError:
        raise ConfigurationError(
            f"connection {connection.conn_id!r}: extra is no JSON", 'write {"keys": {"2026-01": "<base64>"}}'
        ) from None
    given = extra.get("keys", {})
    # Airflow hides passwords, and in extra only what has a name that it takes for a secret's.
    for text in (connection.password, extra.get("naming"), *(given.values() if isinstance(given, dict) else (given,))):
        if isinstance(text, str) and text:
            mask_secret(text)
    return encryption_keys.keys_of(connection.login, connection.password, extra, f"connection {connection.conn_id!r}")


def reading(store: Store, manifest: BaseManifest) -> Store:
    """Return the store as the objects of this backup are to be read: those of before encryption as they are.

    :raises NoKeyError: the backup is encrypted, and its key is not at hand.
    """
    if isinstance(store, EncryptedStore):
        if not manifest.key_id:
            return store.inner
        store.keys.key(manifest.key_id, f"backup {manifest.id} of {manifest.target} in {store.location}")
    elif manifest.key_id:
        raise NoKeyError(
            f"backup {manifest.id} of {manifest.target} in {store.location} was made with key {manifest.key_id},"
            " and the system file names no keys for this store",
            "add `key_conn_id: <connection with the keys>` to the store in the system file",
        )
    return store


class EncryptedStore:
    """Another store, with everything encrypted that is not exempt (`encryption.CLEAR`).

    Sizes and hashes are those before encryption, as in manifests.
    """

    def __init__(self, inner: Store, keys: Keys) -> None:
        self.inner, self.keys = inner, keys
        self.location, self.key_id = inner.location, keys.current

    def write(self, key: str, source: Path) -> Written:
        """Encrypt and store a file in one pass; no copy of it is made on the way."""
        if _clear(key):
            return self.inner.write(key, source)
        with source.open("rb") as file:
            return self.write_blocks(key, iter(lambda: file.read(BLOCK), b""), source.stat().st_size)

    def write_blocks(self, key: str, blocks: Iterable[bytes], expected: int = 0) -> Written:
        """Encrypt and store what comes in blocks."""
        if _clear(key):
            return self.inner.write_blocks(key, blocks, expected)
        counted = _Counted(blocks)
        self.inner.write_blocks(key, encryption.seal(self.keys, key, counted), encryption.sealed_size(expected))
        return Written(counted.size, counted.seen.hexdigest())

    def write_bytes(self, key: str, data: bytes) -> Written:
        """Encrypt and store a small object."""
        if _clear(key):
            return self.inner.write_bytes(key, data)
        self.inner.write_bytes(key, b"".join(encryption.seal(self.keys, key, (data,))))
        return Written(len(data), hashlib.sha256(data).hexdigest())

    @contextmanager
    def read(self, key: str) -> Iterator[Iterator[bytes]]:
        """Open an object as blocks of bytes, each of them proved.

        :raises DamagedError: it is missing, or not what was written there (while blocks are read).
        :raises NoKeyError: the key that it was made with is not at hand.
        """
        with self.inner.read(key) as blocks:
            yield blocks if _clear(key) else encryption.unseal(self.keys, key, blocks, f"{self.location}/{key}")

    def list(self, prefix: str) -> Iterator[Item]:
        """List the objects whose key begins with `prefix`."""
        for item in self.inner.list(prefix):
            yield item if _clear(item.key) else item._replace(size=encryption.plain_size(item.size))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects."""
        self.inner.delete(keys)

    def now(self) -> datetime:
        """Return the present time by the clock that dates the objects."""
        return self.inner.now()

    def uploads(self, prefix: str) -> Iterator[Upload]:
        """List unfinished uploads in parts."""
        return self.inner.uploads(prefix)

    def abort(self, upload: Upload) -> None:
        """Give an unfinished upload up."""
        self.inner.abort(upload)

    def name_of(self, sha256: str) -> str:
        """Return a name for the object with this content that tells nothing of it, whatever the current key is."""
        return self.keys.name_of(sha256)

    def lock(self, keys: Iterable[str]) -> None:
        """Let the store refuse to remove these objects, where it is set to."""
        self.inner.lock(keys)

    def for_tier(self, tier: str) -> EncryptedStore:
        """Return this store, writing to the storage class of a tier."""
        return EncryptedStore(self.inner.for_tier(tier), self.keys)


class _Counted:
    """Blocks that are counted and hashed as they pass."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks, self.size, self.seen = blocks, 0, hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.size += len(block)
            self.seen.update(block)
            yield block


def _clear(key: str) -> bool:
    return key.rsplit("/", 1)[-1] in encryption.CLEAR
