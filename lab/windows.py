"""Which windows the newest runs of the cadences answer for: planted data must lie in them, whatever the hour is.

The lab does not import the package, so the start times stand here again; a test compares the two.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

CRONS = {"daily": "0 1 * * *", "weekly": "0 2 * * 0", "monthly": "0 3 1 * *", "quarterly": "0 4 2 1,4,7,10 *"}


@dataclass(frozen=True)
class Span:
    """A stretch of time, in UTC; `end` is not part of it."""

    start: datetime
    end: datetime

    def at(self, share: float) -> datetime:
        """Return the moment at which this share of it has passed."""
        return self.start + (self.end - self.start) * share

    def holds(self, moment: datetime) -> bool:
        """Tell whether a moment lies in it."""
        return self.start <= moment < self.end


def newest(cadence: str, now: datetime) -> Span:
    """Return the newest window of a cadence that has ended by `now`: between two start times, as Airflow has it."""
    from croniter import croniter

    zone = ZoneInfo(os.environ.get("UPKEEP_TIMEZONE", "UTC"))
    # A start time that is now has ended its window.
    times = croniter(CRONS[cadence], now.astimezone(zone))
    end = (
        times.get_current(datetime)
        if croniter.match(CRONS[cadence], now.astimezone(zone))
        else times.get_prev(datetime)
    )
    end = end.replace(second=0, microsecond=0)
    start = croniter(CRONS[cadence], end).get_prev(datetime)
    return Span(start.astimezone(UTC), end.astimezone(UTC))
