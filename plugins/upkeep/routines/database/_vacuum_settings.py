"""Settings of `database.vacuum` and `database.analyze`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from upkeep.core.model import Threshold
from upkeep.core.routine import RoutineSettings
from upkeep.routines.database._bloat import BloatSettings


class CareSettings(RoutineSettings):
    """What is taken, in which order of need, how much of the server and of the clock it may use."""

    scope: Literal["needed", "all", "named"] = Field(
        "needed",
        description="which tables: those that need it, all of them, or only those that the system file names; named"
        " ones are always taken, and first",
    )
    share: float = Field(
        0.5, gt=0, le=10, description="part of autovacuum's limits (rows) that is enough: quiet hours are cheap"
    )
    parallel: int = Field(2, ge=1, le=16, description="tables at a time, each on a connection of its own")
    lock_timeout: float = Field(
        2,
        ge=0.05,
        le=60,
        description="seconds to wait for a table's lock. A wait longer than deadlock_timeout (1 s) makes the server"
        " cancel an autovacuum that holds it, so tables that are being vacuumed are left alone",
    )
    again_seconds: float = Field(
        10, ge=0, le=3600, description="seconds that a locked table gets at least before it is tried again, at the end"
    )
    time_budget: float = Field(
        120, gt=0, le=10_080, description="minutes for all tables; none is begun that would not be done by then"
    )
    overrun: float = Field(
        60, ge=1, le=1440, description="minutes past the budget after which the server ends a table that is still at it"
    )
    max_tables: int = Field(5000, ge=1, le=100_000, description="tables in one run at most")
    cost_delay: float = Field(
        2, ge=0, le=100, description="ms of sleep whenever cost_limit is used up (autovacuum's own; 0: full speed)"
    )
    cost_limit: int = Field(
        2000,
        ge=1,
        le=10_000,
        description="work between two sleeps: a page read from disk costs 2, one made dirty 20. 2000 with 2 ms is at"
        " most 400 MB/s of writing, ten times what autovacuum takes",
    )
    first_rate: float = Field(
        20, gt=0, le=10_000, description="MB/s that a table is reckoned with of which the ledger knows no time yet"
    )
    waiting: Threshold = Field(
        Threshold(warning=3), description="runs in a row in which a table that needs it did not get its turn"
    )
    reach_seconds: float = Field(
        10, ge=0, le=600, description="seconds to go on trying when a connection is lost and cannot be had again"
    )
    connect_timeout: float = Field(5, ge=2, le=60, description="seconds for one attempt to connect")
    statement_timeout: float = Field(
        30, ge=0.1, le=300, description="seconds after which the server ends one of our questions to the catalogue"
    )
    top: int = Field(10, ge=1, le=100, description="how many of a kind (tables, holders of the horizon) are named")


class VacuumSettings(CareSettings, BloatSettings):
    """Settings of `database.vacuum`."""

    freeze_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="part of autovacuum_freeze_max_age at which a table is frozen here, before the server does it by"
        " force in the middle of the day",
    )
    never_vacuumed_rows: int = Field(
        1000, ge=0, description="rows from which on a table that was never vacuumed is (index-only scans need it)"
    )
    analyze: bool = Field(True, description="whether tables whose statistics are old are analyzed in the same command")
    parallel_workers: int | None = Field(
        None, ge=0, le=16, description="workers for the indexes of one table; null: as the server decides, 0: none"
    )
    buffer_usage_limit: int = Field(
        16, ge=0, le=16_384, description="MB of shared buffers that vacuum may use, from 16 on (0: all of them)"
    )
    maintenance_work_mem: int | None = Field(
        None, ge=1, le=65_536, description="MB for dead rows of one table; null: as the server says"
    )
    truncate: bool = Field(
        False,
        description="whether empty pages at the end are given back to the disk. It needs an exclusive lock, which on"
        " standbys cancels who reads the table; autovacuum does it as well, when nobody waits",
    )
    index_cleanup: Literal["auto", "on", "off"] = Field(
        "auto",
        description="whether indexes are cleaned; auto leaves them when fewer than 2 % of the pages have dead rows",
    )
    full: bool = Field(
        True, description="whether VACUUM FULL is proposed for tables of measured bloat; a person must agree to each"
    )
    full_bytes: int = Field(2**30, ge=0, description="bytes that a rewrite must at least give back to be proposed")
    full_percent: float = Field(50, ge=0, le=100, description="percent of the table that it must at least give back")
    skip_useless: bool = Field(
        True, description="whether tables are left out whose dead rows the horizon holds all of, so that none would go"
    )
    horizon: Threshold = Field(
        Threshold(warning=1800),
        description="seconds for which somebody may hold dead rows of tables that need vacuum for them (ours; a"
        " transaction of half an hour in quiet hours is none of the application's)",
    )
    unremovable: Threshold = Field(
        Threshold(warning=100),
        description="percent of autovacuum's limit for dead rows that a vacuum had to leave in a table",
    )


class AnalyzeSettings(CareSettings):
    """Settings of `database.analyze`."""

    time_budget: float = Field(
        60, gt=0, le=10_080, description="minutes for all tables; none is begun that would not be done by then"
    )
