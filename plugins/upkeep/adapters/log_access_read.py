"""Reads the bytes of log files in blocks of whole lines, with bounded memory, compressed files included."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from upkeep.adapters.log_secrets import visible
from upkeep.core.access_log import AccessOptions
from upkeep.core.log_files import Segment, Unread

BLOCK = 4 << 20
_GZIP = b"\x1f\x8b"
_FREE = 64 << 20
"""A ratio says nothing of a small file: decoded bytes up to which none is judged."""


@dataclass(frozen=True)
class Block:
    """Whole lines of a file, beginning at `offset` of its text. `whole` is False for a piece of an overlong line.

    `ended` is False for the last line of a file that lacks its newline, which is added: it may be being written.
    """

    offset: int
    data: bytes
    whole: bool = True
    ended: bool = True


def read(segment: Segment, options: AccessOptions, unread: list[Unread]) -> Iterator[Block]:
    """Yield the lines of a segment; what of it cannot be read is added to `unread`, with the reason.

    A last line without newline is a line. A line longer than `max_line` is yielded once, as a block that is not `whole`
    and holds its beginning. A run of NULs before a line (copytruncate leaves them) is left out: it is no line.
    """
    try:
        with Path(segment.path).open("rb") as file:
            yield from _lines(_pieces(file, segment, options, unread), segment.start, int(options.max_line))
    except OSError as error:
        unread.append(_unread(segment, f"{error.strerror or error}", "let the account that runs maintenance read it"))


def _unread(segment: Segment, reason: str, hint: str) -> Unread:
    return Unread(path=visible(segment.path), reason=reason, hint=hint)


def _pieces(file: IO[bytes], segment: Segment, options: AccessOptions, unread: list[Unread]) -> Iterator[bytes]:
    """Yield the bytes of the segment, in pieces of at most `BLOCK`."""
    import os

    seen = os.fstat(file.fileno())
    if (seen.st_dev, seen.st_ino) != (segment.device, segment.inode):
        unread.append(_unread(segment, "another file has taken its place meanwhile", "the next run reads both"))
        return
    if segment.compressed:
        yield from _between(_inflated(file, seen.st_size, segment, options, unread), segment, unread)
        return
    file.seek(segment.start)
    left = seen.st_size - segment.start if segment.end is None else segment.end - segment.start
    while left > 0:
        piece = file.read(min(BLOCK, left))
        if not piece:
            reason = f"it ends {left:,} bytes before the place up to which it was to be read"
            unread.append(_unread(segment, reason, "it was truncated meanwhile: rotate by renaming, not copytruncate"))
            return
        left -= len(piece)
        yield piece


def _between(pieces: Iterator[bytes], segment: Segment, unread: list[Unread]) -> Iterator[bytes]:
    """Yield what lies between start and end of the decoded text."""
    at = 0
    for piece in pieces:
        begin = max(segment.start - at, 0)
        end = len(piece) if segment.end is None else min(segment.end - at, len(piece))
        at += len(piece)
        if begin < end:
            yield piece[begin:end]
        if segment.end is not None and at >= segment.end:
            return


def _inflated(
    file: IO[bytes], size: int, segment: Segment, options: AccessOptions, unread: list[Unread]
) -> Iterator[bytes]:
    """Yield the decoded text of a gzip file, of which several may stand one after the other."""
    if file.read(2) != _GZIP:
        unread.append(
            _unread(segment, "it is not compressed with gzip", "compress logs with gzip, or leave them plain")
        )
        return
    file.seek(0)
    made, coded = 0, b""
    decoder = zlib.decompressobj(wbits=31)
    try:
        while coded := coded or file.read(1 << 20):
            if decoder.eof:
                if not (coded := coded.lstrip(b"\0")):  # padding of a tape or a pipe
                    continue
                decoder = zlib.decompressobj(wbits=31)
            piece = decoder.decompress(coded, BLOCK)
            coded = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
            made += len(piece)
            if reason := _bomb(made, size, options):
                unread.append(_unread(segment, reason, "look at it by hand; if it is a log, raise the named setting"))
                return
            if piece:
                yield piece
    except zlib.error as error:
        unread.append(
            _unread(segment, f"it is damaged after {made:,} bytes of text: {error}", "see where it was copied")
        )
        return
    if not decoder.eof:
        reason = f"it ends in the middle, after {made:,} bytes of text"
        unread.append(_unread(segment, reason, "it is still being compressed, or its copy was cut off"))


def _bomb(made: int, size: int, options: AccessOptions) -> str:
    if made > options.max_decoded:
        return f"it decodes to more than {options.max_decoded.human_readable()} (`max_decoded`)"
    if made > _FREE and made > size * options.max_ratio:
        return f"it decodes to more than {options.max_ratio:g} times its size (`max_ratio`), as no log does"
    return ""


def _lines(pieces: Iterator[bytes], offset: int, longest: int) -> Iterator[Block]:
    """Cut pieces into blocks of whole lines."""
    carry, skipping = b"", False
    for piece in pieces:
        if skipping:
            end = piece.find(b"\n") + 1
            offset += end or len(piece)
            if not end:
                continue
            skipping = False
            data = piece[end:]
        else:
            data = carry + piece
        bare = data.lstrip(b"\0")
        offset += len(data) - len(bare)
        end = bare.rfind(b"\n") + 1
        if end:
            yield Block(offset, bare[:end])
        carry, offset = bare[end:], offset + end
        if len(carry) > longest:
            yield Block(offset, carry[:1000], whole=False)
            carry, offset, skipping = b"", offset + len(carry), True
    if carry:
        yield Block(offset, carry + b"\n", ended=False)
