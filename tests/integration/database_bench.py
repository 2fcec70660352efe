"""What tests of database routines share: one server of every major, and a routine run as the lifecycle runs it."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import psycopg

from lab.postgres import MAJORS, PostgresServer
from lab.process import scratch_folder
from upkeep.adapters import postgres, sqlite, volume
from upkeep.core.cadence import Window
from upkeep.core.job import Job
from upkeep.core.model import Finding, Judgement, Measurement, Severity
from upkeep.core.routine import Routine
from upkeep.core.targets import PostgresTarget, SqliteTarget

__all__ = ["MAJORS"]

SETTINGS: dict[str, str | int] = {"max_prepared_transactions": 5, "autovacuum": "off", "max_wal_senders": 4}
_servers = contextlib.ExitStack()
atexit.register(_servers.close)


@functools.cache
def server(major: int) -> PostgresServer:
    """Return this test run's server of a major version, started when it is first asked for."""
    return _servers.enter_context(fresh_server(major))


@contextlib.contextmanager
def fresh_server(major: int, **settings: str | int) -> Iterator[PostgresServer]:
    """Give a server of its own to a test that destroys it."""
    with scratch_folder() as folder, PostgresServer(major, folder, settings=SETTINGS | settings) as started:
        yield started


@contextlib.contextmanager
def database(on: PostgresServer, name: str = "claims") -> Iterator[psycopg.Connection[Any]]:
    """Give a connection to a new database with a little data, and drop the database afterwards."""
    from psycopg import sql

    on.create_database(name)
    try:
        # Not `on.connect(name)`: in a URI this name might mean something else.
        where = psycopg.conninfo.make_conninfo(on.dsn(), dbname=name)
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(SEED)
            yield connection
    finally:
        with on.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


SEED = """
CREATE TABLE claim (id serial PRIMARY KEY, amount numeric NOT NULL, note text);
CREATE INDEX ON claim (amount);
INSERT INTO claim (amount, note) SELECT g, repeat('n', 100) FROM generate_series(1, 2000) AS g;
CREATE TABLE payment (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, claim_id int REFERENCES claim);
INSERT INTO payment (claim_id) SELECT id FROM claim;
"""


@dataclass(frozen=True)
class Kept:
    """One kept measurement."""

    at: datetime
    value: float


@dataclass
class Memory:
    """A history that remembers the measurements of the runs of one test."""

    kept: dict[tuple[str, str], Kept] = field(default_factory=dict)
    points: dict[tuple[str, str], list[Kept]] = field(default_factory=dict)

    def keep(self, measurements: tuple[Measurement, ...], at: datetime | None = None) -> None:
        at = at or datetime.now(UTC)
        for m in measurements:
            self.kept[m.name, m.subject] = Kept(at, m.value)
            self.points.setdefault((m.name, m.subject), []).append(Kept(at, m.value))

    def last(self, name: str, subject: str = "") -> Kept | None:
        return self.kept.get((name, subject))

    def latest(self, name: str) -> Mapping[str, Kept]:
        return {subject: kept for (n, subject), kept in self.kept.items() if n == name}

    def series(self, name: str, subject: str = "", limit: int = 90) -> list[Kept]:
        return self.points.get((name, subject), [])[-limit:]


@dataclass
class Bench:
    """A routine on one target, with the adapters it gets in an Airflow run."""

    routine: Routine
    target: PostgresTarget | SqliteTarget
    conninfo: str = ""
    open_postgres: Callable[..., Any] | None = None
    history: Memory = field(default_factory=Memory)
    seen: Any = None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def run(self, **settings: Any) -> Judgement:
        """Observe and judge; the measurements are remembered for the next run."""
        job = self.job(settings)
        self.seen = self.routine.observe(job)
        judgement = self.routine.judge(job, self.seen)
        keys = [f.key("t", "r") for f in judgement.findings]
        assert len(keys) == len(set(keys)), f"two findings have one key: {keys}"
        self.history.keep(judgement.measurements, self.clock())
        return judgement

    def job(self, settings: dict[str, Any]) -> Job[Any, Any]:
        now = datetime.now(UTC)
        tools: Any = SimpleNamespace(
            postgres=self.open_postgres or postgres.opener(lambda conn_id: self.conninfo),
            sqlite=sqlite.opener,
            history=self.history,
            disk=volume.disk,
            now=self.clock,
            log=logging.getLogger("test"),
        )
        system: Any = SimpleNamespace(name="claims")
        return Job(
            routine=self.routine.name,
            target=self.target,
            system=system,
            settings=self.routine.resolve_settings(("test", self._impatient() | settings)),
            window=Window(start=now, end=now),
            run_id="r",
            try_number=1,
            tools=tools,
        )

    def _impatient(self) -> dict[str, Any]:
        """Return the setting that keeps a routine from waiting for a server that a test has stopped."""
        return {"reach_seconds": 0} if self.conninfo and "reach_seconds" in self.routine.settings.model_fields else {}


def health(conninfo: str) -> Bench:
    """Return `database.health` on a database."""
    routine = Routine.load("upkeep.routines.database.health")
    return Bench(routine, PostgresTarget(conn_id="db", id="claims/db"), conninfo)


def sqlite_health(path: str) -> Bench:
    """Return `database.sqlite_health` on a file."""
    routine = Routine.load("upkeep.routines.database.sqlite_health")
    return Bench(routine, SqliteTarget(path=path, id="student/sqlite"))


def found(judgement: Judgement, check: str, subject: str | None = None) -> Finding:
    """Return the finding of a check (and subject); there must be exactly one."""
    hits = [f for f in judgement.findings if f.check == check and subject in (None, f.subject)]
    assert len(hits) == 1, f"expected one finding {check} {subject or ''}, seen {judgement.findings}"
    return hits[0]


def checks(judgement: Judgement) -> set[str]:
    """Return the names of the checks that found something."""
    return {f.check for f in judgement.findings}


def troubles(judgement: Judgement) -> list[Finding]:
    """Return what a person would have to look at."""
    return [f for f in judgement.findings if f.severity.rank >= Severity.WARNING.rank]


def value(judgement: Judgement, name: str, subject: str = "") -> float:
    """Return a measurement."""
    return next(m.value for m in judgement.measurements if (m.name, m.subject) == (name, subject))


def until(true: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Wait for something that will happen; fail when it does not."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        time.sleep(0.01)


def begin(connection: psycopg.Connection[Any], statement: str) -> None:
    """Send a statement and do not wait for its end."""
    connection.pgconn.send_query(statement.encode())
    connection.pgconn.flush()


def waiting(connection: psycopg.Connection[Any]) -> int:
    """Return how many sessions wait for a lock."""
    row = connection.execute("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted").fetchone()
    return int(row[0]) if row else 0
