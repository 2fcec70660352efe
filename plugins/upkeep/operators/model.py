"""Operators for machine-learning models."""

from __future__ import annotations

from upkeep.operators.base import RoutineOperator


class ModelDriftOperator(RoutineOperator):
    """Compare what a model was asked about in the run's window with its reference profile, column by column."""

    routine = "upkeep.routines.model.drift"


class ModelProfileOperator(RoutineOperator):
    """Build a new reference profile of a model's data and propose it; it takes effect when somebody has agreed."""

    routine = "upkeep.routines.model.profile"


class ModelHealthOperator(RoutineOperator):
    """Look a model over: its files and their hashes, metadata, registered version, and whether it loads."""

    routine = "upkeep.routines.model.health"


class ModelLatencyOperator(RoutineOperator):
    """Measure how long a model takes for a prediction, at the endpoint that serves it."""

    routine = "upkeep.routines.model.latency"


class ModelVersionsOperator(RoutineOperator):
    """Keep dated copies of a model's files, and bring one back when a person has agreed."""

    routine = "upkeep.routines.model.versions"


class RetrainingOperator(RoutineOperator):
    """Tell whether a model is due to be trained anew, and train it when a person has agreed."""

    routine = "upkeep.routines.model.retraining"


class ModelScoresOperator(RoutineOperator):
    """Compare what a model said in the run's window with what turned out to be true."""

    routine = "upkeep.routines.model.scores"
