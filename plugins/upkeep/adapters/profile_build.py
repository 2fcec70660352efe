"""Builds a reference profile in one pass over the data, with a fixed amount of memory."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upkeep.adapters import drift_columns
from upkeep.adapters.drift_cells import Cells
from upkeep.adapters.profile_spill import Spill
from upkeep.core.drift import ColumnProfile, Kind
from upkeep.core.errors import TransientError

if TYPE_CHECKING:
    import pyarrow as pa

QUANTILES = 1000
"""Edges of a column of numbers: what lies between two of them, at most a thousandth, is what a KS may be off by."""
CATEGORIES = 10_000
"""More different values than that, or one in every second row, and a column is an identifier."""
_LEAST_ROWS = 200
_CHUNK = 250_000
_KEPT_FREE = 1 << 30


class Builder:
    """Takes batches and makes a profile of each column."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._columns: dict[str, _Column] = {}
        self.rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take a batch in.

        :raises TransientError: the disk is too full for what is kept until the end.
        """
        inferred = drift_columns.inferred(batch)
        if shutil.disk_usage(self._folder).free < _KEPT_FREE:
            raise TransientError(
                f"{self._folder}: less than 1 GB is free, and building a profile keeps eight bytes a number there",
                "make room, or let UPKEEP_SCRATCH_DIR name a larger disk",
            )
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            if name not in self._columns:
                self._columns[name] = _Column(self._folder / f"column-{len(self._columns)}")
            self._columns[name].add(array, inferred)
        self.rows += batch.num_rows

    def profiles(self) -> dict[str, ColumnProfile]:
        """Return the profile of every column."""
        return {name: column.profile(self.rows) for name, column in sorted(self._columns.items())}


@contextmanager
def builder(scratch: Path) -> Iterator[Builder]:
    """Give a builder; what it keeps on the disk is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="profile-", dir=scratch) as folder:
        yield Builder(Path(folder))


class _Column:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.kind: Kind = "empty"
        self.type = "null"
        self.rows = self.missing = self.infinite = self.lost = 0
        self._spill: Spill | None = None
        self._counts: dict[str, int] = {}

    def add(self, array: Any, inferred: bool) -> None:
        if self.kind == "empty" and array.null_count < len(array):
            self.kind, self.type = drift_columns.kind_of(array.type), str(array.type)
            self._spill = Spill(self._path) if self.kind == "number" else None
        seen = drift_columns.read(array, self.kind, inferred)
        self.rows += len(array)
        self.missing += seen.missing
        self.infinite += seen.infinite
        self.lost += seen.lost
        if self._spill is not None and seen.values is not None:
            self._spill.add(seen.values)
        elif self.kind == "category":
            for value, count in (seen.values or {}).items():
                self._counts[value] = self._counts.get(value, 0) + count
            if len(self._counts) > CATEGORIES:
                self.kind = "identifier"
                self._counts.clear()

    def profile(self, rows: int) -> ColumnProfile:
        # In files without the column, its values are missing.
        self.missing, self.rows = self.missing + rows - self.rows, rows
        known: dict[str, Any] = {"type": self.type, "rows": self.rows, "missing": self.missing}
        known |= {"infinite": self.infinite, "mismatched": self.lost}
        if self._spill is not None:
            self._spill.close()
            return ColumnProfile(kind="number", **known, **self._numbers(self._spill))
        # Values of single rows are not kept: they may name people, and tell nothing of tomorrow's.
        if self.kind == "category" and self.rows >= _LEAST_ROWS and len(self._counts) > self.rows / 2:
            self.kind = "identifier"
        counts = dict(sorted(self._counts.items())) if self.kind == "category" else {}
        return ColumnProfile(kind=self.kind, **known, counts=counts)

    def _numbers(self, spill: Spill) -> dict[str, Any]:
        if not spill.count:
            return {}
        edges, fences = _edges(spill)
        cells, moments = Cells(edges), (0, 0.0, 0.0)
        for chunk in _even(spill.ordered()):
            cells.add(chunk)
            moments = merged(moments, chunk)
        return {
            "edges": tuple(map(float, edges)),
            "at": tuple(map(int, cells.at)),
            "between": tuple(map(int, cells.between)),
            "sums": tuple(map(float, cells.sums)),
            "std": math.sqrt(moments[2] / moments[0]),
            "fences": fences,
        }


def _even(parts: Iterator[Any]) -> Iterator[Any]:
    """Give numbers in chunks of one size: then their sums are the same to the last digit in whatever order they came.

    A query without ORDER BY gives its rows in another order each time, and the profile must have the same hash.
    """
    import numpy as np

    held, size = list[Any](), 0
    for part in parts:
        at = 0
        while at < len(part):
            held.append(part[at : at + _CHUNK - size])
            at, size = at + len(held[-1]), size + len(held[-1])
            if size == _CHUNK:
                yield np.concatenate(held)
                held, size = [], 0
    if held:
        yield np.concatenate(held)


def _edges(spill: Spill) -> tuple[Any, tuple[float, float] | None]:
    """Return the edges, and the outer fences (Tukey, Exploratory data analysis, 1977), which are edges, too."""
    import numpy as np

    ranks = np.unique(np.ceil(np.linspace(0, 1, QUANTILES + 1) * (spill.count - 1)).astype(np.int64))
    quartiles = [round(share * (spill.count - 1)) for share in (0.25, 0.75)]
    found, quarter, passed = list[Any](), list[float](), 0
    for part in spill.ordered():
        found.append(part[ranks[(ranks >= passed) & (ranks < passed + len(part))] - passed])
        quarter += [float(part[q - passed]) for q in quartiles if passed <= q < passed + len(part)]
        passed += len(part)
    edges = np.unique(np.concatenate(found)) + 0.0  # there are two zeros, and they are equal
    reach = 3 * (quarter[1] - quarter[0])
    fences = (quarter[0] - reach, quarter[1] + reach)
    if not reach or not all(map(math.isfinite, fences)):
        return edges, None
    return np.unique(np.append(edges, fences)), fences


def merged(moments: tuple[int, float, float], values: Any) -> tuple[int, float, float]:
    """Return count, mean and sum of squared distances from it, after some more numbers.

    Chan, Golub, LeVeque: Algorithms for computing the sample variance (1983); sums of squares would lose all digits.
    """
    count, mean, squares = moments
    more = len(values)
    if not more:
        return moments
    other = float(values.mean())
    total, away = count + more, other - mean
    spread = float(((values - other) ** 2).sum())
    return total, mean + away * more / total, squares + spread + away**2 * count * more / total
