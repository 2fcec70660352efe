"""The emergency restore in a real Airflow: form, question, answer over REST, safety backup, swap, record."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from lab.airflow import ROOT, Airflow
from lab.postgres import PostgresServer
from lab.process import scratch_folder
from tests.integration.approval_site import Site
from upkeep.adapters import object_store, tree_backup
from upkeep.adapters.archive import make_archiver
from upkeep.core.backup import Database, Options, Place
from upkeep.core.targets import StoreRef
from upkeep.core.tree import FileSet, TreeOptions

DAG = "emergency_restore"
SYSTEM = """
name: shop
title: A shop
contacts: {{dba: {{primary: {{name: Ann, channels: [{{kind: email, address: ann@example.org}}]}}}}}}
maintenance_window: {{days: [mon], start: "01:00", end: "01:01"}}
store: {{url: "file://{folder}/store"}}
targets:
  db:
    kind: postgres
    conn_id: shop_app
    backup_conn_id: shop_admin
    maintenance_conn_id: shop_admin
    volume: {{path: "{folder}"}}
    smoke: {{claims: {{sql: select count(*) from claim, equals: 1000}}}}
  files: {{kind: files, paths: ["{folder}/uploads/**"]}}
"""


@dataclass
class Story:
    """What was started before the first test, side by side."""

    site: Site
    server: PostgresServer
    backup: str
    approved: str
    rejected: str
    blind: str


@contextmanager
def running() -> Iterator[tuple[Site, PostgresServer, str]]:
    """Start Airflow, a database that was backed up and then damaged, and files of the same fate."""
    with scratch_folder() as folder:
        for name in ("systems", "dags", "scratch", "uploads"):
            (folder / name).mkdir()
        shutil.copy(ROOT / "dags" / f"{DAG}.py", folder / "dags")
        (folder / "systems" / "shop.yaml").write_text(SYSTEM.format(folder=folder))
        (folder / "uploads" / "photo").write_text("good")
        with PostgresServer(18, folder / "server") as server:
            for name in ("airflow", "ledger", "shop"):
                server.create_database(name)
            server.create_role("app")
            with server.connect("shop") as connection:
                connection.execute("create table claim as select generate_series(1, 1000) as id")
                connection.execute("grant connect on database shop to app")
                connection.execute("grant select on claim to app")
            backup = back_up(folder, server)
            with server.connect("shop") as connection:
                connection.execute("delete from claim where id > 3")
            (folder / "uploads" / "photo").write_text("broken")
            env = {
                "PYTHONPATH": str(ROOT / "plugins"),
                "UPKEEP_SYSTEMS_DIR": str(folder / "systems"),
                "UPKEEP_HOME": str(folder / "home"),
                "UPKEEP_CACHE_DIR": str(folder / "cache"),
                "UPKEEP_SCRATCH_DIR": str(folder / "scratch"),
                "UPKEEP_PG_BIN": str(server.bin),
                "UPKEEP_RETRY_SECONDS": "0.1",
                "AIRFLOW_CONN_UPKEEP_LEDGER": server.dsn("ledger"),
                "AIRFLOW_CONN_SHOP_APP": server.dsn("shop", "app"),
                "AIRFLOW_CONN_SHOP_ADMIN": server.dsn("shop"),
                "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            }
            with Airflow(folder / "airflow", folder / "dags", server.dsn("airflow"), env) as airflow:
                airflow.wait_for_dag(DAG)
                yield Site(folder, airflow, server, None), server, backup  # type: ignore[arg-type]


def back_up(folder: Any, server: PostgresServer) -> str:
    store, scratch = StoreRef(url=f"file://{folder}/store"), folder / "scratch"
    scratch.chmod(0o700)
    opened = object_store.opener(lambda _: None)
    place = Place(store=store, target="shop/db")
    made = make_archiver(lambda _: server.dsn("shop"), opened, scratch).backup(
        Database(conn_id="x"), place, Options(programs=str(server.bin)), "run", lambda _: None
    )
    tree_backup.make_trees(opened, scratch).backup(
        FileSet(paths=(f"{folder}/uploads/**",)), Place(store=store, target="shop/files", kind="files"), TreeOptions(),
        "run", lambda _: None,
    )  # fmt: skip
    return made.manifest.id


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with running() as (site, server, backup):

        def trigger(target: str, **more: Any) -> str:
            return site.airflow.trigger(DAG, {"target": target, "reason": "a script deleted claims", **more})

        yield Story(
            site, server, backup, approved=trigger("shop/db"), rejected=trigger("shop/files"),
            blind=trigger("shop/db", backup="20200101T000000Z-00000000"),
        )  # fmt: skip


def rows(story: Story, run_id: str) -> dict[str, dict[str, Any]]:
    """Return the ledger's rows of a run by task."""
    found = story.site.ask("select * from upkeep.routine_run where run_id = %s order by try_number", run_id)
    return {row["task"]: row for row in found}


