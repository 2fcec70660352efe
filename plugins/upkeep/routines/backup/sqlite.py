"""Back a SQLite database up into the store and prove, row by row, what is in the backup.

**What it does.** The file is copied while programs use it, as of one moment: with a write-ahead log in one read
transaction, for which nobody waits; without one in small steps between which writers may work. In the same moment the
rows of every table are counted and hashed. The copy itself is then read: `integrity_check`, and every row compared with
what the source had. Only then it is packed (gzip), stored, and its manifest written last: **without a manifest there
is no backup.** Copying the file with `cp` instead may catch half a transaction.

**Restoring by hand.** Fetch `database.db.gz` from the backup's folder, `gunzip`, stop the programs that use the
database, move the old file **together with its `-wal`, `-shm` and `-journal`** aside, put the new one in its place.

**When it is red.**

- *damaged*: the database itself is. Keep the file, restore the latest verified backup, look at the disk.
- *locked*, *changes faster than it can be copied*: tried again; `PRAGMA journal_mode = wal` ends it for good.
- *store away*, *disk full*: tried again; nothing that was half written counts as a backup.
- `emptied`: there is not one row any more, and there were some. Was the file cut off? Restore the backup before.
- `manifest`: the store did not keep what was written. Look at the store, then run this again.
"""

from __future__ import annotations

from pydantic import Field

from upkeep.core.cadence import Covers
from upkeep.core.job import Job
from upkeep.core.model import Action, Judgement, Outcome, Plan, Severity
from upkeep.core.targets import SqliteTarget
from upkeep.routines.backup import _common, _copies
from upkeep.routines.backup._copies import CopySettings, Seen

TITLE = "SQLite backup"
TARGETS = ("sqlite",)
COVERS = Covers.NOW
ROLE = "dba"


class Settings(CopySettings):
    """How to copy."""

    busy_timeout: float = Field(30, ge=0, le=600, description="seconds to wait for a program that locks the file")
    hold_seconds: float = Field(
        10, ge=0, le=600, description="seconds that writers may have to wait, where there is no write-ahead log"
    )


def observe(job: Job[SqliteTarget, Settings]) -> Seen:
    """Look at the file and at the store.

    :raises ConfigurationError, DamagedError: there is no such file, or it is no SQLite database.
    """
    found = job.tools.sqlite_work.place(job.target.path)
    return _copies.look(job, _common.place(job, "sqlite"), job.target.path, found.file_bytes + found.wal_bytes)


def judge(job: Job[SqliteTarget, Settings], seen: Seen) -> Judgement:
    """Measure."""
    return _copies.measured(seen)


def plan(job: Job[SqliteTarget, Settings], seen: Seen) -> Plan:
    """Sweep leftovers when there are any, then back up."""
    return _copies.planned(job, seen)


def act(job: Job[SqliteTarget, Settings], action: Action) -> Outcome:
    """Sweep or back up."""
    place = _common.place(job, "sqlite")
    if action.name == "sweep":
        return _common.sweep(job, place, _copies.patience(job))
    wanted = job.settings
    options = _copies.options(job, busy_timeout=wanted.busy_timeout, hold_seconds=wanted.hold_seconds)
    report = _common.Reporter(job.tools.log.info, job.tools.now, wanted.progress_seconds)
    kept = job.tools.copies.copy_sqlite(job.target.path, place, options, job.run_id, report)
    proof = kept.manifest.proof
    made = _copies.outcome(
        kept,
        int(kept.manifest.settings["unpacked_bytes"]),
        f"{len(proof['tables'])} tables, {proof['rows']} rows, each compared with its source",
        tables=len(proof["tables"]),
        rows=proof["rows"],
    )
    found = _copies.emptied(job, place, kept.manifest, lambda manifest: int(manifest.proof["rows"]), Severity.CRITICAL)
    return made.model_copy(update={"findings": found})


def verify(job: Job[SqliteTarget, Settings], seen: Seen, outcomes: tuple[Outcome, ...]) -> Judgement:
    """Read the manifest back from the store and see that every object is there with its size."""
    return _common.kept_as_written(job, seen.place, outcomes)
