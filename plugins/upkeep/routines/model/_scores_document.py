"""A model's documentation as Markdown, from what was measured."""

from __future__ import annotations

import re
from collections.abc import Sequence

from upkeep.core.cadence import Window
from upkeep.core.model_health import Answer, FilesSeen, Scores
from upkeep.core.targets import ModelTarget
from upkeep.routines.model._scores_limits import UNITS, numbers


def written(
    target: ModelTarget, files: FilesSeen, window: Window, scores: Scores, answer: Answer | None, *, passed_over: str
) -> str:
    """Return the documentation: which model, how it did in the window, what it leans on."""
    parts = [
        f"# Model {plain(target.id)}",
        _identity(files),
        f"## Scores, {window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} ({window.start.tzname() or 'UTC'})",
        f"{scores.rows} rows, {scores.labelled} of them with a label.",
        _scores(target, scores),
        _classes(scores),
        "## Predictions",
        _predictions(scores),
        "## Importance of the features",
        _importance(answer, passed_over),
        "Drift of the features in the same window: see the findings of `model.drift` in this run's report.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: str) -> str:
    """Return a text from outside so that it says nothing to Markdown or HTML.

    >>> plain("a|<b>*c*")
    'a\\\\|\\\\<b\\\\>\\\\*c\\\\*'
    """
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&])", r"\\\1", printable[:200])


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""


def _identity(files: FilesSeen) -> str:
    said = files.metadata
    trained = f"{said.trained:%Y-%m-%d}" if said.trained else "not stated"
    rows = [
        ("version", plain(said.version or "not stated")),
        ("trained", trained),
        ("features", plain(", ".join(said.features)) or str(said.feature_count or "not stated")),
        *((f"file {plain(file.name)}", f"`{file.sha256}`") for file in files.models),
        *((f"at training: {plain(name)}", f"{value:.4g}") for name, value in said.metrics.items()),
    ]
    return _table(("", "value"), rows)


def _scores(target: ModelTarget, scores: Scores) -> str:
    rows = []
    for name, value in numbers(scores).items():
        limit = target.thresholds.get(name)
        worst = (
            next((one for one in (limit.critical, limit.warning, limit.info) if one is not None), None)
            if limit
            else None
        )
        rows.append((plain(name), f"{value:.4g} {UNITS[name]}", "" if worst is None else f"{worst:g}"))
    return _table(("score", "value", "limit"), rows)


def _classes(scores: Scores) -> str:
    rows = [
        (plain(label), f"{one.precision:.4f}", f"{one.recall:.4f}", f"{one.f1:.4f}", str(one.support))
        for label, one in list(scores.classes.items())[:50]
    ]
    return _table(("class", "precision", "recall", "F1", "rows"), rows)


def _predictions(scores: Scores) -> str:
    shares = [(plain(name), f"{100 * share:.2f} %") for name, share in list(scores.shares.items())[:50]]
    quantiles = [(name, f"{value:.4g}") for name, value in scores.quantiles.items()]
    return "\n\n".join(
        filter(None, (_table(("prediction", "share"), shares), _table(("quantile", "value"), quantiles)))
    )


def _importance(answer: Answer | None, passed_over: str) -> str:
    if answer is None or not answer.ok:
        return f"Not measured: {plain(passed_over or 'switched off')}."
    ranked = sorted(answer.importance.items(), key=lambda item: -item[1][0])
    rows = [(plain(name), f"{mean:.4f}", f"{spread:.4f}") for name, (mean, spread) in ranked]
    return f"Fall of the score (now {answer.score:.4f}) when the values of a feature are shuffled.\n\n" + _table(
        ("feature", "fall", "deviation"), rows
    )
