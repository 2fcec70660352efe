"""A routine added by somebody else: its module, its operator and one DAG line are enough."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from lab.postgres import PostgresServer
from lab.process import scratch_folder
from upkeep.ledger import events as ev
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger

SITE = Path(__file__).parent / "site"
SYSTEM = """
name: shop
title: The shop
contacts: {sysadmin: {primary: {name: Ann, channels: [{kind: email, address: ann@example.org}]}}}
targets:
  cache: {kind: files, paths: ["%s"], settings: {cache.sweep: {allowed: 2}}}
  orders: {kind: logs, paths: ["%s"]}
"""
# One order on the first day, two on the second, three on the third; a day of the cadence begins at 01:00 UTC.
ORDERS = [f"2026-03-{1 + day:02}T{hour:02}:00:00+00:00" for day in range(3) for hour in range(1, 2 + day)]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with scratch_folder() as folder, PostgresServer(18, folder / "ledger") as server:
        server.create_database("ledger")
        yield server.dsn("ledger")


@pytest.fixture
def cache(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shop with five cache files, and the site's code on the path."""
    folder = tmp_path / "cache"
    folder.mkdir()
    for name in "abcde":
        (folder / name).touch()
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "shop.yaml").write_text(SYSTEM % (folder, tmp_path / "orders.log"))
    (tmp_path / "orders.log").write_text("\n".join(ORDERS))
    monkeypatch.setenv("UPKEEP_SYSTEMS_DIR", str(tmp_path / "systems"))
    monkeypatch.setenv("UPKEEP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UPKEEP_RETRY_SECONDS", "0")
    monkeypatch.setenv("AIRFLOW_CONN_UPKEEP_LEDGER", database)
    monkeypatch.syspath_prepend(str(SITE))
    return folder


def load_dag():
    spec = importlib.util.spec_from_file_location("site_daily", SITE / "dags" / "site_daily.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["site_daily"] = module
    spec.loader.exec_module(module)
    # dag.test() of 3.3.2 cannot look deadlines up that were never stored.
    module.dag.deadline = None
    return module.dag


def test_it_appears_everywhere(cache: Path, database: str, tmp_path: Path, metadata_db: None):
    """In params, ledger, verdict and report, with settings from the system file, and its action is done."""
    dag = load_dag()
    assert "cache.sweep" in dag.params.get_param("routines").schema["examples"]
    run = dag.test(run_conf={})
    assert str(run.state) == "success"
    assert sorted(p.name for p in cache.iterdir()) == ["a", "b"]
    ledger = Ledger(lambda: database, Spool(tmp_path / "spool"))
    key = ev.RunKey(dag_id="site_daily", run_id=run.run_id)
    record = ledger.record(key)
    [sweep] = [r for r in record.routines if r.key.routine == "cache.sweep"]
    assert [a.status for a in sweep.actions] == ["done"] * 3
    assert sweep.settings == {"allowed": 2}
    [report] = ledger.ask("report_of_run", dag_id=key.dag_id, run_id=key.run_id)
    ledger.close()
    assert "Cache sweep" in report["html"]
    assert "5 files in the cache" in report["html"]


def test_a_dry_run_changes_nothing(cache: Path, metadata_db: None):
    """The same DAG with dry_run plans the sweep and leaves the files alone."""
    run = load_dag().test(run_conf={"dry_run": True})
    assert str(run.state) == "success"
    assert len(list(cache.iterdir())) == 5


@pytest.mark.parametrize("params", [{"systems": ["shpo"]}, {"routines": ["cache.swep"]}])
def test_an_unknown_name_fails_the_run(cache: Path, metadata_db: None, params: dict[str, list[str]]):
    """A typing error must not give a green run that did nothing."""
    run = load_dag().test(run_conf=params)
    assert str(run.state) == "failed"
    assert len(list(cache.iterdir())) == 5


def test_a_bad_system_file_takes_nothing_down(cache: Path, metadata_db: None, tmp_path: Path, database: str):
    """The other systems are maintained; the run says what is wrong with the file, and is not green."""
    (tmp_path / "systems" / "bank.yaml").write_text("name: bank\ntitel: The bank\n")
    run = load_dag().test(run_conf={})
    assert str(run.state) == "failed"
    assert sorted(p.name for p in cache.iterdir()) == ["a", "b"]
    ledger = Ledger(lambda: database, Spool(tmp_path / "spool"))
    record = ledger.record(ev.RunKey(dag_id="site_daily", run_id=run.run_id))
    ledger.close()
    [select] = [r for r in record.routines if r.key.routine == "systems.select"]
    assert any("titel" in f.message and "did you mean 'title'?" in f.hint for f in select.findings)
    assert record.closed is not None and record.closed.verdict == "critical"


def test_a_whole_run_without_ledger(
    cache: Path, metadata_db: None, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
):
    """Work, verdict and report do not need the ledger; the next run that reaches it brings it up to date."""
    monkeypatch.setenv("AIRFLOW_CONN_UPKEEP_LEDGER", "postgresql://nobody:nothing@127.0.0.1:1/ledger")
    away = load_dag().test(run_conf={})
    assert str(away.state) == "success"
    assert len(list(cache.iterdir())) == 2
    [page] = (tmp_path / "home" / "reports" / "site_daily").glob("*.html")
    assert "5 files in the cache" in page.read_text()
    assert Spool(tmp_path / "home" / "spool")
    monkeypatch.setenv("AIRFLOW_CONN_UPKEEP_LEDGER", database)
    back = load_dag().test(run_conf={})
    ledger = Ledger(lambda: database, Spool(tmp_path / "spool"))
    states = {r["run_id"]: r["verdict"] for r in ledger.ask("recent_runs", limit=100)}
    record = ledger.record(ev.RunKey(dag_id="site_daily", run_id=away.run_id))
    ledger.close()
    assert states[away.run_id] == "warning"
    assert states[back.run_id] == "ok"
    assert [a.status for r in record.routines for a in r.actions] == ["done"] * 3
    assert not Spool(tmp_path / "home" / "spool")


def test_a_backfilled_window_gets_its_own_answer_and_now_is_skipped(
    cache: Path, metadata_db: None, tmp_path: Path, database: str
):
    """Each past day has its own orders, however often it is run; what reports the state of now is not redone."""
    for day in (2, 3, 4, 3):  # the ends of the windows
        run = load_dag().test(logical_date=datetime(2026, 3, day, 1, tzinfo=UTC), run_conf={})
        assert str(run.state) == "success"
    assert len(list(cache.iterdir())) == 5
    ledger = Ledger(lambda: database, Spool(tmp_path / "spool"))
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "select r.window_start::date::text, m.value, count(*) from upkeep.measurement m"
            " join upkeep.routine_run t on t.id = m.routine_run_id join upkeep.run r using (dag_id, run_id)"
            " where m.name = 'orders' and r.window_start < '2026-03-05' group by 1, 2 order by 1"
        ).fetchall()
    record = ledger.record(ev.RunKey(dag_id="site_daily", run_id=run.run_id))
    ledger.close()
    assert [row[:2] for row in rows] == [("2026-03-01", 1.0), ("2026-03-02", 2.0), ("2026-03-03", 3.0)]
    [sweep] = [r for r in record.routines if r.key.routine == "cache.sweep"]
    assert sweep.state == "skipped" and "the run of site_daily for the newest window covers it" in sweep.reason
