"""The one loop: rows before deeds, dry runs, and how a try ends."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from upkeep.core.cadence import Covers, Window
from upkeep.core.errors import ConfigurationError, CriticalFindingError, TransientError
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Judgement, Measurement, Outcome, OutcomeStatus, Plan, Severity
from upkeep.core.routine import Routine, RoutineSettings
from upkeep.ledger import events as ev
from upkeep.ledger.record import RunRecord, fold
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger
from upkeep.operators.lifecycle import Lifecycle

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

    def run(self, dry_run: bool = False, last_try: bool = True) -> Any:
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
        return Lifecycle(self.routine, job, KEY, self.ledger, dry_run=dry_run, last_try=last_try).run()

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.ledger.spool.events()]

    @property
    def record(self) -> RunRecord:
        return fold(RUN, self.ledger.spool.events())


ACTION = Action(name="sweep", subject="t", reason="is dirty", undo="none")


def test_the_row_is_open_before_anything_is_done(tmp_path: Path):
    """Observe already finds the routine's row, and act its own action's row."""
    seen: list[list[str]] = []

    def act(job: Any, action: Action) -> Outcome:
        seen.append(bench.kinds)
        return Outcome(status=OutcomeStatus.DONE, detail="swept")

    bench = Bench(tmp_path, plan=lambda job, s: Plan(actions=(ACTION,)), act=act)
    bench.run()
    assert seen == [["routine_opened", "action_opened"]]
    assert bench.record.routines[0].actions[0].status == "done"


def test_a_dry_run_plans_and_does_nothing(tmp_path: Path):
    """Act and verify are never called in a dry run, and the plan is recorded."""

    def must_not(*args: Any) -> Any:
        raise AssertionError("called in a dry run")

    bench = Bench(tmp_path, plan=lambda job, s: Plan(actions=(ACTION,)), act=must_not, verify=must_not)
    assert bench.run(dry_run=True).actions == 1
    assert bench.record.routines[0].actions[0].status == "planned"


def test_a_critical_finding_fails_at_once(tmp_path: Path):
    """The work is done and recorded, then the try fails without a retry."""
    found = Finding(check="c", subject="s", severity=Severity.CRITICAL, message="broken")
    bench = Bench(tmp_path, judge=lambda job, s: Judgement(findings=(found,)))
    with pytest.raises(CriticalFindingError):
        bench.run()
    assert bench.record.routines[0].findings == (found,)
    assert bench.record.routines[0].state == "failed"


def test_transient_trouble_is_a_retry_until_the_last_try(tmp_path: Path):
    """A cut connection is tried again; when no try is left it is a failure."""

    def cut(job: Any) -> Any:
        raise TransientError("claims/db: connection cut", "look at the server")

    bench = Bench(tmp_path, observe=cut)
    for last_try, state in ((False, "retry"), (True, "failed")):
        with pytest.raises(TransientError):
            bench.run(last_try=last_try)
        assert bench.record.routines[0].state == state
    assert bench.record.routines[0].reason == "claims/db: connection cut"


def test_a_failing_action_closes_its_row(tmp_path: Path):
    """The row of the action says that it failed, and why; later actions are not started."""

    def act(job: Any, action: Action) -> Outcome:
        raise ConfigurationError("no permission")

    bench = Bench(tmp_path, plan=lambda job, s: Plan(actions=(ACTION, ACTION)), act=act)
    with pytest.raises(ConfigurationError):
        bench.run()
    [only] = bench.record.routines[0].actions
    assert (only.status, only.detail) == ("failed", "no permission")


def test_being_terminated_closes_the_row(tmp_path: Path):
    """Airflow ends a task that takes too long by an exception that is not an `Exception`."""

    def stopped(job: Any) -> Any:
        raise KeyboardInterrupt

    bench = Bench(tmp_path, observe=stopped)
    with pytest.raises(KeyboardInterrupt):
        bench.run()
    assert bench.record.routines[0].state == "failed"


def test_a_failed_outcome_is_a_critical_finding(tmp_path: Path):
    """An action may fail without stopping the others; it still fails the routine."""
    failed = Outcome(status=OutcomeStatus.FAILED, detail="could not sweep t")
    bench = Bench(tmp_path, plan=lambda job, s: Plan(actions=(ACTION,)), act=lambda job, a: failed)
    with pytest.raises(CriticalFindingError):
        bench.run()
    assert bench.record.routines[0].findings[0].message == "could not sweep t"


def test_what_actions_and_verify_measure_is_kept(tmp_path: Path):
    """Measurements of every stage are in the record, side by side."""

    def measured(name: str) -> tuple[Measurement, ...]:
        return (Measurement(name=name, value=1, unit="1"),)

    bench = Bench(
        tmp_path,
        judge=lambda job, s: Judgement(measurements=measured("a")),
        plan=lambda job, s: Plan(actions=(ACTION,)),
        act=lambda job, a: Outcome(status=OutcomeStatus.DONE, detail="", measurements=measured("b")),
        verify=lambda job, s, o: Judgement(measurements=measured("c")),
    )
    bench.run()
    assert [m.name for m in bench.record.routines[0].measurements] == ["a", "b", "c"]
