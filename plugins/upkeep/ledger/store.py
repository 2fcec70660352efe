"""The ledger itself: PostgreSQL when it answers, the spool when it does not."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upkeep.adapters import statements
from upkeep.core.errors import ConfigurationError, UpkeepError
from upkeep.core.model import Model
from upkeep.ledger import events as ev
from upkeep.ledger.record import RunRecord, fold
from upkeep.ledger.spool import Spool, SpoolError

if TYPE_CHECKING:
    import psycopg

MIGRATIONS = Path(__file__).parent / "migrations"
# Any constant works as long as no other program uses it on the same database: ASCII of "upkeep".
ADVISORY_LOCK = 0x75706B656570
# Keys of an outcome's evidence that have tables of their own, each with its own `project_evidence_*`.
EVIDENCE = ("backup", "verification", "verification_of_copy", "restore_test", "removed", "artefact")
RETRY_AFTER_SECONDS = 20
# The server gives a statement up after the first; when it says nothing at all, the connection is cut after the second.
STATEMENT_SECONDS = 20
ANSWER_SECONDS = 30
log = logging.getLogger(__name__)


class Kept(Model):
    """One kept measurement."""

    at: datetime
    value: float


class Ledger:
    """Writes events and answers questions about earlier runs.

    `conninfo` returns a libpq connection string; it is asked for only when a connection is opened. `redact` masks
    secrets in free text before it is written anywhere. When the ledger
    cannot be reached every event goes to the spool, and the first write after it is back replays the spool in order.
    """

    def __init__(
        self, conninfo: Callable[[], str], spool: Spool, redact: Callable[[Any], Any] = lambda text: text
    ) -> None:
        self._conninfo = conninfo
        self._redact = redact
        self._connection: psycopg.Connection[dict[str, Any]] | None = None
        self._away_until = 0.0
        self._spool_reported = False
        self.spool = spool
        self.away_reason = ""

    def write(self, *events: ev.Event) -> bool:
        """Record events; return whether they are in the ledger (true) or wait in the spool (false)."""
        import psycopg

        events = tuple(ev.scrub(event, self._redact) for event in events)
        try:
            self._twice(lambda: self._write(events))
            return True
        except (psycopg.Error, OSError, UpkeepError) as error:
            self._lost(error)
            self._keep_for_later(events)
            return False

    def replay(self) -> int:
        """Write what waits in the spool; return how many events that were.

        :raises psycopg.Error, ConnectionError: the ledger is still away; what waits goes on waiting.
        """
        import psycopg

        connection = self._connect()
        count = self.spool.replay(self._append, (psycopg.DataError, psycopg.IntegrityError)) if connection else 0
        if count:
            log.info("ledger: replayed %d events that waited in the spool", count)
        return count

    def record(self, run: ev.RunKey) -> RunRecord:
        """Return a run as the ledger tells it or, while it is away, as the spool of this machine does."""
        rows = self.ask("events_of_run", dag_id=run.dag_id, run_id=run.run_id)
        told = [*(ev.EVENT.validate_python(row["body"]) for row in rows or ()), *self._waiting()]
        # What was written just before the connection broke waits in the spool as well.
        return fold(run, {event.id: event for event in told}.values())

    def ask(self, statement: str, **values: Any) -> list[dict[str, Any]] | None:
        """Run a statement of `include/sql/ledger`; return its rows, or None while the ledger is away."""
        import psycopg

        try:
            return self._twice(lambda: self._ask(statement, values))
        except (psycopg.Error, OSError, UpkeepError) as error:
            self._lost(error)
            return None

    def prune(self, measurement_days: int, report_days: int) -> None:
        """Forget old measurements and report texts; findings, actions, backups and escalations stay."""
        self.ask("prune_measurements", days=measurement_days)
        self.ask("prune_reports", days=report_days)

    def close(self) -> None:
        """Close the connection, if one is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _catch_up(self) -> None:
        """Replay what waits. A spool that cannot be used must not keep new events out of a ledger that answers."""
        try:
            if self.spool:
                self.replay()
        except SpoolError as error:
            self._report_spool(error)

    def _waiting(self) -> list[ev.Event]:
        try:
            return list(self.spool.events())
        except (OSError, SpoolError) as error:
            self._report_spool(error)
            return []

    def _report_spool(self, error: Exception) -> None:
        if not self._spool_reported:
            log.critical("ledger: what waits in the spool cannot be read: %s", error)
            self._spool_reported = True

    def _keep_for_later(self, events: Sequence[ev.Event]) -> None:
        """Spool events; those written before the connection broke are recognised by their id at the replay."""
        try:
            self.spool.append(*events)
        except (OSError, SpoolError) as error:
            log.critical("ledger: away, and the spool %s cannot be written: %s", self.spool.folder, error)
            for event in events:
                log.critical("ledger: unrecorded event %s", ev.to_json(event))

    def _append(self, *events: ev.Event) -> None:
        """Write events and their projections in one transaction."""
        connection = self._connect()
        with _impatient(connection), connection.transaction():
            for event in events:
                body, key = ev.to_json(event), ev.run_of(event)
                routine_run = None if hasattr(event, "run") else event.routine.id
                new = connection.execute(
                    _sql("append_event"),
                    {**key.model_dump(), "id": event.id, "kind": event.kind, "at": event.at, "body": body},
                ).fetchone()
                if new:
                    for name in _projections(event):
                        connection.execute(_sql(f"project_{name}"), {"body": body, "routine_run_id": routine_run})

    def _connect(self) -> psycopg.Connection[dict[str, Any]]:
        import psycopg
        from psycopg.rows import dict_row

        if self._connection is not None and not self._connection.broken:
            return self._connection
        if time.monotonic() < self._away_until:
            raise ConnectionError(self.away_reason)
        connection = psycopg.connect(
            self._conninfo(), autocommit=True, row_factory=dict_row, connect_timeout=5, application_name="upkeep ledger"
        )
        try:
            with _impatient(connection):
                # The spool forgets an event once it is committed: a commit has to mean that it is on disk there.
                connection.execute(f"set synchronous_commit = on; set statement_timeout = '{STATEMENT_SECONDS}s'")
                migrate(connection)
        except psycopg.errors.InsufficientPrivilege as error:
            connection.close()
            raise ConfigurationError(
                f"ledger: {error.diag.message_primary}",
                "its role must own the schema `upkeep`, or be granted CREATE on the database to make it",
            ) from error
        except Exception:
            connection.close()
            raise
        self._connection, self.away_reason = connection, ""
        return connection

    def _write(self, events: Sequence[ev.Event]) -> None:
        self._catch_up()
        self._append(*events)

    def _ask(self, statement: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        connection = self._connect()
        with _impatient(connection):
            cursor = connection.execute(_sql(statement), values)
        return cursor.fetchall() if cursor.description else []

    def _twice[T](self, deed: Callable[[], T]) -> T:
        """Do something, and once more when the connection of earlier deeds turns out to be cut.

        A server that was restarted meanwhile is not away; one that stood still until we cut the line is. What was
        written before the cut is known by its event's id.
        """
        import psycopg

        had, began = self._connection, time.monotonic()
        try:
            return deed()
        except (psycopg.OperationalError, psycopg.InterfaceError):
            if had is None or not had.broken or time.monotonic() - began >= ANSWER_SECONDS:
                raise
            self.close()
            return deed()

    def _lost(self, error: Exception) -> None:
        """Remember that the ledger is away, so that a run does not wait for a time-out at every event."""
        if time.monotonic() >= self._away_until:
            self.away_reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            self._away_until = time.monotonic() + RETRY_AFTER_SECONDS
            log.warning("ledger: away (%s); events wait in the spool %s", self.away_reason, self.spool.folder)
        self.close()


class LedgerHistory:
    """Earlier measurements of one routine on one target; see `core.job.History`.

    :param before: where the window of a routine begins that answers for it: later windows are the future to it, so that
        a backfill says what a run on time would have said. None: whatever was measured last counts.
    """

    def __init__(self, ledger: Ledger, key: ev.RoutineKey, before: datetime | None = None) -> None:
        self._ledger, self._routine, self._before = ledger, key, before
        names = ("dag_id", "run_id", "routine", "target")
        self._key = {"before": before, **{name: getattr(key, name) for name in names}}

    def last(self, name: str, subject: str = "") -> Kept | None:
        """Return the newest earlier measurement, None when there is none or the ledger is away."""
        rows = self._ledger.ask("last_measurement", name=name, subject=subject, **self._key)
        return Kept(at=rows[0]["at"], value=rows[0]["value"]) if rows else None

    def latest(self, name: str) -> Mapping[str, Kept]:
        """Return the newest earlier measurement of every subject under a name."""
        rows = self._ledger.ask("last_measurement", name=name, subject=None, **self._key) or ()
        return {row["subject"]: Kept(at=row["at"], value=row["value"]) for row in rows}

    def series(self, name: str, subject: str = "", limit: int = 90) -> Sequence[Kept]:
        """Return up to `limit` earlier measurements, oldest first."""
        rows = self._ledger.ask("measurement_series", name=name, subject=subject, limit=limit, **self._key) or ()
        return [Kept(at=row["at"], value=row["value"]) for row in reversed(rows)]

    def of(self, routine: str) -> LedgerHistory:
        """Return the history of another routine on the same target, that of this run included, up to the same time."""
        # No run has an empty id: only with itself is a routine not to be compared.
        key = self._routine.model_copy(update={"routine": routine, "run_id": ""})
        return LedgerHistory(self._ledger, key, self._before)


def migrate(connection: psycopg.Connection[Any]) -> int:
    """Bring the schema up to date under an advisory lock; return how many migrations were applied.

    A schema that is up to date is only read: its role need not be allowed to create anything, and a standby will do.

    :raises ConfigurationError: the database holds a migration that differs from ours or is newer.
    """
    wanted = {int(path.name[:4]): path for path in sorted(MIGRATIONS.glob("[0-9]*.sql"))}
    if set(_applied(connection, wanted)) == set(wanted):
        return 0
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
        connection.execute("create schema if not exists upkeep")
        connection.execute(
            "create table if not exists upkeep.migration (version integer primary key, name text not null,"
            " sha256 text not null, applied_at timestamptz not null default now())"
        )
        applied = _applied(connection, wanted)
        for version in sorted(set(wanted) - set(applied)):
            connection.execute(wanted[version].read_bytes())
            connection.execute(
                "insert into upkeep.migration (version, name, sha256) values (%s, %s, %s)",
                [version, wanted[version].stem, _sha256(wanted[version])],
            )
    return len(set(wanted) - set(applied))


def _applied(connection: psycopg.Connection[Any], wanted: dict[int, Path]) -> dict[int, dict[str, Any]]:
    """Return the migrations that the database has, after a look whether they are ours."""
    found = connection.execute("select to_regclass('upkeep.migration') is not null as found").fetchone()
    rows = connection.execute("select * from upkeep.migration").fetchall() if found and found["found"] else []
    applied = {row["version"]: row for row in rows}
    for version, row in sorted(applied.items()):
        if version not in wanted:
            raise ConfigurationError(
                f"ledger: its schema is at version {version}, this package knows {max(wanted)}",
                "upgrade this package on every worker, or point upkeep_ledger to its own database",
            )
        if row["sha256"] != _sha256(wanted[version]):
            raise ConfigurationError(
                f"ledger: migration {row['name']} was applied with other contents than this package has",
                "a released migration must never be edited; restore the file and add a new migration",
            )
    return applied


@contextmanager
def _impatient(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Cut the connection when the block takes too long: a server that stands still never fires its own time-outs."""
    line = socket.socket(fileno=os.dup(connection.fileno()))
    alarm = threading.Timer(ANSWER_SECONDS, _cut, [line])
    alarm.daemon = True
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()
        line.close()


def _cut(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def _projections(event: ev.Event) -> Iterator[str]:
    """Yield which statements carry an event into the tables, in order: a backup before what is said of it."""
    yield event.kind
    if isinstance(event, ev.ActionClosed):
        yield from (f"evidence_{name}" for name in EVIDENCE if isinstance(event.evidence.get(name), dict))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sql(name: str) -> bytes:
    return statements.load("ledger", name).encode()
