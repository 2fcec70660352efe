"""The FastAPI app below `/upkeep`: runs, their reports and maintenance logs; backups and their proof; documents.

Airflow does not authenticate the apps of plugins. Every route here demands a user who may see plugins and who may read
the runs of the DAG in question. The handlers are plain functions: FastAPI runs them in threads, so a ledger that is
slow to answer holds up nobody else.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag, requires_access_view
from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from upkeep.ledger.events import RunKey
from upkeep.report import human
from upkeep.web import backups as backup_pages
from upkeep.web import pages
from upkeep.web.ledger import (
    LedgerAway,
    Page,
    RunLine,
    SeriesLine,
    backup_series,
    backups_of,
    document,
    documents,
    recent_runs,
    report_of,
)

SECURITY_HEADERS = {
    # Reports hold no script and load nothing. The header sees to it that this stays so, whatever a report contains.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; base-uri 'none';"
        " form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
DagId = Annotated[str, Query(min_length=1, max_length=250)]
RunId = Annotated[str, Query(min_length=1, max_length=250)]
Target = Annotated[str, Query(min_length=1, max_length=130)]
Kind = Annotated[str, Query(min_length=1, max_length=40)]
Sha256 = Annotated[str, Query(pattern=r"^[0-9a-f]{64}$")]
BackupId = Annotated[str, Query(min_length=1, max_length=40)]
MAY_READ_RUNS = Depends(requires_access_dag("GET", DagAccessEntity.RUN))


class NoReport(Exception):
    """There is no report of this run."""

    def __init__(self, dag_id: str, run_id: str) -> None:
        super().__init__(dag_id, run_id)
        self.dag_id, self.run_id = dag_id, run_id


class NoDocument(Exception):
    """A run made no such document."""


class NoBackup(Exception):
    """There is no such backup, or none that this user may know of."""


def make_app() -> FastAPI:
    """Return the app. The pages of an API's documentation are left out: they would load scripts from elsewhere."""
    app = FastAPI(
        title="upkeep",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(requires_access_view(AccessView.PLUGINS))],
    )
    app.middleware("http")(_secured)
    app.exception_handler(LedgerAway)(_away)
    app.exception_handler(NoReport)(_no_report)
    app.exception_handler(NoBackup)(_no_backup)
    app.exception_handler(NoDocument)(_no_document)
    app.get("/", response_class=HTMLResponse)(runs)
    app.get("/latest")(latest)
    app.get("/report", response_class=HTMLResponse, dependencies=[MAY_READ_RUNS])(report)
    app.get("/log", response_class=PlainTextResponse, dependencies=[MAY_READ_RUNS])(log)
    app.get("/backups", response_class=HTMLResponse)(backups)
    app.get("/backup", response_class=HTMLResponse)(backup)
    app.get("/documents", response_class=HTMLResponse)(list_documents)
    app.get("/document", response_class=PlainTextResponse, dependencies=[MAY_READ_RUNS])(one_document)
    return app


def runs(user: GetUserDep) -> HTMLResponse:
    """List the newest runs of the DAGs that this user may read."""
    return HTMLResponse(pages.runs(_readable(user)))


def latest(user: GetUserDep, dag_id: str | None = None) -> Response:
    """Lead to the report of the newest run that has ended."""
    for run in _readable(user):
        if run.closed_at and dag_id in (None, run.dag_id):
            return RedirectResponse(f"report?{urlencode({'dag_id': run.dag_id, 'run_id': run.run_id})}", 307)
    return HTMLResponse(pages.problem("No report yet", "No run has ended so far.", "Come back after one has."), 404)


def report(dag_id: DagId, run_id: RunId) -> HTMLResponse:
    """Show the kept report of a run."""
    kept = _kept(dag_id, run_id)
    return HTMLResponse(pages.with_bar(kept.html, dag_id, run_id))


def log(dag_id: DagId, run_id: RunId) -> PlainTextResponse:
    """Hand out the maintenance log of a run as a Markdown file."""
    kept = _kept(dag_id, run_id)
    headers = {"Content-Disposition": f'attachment; filename="{_file_name(f"{dag_id}-{run_id}")}.md"'}
    return PlainTextResponse(kept.markdown, media_type="text/markdown; charset=utf-8", headers=headers)


