"""Operators for growth and capacity."""

from __future__ import annotations

from upkeep.operators.base import RoutineOperator


class CapacityOperator(RoutineOperator):
    """Follow sizes and writes of a PostgreSQL database, and say when its space will be used up."""

    routine = "upkeep.routines.capacity.database"
