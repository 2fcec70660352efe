"""Which of many tests say something, when every twentieth would by chance."""

from __future__ import annotations

from collections.abc import Mapping

from upkeep.core.drift import ColumnDrift

# Column and aspect; a column's distribution is the aspect "distribution".
Key = tuple[str, str]


def chances(columns: tuple[ColumnDrift, ...]) -> dict[Key, float]:
    """Return the p of every test of a run."""
    found = {(c.column, "distribution"): c.distribution.p for c in columns if c.distribution is not None}
    return found | {(c.column, a.name): a.p for c in columns for a in c.aspects if a.p is not None}


def adjusted(p: Mapping[Key, float]) -> dict[Key, float]:
    """Return each p as Benjamini and Hochberg adjust it (1995, Controlling the false discovery rate).

    Those below a share are the tests of which at most this share are false alarms.

    >>> adjusted({("a", "missing"): 0.01, ("b", "missing"): 0.04, ("c", "missing"): 0.5})
    {('c', 'missing'): 0.5, ('b', 'missing'): 0.06, ('a', 'missing'): 0.03}
    """
    result, least, number = dict[Key, float](), 1.0, len(p)
    for rank, (key, value) in reversed(list(enumerate(sorted(p.items(), key=lambda item: item[1]), 1))):
        least = min(least, value * number / rank)
        result[key] = least
    return result
