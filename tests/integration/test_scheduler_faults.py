"""What goes wrong at night, in a real Airflow: killed and stopped tasks, time limits, backfills, a ledger that goes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lab.airflow import ROOT, Airflow
from lab.postgres import PostgresServer
from lab.process import LabError, birth, children, scratch_folder, wait_gone

SYSTEMS = ("killed", "stopped", "limited", "unrecorded", "quick")
ROUTINE = '''
"""Starts a program and waits as long as its target's folder holds the file `hang`."""
import time
from pathlib import Path

from upkeep.adapters.process import Program
from upkeep.core.cadence import Covers
from upkeep.core.model import Action, Outcome, OutcomeStatus, Plan
from upkeep.core.routine import RoutineSettings

TITLE, TARGETS, COVERS, ROLE = "Probe", ("files",), Covers.NOW, "sysadmin"


class Settings(RoutineSettings):
    """Settings of the probe."""

    word: str = ""


def observe(job):
    return Path(job.target.paths[0])


def plan(job, seen):
    return Plan(actions=(Action(name="probe", subject="folder", reason="it is time"),))


def act(job, action):
    folder = Path(job.target.paths[0])
    (folder / f"{job.run_id} {job.try_number}").touch()
    until = time.monotonic() + 60
    with Program(["sleep", "300"]):
        while (folder / "hang").exists() and time.monotonic() < until:
            time.sleep(0.05)
    return Outcome(status=OutcomeStatus.DONE, detail="probed")
'''
OPERATOR = '''
from upkeep.operators.base import RoutineOperator


class ProbeOperator(RoutineOperator):
    """Probe."""

    routine = "night.routines.probe.work"
'''
DAGS = '''
"""airflow dag: the daily cadence with a routine that can be made to hang."""
from datetime import timedelta

from night.operators import ProbeOperator

from upkeep.cadence import Cadence, SelectTargetsOperator, cadence_dag

for dag_id, limit in (("night", 60), ("limited", 2)):
    with cadence_dag(Cadence.DAILY, doc_md=__doc__, dag_id=dag_id, max_active_runs=4) as dag:
        select = SelectTargetsOperator(task_id="select")
        ProbeOperator.partial(task_id="probe", retries=1, execution_timeout=timedelta(seconds=limit)).expand(
            target=select.of("files")
        )
    globals()[dag_id] = dag
