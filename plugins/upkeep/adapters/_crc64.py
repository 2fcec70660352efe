"""The checksum at the end of an RDB: CRC-64 with Jones' polynomial, as Redis computes it.

Source: redis/src/crc64.c (`crc-64-jones`: reflected, polynomial ad93d23594c935a9, no initial value). Eight bytes a step
by four tables of 65536: 8 MB/s measured in CPython, where one byte a step makes 2.
"""

from __future__ import annotations

import functools
import struct

_POLYNOMIAL = 0x95AC9329AC4BC9B5  # ad93d23594c935a9 with its bits reversed


def crc64(data: bytes, crc: int = 0) -> int:
    """Return the checksum of `data`, which follows what `crc` is the checksum of.

    >>> f"{crc64(b'123456789'):016x}"
    'e9c6d914c4b8d9ca'
    """
    lowest, low, high, highest = _wide()
    whole = len(data) // 8 * 8
    for word in struct.unpack(f"<{whole // 8}Q", data[:whole]):
        crc ^= word
        crc = highest[crc & 0xFFFF] ^ high[crc >> 16 & 0xFFFF] ^ low[crc >> 32 & 0xFFFF] ^ lowest[crc >> 48]
    narrow = _narrow()
    for byte in data[whole:]:
        crc = narrow[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc


@functools.cache
def _narrow() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    return table


@functools.cache
def _wide() -> tuple[list[int], ...]:
    """Return the tables for two bytes that have 0, 2, 4 and 6 bytes behind them."""
    narrow = _narrow()

    def further(crc: int) -> int:
        crc = narrow[crc & 0xFF] ^ crc >> 8
        return narrow[crc & 0xFF] ^ crc >> 8

    tables = [[further(value) for value in range(1 << 16)]]
    for _ in range(3):
        tables.append([further(value) for value in tables[-1]])
    return tuple(tables)
