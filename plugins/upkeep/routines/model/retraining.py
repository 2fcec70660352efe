"""Tells whether a model is due to be trained anew, with the evidence, and does it when a person has agreed.

**What it does.** It reads the metadata (age of the training against `max_age_days`, metrics against `min_scores`) and,
where labels are configured, the scores of the run's window against the target's limits; where its labels have not come
yet, the newest scores that `model.scores` left in the ledger. How many columns drift is shown beside them. From these
follows whether retraining is due, and why. Where the system file gives a command, it proposes to run it (approval; with
`ask: always` also when nothing is due, as the quarterly evaluation wants it). After a yes: the files are copied first,
then the command runs (no shell, little of the environment, a time limit, its end with the worker), then the test
command; then the metrics of the old and the new metadata are compared. A yes counts for the files and the command
that were asked about, and for no others.

**When it goes wrong**, the old files come back: the command fails or takes too long, changes nothing, leaves files that
cannot be read, the test fails, or a metric got worse by more than `worse_by` (unless `keep_worse`). A worker that is
killed leaves a note, and the next run of this routine or of `model.versions` (daily) puts the old files back. Files
that the training made in addition stay, and are named.

**When it is red.**

- `due`: read the reasons; answer the proposal, or train by hand.
- `retrain`: what the programs wrote last stands in the evidence of the action; secrets are left out.
- `evidence` (unknown): nobody can tell whether it is due: what is missing is named.
- `half`: a retraining was killed; the old files are in service again, or must be put back by hand.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from upkeep.core.cadence import Covers
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Judgement, Measurement, Outcome, Plan, Severity
from upkeep.core.model_health import NotKept
from upkeep.core.routine import RoutineSettings
from upkeep.core.targets import ModelTarget
from upkeep.routines.model import _retraining_half as half
from upkeep.routines.model import _retraining_work as work
from upkeep.routines.model._retraining_evidence import Seen, look

TITLE = "Model retraining"
TARGETS = ("model",)
COVERS = Covers.NOW
ROLE = "ml"


class Settings(RoutineSettings):
    """When to ask, and what a new model must be like."""

    ask: Literal["due", "always", "never"] = Field("due", description="when a person is asked about retraining")
    min_rows: int = Field(200, ge=1, description="labelled rows of the window below which its scores say nothing")
    remembered_days: float = Field(40, gt=0, le=400, description="age up to which scores and drift of the ledger count")
    # Old and new are measured on other rows: 0.01 is what chance makes of a ratio over some thousand of them.
    worse_by: float = Field(0.01, ge=0, description="how much worse a metric may get, in its own unit")
    keep_worse: bool = Field(False, description="keep a new model whose metrics are worse")


def observe(job: Job[ModelTarget, Settings]) -> Seen:
    """Gather the evidence."""
    return look(job, job.settings.min_rows, job.settings.remembered_days)


def judge(job: Job[ModelTarget, Settings], seen: Seen) -> Judgement:
    """Say whether retraining is due, and why."""
    measured = [Measurement(name="retraining.due", value=float(bool(seen.reasons)), unit="yes")]
    if seen.age_days is not None:
        measured.append(Measurement(name="model.age", value=seen.age_days, unit="days"))
    measured += [Measurement(name="evidence", value=v, unit="score", subject=name) for name, v in seen.numbers.items()]
    return Judgement(measurements=tuple(measured), findings=tuple(_findings(seen)))


def plan(job: Job[ModelTarget, Settings], seen: Seen) -> Plan:
    """Finish what was left in the middle; else propose to train."""
    if seen.trial is not None:
        return Plan(actions=half.planned(job.target.id, seen.trial, seen.busy))
    asked = job.settings.ask == "always" or (job.settings.ask == "due" and bool(seen.reasons))
    if not asked or job.target.retraining is None or not job.target.retraining.command:
        return Plan()
    return Plan(actions=(work.proposed(job, seen),))


def act(job: Job[ModelTarget, Settings], action: Action) -> Outcome:
    """Train, or put back what an earlier training left half done."""
    if action.name == half.NAME:
        return half.put_back(job)
    assert job.target.retraining is not None, "without it nothing is planned"
    return work.retrain(job, job.target.retraining, job.settings.worse_by, job.settings.keep_worse)


def verify(job: Job[ModelTarget, Settings], seen: Seen, outcomes: tuple[Outcome, ...]) -> Judgement:
    """Read the files again: those in service must be the ones that the outcome speaks of."""
    return Judgement(findings=tuple(work.differing(job, outcomes)))


def _findings(seen: Seen) -> list[Finding]:
    found = [
        Finding(
            check="evidence",
            subject=subject,
            severity=Severity.UNKNOWN,
            message=message,
            hint="let the training program write it into the metadata, or correct `retraining` in the system file",
        )
        for subject, message in seen.unknown.items()
    ]
    if isinstance(seen.trial, NotKept):
        found.append(
            Finding(
                check="half",
                subject="retraining",
                severity=Severity.UNKNOWN,
                message=seen.trial.message,
                hint=seen.trial.hint,
            )
        )
    if seen.reasons:
        found.append(
            Finding(
                check="due",
                subject="retraining",
                severity=Severity.WARNING,
                message=f"the model is due to be trained anew: {'; '.join(seen.reasons.values())}",
                observed=", ".join(seen.reasons),
                limit="none of these",
                hint="answer the proposal under Required Actions, or train by hand and let model.versions copy first",
            )
        )
    elif seen.nothing:
        found.append(
            Finding(
                check="due",
                subject="retraining",
                severity=Severity.INFO,
                message="nothing says when this model is due: neither `retraining` nor limits with labels are given",
                hint="give max_age_days or min_scores under `retraining` in the system file",
            )
        )
    return found
