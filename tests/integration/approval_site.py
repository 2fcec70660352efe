"""What tests of waiting and approving share: a real Airflow, a ledger, and a routine that deletes files."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from lab.airflow import ROOT, Airflow
from lab.postgres import PostgresServer
from lab.process import LabError, scratch_folder
from tests.integration.mail_server import MailServer

APPROVALS, WEEKLY, QUICK = "approved_changes", "held_weekly", "approved_quickly"
ROUTINE = '''
"""Deletes files; the big ones only when a person has agreed."""
from pathlib import Path

from upkeep.core.cadence import Covers
from upkeep.core.model import Action, Outcome, OutcomeStatus, Plan
from upkeep.core.routine import RoutineSettings

TITLE, TARGETS, COVERS, ROLE = "Tidying up", ("files",), Covers.NOW, "sysadmin"
WINDOWED = True


class Settings(RoutineSettings):
    """Settings of the tidying up."""

    ending: str = ".old"


def observe(job):
    return sorted(Path(job.target.paths[0]).glob(f"*{job.settings.ending}"))


def plan(job, seen):
    return Plan(actions=tuple(
        Action(
            name="delete_file", subject=path.name,
            reason="61 % of it are <b>dead</b> rows | nobody_has_read_it since May",
            approval="readers *wait* for about 20 min while it goes" if path.name.startswith("big") else "",
            undo=f"copy {path.name} back from the last backup",
            details={"size_bytes": 3_400_000_000, "command": f"rm `{path}`"},
        )
        for path in seen
    ))


def act(job, action):
    folder = Path(job.target.paths[0])
    (folder / action.subject).unlink()
    with (folder / "done").open("a") as log:
        log.write(f"{job.tools.now().timestamp()} {job.run_id} {action.subject} {job.until}\\n")
    return Outcome(status=OutcomeStatus.DONE, detail="deleted")
'''
OPERATOR = '''
from upkeep.operators.base import RoutineOperator


class TidyOperator(RoutineOperator):
    """Tidy up."""

    routine = "held.routines.folders.tidy"
'''
DAGS = '''
"""airflow dag: a weekly cadence with a routine that waits and proposes, and an approval DAG without patience."""
from datetime import timedelta

from held.operators import TidyOperator

from upkeep.cadence import Cadence, SelectTargetsOperator, approval_dag, cadence_dag
from upkeep.operators.approval import ApprovedChangesOperator, AskPersonOperator, RequestOperator

with cadence_dag(Cadence.WEEKLY, doc_md=__doc__, dag_id="held_weekly", max_active_runs=8) as weekly:
    select = SelectTargetsOperator(task_id="select")
    TidyOperator.partial(task_id="tidy").expand(target=select.of("files"))

with approval_dag(doc_md=__doc__, dag_id="approved_quickly") as quick:
    request = RequestOperator(task_id="request")
    ask = AskPersonOperator(task_id="ask", response_timeout=timedelta(seconds=2))
    request >> ask >> ApprovedChangesOperator(task_id="do")
'''
SYSTEM = """
name: {name}
title: The {name} system
contacts: {{sysadmin: {{primary: {{name: Ann, channels: [{{kind: email, address: ann@example.org}}]}}}}}}
ladder: {{deadlines: {{weekly: 2 h}}}}
maintenance_window: {window}
targets:
  files: {{kind: files, paths: ["{folder}"]}}
