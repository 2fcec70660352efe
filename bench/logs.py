"""The review of an access log against GoAccess and against the guides' pipelines: `python -m bench.logs`.

A log in the combined format with the request time (see bench.logs_make: the same bytes every time, planted attacks,
logins, uploads) is read by each in turn, page-cached:

- *ours*: the whole review, in a process of its own, start included;
- *GoAccess* (when it is installed): its panels, as JSON. It has no signatures, bursts or percentiles;
- *pipelines*: grep, awk, sort and uniq as the guides use them, one for each question, in the C locale.

Whatever two of them count is compared, and must be equal. `BENCH_GB` (1) is the size of the log, `BENCH_ROUNDS` (3) how
often each is run, of which the best counts; `BENCH_GROW` (4) how many times as large a second log is, on which only
ours is run: its memory must not grow. `BENCH_LOGS` is a folder to keep the logs in. The machine's other work distorts
seconds, so `cpu` is given beside them; the ratios are of seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.logs_make import write
from bench.logs_pipelines import PIPELINES

SIZE = float(os.environ.get("BENCH_GB", "1"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
GROW = float(os.environ.get("BENCH_GROW", "4"))
START = datetime(2026, 10, 10, tzinfo=UTC)


@dataclass
class Run:
    """What a command took: seconds, processor seconds, the most memory of one process (MiB), and output."""

    seconds: float
    cpu: float
    memory: float
    output: bytes


def run(*command: str, shell: str = "") -> Run:
    """Run a command, or a line of a shell."""
    environment = {**os.environ, "LC_ALL": "C"}
    words = ["bash", "-o", "pipefail", "-c", shell] if shell else list(command)
    began = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(words, stdout=out, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        if process.returncode:
            raise SystemExit(f"{' '.join(words)[:200]} ended with {process.returncode}")
        out.seek(0)
        return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out.read())


def review(path: str) -> dict[str, Any]:
    """Return our answers as plain values; what a process of its own is started for."""
    from upkeep.adapters.log_access import review_access
    from upkeep.core.log_files import Segment

    seen = Path(path).stat()
    segment = Segment(path=path, device=seen.st_dev, inode=seen.st_ino, start=0, end=seen.st_size)
    found = review_access(
        [segment], format="combined_time", zone=UTC, start=START, end=START + timedelta(days=1)
    )  # fmt: skip
    return found.model_dump(mode="json")


def ours(path: Path) -> Run:
    """Review a log."""
    return run(sys.executable, "-m", "bench.logs", str(path))


def goaccess(path: Path, folder: Path) -> Run:
    """Let GoAccess count a log."""
    form = '%h %^[%d:%t %^] "%r" %s %b "%R" "%u" %T'
    out = folder / "goaccess.json"
    return run(
        "goaccess", str(path), "--log-format", form, "--date-format", "%d/%b/%Y", "--time-format", "%H:%M:%S",
        "--no-global-config", "--no-progress", "-o", str(out),
    )  # fmt: skip


def counts(answers: dict[str, Any], planted: Counter[str]) -> dict[str, Any]:
    """Return of our answers what pipelines count, by the names that pipelines have; check the planted ones."""
    attacks: Counter[str] = Counter()
    for attack in answers["attacks"]:
        attacks[attack["kind"]] += attack["answers"]["requests"]
    made = {
        "lines": answers["lines"]["in_window"],
        "statuses": {int(status): count for status, count in answers["statuses"].items()},
        "denied": answers["denied"],
        "failed_logins": answers["failed_logins"],
        "uploads": answers["uploads"]["requests"],
        "tokens": answers["tokens"]["requests"],
        **{kind: attacks[kind] for kind in ("sqli", "xss", "traversal")},
        "probes": sum(p["answers"]["requests"] for p in answers["probes"]),
        "scanners": sum(s["answers"]["requests"] for s in answers["scanners"]),
        "writes_failed": answers["writes"]["refused"] + answers["writes"]["failed"],
        "leaks": sum(leak["count"] for leak in answers["leaks"]),
        "percentiles": [answers["times"][name] for name in ("p50", "p95", "p99", "max")],
        "slowest": sorted(slow["seconds"] for slow in answers["slowest"]),
        "clients": [c["requests"] for c in answers["clients"]][:20],
        "client_errors": sorted((c["errors_4xx"] + c["errors_5xx"] for c in answers["clients"]), reverse=True)[:20],
        "routes": {r["route"]: r["requests"] for r in answers["routes"]},
        "bytes": answers["bytes"],
    }
    for name, count in planted.items():
        if name in made and made[name] != count:
            raise SystemExit(f"{name}: planted {count}, counted {made[name]}")
    return made


def main() -> None:
    """Measure, compare, print."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(os.environ.get("BENCH_LOGS", scratch))
        log = folder / "access.log"
        planted = write(log, SIZE)
        size = log.stat().st_size
        print(f"{size / 1e9:.2f} GB, best of {ROUNDS}\n")
        best: dict[str, Run] = {}
        said: dict[str, bytes] = {}
        for _ in range(ROUNDS):
            one_after_the_other(log, folder, best, said)
        answers = counts(json.loads(said["ours"]), planted)
        agree = sum(check(name, answers, said[name]) for name in PIPELINES)
        if "goaccess" in best:
            check_goaccess(answers, folder)
        table(best, size)
        print(f"\n{agree} of {len(PIPELINES)} pipelines count the same as we do, and so does what was planted")
        grow(folder, best["ours"].memory)


