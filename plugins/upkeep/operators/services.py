"""Operators for services."""

from __future__ import annotations

from upkeep.operators.base import RoutineOperator


class ServiceHealthOperator(RoutineOperator):
    """Ask a service's endpoints whether it is healthy, several times, and judge status, body and time."""

    routine = "upkeep.routines.services.health"
