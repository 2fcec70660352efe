"""The ladder in a real Airflow: scheduler, DAG processor, triggerer and API server, its database, and a mail server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lab.airflow import ROOT, Airflow
from lab.postgres import PostgresServer
from lab.process import scratch_folder
from tests.integration.mail_server import MailServer, settle

DAG_ID = "late"
DAG = '''
"""Three DAGs: one waits for a file and has the daily deadlines, one loses its worker, one maps a routine."""
import time
from datetime import datetime
from pathlib import Path

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, task

from upkeep.core.cadence import Cadence
from upkeep.core.errors import CriticalFindingError
from upkeep.escalation import build_deadlines, routine_failed
from upkeep.operators.base import RoutineOperator
from upkeep.operators.report import VerdictOperator
from upkeep.systems.index import read_index

with DAG(
    "late",
    schedule=CronDataIntervalTimetable("0 1 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=8,
    deadline=build_deadlines(Cadence.DAILY, read_index().deadlines(Cadence.DAILY)),
    params={"escalate": Param(False, type="boolean"), "fail": Param(False, type="boolean")},
    default_args={"on_failure_callback": routine_failed, "retries": 1, "retry_delay": 1},
):
    @task
    def work(params=None):
        if params["fail"]:
            raise ValueError("the disk of db1 is on fire")
        until = time.monotonic() + 120
        while not Path("RELEASE").exists() and time.monotonic() < until:
            time.sleep(0.2)

    work()

with DAG("killed", schedule=None, params={"escalate": Param(True, type="boolean")},
         default_args={"on_failure_callback": routine_failed}):
    @task
    def victim(dag_run=None):
        import os
        from upkeep.ledger.events import Expected, RunKey
        from upkeep.operators import wiring

        item = Expected.Item(routine="database.health", target="shop/db", system="shop")
        with wiring.open_ledger() as ledger:
            run = RunKey(dag_id=dag_run.dag_id, run_id=dag_run.run_id)
            ledger.write(Expected(at=wiring.now(), run=run, items=(item,)))
        os.kill(os.getpid(), 9)

    victim() >> VerdictOperator(task_id="verdict")

class HealthOperator(RoutineOperator):
    routine = "upkeep.routines.database.health"

    def execute(self, context):
        raise CriticalFindingError(f"{self.target_id} is gone", "bring it back")

with DAG("mapped", schedule=None, params={"escalate": Param(True, type="boolean")},
         default_args={"on_failure_callback": routine_failed}):
    HealthOperator.partial(task_id="health").expand(target=[{"id": "shop/db"}, {"id": "shop/archive"}])
'''
SYSTEM = """
name: shop
title: Shop
contacts:
  dba:
    primary: {name: Database Administrator, channels: [{kind: email, address: dba@shop.example}]}
  manager:
    primary: {name: Manager, channels: [{kind: phone, address: "+49-30-1"}, {kind: email, address: boss@shop.example}]}
ladder:
  deadlines: {daily: 2 s}
  rungs:
    - {after: 0 s, roles: [dba]}
    - {after: 3 s, roles: [manager]}
targets:
  db: {kind: postgres, conn_id: shop_db}
"""


@dataclass
class Site:
    """Airflow with everything around it."""

    airflow: Airflow
    server: PostgresServer
    mail: MailServer
    release: Path

    def callbacks(self, run_id: str) -> dict[int, str | None]:
        """Return what the triggerer's callbacks of a run returned, by rung; only those that have ended."""
        with self.server.connect("airflow") as connection:
            rows = connection.execute(
                "select data::jsonb, output from callback where type = 'triggerer' and state in ('success', 'failed')"
            ).fetchall()
        found: dict[int, str | None] = {}
        for data, output in rows:
            kwargs = data["__var"]["kwargs"]["__var"] if "__var" in data else data["kwargs"]
            if run_id in str(kwargs):
                found[int(kwargs["rung"])] = output
        return found

    def escalations(self, run_id: str) -> list[dict[str, Any]]:
        """Return what the ledger holds of a run's escalations."""
        with self.server.connect("ledger", row_factory=psycopg.rows.dict_row) as connection:
            return connection.execute(
                "select cause, subject, rung, deliveries from upkeep.escalation where run_id = %s order by at", [run_id]
            ).fetchall()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Start it all once."""
    folder = tmp_path_factory.mktemp("airflow")
    for name, text in {
        "dags/late.py": DAG.replace("RELEASE", f"{folder}/release"),
        "systems/shop.yaml": SYSTEM,
    }.items():
        (folder / name).parent.mkdir()
        (folder / name).write_text(text)
    with scratch_folder() as data, PostgresServer(18, data) as server, MailServer() as mail:
        server.create_database("airflow")
        server.create_database("ledger")
        env = {"UPKEEP_SYSTEMS_DIR": f"{folder}/systems", "UPKEEP_HOME": f"{folder}/home"}
        airflow = Airflow(folder / "home", folder / "dags", server.dsn("airflow"), env, ROOT / "plugins")
        with airflow:
            _connect(airflow, server, mail)
            airflow.wait_for_dag(DAG_ID)
            yield Site(airflow, server, mail, folder / "release")


def _connect(airflow: Airflow, server: PostgresServer, mail: MailServer) -> None:
    """Store the connections in Airflow's database, where a thread of the triggerer must find them."""
    extra = '{"from_email": "upkeep@shop.example", "disable_ssl": true, "disable_tls": true}'
    smtp = {"connection_id": "upkeep_smtp", "conn_type": "smtp", "host": "127.0.0.1", "port": mail.port, "extra": extra}
    ledger = {"connection_id": "upkeep_ledger", "conn_type": "postgres", "host": "127.0.0.1", "port": server.port}
    login = {"login": "postgres", "password": server.password(), "schema": "ledger"}
    airflow.request("POST", "connections", smtp)
    airflow.request("POST", "connections", ledger | login)


