"""Settings of `database.sqlite_care`."""

from __future__ import annotations

from pydantic import Field

from upkeep.core.routine import RoutineSettings


class Settings(RoutineSettings):
    """When something is worth doing, and how long others may have to wait for it."""

    busy_timeout: float = Field(
        2, ge=0, le=60, description="seconds to wait for a lock; applications usually give up after 5"
    )
    check_seconds: float = Field(
        300, ge=0.001, le=7200, description="seconds for each of integrity_check, foreign_key_check and counting rows"
    )
    copies: int = Field(2, ge=0, le=100, description="verified copies to keep; 0: make none")
    copy_seconds: float = Field(3600, ge=0.001, le=86_400, description="seconds for making and proving a copy")
    hold_seconds: float = Field(
        2, ge=0, le=60, description="seconds that writers may wait for a copy that never comes to an end otherwise"
    )
    keep_folder: str = Field("", description="folder for copies, on another disk at best; default: in UPKEEP_HOME")
    analysis_limit: int = Field(
        1000,
        ge=0,
        le=10_000_000,
        description="rows of each index that ANALYZE reads (0: all); SQLite suggests 100-1000",
    )
    analyze_factor: float = Field(
        10, ge=1.5, le=1000, description="growth or shrinkage of a table that makes its statistics stale (SQLite's own)"
    )
    analyze_rows: int = Field(1000, ge=1, description="rows below which the statistics of a table do not matter")
    vacuum_percent: float = Field(25, gt=0, le=100, description="least percentage of free pages for VACUUM")
    vacuum_bytes: int = Field(16 << 20, ge=1, description="least bytes of free pages for VACUUM")
    vacuum_seconds: float = Field(1800, ge=0.001, le=86_400, description="seconds that writers may wait for VACUUM")
    wal_bytes: int = Field(
        64 << 20, ge=1, description="size of the write-ahead log from which it is emptied (SQLite aims at 4 MB)"
    )
