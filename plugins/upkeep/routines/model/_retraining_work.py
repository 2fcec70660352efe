"""Training a model anew, so that the old one is back in service whatever goes wrong."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from upkeep.core.job import Job
from upkeep.core.ml import Retraining
from upkeep.core.model import Action, Finding, Measurement, Outcome, OutcomeStatus, Severity
from upkeep.core.model_health import FilesSeen, Finished, ModelVersion, NotKept, Trial
from upkeep.core.model_secrets import shown
from upkeep.routines.model._retraining_evidence import Seen
from upkeep.routines.model._versions_seen import fresh, hashes

NAME = "retrain"
# Metrics of which less is better; of all others more is.
_LESS = re.compile(r"(^|[_.\- ])(loss|log_?loss|error|rmse|mae|mse|mape|brier|ece)($|[_.\- ])", re.IGNORECASE)


class _Failed(Exception):
    """Why the new model does not stay."""


def proposed(job: Job[Any, Any], seen: Seen) -> Action:
    """Return the action that a person is asked about."""
    wanted: Retraining = job.target.retraining
    why = "; ".join(seen.reasons.values()) or "the evaluation that is made every quarter; nothing speaks for it"
    return Action(
        name=NAME,
        subject=job.target.id,
        reason=f"train the model anew: {why}",
        approval="it runs a program for up to"
        f" {2 * wanted.timeout / 60:.0f} minutes and puts its model into service when the test passes",
        undo="the files are copied first, and come back when anything fails; later with model.versions (`rollback`)",
        details={
            "oid": _identity(seen, wanted),
            "command": shown(wanted.command),
            "test": shown(wanted.test),
            "evidence": dict(seen.numbers),
            "age_days": seen.age_days,
        },
    )


def _identity(seen: Seen, wanted: Retraining) -> str:
    """Return what a person agrees to: that these files are replaced by what this command makes of them.

    Whoever changes the model or the command between question and answer has to be asked anew.
    """
    said = json.dumps([sorted(hashes(seen.files).items()), wanted.command, wanted.test])
    return hashlib.sha256(said.encode()).hexdigest()


def retrain(job: Job[Any, Any], wanted: Retraining, worse_by: float, keep_worse: bool) -> Outcome:
    """Copy the files, train, test, compare; put the old files back when the new ones do not pass."""
    models = job.tools.models
    folder = models.files(job.target).folder
    with models.retrainer.held(folder) as mine:
        if not mine or models.retrainer.note(folder) is not None:
            return Outcome(status=OutcomeStatus.SKIPPED, detail="another retraining of this model has not ended")
        # Read now: the files that are copied are those that the programs find.
        before = models.files(job.target)
        backup = _backed_up(job, before)
        if isinstance(backup, NotKept):
            finding = _finding(f"nothing was trained: the old files could not be copied: {backup.message}", backup.hint)
            return Outcome(status=OutcomeStatus.FAILED, detail=backup.message, findings=(finding,))
        models.retrainer.write(folder, Trial(backup=backup.name, begun=job.tools.now(), run_id=job.run_id))
        told: dict[str, Any] = {"backup": backup.name}
        try:
            return _new(job, wanted, before, told, None if keep_worse else worse_by)
        except _Failed as error:
            return _put_back(job, backup, str(error), told)
        except BaseException:
            # Ended from outside: there is little time, and this is the most important thing to do in it.
            _put_back(job, backup, "the run was ended", told)
            raise


def _backed_up(job: Job[Any, Any], before: FilesSeen) -> ModelVersion | NotKept:
    """Return the copy of the files in service, which is made where there is none."""
    if not before.files:
        return NotKept(f"{before.folder} holds no model file", "restore one before training")
    versions = job.tools.models.versions
    for version in versions.kept(before.folder):
        if version.files == hashes(before) and not versions.spoilt(before.folder, version):
            found: ModelVersion = version
            return found
    version = fresh(job, before, "change")
    return versions.keep(before, version) or version


def _new(
    job: Job[Any, Any], wanted: Retraining, before: FilesSeen, told: dict[str, Any], worse_by: float | None
) -> Outcome:
    """Train and test; keep the new files when they pass.

    :raises _Failed: they do not.
    """
    models, folder = job.tools.models, before.folder
    _program(job, "command", wanted, folder, told)
    after = models.files(job.target)
    _usable(before, after)
    if wanted.test:
        _program(job, "test", wanted, folder, told)
    tested = models.files(job.target)
    if hashes(tested) != hashes(after):
        raise _Failed("the test changed the model's files")
    told["metrics"] = {"old": dict(before.metadata.metrics), "new": dict(after.metadata.metrics)}
    if worse_by is not None and (worse := _worse(before.metadata.metrics, after.metadata.metrics, worse_by)):
        raise _Failed(f"the new model is worse: {'; '.join(worse)}")
    version = fresh(job, after, "retraining", approved="an approved retraining")
    trouble = models.versions.keep(after, version)
    if trouble:
        raise _Failed(f"the new files could not be copied: {trouble.message}")
    models.retrainer.write(folder, None)
    told |= {"version": version.model_dump(mode="json"), "in_service": hashes(after)}
    measured = tuple(
        Measurement(name="metadata.metric", value=value, unit="score", subject=name)
        for name, value in after.metadata.metrics.items()
    )
    detail = (
        f"trained anew: version {version.version or version.name} is in service; restart what has the old in memory"
    )
    return Outcome(status=OutcomeStatus.DONE, detail=detail, evidence={"retraining": told}, measurements=measured)


def _program(job: Job[Any, Any], what: str, wanted: Retraining, folder: str, told: dict[str, Any]) -> None:
    command, seconds = wanted.command if what == "command" else wanted.test, wanted.timeout
    job.tools.log.info("%s: %s", what, " ".join(shown(command)))
    run = job.tools.models.retrainer.run
    ended: Finished = run(command, folder=folder, seconds=seconds, still_alone=job.still_alone)
    told[what] = {**asdict(ended), "tail": list(ended.tail)}
    last = f": {ended.tail[-1]}" if ended.tail else ""
    if ended.late:
        raise _Failed(f"the {what} was not done within {seconds:g} s and was ended")
    if ended.code:
        raise _Failed(f"the {what} ended with code {ended.code}{last}")


def _usable(before: FilesSeen, after: FilesSeen) -> None:
    """See that the training left a model. :raises _Failed: it did not."""
    if after.absent or after.refused or after.broken or not after.models:
        wrong = [*after.absent, *after.refused, *after.broken] or ["no model file"]
        raise _Failed(f"the training left files that are missing or cannot be read: {', '.join(wrong[:5])}")
    if {f.name: f.sha256 for f in before.models} == {f.name: f.sha256 for f in after.models}:
        raise _Failed("the command changed no model file")
    if after.metadata.error and not before.metadata.error:
        raise _Failed(f"the training left metadata that cannot be read: {after.metadata.error}")
    if wrong := [f.name for f in after.models if (said := after.stated(f)) and said != f.sha256]:
        raise _Failed(f"the new metadata state another hash of {', '.join(wrong[:5])}")


def _worse(old: Mapping[str, float], new: Mapping[str, float], by: float) -> list[str]:
    """Return the metrics that got worse by more than `by`, or are gone."""
    found = []
    for name, was in old.items():
        fallen = None if name not in new else (new[name] - was if _LESS.search(name) else was - new[name])
        # Ulps of a metric that was computed in another order are no change.
        if fallen is None or fallen > by + 1e-12 * max(1.0, abs(was)):
            found.append(f"{name} {was:.4g} -> {f'{new[name]:.4g}' if name in new else 'missing'}")
    return found


def _put_back(job: Job[Any, Any], backup: ModelVersion, reason: str, told: dict[str, Any]) -> Outcome:
    """Bring the old files back and say why."""
    models = job.tools.models
    folder = models.files(job.target).folder
    trouble = models.versions.restore(folder, backup.name)
    if trouble:
        # The note stays: the next run tries again.
        finding = _finding(
            f"{reason}; and the old files could not be put back: {trouble.message}",
            f"copy the files of versions/{backup.name} over those in service by hand. {trouble.hint}",
        )
    else:
        models.retrainer.write(folder, None)
        more = sorted(set(hashes(models.files(job.target))) - set(backup.files))
        left = f"; the training also left {', '.join(more[:5])}" if more else ""
        told["in_service"] = hashes(models.files(job.target))
        finding = _finding(
            f"{reason}; the old files are in service again{left}",
            "read the programs' last lines in the evidence of this action",
        )
    return Outcome(
        status=OutcomeStatus.FAILED, detail=finding.message, findings=(finding,), evidence={"retraining": told}
    )


def _finding(message: str, hint: str) -> Finding:
    return Finding(check=NAME, subject="model", severity=Severity.CRITICAL, message=message, hint=hint)


def differing(job: Job[Any, Any], outcomes: tuple[Outcome, ...]) -> Iterator[Finding]:
    """Yield the files in service that are not those that an outcome says are."""
    for outcome in outcomes:
        said = outcome.evidence.get("retraining", {}).get("in_service")
        if said is not None and (seen := hashes(job.tools.models.files(job.target))) != said:
            wrong = sorted({*said, *seen} - {name for name in said if seen.get(name) == said[name]})
            yield Finding(
                check="in_service",
                subject="model",
                severity=Severity.CRITICAL,
                message=f"after the retraining somebody else changed {', '.join(wrong[:5])}",
                hint="see who writes there; model.versions copies what is there now, and can bring the copy back",
            )
