"""Vacuum while things break: locks, sessions ended, servers restarted, workers killed, damaged data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lab.postgres import MAJORS, PostgresServer
from tests.integration.database_bench import database, fresh_server, until
from tests.integration.vacuum_bench import Care, done, finding, settle, statuses, troubles
from upkeep.core.errors import TransientError
from upkeep.core.model import Severity

WORKER = Path(__file__).with_name("vacuum_worker.py")
# One page read from disk or made dirty is followed by a nap: a vacuum that can be caught at work.
SLOW = {"cost_delay": 20, "cost_limit": 10}


@pytest.fixture(scope="module")
def pg() -> Iterator[PostgresServer]:
    with fresh_server(MAJORS[-1], vacuum_buffer_usage_limit="128kB") as started:
        yield started


@pytest.fixture
def db(pg: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with database(pg) as connection:
        settle(connection)
        connection.execute("VACUUM ANALYZE")
        yield connection


@pytest.fixture
def care(pg: PostgresServer, db: psycopg.Connection[Any]) -> Care:
    return Care(pg.dsn("claims"))


def needy(db: psycopg.Connection[Any], *names: str, rows: int = 20_000) -> None:
    """Make tables that need vacuum and have pages enough to take a while."""
    for name in names:
        text = f"CREATE TABLE {name} AS SELECT g AS id, repeat('n', 200) AS t FROM generate_series(1, {rows}) AS g"
        db.execute(text.encode())
    settle(db)
    db.execute("VACUUM ANALYZE")
    for name in names:
        db.execute(f"DELETE FROM {name} WHERE id % 2 = 0".encode())
    settle(db)


def at_work(db: psycopg.Connection[Any]) -> list[tuple[int, str]]:
    """Return the processes that vacuum and what."""
    rows = db.execute("SELECT pid, relid::regclass::text FROM pg_stat_progress_vacuum ORDER BY pid").fetchall()
    return [(row[0], row[1]) for row in rows]


def ours(db: psycopg.Connection[Any]) -> int:
    """Return how many sessions of ours the server has."""
    row = db.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'upkeep%%'").fetchone()
    return int(row[0]) if row else 0


def test_an_exclusive_lock_all_the_while(pg: PostgresServer, care: Care, db: psycopg.Connection[Any]):
    """The others are all done, nobody else waits for us longer than the lock time-out, the table is told."""
    names = [f"t{n}" for n in range(6)]
    needy(db, *names, "locked", rows=3000)
    waits: list[float] = []
    over = threading.Event()

    def use() -> None:
        """Be the application: read, write and now and then alter, and measure how long that takes."""
        with pg.connect("claims", application_name="web") as web:
            while not over.is_set():
                for name in names:
                    begun = time.monotonic()
                    web.execute(f"UPDATE {name} SET t = 'x' WHERE id = 1".encode())
                    web.execute(f"SELECT count(*) FROM {name}".encode())

                    waits.append(time.monotonic() - begun)

    def queue_up() -> None:
        """Be the application on the locked table: readers queue behind the lock, and must not behind us."""
        with pg.connect("claims", application_name="reader") as reader:
            reader.execute("SELECT count(*) FROM locked")

    threads = [threading.Thread(target=use), threading.Thread(target=queue_up)]
    with pg.connect("claims", application_name="migration") as holder, holder.transaction():
        holder.execute("LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")
        for thread in threads:
            thread.start()
        record = care.run(lock_timeout=1, again_seconds=1)
        over.set()
        threads[0].join()
    released = time.monotonic()
    threads[1].join()
    assert time.monotonic() - released < 1
    assert set(done(record)) == {f"public.{name}" for name in names}
    assert statuses(record)["public.locked"] == "skipped"
    assert "(migration) holds AccessExclusiveLock" in finding(record, "locked", "public.locked").message
    assert waits and max(waits) < 1, f"the application waited {max(waits):.2f} s"


def test_a_writer_waits_no_longer_than_the_lock_timeout(pg: PostgresServer, care: Care, db: psycopg.Connection[Any]):
    """A session that queues behind our wait for a lock is let through when we give up."""
    needy(db, "busy", rows=3000)
    with pg.connect("claims") as holder, holder.transaction(), pg.connect("claims") as other:
        holder.execute("LOCK TABLE busy IN SHARE MODE")
        runner = threading.Thread(target=lambda: care.run(lock_timeout=0.6))
        runner.start()
        until(lambda: db.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone(), "our wait")
        begun = time.monotonic()
        other.execute("LOCK TABLE busy IN SHARE MODE; SELECT 1")
        waited = time.monotonic() - begun
        runner.join()
    assert waited < 0.9


def test_a_session_that_is_ended_is_replaced(care: Care, db: psycopg.Connection[Any]):
    """pg_terminate_backend of one lane costs one more try of its table; everything is done."""
    needy(db, "one", "two")
    ended = []

    def end_one() -> None:
        with psycopg.connect(care.conninfo, autocommit=True) as killer:
            until(lambda: at_work(killer), "a vacuum at work")
            pid, table = at_work(killer)[0]
            killer.execute("SELECT pg_terminate_backend(%s)", [pid])
            ended.append(table)

    killer = threading.Thread(target=end_one)
    killer.start()
    record = care.run(cost_delay=5, cost_limit=200)
    killer.join()
    assert ended
    assert statuses(record) == {"public.one": "done", "public.two": "done"} and troubles(record) == []


def test_a_restart_is_tried_again_and_then_resumes(pg: PostgresServer, care: Care, db: psycopg.Connection[Any]):
    """A server that restarts makes the try a transient one; the next does what was left, and only that."""
    needy(db, "small", rows=300)
    needy(db, "large", rows=20_000)

    def restart() -> None:
        with psycopg.connect(care.conninfo, autocommit=True) as watcher:
            until(lambda: "large" in {t for _, t in at_work(watcher)}, "a vacuum at work")
        pg.stop()
        pg.start()

    breaker = threading.Thread(target=restart)
    breaker.start()
    with pytest.raises(TransientError):
        care.run(**SLOW, parallel=1, reach_seconds=0)
    breaker.join()
    assert care.record is not None and care.record.state == "failed"
    assert "failed" in statuses(care.record).values()
    record = care.run()
    assert statuses(record)["public.large"] == "done" and troubles(record) == []


def start(care: Care, **settings: Any) -> subprocess.Popen[str]:
    order = {"dsn": care.conninfo, "settings": settings}
    worker = subprocess.Popen(
        [sys.executable, str(WORKER), json.dumps(order)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert worker.stdout and worker.stdout.readline() == "ready\n"
    return worker


def test_a_killed_worker_leaves_nobody_at_work(care: Care, db: psycopg.Connection[Any]):
    """After SIGKILL the server gives up by itself within seconds, and the next run does what was left."""
    needy(db, "one", "two")
    worker = start(care, **SLOW)
    until(lambda: len(at_work(db)) == 2, "both lanes at work")
    worker.kill()
    worker.communicate()
    begun = time.monotonic()
    until(lambda: not at_work(db) and not ours(db), "the end of what the dead worker began")
    assert time.monotonic() - begun < 8
    record = care.run()
    assert statuses(record) == {"public.one": "done", "public.two": "done"} and troubles(record) == []


def test_a_stopped_task_ends_at_once(care: Care, db: psycopg.Connection[Any]):
    """on_kill in the middle: every lane is cancelled and every row closed well within Airflow's 5 s."""
    needy(db, "one", "two")
    worker = start(care, **SLOW)
    until(lambda: len(at_work(db)) == 2, "both lanes at work")
    worker.send_signal(signal.SIGTERM)
    out, err = worker.communicate(timeout=20)
    told = json.loads(out.splitlines()[-1])
    assert told["stopped"] < 4, err
    assert set(told["states"].values()) == {"failed"}
    until(lambda: not ours(db), "the end of our sessions", 2)


