"""Compare what a model was asked about, and what it answered, in the run's window with its reference profile.

**What it does.** It reads the scoring data of the window once (a query, Parquet or CSV), with a fixed amount of memory,
and compares every feature and the prediction with the profile that was current when the window ended. Numbers by PSI,
KS, Wasserstein and Jensen-Shannon; categories by PSI, Jensen-Shannon and chi-square. Missing values, infinities,
outliers, new and vanished categories, constant columns and changed types are told apart. A backfill answers for its
own window, by the profile of that time.

**Why.** A model trained on other data than it now sees is wrong without any error message.

**When it says so.** A distribution counts as changed when a measure crosses its limit *and* the test is significant
among all tests of the run (Benjamini-Hochberg), so that twenty columns do not raise a false alarm every week. The limit
is never below what chance brings about with so few rows or so many categories: docs/decisions/0016-drift.md.

**When it is red.**

- `feature_drift`, `prediction_drift`: the subject names column and aspect, the message value, limit, p and direction.
  See what changed at the source; then the scores (model.health); then retrain, or approve a new profile.
- `profile`: there is none (the hint makes one), or it was altered on the disk: it is not used, restore it.
- `rows`, `unread`, `rows_lost`, `... absent`: what could not be compared, so that its drift is unknown.

What it cannot tell: whether the model is wrong for it (that needs labels), and drift in how columns depend on each
other. What it says of a stretch between two quantiles of the profile is off by a thousandth at most.
"""

from __future__ import annotations

from upkeep.core.cadence import Covers
from upkeep.core.job import Job
from upkeep.core.model import Judgement, Measurement
from upkeep.core.targets import ModelTarget
from upkeep.routines.model import _drift_gaps, _drift_judge
from upkeep.routines.model._drift_seen import Seen, observe
from upkeep.routines.model._drift_settings import Settings

TITLE = "Model drift"
TARGETS = ("model",)
COVERS = Covers.WINDOW
ROLE = "ml"
__all__ = ["Settings", "judge", "observe"]


def judge(job: Job[ModelTarget, Settings], seen: Seen) -> Judgement:
    """Judge every column, and say what could not be compared."""
    if job.target.scoring is None:
        return Judgement(findings=(_drift_gaps.no_data(job.target),))
    if seen.damaged is not None:
        return Judgement(findings=(_drift_gaps.altered(job.target, seen.damaged),))
    if seen.entry is None or seen.profile is None or seen.drifted is None:
        return Judgement(findings=(_drift_gaps.no_profile(job.target, seen.index, job.window.end),))
    read = seen.drifted.read
    findings = [*_drift_gaps.of_reading(read, job.settings)]
    if other := _drift_gaps.replaced(seen.entry, job.tools.history):
        findings.append(other)
    measurements = (
        _drift_gaps.hash_of(seen.entry),
        Measurement(name="drift.rows", value=read.rows, unit="rows"),
        Measurement(name="profile.version", value=seen.entry.version, unit=""),
    )
    whole = Judgement(measurements=measurements, findings=tuple(findings))
    if few := _drift_gaps.too_few(read, job.settings, "window"):
        return whole + Judgement(findings=(few,))
    return whole + _columns(job, seen)


def _columns(job: Job[ModelTarget, Settings], seen: Seen) -> Judgement:
    assert seen.drifted is not None and seen.profile is not None and seen.entry is not None
    answer = job.target.prediction
    features = None if seen.features is None else [f for f in seen.features if f not in job.settings.ignore]
    gaps = tuple(_drift_gaps.of_columns(seen.drifted, seen.profile, features, answer))
    judged = _drift_judge.judge(seen.drifted.columns, job.settings, answer, seen.profile, seen.entry.version)
    return judged + Judgement(findings=gaps)
