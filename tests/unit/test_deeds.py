"""Actions: on record before the deed, closed however it ends, and done only when they may be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.unit.lifecycle_bench import Bench, planned
from upkeep.core.errors import ConfigurationError, CriticalFindingError, TransientError
from upkeep.core.model import Begun, Ended, Judgement, Outcome, OutcomeStatus, Plan

DONE = Outcome(status=OutcomeStatus.DONE, detail="swept")


def begun(*numbers: int) -> tuple[Begun, ...]:
    return tuple(Begun(number=n) for n in numbers)


def ended(*numbers: int, outcome: Outcome = DONE) -> tuple[Ended, ...]:
    return tuple(Ended(number=n, outcome=outcome) for n in numbers)


def batches(*some: Any) -> Iterator[Any]:
    """Return an `act_all` that yields just this."""
    yield from some


def must_not(*args: Any) -> Any:
    raise AssertionError("must not be called")


def test_what_begins_is_on_record_before_it_is_done(tmp_path: Path):
    """When the generator goes on after `Begun`, exactly the actions it named are open in the ledger."""
    seen: list[list[tuple[str, str]]] = []

    def note() -> None:
        seen.append([(subject, status) for subject, status, _ in bench.actions])

    def act_all(job: Any, actions: Any) -> Iterator[Any]:
        note()
        yield begun(1, 3)
        note()
        yield (*ended(3), *begun(2))
        note()
        yield ended(1, 2)

    bench = Bench(tmp_path, plan=lambda job, s: planned("a", "b", "c"), act_all=act_all)
    assert bench.run().actions == 3
    assert seen == [[], [("a", ""), ("c", "")], [("a", ""), ("b", ""), ("c", "done")]]
    assert bench.actions == [("a", "done", "swept"), ("b", "done", "swept"), ("c", "done", "swept")]


def test_outcomes_arrive_in_the_order_of_the_plan(tmp_path: Path):
    """`verify` can pair outcomes with the plan, whatever ended first."""
    arrived: list[str] = []

    def act_all(job: Any, actions: Any) -> Iterator[Any]:
        yield begun(1, 2)
        yield ended(2, outcome=Outcome(status=OutcomeStatus.DONE, detail="b"))
        yield ended(1, outcome=Outcome(status=OutcomeStatus.DONE, detail="a"))

    def verify(job: Any, seen: Any, outcomes: Any) -> Judgement:
        arrived.extend(outcome.detail for outcome in outcomes)
        return Judgement()

    Bench(tmp_path, plan=lambda job, s: planned("a", "b"), act_all=act_all, verify=verify).run()
    assert arrived == ["a", "b"]


def test_what_is_passed_over_has_a_row_that_says_why(tmp_path: Path):
    """An action that ends without having begun is recorded, and nothing has asked whether we are still alone."""
    late = Outcome(status=OutcomeStatus.SKIPPED, detail="the window would have closed before its end")
    bench = Bench(
        tmp_path, plan=lambda job, s: planned("a", "b"), act_all=lambda job, a: batches(ended(1, 2, outcome=late))
    )
    with guard(must_not) as alone:
        bench.run(alone=alone)
    assert bench.actions == [("a", "skipped", late.detail), ("b", "skipped", late.detail)]


@contextmanager
def guard(check: Any) -> Iterator[Any]:
    """Give an `alone` whose check is `check`."""

    @contextmanager
    def alone() -> Iterator[Any]:
        yield check

    yield alone


def test_an_error_closes_what_is_open_and_nothing_else(tmp_path: Path):
    """What had ended stays as it ended, what was open has failed, what had not begun has no row."""

    def act_all(job: Any, actions: Any) -> Iterator[Any]:
        yield begun(1, 2)
        yield ended(1)
        raise TransientError("claims/db: the connection was cut")

    bench = Bench(tmp_path, plan=lambda job, s: planned("a", "b", "c"), act_all=act_all)
    with pytest.raises(TransientError):
        bench.run()
    assert bench.actions == [("a", "done", "swept"), ("b", "failed", "claims/db: the connection was cut")]
    assert bench.record.routines[0].state == "failed"


def test_a_lost_lock_ends_the_work_before_the_deed(tmp_path: Path):
    """When other work may have begun on the target the next action does not begin; the routine can clean up."""
    told: list[str] = []
    lost = iter([None, TransientError("claims/db: the maintenance lock was lost")])

    def check() -> None:
        if error := next(lost):
            raise error

    def act_all(job: Any, actions: Any) -> Iterator[Any]:
        try:
            yield begun(1)
            yield ended(1)
            yield begun(2)
            told.append("did the second")
        finally:
            told.append("cleaned up")

    bench = Bench(tmp_path, plan=lambda job, s: planned("a", "b"), act_all=act_all)
    with guard(check) as alone, pytest.raises(TransientError, match="lock was lost"):
        bench.run(alone=alone)
    assert told == ["cleaned up"]
    assert bench.actions == [("a", "done", "swept")]


def test_a_forgotten_action_is_an_error(tmp_path: Path):
    """A routine that says nothing of an action must not look as if it had done it."""
    bench = Bench(tmp_path, plan=lambda job, s: planned("a", "b"), act_all=lambda job, a: batches(ended(1)))
    with pytest.raises(ConfigurationError, match=r"without a word on actions \[2\]"):
        bench.run()


def test_a_begun_action_that_never_ends_is_an_error_and_closed(tmp_path: Path):
    """Its row does not stay open."""
    bench = Bench(tmp_path, plan=lambda job, s: planned("a"), act_all=lambda job, a: batches(begun(1)))
    with pytest.raises(ConfigurationError, match="without a word"):
        bench.run()
    [(_, status, detail)] = bench.actions
    assert status == "failed" and "without a word" in detail


@pytest.mark.parametrize(("steps", "said"), [((2,), "none of the 1"), ((0,), "none of the 1"), ((1, 1), "had ended")])
def test_a_number_that_is_not_of_the_plan_is_an_error(tmp_path: Path, steps: tuple[int, ...], said: str):
    """A wrong number must not close another action's row."""
    bench = Bench(
        tmp_path, plan=lambda job, s: planned("a"), act_all=lambda job, a: batches(*(ended(n) for n in steps))
    )
    with pytest.raises(ConfigurationError, match=said):
        bench.run()


