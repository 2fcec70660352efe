"""Scores of a window as numbers with names, and the limits that a target states for them."""

from __future__ import annotations

from upkeep.core.model import Severity, Threshold
from upkeep.core.model_health import Scores
from upkeep.core.targets import ModelTarget

UNITS = {
    "accuracy_percent": "%", "precision_percent": "%", "recall_percent": "%", "f1_percent": "%",
    "brier": "score", "ece": "score", "mae": "label", "rmse": "label", "r2": "score",
}  # fmt: skip


def numbers(scores: Scores) -> dict[str, float]:
    """Return the scores that there are, by the names that `thresholds` of a target use.

    Precision, recall and F1 are the means over the classes (macro).
    """
    macro = scores.macro
    found = {
        "accuracy_percent": _percent(scores.accuracy),
        "precision_percent": _percent(macro.precision if macro else None),
        "recall_percent": _percent(macro.recall if macro else None),
        "f1_percent": _percent(macro.f1 if macro else None),
        "brier": scores.brier,
        "ece": scores.ece,
        "mae": scores.mae,
        "rmse": scores.rmse,
        "r2": scores.r2,
    }
    return {name: value for name, value in found.items() if value is not None}


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else 100 * ratio


def crossed(target: ModelTarget, scores: Scores) -> dict[str, tuple[Severity, float, float]]:
    """Return what crosses a limit of the target: name -> severity, value, limit."""
    found: dict[str, tuple[Severity, float, float]] = {}
    for name, value in numbers(scores).items():
        severity, limit = target.thresholds.get(name, Threshold()).crossed(value)
        if severity is not Severity.OK and limit is not None:
            found[name] = (severity, value, limit)
    return found
