"""Measures of how much two distributions differ, and how likely chance alone brings such a difference about.

Sources: scipy's `ks_2samp`, `wasserstein_distance`, `jensenshannon` and `chi2_contingency`, whose values these equal.
Only `scipy.special` is imported: `scipy.stats` takes four times as long.
"""

from __future__ import annotations

from typing import Any

LEAST_EXPECTED = 5.0
"""Cochran's rule: chi-square needs at least five expected rows in every class."""
RARE = 0.01
"""Classes below one percent of all rows are pooled: a thousand rare ones would drown every other change."""
_EXACT = 200_000


def psi(before: Any, now: Any) -> float:
    """Return the population stability index of two rows of counts.

    A class without rows counts as half a row: its share is not zero, it is only too small to show.
    """
    import numpy as np

    p = np.where(before > 0, before, 0.5) / before.sum()
    q = np.where(now > 0, now, 0.5) / now.sum()
    both = (before > 0) | (now > 0)
    return float(np.sum((q - p)[both] * np.log(q / p)[both]))


def psi_floor(classes: int, before: float, now: float) -> float:
    """Return the PSI that two samples of one distribution stay below in 99 of 100 cases.

    PSI is about chi-square distributed, times (1/n + 1/m), with one degree of freedom less than classes:
    Yurdakul and Naranjo, Statistical properties of the population stability index (2020).
    """
    from scipy.special import chdtri

    return float(chdtri(classes - 1, 0.01)) * (1 / before + 1 / now) if classes > 1 else 0.0


def jensen_shannon(before: Any, now: Any) -> float:
    """Return the Jensen-Shannon distance (the root of the divergence, natural logarithm) of two rows of counts."""
    import numpy as np
    from scipy.special import rel_entr

    p, q = before / before.sum(), now / now.sum()
    middle = (p + q) / 2
    divergence = float(np.sum(rel_entr(p, middle)) + np.sum(rel_entr(q, middle))) / 2
    return float(max(divergence, 0.0) ** 0.5)


def chi_square(before: Any, now: Any) -> tuple[float, float]:
    """Return statistic and p of the hypothesis that two rows of counts come from one distribution.

    Not of the hypothesis that `now` comes from exactly the shares of `before`: those are a sample as well, and taking
    them for the truth raises false alarms in 23 to 100 of 100 cases.
    """
    import numpy as np
    from scipy.special import chdtrc

    table = np.stack([before, now])[:, (before + now) > 0].astype(float)
    if table.shape[1] < 2:
        return 0.0, 1.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return statistic, float(chdtrc(table.shape[1] - 1, statistic))


def classes_p(before: Any, now: Any) -> tuple[float, float]:
    """Return statistic and p as `chi_square` does; of two classes with few rows p is that of Fisher's exact test."""
    statistic, p = chi_square(before, now)
    both = before + now
    if len(both) == 2 and both.min() * min(before.sum(), now.sum()) < LEAST_EXPECTED * both.sum():
        p = share_p(int(before[0]), int(before.sum()), int(now[0]), int(now.sum()))
    return statistic, p


def ks_p(statistic: float, before: int, now: int) -> float:
    """Return the p of a two-sample Kolmogorov-Smirnov statistic, by the limit distribution with Stephens' correction.

    Stephens, Use of the Kolmogorov-Smirnov, Cramer-von Mises and related statistics without extensive tables (1970).
    """
    from scipy.special import kolmogorov

    root = (before * now / (before + now)) ** 0.5
    return float(kolmogorov((root + 0.12 + 0.11 / root) * statistic))


