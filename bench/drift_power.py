"""False alarms and power of `model.drift`: `python -m bench.drift_power`.

False alarms: profile and window are drawn from the same distribution; whatever the routine then says at a warning or
worse is one. Five numeric columns (normal, lognormal, Poisson, zeros with a tail, uniform) and five categorical ones of
one cardinality, all in one run, as a real table has them: it counts how many *runs* raise an alarm, and beside it how
many single columns do. Power: one column of the ten changes; it counts in how many runs that column is named.

`BENCH_TRIES` (100) runs for each cell. Aim: at most 5 % of runs with a false alarm in every cell.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

TRIES = int(os.environ.get("BENCH_TRIES", "100"))
SIZES = (300, 1000, 5000, 20_000, 100_000)
CARDINALITIES = (2, 5, 20, 100, 300, 1000)
REFERENCE = 20_000
LIMIT = 0.05


def shares(k: int, zipf: bool) -> Any:
    """Return shares of k categories: equal ones, or as words have them."""
    weights = 1 / np.arange(1, k + 1) if zipf else np.ones(k)
    return weights / weights.sum()


def columns(rng: np.random.Generator, rows: int, k: int) -> dict[str, Any]:
    """Draw ten columns, two of them with missing values."""
    numbers = {
        "normal": pa.array(rng.normal(size=rows), mask=rng.random(rows) < 0.05),
        "lognormal": rng.lognormal(0, 2, rows),
        "poisson": rng.poisson(3, rows),
        "zeros": np.where(rng.random(rows) < 0.6, 0.0, rng.exponential(1, rows)),
        "uniform": rng.random(rows),
    }
    classes = {f"c{n}": category(rng, rows, shares(k, n % 2 == 0)) for n in range(5)}
    classes["c4"] = pa.DictionaryArray.from_arrays(pa.array(classes["c4"].indices, mask=rng.random(rows) < 0.1),
                                                   classes["c4"].dictionary)  # fmt: skip
    return numbers | classes


def category(rng: np.random.Generator, rows: int, chances: Any) -> pa.DictionaryArray:
    """Draw a column of categories."""
    drawn = rng.choice(len(chances), rows, p=chances).astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(drawn), pa.array([f"k{n}" for n in range(len(chances))]))


def profile_of(data: dict[str, Any], folder: Path) -> Any:
    """Return the profile of columns."""
    from upkeep.adapters.profile_build import builder
    from upkeep.core.drift import Profile

    with builder(folder) as made:
        made.add(pa.record_batch(data))
        return Profile(target="bench/model", rows=made.rows, columns=made.profiles())


def named(profile: Any, data: dict[str, Any]) -> set[str]:
    """Return the subjects of what the routine says at a warning or worse."""
    from upkeep.adapters.drift_compare import Comparison
    from upkeep.core.model import Severity
    from upkeep.routines.model import _drift_judge
    from upkeep.routines.model._drift_settings import Settings

    comparison = Comparison(profile.columns)
    comparison.add(pa.record_batch(data))
    judged = _drift_judge.judge(comparison.drifts(), Settings(), None, profile, 1)
    return {f.subject for f in judged.findings if f.severity.rank >= Severity.WARNING.rank}


def false_alarms(folder: Path, k: int) -> Iterator[tuple[int, float, float]]:
    """Give size, share of runs and share of columns with a false alarm, for one cardinality."""
    for rows in SIZES:
        tries = max(20, TRIES // (1 + rows // 20_000))
        rng = np.random.default_rng(k * 1_000_003 + rows)
        runs = of_columns = 0
        profile = None
        for number in range(tries):
            if profile is None or number % 5 == 0:  # chance in the reference counts as well
                profile = profile_of(columns(rng, REFERENCE, k), folder)
            found = named(profile, columns(rng, rows, k))
            runs += bool(found)
            of_columns += len({s.split()[0] for s in found})
        yield rows, runs / tries, of_columns / tries / 10


def tilted(k: int) -> Any:
    """Return shares of which the first half is half as large again and the second half as much smaller."""
    chances = shares(k, False)
    chances[: k // 2] *= 1.5
    chances[k // 2 :] *= 0.5
    return chances / chances.sum()


def moved(rng: np.random.Generator, rows: int, mean: float, std: float, missing: float = 0.05) -> pa.Array:
    """Draw the normal column otherwise."""
    return pa.array(rng.normal(mean, std, rows), mask=rng.random(rows) < missing)


Shift = Callable[[np.random.Generator, int, dict[str, Any]], dict[str, Any]]
SHIFTS: dict[str, tuple[str, Shift]] = {
    "mean + 0.25 std": ("normal", lambda rng, n, _: {"normal": moved(rng, n, 0.25, 1)}),
    "mean + 0.5 std": ("normal", lambda rng, n, _: {"normal": moved(rng, n, 0.5, 1)}),
    "std x 1.5": ("normal", lambda rng, n, _: {"normal": moved(rng, n, 0, 1.5)}),
    "lognormal x 1.65": ("lognormal", lambda rng, n, _: {"lognormal": rng.lognormal(0.5, 2, n)}),
    "Poisson 3 -> 4": ("poisson", lambda rng, n, _: {"poisson": rng.poisson(4, n)}),
    "zeros 60 -> 75 %": (
        "zeros", lambda rng, n, _: {"zeros": np.where(rng.random(n) < 0.75, 0.0, rng.exponential(1, n))}),
    "missing 5 -> 15 %": (
        "normal", lambda rng, n, _: {"normal": moved(rng, n, 0, 1, 0.15)}),
    "2 % infinite": ("uniform", lambda rng, n, d: {"uniform": np.where(rng.random(n) < 0.02, np.inf, d["uniform"])}),
    "3 % times 1000": (
        "uniform", lambda rng, n, _: {"uniform": rng.random(n) * np.where(rng.random(n) < 0.03, 1e3, 1)}),
    "2 % new category": (
        "c1", lambda rng, n, d: {"c1": [("new" if r < 0.02 else v) for r, v in
                                        zip(rng.random(n), d["c1"].to_pylist(), strict=True)]}),
    "half of k=5 tilted": ("c1", lambda rng, n, _: {"c1": category(rng, n, tilted(5))}),
    "half of k=300 tilted": ("c1", lambda rng, n, _: {"c1": category(rng, n, tilted(300))}),
    "half of k=1000 tilted": ("c1", lambda rng, n, _: {"c1": category(rng, n, tilted(1000))}),
}  # fmt: skip


def power(folder: Path) -> Iterator[tuple[str, list[float]]]:
    """Give the name of a shift and, for each size, the share of runs that name the column."""
    tries = max(20, TRIES // 4)
    for name, (column, shift) in SHIFTS.items():
        k = int(name.split("k=")[1].split()[0]) if "k=" in name else 5
        rng = np.random.default_rng(7)
        profile = profile_of(columns(rng, REFERENCE, k), folder)
        seen = []
        for rows in SIZES[:3]:
            hits = 0
            for _ in range(tries):
                data = columns(rng, rows, k)
                found = named(profile, data | shift(rng, rows, data))
                hits += any(s.startswith(f"{column} ") for s in found)
            seen.append(hits / tries)
        yield name, seen


def main() -> None:
    """Print both tables."""
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        print(f"false alarms, profile of {REFERENCE:,} rows, 10 columns: share of runs (share of columns)")
        print("     k " + "".join(f"{rows:>16,}" for rows in SIZES), flush=True)
        for k in CARDINALITIES:
            cells = []
            for rows, runs, single in false_alarms(Path(folder), k):
                cells.append(f"{runs:>8.1%} ({single:.2%})")
                if runs > LIMIT:
                    bad.append((rows, k, runs))
            print(f"{k:>6} " + "".join(f"{c:>16}" for c in cells), flush=True)
        print("\npower, the same profile: share of runs that name the changed column")
        print(" " * 24 + "".join(f"{rows:>9,}" for rows in SIZES[:3]))
        for name, seen in power(Path(folder)):
            print(f"{name:<24}" + "".join(f"{s:>9.0%}" for s in seen), flush=True)
    print(f"\nmore than {LIMIT:.0%} false alarms: {bad or 'nowhere'}")


if __name__ == "__main__":
    main()
