"""Approvals, waiting and tasks in the ledger: real rows, whatever order events arrive in, and older schemas."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from tests.integration.database_bench import server
from upkeep.core.model import Action, Severity
from upkeep.ledger import events as ev
from upkeep.ledger import store
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger

AT = datetime(2026, 11, 21, 1, tzinfo=UTC)
RUN = ev.RunKey(dag_id="maintenance_monthly", run_id="r1")
REQUEST = ev.RunKey(dag_id="approved_changes", run_id="claims.db__database.reindex__2026-11-21__0a1b2c3d")
BIG = Action(name="reindex", subject="public.big", reason="61 % bloat", approval="over 10 GB", undo="none")
WHERE = {"routine": "database.reindex", "target": "claims/db", "system": "claims"}


@pytest.fixture(scope="module")
def on() -> PostgresServer:
    return server(18)


@pytest.fixture
def dsn(on: PostgresServer, request: pytest.FixtureRequest) -> str:
    name = f"approvals_{abs(hash(request.node.name)) % 10**9}"
    on.create_database(name)
    return on.dsn(name)


@pytest.fixture
def ledger(dsn: str, tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(lambda: dsn, Spool(tmp_path / "spool"))
    yield made
    made.close()


def ask(dsn: str, statement: str) -> list[dict[str, Any]]:
    with psycopg.connect(dsn, row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute(statement).fetchall()


ASKED = ev.ApprovalAsked(at=AT, run=RUN, request=REQUEST, actions=(BIG,), **WHERE)
DECIDED = ev.ApprovalDecided(
    at=AT + timedelta(hours=1), run=REQUEST, decision="approved", by="Ann", by_id="7", actions=(BIG,), **WHERE
)


@pytest.mark.parametrize("told", [(ASKED, DECIDED), (DECIDED, ASKED)], ids=["in order", "by two spools"])
def test_a_request_and_its_answer_are_one_row(ledger: Ledger, dsn: str, told: tuple[Any, ...]):
    """Who asked, who answered, what and when: also when the answer arrives first."""
    ledger.write(told[0])
    ledger.write(*told)
    [row] = ask(dsn, "select * from upkeep.approval")
    assert (row["dag_id"], row["run_id"]) == (REQUEST.dag_id, REQUEST.run_id)
    assert (row["asked_by_run"], row["asked_at"]) == ("r1", AT)
    assert (row["decision"], row["decided_by"], row["decided_by_id"]) == ("approved", "Ann", "7")
    assert row["decided_at"] == DECIDED.at
    assert row["actions"] == [BIG.model_dump()]


def test_only_unanswered_requests_are_open(ledger: Ledger):
    """What was answered may be proposed and asked again."""
    ledger.write(ASKED)
    [open_one] = ledger.ask("open_approvals", target="claims/db", routine="database.reindex") or []
    assert (open_one["run_id"], open_one["actions"][0]["subject"]) == (REQUEST.run_id, "public.big")
    assert ledger.ask("open_approvals", target="claims/db", routine="database.vacuum") == []
    ledger.write(DECIDED)
    assert ledger.ask("open_approvals", target="claims/db", routine="database.reindex") == []


def test_either_run_tells_its_part(ledger: Ledger):
    """The run that proposed knows that it asked; the request's run knows the answer."""
    ledger.write(ASKED, DECIDED)
    assert ledger.record(RUN).asked == (ASKED,)
    assert ledger.record(REQUEST).decided == (DECIDED,)


def test_a_try_that_waits_goes_on_in_its_row(ledger: Ledger, dsn: str):
    """One row: waiting with its moment, then running again, then done; the end of a run leaves a waiting one alone."""
    key = ev.RoutineKey(**RUN.model_dump(), routine="database.vacuum", target="claims/db", try_number=1, task="vacuum")
    opened = ev.RoutineOpened(at=AT, routine=key, system="claims", role="dba", title="Vacuum")
    opens = AT + timedelta(hours=2)
    waits = ev.RoutineClosed(
        at=AT, routine=key, state="waiting", severity=Severity.OK, reason="waits for ...", opens=opens
    )
    ledger.write(opened, waits)
    [row] = ask(dsn, "select * from upkeep.routine_run")
    assert (row["state"], row["opens_at"], row["task"]) == ("waiting", opens, "vacuum")
    ledger.write(opened.model_copy(update={"id": uuid.uuid4(), "at": opens}))
    [row] = ask(dsn, "select * from upkeep.routine_run")
    assert (row["state"], row["opens_at"], row["reason"], row["opened_at"]) == ("running", None, None, opens)


def test_two_tasks_of_a_routine_have_two_rows(ledger: Ledger, dsn: str):
    """A try of one does not declare the other's dead."""
    for task, tries in (("newest", 1), ("older", 2)):
        key = ev.RoutineKey(
            **RUN.model_dump(), routine="backup.verify", target="claims/db", try_number=tries, task=task
        )
        ledger.write(ev.RoutineOpened(at=AT, routine=key, system="claims", role="dba", title="Verify"))
    assert [row["state"] for row in ask(dsn, "select state from upkeep.routine_run order by task")] == ["running"] * 2


def test_a_ledger_of_the_first_release_is_brought_up_to_date(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its rows stay, and the try that was open under its old identity can be closed."""
    first = tmp_path / "migrations"
    first.mkdir()
    (first / "0001_ledger.sql").write_bytes((store.MIGRATIONS / "0001_ledger.sql").read_bytes())
    with monkeypatch.context() as patched, psycopg.connect(dsn, row_factory=psycopg.rows.dict_row) as connection:
        patched.setattr(store, "MIGRATIONS", first)
        assert store.migrate(connection) == 1
    key = ev.RoutineKey(**RUN.model_dump(), routine="database.health", target="claims/db", try_number=1)
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "insert into upkeep.routine_run (id, dag_id, run_id, routine, target, try_number, system, role, state,"
            " settings, dry_run, host, pid, opened_at) values (%s, %s, %s, 'database.health', 'claims/db', 1, 'claims',"
            " 'dba', 'running', '{}', false, 'h', 1, now())",
            [key.id, RUN.dag_id, RUN.run_id],
        )
    ledger = Ledger(lambda: dsn, Spool(tmp_path / "spool"))
    assert ledger.write(ev.RoutineClosed(at=AT, routine=key, state="success", severity=Severity.OK))
    ledger.close()
    [row] = ask(dsn, "select state, task from upkeep.routine_run")
    assert row == {"state": "success", "task": ""}


def test_an_event_of_an_older_version_is_understood():
    """Spools that older workers left behind know neither tasks nor openings."""
    old = ev.RoutineClosed(
        at=AT,
        routine=ev.RoutineKey(**RUN.model_dump(), routine="a.b", target="c/d", try_number=1),
        state="success",
        severity=Severity.OK,
    ).model_dump(mode="json")
    del old["opens"], old["routine"]["task"]
    assert ev.EVENT.validate_python(old).routine.task == ""
