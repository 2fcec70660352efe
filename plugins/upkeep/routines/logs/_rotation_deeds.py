"""What is done to log files, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from upkeep.core.logs import Rotation
from upkeep.core.model import Action, Finding, Measurement, Outcome, OutcomeStatus, Severity
from upkeep.core.rotation import LiveLog, NotDone, Order, Packed, RotatedFile, StrayFile
from upkeep.routines.database._text import byte_size
from upkeep.routines.logs import _rotation_need as need
from upkeep.routines.logs import _rotation_seen as seen
from upkeep.routines.logs._rotation_judge import CURE_REOPEN
from upkeep.routines.logs._rotation_need import Due, Policy
from upkeep.routines.logs._rotation_proof import proved, reopened
from upkeep.routines.logs._rotation_seen import LogJob, Seen

_QUIET = {"busy": OutcomeStatus.SKIPPED, "gone": OutcomeStatus.UNCHANGED, "changed": OutcomeStatus.UNCHANGED}
_SEVERITIES = {"full": Severity.CRITICAL, "differs": Severity.CRITICAL, "held": Severity.INFO}
_HINTS = {
    "full": "make room on the volume: until then this log grows, and nothing of it was changed",
    "privilege": "let the user that runs maintenance write to the folder (own it, or be in its group); a read-only"
    " mount cannot be rotated",
    "refused": "rotate it by hand, or leave it out of `live`",
    "program": "set `program: builtin` for logs.rotation, or correct what logrotate complains about",
    "differs": "keep both files, look at the disk, and compress the plain one by hand",
    "held": "it is tried again in the next run; let the program close the file",
}


def actions(policy: Policy, found: Seen) -> Iterator[Action]:
    """Yield what is to be done: logs one after the other, then stray files."""
    for log in found.live:
        yield from _actions_of(log, policy)
    for stray, place in found.strays:
        yield from () if isinstance(place, NotDone) else _removals(stray.folder, place.files)


def stray_actions(found: Seen) -> Iterator[Action]:
    """Yield the removal of stray files of a target without a policy."""
    for stray, place in found.strays:
        yield from () if isinstance(place, NotDone) else _removals(stray.folder, place.files)


def _removals(folder: str, files: Iterable[StrayFile]) -> Iterator[Action]:
    for file in files:
        if not file.keep:
            yield Action(
                name="remove",
                subject=file.name,
                reason=f"a stray file of {byte_size(file.size)}, last written {file.modified:%Y-%m-%d %H:%M} UTC",
                undo="none: what is deleted is gone (a backup may have it)",
                details={"folder": folder, "file": file.model_dump(mode="json")},
            )


def _actions_of(log: LiveLog, policy: Policy) -> Iterator[Action]:
    rotation, due = policy.rotation, need.due(log, policy)
    way = rotation.reopen
    if log.unfinished:
        yield Action(name="finish", subject=log.name, reason="a run was cut off while it worked on this log")
    held = need.still_written(log)
    if held and not log.unfinished and (way.signal or way.command):
        yield Action(name="reopen", subject=log.name, reason="a process still writes to a rotated file",
                     details={"inodes": [file.inode for file in held]})  # fmt: skip
    if due:
        yield _rotate(log, due, rotation)
    plain = need.to_compress(log, policy)
    at_once = (due is not None or log.unfinished) and rotation.compress_after_days == 0
    if plain or at_once:
        yield Action(
            name="compress",
            subject=log.name,
            reason=f"{len(plain)} rotated files are older than {rotation.compress_after_days:g} days"
            + (", and the one that is rotated now" if at_once else ""),
            undo="gunzip",
            details={"files": [file.name for file in plain], "at_once": at_once},
        )
    if gone := need.to_delete(log, policy, coming=int(due is not None)):
        yield _delete(log, gone, rotation)


def _rotate(log: LiveLog, due: Due, rotation: Rotation) -> Action:
    undo = (
        f"put the copy's lines before those of {log.name}"
        if rotation.copytruncate
        else f"rename the newest {log.name}-<date>-<seconds> back to {log.name}, as long as it is not compressed,"
        " keep what was written since, and let the writer reopen"
    )
    details: dict[str, Any] = {
        "inode": log.inode,
        "bytes": log.size,
        "due": due.why,
    }
    if log.since:
        details["since"] = log.since.isoformat()
    return Action(name="rotate", subject=log.name, reason=due.words, undo=undo, details=details)


def _delete(log: LiveLog, files: tuple[RotatedFile, ...], rotation: Rotation) -> Action:
    limits = [f"older than {rotation.delete_after_days:g} days"] if rotation.delete_after_days is not None else []
    limits += [f"more than {rotation.keep}"] if rotation.keep is not None else []
    return Action(
        name="delete",
        subject=log.name,
        reason=f"{len(files)} rotated files, {byte_size(sum(f.size for f in files))}, are {' or '.join(limits)}",
        undo="none: what is deleted is gone (a backup may have it)",
        details={"files": [file.name for file in files]},
    )


def do(job: LogJob, action: Action) -> Outcome:
    """Do one action."""
    if action.name == "remove":
        return _remove(job, action)
    rotation = job.target.rotation
    assert rotation is not None, "without a policy nothing but stray files is planned for"
    deeds: dict[str, Callable[[LogJob, Rotation, Action], Outcome]] = {
        "finish": _finish, "reopen": _reopen, "rotate": _turn, "compress": _compress, "delete": _clear,
    }  # fmt: skip
    return deeds[action.name](job, rotation, action)


def _turn(job: LogJob, rotation: Rotation, action: Action) -> Outcome:
    details = action.details
    order = Order(
        name=action.subject,
        inode=details["inode"],
        program=job.settings.program,
        due=details["due"],
        since=seen.moment(details.get("since")),
    )
    now = seen.look_at(job, rotation, action.subject)
    # By the copy of another run the inode does not change; its name tells.
    if now and rotation.copytruncate and not need.due(now, seen.policy(job, rotation)):
        return Outcome(status=OutcomeStatus.UNCHANGED, detail=f"{action.subject} was rotated by another run")
    done = job.tools.rotator.rotate(job.target.id, rotation, order)
    return not_done(action, done) if isinstance(done, NotDone) else proved(action, done)


def _finish(job: LogJob, rotation: Rotation, action: Action) -> Outcome:
    done = job.tools.rotator.finish(rotation, action.subject)
    if isinstance(done, NotDone):
        return not_done(action, done)
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=f"{action.subject}: what was begun is ended; {done.proof}",
        findings=reopened(action.subject, done, "finish"),
        evidence=done.model_dump(mode="json"),
    )


def _reopen(job: LogJob, rotation: Rotation, action: Action) -> Outcome:
    done = job.tools.rotator.reopen(rotation, action.subject, tuple(action.details["inodes"]))
    if isinstance(done, NotDone):
        return not_done(action, done)
    found = reopened(action.subject, done, "still_written")
    if not found:
        found = (
            Finding(
                check="still_written",
                subject=action.subject,
                severity=Severity.INFO,
                message=f"{action.subject}: its writer still wrote to a rotated file, and let go when asked again",
                hint=CURE_REOPEN,
            ),
        )
    status = OutcomeStatus.DONE if done.state == "yes" else OutcomeStatus.FAILED
    return Outcome(status=status, detail=done.proof, findings=found, evidence=done.model_dump(mode="json"))


def _compress(job: LogJob, rotation: Rotation, action: Action) -> Outcome:
    log = seen.look_at(job, rotation, action.subject)
    planned, at_once = set(action.details["files"]), action.details["at_once"]
    policy = seen.policy(job, rotation)
    files = [f for f in need.to_compress(log, policy) if f.name in planned or at_once] if log else []
    settings = job.settings
    results = [
        (f, job.tools.rotator.pack(rotation, f, settings.compression_level, settings.quiet_minutes * 60)) for f in files
    ]
    done = [r for _, r in results if isinstance(r, Packed)]
    failed = [r for _, r in results if isinstance(r, NotDone)]
    plain, packed = sum(p.size for p in done), sum(p.packed_size for p in done)
    measured = (
        Measurement(name="compress.before", value=plain, unit="bytes", subject=action.subject),
        Measurement(name="compress.after", value=packed, unit="bytes", subject=action.subject),
        Measurement(name="compress.lines", value=sum(p.lines for p in done), unit="count", subject=action.subject),
    )
    return several(
        action,
        [p.model_dump(mode="json") for p in done],
        failed,
        f"compressed {len(done)} files, {byte_size(plain)} to {byte_size(packed)}, each decoded and equal",
    ).model_copy(update={"measurements": measured if done else ()})


def _clear(job: LogJob, rotation: Rotation, action: Action) -> Outcome:
    log, planned = seen.look_at(job, rotation, action.subject), set(action.details["files"])
    # Decided again: had the rotation before failed, there would be one too many in the plan.
    files = [f for f in need.to_delete(log, seen.policy(job, rotation)) if f.name in planned] if log else []
    results = [(f, job.tools.rotator.remove(rotation.folder, f)) for f in files]
    done = [f for f, why in results if why is None]
    return several(
        action,
        [f.model_dump(mode="json") for f in done],
        [why for _, why in results if why is not None],
        f"deleted {len(done)} files, {byte_size(sum(f.size for f in done))}",
    )


def _remove(job: LogJob, action: Action) -> Outcome:
    file = StrayFile.model_validate(action.details["file"])
    why = job.tools.rotator.remove(action.details["folder"], file)
    if why:
        return not_done(action, why)
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=f"deleted {file.name}, {byte_size(file.size)}",
        measurements=(Measurement(name="stray.size", value=file.size, unit="bytes", subject=file.name),),
        evidence={"removed": [file.name, *file.companions]},
    )


def several(action: Action, done: list[dict[str, Any]], failed: list[NotDone], words: str) -> Outcome:
    """Return the outcome of an action on several files, with one finding for those that it failed on."""
    if not done and not failed:
        return Outcome(status=OutcomeStatus.UNCHANGED, detail=f"{action.subject}: nothing was left to {action.name}")
    worst = max(failed, key=lambda f: severity_of(f).rank, default=None)
    told = not_done(action, worst) if worst else Outcome(status=OutcomeStatus.DONE, detail="")
    reasons = "; ".join(f.message for f in failed[:5])
    findings = tuple(f.model_copy(update={"message": f"{action.name}: {reasons}"}) for f in told.findings)
    return Outcome(
        status=told.status if not done or told.status is OutcomeStatus.FAILED else OutcomeStatus.DONE,
        detail=f"{action.subject}: {words}" + (f"; not: {reasons}" if failed else ""),
        findings=findings,
        evidence={"files": done} if done else {},
    )


def severity_of(why: NotDone) -> Severity:
    """Return how bad it is that something was not done."""
    if why.reason in _QUIET:
        return Severity.OK
    return _SEVERITIES.get(why.reason, Severity.WARNING)


def not_done(action: Action, why: NotDone) -> Outcome:
    """Return the outcome of what was not done; another run that was quicker is no trouble."""
    if why.reason in _QUIET:
        return Outcome(status=_QUIET[why.reason], detail=why.message, evidence={"reason": why.reason})
    finding = Finding(
        check="still_written" if action.name == "reopen" else action.name,
        subject=action.subject,
        severity=severity_of(why),
        message=f"{action.name} was not done: {why.message}",
        hint=_HINTS.get(why.reason, "read the words of the operating system; the files are as they were"),
    )
    skipped = why.reason in ("held", "refused")
    return Outcome(
        status=OutcomeStatus.SKIPPED if skipped else OutcomeStatus.FAILED,
        detail=why.message,
        findings=(finding,),
        evidence={"reason": why.reason},
    )
