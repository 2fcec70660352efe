"""Who was asked to agree to what in a run, and who answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from upkeep.core.model import Action, Severity
from upkeep.ledger.events import ApprovalAsked, ApprovalDecided
from upkeep.ledger.record import RunRecord
from upkeep.report import human
from upkeep.report.extras import Extras

_WORDS = {
    "approved": ("approved", Severity.OK),
    "rejected": ("rejected", Severity.INFO),
    "expired": ("nobody answered", Severity.WARNING),
}


class Approval(NamedTuple):
    """One request or its answer, as the report shows it."""

    word: str
    severity: Severity
    heading: str
    detail: str
    changes: tuple[str, ...]


def approvals(record: RunRecord, extras: Extras) -> Iterator[Approval]:
    """Return what this run asked, and what was answered in it."""
    titles = {routine.key.routine: routine.title for routine in record.routines}
    for asked in record.asked:
        where = (
            "in this run" if asked.request == record.run else f"in {asked.request.dag_id}, run {asked.request.run_id}"
        )
        detail = f"{human.moment(asked.at, extras.zone(asked.system)).text}, {where}, under Required Actions of Airflow"
        yield Approval("asked", Severity.INFO, _heading(asked, titles), detail, _changes(asked))
    yield from _unasked(record)
    for decided in record.decided:
        word, severity = _WORDS[decided.decision]
        by = f"by {decided.by}" if decided.by else "counts as a rejection"
        user = f" (user {decided.by_id})" if decided.by_id not in ("", decided.by) else ""
        detail = f"{by}{user}, {human.moment(decided.at, extras.zone(decided.system)).text}"
        yield Approval(word, severity, _heading(decided, titles), detail, _changes(decided))


def _unasked(record: RunRecord) -> Iterator[Approval]:
    """Return what was proposed and is in no request of this run."""
    asked = {(e.routine, e.target, a.name, a.subject) for e in record.asked for a in e.actions}
    for routine in record.routines:
        proposed = [entry.action for entry in routine.actions if entry.status == "proposed"]
        key = (routine.key.routine, routine.key.target)
        if left := [action for action in proposed if (*key, action.name, action.subject) not in asked]:
            yield Approval(
                "proposed",
                Severity.INFO,
                f"{human.plural(len(left), 'change')} by {routine.title} on {routine.key.target}",
                "nobody was asked by this run: an earlier request is still open under Required Actions of Airflow,"
                " or the run is a backfill",
                tuple(map(_change, left)),
            )


def _heading(event: ApprovalAsked | ApprovalDecided, titles: dict[str, str]) -> str:
    changes = human.plural(len(event.actions), "change")
    return f"{changes} by {titles.get(event.routine, event.routine)} on {event.target}"


def _changes(event: ApprovalAsked | ApprovalDecided) -> tuple[str, ...]:
    return tuple(map(_change, event.actions))


def _change(action: Action) -> str:
    why = f": {action.reason}" if action.reason else ""
    return human.one_line(f"{human.label(action.name)} {action.subject}{why}", 300)
