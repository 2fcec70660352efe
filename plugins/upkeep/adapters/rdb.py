"""Redis' dump format as far as it tells whether a file is whole: header, notes of the server, end, checksum.

https://github.com/redis/redis/blob/unstable/src/rdb.h; `VALKEY` and three digits is how Valkey 9 begins its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from upkeep.adapters._crc64 import crc64
from upkeep.core.errors import DamagedError

_MAGIC = re.compile(rb"(REDIS\d{4}|VALKEY\d{3})")
_BLOCK = 1 << 20
_HEAD = 1 << 16
_AUX, _END = 0xFA, 0xFF
_HINT = "it was cut off or altered on its way; make a new backup"


class Rdb(NamedTuple):
    """What a file says of itself. `checksum` is empty when the server was told not to write one."""

    format: str
    size: int
    checksum: str
    notes: dict[str, str]


def look(path: Path, whole: bool = True) -> Rdb:
    """Read a file; with `whole` every byte of it, for its checksum.

    :raises DamagedError: it is no RDB, ends too early, or its checksum is not that of its content.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD)
        magic = _MAGIC.match(head)
        if not magic or size < len(magic[0]) + 9:
            raise DamagedError(f"{path.name}: {size} bytes that begin with {head[:9]!r}; expected an RDB", _HINT)
        file.seek(size - 9)
        end = file.read(9)
    if end[0] != _END:
        raise DamagedError(f"{path.name}: no end mark before its checksum, in {size} bytes", _HINT)
    expected = int.from_bytes(end[1:], "little")
    if whole and expected and (seen := _checksum(path, size - 8)) != expected:
        raise DamagedError(f"{path.name}: its checksum is {seen:016x}, expected {expected:016x}", _HINT)
    return Rdb(magic[0].decode(), size, f"{expected:016x}" if expected else "", dict(_notes(head, len(magic[0]))))


def _checksum(path: Path, size: int) -> int:
    crc = 0
    with path.open("rb") as file:
        while size and (block := file.read(min(_BLOCK, size))):
            crc, size = crc64(block, crc), size - len(block)
    return crc


def _notes(head: bytes, at: int) -> Iterator[tuple[str, str]]:
    """Give the names and values that stand before the data."""
    while at < len(head) and head[at] == _AUX:
        try:
            key, at = _string(head, at + 1)
            value, at = _string(head, at)
        except (IndexError, ValueError):
            return
        yield key, value


def _string(data: bytes, at: int) -> tuple[str, int]:
    """Return a short string or an integer, and where the next thing begins."""
    first = data[at]
    if first >> 6 == 0:
        length, at = first, at + 1
    elif first >> 6 == 1:
        length, at = (first & 0x3F) << 8 | data[at + 1], at + 2
    elif first in (0xC0, 0xC1, 0xC2):
        width = 1 << (first & 3)
        return str(int.from_bytes(data[at + 1 : at + 1 + width], "little", signed=True)), at + 1 + width
    else:
        raise ValueError("not among what notes are written with")
    return data[at : at + length].decode(errors="replace"), at + length
