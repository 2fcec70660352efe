"""The site's own operators."""

from __future__ import annotations

from upkeep.operators.base import RoutineOperator


class CacheSweepOperator(RoutineOperator):
    """Sweep a cache folder."""

    routine = "site_maintenance.routines.cache.sweep"


class OrderCountOperator(RoutineOperator):
    """Count the orders of the run's window."""

    routine = "site_maintenance.routines.orders.count"
