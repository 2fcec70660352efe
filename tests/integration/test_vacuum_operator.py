"""`VacuumOperator` and `AnalyzeOperator` in a DAG: settings from the system file, rows in a real ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from lab.postgres import MAJORS, PostgresServer
from tests.integration.database_bench import database, server
from tests.integration.vacuum_bench import settle

SYSTEM = """
name: claims
title: Claims
contacts: {dba: {primary: {name: Ann, channels: [{kind: email, address: ann@example.org}]}}}
settings: {database.vacuum: {lock_timeout: 0.2}}
targets:
  db: {kind: postgres, conn_id: claims_db, maintenance_conn_id: claims_maintenance, tables: [public.claim]}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PostgresServer, psycopg.Connection]]:
    """A system with a database in need, and a ledger beside it."""
    pg = server(MAJORS[-1])
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "claims.yaml").write_text(SYSTEM)
    with database(pg, "upkeep_ledger"), database(pg) as db:
        db.execute("DELETE FROM payment")
        settle(db)
        monkeypatch.setenv("UPKEEP_SYSTEMS_DIR", str(tmp_path / "systems"))
        monkeypatch.setenv("UPKEEP_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("AIRFLOW_CONN_UPKEEP_LEDGER", pg.dsn("upkeep_ledger"))
        monkeypatch.setenv("AIRFLOW_CONN_CLAIMS_DB", "postgresql://nobody:nothing@127.0.0.1:1/claims")
        monkeypatch.setenv("AIRFLOW_CONN_CLAIMS_MAINTENANCE", pg.dsn("claims"))
        yield pg, db


def context() -> Any:
    """Return what Airflow hands to a task of a manual run."""
    now = datetime.now(UTC)
    run = SimpleNamespace(
        dag_id="care", run_id="manual", run_type="manual", data_interval_start=now, data_interval_end=now
    )
    ti = SimpleNamespace(try_number=1, max_tries=0)
    return {"dag_run": run, "ti": ti, "dag": SimpleNamespace(timetable=None), "params": {}}


def test_the_operators_do_the_work(site: tuple[PostgresServer, psycopg.Connection], metadata_db: None):
    """The maintenance connection does the work; every table has a row in the ledger, with before and after."""
    from upkeep.operators.database import AnalyzeOperator, VacuumOperator

    pg, _ = site
    summary = VacuumOperator(task_id="vacuum", target="claims/db").execute(context())
    assert (summary["severity"], summary["ledger"]) == ("ok", True)
    assert AnalyzeOperator(task_id="analyze", target={"id": "claims/db"}).execute(context())["findings"] == 0
    with pg.connect("upkeep_ledger") as ledger:
        rows = ledger.execute(
            "select subject, status, evidence->'after'->>'dead' from upkeep.action"
            " where name = 'vacuum' order by number"
        ).fetchall()
        states = ledger.execute("select state from upkeep.routine_run order by routine").fetchall()
    assert states == [("success",), ("success",)]
    assert [row for row in rows if row[0].startswith("public.")] == [
        ("public.claim", "done", "0"),
        ("public.payment", "done", "0"),
    ]
