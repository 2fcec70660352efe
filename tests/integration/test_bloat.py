"""Bloat on real servers of every supported major: what is measured is what a rebuild gives back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from tests.integration.database_bench import MAJORS, Bench, checks, database, found, server, until
from tests.integration.test_index_review import ENDS, review, statements, subjects
from upkeep.adapters import postgres
from upkeep.core.errors import TransientError
from upkeep.core.model import Severity
from upkeep.routines.database import _bloat
from upkeep.routines.database._bloat import Bloat, BloatSettings

LOW = {"bloat_min_bytes": 2**17, "bloat_warn_bytes": 2**17}
# Every row has another key in `amount`; in `kind` many share one. Of each ten rows nine are deleted.
BLOATED = """
DROP TABLE payment, claim;
CREATE TABLE big (id int PRIMARY KEY, amount bigint, kind int, note text);
CREATE INDEX big_amount ON big (amount);
CREATE INDEX big_kind ON big (kind);
INSERT INTO big SELECT g, g * 7, g % 5, repeat('x', 20) FROM generate_series(1, 24000) AS g;
DELETE FROM big WHERE id % 10 > 0;
"""


@pytest.fixture(scope="module", params=MAJORS, ids=lambda major: f"pg{major}")
def pg(request: pytest.FixtureRequest) -> PostgresServer:
    return server(request.param)


@pytest.fixture
def db(pg: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with database(pg) as connection:
        connection.execute(BLOATED)
        connection.execute("VACUUM ANALYZE")
        yield connection


@pytest.fixture
def bench(pg: PostgresServer, db: psycopg.Connection[Any]) -> Bench:
    return review(pg.dsn("claims"))


def bloats(conninfo: str, **settings: Any) -> dict[str, Bloat]:
    """Return the bloat of every index that is large enough, by name."""
    with postgres.open_session(conninfo) as session:
        return {b.index: b for b in _bloat.index_bloat(session, BloatSettings(bloat_min_bytes=2**17, **settings))}


def size(db: psycopg.Connection[Any], name: str) -> int:
    row = db.execute("SELECT pg_relation_size(%s::regclass)", [name]).fetchone()
    return int(row[0]) if row else 0


def test_what_is_measured_is_what_a_rebuild_gives_back(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """Indexes and tables, each within a tenth of its size; the statement of the finding cures it."""
    db.execute('CREATE SCHEMA "odd; ""schema"; CREATE EXTENSION pgstattuple SCHEMA "odd; ""schema"')
    judgement = bench.run(**LOW)
    assert subjects(judgement, "bloat_index") == {"public.big_pkey", "public.big_amount", "public.big_kind"}
    assert subjects(judgement, "bloat_table") == {"public.big"}
    assert bench.seen.round_trips <= 5 and bench.seen.seen.failed == {}
    assert {b.how for b in bench.seen.bloats} == {"measured"}
    for bloat in sorted(bench.seen.bloats, key=lambda b: b.kind):
        finding = found(judgement, f"bloat_{bloat.kind}", f"public.{bloat.index or bloat.table}")
        assert finding.severity is Severity.WARNING
        before = size(db, bloat.name)
        assert bloat.size_bytes == before
        db.execute((statements(finding)[0] if bloat.index else f"VACUUM FULL {bloat.name}").encode())
        assert bloat.wasted_bytes == pytest.approx(before - size(db, bloat.name), abs=before / 10)
    assert not {"bloat_index", "bloat_table", "bloat"} & checks(bench.run(**LOW))


@ENDS
def test_small_and_well_filled_ones_are_silent(bench: Bench, db: psycopg.Connection[Any]):
    """By default only what is large is looked at; what is a quarter empty is no finding."""
    db.execute("CREATE EXTENSION pgstattuple")
    assert not {"bloat_index", "bloat_table", "bloat"} & checks(bench.run())
    db.execute("DROP TABLE big; CREATE TABLE spread (id int PRIMARY KEY) WITH (fillfactor = 30)")
    db.execute("INSERT INTO spread SELECT hashint4(g) FROM generate_series(1, 20000) AS g")
    db.execute("CREATE INDEX loose ON spread (id) WITH (fillfactor = 30)")
    db.execute("VACUUM ANALYZE")
    assert not {"bloat_index", "bloat_table", "bloat"} & checks(bench.run(**LOW))
    assert len(bench.seen.bloats) == 3


@ENDS
def test_what_no_rewrite_gives_back_is_not_wasted(bench: Bench, db: psycopg.Connection[Any]):
    """Rows that leave half of each page free waste nothing; a fillfactor wants free space beside rows, not instead."""
    columns = ", ".join(f"c{n} float8" for n in range(600))
    db.execute(f"CREATE EXTENSION pgstattuple; CREATE TABLE wide ({columns}); CREATE TABLE gone ({columns})".encode())
    db.execute(f"INSERT INTO wide SELECT {', '.join(['1'] * 600)} FROM generate_series(1, 100)".encode())
    db.execute("INSERT INTO gone SELECT * FROM wide; DELETE FROM gone WHERE hashtid(ctid) % 2 = 0")
    db.execute("CREATE TABLE loose (id int, note text) WITH (fillfactor = 70)")
    db.execute("INSERT INTO loose SELECT g, repeat('x', 100) FROM generate_series(1, 6000) AS g")
    db.execute("DELETE FROM loose WHERE id % 5 > 0")
    db.execute("VACUUM ANALYZE")
    judgement = bench.run(**LOW)
    assert subjects(judgement, "bloat_table") == {"public.big", "public.gone", "public.loose"}
    for name in ("wide", "gone", "loose"):
        [bloat] = [b for b in bench.seen.bloats if b.table == name]
        db.execute(f"VACUUM FULL {name}".encode())
        assert bloat.wasted_bytes == pytest.approx(bloat.size_bytes - size(db, name), abs=bloat.size_bytes / 10)


@ENDS
def test_toast_counts_by_itself(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """Long values that are gone leave a small table and a large empty TOAST: measured, and estimated once vacuumed."""
    with pg.connect("claims") as other:  # its end counts what it did
        other.execute("CREATE TABLE letter (id int, body text)")
        other.execute("ALTER TABLE letter ALTER body SET STORAGE EXTERNAL")
        other.execute("INSERT INTO letter SELECT g, repeat('x', 8000) FROM generate_series(1, 200) AS g")
        other.execute("DELETE FROM letter WHERE id % 10 > 0")
    until(lambda: any(b.toast for b in _run(bench)), "the rows are counted")
    [bloat] = [b for b in _run(bench) if b.toast]
    assert (bloat.how, bloat.table) == ("unknown", "letter") and "never vacuumed" in bloat.why
    db.execute("VACUUM letter")
    [bloat] = [b for b in _run(bench) if b.toast]
    assert bloat.how == "estimated" and bloat.ratio == pytest.approx(0.9, abs=0.05)
    db.execute("CREATE EXTENSION pgstattuple")
    finding = found(bench.run(**LOW), "bloat_table", "public.letter (TOAST)")
    assert finding.severity is Severity.WARNING and 'VACUUM "public"."letter"' in finding.hint
    db.execute("VACUUM FULL letter")
    assert "public.letter (TOAST)" not in subjects(bench.run(**LOW), "bloat_table")


def _run(bench: Bench) -> tuple[Bloat, ...]:
    bench.run(**LOW)
    return tuple(bench.seen.bloats)


def test_without_the_extension_bloat_is_estimated(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """Once info with the cure; estimates say that they are, and of keys that repeat nothing is claimed."""
    judgement = bench.run(**LOW)
    cure = found(judgement, "bloat", "pgstattuple")
    assert cure.severity is Severity.INFO
    amount = found(judgement, "bloat_index", "public.big_amount")
    assert amount.severity is Severity.INFO and "estimated" in amount.message
    assert "public.big_kind" not in subjects(judgement, "bloat_index")
    estimates = bloats(pg.dsn("claims"))
    assert estimates["big_kind"].how == "unknown" and "more than once" in estimates["big_kind"].why
    db.execute(cure.hint.split("; ")[0].encode())
    measured = bloats(pg.dsn("claims"))
    assert {b.how for b in measured.values()} == {"measured"}
    assert estimates["big_amount"].ratio == pytest.approx(measured["big_amount"].ratio, abs=0.1)


@ENDS
def test_a_role_that_may_not_measure_is_told_the_grant(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Without the right to measure and without statistics nothing is claimed; the grant cures the one, SELECT the
    other."""
    pg.create_role("stranger")
    db.execute("CREATE SCHEMA tools; CREATE EXTENSION pgstattuple SCHEMA tools")
    db.execute("GRANT CONNECT ON DATABASE claims TO stranger")
    bench = review(pg.dsn("claims", "stranger"))
    told = found(bench.run(**LOW), "bloat", "pgstattuple")
    assert {b.how for b in bench.seen.bloats} == {"unknown"}
    assert "statistics" in bench.seen.bloats[0].why
    db.execute("GRANT SELECT ON big TO stranger")
    bench.run(**LOW)
    assert "estimated" in {b.how for b in bench.seen.bloats}
    try:
        for grant in told.hint.split("; ")[:2]:
            db.execute(grant.encode())
        bench.run(**LOW)
        assert {b.how for b in bench.seen.bloats} == {"measured"}
    finally:
        db.execute("REVOKE pg_stat_scan_tables FROM stranger; REVOKE ALL ON SCHEMA tools FROM stranger")


