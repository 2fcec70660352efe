"""A robust trend through irregular points, its confidence band, and when it reaches a level. Time is in days.

The slope is the median of the slopes of all pairs of points (Theil 1950, Sen 1968), which up to 29 % of wild points do
not move; its confidence interval is Sen's, by the variance of Kendall's score.

Sen's interval is right for noise around a line. A size is rather the sum of its changes, a walk with a drift, and for
a walk that interval is far too narrow (of bands of 80 %, 40 % held). Changes tell which it is: neighbouring ones are
correlated by -1/2 under noise around a line and not at all in a walk. So their variance is divided between the two in
that proportion, and the walk's part widens slope (variance 6/5 s^2/T, as of least squares through a walk) and forecast.

The forecast starts at the newest point and not on the line: after tables were dropped the line is far above them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

# Turns the median of absolute deviations into the standard deviation of normal noise.
_NORMAL = 1.4826
_MOST_POINTS = 400
# A change this many standard deviations off the usual ones is a step; the usual ones need this many changes.
_FAR = 6.0
_USUAL = 4


class At(NamedTuple):
    """A value at a time (days since some day that all points share)."""

    day: float
    value: float


class Band(NamedTuple):
    """A likely value between two that it will probably not leave."""

    low: float
    likely: float
    high: float


class Reached(NamedTuple):
    """Days from now until a level is reached; None: not before the horizon. `earliest` <= `likely` <= `latest`."""

    earliest: float | None
    likely: float | None
    latest: float | None


@dataclass(frozen=True)
class Step:
    """A change beyond all usual ones: up to the point numbered `index` the value changed by `size` more than usual."""

    index: int
    size: float


@dataclass(frozen=True)
class Trend:
    """Growth a day with its confidence interval, starting at the newest point `now`.

    `noise` is how far a point lies from where it belongs, `walk` how far the value strays in a day, growing with the
    root of time; both are half-widths at the trend's confidence.
    """

    now: float
    slope: float
    low: float
    high: float
    noise: float = 0.0
    walk: float = 0.0

    def after(self, days: float) -> Band:
        """Return the forecast so many days from now."""
        likely = self.now + self.slope * days
        # The noise is in the newest point as well as in the one to come, hence twice its variance.
        strayed = math.hypot(math.sqrt(2) * self.noise, self.walk * math.sqrt(days))
        down = math.hypot(strayed, (self.slope - self.low) * days)
        up = math.hypot(strayed, (self.high - self.slope) * days)
        return Band(likely - down, likely, likely + up)

    def reaches(self, level: float, horizon: float) -> Reached:
        """Return when the value reaches a level, at most `horizon` days from now and never in the past."""
        if self.now >= level:
            return Reached(0.0, 0.0, 0.0)
        # By the band's edges: the upper one reaches the level first.
        days = [self._crossing(level, horizon, edge) for edge in (2, 1, 0)]
        return Reached(*days)

    def _crossing(self, level: float, horizon: float, edge: int) -> float | None:
        """Return when an edge of the band first reaches a level, to the minute. An edge may turn, so days are tried."""
        day = next((d for d in range(1, math.ceil(horizon) + 1) if self.after(d)[edge] >= level), None)
        if day is None:
            return None
        before, by = day - 1.0, float(day)
        while by - before > 1 / 1440:
            middle = (before + by) / 2
            before, by = (before, middle) if self.after(middle)[edge] >= level else (middle, by)
        return by if by <= horizon else None


def fit(points: Sequence[At], confidence: float) -> Trend:
    """Return the trend through at least two points of different times, oldest first.

    :param confidence: between 0 and 1: how often the band holds what it is drawn for.
    """
    points = points[-_MOST_POINTS:]
    slopes = sorted((b.value - a.value) / (b.day - a.day) for n, a in enumerate(points) for b in points[n + 1 :])
    slope = statistics.median(slopes)
    z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
    noise, walk = _straying(points, slope)
    low, high = _interval(slopes, len(points), z)
    # Student's quantile for the few changes that the spread is known from (first term of Cornish and Fisher).
    t = z * (1 + (z * z + 1) / (4 * max(len(points) - 2, 1)))
    strayed = t * walk * math.sqrt(1.2 / (points[-1].day - points[0].day))
    return Trend(
        now=points[-1].value,
        slope=slope,
        low=slope - math.hypot(slope - low, strayed),
        high=slope + math.hypot(high - slope, strayed),
        noise=t * noise,
        walk=t * walk,
    )


def daily(points: Iterable[At]) -> list[At]:
    """Keep the newest point of every day: runs by hand within minutes are not a longer history."""
    kept: dict[int, At] = {}
    for point in sorted(points):
        kept[math.floor(point.day)] = point
    return list(kept.values())


def steps(points: Sequence[At], share: float, least: float) -> list[Step]:
    """Return changes far from all usual ones: by their spread, and by `least` and a `share` of the value before."""
    if len(points) <= _USUAL:
        return []
    spans = [b.day - a.day for a, b in pairwise(points)]
    changes = [b.value - a.value for a, b in pairwise(points)]
    usual = statistics.median(change / span for change, span in zip(changes, spans, strict=True))
    odd = [change - usual * span for change, span in zip(changes, spans, strict=True)]
    spread = _FAR * _spread(odd, fitted=1)
    limits = [max(spread, least, share * abs(point.value)) for point in points]
    return [Step(n + 1, size) for n, size in enumerate(odd) if abs(size) > limits[n]]


def without(points: Sequence[At], found: Sequence[Step]) -> list[At]:
    """Return the points as if a single step had always been there: one is an event, several are how the data live.

    An import of last month will not come again every month; the partitions dropped every month will.
    """
    if len(found) != 1:
        return list(points)
    [step] = found
    return [At(p.day, p.value + step.size) if n < step.index else p for n, p in enumerate(points)]


def _interval(slopes: Sequence[float], count: int, z: float) -> tuple[float, float]:
    """Return Sen's confidence interval of the slope out of the sorted slopes of all pairs of `count` points."""
    reach = z * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    first = max(math.floor((len(slopes) - reach) / 2), 0)
    return slopes[first], slopes[len(slopes) - 1 - first]


def _straying(points: Sequence[At], slope: float) -> tuple[float, float]:
    """Return the standard deviations of the noise around a line and, over one day, of a walk with this drift."""
    spans = [b.day - a.day for a, b in pairwise(points)]
    changes = [b.value - a.value - slope * (b.day - a.day) for a, b in pairwise(points)]
    by_root = [change / math.sqrt(span) for change, span in zip(changes, spans, strict=True)]
    share = _walking(changes)
    noise = _spread(changes, fitted=1) * math.sqrt((1 - share) / 2)
    return noise, _spread(by_root, fitted=1) * math.sqrt(share)


def _walking(changes: Sequence[float]) -> float:
    """Return the part of a walk in changes, 0 to 1, by the correlation of neighbours."""
    total = math.fsum(change * change for change in changes)
    if total == 0:
        return 0.0
    # Of few changes the correlation comes out too low, by one over their number.
    correlation = math.fsum(a * b for a, b in pairwise(changes)) / total + 1 / len(changes)
    return min(max(1 + 2 * correlation, 0.0), 1.0)


def _spread(rest: Sequence[float], fitted: int) -> float:
    """Return the standard deviation of residuals, robustly, allowing for what was fitted to few of them."""
    middle = statistics.median(rest)
    deviation = _NORMAL * statistics.median(abs(value - middle) for value in rest)
    return deviation * math.sqrt(len(rest) / max(len(rest) - fitted, 1))
