"""Index review on real servers of every supported major: healthy is silent, every trouble is found, and its statements
do what they say."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from lab.process import scratch_folder
from tests.integration.database_bench import (
    MAJORS,
    SETTINGS,
    Bench,
    Kept,
    begin,
    checks,
    database,
    found,
    fresh_server,
    server,
    troubles,
    until,
    value,
    waiting,
)
from upkeep.adapters import postgres
from upkeep.core.model import Finding, Judgement, Severity
from upkeep.core.routine import Routine
from upkeep.core.targets import PostgresTarget

ALL = {"unused_days": 0, "unused_min_bytes": 0}
# What no version does otherwise is tried on the oldest and the newest.
ENDS = pytest.mark.parametrize("pg", [MAJORS[0], MAJORS[-1]], indirect=True, ids=lambda major: f"pg{major}")
HOSTILE = 'i ON ONLY "x"; drop table y;--'


@pytest.fixture(scope="module", params=MAJORS, ids=lambda major: f"pg{major}")
def pg(request: pytest.FixtureRequest) -> PostgresServer:
    return server(request.param)


@pytest.fixture
def db(pg: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with database(pg) as connection:
        yield connection


@pytest.fixture
def bench(pg: PostgresServer, db: psycopg.Connection[Any]) -> Bench:
    return review(pg.dsn("claims"))


@pytest.fixture
def tablespace(pg: PostgresServer) -> Iterator[None]:
    """A tablespace `apart`. It is made before the database and dropped after it."""
    folder = pg.data_dir / "apart"
    folder.mkdir(exist_ok=True)
    owner = pg.pgdata.stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    with pg.connect() as connection:
        connection.execute(f"CREATE TABLESPACE apart LOCATION '{folder}'")
    yield
    with pg.connect() as connection:
        connection.execute("DROP TABLESPACE apart")


def review(conninfo: str) -> Bench:
    """Return `database.index_review` on a database."""
    routine = Routine.load("upkeep.routines.database.index_review")
    return Bench(routine, PostgresTarget(conn_id="db", id="claims/db"), conninfo)


def subjects(judgement: Judgement, check: str) -> set[str]:
    """Return what a check found something about."""
    return {f.subject for f in judgement.findings if f.check == check}


def statements(finding: Finding) -> tuple[str, str]:
    """Return the statement of a hint and its undo."""
    lines = finding.hint.splitlines()
    undo = next(line.removeprefix("undo: ") for line in lines if line.startswith("undo: "))
    return lines[0].split(" -- ")[0], undo


def execute(db: psycopg.Connection[Any], text: str) -> None:
    """Execute what a hint says, statement by statement, as psql does."""
    for statement in text.split(";"):
        if statement.strip():
            db.execute(statement.encode())


def definitions(db: psycopg.Connection[Any]) -> set[tuple[Any, ...]]:
    """Return everything that tells indexes apart."""
    return set(
        db.execute(
            "SELECT c.oid::regclass::text, pg_get_indexdef(c.oid), i.indisvalid, i.indisclustered, t.spcname,"
            " obj_description(c.oid), (SELECT string_agg(a.attnum || '=' || a.attstattarget, ',') FROM pg_attribute a"
            " WHERE a.attrelid = c.oid AND a.attstattarget >= 0)"
            " FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid"
            " LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace"
            " WHERE c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace)"
        ).fetchall()
    )


def test_a_healthy_database_is_silent(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """After pgbench and vacuum two reviews find nothing at all, in five round trips at most."""
    where = ["-h", "127.0.0.1", "-p", str(pg.port), "-U", "postgres"]
    for args in (["-i", "-q"], ["-t", "50"]):
        command = [str(pg.bin / "pgbench"), *where, *args, "claims"]
        subprocess.run(command, check=True, capture_output=True, env={"PGPASSWORD": pg.password()})
    db.execute("VACUUM ANALYZE")
    for _ in range(2):
        judgement = bench.run()
        assert judgement.findings == ()
        assert bench.seen.round_trips <= 5
        assert bench.seen.seen.failed == {}
    assert value(judgement, "index.all") == 6
    assert value(judgement, "index.all_bytes") > 2_000_000
    assert value(judgement, "index.duplicate") == value(judgement, "index.invalid") == 0


def test_an_index_being_built_is_not_invalid_and_a_cancelled_one_is(
    pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]
):
    """Only what nobody works on is a leftover. Dropped it is gone; the undo makes it, valid this time."""
    with building(pg, db, "CREATE UNIQUE INDEX CONCURRENTLY late ON claim (note, id)", writer=True) as builder:
        assert "invalid" not in checks(bench.run())
        builder.cancel()
    leftover = found(bench.run(), "invalid", "public.late")
    assert leftover.severity is Severity.WARNING
    assert "CREATE INDEX CONCURRENTLY did not finish" in leftover.message
    drop, undo = statements(leftover)
    execute(db, drop)
    assert "invalid" not in checks(bench.run())
    execute(db, undo)
    assert "invalid" not in checks(bench.run())
    assert "late" in {name for name, _, valid, *_ in definitions(db) if valid}


@contextlib.contextmanager
def building(
    pg: PostgresServer, db: psycopg.Connection[Any], statement: str, *, writer: bool
) -> Iterator[psycopg.Connection[Any]]:
    """Give a session that builds an index and cannot finish, because another one uses the table."""
    with contextlib.closing(pg.connect("claims")) as holder, contextlib.closing(pg.connect("claims")) as builder:
        holder.execute("BEGIN")
        holder.execute("UPDATE claim SET note = note WHERE id = 1" if writer else "SELECT 1 FROM claim WHERE id = 1")
        begin(builder, statement)
        until(lambda: waiting(db), "the build waits")
        yield builder
        until(lambda: not waiting(db), "the build has ended")
        holder.execute("ROLLBACK")


def test_leftovers_of_reindex(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """A rebuild that is cut short leaves invalid copies, new or old, of TOAST's index too; nobody needs them."""
    toast = db.execute("SELECT 'pg_toast.pg_toast_' || 'claim'::regclass::oid || '_index'").fetchone()
    originals = ("public.claim_pkey", "public.claim_amount_idx", str(toast and toast[0]))
    before = definitions(db)
    for writer, suffix, reason in ((True, "ccnew", "did not finish"), (False, "ccold", "had replaced it")):
        with building(pg, db, "REINDEX TABLE CONCURRENTLY claim", writer=writer) as builder:
            assert "invalid" not in checks(bench.run())
            builder.cancel()
        judgement = bench.run()
        assert subjects(judgement, "invalid") == {f"{name}_{suffix}" for name in originals}
        for leftover in (f for f in judgement.findings if f.check == "invalid"):
            assert reason in leftover.message and "none is needed" in leftover.hint
            execute(db, statements(leftover)[0])
        assert definitions(db) == before
        assert "invalid" not in checks(bench.run())