'''
SYSTEM = """
name: {name}
title: {name}
contacts: {{sysadmin: {{primary: {{name: Ann, channels: [{{kind: email, address: ann@example.org}}]}}}}}}
ladder: {{deadlines: {{daily: 2 h}}}}
targets:
  files: {{kind: files, paths: ["{folder}"]}}
"""


@dataclass
class Site:
    """Airflow, its database, and a ledger on a server of its own."""

    folder: Path
    airflow: Airflow
    metadata: PostgresServer
    ledger: PostgresServer

    def ask(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        with self.ledger.connect("ledger", row_factory=psycopg.rows.dict_row) as connection:
            return connection.execute(statement, values).fetchall()

    def states(self, run_id: str) -> list[str]:
        """Return the states of the probe's tries in a run, in order."""
        rows = self.ask(
            "select state from upkeep.routine_run where run_id = %s and routine = 'probe.work' order by try_number",
            run_id,
        )
        return [row["state"] for row in rows]

    def verdict(self, run_id: str) -> tuple[str, list[str]]:
        [row] = self.ask("select verdict, reasons from upkeep.run where run_id = %s", run_id)
        return row["verdict"], row["reasons"]

    def target(self, system: str) -> Path:
        return self.folder / "targets" / system

    def hangs(self, system: str, run_id: str, tries: int = 1) -> int:
        """Wait until a try hangs in its action; return the process that its ledger row names."""
        until((self.target(system) / f"{run_id} {tries}").exists)
        [row] = self.ask(
            "select pid from upkeep.routine_run where run_id = %s and routine = 'probe.work' and try_number = %s",
            run_id,
            tries,
        )
        return int(row["pid"])


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Start it all once."""
    with scratch_folder() as folder:
        files = {
            "site/night/__init__.py": '"""Night."""',
            "site/night/operators.py": OPERATOR,
            "site/night/routines/__init__.py": '"""Areas."""',
            "site/night/routines/probe/__init__.py": '"""Probes."""',
            "site/night/routines/probe/work.py": ROUTINE,
            "dags/night.py": DAGS,
        }
        for name in SYSTEMS:
            (folder / "targets" / name).mkdir(parents=True)
            files[f"systems/{name}.yaml"] = SYSTEM.format(name=name, folder=folder / "targets" / name)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        with PostgresServer(18, folder / "metadata") as metadata, PostgresServer(18, folder / "ledger") as ledger:
            metadata.create_database("airflow")
            ledger.create_database("ledger")
            env = {
                "PYTHONPATH": os.pathsep.join([str(ROOT / "plugins"), str(folder / "site")]),
                "UPKEEP_SYSTEMS_DIR": str(folder / "systems"),
                "UPKEEP_HOME": str(folder / "home"),
                "UPKEEP_CACHE_DIR": str(folder / "cache"),
                "UPKEEP_RETRY_SECONDS": "0.1",
                "AIRFLOW_CONN_UPKEEP_LEDGER": ledger.dsn("ledger"),
                "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            }
            with Airflow(folder / "airflow", folder / "dags", metadata.dsn("airflow"), env) as airflow:
                for dag_id in ("night", "limited"):
                    airflow.wait_for_dag(dag_id)
                    airflow.unpause(dag_id)
                until(lambda: airflow.runs("night"))
                airflow.wait("night", airflow.runs("night")[0]["dag_run_id"], 60)
                yield Site(folder, airflow, metadata, ledger)


def test_after_an_outage_one_run_catches_up(site: Site):
    """Switched on again after months, a DAG runs its newest window, once."""
    [run] = site.airflow.runs("night")
    assert (run["run_type"], run["state"]) == ("scheduled", "success")


def test_a_killed_process_is_retried_missed_and_can_be_cleared(site: Site):
    """SIGKILL takes a try along, not its retry; with no try left the verdict misses it; clearing heals the run."""
    (site.target("killed") / "hang").touch()
    run_id = site.airflow.trigger("night", {"systems": ["killed"]})
    os.kill(site.hangs("killed", run_id), signal.SIGKILL)
    os.kill(site.hangs("killed", run_id, tries=2), signal.SIGKILL)
    assert site.airflow.wait("night", run_id, 60) == "failed"
    assert site.states(run_id) == ["died", "died"]
    assert site.verdict(run_id) == ("critical", ["killed/files: no result of probe.work (its worker may have died)"])

    (site.target("killed") / "hang").unlink()
    wanted = {
        "dag_run_id": run_id,
        "task_ids": ["probe"],
        "only_failed": True,
        "include_downstream": True,
    }  # as the UI does
    site.airflow.request("POST", "dags/night/clearTaskInstances", {"dry_run": False, **wanted})
    assert site.airflow.wait("night", run_id, 60) == "success"
    assert site.states(run_id) == ["died", "died", "success"]
    assert site.verdict(run_id) == ("ok", [])
    [report] = site.ask("select markdown from upkeep.report where run_id = %s", run_id)
    assert "no result" not in report["markdown"]


def test_a_task_marked_as_failed_ends_with_its_programs(site: Site):
    """Airflow sends SIGTERM and, 5 s later, SIGKILL: the row says what happened and no program lives on."""
    (site.target("stopped") / "hang").touch()
    run_id = site.airflow.trigger("night", {"systems": ["stopped"]})
    pid = site.hangs("stopped", run_id)
    until(lambda: children(pid))
    family = {one: birth(one) or "" for one in (pid, *children(pid))}
    site.airflow.request(
        "PATCH", f"dags/night/dagRuns/{run_id}/taskInstances/probe/0", {"new_state": "failed", "note": "too long"}
    )
    assert wait_gone(family, 30)
    [row] = site.ask("select state, reason from upkeep.routine_run where run_id = %s and pid = %s", run_id, pid)
    assert row["state"] == "retry" and "ended from outside" in row["reason"]
    assert site.airflow.wait("night", run_id, 60) == "failed"
    assert len(site.verdict(run_id)[1]) == 1


def test_a_task_that_takes_too_long_fails_at_once(site: Site):
    """A time limit of hours is not tried again; the reason is in words."""
    (site.target("limited") / "hang").touch()
    run_id = site.airflow.trigger("limited", {"systems": ["limited"]})
    assert site.airflow.wait("limited", run_id, 60) == "failed"
    assert site.states(run_id) == ["failed"]
    reason = "limited/files: probe.work failed: it took longer than its execution_timeout"
    assert site.verdict(run_id) == ("critical", [reason])
    (site.target("limited") / "hang").unlink()


def test_a_backfill_does_nothing_that_only_now_can_tell(site: Site):
    """Past windows skip with the reason, end green, and nobody is told."""
    before = site.ask("select count(*) as n from upkeep.action")
    newest = max(run["data_interval_end"] for run in site.airflow.runs("night") if run["data_interval_end"])[:10]
    days = [f"{day:%Y-%m-%d}" for day in _days_before(newest, 3)]
    site.airflow.command(
        "backfill", "create", "--dag-id", "night", "--from-date", days[0], "--to-date", days[-1],
        "--max-active-runs", "3",
    )  # fmt: skip
    runs = [run["dag_run_id"] for run in site.airflow.runs("night") if run["run_type"] == "backfill"]
    assert len(runs) >= 2
    for run_id in runs:
        assert site.airflow.wait("night", run_id, 60) == "success"
        assert set(site.states(run_id)) == {"skipped"} and site.verdict(run_id) == ("ok", [])
    [reasons] = site.ask("select array_agg(distinct reason) as r from upkeep.routine_run where run_id = %s", runs[0])
    assert any("the run of night for the newest window covers it" in reason for reason in reasons["r"])
    assert site.ask("select count(*) as n from upkeep.action") == before
    assert site.ask("select * from upkeep.escalation where run_id like 'backfill%%'") == []


def _days_before(day: str, count: int) -> list[Any]:
    from datetime import date, timedelta

    return [date.fromisoformat(day) - timedelta(days=n) for n in range(count + 1, 1, -1)]


def test_a_ledger_that_goes_in_the_middle_of_a_run_loses_nothing(site: Site):
    """The run ends as it would have; what could not be written is there once the ledger is back."""
    (site.target("unrecorded") / "hang").touch()
    run_id = site.airflow.trigger("night", {"systems": ["unrecorded"]})
    site.hangs("unrecorded", run_id)
    site.ledger.kill()
    try:
        (site.target("unrecorded") / "hang").unlink()
        until((site.folder / "home" / "spool" / "events.jsonl").exists)
    finally:
        site.ledger.start()
    assert site.airflow.wait("night", run_id, 90) == "success"
    later = site.airflow.trigger("night", {"systems": ["quick"]})
    assert site.airflow.wait("night", later, 60) == "success"
    assert site.states(run_id) == ["success"] and site.verdict(run_id) == ("ok", [])
    [action] = site.ask(
        "select status from upkeep.action join upkeep.routine_run r on r.id = routine_run_id where r.run_id = %s",
        run_id,
    )
    assert action["status"] == "done"


@pytest.mark.parametrize(
    "params", [{"systems": "quick"}, {"settings": [1]}, {"settings": {"probe.work": "x"}}, {"dry_run": None}]
)
def test_the_form_refuses_what_has_the_wrong_type(site: Site, params: dict[str, Any]):
    """Before a run exists at all."""
    with pytest.raises(LabError, match=": 400 "):
        site.airflow.trigger("night", params)


def test_settings_that_nothing_reads_and_secrets_stop_the_run(site: Site):
    """Nothing is worked on, the reason is on record, and the secret is not."""
    runs = {
        site.airflow.trigger("night", {"systems": ["quick"], "settings": settings}): said
        for settings, said in (
            ({"probe.wrok": {"word": "x"}}, "unknown routine in settings 'probe.wrok'"),
            ({"probe.work": {"word": "postgresql://app:t0ps3cr3t@db/claims"}}, "looks like a credential"),
        )
    }
    for run_id, said in runs.items():
        assert site.airflow.wait("night", run_id, 60) == "failed"
        assert site.states(run_id) == []
        assert any(said in reason for reason in site.verdict(run_id)[1])
    assert site.ask("select 1 from upkeep.event where body::text like '%%t0ps3cr3t%%'") == []


def test_no_password_stands_anywhere(site: Site):
    """Ledger, spool, logs, XCom and reports of all the runs above."""
    words = {site.metadata.password(), site.ledger.password()}
    told = [path for name in ("home", "airflow/logs") for path in (site.folder / name).rglob("*") if path.is_file()]
    assert len(told) > 20
    assert [path for path in told for word in words if word in path.read_text(errors="replace")] == []
    for word in words:
        assert site.ask("select 1 from upkeep.event where position(%s in body::text) > 0", word) == []
        with site.metadata.connect("airflow") as airflow:
            found = airflow.execute("select 1 from xcom where position(%s in value::text) > 0", [word]).fetchall()
        assert found == []
