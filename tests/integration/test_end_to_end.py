"""The whole product: a fresh lab, a real scheduler, every cadence over five systems, and the reports."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lab import run as lab_run
from lab.airflow import Airflow
from lab.embedded import Lab
from lab.faults import set_faults
from lab.planters_care import DEAD_ROWS
from lab.process import scratch_folder

DAILY = "maintenance_daily"
SYSTEM_NAMES = ("campus", "cardiology", "claims", "molecular", "student")


@dataclass
class Site:
    """A lab with its Airflow, and the first daily run in it."""

    lab: Lab
    airflow: Airflow
    run_id: str
    state: str

    def result(self, dag_id: str = DAILY, run_id: str | None = None):
        return lab_run.result(self.lab, dag_id, run_id or self.run_id)

    def actions(self, dag_id: str, routine: str, target: str) -> list[tuple[str, str, dict[str, Any]]]:
        """Return status, subject and evidence of what was done, as the ledger tells it."""
        with self.lab.clusters["platform"].connect("upkeep_ledger") as ledger:
            return ledger.execute(
                "select a.status, a.subject, a.evidence from upkeep.action a"
                " join upkeep.routine_run r on r.id = a.routine_run_id"
                " where r.dag_id = %s and r.routine = %s and r.target = %s and a.evidence is not null",
                [dag_id, routine, target],
            ).fetchall()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with scratch_folder() as folder:
        lab = Lab(folder / "lab", scale=0.2)
        airflow = None
        try:
            lab.up()
            airflow = lab_run.airflow_of(lab).start()
            run_id = lab_run.start_run(airflow, DAILY)
            state = lab_run.follow(airflow, DAILY, run_id, say=print, seconds=300)
            yield Site(lab, airflow, run_id, state)
        finally:
            if airflow is not None:
                airflow.stop()
            lab.down()


def test_exactly_the_planted_faults_are_found(site: Site):
    """Compared both ways: no planted fault is missed, and nothing healthy is called ill."""
    assert lab_run.compare(site.result()["findings"], "daily") == ([], [])


def test_the_scheduler_started_the_run_and_the_verdict_failed_it(site: Site):
    """The run is the scheduler's own; a critical finding is planted, so it must not be green."""
    assert site.run_id.startswith("scheduled__")
    assert (site.state, site.result()["verdict"]) == ("failed", "critical")


def test_mapped_tasks_are_labelled_with_their_target(site: Site):
    """An engineer sees in the grid which database a red square is."""
    labels = {
        t.get("rendered_map_index") for t in site.airflow.tasks(DAILY, site.run_id) if t["task_id"] == "backup.postgres"
    }
    assert labels == {"claims/db", "cardiology/db", "molecular/db", "student/db", "campus/db"}


def test_every_database_has_a_verified_backup(site: Site):
    """The ledger knows a backup of everything that has one, each complete and read back."""
    with site.lab.clusters["platform"].connect("upkeep_ledger") as ledger:
        rows = ledger.execute("select kind, target, verified_ok, size_bytes > 0 from upkeep.backup").fetchall()
    assert {target for kind, target, *_ in rows if kind == "dump"} == {
        "claims/db", "cardiology/db", "molecular/db", "student/db", "campus/db",
    }  # fmt: skip
    assert {kind for kind, *_ in rows} == {"dump", "files", "redis", "sqlite"}
    assert [row for row in rows if row[2:] != (True, True)] == []


def test_the_contacts_of_critical_work_were_told(site: Site):
    """The scheduled run's critical finding reached a mailbox, and the ledger says so."""
    with site.lab.clusters["platform"].connect("upkeep_ledger") as ledger:
        [(subject, deliveries)] = ledger.execute(
            "select subject, deliveries from upkeep.escalation where system = 'campus' and cause = 'failure'"
        ).fetchall()
    assert "campus/web" in subject
    assert any(d["delivered"] for d in deliveries)
    assert any("campus/web" in mail.as_string() for mail in site.lab.mail.mails())


def test_the_report_is_one_click_away(site: Site):
    """The page is served inside Airflow (who may see it is tests/unit/test_report_web.py's matter)."""
    address = f"{site.airflow.url}/upkeep/report?dag_id={DAILY}&run_id={urllib.request.quote(site.run_id)}"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {site.airflow.token}"})
    assert "campus/web" in urllib.request.urlopen(request).read().decode()


def test_no_import_errors(site: Site):
    """Every DAG file parsed in the real DAG processor."""
    assert site.airflow.request("GET", "importErrors")["total_entries"] == 0


def test_a_second_run_compares_with_the_first(site: Site):
    """A manual run of one system finds the same trouble under the same keys, and stays quiet."""
    before = len(site.lab.mail.mails())
    run_id = site.airflow.trigger(DAILY, {"systems": ["claims"]})
    lab_run.follow(site.airflow, DAILY, run_id, say=print, seconds=200)
    found = site.result(run_id=run_id)["findings"]
    assert lab_run.compare(found, "daily", {"claims"}) == ([], [])
    assert len(site.lab.mail.mails()) == before