def test_what_needs_approval_is_proposed_and_the_rest_is_done(tmp_path: Path):
    """A run that nobody was asked about does what needs nobody; act sees nothing of the rest."""
    plan = Plan(actions=planned("a").actions + planned("big", approval="blocks writes for an hour").actions)
    acted: list[str] = []

    def act(job: Any, action: Any) -> Outcome:
        acted.append(action.subject)
        return DONE

    bench = Bench(tmp_path, plan=lambda job, s: plan, act=act)
    assert bench.run().actions == 2
    assert acted == ["a"]
    assert [entry[:2] for entry in bench.actions] == [("a", "done"), ("big", "proposed")]


def test_a_dry_run_proposes_nothing(tmp_path: Path):
    """It only says what it would do."""
    bench = Bench(tmp_path, plan=lambda job, s: planned("big", approval="blocks"), act=must_not)
    bench.run(dry_run=True)
    assert [status for _, status, _ in bench.actions] == ["planned"]


def test_an_approved_run_does_exactly_what_was_approved(tmp_path: Path):
    """Neither another action that needs approval, nor one that needs nobody, nor one that has left the plan."""
    acted: list[str] = []

    def act(job: Any, action: Any) -> Outcome:
        acted.append(action.subject)
        return DONE

    plan = Plan(actions=planned("a").actions + planned("big", "huge", approval="blocks").actions)
    bench = Bench(tmp_path, plan=lambda job, s: plan, act=act)
    bench.run(approved=frozenset({("sweep", "huge"), ("sweep", "gone")}))
    assert acted == ["huge"]
    gone = "not in the new plan: it is no longer needed, or has changed since it was approved"
    assert sorted(bench.actions) == [("gone", "skipped", gone), ("huge", "done", "swept")]


def test_an_approval_does_not_pass_to_another_object_of_the_same_name(tmp_path: Path):
    """An index dropped and made anew, perhaps on another table, is not the one that a person agreed to drop."""
    acted: list[str] = []

    def act(job: Any, action: Any) -> Outcome:
        acted.append(action.subject)
        return DONE

    plan = Plan(actions=tuple(a.model_copy(update={"details": {"oid": 7}}) for a in planned("same", "new").actions))
    bench = Bench(tmp_path, plan=lambda job, s: plan, act=act)
    asked: dict[tuple[str, str], Any] = {("sweep", "same"): 7, ("sweep", "new"): 6}
    bench.run(approved=frozenset(asked), objects=asked)
    assert acted == ["same"]
    assert sorted(entry[:2] for entry in bench.actions) == [("new", "skipped"), ("same", "done")]


def test_a_failed_outcome_of_one_lets_the_others_go_on(tmp_path: Path):
    """The routine fails, with every action's outcome on record."""
    failed = Outcome(status=OutcomeStatus.FAILED, detail="cannot sweep a")

    def act_all(job: Any, actions: Any) -> Iterator[Any]:
        yield begun(1, 2)
        yield (*ended(1, outcome=failed), *ended(2))

    bench = Bench(tmp_path, plan=lambda job, s: planned("a", "b"), act_all=act_all)
    with pytest.raises(CriticalFindingError):
        bench.run()
    assert [status for _, status, _ in bench.actions] == ["failed", "done"]


def test_an_empty_plan_calls_nothing(tmp_path: Path):
    """No thread, no connection, no lock check for nothing."""
    bench = Bench(tmp_path, act_all=must_not)
    assert bench.run().actions == 0


def test_an_act_all_that_is_no_generator_is_named(tmp_path: Path):
    """It would have done everything before any of it was on record."""
    bench = Bench(tmp_path, plan=lambda job, s: planned("a"), act_all=lambda job, a: [ended(1)])
    with pytest.raises(ConfigurationError, match=r"act_all\(\) returned list"):
        bench.run()
