"""The work of `database.reindex`: one index after the other, each only when nothing stands in its way."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from upkeep.core.job import Failed
from upkeep.core.model import Action, Begun, Ended, Finding, Outcome, OutcomeStatus, Severity
from upkeep.routines.database import _reindex_deed as deed
from upkeep.routines.database._reindex_choice import DROP_LEFTOVER, DROPS, no_room
from upkeep.routines.database._reindex_seen import (
    Index,
    ReindexJob,
    Space,
    indexes,
    look,
    rows_of,
    space,
    space_question,
)
from upkeep.routines.database._reindex_watch import person
from upkeep.routines.database._text import span

_ASK_AGAIN_SECONDS = 2.0


@dataclass
class Shift:
    """The time that is left, and whether anything more may be begun (`over` says why not).

    `invalid` are, by index, the indexes that were invalid before its first try: what is invalid after the second and
    not among them was left by either.
    """

    job: ReindexJob
    ends: float
    patience: float
    over: str = ""
    invalid: dict[int, frozenset[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, job: ReindexJob) -> Shift:
        """Begin: the shift ends with the maintenance window or the time budget, whichever comes first."""
        left = timedelta(minutes=job.settings.time_budget_minutes)
        if job.until is not None:
            left = min(left, job.until - job.tools.now())
        return cls(job, time.monotonic() + left.total_seconds(), job.settings.patience_seconds)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.ends - time.monotonic()

    def wait(self) -> bool:
        """Wait a little for who is in the way; False when patience or time is at its end."""
        if min(self.patience, self.left) <= 0:
            return False
        pause = min(_ASK_AGAIN_SECONDS, self.patience)
        time.sleep(pause)
        self.patience -= pause
        return True


def act_all(job: ReindexJob, actions: Sequence[Action]) -> Iterator[Sequence[Begun | Ended]]:
    """Do the actions in their order; those that somebody blocks are tried once more when all others are done."""
    shift = Shift.of(job)
    begun: set[int] = set()
    todo = list(enumerate(actions, 1))
    for last in (False, True):
        later = []
        for number, action in todo:
            ready = _prepare(shift, action, last)
            if isinstance(ready, deed.Ready):
                if number not in begun:
                    begun.add(number)
                    yield (Begun(number=number),)
                ready = deed.do(job, action, ready, shift.left, last)
            if isinstance(ready, deed.Blocked):
                job.tools.log.warning("%s %s is put off: %s", action.name, action.subject, ready.why)
                later.append((number, action))
                continue
            if ready.evidence.get("stop"):
                shift.over = str(ready.evidence["stop"])
            yield (Ended(number=number, outcome=ready),)
        todo = later


def _prepare(shift: Shift, action: Action, last: bool) -> deed.Ready | deed.Blocked | Outcome:
    """Look whether an action can begin. On the last try, wait for those in its way as long as patience lasts."""
    while True:
        found = _look(shift, action)
        if not isinstance(found, deed.Blocked) or not last:
            return found
        if not shift.wait():
            return blocked(action, found.why)


def _look(shift: Shift, action: Action) -> deed.Ready | deed.Blocked | Outcome:
    job = shift.job
    if late := _too_late(shift, action):
        return passed_over(action, late)
    with look(job) as server:
        there = indexes(server, oids=[action.details["oid"]])
        answers = server.batch(_questions(job, action))
    index = next((i for i in there if i.oid == action.details["oid"]), None)
    if settled := _settled(action, index):
        return settled
    if index is not None and index.building:
        return deed.Blocked(f"another session builds or drops an index of {index.table_name}")
    in_the_way = rows_of(server, "reindex_blockers", answers["database/reindex_blockers"])
    if in_the_way:
        return deed.Blocked("; ".join(person(row) for row in in_the_way[:3]))
    if refused := _refused(job, action, index, answers):
        return refused
    before = frozenset(i.oid for i in there if not i.valid)
    return deed.Ready(shift.invalid.setdefault(action.details["oid"], before))


def _questions(job: ReindexJob, action: Action) -> dict[str, dict[str, Any]]:
    values = {"table_oid": action.details["table_oid"], "seconds": job.settings.old_transaction_seconds}
    return {"database/reindex_blockers": values} | space_question(job)


def _too_late(shift: Shift, action: Action) -> str:
    if shift.over:
        return shift.over
    expected = float(action.details.get("expected_seconds", 0))
    if expected >= shift.left:
        return f"it would take about {span(expected)}, and the window or time budget ends in {span(max(shift.left, 0))}"
    return ""


def _settled(action: Action, index: Index | None) -> Outcome | None:
    """Return the outcome when somebody else has meanwhile done what was planned."""
    if index is None:
        return _outcome(action, OutcomeStatus.UNCHANGED, "the index is gone: somebody dropped or rebuilt it meanwhile")
    if index.valid and not action.details["valid"]:
        return _outcome(action, OutcomeStatus.UNCHANGED, "the index is valid by now")
    return None


def _refused(
    job: ReindexJob, action: Action, index: Index | None, answers: dict[str, list[dict[str, Any]] | Failed]
) -> Outcome | None:
    """Return the outcome when what was true of the plan is so no more."""
    if action.name == DROP_LEFTOVER and index is not None and not index.is_leftover:
        return _outcome(action, OutcomeStatus.SKIPPED, "it has no valid twin any more: nothing is dropped")
    full = _full(job, action, answers)
    return _outcome(action, OutcomeStatus.SKIPPED, full.message, full) if full else None


def _full(job: ReindexJob, action: Action, answers: dict[str, list[dict[str, Any]] | Failed]) -> Finding | None:
    if action.name in DROPS:
        return None
    free = Space(None) if action.details["elsewhere"] else space(job, answers.get("database/reindex_space"))
    return no_room(action.subject, action.details["need_bytes"], free, job.settings)


def passed_over(action: Action, why: str) -> Outcome:
    """Return the outcome of an action that was never begun; `verify` says what is left for the next run."""
    return Outcome(status=OutcomeStatus.SKIPPED, detail=why, evidence={"index": action.subject, "left": why})


def blocked(action: Action, who: str) -> Outcome:
    """Return the outcome of an action that somebody stood in the way of."""
    return _outcome(
        action,
        OutcomeStatus.SKIPPED,
        f"{action.name} {action.subject} was put off to the next run: {who}",
        Finding(
            check="blocked",
            subject=action.subject,
            severity=Severity.WARNING,
            message=f"{action.subject} could not be worked on, in the way: {who}",
            hint="find out why it stays open so long, and end it; or give database.reindex another hour of the night",
        ),
    )


def _outcome(action: Action, status: OutcomeStatus, detail: str, *findings: Finding) -> Outcome:
    return Outcome(status=status, detail=detail, findings=findings, evidence={"index": action.subject})