@ENDS
def test_an_invalid_index_behind_a_constraint_is_rebuilt(bench: Bench, db: psycopg.Connection[Any]):
    """What a constraint needs cannot be dropped, so it is rebuilt; the catalogue is changed by hand to get there."""
    db.execute("SET allow_system_table_mods = on")
    db.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'claim_pkey'::regclass")
    broken = found(bench.run(), "invalid", "public.claim_pkey")
    execute(db, statements(broken)[0])
    assert "invalid" not in checks(bench.run())


@ENDS
def test_a_partitioned_index_that_waits_for_its_parts_is_info(bench: Bench, db: psycopg.Connection[Any]):
    """It is invalid by design until every partition has its part."""
    db.execute(PARTITIONED)
    db.execute("CREATE INDEX whole ON ONLY event (kind)")
    db.execute("CREATE INDEX part_1 ON event_1 (kind)")
    db.execute("ALTER INDEX whole ATTACH PARTITION part_1")
    waits = found(bench.run(), "invalid", "public.whole")
    assert waits.severity is Severity.INFO
    assert "1 of 2 partitions" in waits.message
    assert value(bench.run(), "index.invalid") == 0


PARTITIONED = """
CREATE TABLE event (id int, kind int) PARTITION BY RANGE (id);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (1) TO (1000);
CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM (1000) TO (2000);
INSERT INTO event SELECT g, g FROM generate_series(1, 1999) AS g;
"""

