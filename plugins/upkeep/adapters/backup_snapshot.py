"""One exported snapshot of a database, held open, and the sessions that compute fingerprints in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from upkeep.adapters import fingerprint, statements
from upkeep.adapters.fingerprint import Table
from upkeep.adapters.postgres import connect_error
from upkeep.core.backup import Database, LargeObjects, Source, TableProof
from upkeep.core.errors import ConfigurationError, TransientError, UpkeepError

if TYPE_CHECKING:
    import psycopg

APPLICATION = "upkeep backup"
_LOCKED_AT_ONCE = 500
_HIDDEN_SHOWN = 5


def conninfo_of(conninfo: Callable[[str], str], database: Database) -> str:
    """Return the connection string of the database to back up.

    :raises ConfigurationError: there is no such connection, or it cannot be read.
    """
    import psycopg
    from psycopg.conninfo import make_conninfo

    named = {"dbname": database.database} if database.database else {}
    try:
        return make_conninfo(conninfo(database.conn_id), **named)
    except psycopg.ProgrammingError:
        # libpq quotes the part it stumbled over, and that may be the password.
        raise ConfigurationError(
            f"connection {database.conn_id!r} cannot be read as a PostgreSQL connection", "correct it in Airflow"
        ) from None


def place_of(conninfo: str) -> str:
    """Return where a connection string leads, in words."""
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(conninfo)
    return (
        f"{parts.get('host', 'local socket')}:{parts.get('port', 5432)}/{parts.get('dbname') or parts.get('user', '')}"
    )


@contextmanager
def told(place: str) -> Iterator[None]:
    """Turn errors of the driver into errors that say what to do."""
    import psycopg

    try:
        yield
    except psycopg.errors.UndefinedFunction as error:
        raise ConfigurationError(
            f"{place}: {_first(error)}", "PostgreSQL 14 or newer is needed, with its catalogue unchanged"
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"{place}: {_first(error)}",
            "GRANT pg_read_all_data TO the role of the backup connection; with row-level security also BYPASSRLS",
        ) from error
    except psycopg.errors.OutOfMemory as error:
        raise ConfigurationError(
            f"{place}: {_first(error)}", "raise max_locks_per_transaction: a backup locks every table"
        ) from error
    except psycopg.Error as error:
        raise _passing(place, error) from error


def _passing(place: str, error: psycopg.Error) -> UpkeepError:
    hints = {
        "55P03": "somebody holds an exclusive lock (DDL, TRUNCATE, VACUUM FULL); it is tried again",
        "40": "the server cancelled this in favour of others (a standby does so); it is tried again",
    }
    state = error.sqlstate or ""
    hint = next((text for code, text in hints.items() if state.startswith(code)), "see the server's log; tried again")
    return TransientError(f"{place}: {_first(error)}", hint)


def _first(error: psycopg.Error) -> str:
    said = error.diag.message_primary or next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{said} (SQLSTATE {error.sqlstate})" if error.sqlstate else said or type(error).__name__


def connect(conninfo: str, lock_timeout: float = 5.0) -> psycopg.Connection[Any]:
    """Open a session whose text forms and limits are pinned.

    :raises ConfigurationError: the server does not want us. :raises TransientError: it cannot be reached.
    """
    import psycopg
    from psycopg.rows import dict_row

    place = place_of(conninfo)
    try:
        connection = psycopg.connect(
            conninfo, autocommit=True, connect_timeout=10, application_name=APPLICATION, row_factory=dict_row
        )
    except psycopg.OperationalError as error:
        raise connect_error(place, str(error)) from None
    try:
        with told(place):
            _pin(connection, {**fingerprint.PINNED, "lock_timeout": f"{round(lock_timeout * 1000)}ms"})
    except BaseException:
        connection.close()
        raise
    return connection


def _pin(connection: psycopg.Connection[Any], settings: dict[str, str]) -> None:
    if connection.info.server_version >= 170000:
        settings["transaction_timeout"] = "0"
    names = ", ".join(["pg_catalog.set_config(%s, %s, false)"] * len(settings))
    connection.execute(f"select {names}".encode(), [part for pair in settings.items() for part in pair])


def read_source(connection: psycopg.Connection[Any]) -> Source:
    """Ask the server who it is."""
    import psycopg

    version = connection.info.server_version
    row = connection.execute(statements.load("backup", "source", version).encode()).fetchone()
    assert row is not None
    identifier: str | None = None
    try:
        with connection.transaction():
            found = connection.execute(statements.load("backup", "system_identifier", version).encode()).fetchone()
            identifier = found["system_identifier"] if found else None
    except psycopg.errors.InsufficientPrivilege:
        identifier = None
    return Source(
        **{**row, "extensions": row["extensions"] or {}, "unlogged": row["unlogged"] or ()},
        system_identifier=identifier,
    )


class Snapshot:
    """The snapshot and what is to be proved in it. Use as a context manager; leaving it ends every session."""

    def __init__(self, conninfo: str, workers: int, lock_timeout: float) -> None:
        self.place = place_of(conninfo)
        self._stack = ExitStack()
        self._sessions: list[psycopg.Connection[Any]] = []
        self.futures: list[Future[None]] = []
        self.proofs: list[TableProof] = []
        self.large_objects = LargeObjects()
        self._stopped = False
        try:
            with told(self.place):
                self._open(conninfo, workers, lock_timeout)
        except BaseException:
            self._stack.close()
            raise

    def _open(self, conninfo: str, workers: int, lock_timeout: float) -> None:
        first = self._session(conninfo, lock_timeout)
        row = first.execute("select pg_catalog.pg_export_snapshot() as id").fetchone()
        assert row is not None
        self.id: str = row["id"]
        self.source = read_source(first)
        self.tables = fingerprint.tables(first)
        hidden = [t for t in self.tables if t.hides_rows]
        if hidden:
            names = ", ".join(".".join(t.name) for t in hidden[:_HIDDEN_SHOWN])
            raise ConfigurationError(
                f"{self.place}: row-level security hides rows of {len(hidden)} tables from this role: {names}",
                "ALTER ROLE ... BYPASSRLS for the role of the backup connection, or dump as the tables' owner",
            )
        self._shares = fingerprint.spread(self.tables, max(1, min(workers, len(self.tables))))
        for _ in self._shares[1:]:
            other = self._session(conninfo, lock_timeout)
            other.execute(f"set transaction snapshot '{self.id}'".encode())
        for session, share in zip(self._sessions, self._shares, strict=True):
            _lock(session, share)

    def _session(self, conninfo: str, lock_timeout: float) -> psycopg.Connection[Any]:
        session = self._stack.enter_context(connect(conninfo, lock_timeout))
        session.execute("begin isolation level repeatable read, read only")
        self._sessions.append(session)
        return session

    def prove(self, pool: ThreadPoolExecutor) -> None:
        """Begin to compute the fingerprints, each session in a thread of `pool`."""
        for number, (session, share) in enumerate(zip(self._sessions, self._shares, strict=True)):
            self.futures.append(pool.submit(self._work, session, share, number == 0))

    def _work(self, session: psycopg.Connection[Any], share: list[Table], first: bool) -> None:
        with told(self.place):
            if first:
                self.large_objects = fingerprint.large_objects(session)
            for table in share:
                if self._stopped:
                    return
                self.proofs.append(fingerprint.prove(session, table))

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        """End the sessions; a question that still runs is cancelled first."""
        import contextlib

        import psycopg

        self._stopped = True
        if any(not future.done() for future in self.futures):
            for session in self._sessions:
                with contextlib.suppress(psycopg.Error):
                    session.cancel_safe(timeout=5)
            for future in self.futures:
                future.exception()  # waits; who left the block has an error of their own to tell
        # The sessions have only read: that they cannot even end in order takes nothing from what was read.
        with contextlib.suppress(psycopg.Error):
            self._stack.close()


def _lock(session: psycopg.Connection[Any], tables: list[Table]) -> None:
    """Keep TRUNCATE, DROP and ALTER away until the fingerprints are done.

    TRUNCATE does not respect snapshots, and pg_dump gives its own locks up as soon as it is done. Each session locks
    what it will read: a lock that is held already is never waited for.
    """
    from psycopg import sql

    for begin in range(0, len(tables), _LOCKED_AT_ONCE):
        names = [sql.SQL("only {}").format(sql.Identifier(*t.name)) for t in tables[begin : begin + _LOCKED_AT_ONCE]]
        session.execute(sql.SQL("lock table {} in access share mode").format(sql.SQL(", ").join(names)))
