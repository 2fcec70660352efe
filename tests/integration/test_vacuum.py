"""Vacuum and analyze on every supported server: what is taken, what is done, what is told."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from tests.integration.database_bench import MAJORS, database, server, until
from tests.integration.vacuum_bench import Care, done, evidence, finding, reason, settle, statuses, troubles
from upkeep.core.model import Severity

# Where the server's version makes no difference.
NEWEST = pytest.mark.parametrize("pg", MAJORS[-1:], indirect=True, ids=[f"pg{MAJORS[-1]}"])
ODD = 'x"; DROP TABLE y; -- {0} %s'


@pytest.fixture(scope="module", params=MAJORS, ids=lambda major: f"pg{major}")
def pg(request: pytest.FixtureRequest) -> PostgresServer:
    return server(request.param)


@pytest.fixture
def db(pg: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with database(pg) as connection:
        yield connection


@pytest.fixture
def care(pg: PostgresServer, db: psycopg.Connection[Any]) -> Care:
    settle(db)
    db.execute("VACUUM ANALYZE")
    return Care(pg.dsn("claims"))


def test_a_healthy_pgbench_needs_nothing(pg: PostgresServer, care: Care, db: psycopg.Connection[Any]):
    """Neither vacuum nor analyze finds anything to do or to say about a fresh pgbench database."""
    subprocess.run([pg.bin / "pgbench", "-i", "-q", "-s", "1", "-d", pg.dsn("claims")], check=True, capture_output=True)
    until(lambda: not sessions_of(db, "pgbench"), "the end of pgbench's session")
    db.execute("VACUUM ANALYZE")
    settle(db)
    for routine in ("vacuum", "analyze"):
        care.routine = routine
        record = care.run()
        assert (statuses(record), record.findings) == ({}, ())


def test_what_changed_is_done_and_then_is_not_needed(care: Care, db: psycopg.Connection[Any]):
    """Dead rows go, statistics are made anew, the report is read; a second run finds nothing to do."""
    db.execute("DELETE FROM payment WHERE id <= 900; UPDATE claim SET note = 'changed' WHERE id <= 900")
    settle(db)
    record = care.run()
    assert statuses(record) == {"public.payment": "done", "public.claim": "done"}
    seen = evidence(record, "public.payment")
    assert seen["before"]["dead"] == 900 and seen["after"]["dead"] == 0
    assert seen["report"]["dead_items"] + seen["report"]["removed"] >= 900
    assert seen["report"] | {"unremovable": 0, "remain": 1100} == seen["report"]
    assert seen["before"]["heap"] == seen["after"]["heap"] > 0 and seen["before"]["indexes"] > 0
    assert seen["report"]["index_pages"] > 0 and seen["report"]["pages"] == seen["after"]["heap"] / 8192
    assert seen["report"]["sampled"] == 1100
    assert troubles(record) == []
    again = care.run()
    assert (statuses(again), again.findings) == ({}, ())


def test_toast_is_counted_and_vacuumed_by_itself(care: Care, db: psycopg.Connection[Any]):
    """Dead rows of TOAST alone are a need, its own parameters count, and only what needs it is vacuumed."""
    db.execute("""
        CREATE TABLE paper (id int PRIMARY KEY, body text) WITH (autovacuum_vacuum_scale_factor = 0.9);
        ALTER TABLE paper ALTER body SET STORAGE EXTERNAL;
        CREATE TABLE quiet (LIKE paper INCLUDING ALL) WITH (toast.autovacuum_vacuum_threshold = 100000);
        INSERT INTO paper SELECT g, repeat(md5(g::text), 400) FROM generate_series(1, 100) AS g;
        INSERT INTO quiet SELECT * FROM paper;
    """)
    settle(db)
    db.execute("VACUUM ANALYZE paper, quiet")
    db.execute("UPDATE paper SET body = repeat('x', 9000) WHERE id <= 60; UPDATE quiet SET body = '' WHERE id <= 60")
    settle(db)
    record = care.run(analyze=False)
    assert statuses(record)["public.paper"] == "done"
    assert "TOAST: " in reason(record, "public.paper")
    assert evidence(record, "public.paper")["report"]["dead_items"] >= 60
    assert "public.quiet" not in {a.action.subject for a in record.actions if "TOAST" in a.action.reason}


def test_parents_are_analyzed_after_their_parts(care: Care, db: psycopg.Connection[Any]):
    """Partitioned tables and parents by inheritance get statistics of their own, once; every level of them."""
    db.execute("""
        CREATE TABLE visit (id int, year int) PARTITION BY LIST (year);
        CREATE TABLE visit_25 PARTITION OF visit FOR VALUES IN (2025) PARTITION BY RANGE (id);
        CREATE TABLE visit_25_a PARTITION OF visit_25 FOR VALUES FROM (0) TO (100000);
        CREATE TABLE visit_26 PARTITION OF visit FOR VALUES IN (2026);
        CREATE TABLE base (id int);
        CREATE TABLE child () INHERITS (base);
        INSERT INTO visit SELECT g, 2025 + g % 2 FROM generate_series(1, 2000) AS g;
        INSERT INTO child SELECT g FROM generate_series(1, 2000) AS g;
    """)
    settle(db)
    db.execute("VACUUM ANALYZE visit_25_a, visit_26, child")
    settle(db)
    for routine in ("analyze", "vacuum"):
        care.routine = routine
        record = care.run()
        if routine == "analyze":
            names = {"public.visit", "public.base"} | (
                {"public.visit_25"} if db.info.server_version >= 180_000 else set()
            )
            assert statuses(record) == dict.fromkeys(names, "done")
            counted = db.execute("SELECT DISTINCT tablename FROM pg_stats WHERE inherited AND schemaname = 'public'")
            assert {row[0] for row in counted} == {"visit", "visit_25", "base"}
        else:
            assert statuses(record) == {}
    db.execute("INSERT INTO visit SELECT g, 2026 FROM generate_series(1, 2000) AS g")
    settle(db)
    record = care.run()
    assert {"public.visit", "public.visit_26"} <= set(done(record))
    assert [a.action.name for a in record.actions if a.action.subject == "public.visit"] == ["analyze"]
    assert statuses(care.run()) == {}


@NEWEST
def test_old_ids_are_frozen_before_the_server_has_to(care: Care, db: psycopg.Connection[Any]):
    """A table whose ids come near its own limit is frozen; one with the server's limit is not."""
    db.execute("CREATE TABLE old (id int) WITH (autovacuum_freeze_max_age = 100000)")
    db.execute("INSERT INTO old SELECT generate_series(1, 10)")
    settle(db)
    db.execute("VACUUM ANALYZE old")
    burn(db, 60)
    assert "public.old" not in statuses(care.run())
    record = care.run(freeze_share=0.0005)
    seen = evidence(record, "public.old")
    assert seen["before"]["xid_age"] > 50 and seen["after"]["xid_age"] < 20
    assert "transaction ids" in reason(record, "public.old")
    assert statuses(record) == {"public.old": "done"}


