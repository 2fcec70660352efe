"""Holds a forgotten transaction and the sessions it blocks open for as long as the lab is up."""

from __future__ import annotations

import json
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from lab.process import Helper, LabError

HOLDER = "ward-report"  # application names: they tell the sessions apart in pg_stat_activity
WAITERS = ("booking-1", "booking-2")
# Waiters give up and come back, so that none ever counts as a query that runs for minutes; they start half a period
# apart, so that one of them has always been waiting for a while.
PERIOD_SECONDS = 100.0


class Keeper(Helper):
    """The process with the sessions; `settings["dsn"]` says where."""

    module = "lab.keeper"
    ports_needed = ()

    def check_ready(self) -> None:
        """Pass when every waiter waits for the holder."""
        statement = (
            "SELECT count(*) FROM pg_stat_activity w JOIN pg_stat_activity h ON h.pid = ANY (pg_blocking_pids(w.pid))"
            " WHERE w.application_name = ANY (%s) AND h.application_name = %s"
        )
        with psycopg.connect(self.settings["dsn"], connect_timeout=2) as connection:
            row = connection.execute(statement, [list(WAITERS), HOLDER]).fetchone()
        if row != (len(WAITERS),):
            raise LabError(f"{row} sessions wait, expected {len(WAITERS)}")


def _forever(dsn: str, name: str, work: Any) -> None:
    """Do the work in a session, in a new one when the server went away."""
    while True:
        try:
            with psycopg.connect(dsn, autocommit=True, application_name=name, connect_timeout=3) as connection:
                work(connection)
        except psycopg.OperationalError as error:
            print(f"{name}: {error}", flush=True)
            time.sleep(1)


def _hold(connection: psycopg.Connection) -> None:
    """Lock two rows and go idle. REPEATABLE READ keeps its snapshot, so that the session holds back vacuum, too."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    connection.execute("UPDATE clinic.encounters SET notes = notes WHERE id IN (1, 2)")
    for _ in connection.notifies():  # returns only by an error: nobody notifies this session
        pass


def _wait(row: int, first: float, connection: psycopg.Connection) -> None:
    _wait_once(connection, row, first)
    while True:
        _wait_once(connection, row, PERIOD_SECONDS)


def _wait_once(connection: psycopg.Connection, row: int, seconds: float) -> None:
    connection.execute(f"SET lock_timeout = '{seconds:.0f}s'")
    try:
        connection.execute("UPDATE clinic.encounters SET notes = notes WHERE id = %s", [row])
        time.sleep(1)  # not blocked: the holder is on its way back
    except psycopg.errors.LockNotAvailable:
        pass


def _main(config: Path) -> None:
    dsn = json.loads(config.read_text())["dsn"]
    threading.Thread(target=_forever, args=(dsn, HOLDER, _hold)).start()
    time.sleep(0.3)
    for row, name in enumerate(WAITERS, 1):
        work = partial(_wait, row, PERIOD_SECONDS * row / len(WAITERS))
        threading.Thread(target=_forever, args=(dsn, name, work)).start()


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
