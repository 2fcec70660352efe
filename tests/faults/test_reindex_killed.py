"""Index rebuilds that are killed in the middle: the next run finds what is left, drops it, and does the rest."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from tests.integration.database_bench import MAJORS, fresh_server, server, until
from tests.integration.reindex_bench import Bench, bloated, invalid, size
from upkeep.core.errors import TransientError
from upkeep.core.model import Severity
from upkeep.operators.policy import Stopped

OURS = """
FROM pg_stat_activity WHERE application_name = 'upkeep database.reindex' AND datname = current_database()
"""
# What a rebuild has made when it comes to wait for this: nothing but a name; a finished index that lacks rows; two
# whole indexes, of which the old one is in use no more.
WRITER = "UPDATE visit SET note = 'x' WHERE id = 10"
SNAPSHOT = "SELECT count(*) FROM pg_class"
READER = "SELECT 1 FROM visit LIMIT 1"
SETTINGS = {"wait_seconds": 30, "old_transaction_seconds": 60}


@pytest.fixture(params=[MAJORS[-1]], ids=str)
def pg(request: pytest.FixtureRequest) -> PostgresServer:
    return server(request.param)


@pytest.fixture
def db(pg: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with bloated(pg) as connection:
        yield connection


@contextlib.contextmanager
def holding(pg: PostgresServer, statement: str, name: str = "claims") -> Iterator[psycopg.Connection[Any]]:
    """Give a session in a transaction that a rebuild will have to wait for."""
    level = "REPEATABLE READ" if statement == SNAPSHOT else "READ COMMITTED"
    with contextlib.closing(pg.connect(name)) as holder:
        holder.execute(f"BEGIN ISOLATION LEVEL {level}".encode())
        holder.execute(statement.encode())
        yield holder


@contextlib.contextmanager
def worker(pg: PostgresServer, name: str = "claims") -> Iterator[BaseProcess]:
    """Give a worker that rebuilds in a process of its own, where SIGTERM does what Airflow makes of it."""

    def stop(number: int, frame: Any) -> None:
        raise Stopped("the task was ended from outside")

    def work() -> None:
        signal.signal(signal.SIGTERM, stop)
        try:
            Bench(pg.dsn(name)).run(**SETTINGS)
        except Stopped:
            os._exit(3)

    # Forked: Airflow, which it needs, takes seconds to import.
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def waits(db: psycopg.Connection[Any]) -> int | None:
    """Return the process of our rebuild when it waits for somebody."""
    row = db.execute(f"SELECT pid {OURS} AND wait_event_type = 'Lock'".encode()).fetchone()
    return row and row[0]


def resumed(pg: PostgresServer, db: psycopg.Connection[Any], name: str = "claims") -> None:
    """The next run leaves two packed indexes and nothing else, and the one after it has nothing to do."""
    assert Bench(pg.dsn(name)).run().troubles == []
    assert invalid(db) == [] and max(size(db, "visit_at"), size(db, "visit_pkey")) < 150_000
    again = Bench(pg.dsn(name)).run()
    assert again.actions == {} and again.findings == []


def test_killed_workers(pg: PostgresServer):
    """SIGKILL at three stages: the server notices, an invalid twin is left, the next run drops it and goes on."""
    stages = {"at_writer": WRITER, "at_snapshot": SNAPSHOT, "at_reader": READER}
    with contextlib.ExitStack() as stack:
        bases = {name: stack.enter_context(bloated(pg, name)) for name in stages}
        with contextlib.ExitStack() as meanwhile:
            for name, held in stages.items():
                meanwhile.enter_context(holding(pg, held, name))
            workers = [meanwhile.enter_context(worker(pg, name)) for name in stages]
            until(lambda: all(map(waits, bases.values())), "the waiting of all", 60)
            for process in workers:
                process.kill()
            for db in bases.values():
                until(lambda db=db: not db.execute(f"SELECT 1 {OURS}".encode()).fetchone(), "the end of our session")
        assert [invalid(db) for db in bases.values()] == [["visit_at_ccnew"], ["visit_at_ccnew"], ["visit_at_ccold"]]
        for name, db in bases.items():
            resumed(pg, db, name)


def test_a_task_that_is_ended(pg: PostgresServer, db: psycopg.Connection[Any]):
    """SIGTERM as Airflow sends it: cancelled, and cleaned up, within the five seconds before SIGKILL."""
    with holding(pg, SNAPSHOT), worker(pg) as process:
        until(lambda: waits(db), "our waiting")
        begun = time.monotonic()
        process.terminate()
        process.join(5)
        assert process.exitcode == 3 and time.monotonic() - begun < 4
        assert invalid(db) == [] and not db.execute(f"SELECT 1 {OURS}".encode()).fetchone()
    resumed(pg, db)


def test_a_terminated_session(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Somebody ends our session: what is left is dropped at once, nothing more is begun, and both is said."""

    def terminate() -> None:
        until(lambda: waits(db), "our waiting")
        db.execute("SELECT pg_terminate_backend(%s)", [waits(db)])

    with holding(pg, SNAPSHOT), beside(terminate):
        work = Bench(pg.dsn("claims")).run(**SETTINGS)
    assert work.finding("interrupted", "public.visit_at").severity is Severity.WARNING
    assert sorted(a.status for a in work.actions.values()) == ["failed", "skipped"]
    assert "nothing more is begun" in work.finding("bloat", "public.visit_pkey").message
    assert invalid(db) == []
    resumed(pg, db)