OVERLAPS = """
CREATE TABLE t (a int, b int, c text, d text COLLATE "C", e int NOT NULL);
ALTER TABLE t ADD CONSTRAINT t_e_key UNIQUE (e);
CREATE UNIQUE INDEX e_unique ON t (e);
CREATE INDEX e_plain ON t (e);
CREATE INDEX ab ON t (a, b);
CREATE INDEX ab_twin ON t (a, b);
CREATE INDEX a ON t (a);
CREATE INDEX ba ON t (b, a);
CREATE INDEX ab_desc ON t (a, b DESC);
CREATE INDEX a_partial ON t (a) WHERE b > 0;
CREATE INDEX a_partial_twin ON t (a) WHERE (b > 0);
CREATE INDEX a_hash ON t USING hash (a);
CREATE INDEX lower_c ON t (lower(c));
CREATE INDEX lower_c_twin ON t (lower( c ));
CREATE INDEX c_pattern ON t (c text_pattern_ops);
CREATE INDEX c_plain ON t (c);
CREATE INDEX c_collated ON t (c COLLATE "C");
CREATE INDEX b_wide ON t (b) INCLUDE (c);
CREATE INDEX b_wider ON t (b) INCLUDE (c, d);
CREATE INDEX brin_a ON t USING brin (a);
CREATE INDEX brin_ab ON t USING brin (a, b);
CREATE UNIQUE INDEX d_unique ON t (d);
CREATE INDEX d_wide ON t (d, e);
"""


def test_duplicate_and_redundant(bench: Bench, db: psycopg.Connection[Any]):
    """Same table, method, columns, classes, collations, order, expressions and predicate, or it is another index; what
    a constraint or uniqueness needs is kept."""
    db.execute(OVERLAPS)
    judgement = bench.run()
    assert subjects(judgement, "duplicate") == {
        "public.ab_twin", "public.a_partial_twin", "public.lower_c_twin", "public.e_unique", "public.e_plain",
    }  # fmt: skip
    assert subjects(judgement, "redundant") == {"public.a", "public.b_wide"}
    assert "public.t_e_key" in found(judgement, "duplicate", "public.e_unique").message
    assert found(judgement, "duplicate", "public.ab_twin").severity is Severity.WARNING
    assert found(judgement, "redundant", "public.a").severity is Severity.INFO
    loud = bench.run(needless_bytes={"info": None, "warning": 0})
    assert found(loud, "redundant", "public.a").severity is Severity.WARNING
    assert value(judgement, "index.duplicate") == 5 and value(judgement, "index.redundant") == 2


@ENDS
def test_the_more_used_twin_is_kept(bench: Bench, db: psycopg.Connection[Any]):
    """Nothing tells twins apart but which one is scanned."""
    db.execute("CREATE INDEX twin ON claim (amount)")
    scan(db, "SELECT amount FROM claim ORDER BY amount LIMIT 1", forget="claim_amount_idx")
    until(lambda: subjects(bench.run(), "duplicate") == {"public.claim_amount_idx"}, "the scan is counted")


def scan(db: psycopg.Connection[Any], query: str, forget: str = "") -> None:
    """Run a query by an index; `forget` names one that the planner is not to take."""
    db.execute("BEGIN")
    db.execute("SET LOCAL enable_seqscan = off")
    if forget:
        db.execute(f"DROP INDEX {forget}")
    db.execute(query)
    if forget:
        # Counters are not rolled back; an index that is dropped for a moment is.
        db.execute("SAVEPOINT s")
    db.execute("ROLLBACK" if forget else "COMMIT")
    flush(db)


def flush(db: psycopg.Connection[Any]) -> None:
    """Make this session's counts visible to others; 14 sends them with a command half a second after the last time."""
    if db.info.server_version >= 150000:
        db.execute("SELECT pg_stat_force_next_flush()")
    else:
        time.sleep(0.6)
        db.execute("SELECT 1")


def test_nulls_that_are_not_distinct_make_another_index(bench: Bench, db: psycopg.Connection[Any]):
    """From 15 on two unique indexes may differ only in whether two nulls are alike: both are needed."""
    db.execute("CREATE TABLE t (a int); CREATE UNIQUE INDEX one ON t (a)")
    nulls = "NULLS NOT DISTINCT" if db.info.server_version >= 150000 else ""
    db.execute(f"CREATE UNIQUE INDEX other ON t (a) {nulls}")
    assert subjects(bench.run(), "duplicate") == (set() if nulls else {"public.other"})


def test_statements_and_undo_restore_everything(tablespace: None, pg: PostgresServer):
    """Every drop that is proposed, executed and taken back, leaves definitions, validity, tablespace, comment, CLUSTER
    mark and statistics targets as they were, whatever the names are."""
    with database(pg) as db:
        restored(review(pg.dsn("claims")), db)


