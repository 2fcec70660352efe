"""Who waits behind a vacuum: it gives way, as autovacuum does.

A vacuum or an analyze keeps no reader or writer waiting, but one ALTER TABLE that waits for it stops all who come after
that. The server makes its own autovacuum give way; to one that was asked for it does nothing, for hours.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from upkeep.core.errors import UpkeepError
from upkeep.core.job import Failed, Server
from upkeep.core.sql_text import without_literals
from upkeep.routines.database._need import Row
from upkeep.routines.database._vacuum_lane import Lane
from upkeep.routines.database._vacuum_look import CareJob, conn_id

_PAUSE_SECONDS = 0.5
# What is done sooner needs no looking after.
_BRIEF_SECONDS = 0.5


class Watch:
    """Looks, in a session of its own, who waits for the lanes, and makes those give way."""

    def __init__(self, job: CareJob) -> None:
        self._job = job
        self._stack = ExitStack()
        self._server: Server | None = None
        self._next = 0.0
        # A look comes up to two pauses late.
        self._limit = max(job.settings.lock_timeout - 2 * _PAUSE_SECONDS, 0.0)

    def look(self, lanes: Iterable[Lane]) -> None:
        """Look, unless that was just done or all lanes have only just begun what they do."""
        now = time.monotonic()
        at_work = {lane.pid: (lane, since) for lane in lanes if now - (since := lane.since) > _BRIEF_SECONDS}
        if not at_work or now < self._next:
            return
        self._next = now + _PAUSE_SECONDS
        for row in self._waiters(list(at_work)):
            if row["seconds"] >= self._limit:
                lane, since = at_work[row["pid"]]
                lane.give_way(_who(row), since)

    def close(self) -> None:
        """End the session."""
        self._stack.close()
        self._server = None

    def _waiters(self, pids: list[int]) -> Sequence[Row]:
        statement = "database/vacuum_watch"
        try:
            answer = self._opened().batch({statement: {"pids": pids}})[statement]
        except UpkeepError as error:
            # The lanes find out by themselves what has become of the server.
            self._job.tools.log.warning("%s: nobody looks who waits for us: %s", self._job.target.id, error)
            return []
        if isinstance(answer, Failed) and answer.reason == "gone":
            self.close()
        return [] if isinstance(answer, Failed) else answer

    def _opened(self) -> Server:
        if self._server is None:
            settings = self._job.settings
            session = self._job.tools.postgres(
                conn_id(self._job.target),
                database=self._job.target.database,
                application_name=f"upkeep {self._job.routine} watch",
                statement_timeout=min(settings.statement_timeout, 5.0),
                connect_timeout=min(settings.connect_timeout, 5.0),
            )
            self._server = self._stack.enter_context(session)
        return self._server


def _who(row: Row) -> str:
    application = row["application"] or "no application name"
    query = without_literals(row["query"] or "", 120) or "its statement is hidden from this role (GRANT pg_monitor)"
    return f"pid {row['waiter']} {row['role'] or ''} ({application}): {query}"
