"""A person is asked to agree to changes: the role that owns the work is told, once a request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING

from upkeep.core import ladder
from upkeep.core.errors import UpkeepError
from upkeep.core.model import Action
from upkeep.core.notice import Notice
from upkeep.escalation.desk import Desk, open_desk, page_of, redact
from upkeep.escalation.duties import duty_of, owners_of_routines
from upkeep.ledger.events import ApprovalAsked, RunKey
from upkeep.ledger.record import RunRecord
from upkeep.operators.proposals import ASK
from upkeep.report import human

if TYPE_CHECKING:
    from upkeep.operators.run import Run

# A fact of a notice is cut at 1,000 characters.
_SHOWN, _LENGTH = 6, 150
log = logging.getLogger(__name__)


def tell_opened(
    asked: ApprovalAsked,
    run: Run,
    answer_by: datetime,
    desk_of: Callable[[RunKey], AbstractContextManager[Desk]] = open_desk,
) -> str:
    """Tell the owner of the work what is asked, and until when; return what was done, in words.

    :param run: the run that proposes, or, by hand, that of the request.
    """
    if reason := ladder.quiet(run.type, bool(run.params.get("escalate"))):
        return f"quiet: {reason}"
    with desk_of(asked.run) as desk:
        role, title = _owner(asked, desk.record)
        call = ladder.whom_to_ask(duty_of(asked.system), role)
        desk.tell("approval", call, _notice(asked, title, role, answer_by))
        return desk.summary()


def _owner(asked: ApprovalAsked, record: RunRecord) -> tuple[str, str]:
    """Return the role that owns the routine, and the routine's title."""
    for routine in record.routines:
        if (routine.key.routine, routine.key.target) == (asked.routine, asked.target) and routine.role:
            return routine.role, routine.title
    return owners_of_routines(record).get(asked.routine, ""), asked.routine


def _notice(asked: ApprovalAsked, title: str, role: str, answer_by: datetime) -> Notice:
    page, request = page_of(asked.request), asked.request
    waits = "waits" if len(asked.actions) == 1 else "wait"
    until = human.moment(answer_by, _zone(asked.system)).text
    facts = {
        "Asked": _listed(_told(action) for action in asked.actions),
        "Why a person": _listed(dict.fromkeys(action.approval for action in asked.actions)),
        "Undo": _listed(dict.fromkeys(action.undo or "none" for action in asked.actions)),
        "If you approve": "these, or those of them that you choose, are done once, as far as they are still needed",
        "Answer until": f"{until}; no answer counts as a rejection, and the next run that finds them needed asks again",
        "Where": f"Required Actions of Airflow: DAG {request.dag_id}, run {request.run_id}, task {ASK}",
    }
    return Notice(
        label="APPROVAL",
        subject=asked.target,
        headline=redact(f"{human.plural(len(asked.actions), 'change')} by {title} {waits} for an answer"),
        facts={name: redact(value) for name, value in facts.items()},
        links={"Answer": f"{page}/tasks/{ASK}/required_actions", "Open": page} if page else {},
        why=f"You are asked because role {role} of {asked.system} owns this work." if role else "",
        dag_id=asked.run.dag_id,
        run_id=asked.run.run_id,
        # The end of a request's id follows from its changes: others of the same run are another request.
        topic=f"{asked.target} {asked.routine} {request.run_id.rpartition('__')[2]}",
        rung=1,
    )


def _told(action: Action) -> str:
    return human.one_line(f"{human.label(action.name)} {action.subject}: {action.reason}", _LENGTH)


def _listed(texts: Iterable[str]) -> str:
    """Return one text a line, the first few of them."""
    known = [human.one_line(text, _LENGTH) for text in texts]
    more = [f"and {len(known) - _SHOWN:,} more"] if len(known) > _SHOWN else []
    return "\n".join([*known[:_SHOWN], *more])


def _zone(system: str) -> tzinfo:
    """Return the time zone of a system, UTC where its file cannot be read."""
    from upkeep.systems.load import load_system

    try:
        return load_system(system).zone
    except (UpkeepError, OSError):
        return UTC
