"""Who is told, on which rung, and when nobody is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.core import ladder
from upkeep.core.cadence import Cadence, RunType
from upkeep.core.ladder import Duty
from upkeep.core.system import Contact, Ladder, Role

MINUTE = timedelta(minutes=1)


def person(name: str) -> Contact:
    return Contact.model_validate({"name": name, "channels": [{"kind": "email", "address": f"{name}@example.org"}]})


def role(primary: str, secondary: str | None = None) -> Role:
    return Role(primary=person(primary), secondary=person(secondary) if secondary else None)


def duty(*rungs: dict[str, Any], **contacts: Role) -> Duty:
    steps = Ladder.model_validate({"deadlines": {"daily": "10 min"}, "rungs": rungs or [{"after": "0 s"}]})
    return Duty(system="shop", contacts=contacts or {"dba": role("ann", "bob"), "ops": role("cy")}, ladder=steps)


def names(people: tuple[Contact, ...]) -> list[str]:
    return [one.name for one in people]


@pytest.mark.parametrize(
    ("run_type", "escalate", "told"),
    [
        (RunType.SCHEDULED, False, True),
        (RunType.ASSET, False, True),
        (RunType.OPERATOR, False, True),
        (RunType.MANUAL, False, False),
        (RunType.MANUAL, True, True),
        (RunType.BACKFILL, False, False),
        (RunType.BACKFILL, True, False),
    ],
)
def test_backfills_are_quiet_and_manual_runs_unless_asked(run_type: RunType, escalate: bool, told: bool) -> None:
    """A backfill tells nobody even when asked to; a manual run tells only when asked; what starts by itself tells."""
    assert (ladder.quiet(run_type, escalate) == "") is told


def test_a_run_that_ended_by_its_deadline_is_not_late() -> None:
    """Ending at the very deadline is in time; ending later, or not at all, is not; no deadline proves nothing."""
    deadline = datetime(2026, 3, 1, 2, tzinfo=UTC)
    assert ladder.ended_in_time(deadline, deadline)
    assert not ladder.ended_in_time(deadline + MINUTE, deadline)
    assert not ladder.ended_in_time(None, deadline)
    assert not ladder.ended_in_time(deadline, None)


def test_a_rung_is_due_when_deadline_and_wait_have_passed() -> None:
    """Rung 2 is due after the cadence's deadline plus its own wait, and a cadence without deadline never is late."""
    steps = duty({"after": "0 s"}, {"after": "30 min"}).ladder
    assert ladder.is_due(steps, Cadence.DAILY, 1, 10 * MINUTE)
    assert not ladder.is_due(steps, Cadence.DAILY, 2, 39 * MINUTE)
    assert ladder.is_due(steps, Cadence.DAILY, 2, 40 * MINUTE)
    assert not ladder.is_due(steps, Cadence.DAILY, 3, 400 * MINUTE)
    assert not ladder.is_due(steps, Cadence.WEEKLY, 1, 400 * MINUTE)


def test_empty_roles_mean_the_role_that_owns_the_work() -> None:
    """A rung without roles tells the owners; its secondary stands in when the primary cannot be reached."""
    call = ladder.whom(duty(), 1, ["ops", "dba", "ops"])
    assert (names(call.people), names(call.stand_ins), call.notes) == (["cy", "ann"], ["bob"], ())


@pytest.mark.parametrize(
    ("level", "people", "stand_ins"),
    [("primary", ["ann"], ["bob"]), ("secondary", ["bob"], ["ann"]), ("both", ["ann", "bob"], [])],
)
def test_the_level_says_whom_of_a_role(level: str, people: list[str], stand_ins: list[str]) -> None:
    """Primary, secondary or both; whoever of the role is not told stands in."""
    call = ladder.whom(duty({"after": "0 s", "roles": ["dba"], "level": level}), 1, ["ops"])
    assert (names(call.people), names(call.stand_ins)) == (people, stand_ins)


def test_a_role_without_secondary_is_told_by_its_primary() -> None:
    """Asking for the secondary of a role that has none tells its primary, not nobody."""
    call = ladder.whom(duty({"after": "0 s", "roles": ["ops"], "level": "secondary"}), 1)
    assert names(call.people) == ["cy"]


def test_an_unknown_role_falls_back_to_any_contact_and_says_so() -> None:
    """A missing owner role never means silence: the first contact is told, with the reason."""
    call = ladder.whom(duty(), 1, ["ml"])
    assert names(call.people) == ["ann"]
    assert "no role 'ml'" in call.notes[0] and "dba" in call.notes[1]


def test_a_system_without_readable_contacts_says_so() -> None:
    """Nobody can be told where the file names nobody; the call then carries the reason."""
    call = ladder.whom(Duty(system="shop", contacts={}), 1)
    assert call.people == () and "no contact" in call.notes[0]


def test_one_person_in_two_roles_is_told_once() -> None:
    """A contact that stands for two roles appears once."""
    call = ladder.whom(duty(dba=role("ann"), ops=role("ann")), 1, ["dba", "ops"])
    assert names(call.people) == ["ann"]


@given(
    rung=st.integers(1, 9),
    level=st.sampled_from(["primary", "secondary", "both"]),
    owners=st.lists(st.sampled_from(["dba", "ops", "ml", ""])),
    roles=st.lists(st.sampled_from(["dba", "ops", "gone"]), max_size=3),
)
def test_somebody_is_always_told(rung: int, level: str, owners: list[str], roles: list[str]) -> None:
    """Whatever rung, level, owners and roles: with a single contact in the file, somebody is told, nobody twice."""
    call = ladder.whom(duty({"after": "0 s", "roles": roles, "level": level}), rung, owners)
    everybody = [*names(call.people), *names(call.stand_ins)]
    assert call.people and len(everybody) == len(set(everybody))
