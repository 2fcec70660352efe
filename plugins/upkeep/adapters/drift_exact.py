"""Two samples compared exactly, one column at a time: the same numbers that scipy gives, with a fixed amount of memory.

For data that are at hand as a whole: benchmarks, and two files side by side. Where only a profile is kept of one of
them, see `drift_cells`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from upkeep.adapters import drift_tests
from upkeep.adapters.profile_build import merged
from upkeep.adapters.profile_spill import PART, Spill

_FEW = 20
_SLICE = 250_000


class Exact(NamedTuple):
    """How much two samples of numbers differ; `bins` is how many classes PSI and Jensen-Shannon were computed from."""

    ks: float
    wasserstein: float
    normalised: float
    """Wasserstein distance in standard deviations of the reference."""
    psi: float
    jensen_shannon: float
    bins: int


class Sample:
    """Finite numbers of one column: in memory while they are few, else in a file.

    :param path: where they go when they are many.
    """

    def __init__(self, parts: Iterable[Any], path: Path) -> None:
        import numpy as np

        self._kept: list[Any] = []
        self._spill: Spill | None = None
        self.count, self._path = 0, path
        self.moments = (0, 0.0, 0.0)
        self.least, self.most = np.inf, -np.inf
        for part in parts:
            if len(part):
                self._add(np.asarray(part, dtype=np.float64))
        if self._spill is not None:
            self._spill.close()

    def _add(self, part: Any) -> None:
        self.count += len(part)
        self.moments = merged(self.moments, part)
        self.least, self.most = min(self.least, float(part.min())), max(self.most, float(part.max()))
        if self._spill is None and self.count <= PART:
            self._kept.append(part)
            return
        if self._spill is None:
            self._spill = Spill(self._path)
            for kept in self._kept:
                self._spill.add(kept)
            self._kept.clear()
        self._spill.add(part)

    @property
    def std(self) -> float:
        """Standard deviation, divided by the count."""
        return float((self.moments[2] / self.count) ** 0.5)

    def pivots(self) -> list[float]:
        """Return where to split it so that the parts fit into memory."""
        return self._spill.pivots() if self._spill else []

    def ordered(self, pivots: list[float]) -> Iterator[Any]:
        """Give the numbers in ascending order, split before and after each pivot."""
        import numpy as np

        if self._spill is not None:
            yield from self._spill.ordered(pivots)
            return
        values = np.sort(np.concatenate(self._kept))
        places = [np.searchsorted(values, pivots, side) for side in ("left", "right")]
        yield from np.split(values, np.stack(places).T.ravel())


def numbers(before: Sample, now: Sample) -> Exact:
    """Compare two samples of numbers.

    KS and Wasserstein as scipy's `ks_2samp` and `wasserstein_distance`. PSI and Jensen-Shannon over the classes that
    evidently makes: each value one when there are at most 20, else equal widths over both samples by Sturges' rule.
    """
    import numpy as np

    edges = _sturges(before, now)
    old, new = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    each: dict[float, list[int]] | None = {}
    ks = area = 0.0
    m, n, last = 0, 0, None
    pivots = sorted({*before.pivots(), *now.pivots()})
    for left, right in _slices(before.ordered(pivots), now.ordered(pivots)):
        points, gaps = _merged(left, right, (m, n), (before.count, now.count))
        if last is not None:
            area += abs(m / before.count - n / now.count) * float(points[0] - last)
        steps = np.diff(points)
        # Of equal numbers only the last has all of them below or at it.
        ks = max(ks, float(gaps[-1]), float((gaps[:-1] * (steps > 0)).max(initial=0.0)))
        area += float((gaps[:-1] * steps).sum())
        m, n, last = m + len(left), n + len(right), points[-1]
        old += _histogram(left, edges)
        new += _histogram(right, edges)
        each = _each(each, left, right, points)
    counts = np.array(list(each.values())).T if each else np.stack([old, new])
    return Exact(
        ks,
        area,
        area / max(before.std, 0.001),
        evidently_psi(*counts),
        drift_tests.jensen_shannon(*counts),
        len(counts[0]),
    )


def _slices(lefts: Iterator[Any], rights: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    """Cut sorted parts of two samples at the same places into slices that do not need much memory to be compared.

    A value at which is cut is a slice by itself: it may occur millions of times.
    """
    import numpy as np

    for sides in zip(lefts, rights, strict=True):
        if all(map(_is_one_value, sides)):
            if len(sides[0]) + len(sides[1]):
                yield sides
            continue
        cuts = np.unique(np.concatenate([side[_SLICE::_SLICE] for side in sides]))
        places = [np.stack([np.searchsorted(side, cuts, end) for end in ("left", "right")]).T.ravel() for side in sides]
        for slices in zip(*(np.split(side, place) for side, place in zip(sides, places, strict=True)), strict=True):
            if len(slices[0]) + len(slices[1]):
                yield slices


def _is_one_value(side: Any) -> bool:
    return not len(side) or bool(side[0] == side[-1])


def _merged(left: Any, right: Any, passed: tuple[int, int], counts: tuple[int, int]) -> tuple[Any, Any]:
    """Return two sorted parts as one, and how far the distribution functions are apart at each number.

    :param passed: how many numbers of each side came before these parts; `counts`: how many there are in all.
    """
    import numpy as np

    least, most = (f(side[at] for side in (left, right) if len(side)) for f, at in ((min, 0), (max, -1)))
    if least == most:
        gap = (passed[0] + len(left)) / counts[0] - (passed[1] + len(right)) / counts[1]
        return np.array([least]), np.array([abs(gap)])
    both = np.concatenate([left, right])
    order = np.argsort(both, kind="stable")  # two sorted halves: they are merged
    from_right = order >= len(left)
    rights = np.cumsum(from_right)
    lefts = np.arange(1, len(both) + 1) - rights
    gaps = (passed[0] + lefts) / counts[0]
    gaps -= (passed[1] + rights) / counts[1]
    return both[order], np.abs(gaps, out=gaps)


def _sturges(before: Sample, now: Sample) -> Any:
    """Return numpy's `histogram_bin_edges(..., bins="sturges")` of both samples together."""
    import numpy as np

    low, high = min(before.least, now.least), max(before.most, now.most)
    width = (high - low) / (np.log2(before.count + now.count) + 1.0)
    bins = int(np.ceil((high - low) / width)) if width else 1
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)