def answer(site: Site, run: str, word: str) -> None:
    """Answer as a person does, who reads first: an answer in the very second may overtake Airflow's own bookkeeping."""
    time.sleep(3)
    site.answer(run, word, DAG)


def test_a_person_reads_what_is_at_stake_and_agrees(story: Story):
    """Question with everything; then a backup of the present state, the restore, and the proof on record."""
    site, run = story.site, story.approved
    question = site.question(run, DAG)
    for said in (
        story.backup, "a script deleted claims", "would be lost", "1000 rows", "never verified", "safety backup",
        "made before the restore", "closed until", "it replaces shop",
    ):  # fmt: skip
        assert said.lower() in question["body"].lower(), said
    with story.server.connect("shop") as connection:
        assert connection.execute("select count(*) from claim").fetchone() == (3,)
    answer(site, run, "Approve")
    assert site.airflow.wait(DAG, run, 180) == "success"
    with story.server.connect("shop") as connection:
        assert connection.execute("select count(*) from claim").fetchone() == (1000,)
    done = rows(story, run)
    assert {task: row["state"] for task, row in done.items()} == dict.fromkeys(
        ("request", "mend", "safety", "do"), "success"
    )
    assert (done["safety"]["routine"], done["do"]["routine"]) == ("backup.postgres", "recovery.restore")
    [action] = site.ask("select * from upkeep.action where routine_run_id = %s", done["do"]["id"])
    kept = action["evidence"]["recovery"]
    assert kept["backup"] == story.backup and kept["reason"] == "a script deleted claims" and len(kept["undo"]) == 4
    with story.server.connect() as connection:
        assert connection.execute("select 1 from pg_database where datname = %s", [kept["kept"]]).fetchone()
    approval = site.approval(run)
    assert (approval["decision"], approval["target"]) == ("approved", "shop/db") and approval["decided_by"]
    assert site.verdict(run)[0] in ("ok", "info")
    [report] = site.ask("select html from upkeep.report where run_id = %s", run)
    assert kept["kept"] in report["html"]


def test_what_is_rejected_changes_nothing(story: Story):
    """No safety backup, no restore; the run is green, and it is on record who said no."""
    site, run = story.site, story.rejected
    site.question(run, DAG)
    answer(site, run, "Reject")
    assert site.airflow.wait(DAG, run, 120) == "success"
    assert (site.folder / "uploads" / "photo").read_text() == "broken"
    assert site.state(run, "mend", DAG) == "skipped" and site.state(run, "do", DAG) == "skipped"
    assert site.approval(run)["decision"] == "rejected" and "rejected by" in rows(story, run)["do"]["reason"]


def test_nobody_is_asked_about_what_cannot_be_done(story: Story):
    """A backup that is not there: red at once, with the ids of those that are."""
    site = story.site
    assert site.airflow.wait(DAG, story.blind, 120) == "failed"
    assert site.state(story.blind, "ask", DAG) == "upstream_failed"
    [finding] = site.ask(
        "select * from upkeep.finding where routine_run_id = %s", rows(story, story.blind)["request"]["id"]
    )
    assert finding["check_name"] == "missing" and story.backup in finding["hint"]


def test_without_a_safety_backup_when_the_form_says_so(story: Story):
    """It is not tried, that stands in the question and in the ledger, and the files come back."""
    site = story.site
    run = site.airflow.trigger(
        DAG, {"target": "shop/files", "reason": "photos are broken", "without_safety_backup": True}
    )
    assert "NONE: ticked in the form" in site.question(run, DAG)["body"]
    answer(site, run, "Approve")
    assert site.airflow.wait(DAG, run, 120) == "success"
    assert (site.folder / "uploads" / "photo").read_text() == "good"
    done = rows(story, run)
    assert done["safety"]["state"] == "skipped" and "without a safety backup" in done["safety"]["reason"]
    assert done["do"]["state"] == "success"
