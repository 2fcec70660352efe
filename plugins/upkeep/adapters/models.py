"""Everything about models that reaches outside, put together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from upkeep.core.job import Http
from upkeep.core.model_health import Models


def make_models(
    conninfo: Callable[[str], str],
    connection: Callable[[str], Any],
    http: Callable[..., AbstractContextManager[Http]],
    scratch: Path,
) -> Models:
    """Return the models' tools.

    :param conninfo: gives the libpq connection string of an Airflow connection's id.
    :param connection: gives an Airflow connection.
    :param http: opens services; see `adapters.http.opener`.
    """
    from upkeep.adapters import model_files, model_registry, model_sandbox, model_scores, model_versions, retrain
    from upkeep.adapters.scoring_data import ScoringData

    scores = model_scores.ModelScores(ScoringData(conninfo, connection))
    return Models(
        files=model_files.look,
        registered=model_registry.MlflowRegistry(http),
        sandbox=model_sandbox.ModelSandbox(scratch),
        scores=scores,
        scored=scores.scored,
        versions=model_versions.ModelVersions(),
        retrainer=retrain.Retrainer(),
    )
