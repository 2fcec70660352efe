"""The four cadences and what a run of one answers for."""

from __future__ import annotations

from datetime import datetime
from enum import Enum, StrEnum

from upkeep.core.model import Model


class Cadence(StrEnum):
    """How often: owns the hour at which the scheduler starts it and the budget the guides give it."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    QUARTERLY = "quarterly"

    @property
    def cron(self) -> str:
        """Start times (site's time zone); apart from each other so that heavy work does not pile up."""
        return {
            Cadence.DAILY: "0 1 * * *",
            Cadence.WEEKLY: "0 2 * * 0",
            Cadence.MONTHLY: "0 3 1 * *",
            Cadence.QUARTERLY: "0 4 2 1,4,7,10 *",
        }[self]

    @property
    def dag_id(self) -> str:
        """The DAG that runs this cadence."""
        return f"maintenance_{self.value}"


class Covers(Enum):
    """What a routine's result speaks about."""

    NOW = "now"
    """The state at the moment of running: skips itself in every window but the newest."""
    WINDOW = "window"
    """Exactly the rows and lines of the run's window: every backfilled window gets its own answer."""


class Window(Model):
    """The interval of time that a run answers for."""

    start: datetime
    end: datetime
    newest: bool = True
    """Whether no later window of this cadence has ended yet."""


class RunType(StrEnum):
    """How a run came about, in Airflow's words."""

    SCHEDULED = "scheduled"
    MANUAL = "manual"
    BACKFILL = "backfill"
    ASSET = "asset_triggered"
    OPERATOR = "operator_triggered"

    @classmethod
    def of(cls, value: object) -> RunType:
        """Return the type for Airflow's value; a kind that is not known here counts as manual (quiet)."""
        try:
            return cls(str(getattr(value, "value", value)))
        except ValueError:
            return cls.MANUAL
