"""What all DAG files together cost when Airflow parses them, beyond importing `airflow.sdk`.

    python -m bench.parse [--rounds 7]

Each figure comes from fresh processes, which import `airflow.sdk` and then run every file of `dags/`; the time of the
second part is what is judged (names that the SDK loads only when asked for are part of it). It is taken with 5 and with
500 generated system files, with and without the cache of ladders, in turn so that a busy machine harms all alike.
The exit code is 1 when a limit is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
LIMITS_MS = {5: 300, 500: 600}

# Runs in the measured process. `alone` is the import of airflow.sdk, `files` everything the DAG files add to it.
_MEASURED = """
import json, runpy, sys, time
began = time.perf_counter()
import airflow.sdk
imported = time.perf_counter()
dags = [name for path in sys.argv[1:] for name, value in runpy.run_path(path).items() if type(value).__name__ == "DAG"]
ran = time.perf_counter()
heavy = sorted({"psycopg", "boto3", "docker", "redis", "duckdb", "scipy"} & set(sys.modules))
print(json.dumps({"alone": imported - began, "files": ran - imported, "dags": len(dags), "heavy": heavy}))
"""

_SYSTEM = """\
name: {name}
title: Generated system {number}
contacts:
  sysadmin: {{primary: {{name: A, channels: [{{kind: email, address: a@example.com}}]}}}}
ladder:
  deadlines: {{daily: {minutes} min, weekly: 2 h, monthly: 4 h, quarterly: 8 h}}
  rungs: [{{after: 0 s}}, {{after: 30 min}}]
targets:
"""
_TARGETS = """\
  db{n}: {{kind: postgres, conn_id: db_{n}, settings: {{database.health: {{}}}}}}
  web{n}:
    kind: http
    base_url: http://localhost:{n}
    endpoints: {{health: {{path: /health, expect: [{{pointer: /status, equals: healthy}}]}}}}
"""


@dataclass(frozen=True)
class Case:
    """One way of parsing."""

    systems: int
    warm: bool

    def __str__(self) -> str:
        return f"{self.systems:3d} systems, {'warm' if self.warm else 'cold'} cache"


def generate(folder: Path, count: int) -> None:
    """Write `count` system files as long as real ones, with ten different ladders among them."""
    folder.mkdir()
    for number in range(count):
        head = _SYSTEM.format(name=f"system-{number:03d}", number=number, minutes=30 + number % 10)
        body = "".join(_TARGETS.format(n=n) for n in range(1, 21))
        (folder / f"system-{number:03d}.yaml").write_text(head + body)


def parse_once(case: Case, place: Path) -> dict[str, float]:
    """Parse all DAG files in a fresh process and return its times in seconds."""
    cache = place / f"cache-{case.systems}"
    if not case.warm:
        shutil.rmtree(cache, ignore_errors=True)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "plugins"), str(ROOT)]),
        "UPKEEP_SYSTEMS_DIR": str(place / f"systems-{case.systems}"),
        "UPKEEP_CACHE_DIR": str(cache),
        "AIRFLOW_HOME": str(place / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    files = [str(path) for path in sorted((ROOT / "dags").glob("*.py"))]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *files], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"a DAG file cannot be run:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(rounds: int, place: Path) -> dict[Case, list[dict[str, float]]]:
    """Parse every case in turn, `rounds` times, after one round that fills Python's own caches."""
    cases = [Case(count, warm) for count in LIMITS_MS for warm in (False, True)]
    for count in LIMITS_MS:
        generate(place / f"systems-{count}", count)
    for case in cases:
        parse_once(case, place)
    results: dict[Case, list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            results[case].append(parse_once(case, place))
    return results


def report(results: dict[Case, list[dict[str, float]]]) -> bool:
    """Print a line for each case and tell whether all limits hold."""
    alone = median(times["alone"] for runs in results.values() for times in runs) * 1000
    first = next(iter(results.values()))[0]
    print(f"{first['dags']:.0f} DAGs; importing airflow.sdk alone: {alone:.0f} ms (median)")
    holds = True
    for case, runs in results.items():
        cost = median(times["files"] for times in runs) * 1000
        least, limit = min(times["files"] for times in runs) * 1000, LIMITS_MS[case.systems]
        mark = "ok" if cost <= limit else "TOO SLOW"
        holds = holds and cost <= limit
        print(f"{case}: + {cost:4.0f} ms (least {least:4.0f}), limit {limit} ms: {mark}")
    if heavy := first["heavy"]:
        print(f"drivers loaded while parsing: {heavy}")
    return holds and not heavy


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="fresh processes for each case (default 7)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="upkeep-parse-") as place:
        return 0 if report(measure(rounds, Path(place))) else 1


if __name__ == "__main__":
    sys.exit(main())
