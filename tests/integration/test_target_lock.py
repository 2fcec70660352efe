"""The maintenance lock on a database: one holder at a time, whichever Airflow it is, and never one that is dead."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lab.airflow import ROOT
from lab.postgres import PostgresServer
from tests.integration.database_bench import server, until
from upkeep.adapters import target_lock
from upkeep.core.errors import TransientError

DATABASE = "locked"


@pytest.fixture(scope="module")
def on() -> Iterator[PostgresServer]:
    found = server(18)
    found.create_database(DATABASE)
    found.create_database("another")
    yield found


def hold(on: PostgresServer, name: str = "upkeep database.vacuum lock", **options: Any) -> AbstractContextManager[Any]:
    """Hold the lock of the database, patient for no time when nothing else is said."""
    given = {"database": None, "patience": 0.0, "pause": 0.05} | options
    return target_lock.hold(conninfo(on, given.pop("into", DATABASE)), application_name=name, **given)


def conninfo(on: PostgresServer, name: str = DATABASE) -> str:
    """Return the keywords that libpq connects with, as `wiring.conninfo` gives them."""
    return make_conninfo(**conninfo_to_dict(on.dsn(name)))


def holders(on: PostgresServer) -> list[tuple[int, Any]]:
    """Return process and snapshot of the sessions of this test file that hold or want the lock."""
    with on.connect() as connection:
        return connection.execute(
            "select pid, backend_xmin from pg_stat_activity where application_name like 'upkeep % lock' order by 1"
        ).fetchall()


def test_a_second_one_is_told_who_holds_it(on: PostgresServer):
    """Without patience it gives up at once, in words that name the holder; afterwards the lock is free."""
    with hold(on) as still_held:
        still_held()
        [(pid, _)] = holders(on)
        with pytest.raises(TransientError) as refused, hold(on, "upkeep database.reindex lock"):
            raise AssertionError("two hold the lock")
        assert f"upkeep database.vacuum lock (process {pid}, role postgres) is still at work" in refused.value.message
        assert DATABASE in refused.value.message
    with hold(on):
        pass


def test_patience_is_rewarded(on: PostgresServer):
    """Who waits gets it as soon as it is free, and not before."""
    order: list[str] = []

    def second() -> None:
        with hold(on, "upkeep database.reindex lock", patience=20.0):
            order.append("second")

    with hold(on):
        waiter = threading.Thread(target=second)
        waiter.start()
        until(lambda: len(holders(on)) == 2, "the second one waits")
        time.sleep(0.2)
        order.append("first")
    waiter.join(10)
    assert order == ["first", "second"]


def test_patience_ends(on: PostgresServer):
    """It waits as long as it was told and no longer."""
    with hold(on):
        began = time.monotonic()
        with pytest.raises(TransientError, match=r"after the 1 s"), hold(on, patience=1.0):
            raise AssertionError("two hold the lock")
        assert 0.8 <= time.monotonic() - began < 3


def test_who_waits_holds_no_snapshot(on: PostgresServer):
    """`pg_advisory_lock` would: vacuum could then remove nothing that died since the waiting began."""
    seen: list[Any] = []

    def wait() -> None:
        with pytest.raises(TransientError), hold(on, "upkeep database.reindex lock", patience=1.0):
            raise AssertionError("two hold the lock")

    with hold(on):
        waiter = threading.Thread(target=wait)
        waiter.start()
        until(lambda: len(holders(on)) == 2, "the second one waits")
        while waiter.is_alive():
            seen += [xmin for _, xmin in holders(on)]
            time.sleep(0.05)
        waiter.join()
    # A try itself takes a snapshot, for as long as it lasts.
    assert len(seen) > 10 and sum(xmin is not None for xmin in seen) < len(seen) / 5


def test_databases_are_apart(on: PostgresServer):
    """Work on one database of a server does not keep work off another; the name may come by `database`."""
    with hold(on), hold(on, "upkeep database.reindex lock", into="another"):
        pass
    with hold(on), pytest.raises(TransientError), hold(on, into="postgres", database=DATABASE):
        raise AssertionError("two hold the lock")


def test_a_lost_connection_is_noticed(on: PostgresServer, monkeypatch: pytest.MonkeyPatch):
    """The lock went with the connection: whoever goes on working would no longer be alone."""
    monkeypatch.setattr(target_lock, "_TRUST_SECONDS", 0.0)
    with hold(on) as still_held:
        still_held()
        with on.connect() as connection:
            [(pid, _)] = holders(on)
            connection.execute("select pg_terminate_backend(%s, 5000)", [pid])
        with pytest.raises(TransientError, match="maintenance lock was lost"):
            still_held()


def test_a_lock_that_was_let_go_is_noticed(on: PostgresServer, monkeypatch: pytest.MonkeyPatch):
    """As when a pooler has put us on another session: the connection is there and the lock is not."""
    monkeypatch.setattr(target_lock, "_TRUST_SECONDS", 0.0)
    opened: list[Any] = []
    real = target_lock.open_workbench

    @contextmanager
    def remembered(*args: Any, **options: Any) -> Iterator[Any]:
        with real(*args, **options) as bench:
            opened.append(bench)
            yield bench

    monkeypatch.setattr(target_lock, "open_workbench", remembered)
    with hold(on) as still_held:
        [bench] = opened
        bench.connection.execute("select pg_advisory_unlock_all()")
        with pytest.raises(TransientError, match="maintenance lock was lost"):
            still_held()


HOLDER = """
import sys, time
from upkeep.adapters import target_lock
with target_lock.hold(sys.argv[1], database=None, application_name="upkeep database.vacuum lock", patience=0):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_lets_go(on: PostgresServer):
    """SIGKILL of a worker frees the lock within moments: nobody has to clean up by hand."""
    program = [sys.executable, "-c", HOLDER, conninfo(on)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT / "plugins")}) as one:
        assert one.stdout is not None and one.stdout.readline() == "held\n"
        with pytest.raises(TransientError), hold(on):
            raise AssertionError("two hold the lock")
        one.kill()
        one.wait(10)
        with hold(on, patience=10.0):
            pass
