"""The sessions of planted faults, for as long as the lab is up: forgotten transactions and whom they block, a table
lock, and reports that take too long."""

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
LOCKER = "audit-export"
LOCKED = "clinic.logins"
# The slow report of each system, and how long it takes: more than its file allows (claims 100 ms, student 50 ms). It
# sleeps, so that it is slow on every machine and at every scale and costs none of it anything.
REPORTS = {
    "claims": (
        "SELECT c.status, c.claims, c.amount FROM pg_sleep(%s), LATERAL (SELECT status, count(*) AS claims,"
        " sum(amount) AS amount FROM (SELECT status, amount FROM claims_claim LIMIT 500) AS part GROUP BY status) AS c",
        0.15,
    ),
    "student": (
        "SELECT s.school_code, s.students FROM pg_sleep(%s), LATERAL (SELECT school_code, count(*) AS students"
        " FROM (SELECT school_code FROM students LIMIT 500) AS part GROUP BY school_code) AS s",
        0.08,
    ),
}
# Judged is what was called 20 times since the last run, and runs may follow each other within half a minute.
REPORT_PAUSE = 0.6
# Nothing gets so old that it becomes another, worse trouble (a query that runs for minutes, a transaction of hours).
# Each begins anew after its time; the two of a pair do so half a period apart, so that one is always old enough.
HOLD_SECONDS = 1200.0
WAIT_SECONDS = 100.0


class Keeper(Helper):
    """The process with the sessions; `settings["dsns"]` says where, by system."""

    module = "lab.keeper"
    ports_needed = ()

    def check_ready(self) -> None:
        """Pass when every waiter waits for a holder, the table is locked, and the reports are asked for."""
        waiting = (
            "SELECT count(*) FROM pg_stat_activity w JOIN pg_stat_activity h ON h.pid = ANY (pg_blocking_pids(w.pid))"
            " WHERE w.application_name = ANY (%s) AND h.application_name = ANY (%s)"
        )
        locked = "SELECT count(*) FROM pg_locks WHERE relation = %s::regclass AND granted AND mode = %s"
        asked = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reports' AND datname = current_database()"
        )
        self._expect("cardiology", len(WAITERS), waiting, [list(WAITERS), list(HOLDERS)])
        self._expect("cardiology", 1, locked, [LOCKED, "ShareUpdateExclusiveLock"])
        for name in REPORTS:
            self._expect(name, 1, asked, [])

    def _expect(self, name: str, count: int, statement: str, values: list[Any]) -> None:
        with psycopg.connect(self.settings["dsns"][name], connect_timeout=2) as connection:
            row = connection.execute(statement, values).fetchone()
        if row != (count,):
            raise LabError(f"{name}: {row}, expected {count}: {statement}")


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


def _lock(connection: psycopg.Connection) -> None:
    """Keep VACUUM and ANALYZE from a table, and nobody else: readers, writers and dumps go on.

    The transaction begins anew before it is as old as the forgotten ones are meant to be, and nobody can take the lock
    in between: autovacuum looks once a minute, and a routine would have to wait at that very moment.
    """
    with connection.transaction():
        connection.execute(f"LOCK TABLE {LOCKED} IN SHARE UPDATE EXCLUSIVE MODE")
        for _ in connection.notifies(timeout=HOLD_SECONDS):
            pass


def _report(statement: str, seconds: float, connection: psycopg.Connection) -> None:
    """Ask for a slow report, as an application would, over and over."""
    connection.execute(statement, [seconds])
    time.sleep(REPORT_PAUSE)


def _next(seconds: list[float]) -> float:
    """Return the first period once, then the last one again and again."""
    return seconds.pop(0) if len(seconds) > 1 else seconds[0]


def _main(config: Path) -> None:
    dsns = json.loads(config.read_text())["dsns"]
    cardiology = dsns["cardiology"]
    waiters, sessions = [], [(cardiology, LOCKER, _lock)]
    for number in range(2):
        half = (number + 1) / 2
        # Each waiter waits for a row of one holder, so that there are two trees, one of which is always old enough.
        hold = partial(_hold, [number + 1], [HOLD_SECONDS * half, HOLD_SECONDS])
        wait = partial(_wait, number + 1, [WAIT_SECONDS * half, WAIT_SECONDS])
        sessions.append((cardiology, HOLDERS[number], hold))
        waiters.append((cardiology, WAITERS[number], wait))
    for name, (statement, seconds) in REPORTS.items():
        waiters.append((dsns[name], "reports", partial(_report, statement, seconds)))
    for dsn, name, work in sessions + waiters:  # the holders first
        threading.Thread(target=_forever, args=(dsn, name, work)).start()
        time.sleep(0.1)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