def test_a_lost_hold_on_the_database_ends_the_work(care: Care, db: psycopg.Connection[Any]):
    """When the lock's session ends, another Airflow may begin: ours cancels its tables within seconds and is tried
    again, and does not wait for the next table to notice."""
    needy(db, "one", "two")
    care_ended: list[BaseException] = []

    def work() -> None:
        try:
            care.run(**SLOW)
        except TransientError as error:
            care_ended.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    until(lambda: len(at_work(db)) == 2, "both lanes at work")
    db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'upkeep lock'")
    worker.join(timeout=30)
    assert not worker.is_alive() and "maintenance lock was lost" in str(care_ended[0])
    until(lambda: not at_work(db), "the end of both vacuums", 5)


def test_damaged_data_are_critical_and_the_others_are_done(pg: PostgresServer, care: Care, db: psycopg.Connection[Any]):
    """A page that cannot be read names its table; the other tables are done."""
    needy(db, "broken", "whole", rows=3000)
    row = db.execute("SELECT pg_relation_filepath('broken')").fetchone()
    assert row is not None
    db.execute("CHECKPOINT")
    pg.stop()
    with (pg.pgdata / row[0]).open("r+b") as file:
        file.seek(3 * 8192 + 100)
        file.write(b"\\xff" * 5000)
    pg.start()
    record = care.run()
    assert statuses(record)["public.whole"] == "done"
    assert statuses(record)["public.broken"] == "failed"
    damaged = finding(record, "damaged", "public.broken")
    assert damaged.severity is Severity.CRITICAL and "keep every backup" in damaged.hint


def test_a_statement_timeout_is_told(care: Care, db: psycopg.Connection[Any]):
    """A table that somebody cancels is told; the other one is done."""
    needy(db, "one", "two")

    def cancel() -> None:
        with psycopg.connect(care.conninfo, autocommit=True) as killer:
            until(lambda: "one" in {t for _, t in at_work(killer)}, "a vacuum at work")
            pid = next(p for p, t in at_work(killer) if t == "one")
            killer.execute("SELECT pg_cancel_backend(%s)", [pid])

    killer = threading.Thread(target=cancel)
    killer.start()
    record = care.run(cost_delay=5, cost_limit=200)
    killer.join()
    assert statuses(record) == {"public.one": "failed", "public.two": "done"}
    assert finding(record, "timeout", "public.one").severity is Severity.WARNING
