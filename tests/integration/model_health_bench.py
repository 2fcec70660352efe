"""What tests of model care share: a folder with a small real model, and its routines in the real lifecycle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from tests.integration.database_bench import Memory
from tests.integration.sqlite_bench import RUN, Result, no_ledger
from upkeep.adapters import http, models
from upkeep.core.cadence import Window
from upkeep.core.errors import CriticalFindingError
from upkeep.core.job import Job
from upkeep.core.routine import Routine
from upkeep.core.system import System
from upkeep.core.targets import ModelTarget
from upkeep.ledger import events as ev
from upkeep.ledger.record import fold
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger

NOW = datetime(2026, 11, 21, 6, tzinfo=UTC)
CONTACTS = {"ml": {"primary": {"name": "A", "channels": [{"kind": "email", "address": "a@b"}]}}}
FEATURES = ("clicks", "score", "noise")


def train(seed: int = 1) -> LogisticRegression:
    """Return a small model of three features, of which the last is noise."""
    dice = np.random.default_rng(seed)
    rows = dice.normal(size=(80, 3))
    return LogisticRegression().fit(rows, (rows[:, 0] + rows[:, 1] > 0).astype(int))


def write(folder: Path, seed: int = 1, **metadata: Any) -> Path:
    """Write a model with its metadata as a training program would."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.pkl"
    path.write_bytes(pickle.dumps(train(seed)))
    said = {
        "version": str(seed),
        "training_date": "2026-11-01T00:00:00Z",
        "features": list(FEATURES),
        "metrics": {"accuracy": 0.97, "f1": 0.96},
        "model": "model.pkl",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        **metadata,
    }
    (folder / "model_metadata.json").write_text(json.dumps({k: v for k, v in said.items() if v is not None}))
    return path


@dataclass
class Remembered(Memory):
    """The history of one routine, which knows those of the others."""

    others: dict[str, Memory] = field(default_factory=dict)

    def of(self, routine: str) -> Memory:
        return self.others.get(routine.split(".")[1], Memory())


@dataclass
class Care:
    """The routines of one model, on real files."""

    folder: Path
    scratch: Path
    target: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)
    connections: dict[str, Any] = field(default_factory=dict)
    conninfo: Callable[[str], str] = str
    histories: dict[str, Memory] = field(default_factory=dict)
    now: datetime = NOW
    window: Window = field(default_factory=lambda: Window(start=NOW - timedelta(days=1), end=NOW))

    def run(
        self,
        name: str,
        *,
        approved: tuple[tuple[str, str], ...] | None = None,
        objects: dict[tuple[str, str], Any] | None = None,
        dry_run: bool = False,
        **settings: Any,
    ) -> Result:
        """Run a routine once as Airflow would; a critical finding is part of the result."""
        from upkeep.operators.lifecycle import Lifecycle  # brings Airflow along

        routine = Routine.load(f"upkeep.routines.model.{name}")
        job = self.job(routine, settings)
        with tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(no_ledger, Spool(Path(folder)))
            key = ev.RoutineKey(**RUN.model_dump(), routine=routine.name, target=job.target.id, try_number=1)
            agreed = None if approved is None else frozenset(approved)
            asked: Any = {"approved": agreed, "objects": objects or {}}
            work = Lifecycle(routine, job, key, ledger, dry_run=dry_run, last_try=True, **asked)
            with contextlib.suppress(CriticalFindingError):
                work.run()
            row = fold(RUN, ledger.spool.events()).routines[0]
        keys = [f.key("t", "r") for f in row.findings]
        assert len(keys) == len(set(keys)), f"two findings have one key: {keys}"
        self.history(name).keep(row.measurements)
        numbers = {(m.name, m.subject): m.value for m in row.measurements}
        return Result(row.state, row.findings, numbers, list(row.actions))

    def history(self, name: str) -> Memory:
        """What the ledger would remember of a routine."""
        return self.histories.setdefault(name, Remembered(others=self.histories))

    def job(self, routine: Routine, settings: dict[str, Any]) -> Job[Any, Any]:
        """Return a job with the tools of an Airflow run."""
        system = System.model_validate(
            {
                "name": "student",
                "title": "S",
                "contacts": CONTACTS,
                "targets": {
                    "risk-model": {
                        "kind": "model",
                        "path": str(self.folder),
                        "metadata": "model_metadata.json",
                        "files": ["*.pkl", "*.json"],
                        **self.target,
                    },
                    **self.others,
                },
            }
        )
        target = system.targets["risk-model"]
        assert isinstance(target, ModelTarget)
        open_http = http.opener(self.connections.__getitem__)
        tools: Any = SimpleNamespace(
            models=models.make_models(self.conninfo, self.connections.__getitem__, open_http, self.scratch),
            http=open_http,
            history=self.history(routine.name.split(".")[1]),
            now=lambda: self.now,
            log=logging.getLogger("test"),
        )
        return Job(
            routine=routine.name,
            target=target,
            system=system,
            settings=routine.resolve_settings(("test", settings)),
            window=self.window,
            run_id="r",
            try_number=1,
            tools=tools,
        )


def make(tmp_path: Path, **more: Any) -> Care:
    """Return a healthy model in its folder."""
    write(tmp_path / "models")
    (tmp_path / "scratch").mkdir()
    return Care(tmp_path / "models", tmp_path / "scratch", **more)
