"""The one loop: rows before deeds, dry runs, and how a try ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout

from tests.unit.lifecycle_bench import ACTION, Bench
from upkeep.core.errors import ConfigurationError, CriticalFindingError, TransientError
from upkeep.core.model import Action, Finding, Judgement, Measurement, Outcome, OutcomeStatus, Plan, Severity
from upkeep.operators.policy import Stopped


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


@pytest.mark.parametrize(
    ("step", "parts"),
    [
        ("judge", {"judge": lambda job, seen: None}),
        ("plan", {"plan": lambda job, seen: [ACTION]}),
        ("act", {"plan": lambda job, seen: Plan(actions=(ACTION,)), "act": lambda job, action: "swept"}),
        ("verify", {"verify": lambda job, seen, outcomes: Outcome(status=OutcomeStatus.DONE, detail="")}),
    ],
)
def test_a_step_that_returns_something_else_is_named(tmp_path: Path, step: str, parts: dict[str, Any]):
    """Whoever wrote the routine reads which step gave what; every row that was opened is closed."""
    bench = Bench(tmp_path, **parts)
    with pytest.raises(ConfigurationError, match=rf"sample.work: {step}\(\) returned"):
        bench.run()
    [record] = bench.record.routines
    assert record.state == "failed" and all(action.status == "failed" for action in record.actions)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (KeyError("x"), "retry"),
        (SystemExit(0), "retry"),
        (Stopped("the task was ended from outside"), "retry"),
        (AirflowTaskTimeout("Timeout, PID: 1"), "failed"),
        (ConfigurationError("wrong"), "failed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
def test_the_row_says_whether_it_is_tried_again(tmp_path: Path, error: BaseException, state: str):
    """What the row says while a try is left is what Airflow's retry policy will do."""

    def broken(job: Any) -> Any:
        raise error

    bench = Bench(tmp_path, observe=broken)
    with pytest.raises(type(error)):
        bench.run(last_try=False)
    assert bench.record.routines[0].state == state
    with pytest.raises(type(error)):
        bench.run(last_try=True)
    assert bench.record.routines[0].state == "failed"


def test_a_time_out_is_said_in_words(tmp_path: Path):
    """ "Timeout, PID: 4711" tells nobody at night what happened."""

    def slow(job: Any) -> Any:
        raise AirflowTaskTimeout("Timeout, PID: 4711")

    bench = Bench(tmp_path, observe=slow)
    with pytest.raises(AirflowTaskTimeout):
        bench.run()
    assert bench.record.routines[0].reason == "it took longer than its execution_timeout"


def test_a_name_that_is_no_utf8_is_kept_readable(tmp_path: Path):
    """File names may hold any bytes; the row is closed all the same."""

    def strange(job: Any) -> Any:
        raise ConfigurationError("cannot read caf\udce9.log", "rename caf\udce9.log")

    bench = Bench(tmp_path, observe=strange)
    with pytest.raises(ConfigurationError):
        bench.run()
    assert bench.record.routines[0].reason == "cannot read caf\\udce9.log"


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
