"""What tests of vacuum and analyze share: the whole lifecycle on a real server, remembered from run to run."""

from __future__ import annotations

import logging
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.integration.database_bench import Kept, Memory
from upkeep.adapters import postgres, target_lock, volume, workbench
from upkeep.core.cadence import Window
from upkeep.core.errors import ConfigurationError, CriticalFindingError
from upkeep.core.job import Job
from upkeep.core.model import Finding, Severity
from upkeep.core.routine import Routine
from upkeep.core.targets import PostgresTarget, Volume
from upkeep.ledger import events as ev
from upkeep.ledger.record import RoutineRecord, fold
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger
from upkeep.operators.lifecycle import Lifecycle

# Tests neither wait long for locks nor for a second try.
QUICK = {"lock_timeout": 0.3, "again_seconds": 0, "reach_seconds": 2}


@dataclass
class Care:
    """A routine on one database. `record` is what the ledger knows of the last run."""

    conninfo: str
    routine: str = "vacuum"
    tables: tuple[str, ...] = ()
    history: Memory = field(default_factory=Memory)
    until: datetime | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    volume: Volume | None = None
    record: RoutineRecord | None = None

    def __post_init__(self) -> None:
        self.conninfo = make_conninfo(**conninfo_to_dict(self.conninfo))  # not a URI: tools add words of their own

    def job(self, **settings: Any) -> tuple[Routine, Job[Any, Any]]:
        """Return the routine and a job for it."""
        routine = Routine.load(f"upkeep.routines.database.{self.routine}")
        now = datetime.now(UTC)
        tools: Any = SimpleNamespace(
            postgres=postgres.opener(lambda conn_id: self.conninfo),
            workbench=workbench.opener(lambda conn_id: self.conninfo),
            disk=volume.disk,
            history=self.history,
            now=lambda: datetime.now(UTC),
            log=logging.getLogger("test"),
        )
        system: Any = SimpleNamespace(name="claims")
        return routine, Job(
            routine=routine.name,
            target=PostgresTarget(conn_id="db", id="claims/db", tables=self.tables, volume=self.volume),
            system=system,
            settings=routine.resolve_settings(("test", QUICK | self.settings | settings)),
            window=Window(start=now, end=now),
            run_id="r",
            try_number=1,
            tools=tools,
            until=self.until,
        )

    def run(
        self, *, dry_run: bool = False, approved: frozenset[tuple[str, str]] | None = None, **settings: Any
    ) -> RoutineRecord:
        """Run it as an operator does, but for Airflow; return the ledger's record of it."""
        routine, job = self.job(**settings)
        begun = datetime.now(UTC)
        run = ev.RunKey(dag_id="d", run_id=uuid.uuid4().hex)
        key = ev.RoutineKey(**run.model_dump(), routine=routine.name, target="claims/db", try_number=1)
        with tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(_away, Spool(Path(folder)))
            given: Any = {"dry_run": dry_run, "last_try": True, "alone": self._alone, "approved": approved}
            life = Lifecycle(routine, job, key, ledger, **given)
            try:
                life.run()
            except CriticalFindingError:
                pass
            finally:
                self.record = fold(run, ledger.spool.events()).routines[0]
        # In the ledger what was measured first has the time at which that was, before anything was done.
        self.history.kept |= {(m.name, m.subject): Kept(begun, m.value) for m in self.record.measurements}
        keys = [f.key("t", "r") for f in self.record.findings]
        assert len(keys) == len(set(keys)), f"two findings have one key: {keys}"
        return self.record

    @contextmanager
    def _alone(self) -> Iterator[Any]:
        with target_lock.hold(self.conninfo, database=None, application_name="upkeep lock", patience=10) as check:
            yield check


def settle(*connections: psycopg.Connection[Any]) -> None:
    """Make the server's counters know what these connections did: they tell it now and then only, when they end one."""
    old = [c for c in connections if c.info.server_version < 150_000]
    for connection in connections:
        if connection not in old:
            connection.execute("SELECT pg_stat_force_next_flush()")
    if old:
        time.sleep(0.55)
        for connection in old:
            connection.execute("SELECT 1")
        time.sleep(0.05)


def _away() -> str:
    raise ConfigurationError("the ledger is away")


def done(record: RoutineRecord) -> list[str]:
    """Return the users' tables that were done, in the order of the plan."""
    return [name for name, status in statuses(record).items() if status == "done"]


def statuses(record: RoutineRecord) -> dict[str, str]:
    """Return what became of every table of users; the server's own change with every test."""
    tables = (a for a in record.actions if a.action.name in ("vacuum", "analyze"))
    return {a.action.subject: a.status for a in tables if not a.action.subject.startswith("pg_catalog.")}


def reason(record: RoutineRecord, table: str) -> str:
    """Return why a table was taken."""
    return next(a.action.reason for a in record.actions if a.action.subject == table)


def evidence(record: RoutineRecord, table: str) -> dict[str, Any]:
    """Return the evidence of one table."""
    return next(a.evidence for a in record.actions if a.action.subject == table)


def finding(record: RoutineRecord, check: str, subject: str | None = None) -> Finding:
    """Return the finding of a check; there must be exactly one."""
    hits = [f for f in record.findings if f.check == check and subject in (None, f.subject)]
    assert len(hits) == 1, f"expected one finding {check} {subject or ''}, seen {record.findings}"
    return hits[0]


def troubles(record: RoutineRecord) -> list[Finding]:
    """Return what a person would have to look at."""
    return [f for f in record.findings if f.severity.rank >= Severity.WARNING.rank]
