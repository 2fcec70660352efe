"""The site's own operators."""

from __future__ import annotations

from upkeep.operators.base import RoutineOperator


class CacheSweepOperator(RoutineOperator):
    """Sweep a cache folder."""

    routine = "site_maintenance.routines.cache.sweep"
