"""The pages as text: the list of runs, a page for what went wrong, and the bar above a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from upkeep.core.model import Severity
from upkeep.report import human
from upkeep.report.page import BAR
from upkeep.report.templating import render
from upkeep.web.ledger import DocumentLine, RunLine

TEMPLATES = Path(__file__).parent / "templates"
UTC = ZoneInfo("UTC")


def runs(lines: Sequence[RunLine]) -> str:
    """Return the list of runs."""
    return render("runs.html", TEMPLATES, lines=[_line(run) for run in lines])


def documents(lines: Sequence[DocumentLine]) -> str:
    """Return the list of documents."""
    return render("documents.html", TEMPLATES, lines=[_document(line) for line in lines])


def problem(title: str, text: str, hint: str) -> str:
    """Return a page that says what is wrong and what to do."""
    return render("problem.html", TEMPLATES, title=title, text=text, hint=hint)


def with_bar(html: str, dag_id: str, run_id: str) -> str:
    """Return a kept report with links to the list and to its maintenance log above it."""
    return html.replace(BAR, render("bar.html", TEMPLATES, query=_query(dag_id, run_id)), 1)


def _query(dag_id: str, run_id: str) -> str:
    return urlencode({"dag_id": dag_id, "run_id": run_id})


def _document(line: DocumentLine) -> dict[str, object]:
    query = urlencode({"dag_id": line.dag_id, "run_id": line.run_id, "sha256": line.sha256})
    return {"line": line, "query": query, "at": human.moment(line.at, UTC), "size": human.size(line.size_bytes)}


def _line(run: RunLine) -> dict[str, object]:
    known = next((severity for severity in Severity if severity == run.verdict), None)
    took = (run.closed_at - run.opened_at).total_seconds() if run.closed_at else None
    return {
        "run": run,
        "severity": known or Severity.UNKNOWN,
        "word": known.value if known else "no verdict yet",
        "query": _query(run.dag_id, run.run_id),
        "began": human.moment(run.opened_at, UTC),
        "window": human.moment(run.window_end, UTC),
        "took": human.duration(took) if took is not None else human.Shown(""),
    }
