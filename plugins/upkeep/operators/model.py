"""Operators for machine-learning models."""

from __future__ import annotations

from upkeep.operators.base import RoutineOperator


class ModelDriftOperator(RoutineOperator):
    """Compare what a model was asked about in the run's window with its reference profile, column by column."""

    routine = "upkeep.routines.model.drift"
