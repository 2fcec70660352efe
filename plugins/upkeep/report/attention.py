"""What needs a human: everything in a run that is not as it should be, worst first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from upkeep.core.model import Finding, Severity
from upkeep.ledger.events import ApprovalDecided, Escalated, Expected
from upkeep.ledger.record import UNFINISHED, RoutineRecord, RunRecord
from upkeep.report import human
from upkeep.report.extras import Extras


class Item(NamedTuple):
    """One thing that needs a human, or, with severity info, that one may want to know."""

    severity: Severity
    place: str
    """A target, a system, or a part of this package."""
    what: str
    """The routine or part that says so."""
    message: str
    hint: str = ""
    observed: str = ""
    limit: str = ""
    since: human.Shown = human.Shown("")
    routine: tuple[str, str] | None = None
    """Routine and target whose section tells more."""
    subject: str = ""
    """The part of the target that it is about, where the message does not name it."""
    others: tuple[Any, ...] = ()
    """The same on other targets."""

    @property
    def group(self) -> tuple[Item, ...]:
        """Itself and the same on other targets."""
        return (self, *self.others)

    @property
    def is_same_subject(self) -> bool:
        """Whether it is about the same part of every target."""
        return len({one.subject for one in self.group}) == 1

    @property
    def places(self) -> str:
        """Where it is, in words."""
        if self.is_same_subject:
            return " ".join(filter(None, (", ".join(one.place for one in self.group), self.subject)))
        return ", ".join(" ".join(filter(None, (one.place, one.subject))) for one in self.group)


def items(record: RunRecord, extras: Extras) -> tuple[Item, ...]:
    """Return everything that was found, failed, is missing or could not be told, worst first."""
    found = [
        *_of_run(record, extras),
        *(_missing(item, record) for item in record.missing),
        *(item for routine in record.routines for item in _of_routine(routine, extras)),
        *(_unanswered(decided) for decided in record.decided if decided.decision == "expired"),
        *(item for escalation in record.escalations for item in _untold(escalation)),
    ]
    return tuple(sorted(found, key=lambda item: -item.severity.rank))


def grouped(found: Iterable[Item]) -> list[Item]:
    """Put together what is the same, word for word and with the same cure, on several targets; the order stays."""
    groups: dict[tuple[Any, ...], list[Item]] = {}
    for item in found:
        same = (item.severity, item.what, item.message, item.hint, item.observed, item.limit, item.since)
        groups.setdefault(same, []).append(item)
    return [first._replace(others=tuple(others)) for first, *others in groups.values()]


def needs_human(item: Item) -> bool:
    """Tell whether an item wants somebody to act, and is not just worth knowing."""
    return item.severity.rank > Severity.INFO.rank


def _of_run(record: RunRecord, extras: Extras) -> Iterator[Item]:
    if not record.expected:
        yield Item(
            Severity.CRITICAL,
            record.run.dag_id,
            "selection",
            "nothing was selected: the run looked at no target at all",
            "read the log of the task `select`; check the run's params and the folder of system files",
        )
    if extras.ledger_away:
        yield Item(
            Severity.UNKNOWN,
            "ledger",
            "record keeping",
            f"the ledger could not be asked: {extras.ledger_away}",
            "this report shows what this worker knows; history and the results of other workers may be missing."
            " Events wait in the spool of each worker and are written when the ledger is back",
        )
    if extras.rejected:
        yield Item(
            Severity.WARNING,
            "ledger",
            "record keeping",
            f"{human.plural(extras.rejected, 'record')} of this worker could not be written to the ledger",
            "read the reasons in rejected.jsonl in the spool folder (UPKEEP_SPOOL_DIR)",
        )


def _missing(item: Expected.Item, record: RunRecord) -> Item:
    key = (item.routine, item.target)
    tries = [r for r in record.routines if (r.key.routine, r.key.target) == key and item.task in ("", r.key.task)]
    last = next((r for r in tries if r.state in UNFINISHED), None)
    told = f"try {last.key.try_number} began and never ended" if last else "it never began"
    hint = "its worker may have died: read the task's log, then clear the task so that it runs again"
    if last and last.state == "waiting":
        told, hint = f"it was ended while it still {last.reason}", "clear the task so that it waits, and then runs"
    return Item(
        Severity.CRITICAL,
        item.target,
        last.title if last else item.routine,
        f"no result of {item.routine}: {told}",
        hint,
        routine=key if last else None,
    )


def _of_routine(routine: RoutineRecord, extras: Extras) -> Iterator[Item]:
    yield from (_finding(routine, found, extras) for found in routine.findings if found.severity is not Severity.OK)
    explained = any(finding.severity is Severity.CRITICAL for finding in routine.findings)
    if routine.state == "failed" and (routine.reason or not explained):
        reason = routine.reason or "no reason was given"
        yield _said(routine, Severity.CRITICAL, f"failed: {reason}", routine.hint)
    if routine.state == "retry":
        told = f"try {routine.key.try_number} ended with trouble that may pass, and no other try followed"
        yield _said(routine, Severity.UNKNOWN, f"{told}: {routine.reason}", routine.hint)
    if routine.state not in ("success", "failed"):
        return
    for action in routine.actions:
        if not action.status:
            named = f"{action.action.name} {action.action.subject}"
            message = f"action {named} was begun; what became of it is unknown"
            yield _said(routine, Severity.UNKNOWN, message, action.action.undo)


def _unanswered(decided: ApprovalDecided) -> Item:
    return Item(
        Severity.WARNING,
        decided.target,
        decided.routine,
        f"nobody has answered whether to make {human.plural(len(decided.actions), 'change')}: nothing was done",
        "the next run that finds it needed asks again; to be asked now, trigger this DAG with target and routine",
    )


def _said(routine: RoutineRecord, severity: Severity, message: str, hint: str) -> Item:
    key = (routine.key.routine, routine.key.target)
    return Item(severity, routine.key.target, routine.title, message, hint, routine=key)


def _finding(routine: RoutineRecord, finding: Finding, extras: Extras) -> Item:
    return Item(
        finding.severity,
        routine.key.target,
        routine.title,
        finding.message,
        finding.hint,
        finding.observed,
        finding.limit,
        _since(routine, finding, extras),
        (routine.key.routine, routine.key.target),
        "" if finding.subject in finding.message else finding.subject,
    )


def _since(routine: RoutineRecord, finding: Finding, extras: Extras) -> human.Shown:
    """Say how long a finding has been there; in a run whose ledger is away nobody knows."""
    if extras.ledger_away:
        return human.Shown("since when is unknown (no ledger)")
    seen = extras.first_seen.get(finding.key(routine.key.target, routine.key.routine))
    if seen is None or seen.times <= 1:
        return human.Shown("new in this run")
    first = human.moment(seen.first, extras.zone(routine.system))
    age = human.duration((extras.now - seen.first).total_seconds()).text
    return human.Shown(f"for {age}, seen {human.plural(seen.times, 'time')}", f"since {first.text}")


def _untold(escalation: Escalated) -> Iterable[Item]:
    """Return what could not be delivered; a channel that nobody can check is told of in its own section."""
    failed = [d for d in escalation.deliveries if d.delivered is False]
    reached = any(d.delivered for d in escalation.deliveries)
    for delivery in failed:
        # A request has one rung, and its people are told again by none.
        rung = "" if escalation.cause == "approval" else " on this rung"
        rest = "somebody else was reached" if reached else f"nobody else was reached{rung}"
        why = delivery.detail or "no reason was given"
        yield Item(
            Severity.INFO if reached else Severity.WARNING,
            escalation.system or escalation.subject,
            "escalation",
            f"{delivery.contact} was not reached by {delivery.channel}: {why}; {rest}",
            "check the channel's address and its connection; tell the person by other means",
        )
