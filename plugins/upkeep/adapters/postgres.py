"""Sessions on PostgreSQL databases: one connection, guarded by time-outs, that runs statements by name."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from upkeep.adapters import _pipeline, _plans, statements
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError, UpkeepError
from upkeep.core.job import Failed

if TYPE_CHECKING:
    import psycopg

Rows = list[dict[str, Any]]

# What the answers and plans of catalogue queries must not depend on, whatever role or database has set. JIT costs more
# than it saves on them, and a name in somebody's schema must not stand in for a function of the server.
_PINNED = {
    "search_path": "pg_catalog,pg_temp",
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}
# libpq gives no SQLSTATE for a refused connection, only words; a server in another language ends as TransientError.
# A host name that is not known is no configuration error either: names of containers go when they stop.
_WRONG_CONFIGURATION = {
    "password authentication failed": "correct login and password of the Airflow connection",
    "no password supplied": "put a password into the Airflow connection",
    "authentication failed": "correct login and password of the Airflow connection, or the server's pg_hba.conf",
    "no pg_hba.conf entry": "let this machine in: add a line to the server's pg_hba.conf",
    "is not permitted to log in": "give the role the LOGIN attribute, or name another role",
    "permission denied for database": "GRANT CONNECT ON DATABASE ... TO the role of the connection",
    "not currently accepting connections": "the database has datallowconn = false: name another database",
    "server does not support ssl": "set sslmode of the connection to prefer, or switch on SSL at the server",
    "certificate": "check sslmode, sslrootcert and the server's certificate",
}
_ABSENT = ("database", "role")


class Session:
    """One connection to one database; see `core.job.Server`.

    `place` is `host:port/database`, `connect_ms` what connecting took, `round_trips` the trips made since.
    """

    def __init__(self, connection: psycopg.Connection[Any], place: str, connect_ms: float, patience: float) -> None:
        self.connection = connection
        self.version = connection.info.server_version
        self.place = place
        self.connect_ms = connect_ms
        self.round_trips = 0
        self._patience = patience

    def rows(self, statement: str, /, **values: Any) -> Rows:
        """Run the statement named `<area>/<name>` in the variant for this server's version.

        :raises TransientError: the connection is gone, or a time-out passed.
        :raises ConfigurationError: a privilege is missing.
        """
        answer = self.batch({statement: values})[statement]
        if isinstance(answer, Failed):
            raise self.error(statement, answer)
        return answer

    def batch(self, wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, Rows | Failed]:
        """Run several statements, each by its name with its values, in one round trip.

        Each is a transaction of its own: what one fails with is its own value, the others' rows arrive.
        """
        if self.connection.closed:
            return dict.fromkeys(wanted, Failed("gone", "the connection was lost before"))
        queries = [self._query(name, values) for name, values in wanted.items()]
        self.round_trips += 1
        answers = _pipeline.run(self.connection, queries, self._patience * len(queries))
        return dict(zip(wanted, answers, strict=True))

    def plans(self, wanted: Sequence[tuple[str, str]], /) -> list[dict[str, Any] | Failed]:
        """Return, for each (statement, search_path), its plan for any parameters, in two round trips; see `_plans`."""
        if self.connection.closed:
            return [Failed("gone", "the connection was lost before")] * len(wanted)
        self.round_trips += 2
        return _plans.explain(self.connection, wanted, _PINNED["search_path"], self._patience)

    def error(self, statement: str, failed: Failed) -> UpkeepError:
        """Return a failed statement as the error to raise."""
        message = f"{self.place}: {statement}: {failed.message}"
        match failed.reason:
            case "gone":
                return TransientError(message, "look at the server's log: it ended the connection or stands still")
            case "timeout" | "locked":
                return TransientError(message, "the server is busy or the object locked; it is tried again")
            case "privilege":
                return ConfigurationError(message, "grant the role of this connection what it misses")
            case "damaged":
                return DamagedError(message, "keep every backup, look at disks and memory, restore what is damaged")
        return UpkeepError(message, f"SQLSTATE {failed.sqlstate}; the statement is include/sql/{statement}.sql")

    def _query(self, name: str, values: Mapping[str, Any]) -> _pipeline.Query:
        text = statements.named(name, self.version)
        return _pipeline.Query(statements.numbered(text), [values[key] for key in statements.placeholders(text)])


@contextmanager
def open_session[S: Session](
    conninfo: str,
    *,
    database: str | None = None,
    application_name: str = "upkeep",
    statement_timeout: float = 10.0,
    lock_timeout: float = 0.1,
    connect_timeout: float = 5.0,
    read_only: bool = True,
    settings: Mapping[str, str] | None = None,
    line: Mapping[str, str] | None = None,
    kind: type[S] = Session,  # type: ignore[assignment]
) -> Iterator[S]:
    """Connect and give a session, closed at the end. Times are in seconds; 0 switches a time-out off.

    :param database: the database to connect to when it is not the one `conninfo` names.
    :param application_name: how DBAs see us in pg_stat_activity (63 bytes).
    :param settings: further server settings for this session.
    :param line: further parameters of libpq, such as `keepalives_idle`.
    :param kind: the class of session to give.
    :raises ConfigurationError: the server is there and does not want us: wrong password, no such database or role.
    :raises TransientError: the server cannot be reached, starts up, or has no free connection.
    """
    parts = _parts(conninfo) | dict(line or {}) | ({"dbname": database} if database is not None else {})
    pinned = _PINNED | {
        "default_transaction_read_only": "on" if read_only else "off",
        "statement_timeout": str(round(statement_timeout * 1000)),
        "lock_timeout": str(round(lock_timeout * 1000)),
    }
    pinned |= settings or {}
    options = [str(parts.get("options") or ""), *(f"-c {name}={_escaped(value)}" for name, value in pinned.items())]
    parts |= {"application_name": application_name, "options": " ".join(options).strip()}
    begun = time.perf_counter()
    connection = _connect(parts, connect_timeout)
    # A server that stands still never fires its own statement_timeout.
    patience = statement_timeout + connect_timeout if statement_timeout else 86_400.0
    try:
        yield kind(connection, _place(parts), (time.perf_counter() - begun) * 1000, patience)
    finally:
        connection.close()


def opener(conninfo: Callable[[str], str]) -> Callable[..., AbstractContextManager[Session]]:
    """Return `open_session` for connection ids, given what turns an id into a libpq connection string."""

    def open_by_id(conn_id: str, **options: Any) -> AbstractContextManager[Session]:
        return open_session(conninfo(conn_id), **options)

    return open_by_id


def _escaped(value: str) -> str:
    """Return a value as libpq's `options` wants it: blanks and backslashes quoted."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _parts(conninfo: str) -> dict[str, Any]:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        return dict(conninfo_to_dict(conninfo))
    except psycopg.ProgrammingError:
        # libpq quotes the part it stumbled over, and that may be the password.
        raise ConfigurationError("the connection string cannot be read", "correct the Airflow connection") from None