def sessions_of(connection: psycopg.Connection[Any], application: str) -> int:
    """Return how many sessions an application has."""
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [application]
    ).fetchone()
    return int(row[0]) if row else 0


def burn(connection: psycopg.Connection[Any], count: int) -> None:
    """Use up transaction ids."""
    for _ in range(count):
        connection.execute("SELECT pg_current_xact_id()")


@NEWEST
def test_odd_names_and_kinds(care: Care, db: psycopg.Connection[Any]):
    """Any name can be vacuumed; matviews are; foreign and temporary tables are left alone."""
    from psycopg import sql

    db.execute(sql.SQL("CREATE TABLE {} AS SELECT 1 AS n FROM generate_series(1, 3000)").format(sql.Identifier(ODD)))
    db.execute("""
        CREATE SCHEMA "Größe";
        CREATE MATERIALIZED VIEW "Größe"."a.b" AS SELECT g FROM generate_series(1, 3000) AS g;
        CREATE TEMP TABLE brief AS SELECT g FROM generate_series(1, 3000) AS g;
        CREATE UNLOGGED TABLE fleeting AS SELECT g FROM generate_series(1, 3000) AS g;
        CREATE VIEW seen AS SELECT 1;
    """)
    settle(db)
    assert set(done(care.run())) == {
        'public."x""; DROP TABLE y; -- {0} %s"',
        '"Größe"."a.b"',
        "public.fleeting",
    }


@NEWEST
def test_named_tables_come_first_and_are_always_done(care: Care, db: psycopg.Connection[Any]):
    """A table that the system file names is done though it needs nothing; a name that is none is told."""
    db.execute("DELETE FROM payment")
    settle(db)
    care.tables = ("public.claim", "public.nowhere")
    record = care.run()
    assert [a.action.subject for a in record.actions][:2] == ["public.claim", "public.payment"]
    assert finding(record, "named").subject == "public.nowhere"
    record = care.run(scope="named")
    assert done(record) == ["public.claim"]