def test_a_dry_run_takes_no_backup(site: Site):
    """Planned actions stand in the ledger; the store is as it was."""

    def backups() -> int:
        with site.lab.clusters["platform"].connect("upkeep_ledger") as ledger:
            return ledger.execute("select count(*) from upkeep.backup").fetchone()[0]

    before = backups()
    run_id = site.airflow.trigger(DAILY, {"systems": ["student"], "routines": ["backup.postgres"], "dry_run": True})
    assert lab_run.follow(site.airflow, DAILY, run_id, say=print, seconds=200) == "success"
    assert backups() == before


@pytest.mark.parametrize("cadence", ["quarterly", "weekly", "monthly"])
def test_the_other_cadences_find_exactly_what_is_planted(site: Site, cadence: str):
    """Compared both ways, on a lab on which the other cadences have been before; what they mended is planted anew."""
    set_faults(site.lab, planted=True)
    dag_id = f"maintenance_{cadence}"
    run_id = lab_run.start_run(site.airflow, dag_id)
    state = lab_run.follow(site.airflow, dag_id, run_id, say=print, seconds=300)
    outcome = site.result(dag_id, run_id)
    assert lab_run.compare(outcome["findings"], cadence) == ([], [])
    # Unknown is never ok, but where nothing critical is planted nobody is called out at night.
    assert (state, outcome["verdict"]) == (("success", "unknown") if cadence == "quarterly" else ("failed", "critical"))


@pytest.mark.parametrize("dag_id", ["maintenance_weekly", "maintenance_monthly"])
def test_dead_rows_are_gone(site: Site, dag_id: str):
    """Vacuum says how many rows it removed from the table that autovacuum leaves alone, and the server agrees."""
    [removed] = [
        table["report"]["removed"]
        for _, _, evidence in site.actions(dag_id, "database.vacuum", "campus/db")
        for table in evidence.get("tables", [evidence])
        if table.get("table") == "public.attendance_older"
    ]
    assert removed == DEAD_ROWS
    with site.lab.connect("campus") as keeper:
        dead = keeper.execute("SELECT dead_tuple_count FROM pgstattuple('attendance_older')").fetchone()
    assert dead == (0,)


@pytest.mark.parametrize("dag_id", ["maintenance_weekly", "maintenance_monthly"])
def test_the_bloated_index_has_shrunk(site: Site, dag_id: str):
    """It was rebuilt, and is a small part of what it was."""
    [evidence] = [
        evidence
        for status, subject, evidence in site.actions(dag_id, "database.reindex", "student/db")
        if (status, subject) == ("done", "public.notifications_pkey")
    ]
    assert evidence["bytes_after"] < evidence["bytes_before"] / 3
    with site.lab.connect("student") as connection:
        [(size,)] = connection.execute("SELECT pg_relation_size('notifications_pkey')")
    assert size == evidence["bytes_after"]


def test_a_person_is_asked_once(site: Site):
    """Whatever several runs found to be needed is one request; an index is proposed weekly and not monthly again."""
    waiting = site.airflow.runs("approved_changes")
    assert {run["state"] for run in waiting} == {"running"}
    with site.lab.clusters["platform"].connect("upkeep_ledger") as ledger:
        rows = ledger.execute("select target, routine, decision, actions from upkeep.approval").fetchall()
    asked = {(target, routine): actions for target, routine, _, actions in rows}
    assert len(waiting) == len(rows) == len(asked) and {decision for _, _, decision, _ in rows} == {None}
    assert asked.keys() == {
        ("campus/db", "database.reindex"), ("student/risk-model", "model.retraining"),
        ("claims/requirements", "dependencies.update"),
    }  # fmt: skip
    assert {(a["name"], a["subject"]) for a in asked["campus/db", "database.reindex"]} == {
        ("drop_invalid", "public.students_name_once"), ("reindex", "public.students_name_once"),
    }  # fmt: skip
    with site.lab.connect("campus") as connection:
        assert connection.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = 'students_name_once'::regclass"
        ).fetchone() == (False,)


def test_every_database_was_restored_and_compared(site: Site):
    """The newest dump each week and a random one each month, from a server of its own, every row identical."""
    with site.lab.clusters["platform"].connect("upkeep_ledger") as ledger:
        rows = ledger.execute("select target, ok from upkeep.restore_test").fetchall()
    assert sorted(rows) == [(f"{name}/db", True) for name in SYSTEM_NAMES for _ in ("weekly", "monthly")]


@pytest.mark.parametrize("name", SYSTEM_NAMES)
def test_every_system_was_brought_back_from_its_backups(site: Site, name: str):
    """Each part came back; the services that can be started on them answered."""
    [(status, _, evidence)] = site.actions("maintenance_quarterly", "recovery.system", f"{name}/recovery")
    told = evidence["recovery"]
    assert status == "done" and [part["name"] for part in told["parts"] if part["trouble"]] == []
    assert told["services"] == ("answered" if name in ("campus", "claims", "student") else "none")
    assert all(answer["well"] for answer in told["answers"])
