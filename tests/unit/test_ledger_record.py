"""Folding events into the record of a run, and judging it."""

from __future__ import annotations

from datetime import UTC, datetime

from upkeep.core.model import Action, Finding, Measurement, Severity
from upkeep.ledger import events as ev
from upkeep.ledger.record import fold
from upkeep.ledger.verdict import judge_run

AT = datetime(2026, 11, 21, 1, tzinfo=UTC)
RUN = ev.RunKey(dag_id="maintenance_daily", run_id="r1")
KEY = ev.RoutineKey(**RUN.model_dump(), routine="database.health", target="claims/db", try_number=1)


def opened(key: ev.RoutineKey = KEY) -> ev.RoutineOpened:
    return ev.RoutineOpened(at=AT, routine=key, system="claims", role="dba", title="Database health")


def observed(severity: Severity, key: ev.RoutineKey = KEY) -> ev.Observed:
    found = Finding(check="sequence", subject="s", severity=severity, message="s is at 96 %")
    measured = Measurement(name="sequence.used_ratio", subject="s", value=0.96, unit="1")
    return ev.Observed(at=AT, routine=key, stage="judge", system="claims", measurements=(measured,), findings=(found,))


def closed(state: str = "success", key: ev.RoutineKey = KEY, reason: str = "") -> ev.RoutineClosed:
    return ev.RoutineClosed(at=AT, routine=key, state=state, severity=Severity.OK, reason=reason)


def expected(*routines: str) -> ev.Expected:
    items = tuple(ev.Expected.Item(routine=r, target="claims/db", system="claims") for r in routines)
    return ev.Expected(at=AT, run=RUN, items=items)


def test_a_quiet_run_is_ok():
    """Everything expected ended and nothing was found."""
    verdict = judge_run(fold(RUN, [expected("database.health"), opened(), closed()]))
    assert (verdict.severity, verdict.passed, verdict.reasons) == (Severity.OK, True, ())


def test_a_killed_worker_makes_the_run_critical():
    """A row that was opened and never closed is a missing result."""
    verdict = judge_run(fold(RUN, [expected("database.health"), opened()]))
    assert not verdict.passed
    assert "claims/db: no result of database.health" in verdict.reasons[0]


def test_a_worker_that_never_started_makes_the_run_critical():
    """No row at all is a missing result."""
    record = fold(RUN, [expected("database.health", "backup.postgres"), opened(), closed()])
    assert [item.routine for item in record.missing] == ["backup.postgres"]


def test_a_skip_with_its_reason_is_not_missing():
    """What a system file excludes is not expected."""
    item = ev.Expected.Item(routine="backup.postgres", target="claims/db", system="claims", skip="replica")
    record = fold(RUN, [ev.Expected(at=AT, run=RUN, items=(item,))])
    assert record.missing == ()


def test_nothing_selected_is_critical():
    """A run that looked at nothing must not be green."""
    assert not judge_run(fold(RUN, [])).passed


def test_the_last_try_counts():
    """A retry that succeeds replaces the try that failed."""
    again = KEY.model_copy(update={"try_number": 2})
    first = [opened(), closed("retry", reason="connection cut")]
    record = fold(RUN, [expected("database.health"), *first, opened(again), closed("success", again)])
    assert [r.key.try_number for r in record.routines] == [2]
    assert judge_run(record).passed


def test_a_try_that_was_not_repeated_is_no_result():
    """The task was marked as failed while it waited for its retry: nothing came of it, so the run is not green."""
    events = [expected("database.health"), opened(), closed("retry", reason="connection cut")]
    verdict = judge_run(fold(RUN, events))
    assert verdict.reasons == ("claims/db: database.health was not tried again after: connection cut",)


def test_a_cleared_run_forgets_what_is_no_longer_selected():
    """The target that failed was taken out of its file and the run cleared: it is green."""
    failed = [expected("database.health", "backup.postgres"), opened(), closed("failed", reason="gone")]
    assert not judge_run(fold(RUN, failed)).passed
    again = KEY.model_copy(update={"routine": "backup.postgres"})
    record = fold(RUN, [*failed, expected("backup.postgres"), opened(again), closed("success", again)])
    assert judge_run(record).passed
    assert [r.key.routine for r in record.routines] == ["backup.postgres"]


def test_many_missing_results_are_told_by_routine():
    """A dead worker may take a thousand results along; the reasons stay readable."""
    items = tuple(
        ev.Expected.Item(routine=routine, target=f"s{n}/db", system=f"s{n}")
        for routine in ("database.health", "backup.postgres")
        for n in range(1000)
    )
    reasons = judge_run(fold(RUN, [ev.Expected(at=AT, run=RUN, items=items)])).reasons
    assert len(reasons) == 2 and all(len(reason) < 300 for reason in reasons)
    assert "1000 targets" in reasons[0] and "s0/db" in reasons[0]


def test_unknown_is_carried_but_does_not_fail():
    """Unknown is not ok, and not critical either: it needs a human, not a page."""
    events = [expected("database.health"), opened(), observed(Severity.UNKNOWN), closed()]
    verdict = judge_run(fold(RUN, events))
    assert (verdict.severity, verdict.passed) == (Severity.UNKNOWN, True)


def test_a_failed_routine_says_why():
    """The reason of a failure is in the verdict."""
    record = fold(RUN, [expected("database.health"), opened(), closed("failed", reason="disk full")])
    assert judge_run(record).reasons == ("claims/db: database.health failed: disk full",)


def test_actions_of_a_dry_run_are_planned():
    """A dry run shows what it would have done."""
    action = Action(name="vacuum", subject="t", reason="40 % dead")
    event = ev.ActionOpened(at=AT, routine=KEY, number=1, action=action, dry_run=True)
    record = fold(RUN, [opened(), event, closed()])
    assert record.routines[0].actions[0].status == "planned"


def test_events_of_other_runs_are_passed_over():
    """The spool holds events of several runs."""
    other = ev.RunKey(dag_id="maintenance_daily", run_id="r2")
    assert fold(other, [opened(), closed()]).routines == ()


def test_secrets_are_masked_in_free_text_only():
    """A password that is also a word must not tear a target's name apart."""
    event = closed("failed", reason="login claims failed")
    scrubbed = ev.scrub(event, lambda value: value.replace("claims", "***"))
    assert scrubbed.reason == "login *** failed"
    assert scrubbed.routine.target == "claims/db"


def test_an_event_survives_the_spool_with_odd_characters():
    """NUL cannot be kept by PostgreSQL; everything else comes back as it was."""
    event = closed("failed", reason="a\x00b \u202e <script> \ud7ff")
    again = ev.EVENT.validate_json(ev.to_json(event))
    assert again.reason == "a\u2400b \u202e <script> \ud7ff"
