"""One heavy routine at a time on a database, by an advisory lock on the target itself: two Airflows are safe too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from upkeep.adapters.postgres import Session
from upkeep.adapters.workbench import Workbench, open_workbench
from upkeep.core.errors import TransientError
from upkeep.core.job import Failed

# How long between two tries. `pg_advisory_lock` would wait by itself, but its snapshot would keep dead rows alive all
# the while.
_PAUSE_SECONDS = 2.0
# The line is asked whether it is still there at most so often.
_TRUST_SECONDS = 1.0


@contextmanager
def hold(
    conninfo: str, *, database: str | None, application_name: str, patience: float, pause: float = _PAUSE_SECONDS
) -> Iterator[Callable[[], None]]:
    """Hold the database's maintenance lock; give a check that raises when it has been lost.

    The server lets the lock go when this connection ends, whatever ended it.

    :param patience: seconds to wait for the routine that holds it.
    :raises TransientError: somebody still works there when patience ends; from the check: the lock was lost.
    """
    with open_workbench(conninfo, database=database, application_name=application_name) as session:
        _take(session, time.monotonic() + patience, patience, pause)
        checked = time.monotonic()

        def still_held() -> None:
            nonlocal checked
            if time.monotonic() - checked < _TRUST_SECONDS:
                return
            answer = session.batch({"database/lock_held": {}})["database/lock_held"]
            if isinstance(answer, Failed) or not answer[0]["held"]:
                raise TransientError(
                    f"{session.place}: the maintenance lock was lost: its connection ended",
                    "look at the server's log for what ended it; it is tried again",
                )
            checked = time.monotonic()

        yield still_held


def _take(session: Workbench, deadline: float, patience: float, pause: float) -> None:
    while not session.rows("database/lock_take")[0]["taken"]:
        if time.monotonic() + pause > deadline:
            raise TransientError(
                f"{session.place}: {_holder(session)} is still at work after the {patience:.0f} s that this"
                " routine waits for its turn",
                "it is tried again; two heavy routines never work on one database at once",
            )
        time.sleep(pause)


def _holder(session: Session) -> str:
    rows: list[dict[str, Any]] = session.rows("database/lock_holder")
    if not rows:
        return "other maintenance"
    return (
        f"{rows[0]['application'] or 'another session'} (process {rows[0]['pid']}, role {rows[0]['role'] or 'unknown'})"
    )
