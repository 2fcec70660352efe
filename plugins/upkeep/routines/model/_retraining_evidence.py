"""What speaks for training a model anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from upkeep.core.job import Job
from upkeep.core.model import Severity, Threshold
from upkeep.core.model_health import FilesSeen, Metadata, NoScores, NotKept, Scores, Trial
from upkeep.routines.model._scores_limits import UNITS, crossed, numbers


@dataclass(frozen=True)
class Seen:
    """The evidence: `reasons` speak for retraining, `unknown` could not be determined.

    `nothing`: neither the system file nor its limits say when it is due.
    """

    files: FilesSeen
    reasons: Mapping[str, str]
    unknown: Mapping[str, str]
    numbers: Mapping[str, float]
    age_days: float | None = None
    trial: Trial | NotKept | None = None
    busy: bool = False
    nothing: bool = False


@dataclass
class _Evidence:
    reasons: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)


def look(job: Job[Any, Any], min_rows: int, remembered_days: float) -> Seen:
    """Read metadata, labels of the window, what the ledger knows, and whether a retraining was left half done."""
    models, target = job.tools.models, job.target
    files, found = models.files(target), _Evidence()
    age = _metadata(job, files.metadata, found)
    scores = (
        models.scores(target.labels, job.system, job.window, (), 0) if target.labels and target.thresholds else None
    )
    _scores(job, scores, min_rows, found)
    _remembered(job, job.tools.now() - timedelta(days=remembered_days), found)
    note = models.retrainer.note(files.folder) if "." not in files.refused else None
    busy = False
    if isinstance(note, Trial):
        with models.retrainer.held(files.folder) as mine:
            busy = not mine
    wanted = target.retraining
    rules = wanted is not None and (wanted.max_age_days or wanted.min_scores)
    return Seen(
        files, found.reasons, found.unknown, found.numbers, age, note, busy, nothing=not rules and scores is None
    )


def _metadata(job: Job[Any, Any], said: Metadata, found: _Evidence) -> float | None:
    wanted = job.target.retraining
    if said.error:
        found.reasons["metadata"] = f"metadata {said.name or 'file'}: {said.error}"
        return None
    for name, least in (wanted.min_scores if wanted else {}).items():
        value = said.metrics.get(name)
        if value is None:
            known = ", ".join(list(said.metrics)[:8]) or "none"
            found.unknown[name] = f"{said.name} tells no metric {name!r}; it has {known}"
        else:
            found.numbers[name] = value
            if value < least:
                found.reasons[name] = f"{name} was {value:.4g} at training, expected at least {least:g}"
    return _age(job, said, found)


def _age(job: Job[Any, Any], said: Metadata, found: _Evidence) -> float | None:
    most = job.target.retraining.max_age_days if job.target.retraining else None
    if said.trained is None:
        if most:
            found.unknown["age"] = f"{said.name} tells no training date, expected at most {most:g} days ago"
        return None
    days: float = (job.tools.now() - said.trained).total_seconds() / 86_400
    if most and days > most:
        found.reasons["age"] = f"trained {days:.0f} days ago, on {said.trained:%Y-%m-%d}; expected at most {most:g}"
    if days < -1:
        found.unknown["age"] = f"{said.name} has a training date in the future: {said.trained:%Y-%m-%d}"
    return days


def _scores(job: Job[Any, Any], scores: Scores | NoScores | None, min_rows: int, found: _Evidence) -> None:
    if isinstance(scores, NoScores):
        found.unknown["scores"] = f"no scores of the window: {scores.message}"
    elif scores and scores.labelled < min_rows:
        # Not unknown: labels come late, and model.scores tells when they do not come at all.
        found.numbers["labelled_rows"] = scores.labelled
    elif scores:
        found.numbers |= numbers(scores)
        for name, (_, value, limit) in crossed(job.target, scores).items():
            found.reasons[name] = f"{name} of the window is {value:.4g} over {scores.labelled} rows, limit {limit:g}"


def _remembered(job: Job[Any, Any], since: datetime, found: _Evidence) -> None:
    """Add the newest scores and drift of the ledger: labels of this run's own window may not have come yet."""
    scores, drift = job.tools.history.of("model.scores"), job.tools.history.of("model.drift")
    for name in UNITS:
        point = None if name in found.numbers else scores.last(f"score.{name}")
        if point is None or point.at < since:
            continue
        found.numbers[name] = point.value
        severity, limit = job.target.thresholds.get(name, Threshold()).crossed(point.value)
        if severity is not Severity.OK and limit is not None:
            newest = f"{name} of the newest judged window is {point.value:.4g}"
            found.reasons[name] = f"{newest} (model.scores, {point.at:%Y-%m-%d}), limit {limit:g}"
    columns = drift.last("drift.columns")
    if columns is not None and columns.at >= since:
        found.numbers["drifted_columns_percent"] = columns.value
