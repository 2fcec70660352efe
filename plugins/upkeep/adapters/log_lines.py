"""The text of a log file in blocks of whole lines, whatever is in it: compressed, torn, with lines of any length."""

from __future__ import annotations

import bz2
import lzma
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from upkeep.adapters.log_files import LogFile

PIECE = 1 << 20
LONGEST = 1 << 20
"""Bytes of a line above which only its beginning (`KEPT` bytes) is looked at."""
KEPT = 64 << 10
_RATIO = 900
"""Decoded bytes for one of gzip beyond which it is no log: text gives 5 to 100, and nothing gives more than 1032."""
_RATIO_FROM = 64 << 20


class MovedError(Exception):
    """A file is not what it was when the globs were read: rotated, truncated or gone. Look again."""


class SpoiltError(Exception):
    """The rest of a file cannot be read. The argument says why."""


@dataclass(frozen=True)
class Block:
    """Whole lines, beginning at an offset of the text; `size` is what they take there.

    Of a line that is too long `data` has the beginning, `cut` is 1. Only the last block may lack its newline.
    """

    offset: int
    data: bytes
    size: int
    cut: int = 0


class LogText:
    """The text of an opened log file."""

    def __init__(self, descriptor: int, file: LogFile, decoded_limit: int) -> None:
        self._fd, self.file, self._limit = descriptor, file, decoded_limit
        self._kind = _kind(os.pread(descriptor, 8, 0))

    @property
    def compressed(self) -> bool:
        """Whether offsets are those of what the file decodes to."""
        return self._kind is not None

    def head(self, length: int) -> bytes:
        """Return the first bytes of the text. :raises SpoiltError: they cannot be decoded."""
        out = b""
        for piece in self.pieces(0, None):
            out += piece
            if len(out) >= length:
                break
        return out[:length]

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of a file that is not compressed."""
        return os.pread(self._fd, length, offset)

    def pieces(self, start: int, end: int | None) -> Iterator[bytes]:
        """Yield the text from `start` to `end`; of a file that is not compressed at most to what it was at first.

        :raises MovedError: it has become shorter.
        :raises SpoiltError: it cannot be decoded any further.
        """
        if self._kind is None:
            yield from self._plain(start, self.file.size if end is None else min(end, self.file.size))
            return
        at = 0
        for piece in _decoded(self._raw(), self._kind, self._limit):
            low, high = max(start - at, 0), len(piece) if end is None else min(end - at, len(piece))
            if low < high:
                yield piece[low:high]
            at += len(piece)
            if end is not None and at >= end:
                return

    def readable(self) -> Iterator[bytes]:
        """Yield the text as far as it can be decoded. :raises MovedError: as `pieces`."""
        try:
            yield from self.pieces(0, None)
        except SpoiltError:
            return

    def before(self, offset: int, length: int) -> bytes:
        """Return the bytes before an offset. :raises MovedError, SpoiltError: as `pieces`."""
        return b"".join(self.pieces(max(offset - length, 0), offset))

    def _plain(self, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            piece = os.pread(self._fd, min(PIECE, end - start), start)
            if not piece:
                raise MovedError(f"{self.file.path} became shorter")
            start += len(piece)
            yield piece

    def _raw(self) -> Iterator[bytes]:
        at = 0
        while piece := os.pread(self._fd, 256 << 10, at):
            at += len(piece)
            yield piece

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[Block]:
        """Yield the lines from `start` to `end` in blocks. :raises MovedError, SpoiltError: as `pieces`."""
        yield from _blocks(self.pieces(start, end), start)


@contextmanager
def opened(file: LogFile, decoded_limit: int) -> Iterator[LogText]:
    """Open a log file for reading, without waiting for anybody.

    :raises MovedError: its path leads to another file by now.
    :raises OSError: we may not.
    """
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MovedError(f"{file.path} is gone") from None
    try:
        facts = os.fstat(descriptor)
        if (facts.st_dev, facts.st_ino) != (file.device, file.inode) or facts.st_size < file.size:
            raise MovedError(f"{file.path} was replaced")
        yield LogText(descriptor, file, decoded_limit)
    finally:
        os.close(descriptor)


def _kind(magic: bytes) -> str | None:
    """Tell how a file is compressed by its first bytes; a name may be wrong while a rotation is at work."""
    known = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst", b"\x1f\x9d": "Z"}
    return next((kind for start, kind in known.items() if magic.startswith(start)), None)


def _decoder(kind: str) -> Any:
    if kind == "gz":
        return zlib.decompressobj(wbits=31)
    if kind in ("bz2", "xz"):
        return bz2.BZ2Decompressor() if kind == "bz2" else lzma.LZMADecompressor(memlimit=256 << 20)
    raise SpoiltError(f"compressed with {kind}, which is not read here (gzip, bzip2 and xz are)")


def _decoded(raw: Iterator[bytes], kind: str, limit: int) -> Iterator[bytes]:
    """Yield what compressed bytes decode to, one member after the other, in pieces of bounded size."""
    decoder, taken, given = _decoder(kind), 0, 0
    try:
        for piece in raw:
            taken += len(piece)
            data = piece
            while data := data.lstrip(b"\0") if decoder.eof else data:  # NULs after a member are padding
                if decoder.eof:
                    decoder = _decoder(kind)
                for text in _texts(decoder, data):
                    given += len(text)
                    _refuse_bomb(given, taken, kind, limit)
                    yield text
                data = decoder.unused_data
    except (zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        raise SpoiltError(f"damaged after {given} bytes of text: {error}") from error
    if not decoder.eof:
        raise SpoiltError(f"ends in the middle, after {given} bytes of text: cut off, or still being compressed")


def _texts(decoder: Any, data: bytes) -> Iterator[bytes]:
    """Yield what some input decodes to, at most `PIECE` bytes at a time, until the decoder wants more."""
    while True:
        text = decoder.decompress(data, PIECE)
        # zlib hands back what it has not taken yet, the others keep it.
        data = getattr(decoder, "unconsumed_tail", b"")
        if text:
            yield text
        if decoder.eof or (not data and len(text) < PIECE and getattr(decoder, "needs_input", True)):
            return


def _refuse_bomb(given: int, taken: int, kind: str, limit: int) -> None:
    if given > limit or (kind == "gz" and given > _RATIO_FROM and given > _RATIO * taken):
        raise SpoiltError(f"decodes to more than {given >> 20} MiB from {taken >> 10} KiB: that is no log")


class _LongLine:
    """A line whose beginning alone is kept, without NULs before it (a hole that copytruncate left)."""

    def __init__(self) -> None:
        self.kept, self.size = b"", 0

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if len(self.kept) < KEPT:
            self.kept = (self.kept + part).lstrip(b"\0")[:KEPT]

    def block(self, offset: int) -> Block:
        return Block(offset, self.kept.rstrip(b"\n") + b"\n", self.size, 1)


def _blocks(pieces: Iterator[bytes], offset: int) -> Iterator[Block]:
    """Join pieces into blocks of whole lines; where pieces end must not matter to what is seen."""
    carry, line = b"", None
    for piece in pieces:
        data = carry + piece
        first = data.find(b"\n") + 1
        if line is None and len(data) > LONGEST and not 0 < first <= LONGEST + 1:
            line = _LongLine()
        if line is not None:
            line.add(data[:first] if first else data)
            carry = b""
            if not first:
                continue
            yield line.block(offset)
            offset, data, line = offset + line.size, data[first:], None
        end = data.rfind(b"\n") + 1
        if end:
            yield Block(offset, data[:end], end)
            offset += end
        carry = data[end:]
    if line is not None:
        yield line.block(offset)
    if carry:
        yield Block(offset, carry, len(carry))