def restored(bench: Bench, db: psycopg.Connection[Any]) -> None:
    index, table = ('"' + name.replace('"', '""') + '"' for name in (HOSTILE, 'T" ON ONLY y'))
    db.execute(f"CREATE SCHEMA {index}; CREATE TABLE {index}.{table} ({table} text, b int)")
    db.execute(f"CREATE INDEX {index} ON {index}.{table} (lower({table}), b DESC) WITH (fillfactor = 70) WHERE b > 0")
    db.execute(f"ALTER INDEX {index}.{index} ALTER COLUMN 1 SET STATISTICS 500")
    db.execute(f"COMMENT ON INDEX {index}.{index} IS 'it''s \\ here'")
    db.execute("CREATE INDEX twin ON claim (amount) INCLUDE (note); CREATE INDEX narrow ON claim (amount, note)")
    db.execute("ALTER TABLE claim CLUSTER ON claim_amount_idx")
    db.execute("CREATE INDEX elsewhere ON claim (note) TABLESPACE apart WHERE id > 5")
    db.execute(PARTITIONED + "CREATE INDEX event_kind ON event (kind)")
    before = definitions(db)
    proposed = [f for f in bench.run(**ALL, top=50).findings if f.check in ("unused", "duplicate", "redundant")]
    assert len(proposed) == 6
    for finding in proposed:
        drop, undo = statements(finding)
        db.execute(drop.encode())
        assert len(definitions(db)) < len(before)
        # A name may hold a semicolon; no statement begins in the middle of one here.
        for statement in re.split(r"; (?=[A-Z])", undo):
            db.execute(statement.encode())
    assert definitions(db) == before


SERVING = """
CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, n int NOT NULL, claim_id int REFERENCES claim, r int4range, x int);
CREATE UNIQUE INDEX t_unique ON t (x);
CREATE UNIQUE INDEX t_identity ON t (n);
ALTER TABLE t REPLICA IDENTITY USING INDEX t_identity;
CREATE INDEX t_foreign_key ON t (claim_id, x);
ALTER TABLE t ADD CONSTRAINT t_exclusion EXCLUDE USING gist (r WITH &&);
CREATE INDEX t_nulls ON t (claim_id) WHERE claim_id IS NOT NULL;
CREATE INDEX t_part ON t (claim_id, n) WHERE n > 0;
CREATE INDEX t_idle ON t (x, n);
"""


def test_unused(bench: Bench, db: psycopg.Connection[Any]):
    """Never scanned is only needless when it serves nothing else; partitions count as one."""
    db.execute(SERVING)
    db.execute(PARTITIONED + "CREATE INDEX event_kind ON event (kind); CREATE INDEX event_used ON event (id)")
    db.execute("INSERT INTO t SELECT g, g, g, g, NULL, g FROM generate_series(1, 100) g; ANALYZE")
    scan(db, "SELECT * FROM event_2 WHERE id = 1500")
    # A foreign key's rows cannot be found in a part of them.
    expected = {"public.t_idle", "public.t_part", "public.event_kind", "public.claim_amount_idx"}
    until(lambda: subjects(bench.run(**ALL), "unused") == expected, "the scan is counted")
    judgement = bench.run(**ALL)
    assert {f.severity for f in judgement.findings if f.check == "unused"} == {Severity.INFO}
    loud = bench.run(**ALL, needless_bytes={"warning": 1000})
    assert found(loud, "unused", "public.t_idle").severity is Severity.WARNING
    assert statements(found(loud, "unused", "public.event_kind"))[0] == 'DROP INDEX "public"."event_kind";'
    small = bench.run(unused_days=0, unused_min_bytes=1_000_000)
    assert "unused" not in checks(small)


@ENDS
def test_an_index_that_was_used_long_ago(bench: Bench, db: psycopg.Connection[Any]):
    """From 16 on the server knows when an index was last scanned, and that proves disuse at once; before it, a scan at
    any time since the statistics began keeps the index."""
    scan(db, "SELECT amount FROM claim ORDER BY amount LIMIT 1")
    until(lambda: not subjects(bench.run(**ALL), "unused"), "the scan is counted")
    old = {"unused_days": 1e-6, "unused_min_bytes": 0}
    time.sleep(0.1)
    judgement = bench.run(**old)
    if db.info.server_version >= 160000:
        assert "was last scanned" in found(judgement, "unused", "public.claim_amount_idx").message
        assert "unused" not in checks(bench.run(unused_days=1, unused_min_bytes=0))
    else:
        assert "unused" not in checks(judgement)


