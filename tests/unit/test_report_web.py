"""The pages inside Airflow's own API server: who may see them, what they say, what they never do."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from lab.postgres import PostgresServer
from lab.process import scratch_folder
from tests.unit import report_samples as samples
from upkeep.core.model import Action, Severity
from upkeep.ledger import events as ev
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger
from upkeep.ledger.verdict import judge_run
from upkeep.report import Report, build, gather

OPEN = ev.RunKey(dag_id="maintenance_weekly", run_id="scheduled__2026-11-22T07:00:00+00:00")
HOSTILE = ev.RunKey(dag_id="maintenance_daily", run_id='manual__a/b "><img src=x onerror=alert(1)>&x=1')


SBOM = "<script>alert(1)</script>"
NASTY, OLD = 'a"><img src=x>/&b', "20260101T000000Z-00000000"


def evidence_told(routine: ev.RoutineKey, evidence: dict[str, Any]) -> list[ev.Event]:
    action = Action(name="x", subject="x", reason="x")
    return samples.story(routine, "X", actions=[(action, "done", "done", evidence)])


def backup_told(routine: ev.RoutineKey, **more: Any) -> list[ev.Event]:
    """What a routine tells of a backup that was made."""
    at = samples.START.isoformat()
    made = {"id": "20261121T000000Z-00000000", "location": "s3://x", "finished": at, "size_bytes": 5, **more}
    return evidence_told(routine, {"backup": made})


def backup_path(page: str, **query: str) -> str:
    return f"/upkeep/{page}?{urlencode(query)}"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with scratch_folder() as folder, PostgresServer(18, folder / "ledger") as running:
        running.create_database("ledger")
        yield running


@pytest.fixture(scope="module")
def ledger(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A ledger with three runs: one with a report, one with a nasty id and a report, one that is still going on."""
    made = Ledger(lambda: server.dsn("ledger"), Spool(tmp_path_factory.mktemp("spool")))
    report = samples.troubled()
    for run in (samples.RUN, HOSTILE):
        made.write(
            samples.opened(run=run),
            ev.ReportKept(at=samples.START, run=run, html=report.html, markdown=report.markdown),
            ev.RunClosed(at=samples.START, run=run, verdict=Severity.CRITICAL),
        )
    # Backups of two targets; the second one's name and key are nasty, and its run is another DAG's.
    made.write(*samples.backup("claims"), *samples.verification("claims"), *samples.restore_test("claims"))
    made.write(*backup_told(samples.key("backup.files", NASTY, run=OPEN), key_id=NASTY, kind="files"))
    gone = {"backups": [{"id": OLD, "kind": "files", "reason": "no tier keeps it"}]}
    made.write(*backup_told(samples.key("backup.files", NASTY, 2, run=OPEN), id=OLD, kind="files"))
    made.write(*evidence_told(samples.key("backup.retention", NASTY, run=OPEN), {"removed": gone}))
    document = {"name": "sbom<b>.json", "media_type": "text/html", "content": SBOM}
    made.write(*evidence_told(samples.key("dependencies.audit", "claims/requirements"), {"artefact": document}))
    made.write(samples.opened("weekly", run=OPEN).model_copy(update={"at": samples.START.replace(hour=9)}))
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(metadata_db: None) -> Iterator[Any]:
    """Airflow's API server with our plugin, in this process."""
    from airflow.api_fastapi.app import create_app
    from starlette.testclient import TestClient

    yield TestClient(create_app("core"), follow_redirects=False)


