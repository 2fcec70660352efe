"""Operators for log files."""

from __future__ import annotations

from upkeep.operators.base import RoutineOperator


class LogRotationOperator(RoutineOperator):
    """Rotate, compress and delete log files by the system's policy, and clear away stray files."""

    routine = "upkeep.routines.logs.rotation"


class LogReviewOperator(RoutineOperator):
    """Read the log lines of the run's window: errors, response times, failed logins, attacks, secrets."""

    routine = "upkeep.routines.logs.review"
