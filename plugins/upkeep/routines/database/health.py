"""Look a PostgreSQL database over (14 to 18), read-only, over one connection, in few round trips.

**What it does.** It connects, asks `SELECT 1` a few times, and sends all other questions at once: connections in use,
long-running statements, idle and prepared transactions, who waits for whom, the age of transaction and multixact ids
of all databases, checksum failures, standbys and replication slots, sequences near their end, sizes, cache hits.
Sessions, locks, slots and failures are those of this database (a server's other databases are targets of their own);
ids are looked at everywhere, because one database that runs out of them stops all.

**Why.** Each of these has stopped production systems that looked fine an hour before.

**When it is red.** Every finding says what was seen, the limit, and what to do next.

- `reachable`: the server is down or cuts us off. Its log tells why; the runbook DAG for database trouble goes on.
- `query_time`: the way to the server or the server itself is slow; the statement reads nothing.
- `connections`, `long_query`, `idle_in_transaction`, `blocked`, `prepared`: someone holds what others need. The message
  names process, role and statement (without its literals). Ask the owner before ending anything.
- `wraparound`, `multixact`: vacuum does not keep up. Find what holds the horizon before vacuuming.
- `checksum`: data on disk are damaged. Keep all backups, restore, check the hardware.
- `replication`, `slot`: a standby lags or is gone, or WAL piles up until the volume is full.
- `sequence`: inserts will fail at the last value.
- `privilege`: the role may not see something, and that is never taken for "fine". The hint is the GRANT that cures it.

What it cannot tell: how full the space for multixact members is (no function shows it before 19), and whether a long
statement is a useful one.
"""

from __future__ import annotations

import time
from typing import Any

from upkeep.core.cadence import Covers
from upkeep.core.errors import TransientError
from upkeep.core.job import Failed, Job, Server
from upkeep.core.model import Judgement
from upkeep.core.targets import PostgresTarget
from upkeep.routines._looking import look
from upkeep.routines.database import _answers, _blocked, _replication, _sessions, _storage
from upkeep.routines.database._seen import Seen, lowest
from upkeep.routines.database._settings import Settings

TITLE = "Database health"
TARGETS = ("postgres",)
COVERS = Covers.NOW
ROLE = "dba"
_PAUSE_SECONDS = 1.0


def observe(job: Job[PostgresTarget, Settings]) -> Seen:
    """Connect and ask everything.

    A server that cannot be reached, or is lost on the way, is an observation and no error.

    :raises ConfigurationError: the server is there and refuses us (password, database, role).
    """
    deadline = time.monotonic() + job.settings.reach_seconds
    while True:
        try:
            return _look(job)
        except TransientError as error:
            job.tools.log.warning("%s: %s", job.target.id, error.message)
            if time.monotonic() + _PAUSE_SECONDS > deadline:
                return Seen(place=job.target.id, lost=error.message)
            time.sleep(_PAUSE_SECONDS)


def judge(job: Job[PostgresTarget, Settings], seen: Seen) -> Judgement:
    """Judge what was seen, and say of what was not seen that it is unknown."""
    settings = job.settings
    return (
        _answers.judge(seen, settings)
        + _sessions.judge(seen, settings)
        + _blocked.judge(seen, settings)
        + _storage.judge(seen, settings, job.tools.history)
        + _replication.judge(seen, settings)
    )


def _look(job: Job[PostgresTarget, Settings]) -> Seen:
    settings = job.settings
    with look(job) as server:
        pings, answers = _pings(server, settings.query_tries)
        answers |= server.batch(_questions(settings))
        lost = next((a.message for a in answers.values() if isinstance(a, Failed) and a.reason == "gone"), "")
        return Seen(server.place, server.connect_ms, pings, answers, lost, server.round_trips)


def _pings(server: Server, tries: int) -> tuple[tuple[float, ...], dict[str, Any]]:
    """Return the times of some round trips (ms), each on its own because the trip is what is measured."""
    times: list[float] = []
    answers: dict[str, Any] = {}
    for _ in range(tries):
        begun = time.perf_counter()
        answers = server.batch({"database/ping": {}})
        if isinstance(answers["database/ping"], Failed):
            break
        times.append((time.perf_counter() - begun) * 1000)
    return tuple(times), answers


def _questions(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return every statement of the one batch with its values."""
    top = {"top": settings.top}
    return {
        "database/server": {},
        "database/connections": top,
        "database/sessions": top
        | {
            "query_seconds": lowest(settings.long_query),
            "idle_seconds": lowest(settings.idle_in_transaction),
            "expected": list(settings.expected_applications),
        },
        "database/blocked": {},
        "database/prepared": top | {"seconds": lowest(settings.prepared)},
        "database/wraparound": top,
        "database/statistics": {},
        "database/replicas": top,
        "database/recovery": {},
        "database/slots": {},
        "database/sequences": top | {"least": lowest(settings.sequence) / 100},
        "database/size": {},
        "database/tables": top,
    }
