"""Numbers as counts between and at the edges of a profile: what is needed to compare them, whatever their number."""

from __future__ import annotations

import math
from typing import Any

from upkeep.adapters import drift_tests
from upkeep.core.drift import Aspect, ColumnProfile, Distribution, Effect

FEW = 20
"""Up to so many different values, every value is a class of its own."""
_NORMAL_IQR = 1.349
"""Interquartile range of a normal distribution with standard deviation 1."""
_DOMINATED = 3.0
"""When the standard deviation is so many times what the quartiles suggest, few far values make it."""


class Cells:
    """Counts the finite numbers of a column at and between edges. See `core.drift.ColumnProfile`."""

    def __init__(self, edges: Any) -> None:
        import numpy as np

        self.edges = np.asarray(edges, dtype=np.float64)
        self.at = np.zeros(len(self.edges), dtype=np.int64)
        self.between = np.zeros(len(self.edges) + 1, dtype=np.int64)
        self.sums = np.zeros(len(self.edges) + 1, dtype=np.float64)
        self.least, self.most = math.inf, -math.inf

    def add(self, values: Any) -> None:
        """Count some numbers."""
        import numpy as np

        # To sort ten thousand numbers and look the edges up among them costs a tenth of looking every number up.
        values = np.sort(values)
        if not len(values):
            return
        self.least, self.most = min(self.least, float(values[0])), max(self.most, float(values[-1]))
        left, right = (np.searchsorted(values, self.edges, side) for side in ("left", "right"))
        self.at += right - left
        starts, ends = np.append(0, right), np.append(left, len(values))
        self.between += ends - starts
        running = np.append(0.0, np.cumsum(values))
        self.sums += running[ends] - running[starts]

    @classmethod
    def of(cls, profile: ColumnProfile) -> Cells:
        """Return the counts of a profile."""
        import numpy as np

        cells = cls(profile.edges)
        cells.at, cells.between = (np.asarray(c, dtype=np.int64) for c in (profile.at, profile.between))
        cells.sums = np.asarray(profile.sums, dtype=np.float64)
        return cells

    @property
    def total(self) -> int:
        """How many numbers were counted."""
        return int(self.at.sum() + self.between.sum())

    def row(self) -> Any:
        """Return all counts from left to right: below the first edge, at it, between it and the second ..."""
        import numpy as np

        row = np.zeros(2 * len(self.edges) + 1, dtype=np.int64)
        row[0::2], row[1::2] = self.between, self.at
        return row

    def outside(self, low: float, high: float) -> int:
        """Return how many numbers lie outside of two edges."""
        import numpy as np

        first, last = (int(np.searchsorted(self.edges, edge)) for edge in (low, high))
        row = self.row()
        return int(row[: 2 * first + 1].sum() + row[2 * last + 2 :].sum())

    def quantile(self, share: float) -> float:
        """Return about the number below which a share of them lies."""
        import numpy as np

        row = self.row()
        running = np.cumsum(row)
        cell = int(np.searchsorted(running, share * running[-1]))
        position, inside = divmod(cell, 2)
        if inside:
            return float(self.edges[position])
        # Between two edges their mean is near enough, and beyond the last one all there is.
        return float(self.sums[position] / self.between[position]) if self.between[position] else float(
            self.edges[min(position, len(self.edges) - 1)])  # fmt: skip


def compare(profile: ColumnProfile, cells: Cells) -> Distribution:
    """Return how numbers are distributed now and in the profile."""
    import numpy as np

    before = Cells.of(profile)
    m, n = before.total, cells.total
    gaps = np.cumsum(cells.row()) / n - np.cumsum(before.row()) / m
    ks = float(np.abs(gaps).max())
    old, new = classes(profile, before, cells)
    floor = drift_tests.psi_floor(len(old), m, n)
    low, high, scale = _scale(profile)
    distance, shift = wasserstein(before, cells, low, high)
    effects = (
        Effect(method="PSI", value=drift_tests.psi(old, new), floor=floor),
        Effect(method="KS", value=ks),
        Effect(method="Wasserstein", value=distance / scale),
        Effect(method="Jensen-Shannon", value=drift_tests.jensen_shannon(old, new), floor=(floor / 8) ** 0.5),
    )
    said = _said(before, cells, distance, shift)
    if _few(profile):
        chi, p = drift_tests.classes_p(*drift_tests.pooled(old, new, [str(c) for c in range(len(old))]))
        return Distribution(effects=effects, test="chi-square", statistic=chi, p=p, said=said)
    return Distribution(effects=effects, test="KS", statistic=ks, p=drift_tests.ks_p(ks, m, n), said=said)