def backups(user: GetUserDep, target: Target | None = None) -> HTMLResponse:
    """List all series of backups, or the backups of one target with what proves each."""
    if target is None:
        return HTMLResponse(backup_pages.series(_visible(user), datetime.now(UTC)))
    _must_be_visible(user, target)
    return HTMLResponse(backup_pages.target(target, backups_of(target), datetime.now(UTC)))


def backup(user: GetUserDep, target: Target, kind: Kind, id: BackupId) -> HTMLResponse:
    """Show everything that is on record about one backup."""
    _must_be_visible(user, target)
    found = next((b for b in backups_of(target, id) if b.kind == kind), None) if "\x00" not in id else None
    if found is None:
        raise NoBackup
    return HTMLResponse(backup_pages.backup(found, datetime.now(UTC)))


def list_documents(user: GetUserDep, dag_id: DagId | None = None, run_id: RunId | None = None) -> HTMLResponse:
    """List the documents of all runs that this user may read, or of one."""
    of_run = RunKey(dag_id=dag_id, run_id=run_id) if dag_id and run_id and "\x00" not in dag_id + run_id else None
    known = documents(of_run)
    allowed = _allowed(user, {line.dag_id for line in known})
    return HTMLResponse(pages.documents([line for line in known if line.dag_id in allowed]))


def one_document(dag_id: DagId, run_id: RunId, sha256: Sha256) -> PlainTextResponse:
    """Hand out a document as a file. Its type is told as text: nothing that it holds is run by a browser."""
    found = None if "\x00" in dag_id + run_id else document(RunKey(dag_id=dag_id, run_id=run_id), sha256)
    if found is None:
        raise NoDocument
    headers = {"Content-Disposition": f'attachment; filename="{_file_name(found.name) or "document"}"'}
    return PlainTextResponse(found.content, media_type="text/plain; charset=utf-8", headers=headers)


def _file_name(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in text)


def _allowed(user: Any, dag_ids: set[str]) -> set[str]:
    found: set[str] = get_auth_manager().filter_authorized_dag_ids(dag_ids=dag_ids, user=user) if dag_ids else set()
    return found


def _visible(user: Any, target: str | None = None) -> list[SeriesLine]:
    """Return the series that a user may know of: those that a DAG sees to whose runs they may read."""
    known = backup_series(target)
    wanted = {dag for line in known for dag in line.dags}
    allowed = _allowed(user, wanted)
    return [line for line in known if allowed & set(line.dags)]


def _must_be_visible(user: Any, target: str) -> None:
    if "\x00" in target or not _visible(user, target):
        raise NoBackup


def _kept(dag_id: str, run_id: str) -> Page:
    # PostgreSQL's text holds no NUL; asking for one would look like a ledger in trouble.
    found = None if "\x00" in dag_id + run_id else report_of(RunKey(dag_id=dag_id, run_id=run_id))
    if found is None:
        raise NoReport(dag_id, run_id)
    return found


def _readable(user: Any) -> list[RunLine]:
    known = recent_runs()
    allowed = _allowed(user, {run.dag_id for run in known})
    return [run for run in known if run.dag_id in allowed]


async def _secured(request: Request, call_next: Any) -> Response:
    answer: Response = await call_next(request)
    answer.headers.update(SECURITY_HEADERS)
    return answer


def _away(request: Request, error: Exception) -> HTMLResponse:
    text = f"It could not be asked: {human.one_line(error)}"
    hint = (
        "Check the connection upkeep_ledger and its PostgreSQL. Nothing is lost: results wait on the workers until it"
        " is back. Reports also lie below UPKEEP_HOME/reports on the worker that ran the task `report`."
    )
    return HTMLResponse(pages.problem("The ledger is away", text, hint), 503)


def _no_report(request: Request, error: Exception) -> HTMLResponse:
    run = f"{getattr(error, 'dag_id', '')} {getattr(error, 'run_id', '')}"
    text = f"There is no report of the run {human.one_line(run)}."
    hint = "It is written by the task `report`, when all routines have ended. Only maintenance DAGs have one."
    return HTMLResponse(pages.problem("No report of this run", text, hint), 404)


def _no_document(request: Request, error: Exception) -> HTMLResponse:
    text = "This run made no such document."
    hint = "Choose one from the list of documents."
    return HTMLResponse(pages.problem("No such document", text, hint), 404)


def _no_backup(request: Request, error: Exception) -> HTMLResponse:
    text = "There is no such backup on record."
    hint = "Choose one from the list. A backup that was removed stays on record; one of another ledger is not there."
    return HTMLResponse(pages.problem("No such backup", text, hint), 404)
