"""Who must be told, on which rung, and when nobody is. Decisions only: no I/O, no clock.

Rungs are counted from 1, as in the messages of `core.system`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from upkeep.core.cadence import Cadence, RunType
from upkeep.core.model import Model
from upkeep.core.system import Contact, Ladder, Role


class Duty(Model):
    """What of a system decides who is told: it may be known of a file whose other parts are wrong."""

    system: str
    contacts: dict[str, Role]
    ladder: Ladder = Ladder()


class Call(Model):
    """Who is told on one rung of one system's ladder."""

    system: str
    rung: int
    people: tuple[Contact, ...] = ()
    stand_ins: tuple[Contact, ...] = ()
    """Told, in this order, when somebody of `people` could not be reached."""
    notes: tuple[str, ...] = ()
    """What was wrong with the ladder, in words."""


def quiet(run_type: RunType, escalate: bool) -> str:
    """Return why nobody is told about a run of this kind; empty when people are.

    A backfill is about the past. A run that a person started has that person watching; `escalate` is the run's param.
    """
    if run_type is RunType.BACKFILL:
        return "a backfill: what is found is recorded, and nobody is told"
    if run_type is RunType.MANUAL and not escalate:
        return "a manual run without the param `escalate`"
    return ""


def ended_in_time(ended: datetime | None, deadline: datetime | None) -> bool:
    """Tell whether a run had ended, well or badly, when its deadline came.

    Airflow forgets the deadlines of runs that succeed, not of those that fail before them.
    """
    return ended is not None and deadline is not None and ended <= deadline


def is_due(ladder: Ladder, cadence: Cadence, rung: int, elapsed: timedelta) -> bool:
    """Tell whether a rung has been reached when a run was queued `elapsed` ago.

    An earlier time than `elapsed` counts: alerts are kept from the run's beginning, and the file may have changed.
    """
    late = ladder.deadlines.get(cadence.value)
    return late is not None and rung <= len(ladder.rungs) and late + ladder.rungs[rung - 1].after <= elapsed


def whom(duty: Duty, rung: int, owners: Iterable[str] = ()) -> Call:
    """Return who is told on a rung; never nobody where the system has a single contact.

    :param owners: the roles that own the work; they are told where the rung names no roles.
    """
    step = duty.ladder.rungs[min(rung, len(duty.ladder.rungs)) - 1]
    return _call(duty, rung, step.roles or tuple(dict.fromkeys(owner for owner in owners if owner)), step.level)


def whom_to_ask(duty: Duty, owner: str) -> Call:
    """Return who is asked to agree to a change: the role that owns the work, whatever the rungs of the ladder name.

    A ladder is for trouble, which somebody must see to at once; a proposal waits for those who know the work.
    """
    return _call(duty, 1, (owner,) if owner else (), "primary")


def _call(duty: Duty, rung: int, wanted: tuple[str, ...], level: str) -> Call:
    notes = [f"{duty.system} has no role {role!r}" for role in wanted if role not in duty.contacts]
    roles = [duty.contacts[role] for role in wanted if role in duty.contacts]
    if not roles and duty.contacts:
        name, any_role = next(iter(duty.contacts.items()))
        roles, notes = [any_role], [*notes, f"role {name} is told in place of the role that owns the work"]
    if not duty.contacts:
        notes.append(f"{duty.system} has no contact that could be read")
    # One person may hold several roles.
    people = tuple(dict.fromkeys(person for role in roles for person in _people(role, level)))
    stand_ins = dict.fromkeys(person for role in roles for person in _people(role, "both"))
    return Call(
        system=duty.system,
        rung=rung,
        people=people,
        stand_ins=tuple(person for person in stand_ins if person not in people),
        notes=tuple(notes),
    )


def _people(role: Role, level: str) -> Iterator[Contact]:
    if level != "secondary" or role.secondary is None:
        yield role.primary
    if level != "primary" and role.secondary is not None:
        yield role.secondary
