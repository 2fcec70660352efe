"""Settings review on real servers of every supported major: defaults are quiet, every trouble is found, and the
statements of hints and their undo do what they say."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from tests.integration.database_bench import (
    MAJORS,
    Bench,
    Kept,
    checks,
    database,
    found,
    fresh_server,
    until,
    value,
)
from upkeep.core.model import Finding, Judgement, Severity
from upkeep.core.routine import Routine
from upkeep.core.targets import PostgresTarget
from upkeep.routines.database._text import literal

# What initdb would have written: the lab's own settings differ. Only fsync stays off: it would make the tests slow.
DEFAULTS: dict[str, str | int] = {
    "autovacuum": "on", "log_lock_waits": "off", "shared_buffers": "128MB", "max_wal_size": "1GB",
    "max_connections": 100, "listen_addresses": "localhost",
}  # fmt: skip


@pytest.fixture(scope="module", params=MAJORS, ids=lambda major: f"pg{major}")
def pg(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A server of our own: others must not see what we set."""
    with fresh_server(request.param, **DEFAULTS) as started:
        yield started


@pytest.fixture
def db(pg: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with database(pg) as connection:
        yield connection


@pytest.fixture
def bench(pg: PostgresServer, db: psycopg.Connection[Any]) -> Bench:
    return review(pg.dsn("claims"))


def review(conninfo: str) -> Bench:
    """Return `database.settings_review` on a database."""
    routine = Routine.load("upkeep.routines.database.settings_review")
    return Bench(routine, PostgresTarget(conn_id="db", id="claims/db"), conninfo)


@contextlib.contextmanager
def system(db: psycopg.Connection[Any], **values: str) -> Iterator[None]:
    """Set something for the whole server, and take it back."""
    try:
        for name, wanted in values.items():
            db.execute(f"ALTER SYSTEM SET {name} = {literal(wanted)}")
        reload(db)
        yield
    finally:
        for name in values:
            db.execute(f"ALTER SYSTEM RESET {name}")
        reload(db)


def reload(db: psycopg.Connection[Any]) -> None:
    """Have the server read its files, and wait until it has."""
    before = one(db, "SELECT pg_conf_load_time()")
    db.execute("SELECT pg_reload_conf()")
    until(lambda: one(db, "SELECT pg_conf_load_time()") > before, "the server reloads")


def one(db: psycopg.Connection[Any], query: str) -> Any:
    row = db.execute(query.encode()).fetchone()
    return row[0] if row else None


def follow(db: psycopg.Connection[Any], finding: Finding) -> str:
    """Execute the statement of a hint as psql does, and return its undo."""
    do, undo = finding.hint.splitlines()[:2]
    execute(db, do)
    return undo.removeprefix("undo: ")


def execute(db: psycopg.Connection[Any], text: str) -> None:
    for statement in re.findall(r"""(?:"[^"]*"|'[^']*'|[^;])+""", text.partition(" -- ")[0]):
        if statement.strip():
            db.execute(statement.encode())


def loud(judgement: Judgement) -> list[Finding]:
    """Return what is worse than info, but for fsync, which is off here."""
    return [f for f in judgement.findings if f.severity.rank > Severity.INFO.rank and f.subject != "fsync"]


def test_defaults_are_quiet(bench: Bench, db: psycopg.Connection[Any]):
    """A fresh server gives no warning, and two infos: what its log does not tell, and sessions that may sleep."""
    for _ in range(2):
        with system(db, fsync="on"):
            judgement = bench.run(memory_gb=8)
        assert {(f.check, f.subject) for f in judgement.findings} == {
            ("logging", ""), ("setting", "idle_in_transaction_session_timeout"),
        }  # fmt: skip
        assert bench.seen.seen.round_trips == 1 and bench.seen.seen.failed == {}
    assert value(judgement, "autovacuum.rate") == pytest.approx(39.06, abs=0.01)
    assert value(judgement, "tables.own_autovacuum") == 0


DANGERS = {
    "autovacuum": "off", "track_counts": "off", "fsync": "off", "full_page_writes": "off", "zero_damaged_pages": "on",
    "ignore_checksum_failure": "on", "password_encryption": "md5",
}  # fmt: skip
ODD = {
    "synchronous_commit": "off", "track_activities": "off", "autovacuum_naptime": "1h", "random_page_cost": "0.5",
    "autovacuum_vacuum_scale_factor": "0.9", "autovacuum_analyze_scale_factor": "0.5",
    "vacuum_failsafe_age": "2000000000",
    "checkpoint_completion_target": "0.1", "enable_seqscan": "off", "autovacuum_vacuum_cost_delay": "50ms",
}  # fmt: skip


def test_every_danger_is_a_warning_and_every_oddity_an_info(bench: Bench, db: psycopg.Connection[Any]):
    """Each setting is one finding; its statement followed it is gone, its undo followed it is back."""
    with system(db, **DANGERS, **ODD):
        judgement = bench.run()
        warnings = {f.subject for f in judgement.findings if f.severity is Severity.WARNING}
        assert warnings == set(DANGERS)
        infos = {f.subject for f in judgement.findings if f.severity is Severity.INFO and f.check == "setting"}
        assert infos == {*ODD, "idle_in_transaction_session_timeout"}
        undo = [follow(db, f) for f in judgement.findings]
        reload(db)
        assert bench.run().findings == ()
        for text in undo:
            execute(db, text)
        reload(db)
        assert {f.key("t", "r") for f in bench.run().findings} == {f.key("t", "r") for f in judgement.findings}


def test_what_a_system_expects(bench: Bench, db: psycopg.Connection[Any]):
    """MO-B04: values differ, the statement sets them, the undo brings the default back; units and spelling are free."""
    expected = {
        "autovacuum": True, "autovacuum_vacuum_scale_factor": 0.1, "autovacuum_analyze_scale_factor": 0.05,
        "autovacuum_vacuum_threshold": 50, "autovacuum_analyze_threshold": "50", "work_mem": "0.00390625GB",
        "shared_buffers": "131072kB", "autovacuum_naptime": "60000ms", "TimeZone": "UTC",
    }  # fmt: skip
    judgement = bench.run(expected=expected)
    differing = {f.subject for f in loud(judgement) if f.severity is Severity.WARNING}
    assert differing == {"autovacuum_vacuum_scale_factor", "autovacuum_analyze_scale_factor"}
    # Our sessions have a time zone of their own, behind which the server's is not seen.
    assert found(judgement, "setting", "TimeZone").severity is Severity.UNKNOWN
    expected.pop("TimeZone")
    undo = [follow(db, f) for f in bench.run(expected=expected).findings if f.severity is Severity.WARNING]
    reload(db)
    assert loud(bench.run(expected=expected)) == []
    for text in undo:
        execute(db, text)
    reload(db)
    assert len(loud(bench.run(expected=expected))) == 2
    nothing = found(bench.run(expected={"no_such_setting": "1"}), "setting", "no_such_setting")
    assert nothing.severity is Severity.UNKNOWN and "no setting of this server" in nothing.message


def test_a_change_that_waits_for_a_restart(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """It is named with the value that waits; who may not read the files learns that it waits."""
    with system(db, max_connections="77"):
        until(lambda: one(db, "SELECT bool_or(pending_restart) FROM pg_settings"), "the change waits")
        waits = found(bench.run(), "pending_restart", "max_connections")
        assert waits.severity is Severity.WARNING
        assert waits.observed == "100" and "to become 77" in waits.message
        assert "file" not in checks(bench.run())
        pg.create_role("stranger")
        db.execute("GRANT CONNECT ON DATABASE claims TO stranger")
        blind = found(review(pg.dsn("claims", "stranger")).run(), "pending_restart", "max_connections")
        assert "only a superuser may read" in blind.message
    until(lambda: "pending_restart" not in checks(bench.run()), "the change is withdrawn")


def test_an_error_in_a_file(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """A value that the server cannot use is named with file and line."""
    conf = pg.pgdata / "lab.conf"
    before = conf.read_text()
    try:
        conf.write_text(before + "work_mem = 'much'\n")
        broken = found(bench.run(), "file", "work_mem")
        assert broken.severity is Severity.WARNING and f"lab.conf:{len(before.splitlines()) + 1}" in broken.message
    finally:
        conf.write_text(before)
    assert "file" not in checks(bench.run())


def test_tables_without_autovacuum(bench: Bench, db: psycopg.Connection[Any]):
    """Of a table, its TOAST, a materialized view, whatever they are called; the statement and its undo work."""
    name = '"Odd ""t""; drop table claim;--"'
    db.execute(f"CREATE TABLE {name} (note text) WITH (autovacuum_enabled = false, fillfactor = 70)")
    db.execute("ALTER TABLE claim SET (toast.autovacuum_enabled = off)")
    db.execute(
        "CREATE MATERIALIZED VIEW sums AS SELECT 1 AS a; ALTER MATERIALIZED VIEW sums SET (autovacuum_enabled = 0)"
    )
    db.execute("CREATE TABLE tight (a int) WITH (autovacuum_vacuum_threshold = 10, fillfactor = 70)")
    expected = {f"public.{name}", "public.claim (TOAST)", "public.sums"}
    judgement = bench.run()
    disabled = [f for f in judgement.findings if f.check == "autovacuum_disabled"]
    assert {f.subject for f in disabled} == expected and {f.severity for f in disabled} == {Severity.WARNING}
    assert value(judgement, "tables.autovacuum_off") == 3 and value(judgement, "tables.own_autovacuum") == 4
    assert "autovacuum_late" not in checks(judgement)
    undo = [follow(db, f) for f in disabled]
    assert loud(bench.run()) == []
    for text in undo:
        execute(db, text)
    assert {f.subject for f in loud(bench.run())} == expected
    assert "2 more of this kind" in found(bench.run(top=1), "autovacuum_disabled", "others").message


def test_tables_that_wait_long_for_vacuum(bench: Bench, db: psycopg.Connection[Any]):
    """A large table gathers a share of its rows before autovacuum comes; a factor of its own cures it."""
    db.execute("CREATE TABLE big AS SELECT g AS id FROM generate_series(1, 50000) AS g; ANALYZE big")
    db.execute("CREATE TABLE fixed WITH (autovacuum_vacuum_scale_factor = 0.01) AS SELECT * FROM big; ANALYZE fixed")
    late = found(bench.run(trigger_rows=5000), "autovacuum_late")
    assert late.subject == "public.big" and late.severity is Severity.INFO and "10,050 dead rows" in late.message
    undo = follow(db, late)
    assert "autovacuum_late" not in checks(bench.run(trigger_rows=5000))
    execute(db, undo)
    assert "autovacuum_late" in checks(bench.run(trigger_rows=5000))
    if db.info.server_version >= 180000:
        with system(db, autovacuum_vacuum_max_threshold="1000"):
            assert "autovacuum_late" not in checks(bench.run(trigger_rows=5000))
        db.execute("ALTER TABLE big SET (autovacuum_vacuum_max_threshold = 2000)")
        assert "autovacuum_late" not in checks(bench.run(trigger_rows=5000))


def test_what_roles_and_databases_override(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """Only what matters, only what holds in this database; the undo brings it back."""
    pg.create_role("writer")
    with database(pg, "other"):
        db.execute("ALTER ROLE writer SET session_replication_role = 'replica'; ALTER ROLE writer SET work_mem = '1GB'")
        db.execute("ALTER ROLE writer IN DATABASE other SET synchronous_commit = off")
        db.execute("ALTER ROLE writer IN DATABASE claims SET default_transaction_read_only = on")
        db.execute("ALTER DATABASE claims SET synchronous_commit = off; ALTER ROLE writer SET statement_timeout = 0")
        try:
            judgement = bench.run()
            overrides = {f.subject: f.severity for f in judgement.findings if f.check == "override"}
            assert overrides == {
                "writer in every database: session_replication_role": Severity.WARNING,
                "writer in claims: default_transaction_read_only": Severity.INFO,
                "every role in claims: synchronous_commit": Severity.INFO,
            }
            undo = [follow(db, f) for f in judgement.findings if f.check == "override"]
            assert "override" not in checks(bench.run())
            for text in undo:
                execute(db, text)
            assert {f.subject for f in bench.run().findings if f.check == "override"} == set(overrides)
        finally:
            db.execute("ALTER ROLE writer RESET ALL; ALTER ROLE writer IN DATABASE claims RESET ALL")


def test_what_our_own_role_has_is_not_the_servers(pg: PostgresServer, db: psycopg.Connection[Any]):
    """A value of our role hides the server's: unknown, with the statement that uncovers it. Hidden settings too."""
    pg.create_role("keeper")
    db.execute("GRANT CONNECT ON DATABASE claims TO keeper; ALTER ROLE keeper SET work_mem = '1MB'")
    bench = review(pg.dsn("claims", "keeper"))
    hidden = found(bench.run(memory_gb=64), "setting", "work_mem")
    assert hidden.severity is Severity.UNKNOWN
    assert loud(bench.run()) == []
    execute(db, hidden.hint)
    assert loud(bench.run(memory_gb=64)) == []
    secret = found(bench.run(expected={"shared_preload_libraries": "pg_stat_statements"}), "setting",
                   "shared_preload_libraries")  # fmt: skip
    assert secret.severity is Severity.UNKNOWN
    execute(db, secret.hint)
    assert loud(bench.run(expected={"shared_preload_libraries": "pg_stat_statements"})) == []


def test_memory_and_size(bench: Bench, db: psycopg.Connection[Any]):
    """Judged against the memory that is stated, and against the database; without it nothing is guessed."""
    sized = {"shared_buffers", "effective_cache_size", "work_mem", "autovacuum_work_mem"}
    assert not sized & {f.subject for f in bench.run().findings}
    small = {f.subject: f for f in bench.run(memory_gb=0.2).findings}
    assert sized <= set(small) and small["work_mem"].limit == "1MB"
    grown = bench.run(small_buffers_bytes=1000, memory_gb=64, tables_per_worker=20)
    assert found(grown, "setting", "shared_buffers").limit == "16384MB"
    assert "tables wait for their turn" in found(grown, "setting", "autovacuum_max_workers").message
    if db.info.server_version >= 180000:
        with system(db, autovacuum_max_workers="50"):
            assert found(bench.run(), "setting", "autovacuum_max_workers").severity is Severity.WARNING


def test_checkpoints_that_were_asked_for(bench: Bench, db: psycopg.Connection[Any]):
    """Counted between two runs; the first run, and one after a reset, say nothing."""
    assert "checkpoints" not in checks(bench.run())
    for _ in range(5):
        db.execute("CHECKPOINT")
    if db.info.server_version >= 150000:
        db.execute("SELECT pg_stat_force_next_flush()")
    before = bench.history.kept.copy()
    asked = {"checkpoints_least": 5, "checkpoints_asked": {"info": 90}}

    def told() -> bool:
        bench.history.kept = before.copy()
        return "checkpoints" in checks(bench.run(**asked))

    until(told, "the checkpoints are counted")
    bench.history.kept = before.copy()
    assert "checkpoints" not in checks(bench.run(checkpoints_least=1000))
    # A reset after the last run: the counters are of another time.
    long_ago = datetime.now(UTC) - timedelta(days=9999)
    bench.history.kept = {key: Kept(long_ago, kept.value) for key, kept in before.items()}
    assert "checkpoints" not in checks(bench.run(**asked))