@ENDS
def test_young_statistics_prove_nothing(bench: Bench, db: psycopg.Connection[Any]):
    """Statistics younger than the period give one info that says so, and no statement to execute."""
    db.execute("CREATE INDEX idle ON claim (note)")
    judgement = bench.run(unused_min_bytes=0)
    early = found(judgement, "unused", "too early")
    assert early.severity is Severity.INFO
    assert "public.idle" in early.message and "DROP" not in early.hint
    assert troubles(judgement) == []


@ENDS
def test_the_ledger_proves_disuse_across_resets(bench: Bench, db: psycopg.Connection[Any]):
    """Days that some run has seen without a scan are kept; an index made anew, or one that dropped out of sight,
    begins again."""
    bench.run(unused_min_bytes=0)
    name, week = "public.claim_amount_idx", datetime.now(UTC) - timedelta(days=7)
    kept, xid = bench.history.kept, ("index.xid", "")

    def remember(days: float, at: datetime = week) -> None:
        kept[("index.unused_days", name)] = Kept(at, days)
        kept[xid] = Kept(week, value(bench.run(unused_min_bytes=0), "index.xid"))
        kept[("index.unused_days", name)] = Kept(at, days)

    remember(40)
    assert "40 days in which it was watched" in found(bench.run(unused_min_bytes=0), "unused", name).message
    remember(20)
    assert name not in subjects(bench.run(unused_min_bytes=0), "unused")
    remember(40, at=week - timedelta(days=30))
    assert name not in subjects(bench.run(unused_min_bytes=0), "unused")
    remember(40)
    db.execute("DROP INDEX claim_amount_idx; CREATE INDEX ON claim (amount)")
    assert name not in subjects(bench.run(unused_min_bytes=0), "unused")


