"""Settings of `database.reindex`."""

from __future__ import annotations

from pydantic import Field

from upkeep.routines.database._bloat import BloatSettings


class Settings(BloatSettings):
    """When an index is rebuilt, and what that may cost. It runs in the maintenance window, so it may read more to
    measure than reviews do.
    """

    measure_each_bytes: int = Field(
        4 * 2**30, ge=0, description="bytes of the largest index that is measured; larger ones are estimated"
    )
    measure_total_bytes: int = Field(16 * 2**30, ge=0, description="bytes of all indexes that are measured in one run")
    measure_seconds: float = Field(120, ge=0, le=3600, description="seconds after which no further measuring is begun")

    bloat_percent: float = Field(
        40,
        ge=0,
        le=100,
        description="percent of an index that a fresh one would not need, above which it is rebuilt; one that grows by"
        " random inserts settles at 23 (ln 2 of a page is filled, a fresh one has 90 %), so less is not worth it",
    )
    wasted_bytes: int = Field(
        64 * 2**20, ge=0, description="bytes that a fresh index would not need, above which it is rebuilt (and percent)"
    )
    large_bytes: int = Field(
        10 * 2**30, ge=0, description="bytes of an index above which a person must approve its rebuild"
    )
    most_of_a_collation: int = Field(
        50, ge=1, le=1000, description="indexes whose rebuild is proposed in one run after their collation changed"
    )

    unknown_space_bytes: int = Field(
        2**30, ge=0, description="bytes that a rebuild may need where free space is unknown; beyond, it needs approval"
    )
    keep_free_percent: float = Field(
        10, ge=0, lt=100, description="percent of the volume that a rebuild must leave free (guides warn at 80 to 90)"
    )

    time_budget_minutes: float = Field(
        240, gt=0, le=10_080, description="minutes after which nothing more is begun, even if the window is still open"
    )
    overrun_minutes: float = Field(
        15, ge=0, le=1440, description="minutes beyond window or budget after which a rebuild in hand is cancelled"
    )
    assumed_rate: float = Field(
        20e6, gt=0, description="bytes per second (table read and index written) where the ledger knows no better"
    )
    estimate_factor: float = Field(
        1.5, ge=1, le=10, description="factor on the expected duration: what would not be done in time is not begun"
    )

    lock_timeout: float = Field(
        2, ge=0.05, le=60, description="seconds that a rebuild waits for the lock on its table before it gives up"
    )
    give_way_seconds: float = Field(
        0.5, ge=0, le=60, description="seconds that anybody may wait for a lock of ours before a rebuild is cancelled"
    )
    wait_seconds: float = Field(
        300, ge=1, le=86_400, description="seconds that a rebuild waits for transactions older than itself"
    )
    old_transaction_seconds: float = Field(
        60, ge=0, le=86_400, description="age in seconds of a transaction in whose way a rebuild is not even begun"
    )
    patience_seconds: float = Field(
        300, ge=0, le=86_400, description="seconds, in all, to wait for such transactions once all else is done"
    )
    maintenance_work_mem_mb: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="MB of memory for the sort (maintenance_work_mem); default: as the server has",
    )
    connect_timeout: float = Field(5, ge=2, le=60, description="seconds for one attempt to connect")
