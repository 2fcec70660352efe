"""What tests of the dependency audit share: a target in a folder, a clock, a memory, and the real adapters."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

from tests.integration.database_bench import Memory
from upkeep.adapters import audit as adapter
from upkeep.adapters import http
from upkeep.core.audit import Audited, Verdict
from upkeep.core.cadence import Window
from upkeep.core.job import Job
from upkeep.core.model import Finding, Judgement, Outcome, Severity
from upkeep.core.routine import Routine
from upkeep.core.targets import DependenciesTarget

ROUTINE = Routine.load("upkeep.routines.dependencies.audit")
PINS = "Django==3.2.0\nrequests==2.19.0\nPillow==8.0.0\nurllib3==1.24.1\n"


@dataclass
class Bench:
    """The audit of one target, run after run."""

    folder: Path
    target: dict[str, Any]
    history: Memory = field(default_factory=Memory)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    remembers: bool = True
    docker: str = ""
    connection: Any = None
    seen: Any = None
    outcomes: list[Outcome] = field(default_factory=list)

    def run(self, **settings: Any) -> Judgement:
        """Observe, judge, plan and act; what is measured is remembered for the next run."""
        job = self.job(settings)
        self.seen = ROUTINE.observe(job)
        judgement = ROUTINE.judge(job, self.seen)
        keys = [f.key("t", "r") for f in judgement.findings]
        assert len(keys) == len(set(keys)), f"two findings have one key: {keys}"
        self.outcomes = [ROUTINE.act(job, action) for action in ROUTINE.plan(job, self.seen).actions]
        self.history.keep(judgement.measurements, self.now)
        for outcome in self.outcomes:
            self.history.keep(outcome.measurements, self.now)
        return judgement

    def job(self, settings: dict[str, Any]) -> Job[Any, Any]:
        """Return a job with the adapters that an Airflow run gets."""
        tools: Any = SimpleNamespace(
            auditor=adapter.Auditor(
                http.opener(lambda conn_id: self.connection), lambda conn_id: self.docker, self.folder / "indexes"
            ),
            history=self.history,
            catalogue=SimpleNamespace(reachable=self.remembers),
            now=lambda: self.now,
            log=logging.getLogger("test"),
        )
        given = {"content_age_days": 36500} | settings  # the advisories of the tests are old
        return Job(
            routine=ROUTINE.name,
            target=DependenciesTarget.model_validate({"id": "claims/dependencies", **self.target}),
            system=SimpleNamespace(name="claims", zone=ZoneInfo("Europe/Berlin")),  # type: ignore[arg-type]
            settings=ROUTINE.resolve_settings(("test", given)),
            window=Window(start=self.now, end=self.now),
            run_id="r",
            try_number=1,
            tools=tools,
        )

    def later(self, **by: float) -> Bench:
        """Let time pass."""
        self.now += timedelta(**by)
        return self

    @property
    def audited(self) -> Audited:
        """What the last run's auditor found."""
        found: Audited = self.seen.audited
        return found

    @property
    def verdict(self) -> Verdict:
        """The verdict of the last run."""
        return self.audited.verdict


def pins(folder: Path, sources: Sequence[dict[str, Any]], text: str = PINS, **target: Any) -> Bench:
    """Return the audit of a requirements file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "requirements.txt").write_text(text)
    return Bench(folder, {"manifests": [str(folder / "requirements.txt")], "advisories": list(sources), **target})


def of(judgement: Judgement, check: str) -> dict[str, Finding]:
    """Return the findings of a check by subject."""
    return {f.subject: f for f in judgement.findings if f.check == check}


def unknown(judgement: Judgement) -> list[Finding]:
    """Return what could not be determined."""
    return [f for f in judgement.findings if f.severity is Severity.UNKNOWN]
