"""Packing one file for the store and unpacking it again, in one pass each and with a fixed amount of memory."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from upkeep.core.errors import DamagedError, TransientError

_BLOCK = 1 << 20
# gzip packs at worst 0.1 % larger; a database unpacks to at most 1032 times its packed size (RFC 1951).
_HINT = "make a new backup, verify the others, look at the store"


def pack(source: Path, into: Path, level: int) -> None:
    """Compress a file. The same content gives the same bytes: no time and no name in the header.

    :raises TransientError: it cannot be read or written.
    """
    try:
        with (
            source.open("rb") as plain,
            into.open("xb") as raw,
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=level, mtime=0) as packed,
        ):
            while block := plain.read(_BLOCK):
                packed.write(block)
    except OSError as error:
        raise TransientError(
            f"{into}: {error.strerror}", "free space in the scratch folder; it is tried again"
        ) from error


def unpack(packed: Path, into: Path, limit: int) -> int:
    """Uncompress a file of at most `limit` bytes and return its size.

    :raises DamagedError: it is no gzip file, ends too early, fails its own checksum, or is longer.
    :raises TransientError: it cannot be written.
    """
    size = 0
    try:
        with gzip.open(packed, "rb") as source, into.open("xb") as plain:
            while block := source.read(_BLOCK):
                size += len(block)
                if size > limit:
                    raise DamagedError(f"{packed.name} unpacks to more than {limit} bytes", _HINT)
                plain.write(block)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DamagedError(f"{packed.name} cannot be unpacked: {error}", _HINT) from error
    except OSError as error:
        raise TransientError(f"{into}: {error.strerror}", "free space there; it is tried again") from error
    return size
