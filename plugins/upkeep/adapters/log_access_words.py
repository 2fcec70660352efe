"""Reads fixed places of many lines at once, as words of eight bytes: what makes reading access logs fast.

A text of n bytes is seen as n overlapping little-endian words, one for each place, so that the eight bytes at given
places of all lines are one array, which is compared and added like any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np  # noqa: TID253 - imported by log_access inside its function only
import numpy.typing as npt  # noqa: TID253

Array = npt.NDArray[Any]
FRONT, BACK = 64, 64
"""Bytes that must stand before and behind the text, for the words at its edges."""
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)


def u(value: int) -> np.uint64:
    """Return a number as a word."""
    return np.uint64(value)


def word(text: bytes) -> np.uint64:
    """Return up to eight bytes as a word, the first one lowest.

    >>> word(b"AB") == 0x4241
    True
    """
    return np.uint64(int.from_bytes(text, "little"))


def view(buffer: Array) -> Array:
    """Return the words of a buffer of bytes: element i is made of the bytes from i to i + 7."""
    return np.lib.stride_tricks.as_strided(buffer[:8].view("<u8"), shape=(len(buffer) - 7,), strides=(1,))


def low(count: Array) -> Array:
    """Return masks of the first (lowest) `count` bytes, 0 to 8."""
    bits = np.minimum(count, 7).astype(np.uint64) * u(8)
    return np.where(count >= 8, _ONES, (u(1) << bits) - u(1))


def digits(words: Array) -> Array:
    """Tell which words are eight decimal digits."""
    ascii_high = u(0xF0F0F0F0F0F0F0F0)
    threes = u(0x3030303030303030)
    high_ok = (words & ascii_high) == threes
    # 0x3A..0x3F carry into the high half when 6 is added; 0x30..0x39 do not.
    both: Array = high_ok & (((words + u(0x0606060606060606)) & ascii_high) == threes)
    return both


def number(words: Array) -> Array:
    """Return the value of words of eight decimal digits, the first one the most significant (three multiplications)."""
    pairs = ((words & u(0x0F0F0F0F0F0F0F0F)) * u(2561)) >> u(8)
    fours = ((pairs & u(0x00FF00FF00FF00FF)) * u(6553601)) >> u(16)
    return (((fours & u(0x0000FFFF0000FFFF)) * u(42949672960001)) >> u(32)).astype(np.int64)


def first(words: Array, byte: int) -> Array:
    """Return the place (0 to 7) of the first such byte in words; 8: there is none.

    Subtracting one from every byte borrows from the highest bit of those that are zero (Mycroft, 1987).
    """
    zero = words ^ u(byte * 0x0101010101010101)
    high = (zero - u(0x0101010101010101)) & ~zero & u(0x8080808080808080)
    below = (high & (~high + u(1))) - u(1)  # ones below the lowest such bit; all ones where there is none
    return np.bitwise_count(below).astype(np.int64) >> 3


def right_number(words: Array, count: Array) -> tuple[Array, Array]:
    """Return the numbers written in the last `count` (1 to 8) bytes of words, and which of them are numbers."""
    front = low(8 - count)
    filled = (words & ~front) | (u(0x3030303030303030) & front)
    fine = digits(filled) & (count >= 1) & (count <= 8)
    return number(filled), fine


def strings(buffer: Array, words: Array, start: Array, end: Array) -> Any:
    """Return the texts from `start` to `end` as an Arrow array of binary.

    They are first described as views (length, beginning or all of it if up to 12 bytes, buffer, place), which needs
    no copying here; Arrow then gathers the bytes.
    """
    import pyarrow as pa

    size = (end - start).astype(np.uint64)
    views = np.empty((len(start), 2), np.uint64)
    first = words[start]
    short = size <= u(12)
    views[:, 0] = size | ((first & u(0xFFFFFFFF)) << u(32))
    views[:, 1] = start.astype(np.uint64) << u(32)
    where = np.flatnonzero(short)
    if len(where):
        few = size[where].astype(np.int64)
        views[where, 0] = size[where] | ((first[where] & low(np.minimum(few, 4))) << u(32))
        views[where, 1] = words[start[where] + 4] & low(np.maximum(few - 4, 0))
    array = pa.Array.from_buffers(
        pa.binary_view(), len(start), [None, pa.py_buffer(np.ascontiguousarray(views)), pa.py_buffer(buffer)]
    )
    return array.cast(pa.binary())
