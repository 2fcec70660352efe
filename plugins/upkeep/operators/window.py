"""When heavy work may begin: now, when the maintenance window of its system opens, or not in this run."""

from __future__ import annotations

from datetime import datetime, timedelta

from upkeep.core.model import Finding, Model, Severity
from upkeep.core.routine import Routine
from upkeep.core.system import System


class Begin(Model):
    """It may begin now; `until` is when the window closes, None where no window binds it."""

    until: datetime | None = None


class Wait(Model):
    """It begins when the window opens."""

    opens: datetime
    reason: str


class Pass(Model):
    """It is passed over in this run: the window is too far away."""

    reason: str
    finding: Finding


def decide(
    routine: Routine, system: System, now: datetime, *, since: datetime, longest: timedelta, free: bool = False
) -> Begin | Wait | Pass:
    """Decide when a routine may begin on a system.

    :param since: since when it has been waiting; `longest` counts from there.
    :param free: a person has decided that the window does not bind it, or it changes nothing anyway.
    """
    if not routine.windowed or free:
        return Begin()
    window = system.maintenance_window
    if window.contains(now, system.zone):
        return Begin(until=window.closes(now, system.zone))
    opens = window.opens(now, system.zone)
    if opens - since <= longest:
        return Wait(opens=opens, reason=f"waits for the maintenance window of {system.name}, which opens {_utc(opens)}")
    reason = (
        f"the maintenance window of {system.name} is closed until {_utc(opens)},"
        f" and this run waits at most {_span(longest)} for it"
    )
    return Pass(reason=reason, finding=_finding(routine, system, reason))


def _finding(routine: Routine, system: System, reason: str) -> Finding:
    return Finding(
        check="maintenance_window",
        subject=system.name,
        severity=Severity.INFO,
        message=f"{routine.title} was passed over: {reason}",
        hint=f"let maintenance_window of {system.name}.yaml open nearer to the run's start, let the task wait longer"
        " (`window_wait`), or trigger it by hand with the param `outside_window`",
    )


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _span(length: timedelta) -> str:
    hours = length.total_seconds() / 3600
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} h"