@pytest.fixture
def connected(ledger: Ledger, server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_UPKEEP_LEDGER", server.dsn("ledger"))


@pytest.fixture
def as_(client: Any) -> Any:
    """Return what makes the headers of a user with a role."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    def headers(role: str | None) -> dict[str, str]:
        token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="somebody", role=role))
        return {"Authorization": f"Bearer {token}"}

    return headers


def report_path(run: ev.RunKey, page: str = "report") -> str:
    return f"/upkeep/{page}?{urlencode(run.model_dump())}"


ONE = {"target": "claims/db", "kind": "dump", "id": "20261121T060012Z-7f3a"}
PATHS = ("/upkeep/", "/upkeep/documents", "/upkeep/latest", report_path(samples.RUN), report_path(samples.RUN, "log"),
         "/upkeep/backups", backup_path("backups", target="claims/db"), backup_path("backup", **ONE))  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_nobody_sees_anything_without_logging_in(client: Any, connected: None, path: str):
    """Airflow leaves the apps of plugins open; this one is not."""
    answer = client.get(path)
    assert answer.status_code == 401
    assert "Critical" not in answer.text and "maintenance_daily" not in answer.text and "claims" not in answer.text


@pytest.mark.parametrize("path", PATHS)
def test_a_user_without_a_role_is_refused(client: Any, connected: None, as_: Any, path: str):
    """To be somebody is not enough: the pages need the right to see plugins."""
    assert client.get(path, headers=as_(None)).status_code == 403


def test_who_may_not_read_a_dag_does_not_read_its_report(
    client: Any, connected: None, as_: Any, monkeypatch: pytest.MonkeyPatch
):
    """A report tells more of a DAG than its page does, so it takes the same right; the list leaves such runs out."""
    from airflow.api_fastapi.app import get_auth_manager

    manager = get_auth_manager()
    real = manager.is_authorized_dag

    def weekly_only(*, details: Any = None, **more: Any) -> bool:
        return details is not None and details.id == "maintenance_weekly" and real(details=details, **more)

    monkeypatch.setattr(manager, "is_authorized_dag", weekly_only)
    assert client.get(report_path(samples.RUN), headers=as_("viewer")).status_code == 403
    assert client.get(report_path(samples.RUN, "log"), headers=as_("viewer")).status_code == 403
    listed = client.get("/upkeep/", headers=as_("viewer")).text
    assert "maintenance_weekly" in listed and "maintenance_daily" not in listed


def test_the_list_is_newest_first_with_its_verdicts(client: Any, connected: None, as_: Any):
    """A run without a verdict is unknown, not good."""
    text = client.get("/upkeep/", headers=as_("viewer")).text
    assert text.index("maintenance_weekly") < text.index("maintenance_daily")
    assert "? no verdict yet" in text and "✕ critical" in text


def test_a_report_is_shown_as_it_was_kept(client: Any, connected: None, as_: Any):
    """The page of the ledger, with a bar that leads to the list and to the log."""
    text = client.get(report_path(samples.RUN), headers=as_("viewer")).text
    assert "Critical: 4 things need a human now" in text
    assert 'href="./">All runs' in text and 'href="log?dag_id=maintenance_daily&amp;run_id=' in text


def test_a_nasty_run_id_is_found_and_makes_no_markup(client: Any, connected: None, as_: Any):
    """Slashes, quotes, tags and ampersands in an id arrive whole, and stay text on every page."""
    report = client.get(report_path(HOSTILE), headers=as_("viewer"))
    listed = client.get("/upkeep/", headers=as_("viewer"))
    unknown = client.get(report_path(HOSTILE.model_copy(update={"dag_id": "other"})), headers=as_("viewer"))
    assert (report.status_code, unknown.status_code) == (200, 404)
    assert all("<img" not in page.text for page in (report, listed, unknown))


def test_the_log_is_a_file(client: Any, connected: None, as_: Any):
    """Markdown, to be signed and filed; its name holds only plain characters."""
    answer = client.get(report_path(HOSTILE, "log"), headers=as_("viewer"))
    assert answer.text.startswith("# Maintenance Log")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    name = answer.headers["content-disposition"].partition("filename=")[2].strip('"')
    assert name.endswith(".md") and all(c.isalnum() or c in "-_." for c in name)


def test_any_backup_shows_its_proof(client: Any, connected: None, as_: Any):
    """From the list over the target to the backup: what it is, when it was read back, restored, how long that took."""
    listed = client.get("/upkeep/backups", headers=as_("viewer")).text
    assert 'href="backups?target=claims%2Fdb"' in listed and "proved" in listed
    target = client.get(backup_path("backups", target="claims/db"), headers=as_("viewer")).text
    assert 'href="backup?target=claims%2Fdb&amp;kind=dump&amp;id=20261121T060012Z-7f3a"' in target
    page = client.get(backup_path("backup", **ONE), headers=as_("viewer")).text
    for said in ("Proved: restored, identical to its source", "9f2c1d7b5a3e4f60718293a4b5c6d7e8", "652 MB",
                 "Read back", "every row decoded", "3 min 38 s of 4 h (RTO)", "1 h of 1 d 2 h (RPO)", "amcheck 9.4 s",
                 "own scratch server", "7,214,003", "zstd:3"):  # fmt: skip
        assert said in page, said


def test_a_document_is_listed_and_handed_out_as_a_file(client: Any, connected: None, as_: Any):
    """Whatever it holds, no browser runs it; one that the run did not make is not there."""
    listed = client.get("/upkeep/documents", headers=as_("viewer")).text
    link = re.search(r'href="(document\?[^"]+)"', listed)
    assert link and "sbom&lt;b&gt;.json" in listed
    answer = client.get(f"/upkeep/{html.unescape(link[1])}", headers=as_("viewer"))
    assert answer.text == SBOM
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="sbom_b_.json"'
    other = re.sub("sha256=.", "sha256=0", html.unescape(link[1]))
    missing = client.get(f"/upkeep/{other}", headers=as_("viewer"))
    assert missing.status_code == 404 and "No such document" in missing.text
    assert client.get(f"/upkeep/{html.unescape(link[1])}").status_code in (401, 403)


def test_a_removed_backup_still_shows_its_proof(client: Any, connected: None, as_: Any):
    """The auditor who asks in March about December."""
    target = client.get(backup_path("backups", target=NASTY), headers=as_("viewer")).text
    assert "2026-11-21 06:00 UTC: no tier keeps it" in target
    page = client.get(backup_path("backup", target=NASTY, kind="files", id=OLD), headers=as_("viewer")).text
    assert "It is not there any more" in page and "Not proved" in page
    assert "<img" not in target + page


def test_backups_of_targets_that_a_user_may_not_know_of_are_not_there(
    client: Any, connected: None, as_: Any, monkeypatch: pytest.MonkeyPatch
):
    """Who may not read the runs of any DAG that sees to a target learns nothing of its backups, not even that."""
    from airflow.api_fastapi.app import get_auth_manager

    manager = get_auth_manager()
    monkeypatch.setattr(manager, "filter_authorized_dag_ids", lambda *, dag_ids, user: dag_ids & {OPEN.dag_id})
    listed = client.get("/upkeep/backups", headers=as_("viewer")).text
    assert "claims/db" not in listed and "&lt;img" in listed and "<img" not in listed
    for path in (backup_path("backups", target="claims/db"), backup_path("backup", **ONE)):
        answer = client.get(path, headers=as_("viewer"))
        assert answer.status_code == 404 and "No such backup" in answer.text


@pytest.mark.parametrize(
    "odd", [{"id": "x"}, {"kind": "redis"}, {"target": "no/such"}, {"target": "a\x00b"}, {"id": "\x00"}]
)
def test_a_backup_that_is_not_on_record_says_so(client: Any, connected: None, as_: Any, odd: dict[str, str]):
    """Not found, and no error of ours."""
    answer = client.get(backup_path("backup", **ONE | odd), headers=as_("viewer"))
    assert answer.status_code == 404 and "No such backup" in answer.text


def test_latest_leads_to_the_newest_run_that_ended(client: Any, connected: None, as_: Any):
    """A run that is going on has no report yet."""
    answer = client.get("/upkeep/latest", headers=as_("viewer"))
    assert answer.status_code == 307 and answer.headers["location"].startswith("report?dag_id=maintenance_daily")
    assert client.get("/upkeep/latest?dag_id=maintenance_weekly", headers=as_("viewer")).status_code == 404


@pytest.mark.parametrize("run", [OPEN, ev.RunKey(dag_id="other", run_id="x"), ev.RunKey(dag_id="a\x00b", run_id="x")])
def test_a_run_without_a_report_says_so(client: Any, connected: None, as_: Any, run: ev.RunKey):
    """Every other DAG's run page has the tab too: it must read well there."""
    answer = client.get(report_path(run), headers=as_("viewer"))
    assert answer.status_code == 404 and "No report of this run" in answer.text


@pytest.mark.parametrize("path", [*PATHS, report_path(OPEN), "/upkeep/nowhere", "/upkeep/report"])
def test_every_answer_carries_the_security_headers(client: Any, connected: None, as_: Any, path: str):
    """No script could run even if one got in, no cache keeps a report, no other site frames it."""
    headers = client.get(path, headers=as_("viewer")).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert "frame-ancestors 'self'" in headers["content-security-policy"]
    assert "no-store" in headers["cache-control"] and headers["x-content-type-options"] == "nosniff"


def test_no_page_documents_the_app_to_strangers(client: Any):
    """The generated documentation would load scripts from elsewhere, and needs no login."""
    for path in ("/upkeep/docs", "/upkeep/redoc", "/upkeep/openapi.json"):
        assert client.get(path).status_code == 404


def test_a_ledger_that_is_away_is_a_page(
    client: Any, as_: Any, server: PostgresServer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    """503 with what was seen and what to do; no traceback, no password."""
    server.stop()
    try:
        monkeypatch.setenv("AIRFLOW_CONN_UPKEEP_LEDGER", server.dsn("ledger"))
        for path in PATHS:
            answer = client.get(path, headers=as_("viewer"))
            assert answer.status_code == 503 and "The ledger is away" in answer.text
            assert "Traceback" not in answer.text and server.password() not in answer.text
    finally:
        server.start()


def test_without_a_connection_the_page_names_it(client: Any, as_: Any, monkeypatch: pytest.MonkeyPatch):
    """A site that forgot the connection is told which one."""
    monkeypatch.delenv("AIRFLOW_CONN_UPKEEP_LEDGER", raising=False)
    answer = client.get("/upkeep/", headers=as_("viewer"))
    assert answer.status_code == 503 and "upkeep_ledger" in answer.text


def test_the_views_are_known_to_airflow(client: Any, as_: Any):
    """The list is in the navigation, the report on the page of every run, with names that Airflow fills in."""
    answer = client.get("/api/v2/plugins", headers=as_("admin")).json()
    views = {v["name"]: v for p in answer["plugins"] if p["name"] == "upkeep" for v in p["external_views"]}
    assert views["Maintenance"]["destination"] == "nav"
    assert views["Report"]["destination"] == "dag_run"
    assert views["Report"]["href"] == "upkeep/report?dag_id={DAG_ID}&run_id={RUN_ID}"


def test_loading_the_plugin_imports_nothing_heavy():
    """Every component of Airflow loads it, DAG processors every few minutes."""
    code = (
        "import sys, airflow.plugins_manager; before = set(sys.modules); import upkeep_plugin;"
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2] / "plugins",
    )
    assert done.stdout.splitlines()[-1] == "['upkeep_plugin']"


def test_gathering_reads_history_and_catalogue(server: PostgresServer, tmp_path: Path):
    """Titles come from the system files; series, ages and backups from the ledger."""
    server.create_database("history")
    ledger = Ledger(lambda: server.dsn("history"), Spool(tmp_path))
    ledger.write(*samples.troubled_events())
    record = ledger.record(samples.RUN)
    extras = gather(ledger, record, samples.START)
    assert extras.ledger_away == "" and extras.titles["claims"] == "Insurance Claims Processing System"
    assert extras.zones["claims"] == "America/New_York"
    assert extras.series["claims/db", "database.health", "database.size", ""] == (1.83e9,)
    assert extras.first_seen["claims/db|database.health|sequence|public.claim_id_seq"].times == 1
    assert extras.stored["claims/db"].proven_id == "20261121T060012Z-7f3a"
    assert extras.stored["campus/db"].proven_id == "" and extras.stored["campus/db"].kept == 1
    (backup,) = extras.proofs["claims/db"]
    assert backup.id == "20261121T060012Z-7f3a" and backup.verified_ok and backup.size_bytes == 684_021_311
    assert "Backups and their proof" in build(record, judge_run(record), extras).html
    ledger.close()


def test_gathering_without_a_ledger_says_why(tmp_path: Path):
    """Everything else is still there."""
    ledger = Ledger(lambda: "host=127.0.0.1 port=1 connect_timeout=2", Spool(tmp_path))
    record = samples.record_of(samples.quiet_events())
    extras = gather(ledger, record, samples.START)
    made: Report = build(record, judge_run(record), extras)
    assert "refused" in extras.ledger_away and "refused" in made.html and "Database health" in made.html
