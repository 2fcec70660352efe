"""Where a call and a notice become messages and a row in the ledger."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from urllib.parse import quote

from upkeep.adapters.notify import Attempt, Notifier
from upkeep.core.ladder import Call
from upkeep.core.notice import Notice
from upkeep.ledger import events as ev
from upkeep.ledger.record import RunRecord
from upkeep.ledger.store import Ledger
from upkeep.operators import wiring

Cause = Literal["deadline", "failure", "approval"]
# Of 20 s: the rest is for the ledger, which may need 5 s to find out that it cannot be reached.
CALLBACK_SECONDS = 12.0
log = logging.getLogger(__name__)


class Desk:
    """Tells people about one run, each subject and rung once, and writes down who was reached."""

    def __init__(self, run: ev.RunKey, ledger: Ledger, notifier: Notifier) -> None:
        self.run, self._ledger, self._notifier = run, ledger, notifier
        self.record: RunRecord = ledger.record(run)
        self._told = {(e.cause, e.subject, e.rung) for e in self.record.escalations if _settled(e)}
        self.counts = {"told": 0, "unreached": 0, "told before": 0}

    def told(self, cause: Cause, subject: str, rung: int) -> bool:
        """Tell whether this has been told already, by this process or another."""
        return (cause, subject, rung) in self._told

    def tell(self, cause: Cause, call: Call, notice: Notice) -> None:
        """Tell a call's people unless they have been told, and record what came of it."""
        if self.told(cause, notice.topic, call.rung):
            self.counts["told before"] += 1
            return
        notice = notice.model_copy(update={"why": "\n".join([notice.why or _why(call), *call.notes])})
        attempts = self._notifier.tell(call.people, call.stand_ins, notice)
        reached = any(attempt.delivered for attempt in attempts)
        if not reached:
            log.error("escalation: nobody of %s could be told:\n%s\n%s", call.system, notice.title, notice.body())
        self.counts["told" if reached else "unreached"] += 1
        self._told.add((cause, notice.topic, call.rung))
        self._ledger.write(self._event(cause, call, notice, attempts))

    def summary(self) -> str:
        """Return what was done, in words."""
        return ", ".join(f"{count} {what}" for what, count in self.counts.items() if count) or "nothing to tell"

    def _event(self, cause: Cause, call: Call, notice: Notice, attempts: list[Attempt]) -> ev.Escalated:
        return ev.Escalated(
            at=wiring.now(),
            run=self.run,
            cause=cause,
            subject=notice.topic,
            system=call.system,
            rung=call.rung,
            message="\n".join([notice.title, *call.notes]),
            deliveries=tuple(ev.Escalated.Delivery(**attempt.model_dump()) for attempt in attempts),
        )


@contextmanager
def open_desk(run: ev.RunKey) -> Iterator[Desk]:
    """Open the desk of a run with Airflow's connections."""
    with wiring.open_ledger() as ledger:
        yield Desk(run, ledger, Notifier(wiring.connection))


@contextmanager
def open_hasty_desk(run: ev.RunKey) -> Iterator[Desk]:
    """Open a desk for a process that has little time left.

    Airflow kills a task's process 20 s after the task has ended (`[core] task_success_overtime`, in spite of its name
    also after a failure), callback or not. What is cut off there, the verdict's callback tells.
    """
    with wiring.open_ledger() as ledger:
        yield Desk(run, ledger, Notifier(wiring.connection, retry_after=(1.0,), seconds=CALLBACK_SECONDS))


def links(run: ev.RunKey, log_url: str = "") -> dict[str, str]:
    """Return where to look: log, run and report in the UI when `[api] base_url` is set, else the report's file."""
    page, report = page_of(run), "Report (once the run has ended)"
    if not page:
        return {report: str(wiring.report_path(run, "html"))}
    dag_id, run_id = quote(run.dag_id, safe=""), quote(run.run_id, safe="")
    return {
        "Log": log_url,
        "Open": page,
        report: f"{_base_url()}/upkeep/report?dag_id={dag_id}&run_id={run_id}",
    }


def page_of(run: ev.RunKey) -> str:
    """Return the address of a run in the UI, empty where `[api] base_url` is not set."""
    base = _base_url()
    return f"{base}/dags/{quote(run.dag_id, safe='')}/runs/{quote(run.run_id, safe='')}" if base else ""


def redact(text: str) -> str:
    """Mask every secret that Airflow knows of."""
    from airflow.sdk._shared.secrets_masker import redact as mask

    return str(mask(text))


def _base_url() -> str:
    from airflow.sdk.configuration import conf

    value: Any = conf.get("api", "base_url", fallback="") or ""
    return str(value).rstrip("/")


def _settled(told: ev.Escalated) -> bool:
    """Whether an earlier escalation need not be repeated: somebody was reached, or there was no way to try."""
    return any(d.delivered for d in told.deliveries) or all(d.delivered is None for d in told.deliveries)


def _why(call: Call) -> str:
    return f"You are told on rung {call.rung} of the ladder of {call.system}."
