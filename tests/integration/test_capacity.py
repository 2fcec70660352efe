"""Growth and capacity on real servers: sizes are true, dates follow from history, and what is not known is said."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from tests.integration.database_bench import (
    MAJORS,
    Bench,
    Kept,
    begin,
    checks,
    database,
    found,
    server,
    troubles,
    until,
    value,
    waiting,
)
from upkeep.core.errors import ConfigurationError
from upkeep.core.model import Judgement, Severity
from upkeep.core.routine import Routine
from upkeep.core.targets import PostgresTarget
from upkeep.ledger import events as ev
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger, LedgerHistory, migrate

HUGE = {"volume": {"size": "10 TB"}}
HOSTILE = 'x"; drop table y;--'
GB = 2**30


@pytest.fixture(scope="module", params=MAJORS, ids=lambda major: f"pg{major}")
def pg(request: pytest.FixtureRequest) -> PostgresServer:
    return server(request.param)


@pytest.fixture
def db(pg: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with database(pg) as connection:
        yield connection


@pytest.fixture
def bench(pg: PostgresServer, db: psycopg.Connection[Any]) -> Bench:
    return capacity(pg.dsn("claims"), **HUGE)


@pytest.fixture
def one() -> Iterator[tuple[PostgresServer, psycopg.Connection[Any], Bench]]:
    """The newest server only: what follows does not depend on the version."""
    with database(server(MAJORS[-1])) as connection:
        yield server(MAJORS[-1]), connection, capacity(server(MAJORS[-1]).dsn("claims"), **HUGE)


def capacity(conninfo: str, **target: Any) -> Bench:
    routine = Routine.load("upkeep.routines.capacity.database")
    return Bench(routine, PostgresTarget(conn_id="db", id="claims/db", **target), conninfo)


def later(bench: Bench, days: float) -> None:
    """Let the bench's clock go on: nobody can wait for weeks."""
    ahead = bench.clock() + timedelta(days=days)
    bench.clock = lambda: ahead


def past(bench: Bench, per_day: float, weeks: int = 8) -> Judgement:
    """Give the bench a history in which all sizes grew steadily up to now; return a look at now."""
    judgement = bench.run()
    now = bench.clock()
    bench.history.points.clear()
    bench.history.kept.clear()
    for name in ("database.size", "server.size"):
        size = value(judgement, name)
        days = [7 * n for n in range(weeks, 0, -1)]
        bench.history.points[name, ""] = [Kept(now - timedelta(days=d), size - per_day * d) for d in days]
    return judgement


def test_a_healthy_database_gives_no_warning(pg: PostgresServer, bench: Bench):
    """pgbench, looked at every week while it works: nothing once the history is long enough, in three round trips."""
    pgbench(pg, "--initialize", "--quiet", "--foreign-keys")
    for week in range(7):
        pgbench(pg, "--transactions=200", "--no-vacuum")
        judgement = bench.run()
        later(bench, 7)
        assert checks(judgement) == ({"projection"} if week < 4 else set()), judgement.findings
        assert bench.seen.round_trips <= 3 and bench.seen.failed == {}
    assert value(judgement, "growth.per_day_low", "server.size") <= value(judgement, "growth.per_day", "server.size")
    assert value(judgement, "used_percent", "volume") < 1


