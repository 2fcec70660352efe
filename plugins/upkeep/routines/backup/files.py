"""Back trees of files up: uploads, configuration, models; to every place that the target names.

**What it does.** It lists what the target's paths match, and stores a complete list of names, attributes and contents
with each backup. A content is stored once for all backups of the target, small ones packed together; a file that has
not been touched since the backup before is not read again, but every `reread_days` everything is. When a backup was
found damaged, the next one relies on nothing that is there and stores everything anew, which heals the older ones where
contents are the same. The manifest is
written last: **without a manifest there is no backup.** Files that are gone stay in the backups that have them. Links
are kept as links and never followed; holes are not stored; pipes, sockets and devices are counted and left out. Files
of a target with `secret: true` are stored encrypted only, and their names appear nowhere else.

**When it is red.**

- `empty`: no file matches, so no backup was made and the ones before stay. Is the volume mounted? Are the paths right?
- `shrunk`: far fewer files or bytes than in the backup before. Who deleted them? They are in the backups before.
- `missing`: a path, or the folder before its first wildcard, is not there. Correct the system file or find the file;
  is the volume mounted? Also told when a path with wildcards matches nothing that matched in the last two weeks.
- `unreadable`: files the worker may not read are **not in the backup**. Let its user read them (group, ACL).
- `changed`: files that were written to all the while; their content is as of one reading. Databases and logs do not
  belong in a file backup; stop the writer, or back it up with a routine of its own.
- `vanished`: files that went while they were read; many of them are temporary files that `exclude` should name.
- `altered`: a file has another content although nothing says that it was written to. Suspect the disk, or somebody who
  sets times back. Compare with an older backup, check the disk (SMART, file system).
- `lost`: the store had lost objects of the backup before. They were stored again, but that backup is damaged:
  verify all backups (`backup.verify`) and look at the store.
- `place`: one place did not take the backup, the others did. The message says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from pydantic import Field

from upkeep.core.backup import Leftover, Place
from upkeep.core.cadence import Covers
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError, UpkeepError
from upkeep.core.job import Job
from upkeep.core.model import (
    Action,
    Begun,
    Ended,
    Finding,
    Judgement,
    Measurement,
    Model,
    Outcome,
    OutcomeStatus,
    Plan,
    Severity,
    Threshold,
)
from upkeep.core.retention import taken as begun
from upkeep.core.targets import FileSetTarget, ModelTarget
from upkeep.core.tree import FileSet, Look, Taken, TreeOptions
from upkeep.routines.backup import _common
from upkeep.routines.backup._common import duration, size

TITLE = "File backup"
TARGETS = ("files", "model")
COVERS = Covers.NOW
ROLE = "sysadmin"
_IDLE_HISTORY = 14  # earlier runs that a path is compared with
type _Job = Job[FileSetTarget | ModelTarget, Settings]


class Settings(_common.MakeSettings):
    """How to back files up, and what is strange about a tree."""

    reread_days: float = Field(7, ge=0, le=366, description="days after which every file is read again")
    upload_jobs: int = Field(4, ge=1, le=16, description="objects that are uploaded at a time (8 MiB of memory each)")
    shrunk: Threshold = Field(
        Threshold(warning=0.5, critical=0.1, direction="below"),
        description="files, or bytes, as a share of those in the backup before",
    )
    vanished: Threshold = Field(Threshold(info=0, warning=100), description="files that went while they were read")
    changed: Threshold = Field(Threshold(warning=0), description="files that never held still")


class Before(Model):
    """What a place holds: files and bytes of the newest backup, leftovers; or why it is not known."""

    place: Place
    files: int | None = None
    bytes: int | None = None
    leftovers: tuple[Leftover, ...] = ()
    error: str = ""


class Seen(Model):
    """The tree from outside, and what the places hold."""

    look: Look
    places: tuple[Before, ...]


def observe(job: _Job) -> Seen:
    """Look at the tree and at every place.

    :raises ConfigurationError: the files are secret and a place does not encrypt, or the only place refuses us.
    :raises TransientError: the only place does not answer.
    """
    places = _places(job)
    return Seen(look=job.tools.trees.look(file_set(job.target)), places=tuple(_before(job, p) for p in places))


def judge(job: _Job, seen: Seen) -> Judgement:
    """Tell when there is nothing, or far less than in the backup before."""
    look = seen.look
    measured = (
        Measurement(name="tree.files", value=look.files, unit="files"),
        Measurement(name="tree.bytes", value=look.total_bytes, unit="bytes"),
        Measurement(name="tree.skipped", value=look.skipped, unit="files"),
        Measurement(name="tree.idle", value=look.idle, unit="paths"),
    )
    found = _empty(job, look) if look.files == 0 else _missing(job, look) + _fallen_idle(job, look) + _shrunk(job, seen)
    return Judgement(measurements=measured, findings=found)


def plan(job: _Job, seen: Seen) -> Plan:
    """For every place: sweep leftovers when there are any, then back up. Nothing at all is no backup."""
    if seen.look.files == 0:
        return Plan()
    actions = list[Action]()
    for before in seen.places:
        url, left = before.place.store.url, before.leftovers
        if left:
            actions.append(
                Action(name="sweep", subject=url, reason=f"remove {len(left)} leftovers of unfinished tries")
            )
        reason = f"back up {seen.look.files} files ({size(seen.look.total_bytes)}) to {url}"
        undo = "remove the backup's folder from the store and collect its objects"
        actions.append(Action(name="backup", subject=url, reason=reason, undo=undo))
    return Plan(actions=tuple(actions))


def act_all(job: _Job, actions: Sequence[Action]) -> Iterator[Sequence[Begun | Ended]]:
    """Serve one place after the other; one that fails does not keep the others from their backup.

    :raises TransientError: a place could not be served and may be later, after all others were.
    """
    places = {place.store.url: place for place in _places(job)}
    errors, told = list[UpkeepError](), False
    for number, action in enumerate(actions, 1):
        yield (Begun(number=number),)
        place = places[action.subject]
        try:
            if action.name == "sweep":
                outcome = _sweep(job, place)
            else:
                outcome = _backup(job, place, told)
                told = True
        except UpkeepError as error:
            if len(places) == 1:
                raise
            errors.append(error)
            outcome = _failed(place, error)
        yield (Ended(number=number, outcome=outcome),)
    if transient := next((error for error in errors if isinstance(error, TransientError)), None):
        raise transient


def verify(job: _Job, seen: Seen, outcomes: tuple[Outcome, ...]) -> Judgement:
    """Read the manifests back from every place."""
    places = {before.place.store.url: before.place for before in seen.places}
    findings = []
    for made in (outcome.evidence["backup"] for outcome in outcomes if "backup" in outcome.evidence):
        if wrong := _not_as_written(job, places[made["store"]], made):
            findings.append(
                Finding(
                    check="manifest",
                    subject=made["store"],
                    severity=Severity.CRITICAL,
                    message=f"backup {made['id']} was written and is not there as written: {wrong}",
                    hint="look at the store (lifecycle rules, quota, who else writes there), then run the backup again",
                )
            )
    return Judgement(findings=tuple(findings))


def file_set(target: FileSetTarget | ModelTarget) -> FileSet:
    """Return which files a target means; of a model its folder, or those files in it that are named."""
    if isinstance(target, FileSetTarget):
        return FileSet(paths=target.paths, exclude=target.exclude, secret=target.secret)
    named = (*target.files, *((target.metadata,) if target.metadata and target.files else ()))
    folder = target.path.rstrip("/")
    return FileSet(paths=tuple(f"{folder}/{name}" for name in named or ("**",)))


def _places(job: _Job) -> list[Place]:
    """Return every place, the first one first.

    :raises ConfigurationError: one of them does not encrypt what is secret.
    """
    first = _common.place(job, "files")
    copies = getattr(job.target, "copies", ())
    places = [first, *(first.model_copy(update={"store": store}) for store in copies)]
    for place in places:
        if getattr(job.target, "secret", False) and not place.store.key_conn_id:
            raise ConfigurationError(
                f"{job.target.id} is secret, and its store {place.store.url} does not encrypt",
                "add `key_conn_id: <connection with the keys>` to the store in the system file",
            )
    return places


def _before(job: _Job, place: Place) -> Before:
    try:
        last = job.tools.trees.last(place)
        left = _common.archiver(job).leftovers(place, job.run_id, _patience(job))
        left += job.tools.trees.leftovers(place, _patience(job))
    except UpkeepError as error:
        if not getattr(job.target, "copies", ()):
            raise
        return Before(place=place, error=error.message)
    if last is None:
        return Before(place=place, leftovers=left)
    files = last.entries.get("file", 0) + last.entries.get("hardlink", 0)
    return Before(place=place, files=files, bytes=last.total_bytes, leftovers=left)


def _patience(job: _Job) -> timedelta:
    return timedelta(hours=job.settings.sweep_after_hours)


def _empty(job: _Job, look: Look) -> tuple[Finding, ...]:
    unread = f"; {look.unreadable_count} folders could not be read" if look.unreadable_count else ""
    return (
        Finding(
            check="empty",
            subject=job.target.id,
            severity=Severity.CRITICAL,
            message=f"{job.target.id}: no file matches its paths{unread}; no backup was made",
            observed="0 files",
            limit="at least 1",
            hint="is the volume mounted, may the worker read it, are the paths in the system file right?",
        ),
    )


def _missing(job: _Job, look: Look) -> tuple[Finding, ...]:
    if not look.unmatched:
        return ()
    return (
        Finding(
            check="missing",
            subject=job.target.id,
            severity=Severity.WARNING,
            message=f"{job.target.id}: {look.unmatched} of its paths lead nowhere (wildcards aside)",
            observed=str(look.unmatched),
            limit="0",
            hint="is the volume mounted? correct `paths` in the system file, or find out where the file has gone",
        ),
    )


def _fallen_idle(job: _Job, look: Look) -> tuple[Finding, ...]:
    """Tell when a path matches nothing that matched lately: a volume that is not mounted leaves an empty folder."""
    past = [point.value for point in job.tools.history.series("tree.idle", limit=_IDLE_HISTORY)] if look.idle else []
    if not past or look.idle <= min(past):
        return ()
    return (
        Finding(
            check="missing",
            subject=job.target.id,
            severity=Severity.WARNING,
            message=f"{job.target.id}: {look.idle} of its paths match nothing, lately {min(past):g} did so",
            observed=f"{look.idle}",
            limit=f"{min(past):g}",
            hint="is a volume not mounted, or has somebody emptied a folder? what was there is in the backups before",
        ),
    )


def _shrunk(job: _Job, seen: Seen) -> tuple[Finding, ...]:
    before = next((b for b in seen.places if b.files), None)
    if before is None or not before.files:
        return ()
    shares = {f"files, {before.files}": seen.look.files / before.files}
    if before.bytes:
        shares[f"bytes, {before.bytes}"] = seen.look.total_bytes / before.bytes
    what, share = min(shares.items(), key=lambda item: item[1])
    severity, limit = job.settings.shrunk.crossed(share)
    if limit is None:
        return ()
    return (
        Finding(
            check="shrunk",
            subject=job.target.id,
            severity=severity,
            message=(
                f"{job.target.id} has {seen.look.files} files with {seen.look.total_bytes} bytes; the backup before had"
                f" {before.files} files with {before.bytes} bytes ({share:.0%} of its {what.split(',')[0]})"
            ),
            observed=f"{share:.2f}",
            limit=f"{limit:g}",
            hint="find out who removed them; they are in the backups before, until retention removes those",
        ),
    )


def _sweep(job: _Job, place: Place) -> Outcome:
    removed = _common.archiver(job).sweep(place, job.run_id, _patience(job))
    removed += job.tools.trees.sweep(place, _patience(job))
    for left in removed:
        job.tools.log.info("swept %s %s (%s): %s", left.kind, left.name, size(left.bytes), left.reason)
    freed = sum(left.bytes for left in removed)
    status = OutcomeStatus.DONE if removed else OutcomeStatus.UNCHANGED
    return Outcome(status=status, detail=f"removed {len(removed)} leftovers, {size(freed)}")


def _backup(job: _Job, place: Place, told: bool) -> Outcome:
    wanted = job.settings
    options = TreeOptions(
        tier=wanted.tier,
        reread=timedelta(days=wanted.reread_days),
        upload_jobs=wanted.upload_jobs,
        distrust=_found_damaged(job, place),
    )
    report = _common.Reporter(job.tools.log.info, job.tools.now, wanted.progress_seconds)
    taken = job.tools.trees.backup(file_set(job.target), place, options, job.run_id, report)
    manifest = taken.kept.manifest
    took = (manifest.finished - manifest.started).total_seconds()
    files = manifest.entries.get("file", 0) + manifest.entries.get("hardlink", 0)
    measured = {
        "backup.files": (files, "files"),
        "backup.bytes": (manifest.total_bytes, "bytes"),
        "backup.read_bytes": (manifest.read_bytes, "bytes"),
        "backup.new_bytes": (manifest.new_bytes, "bytes"),
        "backup.objects": (manifest.objects, "objects"),
        "backup.seconds": (took, "s"),
        "backup.rate": (manifest.total_bytes / max(took, 0.001), "bytes/s"),
    }
    # The same numbers of further places are told apart by the place.
    subject = "" if place == _places(job)[0] else place.store.url
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=(
            f"{manifest.id}: {files} files, {size(manifest.total_bytes)}; {size(manifest.read_bytes)} read,"
            f" {size(manifest.new_bytes)} stored anew in {duration(took)}; {taken.kept.location}"
        ),
        measurements=tuple(
            Measurement(name=name, value=value, unit=unit, subject=subject) for name, (value, unit) in measured.items()
        ),
        findings=_lost(place, taken) + (() if told else _about_the_tree(job, taken)),
        evidence={"backup": _evidence(place, taken)},
    )


def _found_damaged(job: _Job, place: Place) -> bool:
    """Tell whether a backup there was found damaged since the newest one was begun, which may be damaged alike."""
    folder = f"{place.store.url.rstrip('/')}/{place.series}/"
    entries = job.tools.catalogue.entries(place.target, place.kind)
    there = [e for e in entries if e.removed_at is None and e.location.startswith(folder)]
    newest = max((begun(e.id) for e in there), default=None)
    found = any(e.verified_ok is False and newest and e.verified_at and e.verified_at > newest for e in there)
    if found:
        job.tools.log.warning("a backup in %s was found damaged: everything is read and stored anew", folder)
    return found


def _evidence(place: Place, taken: Taken) -> dict[str, Any]:
    """Return what the ledger keeps: counts, and no names."""
    manifest = taken.kept.manifest
    counts = manifest.model_dump(
        include={
            "entries", "objects", "object_bytes", "new_objects", "new_bytes", "read_bytes", "vanished", "changed",
            "unreadable", "skipped", "lost", "altered", "secret",
        }
    )  # fmt: skip
    more = {**counts, "store": place.store.url, "read_all": manifest.read_all.isoformat()}
    return _common.evidence(taken.kept, manifest.total_bytes, **more)


def _about_the_tree(job: _Job, taken: Taken) -> tuple[Finding, ...]:
    manifest, limits = taken.kept.manifest, job.settings
    names = f": {', '.join(taken.unreadable[:5])}" if taken.unreadable else ""
    told = [
        (
            "unreadable",
            (Severity.UNKNOWN, 0.0) if manifest.unreadable else (Severity.OK, None),
            manifest.unreadable,
            f"files or folders could not be read and are not in the backup{names}",
            "let the worker's user read them (group or ACL), or exclude them",
        ),
        (
            "altered",
            (Severity.CRITICAL, 0.0) if manifest.altered else (Severity.OK, None),
            manifest.altered,
            "files have another content although none of their times changed",
            "compare with an older backup; check the disk (SMART, file system), and who may set times back",
        ),
        (
            "changed",
            limits.changed.crossed(manifest.changed),
            manifest.changed,
            "files were written to all the while; their content is as of one reading",
            "stop the writer during the backup, or exclude them and back them up with a routine of their own",
        ),
        (
            "vanished",
            limits.vanished.crossed(manifest.vanished),
            manifest.vanished,
            "files went while they were read",
            "exclude temporary files",
        ),
    ]
    return tuple(
        Finding(
            check=check,
            subject=job.target.id,
            severity=severity,
            message=f"{job.target.id}: {count} {what}",
            observed=str(count),
            limit=f"{limit:g}",
            hint=hint,
        )
        for check, (severity, limit), count, what, hint in told
        if limit is not None
    )


def _lost(place: Place, taken: Taken) -> tuple[Finding, ...]:
    lost = taken.kept.manifest.lost
    if not lost:
        return ()
    return (
        Finding(
            check="lost",
            subject=place.store.url,
            severity=Severity.CRITICAL,
            message=(
                f"{place.store.url}: {lost} objects of the backup before are not there as they were stored; what is"
                " still needed was stored again, but older backups may be damaged"
            ),
            observed=f"{lost} objects",
            limit="0",
            hint="verify all backups (backup.verify, which: all), then look at the store and who removes objects there",
        ),
    )


def _failed(place: Place, error: UpkeepError) -> Outcome:
    finding = Finding(
        check="place",
        subject=place.store.url,
        severity=Severity.CRITICAL,
        message=f"{place.store.url} did not take the backup: {error.message}",
        hint=error.hint,
    )
    return Outcome(status=OutcomeStatus.FAILED, detail=error.message, findings=(finding,))


def _not_as_written(job: _Job, place: Place, made: dict[str, Any]) -> str:
    try:
        seen = _common.archiver(job).manifest(place, made["id"]).sha256
    except DamagedError as error:
        return error.message
    return (
        "" if seen == made["manifest_sha256"] else f"its manifest has hash {seen}, expected {made['manifest_sha256']}"
    )
