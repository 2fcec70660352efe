"""Sessions that may change a database: one command at a time, outside transactions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from upkeep.adapters import _pipeline
from upkeep.adapters.postgres import Session, open_session
from upkeep.core.job import Failed, Ran, ServerNotice

if TYPE_CHECKING:
    import psycopg

# A backend whose worker was killed must not go on for hours: the server looks whether its client is still there.
# https://www.postgresql.org/docs/current/runtime-config-connection.html#GUC-CLIENT-CONNECTION-CHECK-INTERVAL
_CHECK_CLIENT = "set client_connection_check_interval = '5s'"
# Nor must a worker wait for ever for a server that is gone: while a command runs, nothing is heard of it for hours.
_KEEPALIVE = {"keepalives": "1", "keepalives_idle": "60", "keepalives_interval": "15", "keepalives_count": "4"}


class Workbench(Session):
    """One connection that may change things; see `core.job.Workbench`."""

    def __init__(self, connection: psycopg.Connection[Any], place: str, connect_ms: float, patience: float) -> None:
        super().__init__(connection, place, connect_ms, patience)
        self.pid = connection.info.backend_pid
        self._seconds: float | None = patience
        self._heard: list[ServerNotice] = []
        connection.add_notice_handler(lambda said: self._heard.append(_notice(said)))

    def run(
        self, command: str, /, *, names: Mapping[str, Sequence[str]] | None = None, seconds: float | None = None
    ) -> Ran | Failed:
        """Carry out one command, outside any transaction; see `core.job.Workbench`."""
        import psycopg
        from psycopg import sql

        text = sql.SQL(command).format(**{key: sql.Identifier(*parts) for key, parts in (names or {}).items()})
        begun = time.monotonic()
        try:
            self._limit(seconds)
            self._heard.clear()
            self.round_trips += 1
            self.connection.execute(text)
        except psycopg.Error as error:
            return self._failed(error)
        return Ran(time.monotonic() - begun, tuple(self._heard))

    def cancel(self) -> None:
        """Ask the server to give up what it does for this session; may be called from another thread."""
        import psycopg

        with suppress(psycopg.Error, OSError):
            self.connection.cancel_safe(timeout=5)

    def _limit(self, seconds: float | None) -> None:
        if seconds != self._seconds:
            value = str(round((seconds or 0) * 1000))
            self.connection.execute("select set_config('statement_timeout', %s, false)", [value])
            self._seconds = seconds

    def _failed(self, error: psycopg.Error) -> Failed:
        if self.connection.closed or self.connection.broken:
            return Failed("gone", " ".join(str(error).split()) or "connection lost", error.sqlstate or "")
        return _pipeline.failure(error.sqlstate or "XX000", error.diag.message_primary or str(error))


@contextmanager
def open_workbench(
    conninfo: str,
    *,
    database: str | None = None,
    application_name: str = "upkeep",
    lock_timeout: float = 2.0,
    statement_timeout: float = 30.0,
    connect_timeout: float = 5.0,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Workbench]:
    """Connect and give a workbench, closed at the end. Times are in seconds.

    :param lock_timeout: how long a command waits for a lock before it gives up (0: for ever); who queues behind us
        waits no longer than that.
    :param statement_timeout: for statements by name, as in `open_session`; `run` has its own limit.
    :param settings: server settings for this session, such as `vacuum_cost_delay`.
    :raises ConfigurationError: the server is there and does not want us, or refuses one of `settings`.
    :raises TransientError: the server cannot be reached, starts up, or has no free connection.
    """
    with open_session(
        conninfo,
        database=database,
        application_name=application_name,
        statement_timeout=statement_timeout,
        lock_timeout=lock_timeout,
        connect_timeout=connect_timeout,
        read_only=False,
        settings={"idle_session_timeout": "0"} | dict(settings or {}),
        line=_KEEPALIVE,
        kind=Workbench,
    ) as bench:
        import psycopg

        with suppress(psycopg.Error):  # systems without the means for it refuse the setting
            bench.connection.execute(_CHECK_CLIENT)
        yield bench


def opener(conninfo: Callable[[str], str]) -> Callable[..., AbstractContextManager[Workbench]]:
    """Return `open_workbench` for connection ids, given what turns an id into a libpq connection string."""

    def open_by_id(conn_id: str, **options: Any) -> AbstractContextManager[Workbench]:
        return open_workbench(conninfo(conn_id), **options)

    return open_by_id


def _notice(said: psycopg.errors.Diagnostic) -> ServerNotice:
    text = said.message_primary or ""
    return ServerNotice(
        said.severity_nonlocalized or "", f"{text}\n{said.message_detail}" if said.message_detail else text
    )
