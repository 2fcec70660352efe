"""Settings of physical backups."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from upkeep.core.backup import Tier
from upkeep.routines.backup._common import MakeSettings


class Settings(MakeSettings):
    """How to take a cluster's files, and how often all of them."""

    tier: Tier = Field("daily", description="which cadence's backup it is; a quarterly one is always full")
    full_every_days: float = Field(7, ge=0, le=366, description="days after which a full backup is due; 0: always full")
    incrementals: int = Field(
        6, ge=0, le=100, description="incremental backups that may follow a full one (17 on); 0: always full"
    )
    compression_level: int = Field(3, ge=1, le=19, description="level of zstd (gzip, without libzstd: up to 9)")
    jobs: int = Field(2, ge=1, le=32, description="threads of this worker that compress")
    upload_jobs: int = Field(4, ge=1, le=16, description="pieces that are uploaded at a time")
    piece_mb: int = Field(64, ge=8, le=5000, description="MB of one stored piece; scratch holds `upload_jobs` + 2")
    max_rate_mb: float = Field(
        0, ge=0, le=1000, description="MB a second that are asked of the server; 0: as fast as it goes"
    )
    checkpoint: Literal["fast", "spread"] = Field(
        "fast", description="spread: begin after the server's next slow checkpoint, gentle and minutes later"
    )
    programs: str = Field("", description="folder with pg_basebackup; default: UPKEEP_PG_BIN, PATH, usual places")
