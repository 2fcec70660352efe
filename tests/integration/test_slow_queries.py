"""Slow statements on real servers of every supported major: what two looks at growing counters can and cannot tell."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from tests.integration.database_bench import (
    MAJORS,
    Bench,
    Kept,
    database,
    found,
    fresh_server,
    server,
    troubles,
    value,
)
from upkeep.adapters import postgres
from upkeep.core.job import Failed
from upkeep.core.model import Severity
from upkeep.core.routine import Routine
from upkeep.core.targets import PostgresTarget

# For rules that no version of the server or the extension has a part in.
ENDS = pytest.mark.parametrize("pg", [MAJORS[0], MAJORS[-1]], indirect=True, ids=lambda major: f"pg{major}")
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


@ENDS
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


@ENDS
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


def test_healthy_is_silent(bench: Bench, db: psycopg.Connection[Any], pg: PostgresServer):
    """pgbench, its making and its running, gives nothing at all, at the first run and at the next."""
    for options in (["-i", "-q"], ["-t", "100"], ["-t", "100", "-S"]):
        done = subprocess.run(
            [pg.bin / "pgbench", *options, pg.dsn("claims", "app")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        judgement = bench.run()
        assert judgement.findings == ()
        assert bench.seen.round_trips == 1
    name = next(s.subject for s in bench.seen.spells if s.row["query"].startswith("SELECT abalance"))
    assert value(judgement, "statement.calls", name) == 200
    assert {s.calls for s in bench.seen.spells if s.subject == name} == {100}


@ENDS
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


@ENDS
def test_the_heaviest_are_listed(bench: Bench, app: Any):
    """By total, mean and I/O time, as information."""
    sleep(app, 2)
    for _ in range(3):
        app.execute("SELECT count(*) FROM claim")
    judgement = bench.run(list_seconds=0, least_calls=1)
    listed = found(judgement, "heaviest", "total time")
    assert listed.severity is Severity.INFO
    assert "pg_sleep" in listed.message.splitlines()[1]
    assert "pg_sleep" in found(judgement, "heaviest", "mean time").message


@ENDS
def test_more_slow_ones_than_are_named(bench: Bench, app: Any):
    """The rest is counted in one finding."""
    for n in range(1, 4):
        for _ in range(2):
            app.execute(f"SELECT pg_sleep(0.03), {', '.join('1' * n)}")
    judgement = bench.run(**QUICK, top=1)
    assert "2 more statements" in found(judgement, "mean_time", "others").message
    assert len(judgement.findings) == 2


@ENDS
def test_io_is_unknown_where_nobody_times_it(bench: Bench, app: Any, pg: PostgresServer):
    """Zeros of a server that does not time I/O are not told as zeros, at this run or the next."""
    with pg.connect() as admin:
        admin.execute("ALTER DATABASE claims SET track_io_timing = off")
    sleep(app, 2)
    judgement = bench.run(**QUICK, list_seconds=0)
    assert "(I/O unknown)" in found(judgement, "mean_time").message
    assert "track_io_timing is off" in found(judgement, "heaviest", "I/O time").message
    assert "statement.io_time" not in {m.name for m in judgement.measurements}
    with pg.connect() as admin:
        admin.execute("ALTER DATABASE claims RESET track_io_timing")
    sleep(app, 2)
    assert "(I/O unknown)" in found(bench.run(**QUICK), "mean_time").message
    sleep(app, 2)
    assert "ms of it I/O)" in found(bench.run(**QUICK), "mean_time").message


@ENDS
def test_without_the_extension(bench: Bench):
    """It is unknown what is slow, and the cure is one line."""
    missing = found(bench.run(), "statistics")
    assert missing.severity is Severity.UNKNOWN
    assert missing.hint == "in database claims: CREATE EXTENSION pg_stat_statements;"


def test_in_any_schema_of_any_version(bench: Bench, bare: psycopg.Connection[Any], pg: PostgresServer):
    """After pg_upgrade the extension is older than the server: all its versions tell the same, as far as they can."""
    bare.execute('CREATE SCHEMA "Stats; drop"')
    versions = [v for (v,) in bare.execute(
        "SELECT version FROM pg_available_extension_versions WHERE name = 'pg_stat_statements'"
        " AND version = ANY ('{1.4,1.7,1.8,1.9,1.10,1.11,1.12}')")]  # fmt: skip
    assert {"1.4", "1.8", "1.9"} <= set(versions)
    for version in versions:
        bare.execute(f"""CREATE EXTENSION pg_stat_statements SCHEMA "Stats; drop" VERSION '{version}'""")
        bare.execute('SELECT "Stats; drop".pg_stat_statements_reset()')
        bench.history.kept.clear()
        with contextlib.closing(pg.connect("claims", "app")) as app:
            sleep(app, 2)
            first = bench.run(**QUICK)
            sleep(app, 3)
            second = bench.run(**QUICK)
        assert calls_of(found(first, "mean_time").message) == 2, version
        assert ("nobody knows when" in found(first, "mean_time").message) == (version in ("1.4", "1.7", "1.8")), version
        assert "3 calls since the last run" in found(second, "mean_time").message, version
        newest = bench.seen.source["offered"] == version
        assert {f.check for f in second.findings} == {"mean_time"} | (set() if newest else {"extension_version"})
        bare.execute("DROP EXTENSION pg_stat_statements")


def test_a_role_that_may_not_see_others(app: Any, pg: PostgresServer, db: psycopg.Connection[Any]):
    """What is hidden is unknown, and the GRANT is named; after it, the rest still counts since the reset."""
    stranger = slow_queries(pg, "stranger")
    sleep(app, 2)
    hidden = found(stranger.run(**QUICK), "privilege")
    assert hidden.severity is Severity.UNKNOWN
    assert hidden.hint == 'GRANT pg_read_all_stats TO "stranger";'
    db.execute("GRANT pg_read_all_stats TO stranger")
    try:
        slow = found(stranger.run(**QUICK), "mean_time")
    finally:
        db.execute("REVOKE pg_read_all_stats FROM stranger")
    assert "since its statistics began" in slow.message
    assert 'no plan: permission denied for table claim; GRANT pg_read_all_data TO "stranger";' in slow.message


@ENDS
def test_a_role_that_may_not_use_the_schema(pg: PostgresServer, bare: psycopg.Connection[Any]):
    """Neither is a revoked function an error of ours."""
    bare.execute('CREATE SCHEMA "St"; CREATE EXTENSION pg_stat_statements SCHEMA "St"')
    stranger = slow_queries(pg, "stranger")
    assert found(stranger.run(), "statistics").hint == 'GRANT USAGE ON SCHEMA "St" TO "stranger";'
    bare.execute('GRANT USAGE ON SCHEMA "St" TO stranger')
    bare.execute('REVOKE EXECUTE ON FUNCTION "St".pg_stat_statements(boolean) FROM PUBLIC')
    refused = found(stranger.run(), "statistics")
    assert refused.severity is Severity.UNKNOWN
    assert 'GRANT EXECUTE ON FUNCTION "St".pg_stat_statements(boolean) TO "stranger";' in refused.hint


@ENDS
def test_counting_is_off(bench: Bench, db: psycopg.Connection[Any]):
    """A server that counts nothing is not a server without slow statements."""
    for setting, off, on in (("pg_stat_statements.track", "none", "top"), ("compute_query_id", "off", "auto")):
        db.execute(f"ALTER DATABASE claims SET {setting} = {off}")
        hint = found(bench.run(), "statistics").hint
        assert hint == f"ALTER SYSTEM SET {setting} = '{on}'; SELECT pg_reload_conf();"
        db.execute(f"ALTER DATABASE claims RESET {setting}")


@pytest.mark.parametrize("major", [MAJORS[0], MAJORS[-1]])
def test_evictions_crash_and_a_server_without_the_library(major: int):
    """Evicted statements count from their return, a crash resets all, and without the library nothing is known."""
    with fresh_server(major, **{"pg_stat_statements.max": 100}) as small, database(small) as connection:
        small.create_role("app")
        connection.execute("GRANT CONNECT ON DATABASE claims TO app; GRANT SELECT ON claim TO app")
        connection.execute("CREATE EXTENSION pg_stat_statements")
        bench = slow_queries(small)
        with contextlib.closing(small.connect("claims", "app")) as app:
            sleep(app, 3)
            bench.run(**QUICK)
            for _ in range(3):
                for n in range(1, 150):
                    app.execute(f"SELECT {', '.join('1' * n)}")
            sleep(app, 2)
        judgement = bench.run(**QUICK)
        evicted = found(judgement, "evicted")
        assert evicted.severity is Severity.INFO and "pg_stat_statements.max = 200" in evicted.hint
        told = found(judgement, "mean_time").message
        assert "at least 2 calls since the last run" in told or "2 calls since the last run" in told
        connection.close()
        small.kill()
        small.settings["shared_preload_libraries"] = "auto_explain"
        small.start()
        unloaded = found(bench.run(), "statistics")
        assert unloaded.severity is Severity.UNKNOWN
        assert unloaded.hint == (
            "ALTER SYSTEM SET shared_preload_libraries = 'auto_explain', 'pg_stat_statements'; and restart"
        )


@ENDS
def test_on_another_server_no_difference_is_told(bench: Bench, app: Any):
    """A promoted standby has counters of its own, which began at another moment, before the last run."""
    sleep(app, 2)
    bench.run(**QUICK)
    for key, point in bench.history.kept.items():
        if key[0] in ("statements.reset_at", "statement.since_at"):
            bench.history.kept[key] = Kept(point.at, point.value + 5)
    sleep(app, 2)
    assert "4 calls since its statistics began" in found(bench.run(**QUICK), "mean_time").message


HOSTILE = [
    "SELECT pg_sleep(0.03), 'a;b', 'x'' -- ' AS \"q;--\uffff<&>\" -- SECRET; drop table claim",
    "SELECT pg_sleep(0.03) /* SECRET ; */ FROM (VALUES ('SECRET'), (E'SE\\'CRET')) AS v (a) WHERE a <> $q$SECRET$q$",
    "WITH gone AS (DELETE FROM payment WHERE id < 0 RETURNING *) SELECT pg_sleep(0.03), count(*) FROM gone",
    "VALUES (pg_sleep(0.03)::text, interval '1 day', 'SECRET')",
    f"SELECT pg_sleep(0.03), length('{'SECRET' * 17000}')",
    f"SELECT pg_sleep(0.03), /* {'SECRET' * 17000} */ 1, 2",
]


@ENDS
def test_hostile_texts(bench: Bench, app: Any, db: psycopg.Connection[Any]):
    """Semicolons, comments, quotes, 100 kB: no value shows, nothing is executed, and no text breaks the others."""
    for text in HOSTILE:
        for _ in range(2):
            app.execute(text.encode())
    judgement = bench.run(**QUICK)
    messages = [f.message for f in judgement.findings if f.check == "mean_time"]
    assert len(messages) == len(HOSTILE)
    assert not any("SECRET" in str(f) for f in judgement.findings)
    assert all("\nplan, for any" in m or "\nno plan: " in m for m in messages)
    assert sum("no plan: its text is too long" in m for m in messages) == 1
    assert sum("no plan: with its constants taken out" in m for m in messages) == 1
    assert max(map(len, messages)) < 2500
    assert db.execute("SELECT count(*) FROM payment").fetchone() == (2000,)


@ENDS
def test_planning_runs_no_function_of_others(bench: Bench, app: Any, db: psycopg.Connection[Any]):
    """An immutable function of the application would run with our rights when a plan is made; nobody asked for that."""
    app.execute("""
        CREATE FUNCTION trap() RETURNS int LANGUAGE plpgsql IMMUTABLE AS
        $$ BEGIN IF current_user = 'app' THEN RETURN 1; END IF; RAISE EXCEPTION 'ran as %', current_user; END $$""")
    app.execute("CREATE VIEW bait AS SELECT trap() AS x")
    for _ in range(2):
        app.execute("SELECT x, pg_sleep(0.03) FROM bait")
    slow = found(bench.run(**QUICK), "mean_time")
    assert "no plan: 1 functions were written by roles that are no superusers" in slow.message
    bench.history.kept.clear()
    trusting = found(bench.run(**QUICK, plan="always"), "mean_time")
    assert "no plan: the server refused (SQLSTATE P0001)" in trusting.message
    bench.history.kept.clear()
    assert "no plan: the setting" in found(bench.run(**QUICK, plan="never"), "mean_time").message


@ENDS
def test_tables_are_looked_for_where_their_role_looks(bench: Bench, app: Any, db: psycopg.Connection[Any], pg: Any):
    """The role's own search_path counts, then the setting; a table that is nowhere is no error."""
    db.execute("CREATE SCHEMA hidden; CREATE TABLE hidden.thing (a int)")
    db.execute("GRANT USAGE ON SCHEMA hidden TO app; GRANT SELECT ON hidden.thing TO app")
    db.execute("ALTER ROLE app IN DATABASE claims SET search_path = hidden, public")
    with contextlib.closing(pg.connect("claims", "app")) as moved:
        for _ in range(2):
            moved.execute("SELECT pg_sleep(0.03), count(*) FROM thing")
    assert 'Seq Scan on "thing"' in found(bench.run(**QUICK), "mean_time").message
    db.execute("ALTER ROLE app IN DATABASE claims RESET search_path")
    bench.history.kept.clear()
    lost = found(bench.run(**QUICK), "mean_time").message
    assert 'no plan: relation "thing" does not exist; looked for in "app", public, pg_temp' in lost
    bench.history.kept.clear()
    assert 'Seq Scan on "thing"' in found(bench.run(**QUICK, search_path="hidden"), "mean_time").message


