"""What the pages ask of the ledger. They only read: nothing here writes, and the spool is left alone."""

from __future__ import annotations

from datetime import datetime

from upkeep.core.model import Model
from upkeep.ledger.events import RunKey
from upkeep.operators import wiring

RUNS_SHOWN = 500


class LedgerAway(Exception):
    """The ledger cannot be asked; the message says why, without credentials."""


class RunLine(Model):
    """One run in the list; `verdict` is None while it has none."""

    dag_id: str
    run_id: str
    cadence: str
    run_type: str
    window_start: datetime | None
    window_end: datetime | None
    opened_at: datetime
    closed_at: datetime | None
    verdict: str | None


class Page(Model):
    """A kept report."""

    html: str
    markdown: str
    at: datetime


def recent_runs() -> list[RunLine]:
    """Return the newest runs, newest first.

    :raises LedgerAway: the ledger cannot be asked.
    """
    with wiring.open_ledger() as ledger:
        rows = ledger.ask("recent_runs", limit=RUNS_SHOWN)
        if rows is None:
            raise LedgerAway(ledger.away_reason)
    return [RunLine(**row) for row in rows]


def report_of(run: RunKey) -> Page | None:
    """Return the kept report of a run, None when there is none.

    :raises LedgerAway: the ledger cannot be asked.
    """
    with wiring.open_ledger() as ledger:
        rows = ledger.ask("report_of_run", **run.model_dump())
        if rows is None:
            raise LedgerAway(ledger.away_reason)
    return Page(**rows[0]) if rows else None