def outliers(profile: ColumnProfile, cells: Cells) -> Aspect | None:
    """Return which share lies outside of Tukey's outer fences, None where they mean nothing."""
    if profile.fences is None or not cells.total:
        return None
    before = Cells.of(profile)
    old, new = before.outside(*profile.fences), cells.outside(*profile.fences)
    p = drift_tests.share_p(old, before.total, new, cells.total)
    low, high = profile.fences
    return Aspect(
        name="outliers", before=old / before.total, now=new / cells.total, p=p, said=f"{low:.6g} to {high:.6g}"
    )


def constant(profile: ColumnProfile, cells: Cells) -> Aspect | None:
    """Return that all numbers are the same now, which they were not; None where they are not, or were."""
    before = Cells.of(profile).row()
    if not cells.total or cells.least < cells.most or before.max() == profile.values:
        return None
    share = float(before.max() / profile.values)
    return Aspect(name="constant", before=share, now=1.0, p=share**cells.total, said=f"{cells.least:.6g}")


def classes(profile: ColumnProfile, before: Cells, now: Cells) -> tuple[Any, Any]:
    """Return two rows of counts over the same classes: tenths of the profile, or its values where those are few."""
    import numpy as np

    old, new = before.row(), now.row()
    if _few(profile):
        old, new = (np.append(row[1::2], row[0::2].sum()) for row in (old, new))
    else:
        running = np.cumsum(old)[1::2]
        cuts = {int(np.searchsorted(running, running[-1] * tenth / 10)) for tenth in range(1, 10)}
        starts = [0, *(2 * cut + 2 for cut in sorted(cuts) if running[cut] < running[-1])]
        old, new = np.add.reduceat(old, starts), np.add.reduceat(new, starts)
    there = (old + new) > 0
    return old[there], new[there]


def _few(profile: ColumnProfile) -> bool:
    return sum(1 for count in profile.at if count) <= FEW and sum(profile.between) <= profile.values / 100


def _scale(profile: ColumnProfile) -> tuple[float | None, float | None, float]:
    """Return what a distance is divided by; where few far values make the standard deviation, also where they begin."""
    if profile.fences is not None:
        low, high = profile.fences
        usual = (high - low) / 7 / _NORMAL_IQR  # the fences are seven interquartile ranges apart
        if profile.std > _DOMINATED * usual:
            return low, high, usual
    return None, None, profile.std or abs(profile.edges[0]) or 1.0


def wasserstein(before: Cells, now: Cells, low: float | None = None, high: float | None = None) -> tuple[float, float]:
    """Return the area between two distribution functions, and by how much the mean has moved.

    Between two edges the area is exact unless the functions cross there: then they are taken as straight.

    :param low: with `high` the edges to which numbers are clipped first: far ones count no more than near ones.
    """
    import numpy as np

    edges, widths = before.edges, np.diff(before.edges)
    d_at, integral = np.zeros(len(edges)), np.zeros(max(len(edges) - 1, 0))
    d_before, tails = np.zeros(len(edges)), [0.0, 0.0]
    for cells, sign in ((before, -1.0), (now, 1.0)):
        running = np.cumsum(cells.row()) / cells.total
        d_before += sign * running[0:-1:2]
        d_at += sign * running[1::2]
        inner, sums = cells.between[1:-1], cells.sums[1:-1]
        integral += sign * (running[1:-2:2] * widths + (inner * edges[1:] - sums) / cells.total)
        tails[0] += sign * float(cells.between[0] * edges[0] - cells.sums[0]) / cells.total
        tails[1] += sign * float(cells.between[-1] * edges[-1] - cells.sums[-1]) / cells.total
    first, last = d_at[:-1], d_before[1:]
    crossing = first * last < 0
    straight = (first**2 + last**2) / np.where(crossing, 2 * (np.abs(first) + np.abs(last)), 1.0) * widths
    area = np.where(crossing, np.maximum(np.abs(integral), straight), np.abs(integral))
    if low is None or high is None:
        return float(area.sum() + abs(tails[0]) + abs(tails[1])), float(-integral.sum() - sum(tails))
    inside = (edges[:-1] >= low) & (edges[1:] <= high)
    return float(area[inside].sum()), float(-integral[inside].sum())


def _said(before: Cells, now: Cells, distance: float, shift: float) -> str:
    middle = f"median {before.quantile(0.5):.4g} -> {now.quantile(0.5):.4g}"
    if abs(shift) > distance / 2:
        return f"values went {'up' if shift > 0 else 'down'}, {middle}"
    spread = [c.quantile(0.9) - c.quantile(0.1) for c in (before, now)]
    word = "wider" if spread[1] > spread[0] else "narrower"
    return f"values lie {word} than before: middle 80 % span {spread[0]:.4g} -> {spread[1]:.4g}, {middle}"
