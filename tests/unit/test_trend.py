"""The trend: exact on lines, wherever they lie, honest about noise, never in the past, unmoved by single events."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.routines.capacity._trend import At, Step, Trend, daily, fit, steps, without

gaps = st.lists(st.floats(1, 60), min_size=2, max_size=30)
# Whole days and bytes, so that moving them costs no digits.
values = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 10**12)), min_size=3, max_size=25)
slopes = st.floats(-1e9, 1e9, allow_subnormal=False)
trends = st.builds(
    lambda now, slope, down, up, noise, walk: Trend(now, slope, slope - down, slope + up, noise, walk),
    st.floats(0, 1e12),
    st.floats(-1e9, 1e9),
    *[st.floats(0, 1e9)] * 4,
)


def line(gaps: list[float], slope: float, start: float, first: float = 0.0) -> list[At]:
    days = [first + sum(gaps[:n]) for n in range(len(gaps) + 1)]
    return [At(day, start + slope * (day - first)) for day in days]


def series(made: list[tuple[int, int]]) -> list[At]:
    return [At(sum(gap for gap, _ in made[: n + 1]), value) for n, (_, value) in enumerate(made)]


@given(gaps, slopes, st.floats(0, 1e12))
def test_a_line_is_found_exactly(gaps: list[float], slope: float, start: float):
    """Without noise slope and forecast are those of the line, and the band has no width."""
    points = line(gaps, slope, start)
    trend = fit(points, 0.8)
    close = 1e-9 * max(abs(start), abs(slope) * points[-1].day, 1)
    assert trend.slope == pytest.approx(slope, abs=close)
    band = trend.after(100)
    assert band.likely == pytest.approx(points[-1].value + 100 * slope, abs=300 * close)
    assert band.high - band.low <= 1000 * close


@given(values, st.integers(0, 10**5), st.integers(0, 10**12))
def test_where_the_points_lie_does_not_matter(made: list[tuple[int, int]], days: int, more: int):
    """Later by so many days and larger by so many bytes is the same trend."""
    points = series(made)
    moved = [At(p.day + days, p.value + more) for p in points]
    one, other = fit(points, 0.8), fit(moved, 0.8)
    for name in ("slope", "low", "high", "noise", "walk"):
        assert getattr(other, name) == getattr(one, name)


@given(values)
def test_more_confidence_is_a_wider_band(made: list[tuple[int, int]]):
    """The band of 80 % lies within that of 95 %, around the same forecast."""
    narrow, wide = (fit(series(made), confidence).after(90) for confidence in (0.8, 0.95))
    assert wide.low <= narrow.low <= narrow.likely == wide.likely <= narrow.high <= wide.high


@given(trends, st.floats(1, 1e13), st.floats(0, 1e12), st.integers(1, 400))
def test_dates_are_in_order_and_never_in_the_past(trend: Trend, level: float, more: float, horizon: int):
    """Earliest, likely, latest, within the horizon; a higher level is not reached sooner."""
    far = horizon + 1.0
    dates = [far if d is None else d for d in trend.reaches(level, horizon)]
    assert dates == sorted(dates)
    assert all(0 <= d <= far for d in dates)
    higher = [far if d is None else d for d in trend.reaches(level + more, horizon)]
    assert all(h >= d - 1e-9 for d, h in zip(dates, higher, strict=True))


def test_the_date_of_a_line():
    """10 a day from 100 on: 150 is reached in 5 days, 100 is reached now, 1000 not within 30 days."""
    trend = fit(line([7, 7, 7], 10, -110), 0.8)
    assert trend.reaches(150, 30) == pytest.approx((5, 5, 5), abs=0.01)
    assert trend.reaches(100, 30) == (0, 0, 0)
    assert trend.reaches(1000, 30) == (None, None, None)
    assert fit(line([7, 7, 7], -10, 500), 0.8).reaches(600, 3000) == (None, None, None)


def simulated(kind: str, count: int, noise: random.Random) -> tuple[list[At], float]:
    """Return points that grow by 2 a day, sampled irregularly, and the value 60 days after the last."""
    day = strayed = 0.0
    points = []
    for _ in range(count):
        gap = noise.choice([7, 7, 7, 1, 3, 14])
        day += gap
        strayed = noise.gauss(0, 20) if kind == "noise" else strayed + noise.gauss(0, 4 * gap**0.5)
        points.append(At(day, 100 + 2 * day + strayed))
    later = noise.gauss(0, 20) if kind == "noise" else strayed + noise.gauss(0, 4 * 60**0.5)
    return points, 100 + 2 * (day + 60) + later


@pytest.mark.parametrize("kind", ["noise", "walk"])
@pytest.mark.parametrize("count", [8, 26, 52])
@pytest.mark.parametrize(("confidence", "least"), [(0.8, 0.68), (0.95, 0.83)])
def test_the_band_holds_what_it_promises(kind: str, count: int, confidence: float, least: float):
    """Of noise around a line and of a walk, the band holds the value to come and the interval the true slope.

    Never much less often than it says, nor always: a band that holds everything says nothing.
    """
    noise = random.Random(f"{kind} {count}")
    held = known = 0
    for _ in range(300):
        points, later = simulated(kind, count, noise)
        trend = fit(points, confidence)
        held += trend.after(60).low <= later <= trend.after(60).high
        known += trend.low <= 2 <= trend.high
    # From few points nobody can tell noise from a walk: then it takes the wider band.
    most = 1.0 if confidence > 0.9 else 0.985 if count < 20 else 0.95
    assert least <= held / 300 <= most
    assert least <= known / 300 <= most


def test_wild_points_do_not_move_the_trend():
    """Two of ten points are nonsense: the slope stays."""
    points = line([7] * 9, 10, 1000)
    points[3], points[6] = At(points[3].day, 1e9), At(points[6].day, 0)
    assert fit(points, 0.8).slope == pytest.approx(10, rel=0.2)


def test_days_are_counted_once():
    """Of several runs on a day the newest counts."""
    assert daily([At(2.1, 3), At(1.2, 1), At(1.9, 2)]) == [At(1.9, 2), At(2.1, 3)]


@pytest.mark.parametrize("size", [5000, -900])
def test_a_single_step_is_an_event(size: float):
    """An import or a purge is found, and growth goes on from the new level as it did before."""
    points = [At(p.day, p.value + (size if n >= 6 else 0)) for n, p in enumerate(line([7] * 11, 10, 1000))]
    [step] = steps(points, share=0.1, least=50)
    assert step == Step(6, pytest.approx(size))
    trend = fit(without(points, [step]), 0.8)
    assert (trend.slope, trend.now) == (pytest.approx(10), points[-1].value)


def test_steps_that_come_again_are_how_the_data_live():
    """Partitions dropped every month: a saw, whose trend is flat, and no event."""
    points = [At(7.0 * n, 1000 + 100 * (n % 4)) for n in range(24)]
    assert without(points, steps(points, 0.1, 50)) == points
    assert abs(fit(points, 0.8).slope) < 3


@given(gaps, slopes, st.floats(1, 1e12))
def test_steady_growth_has_no_steps(gaps: list[float], slope: float, start: float):
    """However irregularly one looks."""
    assert steps(line(gaps, slope, start), 0.1, 1e6) == []
