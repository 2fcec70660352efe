"""How routines look at a PostgreSQL target: a read-only session, and the limits of its patience."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from pydantic import Field

from upkeep.core.job import Job, Server
from upkeep.core.routine import RoutineSettings
from upkeep.core.targets import PostgresTarget


class LookSettings(RoutineSettings):
    """What every routine that only looks has: how long it waits for what."""

    connect_timeout: float = Field(5, ge=2, le=60, description="seconds for one attempt to connect")
    statement_timeout: float = Field(
        10, ge=0.1, le=300, description="seconds after which the server ends one of our statements"
    )
    lock_timeout: float = Field(
        0.1, ge=0.01, le=10, description="seconds that one of our statements waits for a lock: others queue behind us"
    )


def look(job: Job[PostgresTarget, Any], conn_id: str | None = None) -> AbstractContextManager[Server]:
    """Open a session on the target, or on another server that holds it.

    :raises TransientError: the server cannot be reached. :raises ConfigurationError: it refuses us.
    """
    settings: LookSettings = job.settings
    return job.tools.postgres(
        conn_id or job.target.conn_id,
        database=job.target.database,
        application_name=f"upkeep {job.routine}",
        statement_timeout=settings.statement_timeout,
        lock_timeout=settings.lock_timeout,
        connect_timeout=settings.connect_timeout,
    )
