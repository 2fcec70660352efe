"""Settings of `database.index_review`."""

from __future__ import annotations

from pydantic import Field

from upkeep.core.fields import ConnId
from upkeep.core.model import Threshold
from upkeep.routines._looking import LookSettings
from upkeep.routines.database._bloat import BloatSettings

_GB = 2**30


class Settings(BloatSettings, LookSettings):
    """What is worth a person's look. Sizes follow PgHero and pgwatch where no guide states one."""

    reach_seconds: float = Field(10, ge=0, le=600, description="seconds to go on trying while the server is away")
    statement_timeout: float = Field(
        30, ge=0.1, le=300, description="seconds after which the server ends one of our statements"
    )
    top: int = Field(10, ge=1, le=100, description="how many of a kind are named")
    most: int = Field(200, ge=1, le=5000, description="how many of a kind are asked for and counted, largest first")

    unused_days: float = Field(
        35,
        ge=0,
        le=1000,
        description="days without a scan after which an index is unused: a month with its end;"
        " 0 means every one that was never scanned",
    )
    unused_min_bytes: int = Field(
        10 * 2**20, ge=0, description="bytes of an unused index below which nobody is told (PgHero: 10 MB)"
    )
    needless_bytes: Threshold = Field(
        Threshold(info=0, warning=_GB),
        description="bytes of an unused or redundant index",
    )
    duplicate_bytes: Threshold = Field(
        Threshold(warning=0), description="bytes of an index that holds the same as another: nobody wants that"
    )
    replica_conn_ids: tuple[ConnId, ...] = Field(
        (), description="connections to the standbys of this server: they count scans of their own"
    )
    not_standbys: tuple[str, ...] = Field(
        ("pg_receivewal", "pg_basebackup", "barman", "pgbackrest", "wal-g"),
        description="beginnings of application names that receive WAL and serve no queries",
    )

    foreign_key_bytes: Threshold = Field(
        Threshold(info=10 * 2**20, warning=100 * 2**20),
        description="bytes of a table with a foreign key and no index for it; a warning only when referenced rows are"
        " deleted (ours)",
    )
    seq_scan_rows: int = Field(
        100_000, ge=0, description="live rows of a table from which on sequential scans count (MO-B03)"
    )
    seq_scans: Threshold = Field(
        Threshold(info=10, warning=100),
        description="sequential scans a day since the last run of such a table, when they are more than its index scans"
        " (MO-B03); a dump and its check read every table once a day",
    )
    seq_scan_tables: int = Field(50, ge=1, le=1000, description="how many tables are watched for sequential scans")

    bloat: Threshold = Field(
        Threshold(info=40, warning=60),
        description="percent of a table or index that is empty (ours; an index filled in random order settles at 25)",
    )
    bloat_warn_bytes: int = Field(
        100 * 2**20, ge=0, description="wasted bytes below which bloat stays info (PgHero: 100 MB)"
    )
