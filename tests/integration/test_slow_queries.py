"""Slow statements on real servers of every supported major: what two looks at growing counters can and cannot tell."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from tests.integration.database_bench import (
    MAJORS,
    Bench,
    database,
    found,
    server,
    troubles,
    value,
)
from upkeep.core.model import Severity
from upkeep.core.routine import Routine
from upkeep.core.system import PostgresTarget

# Few calls and short sleeps are slow enough here.
QUICK = {"mean_time": {"warning": 20, "critical": None}, "least_calls": 2}
SLEEPY = "SELECT pg_sleep(0.03), count(*) FROM claim WHERE note LIKE 'Jane Doe%%' AND length(note) < 4711"
SLEEPY_TEXT = "SELECT pg_sleep($1), count(*) FROM claim WHERE note LIKE $2 AND length(note) < $3"


@pytest.fixture(scope="module", params=MAJORS, ids=lambda major: f"pg{major}")
def pg(request: pytest.FixtureRequest) -> PostgresServer:
    started = server(request.param)
    for role in ("app", "watcher", "stranger"):
        started.create_role(role)
    return started


@pytest.fixture
def bare(pg: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    """A database that the application may use, without the extension."""
    with database(pg) as connection:
        connection.execute("GRANT CONNECT, TEMPORARY ON DATABASE claims TO app, watcher, stranger")
        connection.execute("GRANT ALL ON SCHEMA public TO app")
        connection.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app")
        yield connection


@pytest.fixture
def db(bare: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    bare.execute("CREATE EXTENSION pg_stat_statements")
    bare.execute("SELECT pg_stat_statements_reset()")
    return bare


@pytest.fixture
def app(pg: PostgresServer, db: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    with contextlib.closing(pg.connect("claims", "app")) as connection:
        yield connection


@pytest.fixture
def bench(pg: PostgresServer, bare: psycopg.Connection[Any]) -> Bench:
    return slow_queries(pg)


def slow_queries(on: PostgresServer, user: str = "postgres") -> Bench:
    routine = Routine.load("upkeep.routines.database.slow_queries")
    bench = Bench(routine, PostgresTarget(conn_id="db", id="claims/db"))
    from upkeep.adapters import postgres

    bench.open_postgres = postgres.opener(lambda conn_id: on.dsn("claims", user))
    return bench


def sleep(app: psycopg.Connection[Any], times: int = 3) -> None:
    for _ in range(times):
        app.execute(SLEEPY.replace("%%", "%").encode())


def calls_of(message: str) -> int:
    """Return the calls that a message tells."""
    return int(message.split(" on average: ")[1].removeprefix("at least ").split(" calls ")[0])


def test_a_slow_statement_is_named_with_its_plan(bench: Bench, app: psycopg.Connection[Any]):
    """The first run judges since the reset and says so; the text has no values, the plan no more."""
    sleep(app)
    judgement = bench.run(**QUICK)
    slow = found(judgement, "mean_time")
    assert slow.severity is Severity.WARNING
    assert slow.subject.startswith("app/")
    assert "since its statistics began (20" in slow.message
    assert SLEEPY_TEXT in slow.message
    assert calls_of(slow.message) == 3
    assert (
        '  Seq Scan on "claim" (cost ' in slow.message
        and "filter ((note ~~ $2) AND (length(note) < $3))" in slow.message
    )
    assert "reading all of claim" in slow.hint
    assert not any(word in str(slow) for word in ("Jane", "4711", "0.03"))
    assert value(judgement, "statement.calls", slow.subject) == 3
    assert bench.seen.round_trips <= 5


def test_a_second_run_tells_the_difference(bench: Bench, app: psycopg.Connection[Any]):
    """What was slow before and was not called since is no finding; what was called counts those calls only."""
    sleep(app)
    bench.run(**QUICK)
    assert troubles(bench.run(**QUICK)) == []
    sleep(app, 2)
    slow = found(bench.run(**QUICK), "mean_time")
    assert calls_of(slow.message) == 2
    assert "since the last run (" in slow.message


def test_what_became_slow_is_not_hidden_by_its_past(bench: Bench, app: psycopg.Connection[Any]):
    """A thousand quick calls last week do not dilute three slow ones of today."""
    for _ in range(300):
        app.execute(b"SELECT pg_sleep(0)")
    bench.run(**QUICK)
    for _ in range(3):
        app.execute(b"SELECT pg_sleep(0.03)")
    slow = found(bench.run(**QUICK), "mean_time")
    assert calls_of(slow.message) == 3


def test_a_new_statement_counts_since_the_last_run(bench: Bench, app: psycopg.Connection[Any]):
    """All statements were kept, so that one which was not among them is new."""
    bench.run(**QUICK)
    sleep(app)
    assert "calls since the last run (" in found(bench.run(**QUICK), "mean_time").message


def test_after_a_reset_the_new_counts_are_told(bench: Bench, app: psycopg.Connection[Any], db: Any):
    """Counters that are lower than they were, or higher ones of a new life, never give a difference."""
    sleep(app, 3)
    bench.run(**QUICK)
    db.execute("SELECT pg_stat_statements_reset()")
    sleep(app, 2)
    lower = found(bench.run(**QUICK), "mean_time")
    assert calls_of(lower.message) == 2 and "at least 2 calls since the last run" in lower.message
    db.execute("SELECT pg_stat_statements_reset()")
    sleep(app, 4)
    assert calls_of(found(bench.run(**QUICK), "mean_time").message) == 4


def test_one_statement_reset_alone(bench: Bench, app: psycopg.Connection[Any], db: Any):
    """One entry may be reset by itself; its counters fall, the others' differences stay."""
    sleep(app, 4)
    bench.run(**QUICK)
    db.execute("SELECT pg_stat_statements_reset(0, 0, queryid) FROM pg_stat_statements WHERE query LIKE '%%LIKE $2%%'")
    sleep(app, 2)
    slow = found(bench.run(**QUICK), "mean_time")
    assert "at least 2 calls since the last run" in slow.message


