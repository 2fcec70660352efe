"""Analyze the tables of a PostgreSQL database (14 to 18) whose statistics are missing or old.

**What it does.** As `database.vacuum`, with the same order, lanes, budget and manners, but only ANALYZE: tables that
were never analyzed, tables of which so many rows have changed that autovacuum would analyze them (or half as many),
tables whose counters were lost, and parents of partitions, which autovacuum never analyzes.

**Why.** Plans are made from these statistics. Without them a statement that took milliseconds takes minutes, and for
partitioned tables nobody makes them.

**When it is red.** The findings are those of `database.vacuum`: `locked`, `gave_way`, `carried_over`, `privilege`,
`damaged`, `disk`, `ended`, `timeout`, `failed`, `still_needed`, `standby`, `named`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from upkeep.core.cadence import Covers
from upkeep.core.job import Job
from upkeep.core.model import Action, Begun, Ended, Judgement, Outcome, Plan
from upkeep.core.targets import PostgresTarget
from upkeep.routines.database import _vacuum_crew, _vacuum_look, _vacuum_plan, _vacuum_verify
from upkeep.routines.database._vacuum_look import Seen
from upkeep.routines.database._vacuum_settings import AnalyzeSettings

TITLE = "Analyze"
TARGETS = ("postgres",)
COVERS = Covers.NOW
ROLE = "dba"
EXCLUSIVE = timedelta(hours=1)
WINDOWED = True


class Settings(AnalyzeSettings):
    """What is analyzed, and how much of the server and of the clock that may take."""


AnalyzeJob = Job[PostgresTarget, Settings]


def observe(job: AnalyzeJob) -> Seen:
    """Ask for everything that the decision needs."""
    return _vacuum_look.look(job)


def judge(job: AnalyzeJob, seen: Seen) -> Judgement:
    """Judge what may not be done."""
    return _vacuum_plan.judge(job, seen)


def plan(job: AnalyzeJob, seen: Seen) -> Plan:
    """Decide which tables are done, the worst first."""
    return _vacuum_plan.plan(job, seen)


def act_all(job: AnalyzeJob, actions: Sequence[Action]) -> Iterator[Sequence[Begun | Ended]]:
    """Analyze them, several at a time."""
    return _vacuum_crew.act_all(job, actions)


def verify(job: AnalyzeJob, seen: Seen, outcomes: tuple[Outcome, ...]) -> Judgement:
    """Look again at what was done, and add up."""
    return _vacuum_verify.verify(job, seen, outcomes)