@pytest.mark.parametrize("major", [MAJORS[0], MAJORS[-1]])
def test_a_crash_begins_the_statistics_anew(major: int):
    """A crash empties all counters, and from 15 on the database's own line does not say so."""
    with fresh_server(major) as pg, database(pg):
        bench = review(pg.dsn("claims"))
        bench.run()
        before = bench.seen.seen.row("index_server")
        os.kill(int((pg.pgdata / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        pg.stop()
        pg.start()
        bench.run()
        assert before["since"] < before["now"] < bench.seen.seen.row("index_server")["since"]


@ENDS
def test_an_index_nobody_needs_is_no_reason_to_drop_another(bench: Bench, db: psycopg.Connection[Any]):
    """Of a used index and an unused wider one only the wider may go."""
    db.execute("CREATE INDEX wider ON claim (amount, note)")
    assert subjects(bench.run(), "redundant") == {"public.claim_amount_idx"}
    scan(db, "SELECT amount FROM claim ORDER BY amount LIMIT 1", forget="wider")
    until(lambda: subjects(bench.run(**ALL), "unused") == {"public.wider"}, "the scan is counted")
    assert "redundant" not in checks(bench.run(**ALL))


@ENDS
def test_counting_switched_off_is_unknown(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """Zeros that nobody counted are no proof."""
    db.execute("ALTER DATABASE claims SET track_counts = off")
    judgement = bench.run(**ALL)
    assert found(judgement, "unused", "track_counts").severity is Severity.UNKNOWN
    assert subjects(judgement, "unused") == {"track_counts"}


class Standby(PostgresServer):
    """A copy of a server that follows it and answers queries."""

    def __init__(self, primary: PostgresServer, data_dir: Path) -> None:
        super().__init__(primary.major, data_dir, settings=SETTINGS)
        self.primary = primary

    def prepare(self) -> None:
        """Copy the primary's files, with what is needed to follow it."""
        options = self.spawn_options()
        env = options.pop("env") | {"PGPASSWORD": self.primary.password()}
        folder = self.data_dir / "copy"
        folder.mkdir(mode=0o700)
        os.chown(folder, self.primary.pgdata.stat().st_uid, self.primary.pgdata.stat().st_gid)
        command = [str(self.bin / "pg_basebackup"), "-h", "127.0.0.1", "-p", str(self.primary.port), "-U", "postgres"]
        subprocess.run([*command, "-D", str(folder), "-R", "-c", "fast", "--no-sync"], check=True, env=env, **options)
        folder.rename(self.pgdata)
        self._remember("postgres", self.primary.password())
        super().prepare()

    def spawn_options(self) -> dict[str, Any]:
        """Return the lab's options with the way to libpq, which the wheel's module that receives WAL does not know."""
        options = super().spawn_options()
        return {**options, "env": options["env"] | {"LD_LIBRARY_PATH": str(self.bin.parent / "lib")}}

    def check_ready(self) -> None:
        """Pass when the standby takes connections."""
        self.connect(connect_timeout=2).close()


def test_standbys_are_asked():
    """An index that only a standby scans is used; while one was not asked nothing is proposed."""
    pg = server(MAJORS[-1])
    with scratch_folder() as folder, database(pg) as db, Standby(pg, folder) as standby:
        with database(server(MAJORS[0])):
            places = {
                "db": pg.dsn("claims"),
                "standby": standby.dsn("claims"),
                "other": server(MAJORS[0]).dsn("claims"),
            }
            places["gone"] = places["standby"].replace(f":{standby.port}/", ":1/")
            bench = review(pg.dsn("claims"))
            bench.open_postgres = postgres.opener(places.__getitem__)
            judge_standbys(pg, standby, db, bench)
        bench.target = PostgresTarget(conn_id="standby", id="claims/db")
        db.execute("CREATE INDEX idle ON claim (note)")
        until(lambda: "unused" in checks(bench.run(**ALL)), "the index arrives")
        judgement = bench.run(**ALL)
        assert "this is a standby" in found(judgement, "unused", "undecided").message
        assert bench.seen.seen.failed == {}


def judge_standbys(pg: PostgresServer, standby: PostgresServer, db: psycopg.Connection[Any], bench: Bench) -> None:
    name = "public.claim_amount_idx"
    until(lambda: db.execute("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'").fetchone(), "streaming")
    alone = found(bench.run(**ALL), "unused")
    assert alone.subject == "undecided" and alone.severity is Severity.INFO
    assert name in alone.message and "DROP" not in alone.hint and "1 standbys are connected" in alone.message
    asked = bench.run(**ALL, replica_conn_ids=["standby"])
    assert "DROP INDEX" in found(asked, "unused", name).hint
    for wrong, words in (("db", "asked already"), ("other", "no copy")):
        judgement = bench.run(**ALL, replica_conn_ids=["standby", wrong])
        trouble = found(judgement, "replica", wrong)
        assert trouble.severity is Severity.UNKNOWN and words in trouble.message
        assert subjects(judgement, "unused") == {"undecided"}
    with contextlib.closing(standby.connect("claims")) as reader:
        scan(reader, "SELECT amount FROM claim ORDER BY amount LIMIT 1")
    until(lambda: not subjects(bench.run(**ALL, replica_conn_ids=["standby"]), "unused"), "the scan is counted")
    gone = bench.run(**ALL, replica_conn_ids=["gone"])
    assert found(gone, "replica", "gone").severity is Severity.UNKNOWN
    assert subjects(gone, "unused") == {"undecided"}


def test_foreign_key_without_index(bench: Bench, db: psycopg.Connection[Any]):
    """Info while nobody deletes what is referred to, then a warning, then cured by the statement of the hint."""
    db.execute("VACUUM ANALYZE")
    low = {"info": 0, "warning": 1}
    assert "foreign_key" not in checks(bench.run())
    missing = found(bench.run(foreign_key_bytes=low), "foreign_key", "public.payment.payment_claim_id_fkey")
    assert missing.severity is Severity.INFO
    db.execute("DELETE FROM payment WHERE claim_id = 7; DELETE FROM claim WHERE id = 7")
    flush(db)
    until(
        lambda: Severity.WARNING in {f.severity for f in bench.run(foreign_key_bytes=low).findings}, "the delete counts"
    )
    create, undo = statements(missing)
    execute(db, create)
    assert "foreign_key" not in checks(bench.run(foreign_key_bytes=low))
    execute(db, undo)
    db.execute("CREATE INDEX partial ON payment (claim_id) WHERE claim_id > 5")
    assert "foreign_key" in checks(bench.run(foreign_key_bytes=low))
    db.execute("CREATE INDEX not_null ON payment (claim_id) WHERE claim_id IS NOT NULL")
    assert "foreign_key" not in checks(bench.run(foreign_key_bytes=low))


@ENDS
def test_foreign_keys_of_partitioned_tables_and_odd_names(bench: Bench, db: psycopg.Connection[Any]):
    """A partitioned table's key is one finding; columns may stand in any order at the beginning of an index."""
    db.execute(
        "CREATE TABLE one (a int, b int, PRIMARY KEY (a, b)); INSERT INTO one VALUES (1, 1);"
        'CREATE TABLE "Many; --" ("X""y" int, "b" int, id int, FOREIGN KEY ("X""y", b) REFERENCES one)'
        " PARTITION BY RANGE (id);"
        'CREATE TABLE part_1 PARTITION OF "Many; --" FOR VALUES FROM (1) TO (2);'
        'CREATE TABLE part_2 PARTITION OF "Many; --" FOR VALUES FROM (2) TO (3);'
        'INSERT INTO "Many; --" VALUES (1, 1, 1), (1, 1, 2); DROP TABLE payment;'
    )
    db.execute("VACUUM ANALYZE")
    missing = found(bench.run(foreign_key_bytes={"info": 0}), "foreign_key")
    create, undo = (text.split(" -- ")[0].rstrip(";") for text in statements(missing))
    db.execute(create.encode())
    assert "foreign_key" not in checks(bench.run(foreign_key_bytes={"info": 0}))
    db.execute(undo.encode())
    db.execute('CREATE INDEX reverse ON "Many; --" (b, "X""y", id)')
    assert "foreign_key" not in checks(bench.run(foreign_key_bytes={"info": 0}))


@ENDS
def test_sequential_scans_are_judged_by_growth(bench: Bench, db: psycopg.Connection[Any]):
    """The first run says nothing whatever the counters are; the second one counts what came since."""
    rows = {"seq_scan_rows": 1000}
    db.execute("VACUUM ANALYZE")
    read_all(db, 30)
    until(lambda: counted(db) >= 30, "the scans are counted")
    assert "sequential_scans" not in checks(bench.run(**rows))
    assert "sequential_scans" not in checks(bench.run(**rows))
    read_all(db, 30)
    until(lambda: counted(db) >= 60, "the scans are counted")
    late = found(bench.run(**rows), "sequential_scans", "public.claim")
    assert late.severity is Severity.INFO and "30 times" in late.message
    read_all(db, 120)
    until(lambda: counted(db) >= 180, "the scans are counted")
    assert found(bench.run(**rows), "sequential_scans", "public.claim").severity is Severity.WARNING


def read_all(db: psycopg.Connection[Any], times: int) -> None:
    for _ in range(times):
        db.execute("SELECT count(*) FROM claim WHERE note = ''")
    flush(db)


def counted(db: psycopg.Connection[Any]) -> int:
    row = db.execute("SELECT pg_stat_get_numscans('claim'::regclass)").fetchone()
    return int(row[0]) if row else 0


@ENDS
def test_a_locked_table_is_named_and_holds_nobody_up(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """What is locked is unknown; the rest is reviewed."""
    db.execute("CREATE INDEX twin ON claim (amount); CREATE TABLE free (a int)")
    db.execute(
        "CREATE INDEX one ON free ((a + 1)); CREATE INDEX two ON free ((a + 1)); CREATE INDEX x ON claim ((id + 1))"
    )
    db.execute("CREATE TABLE kid (a int REFERENCES claim, b int); CREATE INDEX part ON kid (a) WHERE b > 0")
    with contextlib.closing(pg.connect("claims")) as holder:
        holder.execute("BEGIN; LOCK claim, kid")
        judgement = bench.run(**ALL, foreign_key_bytes={"info": 0})
        holder.execute("ROLLBACK")
    locked = found(judgement, "locked")
    assert locked.severity is Severity.UNKNOWN and "public.claim" in locked.message
    assert subjects(judgement, "duplicate") == {"public.two"}
    assert bench.seen.seen.failed == {}


@ENDS
def test_a_role_without_privileges_sees_the_catalogue(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """The catalogue and counters are open to all; what is not is said."""
    pg.create_role("stranger")
    db.execute("GRANT CONNECT ON DATABASE claims TO stranger; CREATE INDEX twin ON claim (amount); ANALYZE")
    judgement = review(pg.dsn("claims", "stranger")).run(**ALL, bloat_min_bytes=2**16)
    assert subjects(judgement, "duplicate") == {"public.twin"}
    assert "pgstattuple" in found(judgement, "bloat", "pgstattuple").hint
