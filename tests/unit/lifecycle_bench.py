"""What tests of the lifecycle share: a routine made of parts, run against a ledger that is away."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from upkeep.core.cadence import Covers, Window
from upkeep.core.errors import ConfigurationError
from upkeep.core.job import Job
from upkeep.core.model import Action, Judgement, Outcome, OutcomeStatus, Plan
from upkeep.core.routine import Routine, RoutineSettings
from upkeep.ledger import events as ev
from upkeep.ledger.record import RunRecord, fold
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger
from upkeep.operators.lifecycle import Lifecycle

ACTION = Action(name="sweep", subject="t", reason="is dirty", undo="none")
NOW = datetime(2026, 11, 21, 1, tzinfo=UTC)
RUN = ev.RunKey(dag_id="d", run_id="r")
KEY = ev.RoutineKey(**RUN.model_dump(), routine="sample.work", target="claims/db", try_number=1)


def no_ledger() -> str:
    raise ConfigurationError("connection 'upkeep_ledger' is not defined")


class Bench:
    """A routine with parts that a test replaces, run against a ledger that is away (so: the spool)."""

    def __init__(self, folder: Path, **parts: Any) -> None:
        nothing: dict[str, Any] = {
            "observe": lambda job: "seen",
            "judge": lambda job, seen: Judgement(),
            "plan": lambda job, seen: Plan(),
            "act": lambda job, action: Outcome(status=OutcomeStatus.DONE, detail="done"),
            "verify": lambda job, seen, outcomes: Judgement(),
        }
        facts = {"name": "sample.work", "title": "Work", "targets": ("postgres",), "covers": Covers.NOW}
        self.routine = Routine(**facts, role="dba", runbook="x", settings=RoutineSettings, **(nothing | parts))
        self.ledger = Ledger(no_ledger, Spool(folder))

    def run(self, dry_run: bool = False, last_try: bool = True, **given: Any) -> Any:
        """Run it once; `given` are further arguments of the lifecycle."""
        tools: Any = SimpleNamespace(now=lambda: NOW, log=logging.getLogger("test"))
        system: Any = SimpleNamespace(name="claims")
        job: Job[Any, Any] = Job(
            routine="sample.work",
            target=system,
            system=system,
            settings=RoutineSettings(),
            window=Window(start=NOW, end=NOW),
            run_id="r",
            try_number=1,
            tools=tools,
        )
        return Lifecycle(self.routine, job, KEY, self.ledger, dry_run=dry_run, last_try=last_try, **given).run()

    @property
    def kinds(self) -> list[str]:
        """What has been recorded so far."""
        return [event.kind for event in self.ledger.spool.events()]

    @property
    def record(self) -> RunRecord:
        """The run as its events tell it."""
        return fold(RUN, self.ledger.spool.events())

    @property
    def actions(self) -> list[tuple[str, str, str]]:
        """Subject, status and detail of the actions on record."""
        return [(a.action.subject, a.status, a.detail) for a in self.record.routines[0].actions]


def planned(*subjects: str, approval: str = "") -> Plan:
    """Return a plan to sweep these."""
    return Plan(actions=tuple(Action(name="sweep", subject=s, reason="is dirty", approval=approval) for s in subjects))
