"""Compressed frames: zstd where the C library is there, else gzip. Several frames in a row are a valid file of either.

The library is the one that PostgreSQL's own programs link; Python brings it from 3.14 on (`compression.zstd`).
"""

from __future__ import annotations

import ctypes
import functools
import threading
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

from upkeep.core.errors import ConfigurationError, DamagedError

_NAMES = ("libzstd.so.1", "libzstd.1.dylib", "libzstd.so")
# https://facebook.github.io/zstd/zstd_manual.html: ZSTD_cParameter
_LEVEL, _CHECKSUM = 100, 201
_OUT = 1 << 20
_GZIP = 31  # zlib's wbits: a gzip header and the largest window


class Codec(Protocol):
    """One way of compressing."""

    suffix: str

    def compress(self, data: bytes, level: int) -> bytes:
        """Return one whole frame; other threads run meanwhile."""
        ...

    def decompress(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Decode frames in a row. :raises DamagedError: they are not what was compressed, or end in the middle."""
        ...


class _Buffer(ctypes.Structure):
    _fields_ = (("place", ctypes.c_void_p), ("size", ctypes.c_size_t), ("at", ctypes.c_size_t))


class Zstd:
    """Frames with the checksum of their content."""

    suffix = "zst"

    def __init__(self, library: Any) -> None:
        self._lib = library
        for name in ("ZSTD_createCCtx", "ZSTD_createDCtx"):
            getattr(library, name).restype = ctypes.c_void_p
        for name in ("ZSTD_compressBound", "ZSTD_compress2", "ZSTD_decompressStream", "ZSTD_CCtx_setParameter"):
            getattr(library, name).restype = ctypes.c_size_t
        library.ZSTD_getErrorName.restype = ctypes.c_char_p
        library.ZSTD_getErrorName.argtypes = (ctypes.c_size_t,)
        library.ZSTD_compressBound.argtypes = (ctypes.c_size_t,)
        void, size = ctypes.c_void_p, ctypes.c_size_t
        library.ZSTD_compress2.argtypes = (void, void, size, void, size)
        library.ZSTD_CCtx_setParameter.argtypes = (void, ctypes.c_int, ctypes.c_int)
        library.ZSTD_decompressStream.argtypes = (void, void, void)
        library.ZSTD_freeDCtx.argtypes = library.ZSTD_freeCCtx.argtypes = (void,)
        self._mine = threading.local()

    def compress(self, data: bytes, level: int) -> bytes:
        """Return one whole frame."""
        if not hasattr(self._mine, "room") or len(self._mine.room) < self._lib.ZSTD_compressBound(len(data)):
            self._mine.room = ctypes.create_string_buffer(self._lib.ZSTD_compressBound(len(data)))
        room, context = self._mine.room, self._lib.ZSTD_createCCtx()
        try:
            for name, value in ((_LEVEL, level), (_CHECKSUM, 1)):
                self._checked(self._lib.ZSTD_CCtx_setParameter(context, name, value))
            size = self._checked(self._lib.ZSTD_compress2(context, room, len(room), data, len(data)))
        finally:
            self._lib.ZSTD_freeCCtx(context)
        return ctypes.string_at(room, size)

    def decompress(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Decode frames in a row."""
        context = self._lib.ZSTD_createDCtx()
        room = ctypes.create_string_buffer(_OUT)
        left = 0
        try:
            for block in blocks:
                given = _Buffer(ctypes.cast(ctypes.c_char_p(block), ctypes.c_void_p), len(block), 0)
                full = False
                while given.at < given.size or full:
                    made = _Buffer(ctypes.addressof(room), _OUT, 0)
                    left = self._checked(
                        self._lib.ZSTD_decompressStream(context, ctypes.byref(made), ctypes.byref(given))
                    )
                    full = made.at == _OUT and left != 0
                    if made.at:
                        yield ctypes.string_at(room, made.at)
        finally:
            self._lib.ZSTD_freeDCtx(context)
        if left:
            raise DamagedError("compressed data end in the middle of a frame", "it is not what was written")

    def _checked(self, code: int) -> int:
        if self._lib.ZSTD_isError(ctypes.c_size_t(code)):
            seen = self._lib.ZSTD_getErrorName(code).decode()
            raise DamagedError(f"compressed data: {seen}", "it is not what was written")
        return code


class Gzip:
    """Members of a gzip file, each with the checksum of its content."""

    suffix = "gz"

    def compress(self, data: bytes, level: int) -> bytes:
        """Return one whole member."""
        packer = zlib.compressobj(min(level, 9), zlib.DEFLATED, _GZIP)
        return packer.compress(data) + packer.flush()

    def decompress(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Decode members in a row."""
        inner, begun = zlib.decompressobj(_GZIP), False
        try:
            for block in blocks:
                data = block
                while data:
                    yield inner.decompress(data)
                    begun, data = not inner.eof, inner.unused_data
                    if inner.eof:
                        inner = zlib.decompressobj(_GZIP)
        except zlib.error as error:
            raise DamagedError(f"compressed data: {error}", "it is not what was written") from None
        if begun:
            raise DamagedError("compressed data end in the middle of a member", "it is not what was written")


@functools.cache
def _library() -> Any:
    for name in _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def best() -> Codec:
    """Return the better way that this machine has."""
    return Zstd(_library()) if _library() is not None else Gzip()


def of(suffix: str) -> Codec:
    """Return the way by which a file with this suffix was compressed.

    :raises ConfigurationError: this machine lacks what it takes.
    """
    if suffix == Gzip.suffix:
        return Gzip()
    if _library() is None:
        raise ConfigurationError("libzstd is not on this machine", "install the package libzstd1 (libzstd)")
    return Zstd(_library())
