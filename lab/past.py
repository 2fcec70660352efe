"""Weeks that the lab never saw: sizes that weekly runs would have kept, without which nothing can be projected, and
errors that daily runs would have counted in a log, without which none is new.

They are handed to the ledger as what waited in its spool, the file of events that is replayed when the ledger is back.
"""

from __future__ import annotations

import fcntl
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lab.process import write_private
from lab.systems import SYSTEMS, SampleSystem
from lab.windows import newest

if TYPE_CHECKING:
    from lab.embedded import Lab

PAST = "the lab's past"  # what the ids of its runs begin with
WEEKS = 10
ROUTINE = "capacity.database"
# Daily runs that have reviewed a log, and the one kind of error that it has on every day, as the review masks it.
REVIEWS = 7
REVIEWED, USUAL_ERROR = "campus/app-log", "error: [error] mail to student <n> bounced"
# Part of today's size that a database has grown by in that time.
GROWN = 0.05
# No database grows along a line: parts of its size by which it is larger or smaller than that.
_STRAYING = (0.0, 0.006, -0.004, 0.002, -0.007)
# Campus grows so fast that 90 % of a limit of 1.5 times its size are likely reached in 61 days, when a database that
# shrinks by 0.4 / 70 of its size for every day that one goes back has 0.35 of it to go.
CAMPUS_GROWN, CAMPUS_LIMIT = 0.4, 1.5
_SIZES = "SELECT pg_database_size(%s), (SELECT sum(pg_database_size(oid)) FROM pg_database)::bigint"


def size(lab: Lab, system: SampleSystem) -> tuple[int, int]:
    """Return the bytes of a system's database and of all databases of its server."""
    with lab.clusters[system.cluster].connect() as admin:
        row = admin.execute(_SIZES, [system.database]).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def write_past(lab: Lab) -> None:
    """Write the past that ends today, once a day; it replaces that of another day, for its runs are the same ones."""
    now = datetime.now(UTC)
    done = f"{now:%Y-%m-%d} {lab.scale:g}"
    marker = lab.home / "past"
    if marker.exists() and marker.read_text() == done:
        return
    folder = lab.spool
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    events = [*_weeks(now), *(event for one in SYSTEMS for event in _sizes(lab, one, now)), *_reviews(now)]
    lines = [json.dumps(event) + "\n" for event in events]
    with (folder / "lock").open("w") as lock, (folder / "events.jsonl").open("a") as spool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        spool.writelines(lines)
    write_private(marker, done)


def _weeks(now: datetime) -> Iterator[dict[str, Any]]:
    for weeks in range(WEEKS, 0, -1):
        end = now - timedelta(weeks=weeks)
        yield from _run(_week(weeks), "weekly", end - timedelta(weeks=1), end)


def _week(weeks: int) -> dict[str, str]:
    return {"dag_id": "maintenance_weekly", "run_id": f"{PAST}, week -{weeks:02}"}


def _reviews(now: datetime) -> Iterator[dict[str, Any]]:
    newest_start = newest("daily", now).start
    for days in range(REVIEWS, 0, -1):
        end = newest_start - timedelta(days=days - 1)
        run = {"dag_id": "maintenance_daily", "run_id": f"{PAST}, day -{days:02}"}
        yield from _run(run, "daily", end - timedelta(days=1), end)
        errors = 1 + days % 2
        measured = [
            {"name": "entries", "value": 300, "unit": "count"},
            {"name": "errors", "value": errors, "unit": "count"},
            {"name": "pattern", "subject": USUAL_ERROR, "value": errors, "unit": "count"},
        ]
        routine = {**run, "routine": "logs.review", "target": REVIEWED, "try_number": 1}
        yield from _done(routine, end.isoformat(), ("campus", "sysadmin", "Log review"), measured)


def _sizes(lab: Lab, system: SampleSystem, now: datetime) -> Iterator[dict[str, Any]]:
    own, whole = size(lab, system)
    grown = CAMPUS_GROWN if system.name == "campus" else GROWN
    for weeks in range(WEEKS, 0, -1):
        share = 1 - grown * weeks / WEEKS + _STRAYING[weeks % len(_STRAYING)]
        routine = {**_week(weeks), "routine": ROUTINE, "target": f"{system.name}/db", "try_number": 1}
        measured = [
            {"name": name, "value": round(value * share), "unit": "bytes"}
            for name, value in (("database.size", own), ("server.size", whole))
        ]
        at = (now - timedelta(weeks=weeks)).isoformat()
        yield from _done(routine, at, (system.name, "dba", "Growth and capacity"), measured)


def _run(run: dict[str, str], cadence: str, start: datetime, end: datetime) -> Iterator[dict[str, Any]]:
    """Yield a run from beginning to end: what was measured in it counts from when its window ended."""
    window = {"window_start": start.isoformat(), "window_end": end.isoformat()}
    at = end.isoformat()
    yield _event("run_opened", at, run=run, cadence=cadence, run_type="scheduled", **window)
    yield _event("run_closed", at, run=run, verdict="ok", reasons=[])


def _done(
    routine: dict[str, Any], at: str, whose: tuple[str, str, str], measured: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield a routine that has measured something and found nothing; `whose` are system, role and title."""
    system, role, title = whose
    yield _event("routine_opened", at, routine=routine, system=system, role=role, title=title)
    yield _event("observed", at, routine=routine, stage="judge", system=system, measurements=measured)
    yield _event("routine_closed", at, routine=routine, state="success", severity="ok")


def _event(kind: str, at: str, **more: Any) -> dict[str, Any]:
    return {"id": str(uuid.uuid4()), "at": at, "kind": kind, **more}
