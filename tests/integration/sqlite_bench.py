"""What tests of SQLite care share: the routine in the real lifecycle, on a real file, and others who use that file."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.integration.database_bench import Memory
from upkeep.adapters import sqlite, sqlite_work, volume
from upkeep.core.cadence import Window
from upkeep.core.errors import ConfigurationError, CriticalFindingError
from upkeep.core.job import Job
from upkeep.core.model import Ended, Finding, Severity
from upkeep.core.routine import Routine
from upkeep.core.sqlite import SqliteCopy
from upkeep.core.targets import SqliteTarget
from upkeep.ledger import events as ev
from upkeep.ledger.record import fold
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger

RUN = ev.RunKey(dag_id="d", run_id="r")
TARGET = "student/sqlite"
ROUTINE = "upkeep.routines.database.sqlite_care"


def no_ledger() -> str:
    raise ConfigurationError("connection 'upkeep_ledger' is not defined")


@dataclass
class Result:
    """One run, as its ledger tells it."""

    state: str
    findings: tuple[Finding, ...]
    measurements: dict[tuple[str, str], float]
    actions: list[Any]

    @property
    def did(self) -> dict[str, str]:
        """Name and status of each action, in order."""
        return {a.action.name: a.status for a in self.actions}

    def found(self, check: str) -> Finding:
        """Return the finding of a check; there must be exactly one."""
        hits = [f for f in self.findings if f.check == check]
        assert len(hits) == 1, f"expected one finding {check}, seen {self.findings}"
        return hits[0]

    @property
    def troubles(self) -> list[Finding]:
        """What a person would have to look at."""
        return [f for f in self.findings if f.severity.rank >= Severity.WARNING.rank]

    def evidence(self, action: str) -> dict[str, Any]:
        return next(a.evidence for a in self.actions if a.action.name == action)


@dataclass
class Care:
    """`database.sqlite_care` on one file; what it keeps lies in `root`."""

    path: Path
    root: Path
    until: datetime | None = None
    disk: Any = volume.disk
    history: Memory = field(default_factory=Memory)

    def run(self, *, dry_run: bool = False, **settings: Any) -> Result:
        """Run it once as Airflow would; a critical finding is part of the result."""
        from upkeep.operators.lifecycle import Lifecycle  # brings Airflow along

        routine = Routine.load(ROUTINE)
        with tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(no_ledger, Spool(Path(folder)))
            key = ev.RoutineKey(**RUN.model_dump(), routine=routine.name, target=TARGET, try_number=1)
            job = self.job(routine, settings)
            with contextlib.suppress(CriticalFindingError):
                Lifecycle(routine, job, key, ledger, dry_run=dry_run, last_try=True).run()
            row = fold(RUN, ledger.spool.events()).routines[0]
        keys = [f.key("t", "r") for f in row.findings]
        assert len(keys) == len(set(keys)), f"two findings have one key: {keys}"
        self.history.keep(row.measurements)
        numbers = {(m.name, m.subject): m.value for m in row.measurements}
        return Result(row.state, row.findings, numbers, list(row.actions))

    def bare(self, **settings: Any) -> tuple[dict[str, str], list[Finding]]:
        """Run it without the lifecycle, in processes that live for a moment only; return actions and findings."""
        routine = Routine.load(ROUTINE)
        job = self.job(routine, settings)
        seen = routine.observe(job)
        findings = [*routine.judge(job, seen).findings]
        actions = routine.plan(job, seen).actions
        assert routine.act_all
        steps = [step for batch in routine.act_all(job, actions) for step in batch]
        outcomes = {step.number: step.outcome for step in steps if isinstance(step, Ended)}
        findings += [f for o in outcomes.values() for f in o.findings]
        findings += routine.verify(job, seen, tuple(outcomes.values())).findings
        return {a.name: str(outcomes[n].status) for n, a in enumerate(actions, 1)}, findings

    def job(self, routine: Routine, settings: dict[str, Any]) -> Job[Any, Any]:
        now = datetime.now(UTC)
        tools: Any = SimpleNamespace(
            sqlite=sqlite.opener,
            sqlite_work=sqlite_work.Workshop(self.root),
            disk=self.disk,
            history=self.history,
            now=lambda: datetime.now(UTC),
            log=logging.getLogger("test"),
        )
        system: Any = SimpleNamespace(name="student")
        # Tests wait for locks shorter than applications do.
        values = {"busy_timeout": 0.2, "analyze_rows": 100, "vacuum_bytes": 100_000, **settings}
        return Job(
            routine=routine.name,
            target=SqliteTarget(path=str(self.path), id=TARGET),
            system=system,
            settings=routine.resolve_settings(("test", values)),
            window=Window(start=now, end=now),
            run_id="r",
            try_number=1,
            tools=tools,
            until=self.until,
        )

    @property
    def copies(self) -> tuple[SqliteCopy, ...]:
        """The copies that are kept, newest first."""
        return sqlite_work.Workshop(self.root).keep(TARGET).copies()

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.root.joinpath(*TARGET.split("/"))


def make(path: Path, *, rows: int = 3000, mode: str = "delete", auto_vacuum: str = "none") -> Path:
    """Make a database: two tables, an index, one with text that is no UTF-8, blobs, nulls and odd names."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(
            f"""
            PRAGMA auto_vacuum = {auto_vacuum};
            PRAGMA journal_mode = {mode};
            CREATE TABLE school (id INTEGER PRIMARY KEY, name TEXT);
            CREATE TABLE pupil (id INTEGER PRIMARY KEY, name TEXT, school REFERENCES school);
            CREATE INDEX by_name ON pupil (name);
            CREATE TABLE "odd ""name" (rowid TEXT PRIMARY KEY, b BLOB, r REAL) WITHOUT ROWID;
            CREATE TABLE loose (rowid, value);
            INSERT INTO school VALUES (1, 'north');
            INSERT INTO "odd ""name" VALUES ('a', x'00ff', 0.1), ('b', NULL, -1e308), ('c', CAST(x'c328' AS TEXT), 3);
            INSERT INTO loose VALUES (1, 'x'), (NULL, x'78');
            """
        )
        fill(db, rows)
    return path


def fill(db: sqlite3.Connection, rows: int) -> None:
    """Add pupils, 200 bytes each."""
    db.execute("BEGIN")
    db.executemany("INSERT INTO pupil (name, school) VALUES (?, 1)", ((f"{n:0200}",) for n in range(rows)))
    db.execute("COMMIT")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection of somebody else's."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as db:
        yield db


def content(path: Path) -> list[Any]:
    """Return everything that is in a database, in an order of its own."""
    with opened(path) as db:
        db.text_factory = bytes
        names = [n.decode() for (n,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        tables = sorted(n for n in names if not n.startswith("sqlite_stat"))
        quoted = [n.replace('"', '""') for n in tables]
        return [(n, sorted(map(repr, db.execute(f'SELECT * FROM "{n}"')))) for n in quoted]


@contextlib.contextmanager
def somebody(path: Path, program: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program in another process, in which `db` is open, until the end; it begins when it says so."""
    text = f"""
import sqlite3, sys, time
db = sqlite3.connect({str(path)!r}, isolation_level=None, timeout=10)
def ready(): print("ready", flush=True)
{program}
"""
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()
