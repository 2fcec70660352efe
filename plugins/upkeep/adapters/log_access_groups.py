"""Counts by name and by response time, in bounded memory."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import repeat
from typing import Any

import numpy as np  # noqa: TID253 - imported by log_access inside its function only

from upkeep.adapters.log_access_batch import encoded
from upkeep.adapters.log_access_words import Array


class Table:
    """Rows of counters by name, of which the first one counts requests.

    Row 0 is that of all names that are not told apart. When there are more than twice `limit` names, those with the
    fewest requests are folded into it; a name that comes back later begins anew, so its counts may be too low by at
    most `at_most` (Manku and Motwani, Approximate Frequency Counts over Data Streams, 2002: lossy counting).
    """

    def __init__(self, columns: int, limit: int) -> None:
        """Make an empty table."""
        self.limit = limit
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

    def _look(self, names: list[bytes]) -> Array:
        return np.fromiter(map(self.index.get, names, repeat(-1)), np.int64, len(names))

    def _grow(self) -> None:
        if len(self.names) > len(self.counts):
            size = max(len(self.names), min(2 * len(self.counts), 2 * self.limit + 1))
            more = np.zeros((size - len(self.counts), self.counts.shape[1]), np.int64)
            self.counts = np.concatenate((self.counts, more))

    def _fold(self) -> None:
        """Keep the `limit` rows that matter most."""
        if len(self.index) > self.limit:
            order = np.argsort(-self.counts[1 : len(self.names), 0], kind="stable") + 1
            keep, drop = np.sort(order[: self.limit]), order[self.limit :]
            self.at_most += int(self.counts[drop, 0].max())
            self.counts[0] += self.counts[drop].sum(axis=0)
            kept = self.counts[keep]
            self.counts[1 : len(keep) + 1] = kept
            self.counts[len(keep) + 1 :] = 0
            self.names = [b"", *(self.names[n] for n in keep.tolist())]
            self.index = {name: n for n, name in enumerate(self.names) if n}
        self.capped = True


class Crowd:
    """Rows of counters by name, for names of which nearly every block has others; the first column counts requests.

    Names stay Arrow's, and of a column only what is not 0 is kept. What blocks bring is added up when there is enough
    of it. Folding is as in `Table`.
    """

    def __init__(self, columns: int, limit: int, precious: Sequence[int] = ()) -> None:
        """`precious` are columns of which one counts like 100 requests when it is decided whom to keep."""
        self.limit, self.precious = limit, list(precious)
        self.names: list[Any] = []
        self.counts: list[list[tuple[Array, Array]]] = [[] for _ in range(columns)]
        self.others = np.zeros(columns, np.int64)
        self.rows = self.at_most = 0
        self.capped = False

    def add(self, names: Any, counts: dict[int, Array]) -> None:
        """Count, for each of some names (which do not repeat), what is in some columns."""
        for column, values in counts.items():
            some = np.flatnonzero(values)
            self.counts[column].append((some + self.rows, values[some].astype(np.int64)))
        self.names.append(names)
        self.rows += len(names)
        if self.rows > 4 * self.limit:
            self._settle()

    def table(self) -> tuple[Any, Array]:
        """Return the names and their counters."""
        import pyarrow as pa

        if not self.names:
            return pa.array([], pa.binary()), np.zeros((0, len(self.others)), np.int64)
        names, columns = self._settle()
        return names, np.stack(columns, axis=1)

    def _settle(self) -> tuple[Any, list[Array]]:
        """Add up what has come, and fold what is too much."""
        import pyarrow as pa

        codes, names = encoded(pa.concat_arrays(self.names))
        columns = [self._column(codes, number, len(names)) for number in range(len(self.counts))]
        if len(names) > 2 * self.limit:
            names, columns = self._fold(names, columns)
        self.names, self.rows = [names], len(names)
        for number, column in enumerate(columns):
            some = np.flatnonzero(column)
            self.counts[number] = [(some, column[some])]
        return names, columns

    def _column(self, codes: Array, number: int, size: int) -> Array:
        """Return the sums of a column."""
        kept = self.counts[number]
        if not kept:
            return np.zeros(size, np.int64)
        rows, values = np.concatenate([r for r, _ in kept]), np.concatenate([v for _, v in kept])
        self.counts[number] = []
        # Sums are exact up to 2**53.
        return np.bincount(codes[rows], weights=values, minlength=size).astype(np.int64)

    def _fold(self, names: Any, columns: list[Array]) -> tuple[Any, list[Array]]:
        """Keep the `limit` rows that matter most."""
        worth = columns[0] + 100 * np.sum([columns[c] for c in self.precious], axis=0)
        order = np.argsort(-worth, kind="stable")
        keep, drop = np.sort(order[: self.limit]), order[self.limit :]
        self.others += np.array([column[drop].sum() for column in columns])
        self.at_most += int(columns[0][drop].max())
        self.capped = True
        return names.take(keep), [column[keep] for column in columns]


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
