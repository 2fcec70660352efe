"""A run is late: which systems still wait for it, and who of them is told on this rung."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from upkeep.core import ladder
from upkeep.core.cadence import Cadence, RunType
from upkeep.core.model import Model
from upkeep.core.notice import Notice
from upkeep.escalation.desk import Desk, links, open_desk
from upkeep.escalation.duties import duty_of, owners_of_routines
from upkeep.ledger.events import Expected, RunKey
from upkeep.ledger.record import RunRecord
from upkeep.systems.index import read_index

_SHOWN = 8
_PATIENT = "all that is left waits for its maintenance window"
log = logging.getLogger(__name__)


class LateRun(Model):
    """A run whose deadline has come, as Airflow describes it to a deadline's callback."""

    key: RunKey
    type: RunType
    cadence: Cadence
    rung: int
    elapsed: timedelta
    """Time from queueing to the deadline of this rung."""
    deadline: datetime | None
    ended: datetime | None
    state: str
    params: dict[str, Any]

    @classmethod
    def of(cls, context: dict[str, Any], cadence: str, rung: int, after_seconds: float) -> LateRun:
        """Read the simple context that the scheduler wrote: its times are text, `conf` holds the params given."""
        run = context["dag_run"]
        return cls(
            key=RunKey(dag_id=run["dag_id"], run_id=run["dag_run_id"]),
            type=RunType.of(run["run_type"]),
            cadence=Cadence(cadence),
            rung=rung,
            elapsed=timedelta(seconds=after_seconds),
            deadline=context.get("deadline", {}).get("deadline_time"),
            ended=run.get("end_date"),
            state=str(run.get("state") or "unknown"),
            params=run.get("conf") or {},
        )


def tell_late(late: LateRun, desk_of: Callable[[RunKey], AbstractContextManager[Desk]] = open_desk) -> str:
    """Tell the contacts of every system that still waits; return what was done, in words."""
    reason = ladder.quiet(late.type, bool(late.params.get("escalate")))
    if not reason and ladder.ended_in_time(late.ended, late.deadline):
        reason = f"it had ended ({late.state}) before its deadline"
    if reason:
        log.info("escalation: %s %s: nobody is told: %s", late.key.dag_id, late.key.run_id, reason)
        return f"quiet: {reason}"
    with desk_of(late.key) as desk:
        waiting = _outstanding(desk.record, _asked(late, desk.record), late.deadline)
        if not waiting:
            log.info("escalation: %s %s: nobody is told: %s", late.key.dag_id, late.key.run_id, _PATIENT)
            return f"quiet: {_PATIENT}"
        roles = owners_of_routines(desk.record)
        for system, items in waiting.items():
            duty = duty_of(system)
            if ladder.is_due(duty.ladder, late.cadence, late.rung, late.elapsed):
                owners = [roles.get(item.routine, "") for item in items]
                desk.tell("deadline", ladder.whom(duty, late.rung, owners), _notice(late, system, items, desk.record))
        log.info("escalation: %s %s, rung %d: %s", late.key.dag_id, late.key.run_id, late.rung, desk.summary())
        return desk.summary()


def _asked(late: LateRun, record: RunRecord) -> list[str]:
    """Return the systems that the run is about."""
    asked = late.params.get("systems") or record.params.get("systems")
    return [name for name in read_index().names if not asked or name in asked]


def _outstanding(record: RunRecord, systems: Iterable[str], at: datetime | None) -> dict[str, list[Expected.Item]]:
    """Return the systems that still wait, with what for; all of them when only the end of the run is missing.

    A system whose results are all in is left in peace: the run is late for somebody else's sake. So is one whose work
    waits for its maintenance window at the moment `at`; when the window has opened and the work has not gone on, it is
    late.
    """
    patient = {(r.key.routine, r.key.target) for r in record.waiting if r.opens and (at is None or r.opens > at)}
    missing: dict[str, list[Expected.Item]] = {name: [] for name in systems}
    for item in record.missing:
        if item.system in missing and (item.routine, item.target) not in patient:
            missing[item.system].append(item)
    waiting = {name: items for name, items in missing.items() if items}
    return waiting if waiting or patient else missing


def _notice(late: LateRun, system: str, items: list[Expected.Item], record: RunRecord) -> Notice:
    return Notice(
        label="LATE",
        subject=system,
        headline=f"the {late.cadence} run has not finished in time",
        facts={
            "Time since it was queued": _span(late.elapsed),
            "State of the run": late.state,
            "Waiting for": "\n".join(_waiting_for(items, record)),
            "What to do": "open the run: a queued task wants a worker, a running one has its log; clear what hangs",
        },
        links=links(late.key),
        dag_id=late.key.dag_id,
        run_id=late.key.run_id,
        topic=f"{system} {late.cadence} run",
        rung=late.rung,
    )


def _waiting_for(items: list[Expected.Item], record: RunRecord) -> Iterator[str]:
    if not record.expected:
        yield "everything: the run has not even selected its targets"
    elif not items:
        yield "its report and verdict: every routine has its result"
    states = {(routine.key.routine, routine.key.target): routine.state for routine in record.routines}
    for item in items[:_SHOWN]:
        yield f"{item.routine} on {item.target} ({states.get((item.routine, item.target), 'not begun')})"
    if len(items) > _SHOWN:
        yield f"and {len(items) - _SHOWN} more"


def _span(elapsed: timedelta) -> str:
    """Return a duration as people say it: `1 h 30 min`."""
    seconds = round(elapsed.total_seconds())
    parts = ((seconds // 3600, "h"), (seconds % 3600 // 60, "min"), (seconds % 60, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"