def pgbench(pg: PostgresServer, *options: str) -> None:
    command = [str(pg.bin / "pgbench"), *options, pg.dsn("claims")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_sizes_are_those_of_the_server(bench: Bench, db: psycopg.Connection[Any]):
    """Database, tables, their parts and indexes; a partitioned table is one; the parts add up."""
    db.execute(f"""
        CREATE TABLE part (a int, b text) PARTITION BY RANGE (a);
        CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (100);
        CREATE TABLE part2 PARTITION OF part FOR VALUES FROM (100) TO (9999) PARTITION BY RANGE (a);
        CREATE TABLE part3 PARTITION OF part2 FOR VALUES FROM (100) TO (9999);
        CREATE INDEX ON part (a);
        ALTER TABLE part3 ALTER b SET STORAGE EXTERNAL;
        INSERT INTO part SELECT g, repeat('x', 3000) FROM generate_series(1, 300) AS g;
        CREATE TABLE "{HOSTILE.replace('"', '""')}" AS SELECT repeat('y', 90) FROM generate_series(1, 2000);
        CREATE MATERIALIZED VIEW seen AS SELECT * FROM claim;
        ANALYZE;
    """)
    judgement = bench.run()
    truth = db.execute("""
        SELECT pg_database_size(current_database()), pg_total_relation_size('claim'), pg_total_relation_size('seen'),
               pg_total_relation_size('part1') + pg_total_relation_size('part3'), pg_indexes_size('claim'),
               pg_total_relation_size(to_regclass('"x""; drop table y;--"')), pg_relation_size('claim_pkey'),
               (SELECT sum(pg_total_relation_size(reltoastrelid)) FROM pg_class WHERE relname IN ('part1', 'part3')),
               (SELECT sum(pg_database_size(oid)) FROM pg_database),
               (SELECT sum(size) FROM pg_ls_waldir())
    """).fetchone()
    seen = [
        value(judgement, "database.size"),
        *(value(judgement, "table.size", f"public.{name}") for name in ("claim", "seen", "part")),
        value(judgement, "table.indexes", "public.claim"),
        value(judgement, "table.size", 'public."x""; drop table y;--"'),
        value(judgement, "index.size", "public.claim_pkey"),
        value(judgement, "table.toast", "public.part"),
        value(judgement, "server.size"),
        value(judgement, "wal.size"),
    ]
    assert seen == [float(size) for size in truth or ()]
    parts = [value(judgement, f"table.{name}", "public.part") for name in ("heap", "toast", "indexes")]
    assert sum(parts) == value(judgement, "table.size", "public.part") and min(parts) > 0
    assert value(judgement, "tables") == 5
    assert value(judgement, "database.indexes") > 0


def test_writes_since_the_last_run(bench: Bench, db: psycopg.Connection[Any]):
    """Rows written are counted between runs, per table and in all; a reset makes them begin anew, never negative."""
    name = "public.claim"
    counted(db)
    first = bench.run()
    later(bench, 7)
    db.execute("INSERT INTO claim (amount) SELECT 1 FROM generate_series(1, 500)")
    db.execute("UPDATE claim SET note = 'x' WHERE id <= 100")
    db.execute("DELETE FROM claim WHERE id > 2400")
    with contextlib.suppress(ZeroDivisionError), db.transaction():
        db.execute("INSERT INTO claim (amount) SELECT 1 FROM generate_series(1, 7)")
        raise ZeroDivisionError
    counted(db)
    judgement = bench.run()
    assert "table.inserts" not in {m.name for m in first.measurements}
    assert [value(judgement, f"table.{n}", name) for n in ("inserts", "updates", "deletes")] == [507, 100, 100]
    assert value(judgement, "database.inserts") >= 507
    assert 0 <= value(judgement, "table.hot_ratio", name) <= 1
    db.execute("SELECT pg_stat_reset_single_table_counters('claim'::regclass)")
    later(bench, 7)
    counted(db)
    judgement = bench.run()
    kept = {(m.name, m.subject) for m in judgement.measurements}
    assert ("table.inserts", name) not in kept and ("table.inserts", "public.payment") in kept
    assert all(m.value >= 0 for m in judgement.measurements if m.name.startswith(("table.", "database.")))


def counted(db: psycopg.Connection[Any]) -> None:
    """Let this session's counters reach the server: it sends them when it is idle, at most twice a second."""
    if db.info.server_version >= 150000:
        db.execute("SELECT pg_stat_force_next_flush()")
        db.execute("SELECT 1")
    else:
        time.sleep(0.6)
        db.execute("SELECT 1")
        time.sleep(0.2)


def test_a_locked_table_stops_nothing(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """Tables and indexes that others lock, or wait to lock, are estimated: we neither wait nor fail."""
    db.execute("VACUUM ANALYZE")
    exact = value(bench.run(), "table.size", "public.claim")
    with contextlib.closing(pg.connect("claims")) as holder, contextlib.closing(pg.connect("claims")) as waiter:
        for lock in ("LOCK claim IN ACCESS EXCLUSIVE MODE", "REINDEX INDEX claim_pkey"):
            holder.execute(f"BEGIN; LOCK payment IN ACCESS SHARE MODE; {lock}")
            begin(waiter, "BEGIN; LOCK payment IN ACCESS EXCLUSIVE MODE")
            until(lambda: waiting(db) == 1, "the wait")
            begun = time.monotonic()
            judgement = bench.run()
            assert time.monotonic() - begun < 1
            assert "size" not in checks(judgement) and bench.seen.round_trips == 1
            assert value(judgement, "table.size", "public.claim") == pytest.approx(exact, rel=0.3)
            assert value(judgement, "table.size", "public.payment") > 0
            holder.execute("ROLLBACK")
            while waiter.pgconn.get_result():
                pass
            waiter.execute("ROLLBACK")


def test_a_lock_that_comes_in_between_is_unknown(one: Any):
    """Who locks what the look at pg_locks cannot see (the catalogue itself) makes sizes unknown, after a second try."""
    pg, db, bench = one
    with contextlib.closing(pg.connect("claims")) as holder:
        holder.execute("BEGIN")
        holder.execute("LOCK pg_catalog.pg_inherits IN ACCESS EXCLUSIVE MODE")
        judgement = bench.run()
        assert bench.seen.round_trips == 2
        unknown = found(judgement, "size", "tables")
        assert waiting(db) == 0
    assert unknown.severity is Severity.UNKNOWN and "lock_timeout" in unknown.hint
    assert value(judgement, "database.size") > 0


@pytest.mark.parametrize(
    ("days", "severity"), [(300, None), (120, None), (60, Severity.WARNING), (10, Severity.CRITICAL)]
)
def test_the_date_decides(one: Any, days: int, severity: Severity | None):
    """90 % in 60 days is a warning, in 10 days critical; the message names the dates, the band and the growth."""
    _, _, bench = one
    per_day = 10_000.0
    own = value(past(bench, per_day), "server.size")
    wal = value(bench.run(), "wal.size")
    past(bench, per_day)
    bench.target = target(size=round((own + wal + per_day * days) / 0.9))
    judgement = bench.run(fill={"info": None, "warning": None, "critical": 90})
    assert [f.severity for f in judgement.findings if f.check == "projection"] == ([severity] if severity else [])
    if days < 180:
        likely = value(judgement, "projection.likely", "volume 90 %")
        assert likely == pytest.approx(days, abs=1)
        assert value(judgement, "projection.earliest", "volume 90 %") <= likely
    if severity:
        message = found(judgement, "projection", "volume").message
        assert f"90 % likely {bench.clock() + timedelta(days=likely):%Y-%m-%d}" in message
        assert "80 % confidence" in message and "9 points over 56 days" in message


def target(**volume: Any) -> PostgresTarget:
    return PostgresTarget(conn_id="db", id="claims/db", volume=volume)


def test_too_little_history_is_unknown(one: Any):
    """One finding says what is there and when a projection will be possible; runs of one day count once."""
    _, _, bench = one
    for _ in range(6):
        judgement = bench.run()
    unknown = found(judgement, "projection")
    assert troubles(judgement) == [unknown] and unknown.severity is Severity.UNKNOWN
    assert "1 points over 0 days, expected 5 over 21" in unknown.message
    assert f"after 4 more runs on other days and from {bench.clock() + timedelta(days=21):%Y-%m-%d} on" in unknown.hint
    assert found(bench.run(min_points=3, review=True), "projection").severity is Severity.UNKNOWN


def test_no_volume_is_unknown(one: Any, tmp_path: Path):
    """Nobody said how large it is, or this worker cannot see it: the hint is the YAML that cures it."""
    pg, _, bench = one
    past(bench, 1000)
    bench.target = PostgresTarget(conn_id="db", id="claims/db")
    unknown = found(bench.run(), "volume")
    assert unknown.severity is Severity.UNKNOWN and "`volume: {size: 500 GB}`" in unknown.hint
    bench.target = target(path=str(tmp_path / "gone"))
    assert "gone: No such file" in found(bench.run(), "volume").message
    bench.target = target(path=str(tmp_path))
    judgement = bench.run(fill={"info": 99.99, "warning": None, "critical": None})
    assert "volume" not in checks(judgement)
    disk = bench.seen.disk
    assert value(judgement, "space.used", "volume") == disk.total - disk.free
    assert "volume" not in checks(capacity(pg.dsn("claims")).run(limit_bytes="1 TB"))


def test_how_full_it_is(one: Any):
    """70 % is info, 80 % a warning, 90 % critical; the target's own thresholds go before, settings before those."""
    _, _, bench = one
    used = past(bench, 0)
    taken = value(used, "server.size") + value(used, "wal.size")

    def fill(percent: float, thresholds: dict[str, Any], **settings: Any) -> list[Severity]:
        volume = {"size": round(taken / percent * 100)}
        bench.target = PostgresTarget(conn_id="db", id="claims/db", volume=volume, thresholds=thresholds)
        return [f.severity for f in bench.run(**settings).findings]

    assert [fill(p, {}) for p in (65, 75, 85, 95)] == [[], [Severity.INFO], [Severity.WARNING], [Severity.CRITICAL]]
    assert fill(85, {"used_percent": {"critical": 84}}) == [Severity.CRITICAL]
    assert fill(85, {"used_percent": {"critical": 84}}, fill={"warning": 82}) == [Severity.WARNING]


def test_a_stated_limit_counts_for_this_database(one: Any):
    """`limit_bytes` bounds the database, whatever the volume has left."""
    _, _, bench = one
    size = value(past(bench, 50_000), "database.size")
    judgement = bench.run(limit_bytes=round(size / 0.85))
    assert found(judgement, "fill").subject == "limit"
    assert found(judgement, "projection").subject == "limit"
    assert "database claims grows by 48.8 kB a day" in found(judgement, "projection").message


def test_sudden_growth(one: Any):
    """A size far off its habit is a warning and names who grew; sudden shrinking is info; the trend stays."""
    _, db, bench = one
    few = {"step_bytes": 100_000, "step_percent": 5}
    past(bench, 1000)
    assert "growth" not in checks(bench.run(**few))
    later(bench, 7)
    db.execute("INSERT INTO claim (amount, note) SELECT g, repeat('n', 500) FROM generate_series(1, 9000) AS g")
    judgement = bench.run(**few)
    grew = found(judgement, "growth")
    assert grew.severity is Severity.WARNING
    assert "public.claim by" in grew.message and "%)" in grew.message
    assert value(judgement, "table.growth", "public.claim") > 4_000_000
    assert value(judgement, "growth.per_day", "database.size") == pytest.approx(1000, rel=0.5)
    later(bench, 7)
    assert "growth" not in checks(bench.run(**few))
    later(bench, 7)
    db.execute("TRUNCATE claim CASCADE")
    assert found(bench.run(**few), "growth").severity is Severity.INFO


def test_tables_that_come_and_go(one: Any):
    """A large table that is new, or gone, is told once; a followed table keeps its series when others outgrow it."""
    _, db, bench = one
    few = {"step_bytes": 100_000, "top": 1}
    bench.run(**few)
    later(bench, 7)
    db.execute("CREATE TABLE big AS SELECT repeat('x', 900) FROM generate_series(1, 3000); ANALYZE")
    judgement = bench.run(**few)
    assert "public.big is new" in found(judgement, "tables").message
    assert value(judgement, "table.growth", "public.claim") >= 0
    later(bench, 7)
    db.execute("DROP TABLE big")
    gone = found(bench.run(**few), "tables")
    assert "public.big" in gone.message and "is gone" in gone.message and gone.severity is Severity.INFO
    later(bench, 7)
    assert "tables" not in checks(bench.run(**few))


def test_updates_that_are_not_hot(one: Any):
    """Many updates of an indexed column are info with a way out; few, or HOT ones, are none."""
    _, db, bench = one
    bench.run()
    db.execute("UPDATE claim SET amount = amount + 1")
    counted(db)
    later(bench, 7)
    hot = found(bench.run(hot_updates=1000), "hot", "public.claim")
    assert hot.severity is Severity.INFO
    assert "0% of 2,000 updates" in hot.message and "ALTER TABLE public.claim SET (fillfactor = 90)" in hot.hint
    db.execute("VACUUM claim")
    for _ in range(10):
        db.execute("UPDATE claim SET note = 'y' WHERE id <= 200")
    counted(db)
    later(bench, 7)
    assert "hot" not in checks(bench.run(hot_updates=1000))
    later(bench, 7)
    assert "hot" not in checks(bench.run(hot_updates=1))


def test_the_review_recommends(one: Any):
    """A quarterly review says how much to provide by when, or that nothing is needed, with the band."""
    _, _, bench = one
    own = past(bench, 100_000)
    taken = value(own, "server.size") + value(own, "wal.size")
    bench.target = target(size=round(taken / 0.69))
    review = found(bench.run(review=True), "review", "volume")
    assert review.severity is Severity.INFO
    assert (
        "recommended: " in review.message and " more) by 20" in review.message and "80 % confidence" in review.message
    )
    bench.target = target(size=10 * 2**40)
    past(bench, 100_000)
    assert "recommended: leave it" in found(bench.run(review=True), "review").message


def test_what_a_role_may_not_see_is_unknown(one: Any):
    """Without pg_monitor the size of WAL and of closed databases is unknown; the hint cures it."""
    pg, db, bench = one
    pg.create_role("stranger")
    db.execute("GRANT CONNECT ON DATABASE claims TO stranger; REVOKE CONNECT ON DATABASE template1 FROM PUBLIC")
    bench.conninfo = pg.dsn("claims", "stranger")
    try:
        judgement = bench.run()
        unknown = found(judgement, "privilege")
        assert unknown.severity is Severity.UNKNOWN
        assert "the size of 1 databases" in unknown.message and "the size of WAL" in unknown.message
        assert "server.size" not in {m.name for m in judgement.measurements}
        db.execute(unknown.hint)
        assert "privilege" not in checks(bench.run())
    finally:
        db.execute("GRANT CONNECT ON DATABASE template1 TO PUBLIC; REVOKE pg_monitor FROM stranger")


def test_a_series_of_real_runs_is_read_back(one: Any, tmp_path: Path):
    """What runs write to the ledger, the next run projects: six weekly runs give dates, the first four none."""
    pg, db, bench = one
    pg.create_database("ledger")
    with contextlib.closing(psycopg.connect(pg.dsn("ledger"), autocommit=True, row_factory=psycopg.rows.dict_row)) as c:
        migrate(c)
    ledger = Ledger(lambda: pg.dsn("ledger"), Spool(tmp_path / "spool"))
    seen = []
    for week in range(6):
        key = ev.RoutineKey(
            dag_id="maintenance_weekly", run_id=f"w{week}", routine=bench.routine.name, target="claims/db", try_number=1
        )
        bench.history = Remembering(ledger, key)
        judgement = bench.run()
        seen.append("projection" in checks(judgement))
        ledger.write(*told(key, judgement, bench.clock()))
        db.execute("INSERT INTO claim (amount, note) SELECT g, repeat('n', 500) FROM generate_series(1, 300) AS g")
        later(bench, 7)
    ledger.close()
    assert seen == [True] * 4 + [False] * 2
    assert value(judgement, "growth.per_day", "database.size") > 10_000
    assert value(judgement, "table.growth", "public.claim") > 500_000
    assert value(judgement, "table.inserts", "public.claim") >= 0


class Remembering(LedgerHistory):
    """The ledger's own history; what a run measured is written by the test, as the lifecycle does it."""

    def keep(self, measurements: Any, at: Any = None) -> None: ...


def told(key: ev.RoutineKey, judgement: Judgement, at: datetime) -> list[ev.Event]:
    run = ev.RunKey(dag_id=key.dag_id, run_id=key.run_id)
    day = timedelta(days=1)
    return [
        ev.RunOpened(at=at, run=run, cadence="weekly", run_type="scheduled", window_start=at - 7 * day, window_end=at),
        ev.RoutineOpened(at=at, routine=key, system="claims", role="dba", title="Growth"),
        ev.Observed(
            at=at,
            routine=key,
            stage="judge",
            system="claims",
            measurements=judgement.measurements,
            findings=judgement.findings,
        ),
        ev.RoutineClosed(at=at, routine=key, state="success", severity=judgement.severity),
    ]


def test_limits_out_of_order_are_refused(one: Any):
    """A critical date farther away than the warning is a mistake."""
    with pytest.raises(ConfigurationError, match="critical_days 100 must not exceed warn_days 90"):
        one[2].run(critical_days=100)
