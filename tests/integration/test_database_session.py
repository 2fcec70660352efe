"""The session that routines get: several statements in one round trip, each with its own fate."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from tests.integration.database_bench import MAJORS, server
from upkeep.adapters import postgres
from upkeep.core.errors import ConfigurationError, TransientError, UpkeepError
from upkeep.core.job import Failed

STATEMENTS = {
    "add": "-- Adds.\nselect %(a)s::int + 1 as sum, %(b)s::text as text, 7 %% 4 as rest",
    "divide": "select 1 / %(by)s::int",
    "write": "create table public.t (a int)",
    "wait": "select pg_sleep(%(seconds)s)",
    "secret": "select rolpassword from pg_authid",
    "locked": "select count(*) from public.busy",
    "die": "select pg_terminate_backend(pg_backend_pid())",
    "none": "select 1 as one where false",
}


@pytest.fixture(scope="module", params=MAJORS, ids=lambda major: f"pg{major}")
def pg(request: pytest.FixtureRequest) -> PostgresServer:
    return server(request.param)


@pytest.fixture(autouse=True)
def statements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with statements that go wrong."""
    (tmp_path / "t").mkdir()
    for name, text in STATEMENTS.items():
        (tmp_path / "t" / f"{name}.sql").write_text(text)
    monkeypatch.setenv("UPKEEP_SQL_DIR", str(tmp_path))
    yield


def test_a_batch_keeps_every_answer_apart(pg: PostgresServer):
    """One round trip; errors of four kinds are values, and the statements around them have their rows."""
    pg.create_role("nobody_special")
    wanted: dict[str, dict[str, Any]] = {
        "t/add": {"a": 41, "b": None},
        "t/divide": {"by": 0},
        "t/write": {},
        "t/secret": {},
        "t/wait": {"seconds": 5},
        "t/none": {},
    }
    with postgres.open_session(pg.dsn(user="nobody_special"), database="template1", statement_timeout=0.2) as session:
        begun = time.monotonic()
        answers = session.batch(wanted)
        assert time.monotonic() - begun < 4
        assert session.round_trips == 1
        assert session.rows("t/add", a=1, b="it's") == [{"sum": 2, "text": "it's", "rest": 3}]
        assert session.place.endswith("/template1")
    assert list(answers) == list(wanted)
    assert answers["t/add"] == [{"sum": 42, "text": None, "rest": 3}]
    assert answers["t/none"] == []
    failed = {name: a.reason for name, a in answers.items() if isinstance(a, Failed)}
    assert failed == {"t/divide": "other", "t/write": "other", "t/secret": "privilege", "t/wait": "timeout"}


def test_a_lost_connection_keeps_what_arrived(pg: PostgresServer):
    """After the backend is gone every later statement is `gone`, in this batch and in the next."""
    with postgres.open_session(pg.dsn()) as session:
        answers = session.batch({"t/none": {}, "t/die": {}, "t/add": {"a": 1, "b": ""}})
        assert answers["t/none"] == []
        assert [a.reason for a in answers.values() if isinstance(a, Failed)] == ["gone", "gone"]
        with pytest.raises(TransientError, match="lost"):
            session.rows("t/none")


def test_a_frozen_server_is_given_up(pg: PostgresServer):
    """A backend that stands still fires no time-out of its own; the session stops waiting for it."""
    with postgres.open_session(pg.dsn(), statement_timeout=0.1, connect_timeout=0.4) as session:
        backend = session.connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        try:
            answer = session.batch({"t/none": {}})["t/none"]
        finally:
            os.kill(backend, signal.SIGCONT)
    assert isinstance(answer, Failed) and answer.reason == "gone"


def test_rows_raise_what_a_batch_returns(pg: PostgresServer):
    """Where one statement is all there is, its failure is an error of the class that says whether to try again."""
    with pg.connect() as owner:
        owner.execute("CREATE TABLE IF NOT EXISTS busy ()")
        with owner.transaction(), postgres.open_session(pg.dsn(), statement_timeout=0.2) as session:
            owner.execute("LOCK TABLE busy")
            for name, kind in (("locked", TransientError), ("divide", UpkeepError)):
                with pytest.raises(kind):
                    session.rows(f"t/{name}", by=0)
            with pytest.raises(ConfigurationError, match="did you mean 't/add'"):
                session.rows("t/ad")
        owner.execute("DROP TABLE busy")


def test_the_sites_own_options_stay(pg: PostgresServer):
    """Options of the connection are kept beside ours, and ours win where they guard."""
    dsn = psycopg.conninfo.make_conninfo(pg.dsn(), options="-c work_mem=7MB -c default_transaction_read_only=off")
    with postgres.open_session(dsn) as session:
        shown = [session.connection.execute(f"SHOW {n}").fetchone() for n in ("work_mem", "transaction_read_only")]
    assert shown == [("7MB",), ("on",)]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"password": "hunter2"}, ConfigurationError),
        ({"dbname": "nowhere"}, ConfigurationError),
        ({"user": "ghost", "password": "hunter2"}, ConfigurationError),
        ({"host": "no-such-host.invalid"}, TransientError),
        ({"port": "1"}, TransientError),
    ],
)
def test_a_refused_connection_says_whether_to_wait(pg: PostgresServer, change: dict[str, str], kind: type[Exception]):
    """What a person must correct is not tried again; what may pass is; no message holds a password."""
    dsn = psycopg.conninfo.make_conninfo(pg.dsn(), **change)
    with pytest.raises(kind) as caught, postgres.open_session(dsn):
        pass
    assert "hunter2" not in repr(caught.value) and pg.password() not in repr(caught.value)


def test_a_connection_string_that_is_none_is_not_shown():
    """libpq's own message would quote a part of it."""
    with pytest.raises(ConfigurationError) as caught, postgres.open_session("postgresql://u:hun ter2@h/d"):
        pass
    assert "ter2" not in repr(caught.value)


def test_no_free_connection_is_transient(pg: PostgresServer):
    """A full server may have room in a minute."""
    pg.create_role("last_one")
    with pg.connect() as owner:
        owner.execute("ALTER ROLE last_one CONNECTION LIMIT 0")
        with pytest.raises(TransientError, match="too many"), postgres.open_session(pg.dsn(user="last_one")):
            pass