"""


_SMTP = {
    "conn_type": "smtp",
    "host": "127.0.0.1",
    "extra": {"from_email": "upkeep@example.org", "disable_ssl": True, "disable_tls": True},
}


@dataclass
class Site:
    """Airflow with a ledger, and systems whose folders are tidied up."""

    folder: Path
    airflow: Airflow
    ledger: PostgresServer
    mail: MailServer

    def system(self, name: str, *files: str, window: str = "{}") -> Path:
        """Write a system with these files and return its folder."""
        target = self.folder / "targets" / name
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            (target / file).touch()
        (self.folder / "systems" / f"{name}.yaml").write_text(SYSTEM.format(name=name, folder=target, window=window))
        return target

    def ask(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Ask the ledger."""
        with self.ledger.connect("ledger", row_factory=psycopg.rows.dict_row) as connection:
            return connection.execute(statement, values).fetchall()

    def row(self, run_id: str, task: str = "tidy") -> dict[str, Any]:
        """Return the ledger's row of the routine in a run, empty as long as there is none."""
        rows = self.ask(
            "select * from upkeep.routine_run where run_id = %s and routine = 'folders.tidy' and task = %s",
            run_id,
            task,
        )
        return rows[0] if rows else {}

    def approval(self, run_id: str) -> dict[str, Any]:
        """Return what the ledger holds of a request."""
        [row] = self.ask("select * from upkeep.approval where run_id = %s", run_id)
        return row

    def requests(self, system: str) -> list[str]:
        """Return the approval runs about a system, newest first."""
        return [
            r["dag_run_id"] for r in self.airflow.runs(APPROVALS) if r["dag_run_id"].startswith(f"{system}.files__")
        ]

    def question(self, run_id: str, dag_id: str = APPROVALS) -> dict[str, Any]:
        """Wait until a run asks, and return what Airflow shows under Required Actions."""
        path = f"dags/{dag_id}/dagRuns/{quote(run_id)}/hitlDetails"
        until(lambda: self.state(run_id, "ask", dag_id) == "awaiting_input")
        [detail] = self.airflow.request("GET", path)["hitl_details"]
        return dict(detail)

    def answer(self, run_id: str, word: str, dag_id: str = APPROVALS, **form: Any) -> None:
        """Answer as a person does, and again when Airflow asks again.

        It does when an answer overtakes the news that the task waits: it takes the task for lost and tries it anew.
        """
        path = f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/ask/-1/hitlDetails"

        def is_taken() -> bool:
            state = self.state(run_id, "ask", dag_id)
            if state == "awaiting_input" and not self.airflow.request("GET", path)["response_received"]:
                self.airflow.request("PATCH", path, {"chosen_options": [word], "params_input": form})
            return state == "success"

        until(is_taken)

    def state(self, run_id: str, task_id: str, dag_id: str = WEEKLY) -> str | None:
        """Return the state of a task."""
        return next((t["state"] for t in self.airflow.tasks(dag_id, run_id) if t["task_id"] == task_id), None)

    def verdict(self, run_id: str) -> tuple[str, list[str]]:
        """Return verdict and reasons of a run."""
        [row] = self.ask("select verdict, reasons from upkeep.run where run_id = %s", run_id)
        return row["verdict"], row["reasons"]


def done(folder: Path) -> list[list[str]]:
    """Return what the routine did in a folder: when, in which run, to what, until when it might."""
    log = folder / "done"
    return [line.split(" ", 3) for line in log.read_text().splitlines()] if log.exists() else []


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for something; an Airflow that does not know it yet is asked again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except LabError:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.2)


def opening(after: timedelta, length: timedelta = timedelta(minutes=20)) -> tuple[datetime, str]:
    """Return a moment and a daily window that opens at it, as YAML."""
    opens = (datetime.now(UTC) + after).replace(microsecond=0)
    return opens, f'{{start: "{opens:%H:%M:%S}", end: "{opens + length:%H:%M:%S}"}}'


@contextmanager
def running_site() -> Iterator[Site]:
    """Start it all."""
    with scratch_folder() as folder:
        files = {
            "site/held/__init__.py": '"""Held."""',
            "site/held/operators.py": OPERATOR,
            "site/held/routines/__init__.py": '"""Areas."""',
            "site/held/routines/folders/__init__.py": '"""Folders."""',
            "site/held/routines/folders/tidy.py": ROUTINE,
            "site/held-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: held\nVersion: 1.0\n",
            "site/held-1.0.dist-info/entry_points.txt": "[upkeep.routines]\nheld = held.routines\n",
            "dags/held.py": DAGS,
            "systems/.keep": "",
        }
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        shutil.copy(ROOT / "dags" / f"{APPROVALS}.py", folder / "dags")
        with PostgresServer(18, folder / "server") as server, MailServer() as mail:
            server.create_database("airflow")
            server.create_database("ledger")
            env = {
                "PYTHONPATH": os.pathsep.join([str(ROOT / "plugins"), str(folder / "site")]),
                "UPKEEP_SYSTEMS_DIR": str(folder / "systems"),
                "UPKEEP_HOME": str(folder / "home"),
                "UPKEEP_CACHE_DIR": str(folder / "cache"),
                "UPKEEP_RETRY_SECONDS": "0.1",
                "AIRFLOW_CONN_UPKEEP_LEDGER": server.dsn("ledger"),
                "AIRFLOW_CONN_UPKEEP_SMTP": json.dumps(_SMTP | {"port": mail.port}),
                "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
                # How often the scheduler looks for requests that nobody answered in time; the default is a minute.
                "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
            }
            airflow = Airflow(folder / "airflow", folder / "dags", server.dsn("airflow"), env)
            with airflow:
                for dag_id in (WEEKLY, APPROVALS, QUICK):
                    airflow.wait_for_dag(dag_id)
                yield Site(folder, airflow, server, mail)