def one_after_the_other(log: Path, folder: Path, best: dict[str, Run], said: dict[str, bytes]) -> None:
    """Run everything once, and keep what was quickest."""
    found = {"ours": ours(log)}
    if shutil.which("goaccess"):
        found["goaccess"] = goaccess(log, folder)
    for name, line in PIPELINES.items():
        found[name] = run(shell=line.replace("LOG", str(log)))
    for name, made in found.items():
        said[name] = made.output
        if name not in best or made.seconds < best[name].seconds:
            best[name] = made


def check(name: str, answers: dict[str, Any], output: bytes) -> bool:
    """Compare what a pipeline printed with our answer."""
    words = [line.split() for line in output.decode().splitlines()]
    wanted = answers[name]
    seen: Any
    if isinstance(wanted, int):
        seen = int(words[0][0])
    elif name == "statuses":
        seen = {int(status): int(count) for count, status in words}
    elif name in ("clients", "client_errors"):
        seen = [int(count) for count, _ in words]
    elif name == "routes":
        seen = {route: int(count) for count, route in words}
        wanted = {route: wanted.get(route) for route in seen}
    else:
        seen = [float(word[0]) for word in words]
    if seen != wanted:
        raise SystemExit(f"{name}: the pipeline says {str(seen)[:300]}, we say {str(wanted)[:300]}")
    return True


def check_goaccess(answers: dict[str, Any], folder: Path) -> None:
    """Compare GoAccess's lines, bytes and status codes with ours."""
    made = json.loads((folder / "goaccess.json").read_bytes())
    general = made["general"]
    statuses = {
        int(item["data"].split()[0]): item["hits"]["count"] for g in made["status_codes"]["data"] for item in g["items"]
    }
    if (general["valid_requests"], general["bandwidth"], statuses) != (
        answers["lines"],
        answers["bytes"],
        answers["statuses"],
    ):
        raise SystemExit(
            f"GoAccess: {general['valid_requests']} lines, {general['bandwidth']} bytes, {statuses}; we {answers}"
        )


def table(best: dict[str, Run], size: int) -> None:
    """Print what each took."""
    print(f"{'':34}{'s':>8}{'MB/s':>7}{'cpu s':>8}{'MiB':>7}")
    for name, made in best.items():
        print(f"{name:34}{made.seconds:8.2f}{size / made.seconds / 1e6:7.0f}{made.cpu:8.2f}{made.memory:7.0f}")
    us = best["ours"].seconds
    every = sum(best[name].seconds for name in PIPELINES)
    print(f"{'all pipelines':34}{every:8.2f}{'':7}{sum(best[name].cpu for name in PIPELINES):8.2f}")
    print(f"\nours takes {us / every:.2f} of the pipelines' time (at most 0.5)")
    if "goaccess" in best:
        print(f"GoAccess takes {best['goaccess'].seconds / us:.1f} times ours (at least 10)")
    print(f"memory {best['ours'].memory:.0f} MiB (at most 400)")


def grow(folder: Path, before: float) -> None:
    """Review a log that is several times as large."""
    if GROW <= 1:
        return
    log = folder / "access.log"
    write(log, SIZE * GROW)
    made = ours(log)
    print(f"{log.stat().st_size / 1e9:.2f} GB: {made.seconds:.1f} s, {made.memory:.0f} MiB ({before:.0f} before)")
    log.unlink()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        json.dump(review(sys.argv[1]), sys.stdout)
    else:
        main()
