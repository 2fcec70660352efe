"""Vacuum and analyze the tables of a PostgreSQL database (14 to 18) that need it, the worst first, several at a time.

**What it does.** It reads, in one round trip, everything by which autovacuum decides, and decides the same way, with
lower limits because the hours are quiet (`share`, `freeze_share`). Beyond autovacuum it takes tables that were never
vacuumed or analyzed, those whose counters were lost in a crash, parents of partitions, and tables for which autovacuum
is switched off. Ids that grow old weigh most; every run in which a table did not get its turn counts as well, so none
starves. Tables that the system file names come first. Each table is estimated from the ledger's memory and not begun
when it would not be done within the budget and the maintenance window. VACUUM FULL is only proposed, for tables whose
bloat was measured: it is done when a person has agreed to that table.

**Why.** Dead rows that stay make tables and indexes grow and statements slow; ids that are not frozen in time stop the
server. Autovacuum does most of it, but at any hour, gently, and not everything.

**When it is red.**

- `horizon`: a transaction, a prepared one, a replication slot or a standby keeps dead rows from being removed. The
  message names it, the hint says how to end it. Tables of which no row could go are left out until then.
- `unremovable`: the same, seen in the report of the vacuum itself.
- `locked`: a table was locked for the whole run. The message says by whom.
- `gave_way`: somebody, named in the message, waited for a lock of ours, twice; both times we gave the table up, because
  whatever came after would have had to wait as well.
- `carried_over`: tables had to wait for the next run; a warning when that happens again and again.
- `privilege`: the role may not vacuum tables that need it; the hint is the GRANT.
- `damaged`: the server read data that are damaged. Keep all backups and restore.
- `disk`: the server's disk is full. Nothing further was begun.
- `ended`, `timeout`, `failed`: what the server said about one table; the others were done.
- `still_needed`: a table needs it as much as before.
- `standby`: the connection leads to a standby, where nothing can be vacuumed.
- `named`: the system file names a table that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from upkeep.core.cadence import Covers
from upkeep.core.job import Job
from upkeep.core.model import Action, Begun, Ended, Judgement, Outcome, Plan
from upkeep.core.targets import PostgresTarget
from upkeep.routines.database import _vacuum_crew, _vacuum_full, _vacuum_look, _vacuum_plan, _vacuum_verify
from upkeep.routines.database._vacuum_look import Seen
from upkeep.routines.database._vacuum_settings import VacuumSettings
from upkeep.routines.database._vacuum_work import Times

TITLE = "Vacuum and analyze"
TARGETS = ("postgres",)
COVERS = Covers.NOW
ROLE = "dba"
EXCLUSIVE = timedelta(hours=1)
WINDOWED = True


class Settings(VacuumSettings):
    """What is vacuumed, and how much of the server and of the clock that may take."""


VacuumJob = Job[PostgresTarget, Settings]


def observe(job: VacuumJob) -> Seen:
    """Ask for everything that the decision needs."""
    return _vacuum_look.look(
        job, _vacuum_full.questions(job), lambda server, answers: _vacuum_full.measured(job, server, answers)
    )


def judge(job: VacuumJob, seen: Seen) -> Judgement:
    """Judge what may not be done, and what would be in vain."""
    return _vacuum_plan.judge(job, seen)


def plan(job: VacuumJob, seen: Seen) -> Plan:
    """Decide which tables are done, the worst first, and which rewrites are proposed."""
    decided = _vacuum_plan.plan(job, seen)
    times = Times(job.tools.history, job.routine, job.settings.first_rate)
    return Plan(actions=(*decided.actions, *_vacuum_full.proposals(job, seen, times)))


def act_all(job: VacuumJob, actions: Sequence[Action]) -> Iterator[Sequence[Begun | Ended]]:
    """Vacuum them, several at a time."""
    return _vacuum_crew.act_all(job, actions)


def verify(job: VacuumJob, seen: Seen, outcomes: tuple[Outcome, ...]) -> Judgement:
    """Look again at what was done, and add up."""
    return _vacuum_verify.verify(job, seen, outcomes)
