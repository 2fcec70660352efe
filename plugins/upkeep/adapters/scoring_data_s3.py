"""Files below an address in S3, opened so that only the parts that are needed are fetched."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from upkeep.adapters.object_store_s3 import S3Store, client

AHEAD = 4 << 20
"""Bytes fetched at a time when less is asked for: readers of CSV ask for little, but go on from there."""


class _Bucket(S3Store):
    def part(self, key: str, first: int, size: int, tag: str) -> bytes:
        """Return `size` bytes from `first` on, of the same object as before."""
        with self._told(key):
            asked = {"Range": f"bytes={first}-{first + size - 1}", "IfMatch": tag}
            found = self._client.get_object(Bucket=self._bucket, Key=self._key(key), **asked)
            return cast(bytes, found["Body"].read())

    def tag(self, key: str) -> str:
        """Return what changes when the object does."""
        with self._told(key):
            return str(self._client.head_object(Bucket=self._bucket, Key=self._key(key))["ETag"])


class _Object(io.RawIOBase):
    """An object as a file."""

    def __init__(self, bucket: _Bucket, key: str, size: int) -> None:
        self._bucket, self._key, self._size = bucket, key, size
        self._tag = bucket.tag(key)
        self._at, self._start, self._kept = 0, 0, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        size = min(self._size - self._at if size < 0 else size, self._size - self._at)
        if size <= 0:
            return b""
        if not self._start <= self._at <= self._at + size <= self._start + len(self._kept):
            wanted = min(max(size, AHEAD), self._size - self._at)
            self._start, self._kept = self._at, self._bucket.part(self._key, self._at, wanted, self._tag)
        offset = self._at - self._start
        self._at += size
        return self._kept[offset : offset + size]


def files(address: str, connection: Any) -> list[tuple[str, Callable[[], AbstractContextManager[BinaryIO]]]]:
    """Return address and opener of every object whose key begins with the address's, in the order of their keys.

    :raises ConfigurationError: the store does not let us in, or has no such bucket.
    :raises TransientError: it is away; opening and reading raise the same.
    """
    parts = urlsplit(address)
    bucket = _Bucket(client(connection), parts.netloc)

    def opener(key: str, size: int) -> Callable[[], AbstractContextManager[BinaryIO]]:
        return lambda: cast("AbstractContextManager[BinaryIO]", _Object(bucket, key, size))

    found = sorted((item.key, item.size) for item in bucket.list(parts.path.lstrip("/")))
    return [(f"s3://{parts.netloc}/{key}", opener(key, size)) for key, size in found if size]
