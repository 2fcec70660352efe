"""Settings of `database.health`."""

from __future__ import annotations

from pydantic import Field

from upkeep.core.model import Threshold
from upkeep.routines._looking import LookSettings


class Settings(LookSettings):
    """What counts as healthy. Guides are those of the sample systems; pganalyze, PgHero and check_postgres are
    monitors whose published defaults were taken where no guide states a limit.
    """

    reach_seconds: float = Field(10, ge=0, le=600, description="seconds to go on trying while the server is away")
    top: int = Field(10, ge=1, le=100, description="how many of a kind (tables, sequences, sessions) are named")

    query_tries: int = Field(3, ge=1, le=50, description="how many times SELECT 1 is asked, each a round trip")
    query_time: Threshold = Field(
        Threshold(warning=50), description="ms, median of the tries of SELECT 1 (guides CL-D08, ST-D06: < 50 ms)"
    )
    connections: Threshold = Field(
        Threshold(warning=80, critical=95),
        description="percent of the usable connections (CM-T03: < 80 %; critical: check_postgres)",
    )
    long_query: Threshold = Field(
        Threshold(warning=300, critical=3600),
        description="seconds that a statement runs (CM-D06: > 5 min; critical: pganalyze)",
    )
    expected_applications: tuple[str, ...] = Field(
        ("pg_dump", "pg_restore", "pg_basebackup", "upkeep"),
        description="beginnings of application names that may take their time: a dump keeps its transaction open",
    )
    idle_in_transaction: Threshold = Field(
        Threshold(warning=300, critical=3600),
        description="seconds idle in a transaction (5 min as for queries; critical: pganalyze); one that holds back"
        " no vacuum stays info",
    )
    blocked: Threshold = Field(
        Threshold(warning=30, critical=600),
        description="seconds that the longest waiter behind a root blocker waits (critical: pganalyze; it warns at"
        " 300, but we look once a day and not every few seconds)",
    )
    prepared: Threshold = Field(
        Threshold(warning=300, critical=3600),
        description="seconds since PREPARE TRANSACTION (a two-phase commit takes seconds; same limits as sessions)",
    )
    wraparound: Threshold = Field(
        Threshold(warning=50, critical=80),
        description="percent of the 2^31 ids that a database may age (pganalyze: 50, 80); never below 105 % of"
        " autovacuum_freeze_max_age, which is a healthy age",
    )
    freeze_overdue: Threshold = Field(
        Threshold(warning=200),
        description="percent of autovacuum_freeze_max_age: autovacuum begins at 100 and has not managed (ours)",
    )
    cache_hit: Threshold = Field(
        Threshold(info=90, direction="below"),
        description="percent of block reads found in shared buffers since the last run; no alarm by itself, since the"
        " system's own cache stands behind it",
    )
    cache_blocks: int = Field(
        100_000, ge=1, description="block reads since the last run below which the hit ratio says nothing"
    )
    database_size: Threshold = Field(
        Threshold(), description="bytes of the database (no limit in any guide; growth is judged by its own routine)"
    )
    replicas: int = Field(0, ge=0, le=100, description="receivers that must at least be connected")
    replication_bytes: Threshold = Field(
        Threshold(warning=100 * 2**20, critical=2**30),
        description="bytes of WAL that a standby has not replayed (pganalyze: 100 MB, 1 GB)",
    )
    replication_delay: Threshold = Field(
        Threshold(warning=60, critical=600), description="seconds that a standby is behind (ours)"
    )
    slot_retained: Threshold = Field(
        Threshold(warning=2**30, critical=10 * 2**30),
        description="bytes of WAL that a replication slot keeps from being removed (ours; they fill the volume)",
    )
    sequence: Threshold = Field(
        Threshold(warning=85, critical=95), description="percent of a sequence's values used up (check_postgres)"
    )
