"""One run as its events tell it: the same picture whether they come from the ledger or from the spool."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from upkeep.core.model import Action, Finding, Measurement, Model, Severity, worst
from upkeep.ledger import events as ev

UNFINISHED = ("running", "waiting", "died")


class ActionRecord(Model):
    """One action and what became of it; `status` is empty while it is open, `planned` in a dry run, and
    `proposed` when a person has to agree first."""

    action: Action
    opened_at: datetime
    closed_at: datetime | None = None
    status: str = ""
    detail: str = ""
    evidence: dict[str, Any] = {}


class RoutineRecord(Model):
    """The last try of one routine on one target."""

    key: ev.RoutineKey
    system: str
    role: str
    title: str
    state: ev.ROUTINE_STATES
    severity: Severity
    opened_at: datetime
    closed_at: datetime | None = None
    reason: str = ""
    hint: str = ""
    opens: datetime | None = None
    """When the maintenance window opens that it waits for."""
    dry_run: bool = False
    settings: dict[str, Any] = {}
    measurements: tuple[Measurement, ...] = ()
    findings: tuple[Finding, ...] = ()
    actions: tuple[ActionRecord, ...] = ()

    @property
    def area(self) -> str:
        """The part of the report that it belongs to."""
        return self.key.routine.split(".", 1)[0]

    @property
    def seconds(self) -> float | None:
        """How long the try took."""
        return (self.closed_at - self.opened_at).total_seconds() if self.closed_at else None


class RunRecord(Model):
    """Everything that one run saw and did."""

    run: ev.RunKey
    cadence: str = ""
    run_type: str = ""
    window_start: datetime | None = None
    window_end: datetime | None = None
    opened_at: datetime | None = None
    params: dict[str, Any] = {}
    expected: tuple[ev.Expected.Item, ...] = ()
    routines: tuple[RoutineRecord, ...] = ()
    escalations: tuple[ev.Escalated, ...] = ()
    asked: tuple[ev.ApprovalAsked, ...] = ()
    decided: tuple[ev.ApprovalDecided, ...] = ()
    closed: ev.RunClosed | None = None

    @property
    def missing(self) -> tuple[ev.Expected.Item, ...]:
        """What should have produced a result and has not: a killed worker leaves no row or an open one.

        What waits for its maintenance window has no result yet either; see `waiting`.
        """
        tries: dict[tuple[str, str], list[RoutineRecord]] = {}
        for routine in self.routines:
            tries.setdefault((routine.key.routine, routine.key.target), []).append(routine)
        return tuple(i for i in self.expected if not i.skip and not _has_ended(i, tries.get((i.routine, i.target), ())))

    @property
    def waiting(self) -> tuple[RoutineRecord, ...]:
        """What waits for its maintenance window; in a run that has ended, what was ended while it waited."""
        return tuple(routine for routine in self.routines if routine.state == "waiting")


def _has_ended(item: ev.Expected.Item, tries: Iterable[RoutineRecord]) -> bool:
    """Whether all tasks that worked on it, at least one, have come to an end."""
    states = [routine.state for routine in tries if item.task in ("", routine.key.task)]
    return bool(states) and not any(state in UNFINISHED for state in states)


class _Try:
    """A routine's try while its events are being read."""

    def __init__(self, opened: ev.RoutineOpened) -> None:
        self.opened = opened
        self.closed: ev.RoutineClosed | None = None
        self.stages: dict[str, ev.Observed] = {}
        self.actions: dict[int, ActionRecord] = {}

    def record(self) -> RoutineRecord:
        findings = tuple(f for stage in self.stages.values() for f in stage.findings)
        return RoutineRecord(
            key=self.opened.routine,
            system=self.opened.system,
            role=self.opened.role,
            title=self.opened.title,
            state=self.closed.state if self.closed else "running",
            severity=worst([*(f.severity for f in findings), *([self.closed.severity] if self.closed else [])]),
            opened_at=self.opened.at,
            closed_at=self.closed.at if self.closed else None,
            reason=self.closed.reason if self.closed else "",
            hint=self.closed.hint if self.closed else "",
            opens=self.closed.opens if self.closed else None,
            dry_run=self.opened.dry_run,
            settings=self.opened.settings,
            measurements=tuple(m for stage in self.stages.values() for m in stage.measurements),
            findings=findings,
            actions=tuple(self.actions[number] for number in sorted(self.actions)),
        )


def fold(run: ev.RunKey, events: Iterable[ev.Event]) -> RunRecord:
    """Build the record of `run` from its events; events of other runs are passed over."""
    facts: dict[str, Any] = {}
    expected: dict[tuple[str, str], ev.Expected.Item] = {}
    tries: dict[tuple[str, str, str, int], _Try] = {}
    told: dict[type, dict[Any, Any]] = {ev.Escalated: {}, ev.ApprovalAsked: {}, ev.ApprovalDecided: {}}
    for event in events:
        if ev.run_of(event) != run:
            continue
        match event:
            case ev.RunOpened():
                kept = ("cadence", "run_type", "window_start", "window_end", "params")
                facts |= {name: getattr(event, name) for name in kept}
                facts.setdefault("opened_at", event.at)
                facts["closed"] = None
            case ev.Expected():
                before, expected = expected, {(item.routine, item.target): item for item in event.items}
                # A cleared run selects again: what is no longer there can neither fail it nor be missed.
                tries = {key: one for key, one in tries.items() if key[:2] in expected or key[:2] not in before}
            case ev.RunClosed():
                facts["closed"] = event
            case ev.Escalated():
                told[ev.Escalated][event.id] = event
            case ev.ApprovalAsked():
                # A request that is handed over once more is the same request.
                told[ev.ApprovalAsked][event.request] = event
            case ev.ApprovalDecided():
                told[ev.ApprovalDecided][event.id] = event
            case ev.ReportKept() | ev.BackupsLearned():
                pass
            case _:
                _fold_try(tries, event)
    last: dict[tuple[str, str, str], _Try] = {}
    for (routine, target, task, _), one in sorted(tries.items(), key=lambda item: item[0]):
        last[routine, target, task] = one
    return RunRecord(
        run=run,
        expected=tuple(expected.values()),
        routines=tuple(one.record() for one in last.values()),
        escalations=tuple(told[ev.Escalated].values()),
        asked=tuple(told[ev.ApprovalAsked].values()),
        decided=tuple(told[ev.ApprovalDecided].values()),
        **facts,
    )


def _fold_try(tries: dict[tuple[str, str, str, int], _Try], event: Any) -> None:
    key = (event.routine.routine, event.routine.target, event.routine.task, event.routine.try_number)
    match event:
        case ev.RoutineOpened():
            tries[key] = _Try(event)
        case ev.Observed() if key in tries:
            tries[key].stages[event.stage] = event
        case ev.ActionOpened() if key in tries:
            status = "planned" if event.dry_run else "proposed" if event.proposed else ""
            tries[key].actions[event.number] = ActionRecord(action=event.action, opened_at=event.at, status=status)
        case ev.ActionClosed() if key in tries and event.number in tries[key].actions:
            done = {"closed_at": event.at, "status": event.status, "detail": event.detail, "evidence": event.evidence}
            tries[key].actions[event.number] = tries[key].actions[event.number].model_copy(update=done)
        case ev.RoutineClosed() if key in tries:
            tries[key].closed = event
