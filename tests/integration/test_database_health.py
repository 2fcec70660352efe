"""Database health on real servers of every supported major: healthy is silent, every trouble is found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from lab.postgres import PostgresServer
from tests.integration.database_bench import (
    MAJORS,
    Bench,
    begin,
    checks,
    database,
    found,
    health,
    server,
    troubles,
    until,
    value,
    waiting,
)
from upkeep.core.errors import ConfigurationError
from upkeep.core.model import Severity

HOSTILE = 'x"; drop table y;--'
NOW = {"warning": 0.05, "critical": None}


@pytest.fixture(scope="module", params=MAJORS, ids=lambda major: f"pg{major}")
def pg(request: pytest.FixtureRequest) -> PostgresServer:
    return server(request.param)


@pytest.fixture
def db(pg: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with database(pg) as connection:
        yield connection


@pytest.fixture
def bench(pg: PostgresServer, db: psycopg.Connection[Any]) -> Bench:
    return health(pg.dsn("claims"))


@contextlib.contextmanager
def sessions(pg: PostgresServer, count: int, user: str = "postgres", **options: Any) -> Iterator[list[Any]]:
    """Give connections that are rolled back and closed afterwards, whatever they wait for."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            opened.append(stack.enter_context(contextlib.closing(pg.connect("claims", user, **options))))
        yield opened


def test_a_healthy_database_gives_no_warning(bench: Bench, db: psycopg.Connection[Any]):
    """Two looks at a seeded, vacuumed database find nothing; everything is asked in five round trips at most."""
    db.execute("VACUUM ANALYZE")
    for _ in range(2):
        judgement = bench.run()
        assert troubles(judgement) == []
        assert bench.seen.round_trips <= 5
        assert bench.seen.failed == {}
    assert value(judgement, "database.size") > 1_000_000
    assert value(judgement, "table.size", "public.claim") > value(judgement, "table.size", "public.payment") > 0
    assert 0 < value(judgement, "connections.used_ratio") < 0.2
    assert value(judgement, "xid.age", "template0") >= 0
    assert value(judgement, "checksum.failures", "claims") == 0


def test_the_session_is_read_only_and_bounded(pg: PostgresServer, bench: Bench):
    """Nothing that a statement of ours does can write, wait or run for long, and DBAs see who we are."""
    job = bench.job({})
    with job.tools.postgres(
        "db", application_name="upkeep database.health", statement_timeout=7, lock_timeout=0.2
    ) as s:
        shown = {
            name: s.connection.execute(f"SHOW {name}").fetchone()[0]
            for name in ("default_transaction_read_only", "statement_timeout", "lock_timeout", "application_name")
        }
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            s.connection.execute("CREATE TABLE public.t (a int)")
    assert list(shown.values()) == ["on", "7s", "200ms", "upkeep database.health"]