def test_without_a_complete_past_nothing_is_invented(bench: Bench, app: psycopg.Connection[Any], pg: PostgresServer):
    """A statement that the last run did not keep may be old: before 17 only the numbers since the reset are known."""
    sleep(app, 2)
    for n in range(1, 60):
        app.execute(f"SELECT {', '.join('1' * n)} FROM generate_series(1, 20000)")
    kept = bench.run(**QUICK, keep=10)
    name = found(kept, "mean_time").subject
    bench.history.kept = {key: point for key, point in bench.history.kept.items() if key[1] != name}
    slow = found(bench.run(**QUICK, keep=10), "mean_time")
    assert value(kept, "statements.left_out") > 0
    assert "2 calls since its statistics began" in slow.message
    assert len({m.subject for m in kept.measurements}) <= 3 * 10 + 1


def test_healthy_is_silent(bench: Bench, app: psycopg.Connection[Any]):
    """Quick statements and administration give nothing at all, at the first run and at the next."""
    app.execute("CREATE TABLE acc (aid int PRIMARY KEY, balance int)")
    app.execute("INSERT INTO acc SELECT g, 0 FROM generate_series(1, 1000) AS g")
    for _ in range(2):
        for n in range(50):
            app.execute(f"UPDATE acc SET balance = balance + {n} WHERE aid = {n}")
            app.execute(f"SELECT balance FROM acc WHERE aid = {n}")
        judgement = bench.run()
        assert judgement.findings == ()
        assert bench.seen.round_trips == 1
    assert value(judgement, "statements.entries") > 3


def test_administration_and_our_own_role_are_not_the_application(bench: Bench, app: Any, db: Any):
    """COPY, DDL and what maintenance itself runs may take their time; the setting counts our role in."""
    with app.cursor().copy("/* as pg_dump does */ COPY (SELECT pg_sleep(0.05)) TO STDOUT") as copy:
        list(copy)
    app.execute("CREATE TABLE slowly AS SELECT pg_sleep(0.05)::text AS x")
    db.execute(b"SELECT pg_sleep(0.05)")
    every = {"mean_time": {"warning": 20, "critical": None}, "least_calls": 1}
    assert troubles(bench.run(**every)) == []
    assert found(bench.run(**every, list_seconds=0), "own_role").severity is Severity.INFO
    bench.history.kept.clear()
    assert found(bench.run(**every, own_role=True), "mean_time").subject.startswith("postgres/")
    bench.history.kept.clear()
    assert troubles(bench.run(**every, own_role=True, ignore_roles=["postgres"])) == []


def test_the_heaviest_are_listed(bench: Bench, app: Any):
    """By total, mean and I/O time, as information."""
    sleep(app, 2)
    for _ in range(3):
        app.execute("SELECT count(*) FROM claim")
    listed = found(bench.run(list_seconds=0, least_calls=1), "heaviest")
    assert listed.severity is Severity.INFO
    first = listed.message.splitlines()
    assert first[1] == "by total time:" and "pg_sleep" in first[2]
    assert "by mean time:" in first


def test_more_slow_ones_than_are_named(bench: Bench, app: Any):
    """The rest is counted in one finding."""
    for n in range(1, 4):
        for _ in range(2):
            app.execute(f"SELECT pg_sleep(0.03), {', '.join('1' * n)}")
    judgement = bench.run(**QUICK, top=1)
    assert "2 more statements" in found(judgement, "mean_time", "others").message
    assert len(judgement.findings) == 2
