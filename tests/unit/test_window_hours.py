"""The maintenance window of a system: when it opens and closes, also when clocks change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from upkeep.core.system import _WEEK, MaintenanceWindow

# Clock changes by an hour and by half an hour, at midnight, in either half of the year, and none at all.
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu")
# Around these a clock somewhere in ZONES changes in 2026.
CHANGES = [datetime(2026, m, d, tzinfo=UTC) for m, d in ((3, 8), (3, 29), (4, 4), (4, 5), (9, 6), (10, 4), (10, 25))]
MINUTE = timedelta(minutes=1)
quarters = st.integers(0, 95).map(lambda n: time(n // 4, n % 4 * 15))
windows = st.builds(
    MaintenanceWindow,
    days=st.sets(st.sampled_from(_WEEK), min_size=1).map(tuple),
    start=quarters,
    end=quarters,
)
moments = st.one_of(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)).map(lambda at: at.replace(tzinfo=UTC)),
    st.builds(lambda at, n: at + n * MINUTE, st.sampled_from(CHANGES), st.integers(-2 * 1440, 2 * 1440)),
)
zones = st.sampled_from(ZONES).map(ZoneInfo)


def minutes(begin: datetime, end: datetime, count: int = 40) -> Iterator[datetime]:
    """Yield some moments from `begin` until just before `end`, the last minute among them."""
    step = max((end - begin) // count, MINUTE)
    at = begin
    while at < end:
        yield at
        at += step
    if end - MINUTE >= begin:
        yield end - MINUTE


@given(window=windows, moment=moments, zone=zones)
@settings(max_examples=150, deadline=None)
@example(  # the clock leaves out the minutes in which it opens
    window=MaintenanceWindow(start=time(2, 30), end=time(5)),
    moment=datetime(2026, 3, 29, 0, tzinfo=UTC),
    zone=ZoneInfo("Europe/Berlin"),
)
@example(  # it closes at a time that comes twice
    window=MaintenanceWindow(start=time(1), end=time(2, 30)),
    moment=datetime(2026, 10, 25, 0, 45, tzinfo=UTC),
    zone=ZoneInfo("Europe/Berlin"),
)
@example(  # nothing is left of the only window of its week
    window=MaintenanceWindow(days=("sun",), start=time(2, 30), end=time(3)),
    moment=datetime(2026, 3, 29, 0, tzinfo=UTC),
    zone=ZoneInfo("Europe/Berlin"),
)
def test_it_is_open_from_opening_to_closing_and_closed_before(
    window: MaintenanceWindow, moment: datetime, zone: ZoneInfo
):
    """It is open when it opens, and at no moment before; it stays open until it closes, and is closed then."""
    opens = window.opens(moment, zone)
    assert opens >= moment and window.contains(opens, zone)
    assert opens == moment or not any(window.contains(at, zone) for at in minutes(moment, opens))
    closes = window.closes(opens, zone)
    assert all(window.contains(at, zone) for at in minutes(opens, closes or opens + timedelta(days=15)))
    if closes is not None:
        assert closes > opens and not window.contains(closes, zone)


@given(window=windows, moment=moments)
@settings(max_examples=100, deadline=None)
def test_where_clocks_never_change_it_is_what_the_words_say(window: MaintenanceWindow, moment: datetime):
    """In UTC a moment is inside when it is past the start of a day of the window, and its end is still to come."""
    inside = False
    for back in (0, 1):
        day = (moment - timedelta(days=back)).date()
        opens = datetime.combine(day, window.start, UTC)
        length = (datetime.combine(day, window.end, UTC) - opens) % timedelta(days=1) or timedelta(days=1)
        inside |= _WEEK[day.weekday()] in window.days and opens <= moment < opens + length
    assert window.contains(moment, ZoneInfo("UTC")) is inside


def test_a_whole_week_minute_by_minute():
    """Over a week with a clock change, every minute inside ends at the same moment as the one before it, or opens."""
    window, zone = MaintenanceWindow(days=("sat", "sun"), start=time(22), end=time(5)), ZoneInfo("Europe/Berlin")
    at = datetime(2026, 10, 23, tzinfo=UTC)
    inside = [m for m in (at + n * MINUTE for n in range(7 * 1440)) if window.contains(m, zone)]
    # Seven hours from Saturday and seven from Sunday evening; the night between them has an hour more.
    assert len(inside) == (8 + 7) * 60
    assert {window.closes(m, zone) for m in inside} == {
        datetime(2026, 10, 25, 4, tzinfo=UTC),
        datetime(2026, 10, 26, 4, tzinfo=UTC),
    }


def test_hours_that_never_close():
    """Every day, the whole day: there is no end to plan for; a single whole day does end."""
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert MaintenanceWindow().closes(now, ZoneInfo("Europe/Berlin")) is None
    saturday = MaintenanceWindow(days=("sat",))
    assert saturday.closes(now, ZoneInfo("UTC")) == datetime(2026, 11, 22, tzinfo=UTC)


def test_asking_a_closed_window_when_it_closes_is_an_error():
    """Whoever asks has forgotten to look whether it is open."""
    window = MaintenanceWindow(start=time(1), end=time(2))
    with pytest.raises(ValueError, match="not open"):
        window.closes(datetime(2026, 11, 21, 12, tzinfo=UTC), ZoneInfo("UTC"))


def test_a_window_without_days_is_refused():
    """It would never open, and its work would wait for ever."""
    with pytest.raises(ValueError, match="days"):
        MaintenanceWindow(days=())
