"""Judging the scores of a window."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean
from typing import Any

from upkeep.core.job import Job
from upkeep.core.model import Finding, Measurement, Severity
from upkeep.core.model_health import Answer, NoScores, Scores
from upkeep.core.targets import ModelTarget
from upkeep.routines.model._scores_limits import UNITS, crossed, numbers

_CLASSES = 50
"""Classes whose scores are recorded one by one; beyond that only the mean over all."""


def no_labels() -> Finding:
    """Say that there is nothing to compare with."""
    return Finding(
        check="labels",
        subject="window",
        severity=Severity.INFO,
        message="no labels are configured: nobody knows how often this model is right",
        hint="give `labels` of the target in the system file: a query, or files, with prediction and truth",
    )


def unread(why: NoScores) -> Finding:
    """Say that the labels could not be read."""
    return Finding(check="labels", subject="window", severity=Severity.UNKNOWN, message=why.message, hint=why.hint)


def completeness(scores: Scores, scored: int | NoScores | None, settings: Any) -> tuple[bool, list[Finding]]:
    """Tell whether there are enough labels to judge the scores, and what is to be said about that."""
    if isinstance(scored, NoScores):
        return False, [unread(scored)]
    # Labels without their rows, or rows without their labels: the larger number is what there should be.
    rows = max(scores.rows, scored or 0)
    if not rows:
        return False, [_no_rows(asked=scored is not None)]
    percent = 100 * scores.labelled / rows
    seen = f"{scores.labelled} of {rows} rows have a label ({percent:.3g} %)"
    if not scores.labelled or percent < settings.least_labelled:
        least = f"{settings.least_labelled:g} %"
        return False, [_labels(Severity.UNKNOWN, f"{seen}: how well the model did is not known yet", seen, least)]
    if scores.labelled < settings.min_rows:
        least = f"{settings.min_rows} rows"
        return False, [_labels(Severity.UNKNOWN, f"{seen}: too few to judge the model", seen, least)]
    severity, limit = settings.labelled.crossed(percent)
    if severity is Severity.OK:
        return True, []
    return True, [_labels(severity, f"{seen}: the scores are of these only", seen, f"{limit:g} %")]


def _no_rows(*, asked: bool) -> Finding:
    """Say that there is nothing to judge; without a look at what the model was asked, nobody knows why."""
    if asked:
        return _labels(Severity.INFO, "the model was not asked about anything in this window", "0", "")
    unknown = "the labels have no row of this window, and without `scoring` nobody knows whether there should be any"
    return _labels(Severity.UNKNOWN, unknown, "0", "at least one row")


def _labels(severity: Severity, message: str, observed: str, limit: str) -> Finding:
    return Finding(
        check="labels",
        subject="window",
        severity=severity,
        message=message,
        observed=observed,
        limit=limit,
        hint="see that labels are still written; raise lag_days when they come later, or run a longer window",
    )


def of_limits(target: ModelTarget, scores: Scores) -> Iterator[Finding]:
    """Yield the scores that cross a limit of the target."""
    for name, (severity, value, limit) in crossed(target, scores).items():
        weakest = ""
        if scores.classes and name not in ("brier", "ece"):
            label, worst = min(scores.classes.items(), key=lambda item: item[1].f1)
            weakest = f"; weakest is class {label!r} with precision {worst.precision:.3f}, recall {worst.recall:.3f}"
        yield Finding(
            check=name,
            subject="window",
            severity=severity,
            message=f"{name} is {value:.4g} over {scores.labelled} labelled rows{weakest}",
            observed=f"{value:.4g} {UNITS[name]}",
            limit=f"{limit:g} {UNITS[name]}",
            hint="look at model.drift of the same window; then decide about retraining (model.retraining)",
        )


def of_unmeasured(target: ModelTarget, scores: Scores) -> Iterator[Finding]:
    """Yield the limits for which there is no score: whether they hold is not known."""
    for name in sorted((set(target.thresholds) & set(UNITS)) - set(numbers(scores))):
        yield Finding(
            check=name,
            subject="window",
            severity=Severity.UNKNOWN,
            message=f"a limit is set for {name}, which cannot be computed of the {scores.labelled} labelled rows",
            observed="none",
            hint="brier and ece need `labels.probability`, and `labels.positive` as the labels have it; mae, rmse and"
            " r2 need `task: regression`, and r2 labels that differ; the others need `task: classification`",
        )


def of_odd(scores: Scores) -> Iterator[Finding]:
    """Yield a finding for predictions that are none."""
    if scores.odd:
        yield Finding(
            check="odd",
            subject="predictions",
            severity=Severity.WARNING,
            message=f"{scores.odd} of {scores.rows} predictions or probabilities are missing or no usable number",
            observed=str(scores.odd),
            limit="0",
            hint="look at what the service answered for these rows",
        )


def of_distribution(job: Job[Any, Any], scores: Scores) -> Iterator[Finding]:
    """Yield the predictions whose share differs from earlier windows by more than the limit and more than chance.

    Chance: three standard errors of a share of so many rows.
    """
    if scores.rows < job.settings.min_rows:
        return
    past = {name for name in job.tools.history.latest("prediction.share") if name}
    for name in sorted(past | set(scores.shares)):
        before = [point.value for point in job.tools.history.series("prediction.share", name)]
        windows = sum(1 for point in job.tools.history.series("rows.scored") if point.value > 0)
        if windows < job.settings.windows:
            continue
        # A class that a window did not have was not recorded there.
        usual = sum(before) / max(windows, len(before))
        now = 100 * scores.shares.get(name, 0.0)
        chance = 300 * math.sqrt(max(usual / 100 * (1 - usual / 100), 1 / scores.rows) / scores.rows)
        severity, limit = job.settings.share.crossed(abs(now - usual))
        if severity is not Severity.OK and abs(now - usual) > chance:
            yield Finding(
                check="share",
                subject=name,
                severity=severity,
                message=f"the model says {name!r} in {now:.3g} % of {scores.rows} rows; over {windows} earlier windows"
                f" it was {usual:.3g} %",
                observed=f"{now - usual:+.3g} points",
                limit=f"{limit:g} points",
                hint="look for defaults, units and nulls in the features first; then at model.drift of this window",
            )


def of_importance(job: Job[Any, Any], answer: Answer | None) -> Iterator[Finding]:
    """Yield the features whose importance differs from earlier windows by more than the limit and more than chance."""
    if answer is None:
        return
    if not answer.ok:
        yield Finding(
            check="importance",
            subject="model",
            severity=Severity.UNKNOWN,
            message=f"the importance of the features could not be measured: {answer.detail}",
            hint="model.health tells whether the model loads; set `python`, or `importance: false`",
        )
    for name, (mean, spread) in answer.importance.items():
        before = [point.value for point in job.tools.history.series("importance", name)]
        if len(before) < job.settings.windows:
            continue
        usual = fmean(before)
        deviation = math.sqrt(fmean([(value - usual) ** 2 for value in before]) + spread**2)
        severity, limit = job.settings.importance_change.crossed(abs(mean - usual))
        if severity is not Severity.OK and abs(mean - usual) > 3 * deviation:
            yield Finding(
                check="importance",
                subject=name,
                severity=severity,
                message=f"shuffling {name} costs {mean:.3f} of the score, in {len(before)} earlier windows {usual:.3f}",
                observed=f"{mean - usual:+.3f}",
                limit=f"{limit:g}",
                hint="has the model changed, or what this feature means? see model.drift of it",
            )


def measurements(
    scores: Scores, scored: int | NoScores | None, answer: Answer | None, enough: bool
) -> Iterator[Measurement]:
    """Yield what is kept of a window; scores only when there were labels enough."""
    rows = max(scores.rows, scored if isinstance(scored, int) else 0)
    yield Measurement(name="rows.scored", value=rows, unit="rows")
    yield Measurement(name="rows.labelled", value=scores.labelled, unit="rows")
    if enough:
        yield from _scores(scores)
    if len(scores.shares) <= _CLASSES:
        for name, share in scores.shares.items():
            yield Measurement(name="prediction.share", value=100 * share, unit="%", subject=name)
    for name, value in scores.quantiles.items():
        yield Measurement(name="prediction.quantile", value=value, unit="prediction", subject=name)
    for name, (mean, _) in (answer.importance if answer and answer.ok else {}).items():
        yield Measurement(name="importance", value=mean, unit="score", subject=name)


def _scores(scores: Scores) -> Iterator[Measurement]:
    for name, value in numbers(scores).items():
        yield Measurement(name=f"score.{name}", value=value, unit=UNITS[name])
    if len(scores.classes) <= _CLASSES:
        for label, one in scores.classes.items():
            for name, ratio in (("precision", one.precision), ("recall", one.recall), ("f1", one.f1)):
                yield Measurement(name=f"class.{name}", value=100 * ratio, unit="%", subject=label)
