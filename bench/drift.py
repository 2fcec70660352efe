"""What comparing two million, and twenty million, rows of 20 columns costs: `python -m bench.drift`.

15 numeric and 5 categorical columns in Parquet, some of them shifted. Three ways, each in a process of its own:

- exact: `adapters.drift_exact`, one column at a time: KS, Wasserstein, PSI, Jensen-Shannon, chi-square;
- profile: as `model.drift` does it, with a profile that was stored before (building it is timed by itself);
- scipy: `ks_2samp`, `wasserstein_distance`, `jensenshannon`, `chi2_contingency` on whole columns in memory.

With `BENCH_EVIDENTLY` naming the interpreter of an environment that has evidently (and pandas < 3), also evidently's
default preset, without reading the files. Ratios are of CPU seconds, which other work on the machine changes least.
`BENCH_ROWS` (1000000,10000000) are the sizes; of the second one scipy and evidently are left out unless
`BENCH_ALL` is set. Aims: exact at least 20 times evidently; values equal to scipy's within 1e-9; peak memory flat.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROWS = tuple(int(n) for n in os.environ.get("BENCH_ROWS", "1000000,10000000").split(","))
NUMERIC, CATEGORICAL = 15, 5
CHUNK = 500_000
TOLERANCE, TIMES = 1e-9, 20.0
FLAT = 1.25
"""For ten times the rows: from two million numbers a column on, sorting needs a fixed amount more."""


def make(path: Path, rows: int, shift: float, seed: int) -> None:
    """Write a file, a chunk at a time."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    writer = None
    for number in range(-(-rows // CHUNK)):
        size = min(CHUNK, rows - number * CHUNK)
        rng = np.random.default_rng([seed, number])
        data: dict[str, Any] = {}
        for n in range(NUMERIC):
            moved = shift if n % 3 == 0 else 0.0
            data[f"n{n}"] = (
                rng.normal(moved, 1, size), rng.lognormal(moved, 1, size), rng.poisson(5 + moved, size) * 1.0,
                np.where(rng.random(size) < 0.3, 0.0, rng.exponential(1 + moved, size)), rng.random(size),
            )[n % 5]  # fmt: skip
        for n in range(CATEGORICAL):
            k = (2, 5, 20, 100, 500)[n]
            weights = 1 / np.arange(1, k + 1) ** (1 + (shift if n % 2 else 0))
            codes = rng.choice(k, size, p=weights / weights.sum()).astype(np.int32)
            words = pa.array([f"k{c}" for c in range(k)])
            data[f"c{n}"] = pa.DictionaryArray.from_arrays(pa.array(codes), words).dictionary_decode()
        table = pa.table(data)
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=CHUNK // 4)
    if writer:
        writer.close()


def names(kind: str) -> list[str]:
    """Return the columns of a kind."""
    return [f"{kind}{n}" for n in range(NUMERIC if kind == "n" else CATEGORICAL)]


def parts(path: str, column: str) -> Any:
    """Give a column, a batch at a time."""
    from pyarrow import parquet

    opened = parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    for batch in opened.iter_batches(1 << 17, columns=[column], use_threads=False):
        yield batch.column(0)


def counts(path: str, column: str) -> dict[str, int]:
    """Count the categories of a column."""
    import pyarrow.compute as pc

    found: dict[str, int] = {}
    for part in parts(path, column):
        counted = pc.value_counts(part)
        for value, count in zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True):
            found[value] = found.get(value, 0) + count
    return found


def exact(before: str, now: str, folder: str) -> dict[str, list[float]]:
    """Compare two files exactly: KS, W, Jensen-Shannon, PSI of numbers; Jensen-Shannon, chi-square, PSI of others."""
    from upkeep.adapters import drift_exact

    result = {}
    for column in names("n"):
        sides = [
            drift_exact.Sample((p.to_numpy() for p in parts(path, column)), Path(folder) / name)
            for path, name in ((before, "before"), (now, "now"))
        ]
        found = drift_exact.numbers(*sides)
        result[column] = [found.ks, found.normalised, found.jensen_shannon, found.psi]
    for column in names("c"):
        psi, js, chi, _ = drift_exact.categories(counts(before, column), counts(now, column))
        result[column] = [js, chi, psi]
    return result


def scipy(before: str, now: str, _: str) -> dict[str, list[float]]:
    """Compare two files with scipy, and PSI as evidently defines it."""
    import numpy as np
    from pyarrow import parquet
    from scipy import stats
    from scipy.spatial.distance import jensenshannon

    result = {}
    for column in names("n"):
        old, new = (parquet.read_table(p, columns=[column]).column(0).to_numpy() for p in (before, now))
        both = np.concatenate([old, new])
        values = np.unique(both)
        if len(values) <= 20:
            table = [np.array([(side == v).sum() for v in values]) for side in (old, new)]
        else:
            edges = np.histogram_bin_edges(both, "sturges")
            table = [np.histogram(side, edges)[0] for side in (old, new)]
        distance = stats.wasserstein_distance(old, new) / max(old.std(), 0.001)
        ks = stats.ks_2samp(old, new, method="asymp").statistic
        result[column] = [ks, distance, jensenshannon(*table), evidently_psi(*table)]
    for column in names("c"):
        old_counts, new_counts = counts(before, column), counts(now, column)
        keys = sorted({*old_counts, *new_counts})
        table = [np.array([side.get(k, 0) for k in keys]) for side in (old_counts, new_counts)]
        chi = stats.chi2_contingency(np.stack(table), correction=False).statistic
        result[column] = [jensenshannon(*table), chi, evidently_psi(*table)]
    return {name: [float(v) for v in values] for name, values in result.items()}


def evidently_psi(before: Any, now: Any) -> float:
    """Return PSI as evidently computes it (`legacy/calculations/stattests/psi.py`), written by itself."""
    import numpy as np

    shares = [np.asarray(c) / np.sum(c) for c in (before, now)]
    shares = [np.where(s == 0, 1e-4 if s[s > 0].min() > 1e-4 else s[s > 0].min() / 1e6, s) for s in shares]
    return float(np.sum((shares[0] - shares[1]) * np.log(shares[0] / shares[1])))


def build(before: str, _: str, folder: str) -> dict[str, list[float]]:
    """Build the profile and store it."""
    from upkeep.adapters.profile_build import builder
    from upkeep.core.drift import Profile

    with builder(Path(folder)) as made:
        for batch in batches(before):
            made.add(batch)
        profile = Profile(target="bench/model", rows=made.rows, columns=made.profiles())
    Path(folder, "profile.json").write_bytes(profile.canonical())
    return {"bytes": [len(profile.canonical())]}


def profile(_: str, now: str, folder: str) -> dict[str, list[float]]:
    """Compare a file with the stored profile, and judge."""
    from upkeep.adapters.drift_compare import Comparison
    from upkeep.core.drift import Profile
    from upkeep.routines.model import _drift_judge
    from upkeep.routines.model._drift_settings import Settings

    kept = Profile.model_validate_json(Path(folder, "profile.json").read_bytes())
    comparison = Comparison(kept.columns)
    for batch in batches(now):
        comparison.add(batch)
    drifts = comparison.drifts()
    judged = _drift_judge.judge(drifts, Settings(), None, kept, 1)
    found = {d.column: [e.value for e in d.distribution.effects] for d in drifts if d.distribution}
    return found | {"findings": [len(judged.findings)]}


def batches(path: str) -> Any:
    """Give a file, a batch at a time."""
    from pyarrow import parquet

    yield from parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20).iter_batches(65_536, use_threads=False)


