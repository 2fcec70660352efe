"""Which window is the newest, also when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.timetables.interval import CronDataIntervalTimetable

from upkeep.core.cadence import Cadence
from upkeep.operators.run import Run


def is_newest(cadence: Cadence, zone: str, start: datetime, end: datetime, now: datetime) -> bool:
    """Ask as a task does."""
    dag_run = SimpleNamespace(
        dag_id="d", run_id="r", run_type="scheduled", data_interval_start=start, data_interval_end=end
    )
    context: Any = {
        "dag_run": dag_run,
        "dag": SimpleNamespace(timetable=SimpleNamespace(expression=cadence.cron, timezone=zone)),
        "ti": SimpleNamespace(try_number=1, max_tries=0),
        "params": {},
    }
    return Run.of(context, now).window.newest


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("cadence", list(Cadence), ids=str)
def test_a_window_is_the_newest_until_airflow_starts_the_next(cadence: Cadence, zone: str):
    """Two years with four clock changes each way: our arithmetic and Airflow's timetable agree to the second."""
    import pendulum

    timetable = CronDataIntervalTimetable(cadence.cron, timezone=zone)
    start = timetable._align_to_next(pendulum.datetime(2025, 1, 1, tz="UTC"))
    while start.year < 2027:
        end = timetable._get_next(start)
        following = datetime.fromtimestamp(timetable._get_next(end).timestamp(), UTC)
        assert is_newest(cadence, zone, start, end, following - timedelta(seconds=1)), (start, end)
        assert not is_newest(cadence, zone, start, end, following), (start, end)
        start = end
