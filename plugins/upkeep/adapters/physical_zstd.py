"""Compressed frames: zstd where the C library is there, else gzip. Several frames in a row are a valid file of either.

The library is the one that PostgreSQL's own programs link; Python brings it from 3.14 on (`compression.zstd`).
"""

from __future__ import annotations

import ctypes
import functools
import threading
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from upkeep.core.errors import ConfigurationError, DamagedError

_NAMES = ("libzstd.so.1", "libzstd.1.dylib", "libzstd.so")
# https://facebook.github.io/zstd/zstd_manual.html: ZSTD_cParameter
_LEVEL, _CHECKSUM = 100, 201
_TOO_SHORT = 72  # zstd_errors.h: ZSTD_error_srcSize_wrong
_LARGEST = 1 << 30  # our own frames are some MB large
_NOT_IT = "it is not what was written"
_GZIP = 31  # zlib's wbits: a gzip header and the largest window


Part = Callable[[], memoryview]
"""Decodes some of a stream when it is called; what it returns holds until the thread calls another one.

It raises `DamagedError` when the data are not what was compressed.
"""


class Codec(Protocol):
    """One way of compressing."""

    suffix: str

    def compress(self, data: bytes, level: int) -> bytes:
        """Return one whole frame; other threads run meanwhile."""
        ...

    def parts(self, blocks: Iterator[bytes]) -> Iterator[Part]:
        """Cut frames in a row into what threads can decode side by side.

        :raises DamagedError: they are not what was compressed, or end in the middle.
        """
        ...


class Zstd:
    """Frames with the checksum of their content."""

    suffix = "zst"

    def __init__(self, library: Any) -> None:
        self._lib = library
        void, size = ctypes.c_void_p, ctypes.c_size_t
        library.ZSTD_createCCtx.restype = void
        library.ZSTD_getErrorName.restype = ctypes.c_char_p
        library.ZSTD_getErrorName.argtypes = (size,)
        library.ZSTD_freeCCtx.argtypes = (void,)
        library.ZSTD_getFrameContentSize.restype = ctypes.c_ulonglong
        library.ZSTD_getFrameContentSize.argtypes = (void, size)
        for name, given in (
            ("compressBound", (size,)), ("compress2", (void, void, size, void, size)), ("isError", (size,)),
            ("CCtx_setParameter", (void, ctypes.c_int, ctypes.c_int)), ("findFrameCompressedSize", (void, size)),
            ("decompress", (void, size, void, size)),
            ("getErrorCode", (size,)),
        ):  # fmt: skip
            getattr(library, f"ZSTD_{name}").restype = size
            getattr(library, f"ZSTD_{name}").argtypes = given
        self._mine = threading.local()

    def compress(self, data: bytes, level: int) -> bytes:
        """Return one whole frame."""
        room, context = self._room("packed", self._lib.ZSTD_compressBound(len(data))), self._lib.ZSTD_createCCtx()
        try:
            for name, value in ((_LEVEL, level), (_CHECKSUM, 1)):
                self._checked(self._lib.ZSTD_CCtx_setParameter(context, name, value))
            size = self._checked(self._lib.ZSTD_compress2(context, room, len(room), data, len(data)))
        finally:
            self._lib.ZSTD_freeCCtx(context)
        return ctypes.string_at(room, size)

    def parts(self, blocks: Iterator[bytes]) -> Iterator[Part]:
        """Cut the stream into its frames; a part is one of them."""
        rest = b""
        for block in blocks:
            rest, at = rest + block if rest else block, 0
            while (size := self._frame(rest, at)) is not None:
                yield partial(self._decode, rest[at : at + size])
                at += size
            rest = rest[at:]
        if rest:
            raise DamagedError("compressed data end in the middle of a frame", _NOT_IT)

    def _frame(self, data: bytes, at: int) -> int | None:
        """Return the size of the frame at a place, or nothing while it is not whole."""
        size = self._lib.ZSTD_findFrameCompressedSize(_address(data, at), len(data) - at)
        if not self._lib.ZSTD_isError(size):
            return int(size)
        if self._lib.ZSTD_getErrorCode(size) != _TOO_SHORT or len(data) - at > _LARGEST:
            self._checked(size)
        return None

    def _decode(self, frame: bytes) -> memoryview:
        size = self._lib.ZSTD_getFrameContentSize(frame, len(frame))
        if size > _LARGEST:
            raise DamagedError("compressed data: a frame that does not tell its size, or too large a one", _NOT_IT)
        room = self._room("decoded", size)
        return memoryview(room)[: self._checked(self._lib.ZSTD_decompress(room, len(room), frame, len(frame)))].cast(
            "B"
        )

    def _room(self, name: str, size: int) -> Any:
        """Return a buffer of the calling thread, the same one each time while it is large enough."""
        room = getattr(self._mine, name, None)
        if room is None or len(room) < size:
            room = ctypes.create_string_buffer(max(size, 1))
            setattr(self._mine, name, room)
        return room

    def _checked(self, code: int) -> int:
        if self._lib.ZSTD_isError(code):
            seen = self._lib.ZSTD_getErrorName(code).decode()
            raise DamagedError(f"compressed data: {seen}", _NOT_IT)
        return code


class Gzip:
    """Members of a gzip file, each with the checksum of its content."""

    suffix = "gz"

    def compress(self, data: bytes, level: int) -> bytes:
        """Return one whole member."""
        packer = zlib.compressobj(min(level, 9), zlib.DEFLATED, _GZIP)
        return packer.compress(data) + packer.flush()

    def parts(self, blocks: Iterator[bytes]) -> Iterator[Part]:
        """Decode members in a row: where one ends is not known before, so there is nothing to do side by side."""
        inner, begun = zlib.decompressobj(_GZIP), False
        try:
            for block in blocks:
                data = block
                while data:
                    yield partial(_seen, inner.decompress(data))
                    begun, data = not inner.eof, inner.unused_data
                    if inner.eof:
                        inner = zlib.decompressobj(_GZIP)
        except zlib.error as error:
            raise DamagedError(f"compressed data: {error}", _NOT_IT) from None
        if begun:
            raise DamagedError("compressed data end in the middle of a member", _NOT_IT)


def _seen(data: bytes) -> memoryview:
    return memoryview(data)


def _address(data: bytes, at: int) -> int:
    start = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
    assert start is not None
    return start + at


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
