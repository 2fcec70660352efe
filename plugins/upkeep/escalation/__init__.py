"""The callbacks that Airflow knows by their dotted paths. Imported when DAG files are parsed, so it imports little.

Nothing here raises: an escalation that fails must not add a failure to the one it is about. It says so in its log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference  # type: ignore[attr-defined] # stub lacks them

if TYPE_CHECKING:
    from airflow.sdk import Context

    from upkeep.core.cadence import Cadence
    from upkeep.ledger.events import ApprovalAsked
    from upkeep.operators.run import Run

log = logging.getLogger(__name__)


def build_deadlines(cadence: Cadence, alerts: Iterable[tuple[timedelta, int]]) -> list[DeadlineAlert]:
    """Return the Deadline Alerts of a cadence's DAG.

    Counted from queueing, because a run that no worker ever picks up is late too; the logical date will not do, as
    manual runs have none and Airflow then drops the deadline without a word.

    :param alerts: time since queueing and rung (from 1); see `systems.index.Index.deadlines`.
    """
    return [
        DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            # A number: Airflow 3.3 stores a timedelta as JSON, which clearing a task then fails to read (its issue
            # 70368: HTTP 500, and nobody can clear anything in a run that waits for a deadline).
            interval=after.total_seconds(),
            callback=AsyncCallback(
                deadline_missed, {"cadence": str(cadence), "rung": rung, "after_seconds": after.total_seconds()}
            ),
        )
        for after, rung in alerts
    ]


async def deadline_missed(
    context: dict[str, Any], *, cadence: str, rung: int, after_seconds: float, **_later: Any
) -> str:
    """Tell a rung's contacts that a run is late. Runs in the triggerer; returns what was done, in words.

    Mail and ledger block, so they work in a thread: the triggerer's event loop carries everybody's triggers.
    """
    try:
        from upkeep.escalation.late import LateRun, tell_late

        late = LateRun.of(context, cadence, rung, after_seconds)
        return await asyncio.to_thread(tell_late, late)
    except Exception as error:
        log.exception("escalation of a late run failed")
        return f"escalation failed: {type(error).__name__}"


def routine_failed(context: Context) -> None:
    """Tell the first rung about a task that has failed for good. Runs where the task ran, after its last try."""
    try:
        from upkeep.escalation.failure import tell_failed

        log.info("escalation: %s", tell_failed(context))
    except Exception:
        log.exception("escalation of a failure failed")


def request_opened(asked: ApprovalAsked, *, run: Run, answer_by: datetime) -> None:
    """Tell the owner of the work that a person is asked to agree to it. Runs in the task that opens the request."""
    try:
        from upkeep.escalation.approval import tell_opened

        log.info("escalation: %s", tell_opened(asked, run, answer_by))
    except Exception:
        log.exception("escalation of a request failed")


__all__ = ["build_deadlines", "deadline_missed", "request_opened", "routine_failed"]