def test_everything_may_be_asked_for(care: Care, db: psycopg.Connection[Any]):
    """With scope `all` every table is done, the server's own as well, and no finding is left."""
    record = care.run(scope="all")
    told = {a.action.subject for a in record.actions if a.status == "done"}
    assert {"public.claim", *(f"pg_catalog.pg_{name}" for name in ("class", "database", "statistic"))} <= told
    assert troubles(record) == []


@NEWEST
def test_a_dry_run_says_what_it_would_do(care: Care, db: psycopg.Connection[Any]):
    """Nothing is touched; every table that would be done is planned, with its reason."""
    db.execute("DELETE FROM payment")
    settle(db)
    record = care.run(dry_run=True)
    assert statuses(record) == {"public.payment": "planned"}
    assert "2,000 dead rows" in reason(record, "public.payment")
    assert statuses(care.run()) == {"public.payment": "done"}


def test_a_stranger_is_told_which_grant_it_needs(pg: PostgresServer, care: Care, db: psycopg.Connection[Any]):
    """A table that the role may not vacuum is unknown and never counted as done; the GRANT cures it."""
    pg.create_role("visitor")
    db.execute("GRANT CONNECT ON DATABASE claims TO visitor; DELETE FROM payment")
    settle(db)
    stranger = Care(pg.dsn("claims", "visitor"), history=care.history)
    record = stranger.run()
    told = finding(record, "privilege", "tables")
    assert (told.severity, done(record)) == (Severity.UNKNOWN, [])
    assert "public.payment" in told.message and "GRANT" in told.hint
    assert finding(record, "privilege", "sessions").hint == 'GRANT pg_monitor TO "visitor";'
    grant = "GRANT pg_maintain TO visitor" if pg.major >= 17 else "ALTER TABLE payment OWNER TO visitor"
    db.execute(f"{grant}; GRANT pg_monitor TO visitor".encode())
    record = stranger.run()
    assert (done(record), troubles(record)) == (["public.payment"], [])
    with pg.connect() as owner:
        owner.execute("DROP OWNED BY visitor") if pg.major < 17 else owner.execute("REVOKE pg_maintain FROM visitor")
        owner.execute("REVOKE pg_monitor FROM visitor")


@NEWEST
def test_a_skip_that_the_server_only_warns_of_is_no_success(
    pg: PostgresServer, care: Care, db: psycopg.Connection[Any]
):
    """A privilege that is lost between looking and doing is told, although the command succeeds."""
    pg.create_role("visitor")
    db.execute("GRANT CONNECT ON DATABASE claims TO visitor; DELETE FROM payment")
    settle(db)
    stranger = Care(pg.dsn("claims", "visitor"))
    routine, job = stranger.job()
    seen = routine.observe(job)
    seen.__dict__["refused"] = frozenset()
    actions = routine.plan(job, seen).actions
    assert routine.act_all is not None
    ended = {s.number: s.outcome for batch in routine.act_all(job, actions) for s in batch if hasattr(s, "outcome")}
    assert ended[1].status == "skipped"
    assert [f.check for f in ended[1].findings] == ["privilege"]
    assert "skip" in ended[1].findings[0].message


@NEWEST
def test_the_window_and_the_budget_are_kept(care: Care, db: psycopg.Connection[Any]):
    """What would not be done in time is not begun: it is carried over, told, and remembered."""
    db.execute("DELETE FROM payment; DELETE FROM claim WHERE false")
    settle(db)
    care.until = datetime.now(UTC) + timedelta(seconds=1)
    record = care.run(first_rate=0.01)
    assert statuses(record) == {"public.payment": "skipped"}
    assert finding(record, "carried_over").severity is Severity.INFO
    for _ in range(3):
        care.until = datetime.now(UTC) - timedelta(seconds=1)
        record = care.run()
    late = finding(record, "carried_over")
    assert late.severity is Severity.WARNING and "public.payment (4)" in late.message
    care.until = None
    record = care.run()
    assert done(record) == ["public.payment"] and troubles(record) == []
    assert care.history.latest("vacuum.waiting")["public.payment"].value == 0


