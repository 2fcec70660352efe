"""Settings of `model.profile`."""

from __future__ import annotations

from datetime import date

import pydantic
from pydantic import Field

from upkeep.core.routine import RoutineSettings
from upkeep.routines.model._drift_settings import Settings as DriftSettings


class Settings(RoutineSettings):
    """Which data become the reference."""

    months: int = Field(3, ge=1, le=36, description="calendar months before the run's window ends, all of them whole")
    since: date | None = Field(None, description="first day of the data, in the system's time zone; goes before months")
    until: date | None = Field(None, description="last day of the data, itself included; needs `since`")
    min_rows: int = Field(1000, ge=30, le=100_000_000, description="fewer rows make no reference")
    first_without_approval: bool = Field(
        False, description="make the first profile of a model without asking: there is none to lose"
    )
    statement_timeout: float = Field(1800, ge=1, le=86_400, description="seconds for the query of the scoring data")

    @pydantic.model_validator(mode="after")
    def _both_days(self) -> Settings:
        if (self.since is None) != (self.until is None):
            raise ValueError("`since` and `until` belong together")
        if self.since and self.until and self.until < self.since:
            raise ValueError("`until` must not be before `since`")
        return self

    def as_drift(self) -> DriftSettings:
        """Return the limits by which a candidate is compared with the present profile: the defaults of model.drift."""
        return DriftSettings(min_rows=self.min_rows)