def _connect(parts: dict[str, Any], connect_timeout: float) -> psycopg.Connection[Any]:
    import psycopg
    from psycopg.conninfo import make_conninfo

    try:
        return psycopg.connect(make_conninfo(**parts), autocommit=True, connect_timeout=max(2, round(connect_timeout)))
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            f"{_place(parts)}: the connection's options cannot be used", "correct the Airflow connection"
        ) from None
    except psycopg.OperationalError as error:
        raise connect_error(_place(parts), str(error)) from None


def connect_error(place: str, text: str) -> UpkeepError:
    """Return the error for a refused connection: whether to correct something or to wait."""
    seen = " ".join(text.split()).removeprefix("connection failed: ")
    lower = seen.lower()
    if any(f'{what} "' in lower and '" does not exist' in lower for what in _ABSENT):
        return ConfigurationError(f"{place}: {seen}", "correct database and login of the Airflow connection")
    for words, hint in _WRONG_CONFIGURATION.items():
        if words in lower:
            return ConfigurationError(f"{place}: {seen}", hint)
    return TransientError(f"{place}: {seen}", "is the server up, and may this machine reach it? It is tried again")


def _place(parts: dict[str, Any]) -> str:
    host = parts.get("host") or parts.get("hostaddr") or os.environ.get("PGHOST") or "local socket"
    port = parts.get("port") or os.environ.get("PGPORT") or "5432"
    return f"{host}:{port}/{parts.get('dbname') or parts.get('user') or ''}"
