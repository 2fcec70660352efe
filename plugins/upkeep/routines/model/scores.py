"""Compares what a model said in the run's window with what turned out to be true.

**What it does.** It reads the labels of exactly the rows of the window (`labels` of the target), also in a backfill,
and counts accuracy; precision, recall and F1 of each class and on average (macro); where probabilities are given, how
well they are calibrated (Brier score, expected calibration error); for numbers MAE, RMSE and R2. They are compared with
the target's limits (`accuracy_percent`, `f1_percent`, `rmse` ...). The distribution of the predictions is compared with
that of earlier windows, and so is the importance of each feature: how much the score falls when its values are shuffled
(permutation), measured with the model in service in the restricted process of `model.health`, in the newest window
only. Labels come late: with `lag_days` the run judges the window that long ago. What has too few labels is unknown and
not judged. The model's documentation (version, scores, importance) is written anew and kept with the run.

**When it is red.**

- `accuracy_percent`, `f1_percent` ...: look at `model.drift` of the same window. Drift too: the world has changed,
  train anew. No drift: are the labels right, is it the version that you think?
- `labels` (unknown): labels are missing. Does whoever writes them still run? Is `lag_days` long enough?
- `share`: the model says something much more, or less, often than before. A fault in what it is fed is likelier than
  a change of the world: look for defaults, units and nulls in the features.
- `importance`: the model leans on a feature that it did not need before, or no longer does.
- `odd`: predictions or probabilities are missing or no numbers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from pydantic import Field

from upkeep.core.cadence import Covers, Window
from upkeep.core.job import Job
from upkeep.core.model import Action, Judgement, Outcome, OutcomeStatus, Plan, Threshold
from upkeep.core.model_health import Answer, FilesSeen, NoScores, Scores
from upkeep.core.targets import ModelTarget
from upkeep.routines.model import _scores_judge as judging
from upkeep.routines.model._health_trust import ConfinedSettings, trusted
from upkeep.routines.model._scores_document import written

TITLE = "Model scores"
TARGETS = ("model",)
COVERS = Covers.WINDOW
ROLE = "ml"


class Settings(ConfinedSettings):
    """How many labels are enough, and how much may change."""

    lag_days: float = Field(0, ge=0, le=3650, description="days after which labels are there; the window is moved back")
    min_rows: int = Field(100, ge=1, description="labelled rows below which scores are not judged")
    labelled: Threshold = Field(
        Threshold(info=90, direction="below"), description="percent of the rows that have a label by now"
    )
    least_labelled: float = Field(50, ge=0, le=100, description="percent below which scores are unknown")
    share: Threshold = Field(
        Threshold(warning=10), description="percentage points by which the share of a prediction may change"
    )
    windows: int = Field(5, ge=2, le=90, description="earlier windows that changes are compared with, at least")
    importance: bool = Field(True, description="measure how much each feature matters, in the newest window")
    importance_rows: int = Field(500, ge=20, le=20_000, description="labelled rows that it is measured on")
    importance_repeats: int = Field(5, ge=2, le=50, description="times that each feature is shuffled")
    importance_change: Threshold = Field(
        Threshold(warning=0.1), description="change of a feature's importance, in accuracy or R2"
    )
    seed: int = Field(1, ge=0, description="of the shuffling: the same rows give the same importance")


@dataclass(frozen=True)
class Seen:
    """The scores of a window, and how many rows the model was asked about in it."""

    window: Window
    files: FilesSeen
    scores: Scores | NoScores | None = None
    scored: int | NoScores | None = None
    importance: Answer | None = None
    passed_over: str = ""
    """Why importance was not measured."""


def observe(job: Job[ModelTarget, Settings]) -> Seen:
    """Read labels and predictions of the window; measure importance."""
    settings, target, models = job.settings, job.target, job.tools.models
    back = timedelta(days=settings.lag_days)
    window = job.window.model_copy(update={"start": job.window.start - back, "end": job.window.end - back})
    files = models.files(target)
    if target.labels is None:
        return Seen(window, files)
    # In the order of training: models that know no names go by position.
    features = files.metadata.features or target.features
    wanted = settings.importance_rows if settings.importance and job.window.newest else 0
    scores = models.scores(target.labels, job.system, window, features, wanted)
    scored = models.scored(target, job.system, window) if target.scoring else None
    if isinstance(scores, NoScores) or not wanted:
        reason = "" if wanted or not settings.importance else "the model in service is not the one of an old window"
        return Seen(window, files, scores, scored, passed_over=reason)
    return Seen(window, files, scores, scored, *_importance(job, files, scores))


def judge(job: Job[ModelTarget, Settings], seen: Seen) -> Judgement:
    """Compare the scores with the limits, and with earlier windows."""
    if seen.scores is None:
        return Judgement(findings=(judging.no_labels(),))
    if isinstance(seen.scores, NoScores):
        return Judgement(findings=(judging.unread(seen.scores),))
    enough, told = judging.completeness(seen.scores, seen.scored, job.settings)
    findings = [*told, *judging.of_distribution(job, seen.scores), *judging.of_odd(seen.scores)]
    if enough:
        findings += judging.of_limits(job.target, seen.scores)
        findings += judging.of_unmeasured(job.target, seen.scores)
        findings += judging.of_importance(job, seen.importance)
    return Judgement(
        measurements=tuple(judging.measurements(seen.scores, seen.scored, seen.importance, enough)),
        findings=tuple(findings),
    )


def plan(job: Job[ModelTarget, Settings], seen: Seen) -> Plan:
    """Write the model's documentation anew, where there is something to tell."""
    if not isinstance(seen.scores, Scores) or not seen.scores.rows:
        return Plan()
    text = written(job.target, seen.files, seen.window, seen.scores, seen.importance, passed_over=seen.passed_over)
    reason = "scores and importance of the window are part of the model's documentation"
    action = Action(name="document", subject=job.target.id, reason=reason, details={"document": text})
    return Plan(actions=(action,))


def act(job: Job[ModelTarget, Settings], action: Action) -> Outcome:
    """Hand the documentation over to the ledger."""
    text = str(action.details["document"])
    artefact = {
        "name": f"{job.target.id.replace('/', '-')}.md",
        "media_type": "text/markdown",
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "content": text,
    }
    detail = f"the model's documentation, {len(text)} characters"
    return Outcome(status=OutcomeStatus.DONE, detail=detail, evidence={"artefact": artefact})


def _importance(job: Job[ModelTarget, Settings], files: FilesSeen, scores: Scores) -> tuple[Answer | None, str]:
    """Measure the importance of the features; else say why not."""
    if scores.sample is None or len(scores.sample.labels) < job.settings.min_rows:
        return None, "the labelled rows lack the features, or are too few"
    models = job.tools.models
    kept = models.versions.kept(files.folder)
    known = [file for file in files.models if file.loadable and trusted(file, files, kept, None)]
    if len(known) != 1:
        return None, f"{len(known)} model files that may be loaded, expected 1"
    settings = job.settings
    answer = models.sandbox.importance(
        files.path(known[0]), known[0].sha256, settings.confined(), scores.sample,
        seed=settings.seed, repeats=settings.importance_repeats,
    )  # fmt: skip
    return answer, "" if answer.ok else answer.detail
