"""What the routines about backups share: where backups go, how numbers are written, progress in the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from upkeep.core.backup import (
    Archiver,
    BaseManifest,
    Database,
    Kept,
    Kind,
    Leftover,
    Place,
    Progress,
    Stored,
    Tier,
)
from upkeep.core.errors import ConfigurationError, DamagedError
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Judgement, Measurement, Outcome, OutcomeStatus, Severity
from upkeep.core.retention import TOLERANCE, taken
from upkeep.core.routine import RoutineSettings
from upkeep.core.targets import PostgresTarget


class SweepSettings(RoutineSettings):
    """What all have that meet what dead writers left."""

    sweep_after_hours: float = Field(2, ge=0.25, le=168, description="hours of silence after which a writer is dead")


class MakeSettings(SweepSettings):
    """What all have that make backups."""

    tier: Tier = Field("daily", description="which cadence's backup it is; decides on the storage class")
    progress_seconds: float = Field(15, ge=1, le=600, description="seconds between two lines of progress in the log")


def archiver(job: Job[Any, Any]) -> Archiver:
    """Return the worker's archiver."""
    found: Archiver = job.tools.archive
    return found


def place(job: Job[Any, Any], kind: Kind = "dump") -> Place:
    """Return where the target's backups of a kind lie.

    :raises ConfigurationError: neither target nor system names a store.
    """
    store = job.target.store or job.system.store
    if store is None:
        raise ConfigurationError(
            f"{job.target.id}: no store for backups, neither on the target nor on system {job.system.name}",
            "add `store: {url: s3://bucket/prefix, conn_id: ...}` to the system file, or skip "
            f"{job.routine} for this target, with the reason",
        )
    return Place(store=store, target=job.target.id, kind=kind)


def newest_first(job: Job[Any, Any], where: Place) -> tuple[Stored, ...]:
    """List the complete backups, newest first; last come those that a wrong clock has dated later than now.

    As the newest, such a one would hide for as long that no further backups are made, and that those are damaged.
    """
    latest = job.tools.now() + TOLERANCE
    complete = [s for s in archiver(job).stored(where) if s.complete]
    return tuple(sorted(complete, key=lambda s: taken(s.id) > latest))


def evidence(kept: Kept[Any], source_bytes: int | None, **more: Any) -> dict[str, Any]:
    """Return what the catalogue keeps of a backup of any kind; `more` is what only some kinds have."""
    manifest: BaseManifest = kept.manifest
    return {
        "id": manifest.id,
        "kind": manifest.kind,
        "tier": manifest.tier,
        "parent": manifest.parent,
        "key_id": manifest.key_id,
        "location": kept.location,
        "manifest_sha256": kept.manifest_sha256,
        "content_sha256": manifest.content_sha256,
        "size_bytes": manifest.size_bytes,
        "source_bytes": source_bytes,
        "files": len(manifest.files),
        "started": manifest.started.isoformat(),
        "finished": manifest.finished.isoformat(),
        **more,
    }


def sweeping(job: Job[Any, Any], leftovers: Sequence[Leftover]) -> tuple[Action, ...]:
    """Plan to remove what unfinished tries left behind, where there is anything."""
    if not leftovers:
        return ()
    names = ", ".join(left.name for left in leftovers[:5])
    return (
        Action(
            name="sweep",
            subject=job.target.id,
            reason=f"remove what unfinished tries left behind: {names}",
            details={"leftovers": [left.model_dump() for left in leftovers]},
        ),
    )


def sweep(job: Job[Any, Any], where: Place, patience: timedelta) -> Outcome:
    """Remove what unfinished tries left behind."""
    removed = archiver(job).sweep(where, job.run_id, patience)
    for left in removed:
        job.tools.log.info("swept %s %s (%s): %s", left.kind, left.name, size(left.bytes), left.reason)
    if not removed:
        return Outcome(status=OutcomeStatus.UNCHANGED, detail="nothing to sweep any more")
    freed = sum(left.bytes for left in removed)
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=f"removed {len(removed)} leftovers, {size(freed)}",
        measurements=(Measurement(name="swept.size", value=freed, unit="bytes"),),
    )


def kept_as_written(job: Job[Any, Any], where: Place, outcomes: tuple[Outcome, ...]) -> Judgement:
    """Read the manifest of the backup that was made back, and see that every object is there with its size."""
    made = next((o.evidence["backup"] for o in outcomes if "backup" in o.evidence), None)
    wrong = _missing(job, where, made) if made else ""
    if made is None or not wrong:
        return Judgement()
    finding = Finding(
        check="manifest",
        subject=job.target.id,
        severity=Severity.CRITICAL,
        message=f"backup {made['id']} was written and is not there as written: {wrong}",
        hint="look at the store (lifecycle rules, quota, who else writes there), then run the backup again",
    )
    return Judgement(findings=(finding,))


def _missing(job: Job[Any, Any], where: Place, made: dict[str, Any]) -> str:
    there = next((s for s in archiver(job).stored(where) if s.id == made["id"]), None)
    if there is None or not there.complete:
        return "the store does not list it"
    if there.size_bytes != made["size_bytes"]:
        return f"the store lists {there.size_bytes} bytes, expected {made['size_bytes']}"
    try:
        seen = archiver(job).manifest(where, made["id"]).sha256
    except DamagedError as error:
        return error.message
    return (
        "" if seen == made["manifest_sha256"] else f"its manifest has hash {seen}, expected {made['manifest_sha256']}"
    )


def database(job: Job[PostgresTarget, Any]) -> Database:
    """Return the database to dump."""
    return Database(conn_id=job.target.backup_conn_id or job.target.conn_id, database=job.target.database)


def size(count: float) -> str:
    """Write a number of bytes for people.

    >>> size(123), size(45_600_000), size(2.5e9)
    ('123 B', '45.6 MB', '2.5 GB')
    """
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    """Write a number of seconds for people.

    >>> duration(4.25), duration(150), duration(7300)
    ('4.2 s', '2 min 30 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def line(progress: Progress) -> str:
    """Write progress in one line: what is done of what, rate, time left."""
    share = min(progress.bytes_done / progress.bytes_total, 1.0) if progress.bytes_total else 0.0
    rate = f"{size(progress.bytes_done / progress.seconds)}/s" if progress.seconds else "-"
    left = (
        f"about {duration(progress.seconds * (1 - share) / share)} left" if 0 < share < 1 else "time left not known yet"
    )
    counts = {
        "dump": f"dump: {progress.done} of {progress.total} tables, {progress.proved} fingerprints",
        "upload": f"upload: {progress.done} of {progress.total} tables, {progress.proved} fingerprints",
        "read": f"read: {progress.done} of {progress.total} files",
        "decode": f"decode: {progress.total} tables",
    }
    stored = f", {size(progress.stored_bytes)} stored" if progress.stored_bytes else ""
    return (
        f"{counts[progress.phase]}; {size(progress.bytes_done)} of {size(progress.bytes_total)}{stored};"
        f" {rate}, {left if share < 1 else 'nearly done'}"
    )


class Reporter:
    """Writes progress to the task's log: at the start of each phase and then every so often."""

    def __init__(self, say: Callable[[str], None], now: Callable[[], datetime], every_seconds: float) -> None:
        self._say, self._now, self._every = say, now, timedelta(seconds=every_seconds)
        self._phase, self._last = "", now()

    def __call__(self, progress: Progress) -> None:
        """Take note of progress; tell it when it is time."""
        if progress.phase == self._phase and self._now() - self._last < self._every:
            return
        self._phase, self._last = progress.phase, self._now()
        self._say(line(progress))
