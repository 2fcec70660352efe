"""Operators for machine-learning models."""

from __future__ import annotations

from upkeep.operators.base import RoutineOperator


class ModelDriftOperator(RoutineOperator):
    """Compare what a model was asked about in the run's window with its reference profile, column by column."""

    routine = "upkeep.routines.model.drift"


class ModelProfileOperator(RoutineOperator):
    """Build a new reference profile of a model's data and propose it; it takes effect when somebody has agreed."""

    routine = "upkeep.routines.model.profile"
