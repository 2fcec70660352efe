"""What the pages ask of the ledger. They only read: nothing here writes, and the spool is left alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from upkeep.core.model import Model
from upkeep.ledger.events import RunKey
from upkeep.operators import wiring
from upkeep.report.shelf import Proven

RUNS_SHOWN = 500
BACKUPS_SHOWN = 1000
DOCUMENTS_SHOWN = 500
TESTS_SHOWN = 50


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


class SeriesLine(Model):
    """One series of backups; `dags` are those that see to it. Moments are None where it never happened."""

    target: str
    kind: str
    kept: int
    size_bytes: int
    newest_at: datetime
    proved_at: datetime | None
    tested_at: datetime | None
    dags: tuple[str, ...]


class DocumentLine(Model):
    """One document that a routine made in a run."""

    dag_id: str
    run_id: str
    target: str
    routine: str
    name: str
    media_type: str
    sha256: str
    size_bytes: int
    at: datetime


class Document(Model):
    """A document with its content."""

    name: str
    media_type: str
    content: str


def recent_runs() -> list[RunLine]:
    """Return the newest runs, newest first.

    :raises LedgerAway: the ledger cannot be asked.
    """
    return [RunLine(**row) for row in _ask("recent_runs", limit=RUNS_SHOWN)]


def report_of(run: RunKey) -> Page | None:
    """Return the kept report of a run, None when there is none.

    :raises LedgerAway: the ledger cannot be asked.
    """
    rows = _ask("report_of_run", **run.model_dump())
    return Page(**rows[0]) if rows else None


def backup_series(target: str | None = None) -> list[SeriesLine]:
    """Return every series of backups, or those of one target.

    :raises LedgerAway: the ledger cannot be asked.
    """
    return [SeriesLine(**row) for row in _ask("backup_series", target=target)]


def backups_of(target: str, backup_id: str | None = None) -> list[Proven]:
    """Return the backups of a target with what proves each, removed ones included, or one of them with all its tests.

    :raises LedgerAway: the ledger cannot be asked.
    """
    tests = TESTS_SHOWN if backup_id else 1
    asked = {"targets": [target], "removed": True, "id": backup_id, "tests": tests, "most": BACKUPS_SHOWN}
    return [Proven.of(row) for row in _ask("backup_proofs", **asked)]


def documents(run: RunKey | None = None) -> list[DocumentLine]:
    """Return the newest documents, newest first: of all runs, or of one.

    :raises LedgerAway: the ledger cannot be asked.
    """
    of_run = run.model_dump() if run else {"dag_id": None, "run_id": None}
    return [DocumentLine(**row) for row in _ask("documents", **of_run, limit=DOCUMENTS_SHOWN)]


def document(run: RunKey, sha256: str) -> Document | None:
    """Return a document of a run, None when it made none of that hash.

    :raises LedgerAway: the ledger cannot be asked.
    """
    rows = _ask("document", **run.model_dump(), sha256=sha256)
    return Document(**rows[0]) if rows else None


def _ask(statement: str, **values: Any) -> list[dict[str, Any]]:
    with wiring.open_ledger() as ledger:
        rows = ledger.ask(statement, **values)
        if rows is None:
            raise LedgerAway(ledger.away_reason)
    return rows
