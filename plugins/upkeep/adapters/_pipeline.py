"""Several statements in one round trip, each with its own fate.

All statements leave in one go, each followed by a Sync: an implicit transaction of its own, so that one that fails or
times out neither rolls back nor skips its neighbours. psycopg's `pipeline()` shares one transaction between Syncs and
waits for every Sync, so this speaks to libpq through `psycopg.pq`.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from upkeep.core.job import Failed

if TYPE_CHECKING:
    import psycopg
    from psycopg import pq

Rows = list[dict[str, Any]]

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_GONE = ("08", "57P01", "57P02", "57P03", "57P05")
_TIMEOUT = ("57014", "25P03", "25P04")
_LOCKED = ("55P03", "55006")
_PRIVILEGE = ("42501", "28")
_DAMAGED = ("XX001", "XX002", "58030")
_REASONS = {"gone": _GONE, "timeout": _TIMEOUT, "locked": _LOCKED, "privilege": _PRIVILEGE, "damaged": _DAMAGED}


class Query(NamedTuple):
    """A statement with numbered placeholders ($1) and its values."""

    text: str
    values: Sequence[Any]


class Lost(Exception):
    """The connection broke, or the server gave no answer in time."""


def run(connection: psycopg.Connection[Any], queries: Sequence[Query], seconds: float) -> list[Rows | Failed]:
    """Run queries in one round trip; return, for each, its rows or why there are none.

    :param seconds: how long to wait for all answers; a server that stands still is then given up (`gone`).
    """
    deadline = time.monotonic() + seconds
    results: list[Rows | Failed] = []
    try:
        _send(connection, queries, deadline)
        for _ in queries:
            results.append(_receive(connection, deadline))
        connection.pgconn.exit_pipeline_mode()
    except Lost as error:
        connection.close()
        results += [Failed("gone", str(error))] * (len(queries) - len(results))
    return results


def _send(connection: psycopg.Connection[Any], queries: Sequence[Query], deadline: float) -> None:
    import psycopg
    from psycopg.adapt import PyFormat, Transformer

    pgconn = connection.pgconn
    try:
        pgconn.enter_pipeline_mode()
        for query in queries:
            adapter = Transformer.from_context(connection)
            values = adapter.dump_sequence(query.values, [PyFormat.AUTO] * len(query.values))
            pgconn.send_query_params(query.text.encode(), values, adapter.types, adapter.formats)
            pgconn.pipeline_sync()
        while pgconn.flush():
            _wait(pgconn, deadline, select.POLLIN | select.POLLOUT)
            pgconn.consume_input()
    except psycopg.OperationalError as error:
        raise Lost(_first_line(str(error))) from error


def _receive(connection: psycopg.Connection[Any], deadline: float) -> Rows | Failed:
    """Read what belongs to one query: its result, the end of it, and its Sync."""
    from psycopg import pq

    outcome: Rows | Failed | None = None
    while (result := _next(connection, deadline)) is None or result.status != pq.ExecStatus.PIPELINE_SYNC:
        if result is not None and outcome is None:
            outcome = _outcome(connection, result)
        if isinstance(outcome, Failed) and outcome.reason == "gone":
            raise Lost(outcome.message)
    return [] if outcome is None else outcome


def _next(connection: psycopg.Connection[Any], deadline: float) -> pq.abc.PGresult | None:
    import psycopg
    from psycopg import pq

    pgconn = connection.pgconn
    try:
        while pgconn.is_busy():
            _wait(pgconn, deadline, select.POLLIN)
            pgconn.consume_input()
        result = pgconn.get_result()
    except psycopg.OperationalError as error:
        raise Lost(_first_line(str(error))) from error
    # A dead connection has no more results for ever, which looks like the end of one query.
    if result is None and pgconn.status == pq.ConnStatus.BAD:
        raise Lost(_first_line(pgconn.get_error_message()))
    return result


def _wait(pgconn: pq.abc.PGconn, deadline: float, events: int) -> None:
    poll = select.poll()
    poll.register(pgconn.socket, events)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise Lost("the server took the question and gave no answer in time")


def _outcome(connection: psycopg.Connection[Any], result: pq.abc.PGresult) -> Rows | Failed:
    from psycopg import pq
    from psycopg.adapt import Transformer

    if result.status == pq.ExecStatus.TUPLES_OK:
        names = [(result.fname(i) or b"").decode() for i in range(result.nfields)]
        adapter = Transformer.from_context(connection)
        adapter.set_pgresult(result)
        return adapter.load_rows(0, result.ntuples, lambda row: dict(zip(names, row, strict=True)))
    if result.status == pq.ExecStatus.COMMAND_OK:
        return []
    field = pq.DiagnosticField
    state = (result.error_field(field.SQLSTATE) or b"").decode()
    message = (result.error_field(field.MESSAGE_PRIMARY) or result.error_message).decode(errors="replace")
    return failure(state, message)


def failure(sqlstate: str, message: str) -> Failed:
    """Sort an error of the server by its code."""
    for reason, codes in _REASONS.items():
        # An error that never reached the server has no code: the connection is the trouble.
        if sqlstate.startswith(codes) or (reason == "gone" and not sqlstate):
            return Failed(reason, _first_line(message), sqlstate)  # type: ignore[arg-type]
    return Failed("other", _first_line(message), sqlstate)


def _first_line(text: str) -> str:
    lines = (line.strip().removeprefix("consuming input failed: ") for line in text.splitlines())
    return next((line for line in lines if line), "connection lost")
