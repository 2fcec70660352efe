"""Settings of `capacity.database`."""

from __future__ import annotations

import pydantic
from pydantic import Field

from upkeep.core.model import Threshold
from upkeep.routines._looking import LookSettings

FILL = Threshold(info=70, warning=80, critical=90)


class Settings(LookSettings):
    """How full is too full, how far to look ahead, and how much must be known for that."""

    top: int = Field(
        10, ge=1, le=50, description="how many tables are followed: so many largest, and so many most updated"
    )

    fill: Threshold = Field(
        FILL,
        description="percent of the volume, or of `limit_bytes`, in use (MO-B07: 70, 80, 90); left as it is, the"
        " target's threshold `used_percent` goes before",
    )
    limit_bytes: pydantic.ByteSize | None = Field(
        None, gt=0, description="bytes that this database may grow to (`200 GB`), when it shares its volume with others"
    )

    confidence: float = Field(
        80, ge=50, le=99, description="percent: how often the band of a projection holds what comes"
    )
    min_points: int = Field(
        5, ge=3, le=100, description="days with a measurement that a projection needs; below five nothing is a trend"
    )
    min_days: float = Field(
        21, ge=1, le=400, description="days between the first and the last of them: three weeks show the week's rhythm"
    )
    horizon_days: int = Field(180, ge=7, le=1830, description="days that are looked ahead; beyond, dates are guesses")
    warn_days: float = Field(
        90, ge=1, le=1830, description="warning when the highest limit is likely reached within so many days"
    )
    critical_days: float = Field(
        14, ge=0, le=1830, description="critical when the highest limit is likely reached within so many days"
    )
    review: bool = Field(False, description="add a recommendation: how much to provide, by when")

    step_percent: float = Field(
        20, gt=0, le=1000, description="percent of the size that a change must exceed to be called sudden"
    )
    step_bytes: pydantic.ByteSize = Field(
        pydantic.ByteSize(256 * 2**20),
        ge=0,
        description="bytes below which no change of size, no new and no vanished table is worth a word",
    )
    growers_days: int = Field(30, ge=1, le=400, description="days over which the growth of tables is compared")

    hot_ratio: Threshold = Field(
        Threshold(info=50, direction="below"),
        description="percent of the updates since the last run that were HOT (no new index entries)",
    )
    hot_updates: int = Field(
        100_000, ge=1, description="updates since the last run below which the HOT ratio says nothing"
    )

    @pydantic.model_validator(mode="after")
    def _critical_is_nearer(self) -> Settings:
        if self.critical_days > self.warn_days:
            raise ValueError(f"critical_days {self.critical_days:g} must not exceed warn_days {self.warn_days:g}")
        return self