def test_a_blocked_chain_names_its_root(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """Of three sessions in a chain the first is the root, and no literal of any statement is shown."""
    with sessions(pg, 3) as (first, second, third):
        pids = [session.info.backend_pid for session in (first, second, third)]
        first.execute("BEGIN")
        first.execute("UPDATE claim SET note = 'Jane Doe, born 1970' WHERE id = 1")
        second.execute("BEGIN")
        second.execute("UPDATE claim SET note = '' WHERE id = 2")
        begin(second, "UPDATE claim SET note = 'John Roe' WHERE id = 1")
        begin(third, "UPDATE claim SET note = 'Mary Moe' WHERE id = 2")
        until(lambda: waiting(db) == 2 and bench.run(blocked=NOW).findings, "the chain")
        judgement = bench.run(blocked=NOW)
        late = bench.run(blocked={"critical": 0.05, "warning": 0.01})
    blocked = found(judgement, "blocked", "postgres")
    assert blocked.severity is Severity.WARNING
    assert found(late, "blocked").severity is Severity.CRITICAL
    root, one, two = blocked.message.splitlines()[1:]
    assert f"pid {pids[0]}" in root and "idle in transaction" in root
    assert one.startswith(f"  pid {pids[1]}")
    assert two.startswith(f"    pid {pids[2]}")
    assert blocked.hint.count(f"pg_terminate_backend({pids[0]})") == 1
    assert not any(word in blocked.message for word in ("Jane", "John", "Mary", "1970"))
    assert value(judgement, "locks.waiting") == 2


def test_idle_in_transaction(pg: PostgresServer, bench: Bench):
    """One that holds back vacuum is a warning, one that only keeps its locks is info."""
    with sessions(pg, 2) as (holder, keeper):
        holder.execute("BEGIN")
        holder.execute("UPDATE claim SET note = 'secret' WHERE id = 3")
        until(lambda: bench.run(idle_in_transaction=NOW).findings, "idling")
        judgement = bench.run(idle_in_transaction=NOW)
        idle = found(judgement, "idle_in_transaction", "postgres")
        assert value(judgement, "sessions.idle_in_transaction") == 1
        assert idle.severity is Severity.WARNING
        assert f"pg_terminate_backend({holder.info.backend_pid})" in idle.hint
        assert "secret" not in idle.message
        holder.execute("ROLLBACK")
        keeper.execute("BEGIN")
        keeper.execute("SELECT 1")
        until(lambda: bench.run(idle_in_transaction=NOW).findings, "idling")
        assert found(bench.run(idle_in_transaction=NOW), "idle_in_transaction").severity is Severity.INFO


def test_a_running_dump_is_expected(pg: PostgresServer, bench: Bench):
    """A dump keeps its snapshot for as long as it takes; health and backup may run at the same time."""
    with sessions(pg, 1, application_name="upkeep backup") as [dump], sessions(pg, 1) as [other]:
        for session in (dump, other):
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            session.execute("SELECT count(*) FROM claim")
        until(lambda: bench.run(idle_in_transaction=NOW).findings, "idling")
        idle = found(bench.run(idle_in_transaction=NOW), "idle_in_transaction")
    assert "more of this role" not in idle.message and "upkeep" not in idle.message


def test_long_query(pg: PostgresServer, bench: Bench):
    """A statement that runs too long is found, unless its application is expected to take its time."""
    with sessions(pg, 2, application_name="web") as (one, other), sessions(pg, 1, application_name="pg_dump") as [dump]:
        for session in (one, other, dump):
            begin(session, "SELECT 'Jane Doe', pg_sleep(60)")
        until(lambda: "more" in str(bench.run(long_query=NOW).findings), "two long statements")
        late = found(bench.run(long_query=NOW), "long_query", "postgres")
        assert value(bench.run(), "sessions.active") == 3
        with pytest.raises(AssertionError):
            found(bench.run(long_query=NOW, expected_applications=["web", "pg_dump"]), "long_query")
    assert "(web)" in late.message and "(and 1 more of this role)" in late.message
    assert "SELECT ?, pg_sleep(?)" in late.message


def test_prepared_transaction(bench: Bench, db: psycopg.Connection[Any]):
    """A forgotten two-phase commit is found, and so are those who wait for it."""
    db.execute("BEGIN")
    db.execute("UPDATE claim SET note = '' WHERE id = 1")
    db.execute("PREPARE TRANSACTION 'it''s forgotten'")
    try:
        with contextlib.closing(psycopg.connect(bench.conninfo, autocommit=True)) as waiter:
            begin(waiter, "UPDATE claim SET note = '' WHERE id = 1")
            until(lambda: waiting(db) == 1 and "prepared" in checks(bench.run(prepared=NOW)), "the wait")
            judgement = bench.run(prepared=NOW, blocked={"warning": 0.001})
    finally:
        db.execute("ROLLBACK PREPARED 'it''s forgotten'")
    prepared = found(judgement, "prepared", "postgres")
    assert "COMMIT PREPARED 'it''s forgotten'" in prepared.hint
    assert "a prepared transaction" in found(judgement, "blocked", "prepared transaction").message


def test_sequences_near_their_end(bench: Bench, db: psycopg.Connection[Any]):
    """The column's width counts, whoever owns the sequence; downwards counts; cycling and fresh ones do not."""
    db.execute("""
        SELECT setval('claim_id_seq', 2000000000);
        CREATE SEQUENCE loose AS bigint;
        CREATE TABLE narrow (id smallint DEFAULT nextval('loose'));
        SELECT setval('loose', 32000);
        CREATE SEQUENCE down INCREMENT -1 MINVALUE -100;
        SELECT setval('down', -90);
        CREATE SEQUENCE ring MAXVALUE 100 CYCLE;
        SELECT setval('ring', 99);
        CREATE SEQUENCE fresh MAXVALUE 2;
        CREATE SEQUENCE last MINVALUE 0 MAXVALUE 1 START 1;
        CREATE SEQUENCE "Odd.name" MAXVALUE 100;
        SELECT setval('"Odd.name"', 100);
    """)
    judgement = bench.run()
    near = {f.subject: f.severity for f in judgement.findings}
    assert near == {
        "public.claim_id_seq": Severity.WARNING,
        "public.loose": Severity.CRITICAL,
        "public.down": Severity.WARNING,
        'public."Odd.name"': Severity.CRITICAL,
    }
    assert "2,000,000,000 and ends at 2,147,483,647" in found(judgement, "sequence", "public.claim_id_seq").message
    few = bench.run(top=1)
    assert {f.subject for f in few.findings} == {'public."Odd.name"', "others"}
    assert found(few, "sequence", "others").message.startswith("3 more")


def test_connections_near_the_limit(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """The server's own limit, less the slots it keeps back, and the limits of a database and of a role."""
    pg.create_role("app")
    db.execute("GRANT CONNECT ON DATABASE claims TO app; ALTER ROLE app CONNECTION LIMIT 5")
    try:
        with sessions(pg, 5, "app"), sessions(pg, 45):
            judgement = bench.run()
            db.execute("ALTER DATABASE claims CONNECTION LIMIT 52")
            limited = bench.run()
    finally:
        db.execute("ALTER ROLE app CONNECTION LIMIT -1")
    assert found(judgement, "connections", "").severity is Severity.WARNING
    assert found(judgement, "connections", "role app").severity is Severity.CRITICAL
    assert found(limited, "connections", "database claims").severity is Severity.CRITICAL
    assert value(judgement, "connections.usable") == 57


def test_a_missing_privilege_is_unknown_and_its_hint_cures_it(
    pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]
):
    """A role that may not look gets `unknown` with the GRANT; with that GRANT the finding is gone."""
    db.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(HOSTILE)))
    db.execute(sql.SQL("CREATE SEQUENCE {}.hidden").format(sql.Identifier(HOSTILE)))
    pg.create_role("watch er")
    db.execute('GRANT CONNECT ON DATABASE claims TO "watch er"')
    bench.conninfo = psycopg.conninfo.make_conninfo(bench.conninfo, user="watch er", password=pg.password("watch er"))
    try:
        judgement = bench.run()
        privileges = [f for f in judgement.findings if f.check == "privilege"]
        assert {f.subject for f in privileges} == {"sessions", "sequences"}
        assert {f.severity for f in privileges} == {Severity.UNKNOWN}
        assert troubles(judgement) == privileges
        assert value(judgement, "connections.used") >= 2
        for finding in privileges:
            db.execute(finding.hint)
        assert troubles(bench.run()) == []
    finally:
        db.execute('DROP OWNED BY "watch er"')
        db.execute('REVOKE pg_monitor FROM "watch er"')


