"""Rebuild bloated indexes of a PostgreSQL database (14 to 18) while everybody works, and clear away broken builds.

**What it does.** It measures how much of each large B-tree is empty (pgstattuple; else estimated), and rebuilds those
beyond both limits (percent and bytes), the worst first, one at a time, with `REINDEX INDEX CONCURRENTLY`. What an
earlier rebuild left behind (`..._ccnew`, `..._ccold`, invalid) is dropped first. After an upgrade that changed how a
collation sorts, it proposes to rebuild what is sorted by the old rules.

**What it never does.** It keeps no reader or writer waiting: a rebuild gives way as soon as anybody waits for its lock.
It begins nothing that would not be done in the maintenance window (by the ledger's own rates), nor where disk space is
short. It asks first (approval) before a large index, one whose space nobody knows, an exclusion constraint's index
(which cannot be rebuilt concurrently) and anything about an index that an application failed to build.

**When it is red.**

- `duplicates` (critical): a unique index let equal keys in. Keep all backups and follow the hint.
- `damage` (critical): the server found damaged data while it read the table. Restore; check the hardware.
- `collation`: queries by these indexes may miss rows. Approve the rebuilds, then refresh the recorded version.
- `blocked`: somebody's transaction is named that stood in the way. End it, or it stands there again next time.
- `bloat`: an index stays bloated, and why. `space`, `time`: make room, or give it a longer window.
- `leftover`, `invalid`: an invalid index that costs writes; ours are dropped by the next run, others are proposed.
- `privilege`: the hint is the GRANT.

A worker or server that dies in the middle leaves an invalid twin of the index and no harm else: the next run drops it.

https://www.postgresql.org/docs/current/sql-reindex.html#SQL-REINDEX-CONCURRENTLY
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from upkeep.core.cadence import Covers
from upkeep.core.model import Action, Begun, Ended, Judgement, Outcome, Plan
from upkeep.routines.database import _reindex_judge, _reindex_work
from upkeep.routines.database._reindex_choice import choose
from upkeep.routines.database._reindex_seen import ReindexJob, Seen, observe
from upkeep.routines.database._reindex_settings import Settings

TITLE = "Index rebuilds"
TARGETS = ("postgres",)
COVERS = Covers.NOW
ROLE = "dba"
EXCLUSIVE = timedelta(hours=1)
WINDOWED = True
__all__ = ["Settings", "act_all", "judge", "observe", "plan", "verify"]


def judge(job: ReindexJob, seen: Seen) -> Judgement:
    """Judge what no rebuild of this run will cure."""
    return _reindex_judge.judge(seen, job.settings)


def plan(job: ReindexJob, seen: Seen) -> Plan:
    """Choose what is dropped and rebuilt, in which order."""
    return Plan(actions=tuple(choice.action for choice in choose(seen, job.settings) if choice.action))


def act_all(job: ReindexJob, actions: Sequence[Action]) -> Iterator[Sequence[Begun | Ended]]:
    """Do one after the other; what somebody blocks is tried again at the end."""
    return _reindex_work.act_all(job, actions)


def verify(job: ReindexJob, seen: Seen, outcomes: tuple[Outcome, ...]) -> Judgement:
    """Look again: is what was rebuilt valid, is nothing left behind, and what stays bloated?"""
    return _reindex_judge.verify(job, seen, outcomes)
