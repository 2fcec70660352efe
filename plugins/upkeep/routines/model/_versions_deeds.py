"""What is done with a model's dated copies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Measurement, Outcome, OutcomeStatus, Severity
from upkeep.core.model_health import ModelVersion, NotKept
from upkeep.routines.model._versions_seen import Seen, digest, fresh, look

STABLE = "stable"


def findings(seen: Seen, rollback: str) -> Iterator[Finding]:
    """Yield what is wrong with the copies, or with what is to be brought back."""
    for name, reason in seen.files.refused.items():
        yield Finding(
            check="copy",
            subject=name,
            severity=Severity.UNKNOWN,
            message=f"{seen.files.folder}/{name} {reason}: it is in no copy",
            hint="correct owner or mode; for a link name the folder it leads to in the system file",
        )
    for name, bad in seen.spoilt.items():
        yield Finding(
            check="damaged",
            subject=name,
            severity=Severity.WARNING,
            message=f"copy {name}: {', '.join(bad[:5])} differ from its manifest, or are missing",
            hint=f"look at the disk; then remove {seen.files.folder}/versions/{name}",
        )
    if isinstance(seen.trial, NotKept):
        yield Finding(
            check="retraining",
            subject="note",
            severity=Severity.UNKNOWN,
            message=f"a retraining has not ended, and its note cannot be read: {seen.trial.message}",
            hint=seen.trial.hint,
        )
    if rollback and chosen(seen, rollback) is None:
        known = ", ".join(v.name for v in seen.kept[:5]) or "none"
        yield Finding(
            check="rollback",
            subject="version",
            severity=Severity.UNKNOWN,
            message=f"there is no good copy {rollback!r} of other files than those in service; copies: {known}",
            hint="name one of them; `stable` needs one that is trusted",
        )


def chosen(seen: Seen, rollback: str) -> ModelVersion | None:
    """Return the copy that is to be brought back."""
    if rollback == STABLE:
        return seen.stable
    return next(
        (v for v in seen.kept if v.name == rollback and v.files != seen.current and v.name not in seen.spoilt), None
    )


def planned(target: str, seen: Seen, keep: int | None, rollback: str) -> Iterator[Action]:
    """Yield what is to be done: finish a restore, copy, trust, bring back, tidy up."""
    if seen.unfinished:
        reason = f"a worker was killed while it brought {seen.unfinished} back: some files may be old and some new"
        yield Action(name="finish", subject=target, reason=reason, details={"version": seen.unfinished})
        return
    here = seen.in_service
    if here is None and seen.files.files:
        changed = "there is no copy yet" if not seen.kept else "the files differ from every copy"
        yield Action(name="copy", subject=target, reason=changed, details={"files": seen.current})
    yield from _trust(seen, here)
    if rollback and (back := chosen(seen, rollback)):
        yield Action(
            name="rollback",
            subject=back.name,
            reason=f"bring version {back.version or back.name} of {back.made:%Y-%m-%d} back into service",
            approval="the service answers with the older model from its next start on",
            undo="what is in service now is copied first, and can be brought back in the same way",
            details={"oid": digest(back.files)},
        )
    if seen.leftovers or (keep and _old(seen, keep)):
        names = [*seen.leftovers, *(_old(seen, keep) if keep else ())]
        reason = f"{len(seen.leftovers)} half-made copies, {len(names) - len(seen.leftovers)} beyond `keep`"
        yield Action(name="tidy", subject=target, reason=reason, details={"names": names})


def _trust(seen: Seen, here: ModelVersion | None) -> Iterator[Action]:
    """Yield the question whether pickles that nothing vouches for are trusted."""
    pickles = [file for file in seen.files.models if file.loadable]
    known = {v.files.get(f.name) for v in seen.kept if v.approved for f in pickles}
    # What the metadata state otherwise is no question of trust: model.health calls it critical.
    unknown = [f.name for f in pickles if f.sha256 not in known and not seen.files.stated(f)]
    if unknown and not (here and here.approved):
        yield Action(
            name="trust",
            subject=f"files {digest(seen.current)}",
            reason=f"nothing vouches for the hash of {', '.join(unknown)}",
            approval="from then on model.health loads these files; approve only if you know who put them there",
            details={"files": seen.current, "changed": {f.name: f.changed.isoformat() for f in pickles}},
        )


def _old(seen: Seen, keep: int) -> list[str]:
    """Return the copies beyond the newest `keep` good ones, without those in service and the stable one."""
    good = [v for v in seen.kept if v.name not in seen.spoilt]
    spared = {v.name for v in (seen.in_service, seen.stable) if v}
    return [v.name for v in good[keep:] if v.name not in spared and v.files != seen.current]


def do(job: Job[Any, Any], action: Action) -> Outcome:
    """Do one action, unless a retraining has begun since: between its first and last byte nobody else writes here."""
    deeds = {"copy": _copy, "trust": _approve, "rollback": _rollback, "finish": _finish, "tidy": _tidy}
    retrainer, folder = job.tools.models.retrainer, job.tools.models.files(job.target).folder
    try:
        with retrainer.held(folder) as mine:
            if not mine or retrainer.note(folder) is not None:
                return Outcome(status=OutcomeStatus.SKIPPED, detail="a retraining of this model has not ended")
            return deeds[action.name](job, action)
    except OSError as error:
        reason = f"{folder}/versions: {error.strerror or error}"
        return failed(NotKept(reason, "look at the folder's owner, mode and free space"), action.name)


def _copy(job: Job[Any, Any], action: Action) -> Outcome:
    seen = look(job, 0)
    version = fresh(job, seen.files, "change")
    trouble = job.tools.models.versions.keep(seen.files, version)
    return failed(trouble, "copy") if trouble else done(f"copied as {version.name}", version)


def _approve(job: Job[Any, Any], action: Action) -> Outcome:
    seen, versions = look(job, 0), job.tools.models.versions
    if action.subject != f"files {digest(seen.current)}":
        return Outcome(status=OutcomeStatus.SKIPPED, detail="the files have changed since they were asked about")
    version = seen.in_service or fresh(job, seen.files, "change")
    trouble = None if seen.in_service else versions.keep(seen.files, version)
    trouble = trouble or versions.approve(seen.files.folder, version.name, "a person")
    return failed(trouble, "trust") if trouble else done(f"{version.name} is trusted", version)


def _rollback(job: Job[Any, Any], action: Action) -> Outcome:
    seen, versions = look(job, 0), job.tools.models.versions
    new = seen.in_service is None and bool(seen.files.files)
    trouble = versions.keep(seen.files, fresh(job, seen.files, "rollback")) if new else None
    return failed(trouble, "rollback") if trouble else _restored(job, action.subject)


def _finish(job: Job[Any, Any], action: Action) -> Outcome:
    return _restored(job, str(action.details["version"]))


def _restored(job: Job[Any, Any], name: str) -> Outcome:
    folder = job.tools.models.files(job.target).folder
    if trouble := job.tools.models.versions.restore(folder, name):
        return failed(trouble, "rollback")
    version = next(v for v in job.tools.models.versions.kept(folder) if v.name == name)
    return done(f"{name} is in service; restart what has the model in memory", version)


def _tidy(job: Job[Any, Any], action: Action) -> Outcome:
    folder = job.tools.models.files(job.target).folder
    gone = job.tools.models.versions.remove(folder, action.details["names"])
    if isinstance(gone, NotKept):
        return failed(gone, "tidy")
    return Outcome(status=OutcomeStatus.DONE, detail=f"removed {', '.join(gone) or 'nothing'}")


def done(detail: str, version: ModelVersion) -> Outcome:
    """Return the outcome of something that was done with a copy."""
    size = Measurement(name="version.size", value=version.size, unit="bytes")
    evidence = {"version": version.model_dump(mode="json")}
    return Outcome(status=OutcomeStatus.DONE, detail=detail, measurements=(size,), evidence=evidence)


def failed(trouble: NotKept, check: str) -> Outcome:
    """Return the outcome of something that could not be done."""
    finding = Finding(
        check=check,
        subject="versions",
        severity=Severity.CRITICAL,
        message=trouble.message,
        hint=trouble.hint or "correct that and run it again",
    )
    return Outcome(status=OutcomeStatus.FAILED, detail=trouble.message, findings=(finding,))
