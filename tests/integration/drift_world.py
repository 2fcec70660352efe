"""What tests of drift share: a model whose scoring data lie in files, and both routines as the lifecycle runs them."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tests.integration.database_bench import Memory
from upkeep.adapters.drift import Drifts
from upkeep.adapters.scoring_data import ScoringData
from upkeep.core.cadence import Window
from upkeep.core.drift import ProfileEntry
from upkeep.core.errors import ConfigurationError, CriticalFindingError
from upkeep.core.job import Job
from upkeep.core.ml import DataSource
from upkeep.core.model import Finding, Judgement, Severity
from upkeep.core.routine import Routine
from upkeep.core.system import System
from upkeep.core.targets import ModelTarget
from upkeep.ledger import events as ev
from upkeep.ledger.record import fold
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger

TARGET = "claims/risk-model"
DAY = timedelta(days=1)
SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
"""When the reference data begin; they go on for a month."""
WEEK = Window(start=datetime(2026, 10, 4, tzinfo=UTC), end=datetime(2026, 10, 11, tzinfo=UTC))
FEATURES = ("amount", "age", "channel", "days", "member")


def healthy(rows: int, seed: int = 0) -> dict[str, Any]:
    """Return columns as the model saw them in training: heavy-tailed, normal, categories, whole numbers, yes or no."""
    rng = np.random.default_rng(seed)
    age: Any = rng.normal(45, 12, rows)
    return {
        "amount": rng.lognormal(5, 1.2, rows),
        "age": pa.array(age, mask=rng.random(rows) < 0.03),
        "channel": rng.choice(["web", "phone", "agent", "post"], rows, p=[0.5, 0.3, 0.15, 0.05]),
        "days": rng.poisson(4, rows),
        "member": rng.random(rows) < 0.7,
        "score": np.clip(rng.beta(2, 6, rows), 0, 1),
    }


def times(rows: int, start: datetime, end: datetime) -> pa.Array:
    """Return moments spread evenly over [start, end)."""
    step = (end - start) / max(rows, 1)
    return pa.array([start + step * n for n in range(rows)], pa.timestamp("us", "UTC"))


def table(columns: Mapping[str, Any], start: datetime, end: datetime) -> pa.Table:
    """Return columns as a table, with `made_at` in [start, end)."""
    rows = len(next(iter(columns.values())))
    return pa.table({"made_at": times(rows, start, end), **columns})


def no_ledger() -> str:
    raise ConfigurationError("connection 'upkeep_ledger' is not defined")


@dataclass
class World:
    """A model `risk-model` of system `claims`, with its data and profiles below `root`."""

    root: Path
    source: DataSource | None = None
    features: tuple[str, ...] = FEATURES
    prediction: str | None = "score"
    metadata: str | None = None
    connection: Any = None
    conninfo: Any = None
    targets: dict[str, Any] = field(default_factory=dict)
    history: Memory = field(default_factory=Memory)
    now: datetime = datetime(2026, 10, 11, 2, tzinfo=UTC)

    def __post_init__(self) -> None:
        (self.root / "data").mkdir(parents=True, exist_ok=True)
        (self.root / "model").mkdir(exist_ok=True)

    @property
    def system(self) -> System:
        model = {
            "kind": "model",
            "path": str(self.root / "model"),
            "scoring": self._source().model_dump(exclude_none=True),
            "features": self.features,
            "prediction": self.prediction,
            "metadata": self.metadata,
        }
        role = {"primary": {"name": "M", "channels": [{"kind": "email", "address": "m@example.org"}]}}
        return System.model_validate(
            {"name": "claims", "title": "Claims", "timezone": "UTC", "contacts": {"ml": role},
             "targets": {"risk-model": model, **self.targets}}
        )  # fmt: skip

    def _source(self) -> DataSource:
        return self.source or DataSource(files=(str(self.root / "data" / "*"),), time_column="made_at")

    def write(self, name: str, columns: Mapping[str, Any], start: datetime, end: datetime, **options: Any) -> None:
        """Write a Parquet file."""
        parquet.write_table(table(columns, start, end), self.root / "data" / name, **options)

    @property
    def drifts(self) -> Drifts:
        """The adapter."""
        return Drifts(ScoringData(self.conninfo, self.connection), self.root)

    @property
    def folder(self) -> Path:
        """Where the profiles lie."""
        return self.root / "model" / "reference"

    def reference(self, rows: int = 6000, made_at: datetime = datetime(2026, 10, 1, tzinfo=UTC)) -> ProfileEntry:
        """Write a month of healthy data and make the profile of it."""
        self.write("reference.parquet", healthy(rows, seed=99), SEPTEMBER, SEPTEMBER + 30 * DAY)
        return self.profile(made_at)

    def profile(self, made_at: datetime = datetime(2026, 10, 1, tzinfo=UTC)) -> ProfileEntry:
        """Make a profile of the data of September."""
        routine = Routine.load("upkeep.routines.model.profile")
        job = self.job(routine, {"since": "2026-09-01", "until": "2026-09-30"}, WEEK)
        return self.drifts.keep(str(self.folder), routine.observe(job).candidate.profile, made_at)

    def drift(self, window: Window = WEEK, **settings: Any) -> Judgement:
        """Run `model.drift` on a window."""
        routine = Routine.load("upkeep.routines.model.drift")
        job = self.job(routine, settings, window)
        judgement = routine.judge(job, routine.observe(job))
        keys = [f.key("t", "r") for f in judgement.findings]
        assert len(keys) == len(set(keys)), f"two findings have one key: {sorted(keys)}"
        return judgement

    def propose(
        self, *, approved: dict[tuple[str, str], Any] | None = None, dry_run: bool = False, **settings: Any
    ) -> Any:
        """Run `model.profile` in the lifecycle; return the routine's record."""
        from upkeep.operators.lifecycle import Lifecycle  # brings Airflow along

        routine = Routine.load("upkeep.routines.model.profile")
        run = ev.RunKey(dag_id="d", run_id="r")
        with tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(no_ledger, Spool(Path(folder)))
            key = ev.RoutineKey(**run.model_dump(), routine=routine.name, target=TARGET, try_number=1)
            job = self.job(routine, settings, WEEK)
            agreed = {} if approved is None else {"approved": frozenset(approved), "objects": approved}
            with contextlib.suppress(CriticalFindingError):
                Lifecycle(routine, job, key, ledger, dry_run=dry_run, last_try=True, **agreed).run()
            return fold(run, ledger.spool.events()).routines[0]

    def job(self, routine: Routine, settings: dict[str, Any], window: Window) -> Job[Any, Any]:
        system = self.system
        target = system.targets["risk-model"]
        if self.source is None and not any((self.root / "data").iterdir()):
            target = ModelTarget(**(target.model_dump() | {"scoring": None}))
        tools: Any = SimpleNamespace(
            drifts=self.drifts, history=self.history, now=lambda: self.now, log=logging.getLogger("test")
        )
        return Job(
            routine=routine.name,
            target=target,
            system=system,
            settings=routine.resolve_settings(("test", settings)),
            window=window,
            run_id="r",
            try_number=1,
            tools=tools,
        )


def troubles(judgement: Judgement) -> dict[str, Finding]:
    """Return what a person would have to look at, by subject."""
    return {f.subject: f for f in judgement.findings if f.severity.rank >= Severity.WARNING.rank}