@NEWEST
def test_nothing_starves(care: Care, db: psycopg.Connection[Any]):
    """With room for two tables a run, all have had their turn soon, however needy the greediest ones stay."""
    db.execute("".join(f"CREATE TABLE t{n} AS SELECT generate_series(1, 60) AS g;" for n in range(7)))
    db.execute("".join(f"CREATE TABLE greedy{n} AS SELECT generate_series(1, 4000) AS g;" for n in range(2)))
    db.execute("VACUUM ANALYZE")
    db.execute("".join(f"DELETE FROM t{n};" for n in range(7)))
    had: set[str] = set()
    for _ in range(8):
        db.execute("UPDATE greedy0 SET g = g; UPDATE greedy1 SET g = g")
        settle(db)
        had |= set(done(care.run(max_tables=2, waiting={"warning": None})))
    assert had >= {f"public.t{n}" for n in range(7)}


@NEWEST
def test_lost_counters_are_not_taken_for_health(care: Care, db: psycopg.Connection[Any]):
    """After a reset the tables that the catalogue knows to have rows are looked after, and known again."""
    db.execute("SELECT pg_stat_reset()")
    settle(db)
    record = care.run()
    assert set(done(record)) == {"public.claim", "public.payment"}
    assert "counters of changes were lost" in reason(record, "public.claim")
    assert statuses(care.run()) == {}


@contextlib.contextmanager
def locked(pg: PostgresServer, table: str) -> Iterator[psycopg.Connection[Any]]:
    """Hold an exclusive lock on a table."""
    with pg.connect("claims", application_name="migration") as holder, holder.transaction():
        holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        yield holder


@NEWEST
def test_a_locked_table_does_not_stall_the_others(pg: PostgresServer, care: Care, db: psycopg.Connection[Any]):
    """The others are done; the locked one is tried again at the end and told, with who holds it."""
    db.execute("CREATE TABLE t1 AS SELECT generate_series(1, 3000); CREATE TABLE t2 AS SELECT generate_series(1, 3000)")
    db.execute("DELETE FROM payment")
    settle(db)
    with locked(pg, "payment") as holder:
        pid = holder.info.backend_pid
        holder.execute("SELECT 'Jane Doe'")
        begun = time.monotonic()
        record = care.run()
        assert time.monotonic() - begun < 4
    assert statuses(record) == {"public.payment": "skipped", "public.t1": "done", "public.t2": "done"}
    told = finding(record, "locked", "public.payment")
    assert told.severity is Severity.WARNING
    assert f"pid {pid} postgres (migration) holds AccessExclusiveLock" in told.message
    assert "Jane" not in told.message
    assert done(care.run()) == ["public.payment"]


@NEWEST
def test_many_small_tables_are_done_together(pg: PostgresServer, care: Care, db: psycopg.Connection[Any]):
    """Dozens at a time, and still every one is accounted for: done, locked with its holder, or dropped meanwhile."""
    from upkeep.core.model import Outcome, OutcomeStatus
    from upkeep.routines.database._vacuum_outcome import each

    db.execute("".join(f"CREATE TABLE t{n} AS SELECT generate_series(1, 60) AS g;" for n in range(230)))
    settle(db)
    db.execute("VACUUM ANALYZE")
    db.execute("".join(f"DELETE FROM t{n};" for n in range(230)))
    settle(db)
    with locked(pg, "t7"):
        record = care.run()
    actions = [a for a in record.actions if a.evidence.get("columns")]
    assert len(actions) == 5
    told = each([Outcome(status=OutcomeStatus(a.status), detail=a.detail, evidence=a.evidence) for a in actions])
    states = {evidence["table"]: status for status, evidence in told}
    assert states == {f"public.t{n}": "skipped" if n == 7 else "done" for n in range(230)}
    assert all(e["dead_before"] == 60 and e["dead_after"] == 0 for status, e in told if status == "done")
    assert [f.subject for f in troubles(record)] == ["public.t7"]
    assert done(care.run()) == ["public.t7"]


@pytest.mark.parametrize("pg", MAJORS[:1], indirect=True, ids=[f"pg{MAJORS[0]}"])
def test_what_a_function_in_an_index_misses_is_not_the_table(care: Care, db: psycopg.Connection[Any]):
    """Up to 16 it sees our search_path: what it does not find is told, and not taken for a dropped table."""
    db.execute("CREATE TABLE rate (v int); INSERT INTO rate VALUES (1)")
    db.execute(
        "CREATE FUNCTION priced(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN i * (SELECT v FROM rate); END $$"
    )
    db.execute(
        "CREATE INDEX ON claim (priced(id)); UPDATE claim SET note = 'changed'; DELETE FROM claim WHERE id > 2000"
    )
    settle(db)
    told = finding(care.run(), "failed", "public.claim")
    assert 'relation "rate" does not exist' in told.message and "SET search_path" in told.hint