def share_p(before: int, of_before: int, now: int, of_now: int) -> float:
    """Return the two-sided p of the hypothesis that two shares are the same: Fisher's exact test, for many chi-square.

    :param before: so many of `of_before` rows had it, and `now` of `of_now`.
    """
    import numpy as np

    whole, marked = of_before + of_now, before + now
    marked, before, now = (marked, before, now) if marked <= whole / 2 else (
        whole - marked, of_before - before, of_now - now)  # fmt: skip
    if not marked:
        return 1.0
    if marked * min(of_before, of_now) / whole >= 25 or min(marked, of_now) > _EXACT:
        return chi_square(np.array([before, of_before - before]), np.array([now, of_now - now]))[1]
    least, most = max(0, marked - of_before), min(marked, of_now)
    chances = np.exp(_log_chances(np.arange(least, most + 1), marked, of_before, of_now))
    position = now - least
    return float(min(1.0, 2 * min(chances[: position + 1].sum(), chances[position:].sum())))


def _log_chances(count: Any, marked: int, of_before: int, of_now: int) -> Any:
    """Return the logarithm of the hypergeometric chance that so many of the marked rows are among those of now."""
    from scipy.special import gammaln

    def choose(n: Any, k: Any) -> Any:
        return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)

    return choose(of_now, count) + choose(of_before, marked - count) - choose(of_before + of_now, marked)


def vanished_p(before: int, of_before: int, of_now: int) -> float:
    """Return how likely none of `of_now` rows has what `before` of `of_before` had, when nothing has changed."""
    import numpy as np

    chance = np.exp(_log_chances(np.array([0]), before, of_before, of_now))
    return float(min(1.0, chance[0]))


def pooled(before: Any, now: Any, keys: list[str]) -> tuple[Any, Any]:
    """Return two rows of counts with the rare classes put together, judged by both rows, so that neither decides.

    Where only one class would be left, it is the largest beside the rest. Where nearly everything is rare, pooling it
    all would hide everything: then rare classes are put together in groups that are just large enough to be tested, in
    an order that has nothing to do with their counts.
    """
    import numpy as np

    both = before + now
    smaller = min(before.sum(), now.sum()) / both.sum()
    rare = both < RARE * both.sum()
    if both[rare].sum() > both.sum() / 2:
        rare = both * smaller < LEAST_EXPECTED
    group = np.zeros(len(both), dtype=np.int64)
    group[~rare] = np.arange(1, 1 + int((~rare).sum()))
    few = np.flatnonzero(rare & (both > 0))
    if both[few].sum() > both.sum() / 2:
        group[few] = int(group.max()) + 1 + _groups(both[few] * smaller, [keys[n] for n in few])
    size = int(group.max()) + 1
    old, new = (np.bincount(group, weights=row, minlength=size) for row in (before, now))
    table = _mergeable(old, new, smaller)
    if len(table[0]) > 1 or np.count_nonzero(both) < 2:
        return table
    # A flag that hardly anybody had: the largest class and all others, for an exact test.
    largest = int(both.argmax())
    old, new = (np.array([row[largest], row.sum() - row[largest]]) for row in (before, now))
    return old, new


def _groups(expected: Any, keys: list[str]) -> Any:
    import hashlib

    import numpy as np

    order = sorted(range(len(keys)), key=lambda n: hashlib.md5(keys[n].encode(), usedforsecurity=False).digest())
    result, running = np.zeros(len(keys), dtype=np.int64), np.cumsum(expected[order])
    result[order] = (running // (2 * LEAST_EXPECTED)).astype(np.int64)
    return result


def _mergeable(old: Any, new: Any, smaller: float) -> tuple[Any, Any]:
    """Put classes that are still too small for chi-square together, and into the last one when that is not enough."""
    import numpy as np

    both = old + new
    small = both * smaller < LEAST_EXPECTED
    kept = [row[~small] for row in (old, new)]
    rest = [float(row[small].sum()) for row in (old, new)]
    if not sum(rest):
        return kept[0], kept[1]
    if len(kept[0]) and sum(rest) * smaller < LEAST_EXPECTED:
        for row, left in zip(kept, rest, strict=True):
            row[-1] += left
        return kept[0], kept[1]
    return np.append(kept[0], rest[0]), np.append(kept[1], rest[1])
