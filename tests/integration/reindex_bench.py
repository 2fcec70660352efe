"""What tests of `database.reindex` share: databases with bloated indexes, and the routine run by the real lifecycle."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg

from lab.postgres import PostgresServer
from tests.integration.database_bench import Memory, database
from upkeep.adapters import postgres, volume, workbench
from upkeep.core.cadence import Window
from upkeep.core.errors import ConfigurationError, CriticalFindingError
from upkeep.core.job import Job
from upkeep.core.model import Finding, Severity
from upkeep.core.routine import Routine
from upkeep.core.targets import PostgresTarget
from upkeep.ledger import events as ev
from upkeep.ledger.record import fold
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger
from upkeep.operators.lifecycle import Lifecycle

ROUTINE = "upkeep.routines.database.reindex"
# Small indexes stand for large ones.
SMALL: dict[str, Any] = {
    "bloat_min_bytes": 2**16,
    "wasted_bytes": 100_000,
    "patience_seconds": 0,
    "lock_timeout": 1,
    "wait_seconds": 5,
}
# Nine rows of ten are gone from the whole range of keys: no page of the index is empty, all are nearly so.
BLOAT = """
CREATE EXTENSION IF NOT EXISTS pgstattuple;
CREATE TABLE visit (id int PRIMARY KEY, at int NOT NULL, note text) WITH (autovacuum_enabled = false);
CREATE INDEX visit_at ON visit (at);
INSERT INTO visit SELECT g, g, 'n' FROM generate_series(1, 30000) AS g;
DELETE FROM visit WHERE id % 10 <> 0;
"""


@dataclass
class Work:
    """What one run left in the ledger."""

    record: Any
    findings: list[Finding]
    error: BaseException | None = None

    @property
    def actions(self) -> dict[tuple[str, str], Any]:
        """The actions on record by name and subject."""
        return {(a.action.name, a.action.subject): a for a in self.record.actions}

    def action(self, name: str, subject: str) -> Any:
        """Return one action on record."""
        assert (name, subject) in self.actions, f"expected {name} {subject}, seen {list(self.actions)}"
        return self.actions[name, subject]

    def finding(self, check: str, subject: str | None = None) -> Finding:
        """Return the finding of a check; there must be exactly one."""
        hits = [f for f in self.findings if f.check == check and subject in (None, f.subject)]
        assert len(hits) == 1, f"expected one finding {check} {subject or ''}, seen {self.findings}"
        return hits[0]

    @property
    def troubles(self) -> list[Finding]:
        """What a person would have to look at."""
        return [f for f in self.findings if f.severity.rank >= Severity.WARNING.rank]


@dataclass
class Bench:
    """`database.reindex` on one database, run as an Airflow task runs it, with a ledger that is away (so: a spool)."""

    conninfo: str
    target: dict[str, Any] = field(default_factory=dict)
    history: Memory = field(default_factory=Memory)
    until: datetime | None = None
    runs: int = 0

    def run(self, approved: Any = None, dry_run: bool = False, **settings: Any) -> Work:
        """Run it once."""
        self.runs += 1
        run = ev.RunKey(dag_id="d", run_id=f"r{self.runs}")
        routine = Routine.load(ROUTINE)
        key = ev.RoutineKey(**run.model_dump(), routine=routine.name, target="claims/db", try_number=1)
        with tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(no_ledger, Spool(Path(folder)))
            life = Lifecycle(
                routine, self.job(routine, settings), key, ledger,
                dry_run=dry_run, last_try=True, approved=frozenset(approved) if approved is not None else None,
            )  # fmt: skip
            error: BaseException | None = None
            try:
                life.run()
            except CriticalFindingError as critical:
                error = critical
            events = list(ledger.spool.events())
        observed = [e for e in events if isinstance(e, ev.Observed)]
        findings = [f for e in observed for f in e.findings]
        keys = [f.key("t", "r") for f in findings]
        assert len(keys) == len(set(keys)), f"two findings have one key: {keys}"
        for event in observed:
            self.history.keep(event.measurements)
        return Work(fold(run, events).routines[0], findings, error)

    def job(self, routine: Routine, settings: dict[str, Any]) -> Job[Any, Any]:
        now = datetime.now(UTC)
        tools: Any = SimpleNamespace(
            postgres=postgres.opener(lambda conn_id: self.conninfo),
            workbench=workbench.opener(lambda conn_id: spelled_out(self.conninfo)),
            disk=volume.disk,
            history=self.history,
            now=lambda: datetime.now(UTC),
            log=logging.getLogger("test"),
        )
        return Job(
            routine=routine.name,
            target=PostgresTarget(conn_id="db", id="claims/db", **self.target),
            system=SimpleNamespace(name="claims"),  # type: ignore[arg-type]
            settings=routine.resolve_settings(("test", SMALL | settings)),
            window=Window(start=now, end=now),
            run_id="r",
            try_number=1,
            tools=tools,
            until=self.until,
        )


def spelled_out(uri: str) -> str:
    """Return a connection string as Airflow's connections give it: `host=... port=...`."""
    return psycopg.conninfo.make_conninfo(**psycopg.conninfo.conninfo_to_dict(uri))


def no_ledger() -> str:
    raise ConfigurationError("connection 'upkeep_ledger' is not defined")


@contextmanager
def bloated(on: PostgresServer, name: str = "claims") -> Iterator[psycopg.Connection[Any]]:
    """Give a connection to a database whose indexes on `visit` are nine tenths empty."""
    with database(on, name) as db:
        db.execute(BLOAT)
        db.execute("VACUUM ANALYZE visit")
        yield db


def size(db: psycopg.Connection[Any], index: str) -> int:
    """Return the bytes of an index."""
    [found] = db.execute("SELECT pg_relation_size(%s::regclass)", [index]).fetchone() or ()
    return int(found)


def invalid(db: psycopg.Connection[Any]) -> list[str]:
    """Return the names of all indexes that are not valid."""
    rows = db.execute(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT (indisvalid AND indisready AND indislive) ORDER BY 1"
    )
    return [row[0] for row in rows]
