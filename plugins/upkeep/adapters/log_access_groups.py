"""Counts by name and by response time, in bounded memory."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np  # noqa: TID253 - imported by log_access inside its function only

from upkeep.adapters.log_access_words import Array


class Table:
    """Rows of counters by name, of which the first one counts requests.

    Row 0 is that of all names that are not told apart. When there are more than twice `limit` names, those with the
    fewest requests are folded into it; a name that comes back later begins anew, so its counts may be too low by at
    most `at_most` (Manku and Motwani, Approximate Frequency Counts over Data Streams, 2002: lossy counting).
    """

    def __init__(self, columns: int, limit: int, precious: Sequence[int] = ()) -> None:
        """`precious` are columns of which one counts like 100 requests when it is decided whom to keep."""
        self.limit, self.precious = limit, list(precious)
        self.names: list[bytes] = [b""]
        self.index: dict[bytes, int] = {}
        self.counts = np.zeros((256, columns), np.int64)
        self.at_most = 0
        self.capped = False

    def rows(self, names: list[bytes], weight: Array) -> Array:
        """Return the row of each name, of which `weight` requests are about to be counted."""
        found = self._look(names)
        fresh = np.flatnonzero(found < 0)
        if not len(fresh):
            return found
        if len(self.index) + len(fresh) > 2 * self.limit:
            self._fold()
            found = self._look(names)
            fresh = np.flatnonzero(found < 0)
            room = 2 * self.limit - len(self.index)
            if len(fresh) > room:
                order = np.argsort(-weight[fresh], kind="stable")
                few = fresh[order[room:]]
                found[few] = 0
                self.at_most += int(weight[few].max())
                fresh = np.sort(fresh[order[:room]])
        found[fresh] = np.arange(len(fresh)) + len(self.names)
        for place in fresh.tolist():
            self.index[names[place]] = len(self.names)
            self.names.append(names[place])
        self._grow()
        return found

    def add(self, rows: Array, column: int, amount: Array | int = 1) -> None:
        """Count something for rows, which may occur several times."""
        np.add.at(self.counts[:, column], rows, amount)

    def worth(self) -> Array:
        """Return how much each row matters, row 0 left out."""
        used = self.counts[1 : len(self.names)]
        worth: Array = used[:, 0] + 100 * used[:, self.precious].sum(axis=1)
        return worth

    def _look(self, names: list[bytes]) -> Array:
        get = self.index.get
        return np.fromiter((get(name, -1) for name in names), np.int64, len(names))

    def _grow(self) -> None:
        if len(self.names) > len(self.counts):
            size = max(len(self.names), min(2 * len(self.counts), 2 * self.limit + 1))
            more = np.zeros((size - len(self.counts), self.counts.shape[1]), np.int64)
            self.counts = np.concatenate((self.counts, more))

    def _fold(self) -> None:
        """Keep the `limit` rows that matter most."""
        if len(self.index) > self.limit:
            order = np.argsort(-self.worth(), kind="stable") + 1
            keep, drop = np.sort(order[: self.limit]), order[self.limit :]
            self.at_most += int(self.counts[drop, 0].max())
            self.counts[0] += self.counts[drop].sum(axis=0)
            kept = self.counts[keep]
            self.counts[1 : len(keep) + 1] = kept
            self.counts[len(keep) + 1 :] = 0
            self.names = [b"", *(self.names[n] for n in keep.tolist())]
            self.index = {name: n for n, name in enumerate(self.names) if n}
        self.capped = True


class Few[K: Hashable]:
    """Counts by a key, of which at most twice `limit` are kept: the ones with the highest counts."""

    def __init__(self, limit: int) -> None:
        self.limit, self.counts = limit, dict[K, int]()
        self.folded = self.at_most = 0

    def add(self, key: K, count: int) -> None:
        """Count something."""
        self.counts[key] = self.counts.get(key, 0) + count
        if len(self.counts) > 2 * self.limit:
            ranked = sorted(self.counts.items(), key=lambda item: -item[1])
            self.at_most += ranked[self.limit][1]
            self.folded += sum(n for _, n in ranked[self.limit :])
            self.counts = dict(ranked[: self.limit])

    def top(self, count: int) -> list[tuple[K, int]]:
        """Return the highest counts."""
        return sorted(self.counts.items(), key=lambda item: (-item[1], str(item[0])))[:count]


def bucket(values: Array, bits: int, highest: int) -> Array:
    """Return the bucket of whole numbers: those below 2**bits have one each, above it 2**(bits-1) for each doubling.

    A bucket is never wider than its values divided by 2**(bits-1); numbers of `highest` bits and more share the last.
    (The scheme of HdrHistogram.)
    """
    values = np.clip(values, 0, (1 << highest) - 1)
    # frexp is exact for numbers below 2**53.
    shift = np.maximum(np.frexp(values.astype(np.float64))[1].astype(np.int64) - bits, 0)
    made: Array = (shift << (bits - 1)) + (values >> shift)
    return made


def buckets(bits: int, highest: int) -> int:
    """Return how many buckets there are."""
    return (1 << bits) + ((highest - bits) << (bits - 1))


def middle(number: int, bits: int) -> float:
    """Return the value that stands for a bucket: the number itself, or the middle of those that share it."""
    half = 1 << (bits - 1)
    shift = max(number // half - 1, 0)
    low = (number - shift * half) << shift
    return low + ((1 << shift) - 1) / 2


def percentile(counts: Any, share: float, bits: int) -> float:
    """Return the value that `share` of the counted ones do not exceed (nearest rank)."""
    total = int(counts.sum())
    rank = max(int(np.ceil(share * total - 1e-9)), 1)
    return middle(int(np.searchsorted(np.cumsum(counts), rank)), bits)
