"""A retraining whose worker was killed: the files may be half old and half new, so the old ones come back."""

from __future__ import annotations

from typing import Any

from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Outcome, OutcomeStatus, Severity
from upkeep.core.model_health import NotKept, Trial
from upkeep.routines.model._versions_seen import fresh, hashes

NAME = "restore"


def planned(target: str, trial: Trial | NotKept, busy: bool) -> tuple[Action, ...]:
    """Plan to bring the old files back; nothing while the worker lives, or when nobody knows what was."""
    if busy or isinstance(trial, NotKept):
        return ()
    reason = f"the retraining of {trial.begun:%Y-%m-%d %H:%M} UTC never ended: put {trial.backup} back into service"
    undo = "what lies there now is copied first"
    return (Action(name=NAME, subject=target, reason=reason, undo=undo, details={"version": trial.backup}),)


def put_back(job: Job[Any, Any]) -> Outcome:
    """Bring back the files from before a retraining that was killed, and remove its note."""
    models = job.tools.models
    files = models.files(job.target)
    folder = files.folder
    with models.retrainer.held(folder) as mine:
        trial = models.retrainer.note(folder)
        if not mine or not isinstance(trial, Trial):
            return Outcome(status=OutcomeStatus.SKIPPED, detail="it goes on after all, or has ended by now")
        kept = models.versions.kept(folder)
        new = bool(files.files) and not any(v.files == hashes(files) for v in kept)
        # What a person may have put there since is not thrown away.
        trouble = models.versions.keep(files, fresh(job, files, "rollback")) if new else None
        if trouble := trouble or models.versions.restore(folder, trial.backup):
            return _failed(trouble, trial)
        models.retrainer.write(folder, None)
    detail = f"the retraining of run {trial.run_id} was killed; {trial.backup} is in service again"
    finding = Finding(
        check="half",
        subject="retraining",
        severity=Severity.WARNING,
        message=detail,
        hint="restart what has the model in memory; look why the worker died; then decide anew about the retraining",
    )
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=detail,
        findings=(finding,),
        evidence={"restored": trial.model_dump(mode="json")},
    )


def _failed(trouble: NotKept, trial: Trial) -> Outcome:
    finding = Finding(
        check="half",
        subject="retraining",
        severity=Severity.CRITICAL,
        message=f"a retraining was killed and {trial.backup} could not be put back: {trouble.message}",
        hint=trouble.hint or "put the files of that copy back by hand",
    )
    return Outcome(status=OutcomeStatus.FAILED, detail=trouble.message, findings=(finding,))