def _histogram(values: Any, edges: Any) -> Any:
    """Return the counts of sorted numbers in classes that are closed on the left, the last one on both sides."""
    import numpy as np

    return np.diff(np.append(_places(values, edges[:-1], "left"), _places(values, edges[-1], "right")))


def _places(values: Any, wanted: Any, side: Literal["left", "right"]) -> Any:
    """Return numpy's `searchsorted`, which would copy what is one value many times and takes no memory."""
    import numpy as np

    if len(values) and values.strides == (0,):
        return len(values) * np.searchsorted(values[:1], wanted, side)
    return np.searchsorted(values, wanted, side)


def _each(each: dict[float, list[int]] | None, left: Any, right: Any, points: Any) -> dict[float, list[int]] | None:
    """Count each value by itself, or return None as soon as there are too many of them."""
    import numpy as np

    if each is None or len(np.unique(points[:: len(points) // 1000 + 1])) > _FEW:
        return None
    starts = np.flatnonzero(np.diff(points, prepend=np.nan) != 0)[: _FEW + 2]
    for value in map(float, points[starts]):
        counts = each.setdefault(value, [0, 0])
        for position, side in enumerate((left, right)):
            counts[position] += int(_places(side, value, "right") - _places(side, value, "left"))
    return each if len(each) <= _FEW else None


def evidently_psi(before: Any, now: Any) -> float:
    """Return the PSI of two rows of counts as evidently computes it: empty classes get a share of 0.0001, or less."""
    import numpy as np

    shares = []
    for counts in (before, now):
        share = np.asarray(counts, dtype=np.float64) / counts.sum()
        least = share[share != 0].min()
        share[share == 0] = 0.0001 if least > 0.0001 else least / 1_000_000
        shares.append(share)
    return float(np.sum((shares[0] - shares[1]) * np.log(shares[0] / shares[1])))


def categories(before: dict[str, int], now: dict[str, int]) -> tuple[float, float, float, float]:
    """Return PSI and Jensen-Shannon distance of two sets of categories, and statistic and p of chi-square."""
    import numpy as np

    keys = sorted({*before, *now})
    old, new = (np.array([side.get(key, 0) for key in keys], dtype=np.float64) for side in (before, now))
    return (evidently_psi(old, new), drift_tests.jensen_shannon(old, new), *drift_tests.chi_square(old, new))