EVIDENTLY = """
import json, sys, time
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
old, new = (pd.read_parquet(p) for p in sys.argv[1:3])
begun, worked = time.perf_counter(), time.process_time()
Report([DataDriftPreset()]).run(new, old).dict()
seconds, worked = time.perf_counter() - begun, time.process_time() - worked
print(json.dumps([seconds, worked, int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])]))
"""


def child(way: str, before: str, now: str, folder: str) -> None:
    """Run one way and print seconds, peak memory and values."""
    import numpy  # noqa: F401 # what every way needs is not the way's cost
    import pyarrow.parquet  # noqa: F401

    begun, worked = time.perf_counter(), time.process_time()
    values = {"exact": exact, "scipy": scipy, "build": build, "profile": profile}[way](before, now, folder)
    seconds, worked = time.perf_counter() - begun, time.process_time() - worked
    print(json.dumps([seconds, worked, peak(), values]))


def peak() -> int:
    """Return this process's peak memory in KiB. Not `ru_maxrss`, which begins with that of whoever started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0])


def run(way: str, before: Path, now: Path, folder: Path) -> tuple[float, float, dict[str, list[float]]]:
    """Run one way in a process; return seconds of CPU, MiB and values."""
    line = [sys.executable, "-m", "bench.drift", way, str(before), str(now), str(folder)]
    done = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True)
    seconds, worked, kilobytes, values = json.loads(done.stdout)
    print(f"  {way:<10} {seconds:8.2f} s ({worked:.2f} s CPU) {kilobytes / 1024:8.0f} MiB", flush=True)
    return worked, kilobytes / 1024, values


def against_evidently(before: Path, now: Path) -> float | None:
    """Return the seconds of CPU that evidently takes, None where it is not there."""
    interpreter = os.environ.get("BENCH_EVIDENTLY")
    if not interpreter:
        print("  evidently  not run: BENCH_EVIDENTLY names no interpreter that has it")
        return None
    line = [interpreter, "-c", EVIDENTLY, str(before), str(now)]
    done = subprocess.run(line, check=False, capture_output=True, text=True, env={**os.environ, "DO_NOT_TRACK": "1"})
    if done.returncode:
        print(f"  evidently  does not run here: {(done.stderr.strip().splitlines() or ['it was ended'])[-1][:120]}")
        return None
    seconds, worked, kilobytes = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"  evidently  {seconds:8.2f} s ({worked:.2f} s CPU) {kilobytes / 1024:8.0f} MiB", flush=True)
    return float(worked)


def main() -> None:
    """Print the table and what the aims say of it."""
    peaks: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, rows in enumerate(ROWS):
            before, now = folder / "before.parquet", folder / "now.parquet"
            make(before, rows, 0.0, 1)
            make(now, rows, 0.05, 2)
            size = (before.stat().st_size + now.stat().st_size) >> 20
            print(f"{rows:,} + {rows:,} rows x {NUMERIC + CATEGORICAL} columns, {size:,} MiB of Parquet")
            results = {way: run(way, before, now, folder) for way in ("exact", "build", "profile")}
            for way, (_, highest, _) in results.items():
                peaks.setdefault(way, []).append(highest)
            if number == 0 or os.environ.get("BENCH_ALL"):
                beside(results, before, now, folder)
    for way, (first, *rest) in peaks.items():
        for last in rest:
            verdict = "flat" if last <= FLAT * first else "NOT FLAT"
            print(f"peak memory of {way}: {first:.0f} -> {last:.0f} MiB ({last / first:.2f} times): {verdict}")


def beside(results: dict[str, Any], before: Path, now: Path, folder: Path) -> None:
    """Run the others on the same files and print how far values and times are apart."""
    seconds, _, expected = run("scipy", before, now, folder)
    mine, _, values = results["exact"]
    far = max(_apart(a, b) for name, row in expected.items() for a, b in zip(values[name], row, strict=True))
    stored = results["profile"]
    off = max(abs(stored[2][n][1] - expected[n][0]) for n in names("n"))
    print(f"  scipy / exact {seconds / mine:.1f} times, scipy / profile {seconds / stored[0]:.1f} times")
    print(f"  largest difference from scipy: {far:.1e} ({'equal' if far <= TOLERANCE else 'NOT EQUAL'});"
          f" KS of the stored profile is off by {off:.1e} at most")  # fmt: skip
    other = against_evidently(before, now)
    if other is not None:
        verdict = "" if other / mine >= TIMES else f" (AIM of {TIMES:g} MISSED)"
        print(
            f"  evidently / exact {other / mine:.1f} times{verdict}, evidently / profile {other / stored[0]:.1f} times"
        )


def _apart(mine: float, theirs: float) -> float:
    """Return the difference: in absolute terms, and for the large numbers of chi-square as a share."""
    return abs(mine - theirs) / max(1.0, abs(theirs))


if __name__ == "__main__":
    child(*sys.argv[1:5]) if len(sys.argv) > 1 else main()
