"""Counts the orders of the window.

When it is red: ask the shop why nobody buys.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from upkeep.core.cadence import Covers
from upkeep.core.job import Job
from upkeep.core.model import Judgement, Measurement
from upkeep.core.routine import RoutineSettings
from upkeep.core.targets import LogSetTarget

TITLE = "Orders"
TARGETS = ("logs",)
COVERS = Covers.WINDOW
ROLE = "sysadmin"


class Settings(RoutineSettings):
    """It has none."""


def observe(job: Job[LogSetTarget, Settings]) -> int:
    """Count exactly the lines of the run's window."""
    times = (datetime.fromisoformat(line) for line in Path(job.target.paths[0]).read_text().split())
    return sum(job.window.start <= at < job.window.end for at in times)


def judge(job: Job[LogSetTarget, Settings], seen: int) -> Judgement:
    """Keep the number."""
    return Judgement(measurements=(Measurement(name="orders", value=seen, unit="orders"),))
