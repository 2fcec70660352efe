"""Who keeps dead rows from being removed is named before anything is vacuumed in vain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from tests.integration.database_bench import MAJORS, database, fresh_server, server
from tests.integration.vacuum_bench import Care, evidence, finding, settle, statuses, troubles
from upkeep.core.model import Severity

SOON = {"horizon": {"warning": 0.001}}


@pytest.fixture(scope="module", params=(MAJORS[0], MAJORS[-1]), ids=lambda major: f"pg{major}")
def pg(request: pytest.FixtureRequest) -> PostgresServer:
    return server(request.param)


@pytest.fixture
def db(pg: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with database(pg) as connection:
        settle(connection)
        connection.execute("VACUUM ANALYZE")
        yield connection


@pytest.fixture
def care(pg: PostgresServer, db: psycopg.Connection[Any]) -> Care:
    return Care(pg.dsn("claims"))


def test_an_idle_transaction_is_named_and_nothing_is_done_in_vain(
    pg: PostgresServer, care: Care, db: psycopg.Connection[Any]
):
    """First vacuumed, for rows may have died before; then left out until the transaction has ended."""
    with pg.connect("claims", application_name="web", autocommit=False) as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*), 'Jane Doe' FROM claim")
        db.execute("DELETE FROM payment")
        settle(db)
        record = care.run(**SOON)
        held = finding(record, "horizon")
        assert (held.severity, held.subject) == (Severity.WARNING, "session postgres")
        assert f"pid {holder.info.backend_pid} postgres (web), idle in transaction" in held.message
        assert "public.payment (2,000)" in held.message and "Jane" not in held.message
        assert f"pg_terminate_backend({holder.info.backend_pid})" in held.hint
        assert statuses(record) == {"public.payment": "done"}
        assert evidence(record, "public.payment")["report"]["unremovable"] == 2000
        stayed = finding(record, "unremovable")
        assert "public.payment (2,000)" in stayed.message and "(web)" in stayed.message
        again = care.run(**SOON)
        assert statuses(again) == {"public.payment": "skipped"}
        assert "no dead row could be removed" in again.actions[0].detail
        assert "unremovable" not in {f.check for f in again.findings}
        assert statuses(care.run(**SOON, skip_useless=False)) == {"public.payment": "done"}
    record = care.run()
    assert statuses(record) == {"public.payment": "done"} and troubles(record) == []


def test_a_prepared_transaction_is_named(care: Care, db: psycopg.Connection[Any]):
    """A forgotten two-phase commit holds the horizon; the cure is spelt out."""
    db.execute("BEGIN; UPDATE claim SET note = '' WHERE id = 1; PREPARE TRANSACTION 'it''s forgotten'")
    try:
        db.execute("DELETE FROM payment")
        settle(db)
        held = finding(care.run(**SOON), "horizon")
        assert held.subject == "prepared it's forgotten"
        assert "ROLLBACK PREPARED 'it''s forgotten'" in held.hint
    finally:
        db.execute("ROLLBACK PREPARED 'it''s forgotten'")


def test_our_own_vacuum_and_quiet_sessions_are_nobodys_trouble(
    pg: PostgresServer, care: Care, db: psycopg.Connection[Any]
):
    """A short transaction, and one that holds nothing, are not told."""
    with pg.connect("claims", autocommit=False) as idle:
        idle.execute("SELECT 1")
        db.execute("DELETE FROM payment")
        settle(db)
        record = care.run(**SOON)
        assert statuses(record) == {"public.payment": "done"} and troubles(record) == []


@pytest.mark.parametrize("major", [MAJORS[-1]])
def test_a_slot_is_named(major: int):
    """A slot that nobody reads holds rows of every database, a logical one those of the server's own tables."""
    with fresh_server(major, wal_level="logical") as pg, database(pg) as db:
        settle(db)
        db.execute("VACUUM ANALYZE")
        care = Care(pg.dsn("claims"))
        db.execute("SELECT pg_create_physical_replication_slot('away', true)")
        feed(pg)
        db.execute("SELECT pg_create_logical_replication_slot('gone', 'pgoutput')")
        db.execute("DELETE FROM payment")
        settle(db)
        record = care.run()
        held = finding(record, "horizon")
        assert held.subject == "slot away" and held.severity is Severity.WARNING
        assert "nobody reads it" in held.message and "pg_drop_replication_slot('away')" in held.hint
        assert statuses(record) == {"public.payment": "done"}
        assert evidence(record, "public.payment")["report"]["unremovable"] > 0
        # A slot does not say since when: known is that it stood at the same id when an earlier run began.
        for _ in range(3):
            assert statuses(care.run()) == {"public.payment": "skipped"}
        db.execute("SELECT pg_drop_replication_slot('away')")
        assert statuses(care.run()) == {"public.payment": "done"}


def feed(pg: PostgresServer) -> None:
    """Be a standby for a moment that reports what it reads: its slot keeps that when it is gone."""
    import struct
    import time

    where = psycopg.conninfo.make_conninfo(**psycopg.conninfo.conninfo_to_dict(pg.dsn()), replication="true")
    connection = psycopg.pq.PGconn.connect(where.encode())
    row = pg.connect().execute("SELECT pg_current_wal_lsn(), pg_current_xact_id()::text::int8 % 4294967296").fetchone()
    assert row is not None
    result = connection.exec_(f'START_REPLICATION SLOT "away" PHYSICAL {row[0]}'.encode())
    assert result.status == psycopg.pq.ExecStatus.COPY_BOTH, result.error_message
    connection.put_copy_data(b"h" + struct.pack("!qIIII", 0, int(row[1]), 0, 0, 0))
    connection.flush()
    time.sleep(0.3)
    connection.finish()