def test_a_cancelled_rebuild(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Somebody cancels it: that is respected, not tried again."""

    def cancel() -> None:
        until(lambda: waits(db), "our waiting")
        db.execute("SELECT pg_cancel_backend(%s)", [waits(db)])

    with holding(pg, SNAPSHOT), beside(cancel):
        work = Bench(pg.dsn("claims")).run(**SETTINGS)
    assert {f.check for f in work.troubles} == {"interrupted", "bloat"} and invalid(db) == []


def test_a_rebuild_that_nobody_watches(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Without the session that looks who waits for us we would not see it: then the rebuild is ended."""

    def blind() -> None:
        until(lambda: waits(db), "our waiting")
        db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'upkeep%look'")

    with holding(pg, SNAPSHOT), beside(blind):
        work = Bench(pg.dsn("claims")).run(**SETTINGS)
    assert {f.check for f in work.troubles} == {"interrupted", "bloat"} and invalid(db) == []


def test_an_overrun(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Beyond the time budget it is cancelled, and the next estimate knows better."""
    bench = Bench(pg.dsn("claims"))
    with holding(pg, SNAPSHOT):
        work = bench.run(**SETTINGS, time_budget_minutes=0.02, overrun_minutes=0)
    assert work.finding("time", "public.visit_at").severity is Severity.WARNING
    assert sorted(a.status for a in work.actions.values()) == ["failed", "skipped"] and invalid(db) == []
    assert {f.check for f in bench.run(time_budget_minutes=0.02).troubles} == {"time"}


@pytest.mark.parametrize("major", [MAJORS[-1]])
def test_a_server_that_is_killed(major: int):
    """Killed and started again: the try ends as transient, the next one resumes."""
    with fresh_server(major) as pg, bloated(pg) as db, holding(pg, WRITER):

        def kill() -> None:
            until(lambda: waits(db), "our waiting")
            pg.kill()

        with beside(kill), pytest.raises(TransientError):
            Bench(pg.dsn("claims")).run(**SETTINGS)
        pg.start()
        with contextlib.closing(pg.connect("claims")) as after:
            assert invalid(after) == ["visit_at_ccnew"]
            resumed(pg, after)


@contextlib.contextmanager
def beside(deed: Any) -> Iterator[None]:
    """Do something in a thread meanwhile."""
    thread = threading.Thread(target=deed)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)
