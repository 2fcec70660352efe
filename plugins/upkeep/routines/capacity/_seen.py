"""What `capacity.database` observes, and the series that it continues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from upkeep.core.job import Disk, Failed, History, Point
from upkeep.core.model import Threshold
from upkeep.core.targets import PostgresTarget
from upkeep.routines.capacity._settings import FILL, Settings
from upkeep.routines.capacity._trend import At, Step, Trend, daily, fit, steps, without

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_POINTS = 400


@dataclass(frozen=True)
class Seen:
    """One look at a database and at the volume that it lies on.

    `disk` is None when the target names no path. `before` is what tables took when they were last measured.
    """

    place: str
    at: datetime
    answers: Mapping[str, list[dict[str, Any]] | Failed]
    disk: Disk | Failed | None
    before: Mapping[str, Point]
    round_trips: int = 0

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """Return the rows of a statement, none when it failed."""
        answer = self.answers[f"capacity/{statement}"]
        return answer if isinstance(answer, list) else []

    @property
    def server(self) -> Mapping[str, Any]:
        """The row about the server, an empty one when it could not be had."""
        return next(iter(self.rows("server")), {})

    @property
    def failed(self) -> dict[str, Failed]:
        """The statements that gave no rows."""
        return {name.split("/")[1]: a for name, a in self.answers.items() if isinstance(a, Failed)}

    def day(self, days: float) -> str:
        """Return the date so many days from now."""
        return f"{self.at + timedelta(days=days):%Y-%m-%d}"


@dataclass(frozen=True)
class Series:
    """A size over time, one point a day, the newest seen now; `steps` are its sudden changes.

    `what` says whose size it is.
    """

    name: str
    what: str
    points: tuple[At, ...]
    steps: tuple[Step, ...]
    trend: Trend | None

    @property
    def days(self) -> float:
        """How long the series is."""
        return self.points[-1].day - self.points[0].day


def series(history: History, name: str, what: str, value: float, *, at: datetime, settings: Settings) -> Series:
    """Continue the series kept under `name` by what was seen now."""
    kept = [At(_day(point.at), point.value) for point in history.series(name, limit=_POINTS)]
    points = daily([*(p for p in kept if p.day < _day(at)), At(_day(at), value)])
    found = steps(points, settings.step_percent / 100, settings.step_bytes)
    long_enough = len(points) >= settings.min_points and points[-1].day - points[0].day >= settings.min_days
    trend = fit(without(points, found), settings.confidence / 100) if long_enough else None
    return Series(name, what, tuple(points), tuple(found), trend)


def fill_limits(target: PostgresTarget, settings: Settings) -> Threshold:
    """Return the limits of fill: the routine's settings, else the target's `thresholds`, else the default."""
    return settings.fill if settings.fill != FILL else target.thresholds.get("used_percent", FILL)


def newest(before: Mapping[str, Point]) -> list[str]:
    """Return the subjects measured last, which the run before this one followed."""
    last = max((point.at for point in before.values()), default=None)
    return [] if last is None else sorted(subject for subject, point in before.items() if point.at == last)


def _day(at: datetime) -> float:
    return (at - _EPOCH) / timedelta(days=1)