@ENDS
def test_limits_of_size_and_time_are_kept(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """What is too large is estimated; the worst is measured first; what time leaves out is said."""
    db.execute("CREATE EXTENSION pgstattuple")
    largest = max(size(db, name) for name in ("big_pkey", "big_amount", "big_kind"))
    small = bloats(pg.dsn("claims"), measure_each_bytes=largest - 1)
    assert small["big_amount"].how == "estimated" and "too large" in small["big_amount"].why
    assert small["big_kind"].how == "measured"
    once = bloats(pg.dsn("claims"), measure_total_bytes=largest)
    assert [b.how for b in once.values()].count("measured") == 1
    none = bloats(pg.dsn("claims"), measure_seconds=0)
    assert "measured" not in {b.how for b in none.values()}
    left = found(bench.run(**LOW, measure_seconds=1e-9), "bloat", "unmeasured")
    assert left.severity is Severity.INFO and "public.big_kind" in left.message


@ENDS
def test_a_locked_table_is_left_out(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """Nobody waits for a lock of somebody else; what is locked is named by the review."""
    db.execute("CREATE EXTENSION pgstattuple")
    with contextlib.closing(pg.connect("claims")) as holder:
        holder.execute("BEGIN; LOCK big")
        assert bloats(pg.dsn("claims")) == {}
        judgement = bench.run(**LOW)
    assert "public.big" in found(judgement, "locked").message
    assert bench.seen.seen.failed == {}


@ENDS
def test_a_lost_connection_is_transient(pg: PostgresServer, bench: Bench, db: psycopg.Connection[Any]):
    """Whoever calls for bloat is told to try again."""
    with postgres.open_session(pg.dsn("claims")) as session:
        db.execute("SELECT pg_terminate_backend(%s)", [session.connection.info.backend_pid])
        with pytest.raises(TransientError, match="bloat of indexes"):
            _bloat.index_bloat(session, BloatSettings())
