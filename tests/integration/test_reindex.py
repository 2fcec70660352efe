"""Index rebuilds on real servers: what is bloated shrinks, nobody waits, leftovers go, and who must be asked, is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from lab.postgres import PostgresServer
from tests.integration.database_bench import MAJORS, begin, server, until
from tests.integration.reindex_bench import ROUTINE, Bench, bloated, invalid, size
from upkeep.core.model import Severity
from upkeep.core.routine import Routine

NEWEST = MAJORS[-1]


@pytest.fixture(scope="module", params=MAJORS, ids=lambda major: f"pg{major}")
def pg(request: pytest.FixtureRequest) -> PostgresServer:
    return server(request.param)


@pytest.fixture
def db(pg: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with bloated(pg) as connection:
        yield connection


def test_bloated_indexes_are_rebuilt_once(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Both shrink to what their rows need, the worst first, with numbers before and after; doing it twice is idle."""
    bench = Bench(pg.dsn("claims"))
    before = size(db, "visit_at")
    work = bench.run()
    assert work.troubles == []
    assert set(work.actions) == {("reindex", "public.visit_pkey"), ("reindex", "public.visit_at")}
    done = work.action("reindex", "public.visit_at")
    assert done.status == "done", done.detail
    assert size(db, "visit_at") < before / 5
    assert done.evidence["bytes_before"] == before and done.evidence["bytes_after"] == size(db, "visit_at")
    assert done.evidence["wasted_before"] > before / 2 and done.evidence["wasted_after"] < before / 50
    assert done.evidence["seconds"] < 10
    assert invalid(db) == []
    again = bench.run()
    assert again.actions == {} and again.findings == []
    routine = Routine.load(ROUTINE)
    assert routine.observe(bench.job(routine, {})).round_trips <= 3