def test_rungs_fire_for_scheduled_runs_and_stay_quiet_for_others(site: Site) -> None:
    """A late scheduled run tells both rungs, a manual run only when asked, a backfill never; the ledger has it all."""
    airflow = site.airflow
    airflow.unpause(DAG_ID)
    manual, asked = airflow.trigger(DAG_ID), airflow.trigger(DAG_ID, {"escalate": True})
    window = {"from_date": "2026-02-01T00:00:00Z", "to_date": "2026-02-02T02:00:00Z", "max_active_runs": 1}
    airflow.request("POST", "backfills", {"dag_id": DAG_ID, **window})
    assert settle(lambda: {"scheduled", "backfill"} <= {run["run_type"] for run in airflow.runs(DAG_ID)})
    by_type = {run["run_type"]: run["dag_run_id"] for run in airflow.runs(DAG_ID)}
    runs = {"scheduled": by_type["scheduled"], "backfill": by_type["backfill"], "manual": manual, "asked": asked}
    assert settle(lambda: all(set(site.callbacks(run)) == {1, 2} for run in runs.values()), 90), {
        name: site.callbacks(run) for name, run in runs.items()
    }
    site.release.touch()

    for name in ("scheduled", "asked"):
        assert site.callbacks(runs[name]) == {1: "1 told", 2: "1 told"}, name
        # On a busy machine both rungs can be due in one round of the triggerer, in any order.
        first, second = sorted(site.escalations(runs[name]), key=lambda one: one["rung"])
        assert (first["cause"], first["subject"], first["rung"]) == ("deadline", "shop daily run", 1)
        assert [d["delivered"] for d in first["deliveries"]] == [True]
        assert [(d["channel"], d["delivered"]) for d in second["deliveries"]] == [("phone", None), ("email", True)]
    for name in ("backfill", "manual"):
        outputs = site.callbacks(runs[name])
        assert all(str(text).startswith("quiet: ") for text in outputs.values()), outputs
        assert site.escalations(runs[name]) == []
    assert site.mail.recipients() == ["boss@shop.example"] * 2 + ["dba@shop.example"] * 2
    late = next(mail for mail in site.mail.mails if runs["scheduled"] in mail.get_content())
    assert late["Subject"] == "[LATE] shop: the daily run has not finished in time"
    assert f"{airflow.url}/dags/{DAG_ID}/runs/" in late.get_content()
    assert {run: airflow.wait(DAG_ID, run, 60) for run in runs.values()} == dict.fromkeys(runs.values(), "success")


def test_a_failure_is_told_after_the_last_try_and_once(site: Site) -> None:
    """A failing task tells the first rung when its retries are used up, not before, and no deadline follows."""
    before = len(site.mail.mails)
    run = site.airflow.trigger(DAG_ID, {"escalate": True, "fail": True})
    assert site.airflow.wait(DAG_ID, run, 60) == "failed"
    mails = [m for m in site.mail.wait(before + 1) if run in m.get_content() and "CRITICAL" in m["Subject"]]
    assert [mail["To"] for mail in mails] == ["dba@shop.example"]
    assert "the disk of db1 is on fire" in mails[0].get_content()
    assert settle(lambda: [e["rung"] for e in site.escalations(run) if e["cause"] == "failure"] == [1])


def mails_about(site: Site, run: str, count: int) -> list[EmailMessage]:
    """Wait for so many mails about one run; on a slow machine other tests' runs may be told late in between."""
    assert settle(lambda: sum(run in mail.get_content() for mail in site.mail.mails) >= count)
    return [mail for mail in site.mail.mails if run in mail.get_content()]


def test_every_target_of_a_mapped_routine_is_told_by_name(site: Site) -> None:
    """Each failed instance of a mapped task tells of its own target, with the error's hint, to the routine's owner."""
    site.airflow.unpause("mapped")
    run = site.airflow.trigger("mapped")
    assert site.airflow.wait("mapped", run, 60) == "failed"
    told = mails_about(site, run, 2)
    assert {str(sent["Subject"]).split(":")[0] for sent in told} == {"[CRITICAL] shop/db", "[CRITICAL] shop/archive"}
    assert all("bring it back" in sent.get_content() for sent in told)


def test_a_worker_that_dies_is_told_by_the_verdict(site: Site) -> None:
    """After SIGKILL no callback of the task runs; the verdict finds the result missing and tells of it."""
    site.airflow.unpause("killed")
    run = site.airflow.trigger("killed")
    assert site.airflow.wait("killed", run, 60) == "failed"
    (sent,) = mails_about(site, run, 1)
    assert sent["Subject"] == "[CRITICAL] shop: 1 result is missing"
    assert [e["subject"] for e in site.escalations(run)] == ["shop missing"]


def test_the_password_of_a_connection_stands_in_no_log(site: Site) -> None:
    """Neither Airflow's logs nor the spool hold the password of the ledger's connection."""
    logs = [path for path in Path(site.airflow.env["AIRFLOW_HOME"]).rglob("*.log") if path.is_file()]
    assert logs
    secret = site.server.password().encode()
    assert [path for path in logs if secret in path.read_bytes()] == []