@ENDS
def test_a_locked_table_gives_no_plan_and_stops_nobody(bench: Bench, app: Any, db: psycopg.Connection[Any]):
    """Making a plan waits for the lock timeout at most."""
    sleep(app, 2)
    with db.transaction():
        db.execute("LOCK claim IN ACCESS EXCLUSIVE MODE")
        assert "no plan: somebody holds a lock" in found(bench.run(**QUICK), "mean_time").message


@ENDS
def test_plans_execute_nothing(pg: PostgresServer, db: psycopg.Connection[Any]):
    """One statement that can be planned gets a plan; anything else is refused by the server itself, one by one."""
    path = '"$user", public'
    wanted = [
        ("UPDATE claim SET note = $1 WHERE id = $2", path),
        ("SELECT 1; DROP TABLE claim", path),
        ("DROP TABLE claim", path),
        ("SELECT 1) AS x; DROP TABLE claim --", path),
        ("EXECUTE upkeep_plan_0", path),
        ("SELECT * FROM claim", '"'),
        ("SELECT * FROM claim", "pg_temp"),
        ("SELECT * FROM claim WHERE id = $1 -- the end", path),
        ("WITH gone AS (DELETE FROM claim RETURNING *) SELECT nextval('claim_id_seq'), * FROM gone", path),
    ]
    before = db.execute("SELECT last_value, (SELECT count(*) FROM claim) FROM claim_id_seq").fetchone()
    with postgres.open_session(pg.dsn("claims")) as session:
        for _ in range(2):
            answers = session.plans(wanted)
            states = [a.sqlstate if isinstance(a, Failed) else a["Node Type"] for a in answers]
            assert states[:2] == ["ModifyTable", "42601"]
            assert states[2:5] == ["42601"] * 3
            assert states[5:] == ["22023", "42P01", "Index Scan", "CTE Scan"]
        assert session.round_trips == 4
        assert session.connection.execute("SHOW search_path").fetchone() == ("pg_catalog,pg_temp",)
        session.connection.close()
        assert [a.reason for a in session.plans(wanted[:1]) if isinstance(a, Failed)] == ["gone"]
    assert db.execute("SELECT last_value, (SELECT count(*) FROM claim) FROM claim_id_seq").fetchone() == before