def test_a_dry_run_only_says_what_it_would_do(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Nothing changes; the plan is on record."""
    before = size(db, "visit_at")
    work = Bench(pg.dsn("claims")).run(dry_run=True)
    assert len(work.actions) == 2 and size(db, "visit_at") == before
    assert Severity.WARNING not in {f.severity for f in work.findings}


@contextlib.contextmanager
def session(pg: PostgresServer, *statements: str) -> Iterator[psycopg.Connection[Any]]:
    """Give a session that has executed some statements and is closed afterwards, whatever it waits for."""
    with contextlib.closing(pg.connect("claims")) as opened:
        for statement in statements:
            opened.execute(statement.encode())
        yield opened


def leave(pg: PostgresServer, index: str, *held: str) -> None:
    """Break a concurrent rebuild of an index while another session holds something."""
    refused = pytest.raises(psycopg.errors.LockNotAvailable)
    with session(pg, "BEGIN", *held), session(pg, "SET lock_timeout = '100ms'") as builder, refused:
        builder.execute(f"REINDEX INDEX CONCURRENTLY {index}".encode())


CCNEW = "UPDATE visit SET note = 'x' WHERE id = 10"  # the build waits for this writer
CCOLD = "SELECT 1 FROM visit LIMIT 1"  # only the removal of the old index waits for this reader


def test_leftovers_are_dropped_and_look_alikes_are_not(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Both kinds of a broken rebuild go, with their definition on record; what only looks like one stays."""
    leave(pg, "visit_pkey", CCNEW)
    leave(pg, "visit_at", CCOLD)
    assert invalid(db) == ["visit_at_ccold", "visit_pkey_ccnew"]
    db.execute("CREATE INDEX visit_note_ccnew ON visit (note)")
    db.execute("CREATE INDEX visit_at_ccnew ON visit (at, note)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.execute("CREATE UNIQUE INDEX CONCURRENTLY visit_at_ccnew7 ON visit (note)")  # no twin of visit_at
    work = Bench(pg.dsn("claims")).run(wasted_bytes=2**30)
    dropped = [work.action("drop_leftover", f"public.{n}") for n in ("visit_at_ccold", "visit_pkey_ccnew")]
    assert [d.status for d in dropped] == ["done", "done"]
    assert "CREATE UNIQUE INDEX visit_pkey_ccnew ON public.visit USING btree (id)" in dropped[1].action.undo
    assert invalid(db) == ["visit_at_ccnew7"]
    assert {i for (i,) in db.execute("SELECT relname FROM pg_class WHERE relname ~ '_ccnew$'")} == {
        "visit_note_ccnew",
        "visit_at_ccnew",
    }
    assert [f.check for f in work.troubles] == ["invalid"]
    proposed = {key: a.status for key, a in work.actions.items() if key[1] == "public.visit_at_ccnew7"}
    assert proposed == {
        ("reindex", "public.visit_at_ccnew7"): "proposed",
        ("drop_invalid", "public.visit_at_ccnew7"): "proposed",
    }


@pytest.mark.parametrize("pg", [MAJORS[0], NEWEST], indirect=True, ids=str)
def test_a_failed_build_is_only_removed_with_approval(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Its rebuild tells of the duplicates that broke it; its removal is done when a person agreed."""
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.execute("CREATE UNIQUE INDEX CONCURRENTLY visit_note ON visit (note)")
    bench = Bench(pg.dsn("claims"))
    tried = bench.run(approved={("reindex", "public.visit_note")})
    assert tried.finding("duplicates").severity is Severity.WARNING
    assert invalid(db) == ["visit_note"]
    work = bench.run(approved={("drop_invalid", "public.visit_note")})
    assert work.action("drop_invalid", "public.visit_note").status == "done" and invalid(db) == []
    assert len(work.actions) == 1


def test_what_is_being_built_is_no_leftover(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Neither a concurrent build nor a rebuild of somebody else is touched, however invalid it looks."""
    with (
        session(pg, "BEGIN", CCNEW) as holder,
        session(pg) as builder,
        contextlib.closing(pg.connect("claims")) as rebuilder,
    ):
        db.execute("CREATE TABLE other (id int PRIMARY KEY)")
        begin(builder, "CREATE INDEX CONCURRENTLY visit_note ON visit (note)")
        holder.execute("INSERT INTO other VALUES (1)")
        begin(rebuilder, "REINDEX INDEX CONCURRENTLY other_pkey")
        until(lambda: len(invalid(db)) == 2, "both builds")
        work = Bench(pg.dsn("claims")).run(wasted_bytes=2**30)
        assert work.actions == {} and work.findings == []
        assert invalid(db) == ["other_pkey_ccnew", "visit_note"]


@pytest.mark.parametrize("pg", [MAJORS[0], NEWEST], indirect=True, ids=str)
def test_names_of_every_kind(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Quotes, capitals, percent signs, 63 bytes: they are rebuilt, and leftovers with a shortened name are dropped."""
    odd, long = 'a "b".%s {c}; DROP', "ü" * 31
    for name in (odd, long):
        db.execute(sql.SQL("CREATE INDEX {} ON visit (at)").format(sql.Identifier(name)))
    db.execute("INSERT INTO visit SELECT g, g FROM generate_series(40000, 70000) AS g")
    db.execute("DELETE FROM visit WHERE id >= 40000 AND id % 10 <> 0")
    leave(pg, f'"{long}"', CCNEW)
    db.execute("VACUUM visit")
    [left] = invalid(db)
    assert long not in left and left.strip('"').endswith("_ccnew")
    work = Bench(pg.dsn("claims")).run()
    assert work.troubles == [] and invalid(db) == []
    assert len([a for a in work.actions.values() if a.status == "done"]) == 5
    assert size(db, f'"{long}"') < 200_000 and size(db, odd.replace('"', '""').join('""')) < 200_000


@pytest.mark.parametrize("pg", [MAJORS[0], NEWEST], indirect=True, ids=str)
def test_partitions_and_constraints(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Indexes of partitions are rebuilt leaf by leaf and stay attached; primary keys and foreign keys stand."""
    db.execute("CREATE TABLE log (id int, at int, PRIMARY KEY (id)) PARTITION BY RANGE (id)")
    db.execute("CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (50000) WITH (autovacuum_enabled = false)")
    db.execute("CREATE TABLE entry (log_id int REFERENCES log)")
    db.execute("INSERT INTO log SELECT g, g FROM generate_series(1, 20000) AS g")
    db.execute("INSERT INTO entry VALUES (10)")
    db.execute("DELETE FROM log WHERE id % 10 <> 0")
    db.execute("VACUUM log_1")
    work = Bench(pg.dsn("claims")).run()
    assert work.action("reindex", "public.log_1_pkey").status == "done" and work.troubles == []
    [attached] = db.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'log_pkey'::regclass").fetchone() or ()
    assert attached == 1
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        db.execute("DELETE FROM log WHERE id = 10")


@pytest.mark.parametrize("pg", [MAJORS[0], NEWEST], indirect=True, ids=str)
def test_a_leftover_beside_large_values(pg: PostgresServer, db: psycopg.Connection[Any]):
    """A broken rebuild of a whole table may leave the index of its TOAST table; that goes as well."""
    db.execute("ALTER TABLE visit ALTER note SET STORAGE EXTERNAL")
    [toast] = db.execute("SELECT reltoastrelid::regclass::text FROM pg_class WHERE relname = 'visit'").fetchone() or ()
    leave(pg, f"{toast}_index", "UPDATE visit SET note = repeat('x', 10000) WHERE id = 10")
    assert invalid(db) == [f"{toast}_index_ccnew"]
    work = Bench(pg.dsn("claims")).run(wasted_bytes=2**30)
    assert work.troubles == [] and invalid(db) == []


@pytest.mark.parametrize("pg", [NEWEST], indirect=True, ids=str)
def test_bloat_that_nobody_knows(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Without pgstattuple an index of repeated keys is `unknown`, with the cure; one of unique keys is estimated."""
    db.execute("DROP EXTENSION pgstattuple")
    db.execute("CREATE INDEX visit_note ON visit (note)")
    db.execute("INSERT INTO visit SELECT g, g, 'n' FROM generate_series(40000, 70000) AS g")
    db.execute("DELETE FROM visit WHERE id >= 40000 AND id % 10 <> 0")
    db.execute("VACUUM ANALYZE visit")
    work = Bench(pg.dsn("claims")).run()
    assert "CREATE EXTENSION pgstattuple" in work.finding("unmeasured").hint
    assert {key[1] for key in work.actions} == {"public.visit_at", "public.visit_pkey"}
    assert work.action("reindex", "public.visit_at").evidence["bloat_measured"] == "estimated"


@pytest.mark.parametrize("pg", [NEWEST], indirect=True, ids=str)
def test_large_indexes_wait_for_approval(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Proposed with what it takes and stops, and not done; approved, only that is done."""
    bench, before = Bench(pg.dsn("claims")), size(db, "visit_at")
    work = bench.run(large_bytes=2**17)
    proposed = work.action("reindex", "public.visit_at")
    assert proposed.status == "proposed" and size(db, "visit_at") == before
    assert "will take about" in proposed.action.approval and "vacuum" in proposed.action.approval
    assert work.troubles == []
    assert {f.severity for f in work.findings if f.check == "bloat"} == {Severity.INFO}
    done = bench.run(approved={("reindex", "public.visit_at")}, large_bytes=2**17)
    assert done.action("reindex", "public.visit_at").status == "done" and len(done.actions) == 1
    assert size(db, "visit_at") < before / 5 < size(db, "visit_pkey")


@pytest.mark.parametrize("pg", [NEWEST], indirect=True, ids=str)
def test_an_exclusion_constraint_is_rebuilt_with_approval(pg: PostgresServer, db: psycopg.Connection[Any]):
    """It cannot be rebuilt concurrently: a person is told that writes will wait."""
    db.execute("ALTER TABLE visit ADD CONSTRAINT apart EXCLUDE USING btree (at WITH =)")
    db.execute("INSERT INTO visit SELECT g, g FROM generate_series(40000, 70000) AS g")
    db.execute("DELETE FROM visit WHERE id >= 40000 AND id % 10 <> 0")
    db.execute("VACUUM ANALYZE visit")
    bench, before = Bench(pg.dsn("claims")), size(db, "apart")
    proposed = bench.run(bloat_percent=20).action("reindex_blocking", "public.apart")
    assert proposed.status == "proposed" and "all writes to public.visit" in proposed.action.approval
    work = bench.run(approved={("reindex_blocking", "public.apart")}, bloat_percent=20)
    assert work.action("reindex_blocking", "public.apart").status == "done" and size(db, "apart") < before


@pytest.mark.parametrize("pg", [NEWEST], indirect=True, ids=str)
def test_space_comes_first(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Too little is a warning and no rebuild; unknown is asked about when it matters; enough goes on."""
    before = size(db, "visit_at")
    short = Bench(pg.dsn("claims"), target={"volume": {"size": "10 MB"}}).run()
    assert short.actions == {} and short.finding("space", "public.visit_at").severity is Severity.WARNING
    unseen = Bench(pg.dsn("claims"), target={"volume": {"path": "/nonexistent"}})
    asked = unseen.run(unknown_space_bytes=10_000).action("reindex", "public.visit_at")
    assert asked.status == "proposed" and "/nonexistent" in asked.action.approval
    assert size(db, "visit_at") == before
    enough = Bench(pg.dsn("claims"), target={"volume": {"size": "100 GB"}}).run(unknown_space_bytes=10_000)
    assert enough.troubles == [] and size(db, "visit_at") < before


@pytest.mark.parametrize("pg", [NEWEST], indirect=True, ids=str)
def test_a_damaged_unique_index_is_critical(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Equal keys that the old index let in: nothing is changed, and the message says how to find them."""
    db.execute("UPDATE pg_index SET indisready = false WHERE indexrelid = 'visit_pkey'::regclass")
    db.execute("INSERT INTO visit VALUES (10, 1, 'again')")
    db.execute("UPDATE pg_index SET indisready = true WHERE indexrelid = 'visit_pkey'::regclass")
    work = Bench(pg.dsn("claims")).run()
    duplicates = work.finding("duplicates", "public.visit_pkey")
    assert duplicates.severity is Severity.CRITICAL and "GROUP BY" in duplicates.hint and work.error is not None
    assert work.action("reindex", "public.visit_at").status == "done" and invalid(db) == []


@pytest.mark.parametrize("pg", [16, NEWEST], indirect=True, ids=str)
def test_privileges(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Without the right to it an index is `unknown` with the GRANT that cures it; MAINTAIN is enough since 17."""
    pg.create_role("keeper", member_of=("pg_read_all_stats", "pg_stat_scan_tables"))
    for grant in ("CONNECT ON DATABASE claims", "pg_read_all_stats, pg_stat_scan_tables"):
        db.execute(f"GRANT {grant} TO keeper".encode())
    bench, before = Bench(pg.dsn("claims", "keeper")), size(db, "visit_at")
    work = bench.run()
    missing = work.finding("privilege", "rebuild public.visit_at")
    assert missing.severity is Severity.UNKNOWN and work.actions == {} and size(db, "visit_at") == before
    cure = 'GRANT MAINTAIN ON TABLE "public"."visit" TO "keeper"' if pg.major >= 17 else 'GRANT "postgres" TO "keeper"'
    assert missing.hint.startswith(cure)
    db.execute(cure.encode())
    try:
        assert bench.run().troubles == [] and size(db, "visit_at") < before
    finally:
        db.execute("DROP OWNED BY keeper")
        db.execute("DROP ROLE keeper") if pg.major >= 17 else db.execute("REVOKE postgres FROM keeper")


@pytest.mark.parametrize("pg", [NEWEST], indirect=True, ids=str)
def test_time(pg: PostgresServer, db: psycopg.Connection[Any]):
    """By the ledger's rates: what would not be done in the window is not begun; what never fits is told."""
    bench = Bench(pg.dsn("claims"))
    bench.until = datetime.now(UTC) + timedelta(minutes=1)
    short = bench.run(assumed_rate=1000)
    assert {a.status for a in short.actions.values()} == {"skipped"} and invalid(db) == []
    stays = short.finding("bloat", "public.visit_at")
    assert stays.severity is Severity.WARNING and "window" in stays.message
    bench.until = None
    late = bench.run(time_budget_minutes=1, assumed_rate=100)
    assert {f.check for f in late.troubles} == {"time"} and late.actions == {}
    assert bench.run(time_budget_minutes=1).troubles == []
    assert bench.history.last("reindex.rate", "public.visit_at").value > 10_000  # type: ignore[union-attr]


@pytest.mark.parametrize("pg", [17, NEWEST], indirect=True, ids=str)
def test_a_changed_collation(pg: PostgresServer, db: psycopg.Connection[Any]):
    """What is sorted by old rules is critical and proposed; rebuilt, only the recorded version is left to correct."""
    db.execute("CREATE COLLATION spoken (provider = builtin, locale = 'C.UTF-8')")
    db.execute('CREATE INDEX visit_spoken ON visit (note COLLATE "spoken")')
    db.execute("UPDATE pg_collation SET collversion = '0' WHERE collname = 'spoken'")
    bench, settings = Bench(pg.dsn("claims")), {"wasted_bytes": 2**30}
    work = bench.run(**settings)
    changed = work.finding("collation", "public.spoken")
    assert changed.severity is Severity.CRITICAL and changed.limit == "0" and "visit_spoken" in changed.message
    assert work.action("reindex", "public.visit_spoken").status == "proposed"
    bench.run(approved={("reindex", "public.visit_spoken")}, **settings)
    after = bench.run(**settings)
    assert after.actions == {}
    rest = after.finding("collation", "public.spoken")
    assert rest.severity is Severity.WARNING and "ALTER COLLATION public.spoken REFRESH VERSION;" in rest.hint
    db.execute("ALTER COLLATION public.spoken REFRESH VERSION")
    assert bench.run(**settings).findings == []


@pytest.mark.parametrize("pg", [NEWEST], indirect=True, ids=str)
def test_a_changed_collation_of_the_database(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Indexes without a collation of their own are sorted by the database's."""
    db.execute("CREATE DATABASE spoken TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'")
    try:
        with contextlib.closing(pg.connect("spoken")) as other:
            other.execute('CREATE TABLE word (word text PRIMARY KEY, code text COLLATE "C" UNIQUE)')
        db.execute("UPDATE pg_database SET datcollversion = '0' WHERE datname = 'spoken'")
        work = Bench(pg.dsn("spoken")).run()
        changed = work.finding("collation", "spoken")
        assert "database spoken" in changed.message and "word_pkey" in changed.message
        assert "ALTER DATABASE spoken REFRESH COLLATION VERSION;" in changed.hint
        assert list(work.actions) == [("reindex", "public.word_pkey")]
    finally:
        db.execute("DROP DATABASE spoken WITH (FORCE)")