def test_hidden_sessions_still_show_who_blocks(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """Without pg_monitor the tree is still drawn, without state and text."""
    pg.create_role("blind")
    db.execute("GRANT CONNECT ON DATABASE claims TO blind")
    bench.conninfo = psycopg.conninfo.make_conninfo(bench.conninfo, user="blind", password=pg.password("blind"))
    with sessions(pg, 2) as (first, second):
        first.execute("BEGIN")
        first.execute("LOCK TABLE claim")
        begin(second, "SELECT count(*) FROM claim")
        until(lambda: waiting(db) == 1, "the wait")
        blocked = found(bench.run(blocked={"warning": 0.001}), "blocked", "postgres")
    assert "state hidden" in blocked.message
    assert "insufficient privilege" not in blocked.message


def test_a_locked_table_delays_nobody(pg: PostgresServer, bench: Bench):
    """Under ACCESS EXCLUSIVE locks on everything all checks answer, the locked table's size as an estimate."""
    with sessions(pg, 1) as [locker]:
        locker.execute("ANALYZE claim")
        locker.execute("BEGIN")
        locker.execute("LOCK TABLE claim, payment")
        judgement = bench.run()
    assert troubles(judgement) == []
    assert value(judgement, "table.size", "public.claim") > 0


@pytest.mark.parametrize(("timeouts", "hint"), [((10, 0.05), "lock_timeout"), ((0.2, 10), "statement_timeout")])
def test_a_timeout_is_unknown_and_costs_only_itself(
    pg: PostgresServer, bench: Bench, timeouts: tuple[float, float], hint: str
):
    """A statement that runs into a time-out leaves its own check open and every other one answered."""
    with sessions(pg, 1) as [locker]:
        locker.execute("BEGIN")
        locker.execute("ALTER SEQUENCE claim_id_seq RESTART 7")
        judgement = bench.run(statement_timeout=timeouts[0], lock_timeout=timeouts[1])
    [only] = troubles(judgement)
    assert (only.check, only.severity) == ("sequence", Severity.UNKNOWN)
    assert hint in only.hint
    assert value(judgement, "database.size") > 0  # asked after the one that failed


def test_a_slot_that_keeps_wal(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """Inactive with WAL is info, with much WAL a warning, lost critical; slots of other databases are theirs."""
    db.execute("SELECT pg_create_physical_replication_slot('gone', true)")
    try:
        db.execute("UPDATE claim SET note = ''")
        assert found(bench.run(), "slot", "gone").severity is Severity.INFO
        kept = found(bench.run(slot_retained={"warning": 1000}), "slot", "gone")
        assert kept.severity is Severity.WARNING and "nobody reads" in kept.message
        db.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'")
        db.execute("SELECT pg_reload_conf()")
        until(lambda: db.execute("SHOW max_slot_wal_keep_size").fetchone() == ("16MB",), "the new setting")
        for _ in range(4):
            db.execute("UPDATE claim SET note = 'x' WHERE id = 1")
            db.execute("SELECT pg_switch_wal()")
        assert found(bench.run(), "slot", "gone").severity is Severity.CRITICAL  # unreserved
        db.execute("CHECKPOINT")
        lost = found(bench.run(), "slot", "gone")
        assert lost.severity is Severity.CRITICAL and lost.observed == "lost"
    finally:
        db.execute("SELECT pg_drop_replication_slot('gone')")
        db.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        db.execute("SELECT pg_reload_conf()")


def test_the_cache_is_judged_by_what_happened_since_the_last_run(bench: Bench, db: psycopg.Connection[Any]):
    """The first run says nothing, the second judges the difference, and a reset of the statistics is no verdict."""

    def ratio() -> list[float]:
        return [m.value for m in bench.run(cache_blocks=1).measurements if m.name == "cache.hit_ratio"]

    def counted() -> None:
        # A session reports its counters when it ends, before 15 with half a second's delay.
        with contextlib.closing(psycopg.connect(bench.conninfo, autocommit=True)) as reader:
            reader.execute("SELECT sum(length(note)) FROM claim")

    assert ratio() == []
    counted()
    until(lambda: any(0 < r <= 1 for r in ratio()), "a ratio")
    db.execute("SELECT pg_stat_reset()")
    until(lambda: ratio() == [], "the reset")


def test_a_wrong_password_is_a_configuration_error_without_it(bench: Bench):
    """Nobody but the owner of the connection can cure it; host, port and database are named, the password is not."""
    bench.conninfo = psycopg.conninfo.make_conninfo(bench.conninfo, password="hunter2")
    with pytest.raises(ConfigurationError) as caught:
        bench.run()
    assert "/claims" in str(caught.value) and "password authentication failed" in str(caught.value)
    assert "hunter2" not in repr(caught.value)
    bench.conninfo = psycopg.conninfo.make_conninfo(bench.conninfo, dbname="nowhere", password="x")
    with pytest.raises(ConfigurationError):
        bench.run()


def test_hostile_names(pg: PostgresServer):
    """Names that are SQL stay names: of a database, a role, a table, a sequence and an application."""
    pg.create_role(HOSTILE)
    with database(pg, HOSTILE) as db:
        db.execute(
            sql.SQL("CREATE TABLE {0} (id serial); INSERT INTO {0} DEFAULT VALUES").format(sql.Identifier(HOSTILE))
        )
        db.execute(sql.SQL("GRANT CONNECT ON DATABASE {0} TO {0}").format(sql.Identifier(HOSTILE)))
        bench = health(psycopg.conninfo.make_conninfo(pg.dsn("postgres"), dbname=HOSTILE))
        user = psycopg.conninfo.make_conninfo(
            bench.conninfo, user=HOSTILE, password=pg.password(HOSTILE), application_name=HOSTILE
        )
        with contextlib.closing(psycopg.connect(user, autocommit=True)) as session:
            begin(session, "SELECT pg_sleep(60)")
            until(lambda: bench.run(long_query=NOW).findings, "a long statement")
            judgement = bench.run(long_query=NOW)
        assert found(judgement, "long_query").subject == HOSTILE
        assert value(judgement, "table.size", f'public."{HOSTILE.replace(chr(34), chr(34) * 2)}"') > 0
        assert value(judgement, "xid.age", HOSTILE) >= 0
        bench.conninfo = user
        grant = found(bench.run(), "privilege", "sessions").hint
        assert grant == 'GRANT pg_monitor TO "x""; drop table y;--";'
        db.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(HOSTILE)))


def test_two_thousand_tables_need_no_more_round_trips():
    """The number of tables changes neither the round trips nor the number of findings."""
    pg = server(18)
    with database(pg, "many") as db:
        bench = health(pg.dsn("many"))
        bench.run()
        before = bench.seen.round_trips
        db.execute("""
            DO $$ BEGIN FOR i IN 1..2000 LOOP
              EXECUTE format('CREATE TABLE many_%s (id int GENERATED ALWAYS AS IDENTITY, note text)', i);
            END LOOP; END $$
        """)
        db.execute("SELECT setval(oid::regclass, 2147483000) FROM pg_class WHERE relkind = 'S' AND relname ~ '^many'")
        judgement = bench.run()
    assert bench.seen.round_trips == before <= 5
    assert bench.seen.failed == {}
    assert value(judgement, "database.tables") == 2002
    assert len(judgement.findings) == 11
    assert found(judgement, "sequence", "others").message.startswith("1990 more")
