"""Vacuum gives way: nobody waits for it longer than the lock timeout, whoever waits in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from tests.integration.database_bench import MAJORS, database, server, until
from tests.integration.vacuum_bench import Care, finding, settle, statuses

SLOW = {"cost_delay": 20, "cost_limit": 100}
BIG = """
CREATE TABLE visit (id int PRIMARY KEY, note text) WITH (autovacuum_enabled = off);
INSERT INTO visit SELECT g, repeat('x', 200) FROM generate_series(1, 100000) AS g;
DELETE FROM visit WHERE id % 2 = 0;
"""


@pytest.fixture(scope="module", params=[MAJORS[0], MAJORS[-1]], ids=lambda major: f"pg{major}")
def pg(request: pytest.FixtureRequest) -> PostgresServer:
    return server(request.param)


@pytest.fixture
def db(pg: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with database(pg) as connection:
        connection.execute(BIG)
        settle(connection)
        connection.execute("VACUUM ANALYZE claim, payment")
        yield connection


def begun(db: psycopg.Connection[Any]) -> bool:
    return db.execute("SELECT FROM pg_stat_progress_vacuum WHERE heap_blks_scanned > 0").fetchone() is not None


def change(pg: PostgresServer, seconds: dict[str, float]) -> None:
    """Change the table while it is vacuumed, and read it while that change waits; note how long each took."""

    def timed(what: str, statement: str) -> None:
        with pg.connect("claims") as application:
            application.execute("SELECT 1")
            at = time.monotonic()
            application.execute(statement)
            seconds[what] = time.monotonic() - at

    with ThreadPoolExecutor(2) as both:
        altered = both.submit(timed, "alter", "ALTER TABLE visit ADD COLUMN more int")
        time.sleep(0.1)
        both.submit(timed, "read", "SELECT count(*) FROM visit WHERE id = 7").result()
        altered.result()


def test_a_change_of_the_table_and_its_readers_wait_no_longer_than_the_lock_timeout(
    pg: PostgresServer, db: psycopg.Connection[Any]
):
    """A migration that waits for our vacuum stops all readers behind it: we give way, and come again at the end."""
    care, seconds = Care(pg.dsn("claims"), settings=SLOW | {"lock_timeout": 2}), dict[str, float]()
    with ThreadPoolExecutor(1) as meanwhile:
        run = meanwhile.submit(care.run)
        until(lambda: begun(db), "the vacuum")
        change(pg, seconds)
        record = run.result()
    assert max(seconds.values()) < 2, seconds
    assert statuses(record)["public.visit"] == "done"
    assert not record.findings


def test_who_keeps_coming_is_named(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Given up twice: the table is passed over, and the finding says for whom."""
    care, over = Care(pg.dsn("claims"), settings=SLOW), threading.Event()

    def migrate() -> None:
        with psycopg.connect(pg.dsn("claims"), autocommit=True, application_name="migrate") as application:
            while not over.is_set():
                if begun(db):
                    application.execute("ALTER TABLE visit ALTER COLUMN note SET DEFAULT 'secret'")
                time.sleep(0.02)

    with ThreadPoolExecutor(1) as meanwhile:
        running = meanwhile.submit(migrate)
        try:
            record = care.run()
        finally:
            over.set()
        running.result()
    assert statuses(record)["public.visit"] == "skipped"
    told = finding(record, "gave_way", "public.visit")
    assert "(migrate): ALTER TABLE visit ALTER COLUMN note SET DEFAULT ?" in told.message
    assert care.run().actions[0].evidence["waited"] == 1


def test_who_locks_a_part_is_named_for_the_whole(pg: PostgresServer, db: psycopg.Connection[Any]):
    """The parent of partitions cannot be analyzed while one of them is locked: the message says which, and by whom."""
    db.execute("CREATE TABLE log (id int) PARTITION BY RANGE (id)")
    db.execute("CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (9999)")
    db.execute("INSERT INTO log SELECT generate_series(1, 5000)")
    settle(db)
    db.execute("VACUUM ANALYZE log_1")
    with pg.connect("claims") as application, application.transaction():
        application.execute("LOCK TABLE log_1 IN ACCESS EXCLUSIVE MODE")
        record = Care(pg.dsn("claims"), routine="analyze").run()
    assert "holds AccessExclusiveLock on public.log_1" in finding(record, "locked", "public.log").message
