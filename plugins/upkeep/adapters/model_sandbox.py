"""Starting the restricted process in which a model file is loaded, and understanding what it says.

The process is a fresh interpreter with an empty environment in an empty folder; see `model_sandbox_child` for what it
gives up. It is ended with this worker, and when its time is over. What it answers is read as plain JSON of limited size
and believed in nothing else: a file that took it over could at most lie about how well it loads.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from upkeep.adapters.process import Program
from upkeep.core.model_health import Answer, Confined, LabelledRows

_CHILD = Path(__file__).with_name("model_sandbox_child.py")
_ANSWER_BYTES = 8 << 20
# Threads of BLAS and OpenMP count as processes; with one there are none.
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1",
}  # fmt: skip


class ModelSandbox:
    """Restricted processes; see `core.model_health.Sandbox`. `scratch` is a private folder for their orders."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    def load(self, path: str, sha256: str, how: Confined) -> Answer:
        """Load a pickle whose hash is known."""
        return self._ask(path, sha256, how, {"task": "load"})

    def time(
        self, path: str, sha256: str, how: Confined, columns: Mapping[str, Sequence[Any]], *, tries: int, warm_up: int
    ) -> Answer:
        """Load it and measure how long it takes to answer."""
        rows = {name: list(values) for name, values in columns.items()}
        return self._ask(path, sha256, how, {"task": "time", "columns": rows, "tries": tries, "warm_up": warm_up})

    def importance(
        self, path: str, sha256: str, how: Confined, rows: LabelledRows, *, seed: int, repeats: int
    ) -> Answer:
        """Load it and measure how much its score falls when each feature is shuffled."""
        columns = {name: list(values) for name, values in rows.columns.items()}
        more = {"columns": columns, "labels": list(rows.labels), "classification": rows.classification}
        return self._ask(path, sha256, how, {"task": "importance", "seed": seed, "repeats": repeats, **more})

    def _ask(self, path: str, sha256: str, how: Confined, task: dict[str, Any]) -> Answer:
        limits = {
            "AS": how.memory_bytes, "CPU": math.ceil(how.seconds) + 1, "NOFILE": 128, "FSIZE": 0, "CORE": 0, "NPROC": 0,
        }  # fmt: skip
        order = {
            "path": str(Path(path).absolute()), "sha256": sha256, "max_bytes": how.max_bytes, "allow": how.allow,
            "limits": limits, **task,
        }  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="model-", dir=self._scratch) as folder:
            paper = Path(folder) / "order.json"
            paper.write_text(json.dumps(order, default=str), encoding="utf-8")
            return _run(how, paper, Path(folder))


def _run(how: Confined, paper: Path, folder: Path) -> Answer:
    command: list[str | Path] = [how.python or sys.executable, "-I", "-B", _CHILD, paper]
    begun = time.monotonic()
    with Program(command, env=_ENVIRONMENT, stdout=subprocess.PIPE, cwd=folder) as program:
        clock = threading.Timer(how.seconds, program.stop)
        clock.start()
        try:
            said = program.stdout.read(_ANSWER_BYTES + 1)
        finally:
            clock.cancel()
        if len(said) > _ANSWER_BYTES:
            return Answer("error", f"answered more than {_ANSWER_BYTES} bytes")
        late = time.monotonic() - begun >= how.seconds
        if late and not said:
            return Answer("time", f"not done within {how.seconds:g} s")
        code = program.wait()
        last = program.tail[-1][:200] if program.tail else ""
    if code or not said:
        return Answer("error", f"the restricted process ended with code {code}: {last}")
    return _understood(said)


def _understood(said: bytes) -> Answer:
    """Read an answer; whatever is not as expected makes it an error."""
    try:
        told = json.loads(said)
        importance = {
            str(name): (float(mean), float(spread)) for name, (mean, spread) in told.get("importance", {}).items()
        }
        times = tuple(float(one) for one in told.get("milliseconds", ()))
        why = "" if told.get("ok") is True else str(told.get("why") or "error")
        score = told.get("score")
        return Answer(
            why=why,
            detail=str(told.get("detail", ""))[:500],
            kind=str(told.get("kind", ""))[:200],
            isolation=tuple(str(one) for one in told.get("isolation", ())),
            milliseconds=times,
            score=None if score is None else float(score),
            importance=importance,
        )
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        return Answer("error", f"the restricted process answered what cannot be read: {error}"[:300])
