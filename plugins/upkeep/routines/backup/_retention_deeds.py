"""How retention plans and does its removals."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple

from upkeep.core.backup import Place
from upkeep.core.errors import LockedError, TransientError
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Measurement, Outcome, OutcomeStatus, Severity
from upkeep.routines.backup import _common
from upkeep.routines.backup._common import size
from upkeep.routines.backup._retention_judge import review, told
from upkeep.routines.backup._retention_seen import Series, Settings, look


class Done(NamedTuple):
    """What became of each backup of a removal: the reasons, or why it was passed over."""

    removed: dict[str, str]
    passed: dict[str, str]
    locked: dict[str, str]
    freed: int


def actions(job: Job[Any, Settings], series: Series) -> Iterator[Action]:
    """Plan one removal for a series, and for file trees the collection of contents that nothing refers to.

    A removal of more than the agreed share is proposed backup by backup, so that a person agrees to exactly these.
    """
    due = series.decision.removal_order
    many = len(due) > job.settings.share * len(series.entries)
    if many:
        yield from (_proposal(series, backup_id) for backup_id in due)
    now = () if many else due
    if now or series.unfinished or series.settled:
        yield _removal(series, now)
    if series.place.kind == "files" and (now or series.notes or job.settings.review):
        yield Action(
            name="collect",
            subject=series.subject,
            reason="remove contents that no backup refers to any more",
            details={"place": _told(series.place)},
        )
    if job.settings.review and series.entries:
        yield Action(name="review", subject=series.subject, reason=review(series), details=_review(series))


def remove(job: Job[Any, Settings], action: Action) -> Outcome:
    """Remove what was planned and still may go, newest of a chain first; then end what was cut off.

    :raises TransientError: the ledger went away since: what is proved is unknown.
    """
    details = action.details
    place = Place.model_validate(details["place"])
    series = look(job, place)
    if not job.tools.catalogue.reachable:
        raise TransientError("the ledger went away between plan and removal", "nothing was removed; it is tried again")
    done = _remove_all(job, series, {b["id"]: b["reason"] for b in details["backups"]})
    cut_off = {note.id: note.reason for note in series.unfinished}
    for backup_id, reason in cut_off.items():
        _common.archiver(job).remove(place, backup_id, reason)
    forgotten = _common.archiver(job).forget(place, [i for i in series.settled if i in details["notes"]])
    return _outcome(series, done, cut_off, forgotten)


def collect(job: Job[Any, Settings], action: Action) -> Outcome:
    """Remove contents of file trees that no backup refers to."""
    place, wanted = Place.model_validate(action.details["place"]), job.settings
    patience, grace = timedelta(hours=wanted.sweep_after_hours), timedelta(hours=wanted.grace_hours)
    done = _common.archiver(job).collect(place, job.run_id, patience, grace)
    said = f"{done.objects} contents removed, {size(done.bytes)}; {done.kept} in use, {done.waiting} too young"
    if done.locked:
        said += f", {done.locked} locked by the store"
    unknown = Finding(
        check="contents",
        subject=action.subject,
        severity=Severity.UNKNOWN,
        message=f"{action.subject}: contents that no backup refers to stay: {done.reason}",
        hint="verify the backups (which: all); see that the connection of the store's keys holds every key",
    )
    return Outcome(
        status=OutcomeStatus.DONE if done.objects else OutcomeStatus.UNCHANGED,
        detail=f"{said}; {done.reason}" if done.reason else said,
        measurements=(Measurement(name="retention.collected", subject=action.subject, value=done.bytes, unit="bytes"),),
        findings=(unknown,) if done.unknown else (),
    )


def reviewed(action: Action) -> Outcome:
    """Put the review on record; it changes nothing."""
    return Outcome(status=OutcomeStatus.UNCHANGED, detail=action.reason, evidence={"retention": action.details})


def _removal(series: Series, due: tuple[str, ...]) -> Action:
    sizes = {e.id: e.size_bytes for e in series.entries}
    backups = [_backup(series, i) | {"bytes": sizes[i]} for i in due]
    said = [f"{b['id']} ({'; '.join(b['reasons'])})" for b in backups]
    parts = (
        [f"remove {len(due)} of {len(sizes)} backups, {size(sum(sizes[i] for i in due))}: {', '.join(said)}"]
        if due
        else []
    )
    if series.unfinished:
        parts.append(f"end the removal of {told(tuple(n.id for n in series.unfinished))}")
    if series.settled:
        parts.append(f"take away the notes on {len(series.settled)} removals that are on record or never came to be")
    return Action(
        name="remove",
        subject=series.subject,
        reason="; ".join(parts),
        details={
            "place": _told(series.place),
            "backups": backups,
            "unfinished": [note.model_dump(mode="json") for note in series.unfinished],
            "notes": list(series.settled),
        },
    )


def _proposal(series: Series, backup_id: str) -> Action:
    count, due = len(series.entries), len(series.decision.removal_order)
    backup = _backup(series, backup_id)
    return Action(
        name="remove",
        subject=f"{series.subject} {backup_id}",
        reason=f"{'; '.join(backup['reasons'])}; one of {due} of {count} backups of {series.name}",
        approval=(
            f"removes {due} of {count} backups of the series in one run, more than the share that is agreed on; it"
            " cannot be taken back. Is `retention` in the system file what it should be?"
        ),
        details={"place": _told(series.place), "backups": [backup], "notes": []},
    )


def _backup(series: Series, backup_id: str) -> dict[str, Any]:
    reasons = series.decision.reasons(backup_id)
    return {"id": backup_id, "kind": series.place.kind, "reason": "; ".join(reasons), "reasons": list(reasons)}


def _told(place: Place) -> dict[str, Any]:
    return place.model_dump(mode="json")


def _review(series: Series) -> dict[str, Any]:
    decision = series.decision
    return {
        "series": series.subject,
        "slots": [slot.model_dump() for slot in decision.slots],
        "kept": {v.id: list(v.reasons) for v in decision.verdicts if v.keep},
        "due": {v.id: list(v.reasons) for v in decision.verdicts if not v.keep},
        "next": [going.model_dump(mode="json") for going in series.next],
        "frozen": decision.frozen,
    }


def _remove_all(job: Job[Any, Settings], series: Series, planned: dict[str, str]) -> Done:
    """Remove in the order of the plan what the fresh look at the series lets go as well."""
    may, whole = set(series.decision.removal_order), {e.id: e for e in series.entries}
    removed, passed, locked, freed = dict[str, str](), dict[str, str](), dict[str, str](), 0
    for backup_id, reason in planned.items():
        if backup_id not in whole:
            passed[backup_id] = "it is not there any more"
        elif backup_id not in may:
            passed[backup_id] = f"now kept: {'; '.join(series.decision.reasons(backup_id))}"
        elif children := [i for i, e in whole.items() if e.parent == backup_id and i not in removed]:
            passed[backup_id] = f"still needed by {told(tuple(children))}"
        else:
            try:
                freed += _common.archiver(job).remove(series.place, backup_id, reason).bytes
            except LockedError as error:
                locked[backup_id] = error.message
                continue
            job.tools.log.info("removed %s of %s: %s", backup_id, series.name, reason)
            removed[backup_id] = reason
    return Done(removed, passed, locked, freed)


def _outcome(series: Series, done: Done, cut_off: dict[str, str], forgotten: int) -> Outcome:
    parts = [f"removed {len(done.removed)} backups, {size(done.freed)}"]
    parts += [f"ended {len(cut_off)} removals"] if cut_off else []
    parts += [f"took away {forgotten} notes"] if forgotten else []
    parts += [f"passed over {i}: {why}" for i, why in {**done.passed, **done.locked}.items()]
    gone = {**cut_off, **done.removed}
    kept = {v.id: list(v.reasons) for v in series.decision.verdicts if v.id not in gone}
    told_gone = [{"id": i, "kind": series.place.kind, "reason": why} for i, why in gone.items()]
    locked = Finding(
        check="locked",
        subject=series.subject,
        severity=Severity.INFO,
        message=f"{series.name}: due, and kept by the store's lock: {told(tuple(done.locked))}",
        hint="nothing to do: they go when their lock has run out",
    )
    return Outcome(
        status=OutcomeStatus.DONE if gone or forgotten else OutcomeStatus.UNCHANGED,
        detail="; ".join(parts),
        measurements=(
            Measurement(name="retention.removed", subject=series.subject, value=len(gone), unit="backups"),
            Measurement(name="retention.freed", subject=series.subject, value=done.freed, unit="bytes"),
        ),
        findings=(locked,) if done.locked else (),
        evidence={"removed": {"backups": told_gone}, "kept": kept, "passed": {**done.passed, **done.locked}},
    )
