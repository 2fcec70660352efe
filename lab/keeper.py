"""Holds forgotten transactions and the sessions they block open for as long as the lab is up."""

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

# Application names: they tell the sessions apart in pg_stat_activity.
HOLDERS = ("ward-report-1", "ward-report-2")
WAITERS = ("booking-1", "booking-2")
# Nothing gets so old that it becomes another, worse trouble (a query that runs for minutes, a transaction of hours).
# Each begins anew after its time; the two of a pair do so half a period apart, so that one is always old enough.
HOLD_SECONDS = 1200.0
WAIT_SECONDS = 100.0


class Keeper(Helper):
    """The process with the sessions; `settings["dsn"]` says where."""

    module = "lab.keeper"
    ports_needed = ()

    def check_ready(self) -> None:
        """Pass when every waiter waits for a holder."""
        statement = (
            "SELECT count(*) FROM pg_stat_activity w JOIN pg_stat_activity h ON h.pid = ANY (pg_blocking_pids(w.pid))"
            " WHERE w.application_name = ANY (%s) AND h.application_name = ANY (%s)"
        )
        with psycopg.connect(self.settings["dsn"], connect_timeout=2) as connection:
            row = connection.execute(statement, [list(WAITERS), list(HOLDERS)]).fetchone()
        if row != (len(WAITERS),):
            raise LabError(f"{row} sessions wait, expected {len(WAITERS)}")


def _forever(dsn: str, name: str, work: Any) -> None:
    """Do the work in a session, in a new one when the server went away."""
    while True:
        try:
            with psycopg.connect(dsn, autocommit=True, application_name=name, connect_timeout=3) as connection:
                while True:
                    work(connection)
        except psycopg.OperationalError as error:
            print(f"{name}: {error}", flush=True)
            time.sleep(1)


def _hold(rows: list[int], seconds: list[float], connection: psycopg.Connection) -> None:
    """Lock rows and go idle. REPEATABLE READ keeps its snapshot, so that the session holds back vacuum, too."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    connection.execute("UPDATE clinic.encounters SET notes = notes WHERE id = ANY (%s)", [rows])
    # Nobody notifies it: it sits there until its time is over, or the server ends it.
    for _ in connection.notifies(timeout=_next(seconds)):
        pass
    connection.execute("ROLLBACK")


def _wait(row: int, seconds: list[float], connection: psycopg.Connection) -> None:
    """Wait for a locked row."""
    connection.execute(f"SET lock_timeout = '{_next(seconds):.0f}s'")
    try:
        connection.execute("UPDATE clinic.encounters SET notes = notes WHERE id = %s", [row])
        time.sleep(1)  # not blocked: the holder is on its way back
    except psycopg.errors.LockNotAvailable:
        pass


def _next(seconds: list[float]) -> float:
    """Return the first period once, then the last one again and again."""
    return seconds.pop(0) if len(seconds) > 1 else seconds[0]


def _main(config: Path) -> None:
    dsn = json.loads(config.read_text())["dsn"]
    sessions = []
    for number in range(2):
        half = (number + 1) / 2
        # Each waiter waits for a row of one holder, so that there are two trees, one of which is always old enough.
        hold = partial(_hold, [number + 1], [HOLD_SECONDS * half, HOLD_SECONDS])
        wait = partial(_wait, number + 1, [WAIT_SECONDS * half, WAIT_SECONDS])
        sessions += [(HOLDERS[number], hold), (WAITERS[number], wait)]
    for name, work in sorted(sessions, reverse=True):  # the holders first
        threading.Thread(target=_forever, args=(dsn, name, work)).start()
        time.sleep(0.1)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
