"""Ten weeks that the lab never saw: the sizes that weekly runs would have kept, without which nothing can be projected.

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

if TYPE_CHECKING:
    from lab.embedded import Lab

WEEKS = 10
ROUTINE = "capacity.database"
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
    lines = [json.dumps(event) + "\n" for one in SYSTEMS for event in _events(lab, one, now)]
    with (folder / "lock").open("w") as lock, (folder / "events.jsonl").open("a") as spool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        spool.writelines(lines)
    write_private(marker, done)


def _events(lab: Lab, system: SampleSystem, now: datetime) -> Iterator[dict[str, Any]]:
    own, whole = size(lab, system)
    grown = CAMPUS_GROWN if system.name == "campus" else GROWN
    for weeks in range(WEEKS, 0, -1):
        share = 1 - grown * weeks / WEEKS + _STRAYING[weeks % len(_STRAYING)]
        routine = {
            "dag_id": "maintenance_weekly",
            "run_id": f"the lab's past, week -{weeks:02}",
            "routine": ROUTINE,
            "target": f"{system.name}/db",
            "try_number": 1,
        }
        at = (now - timedelta(weeks=weeks)).isoformat()
        measured = [
            {"name": name, "value": round(value * share), "unit": "bytes"}
            for name, value in (("database.size", own), ("server.size", whole))
        ]
        yield _event("routine_opened", at, routine, system=system.name, role="dba", title="Growth and capacity")
        yield _event("observed", at, routine, stage="judge", system=system.name, measurements=measured)
        yield _event("routine_closed", at, routine, state="success", severity="ok")


def _event(kind: str, at: str, routine: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": str(uuid.uuid4()), "at": at, "kind": kind, "routine": routine, **more}
