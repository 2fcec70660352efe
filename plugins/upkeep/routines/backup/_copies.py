"""What backups of SQLite and Redis databases share: what is looked at, judged, planned and verified."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pydantic import Field

from upkeep.core.backup import CopyManifest, Kept, Leftover, Place, Stored
from upkeep.core.copies import CopyOptions
from upkeep.core.errors import DamagedError
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Judgement, Measurement, Model, Outcome, OutcomeStatus, Plan, Severity
from upkeep.routines.backup import _common
from upkeep.routines.backup._common import duration, size


class CopySettings(_common.MakeSettings):
    """How to copy and pack."""

    seconds: float = Field(3600, ge=10, le=86_400, description="seconds after which copying gives up")
    compression_level: int = Field(6, ge=1, le=9, description="level of gzip: 1 is fastest, 9 smallest")


class Seen(Model):
    """The source, and what store and scratch hold. `source_bytes` is what there is to copy, as far as known."""

    place: Place
    source: str
    source_bytes: int
    stored: tuple[Stored, ...]
    leftovers: tuple[Leftover, ...]
    free_bytes: int


def look(job: Job[Any, Any], place: Place, source: str, source_bytes: int) -> Seen:
    """Ask the store what is there."""
    archiver = _common.archiver(job)
    return Seen(
        place=place,
        source=source,
        source_bytes=source_bytes,
        stored=archiver.stored(place),
        leftovers=archiver.leftovers(place, job.run_id, patience(job)),
        free_bytes=archiver.free_bytes(),
    )


def measured(seen: Seen) -> Judgement:
    """Measure source, scratch and store."""
    backups = [s for s in seen.stored if s.complete]
    return Judgement(
        measurements=(
            Measurement(name="source.size", value=seen.source_bytes, unit="bytes"),
            Measurement(name="scratch.free", value=seen.free_bytes, unit="bytes"),
            Measurement(name="backups.count", value=len(backups), unit="backups"),
            Measurement(name="backups.size", value=sum(b.size_bytes for b in backups), unit="bytes"),
        )
    )


def planned(job: Job[Any, Any], seen: Seen) -> Plan:
    """Sweep leftovers when there are any, then back up."""
    backup = Action(
        name="backup",
        subject=job.target.id,
        reason=f"back up {seen.source} ({size(seen.source_bytes)}) to {seen.place.store.url}",
        undo="remove the backup's objects from the store",
    )
    return Plan(actions=(*_common.sweeping(job, seen.leftovers), backup))


def options(job: Job[Any, Any], **more: Any) -> CopyOptions:
    """Return the settings that the copying needs."""
    wanted: CopySettings = job.settings
    return CopyOptions(tier=wanted.tier, compression_level=wanted.compression_level, seconds=wanted.seconds, **more)


def patience(job: Job[Any, Any]) -> timedelta:
    """Return how long a writer may be silent before it counts as dead."""
    return timedelta(hours=job.settings.sweep_after_hours)


def outcome(kept: Kept[CopyManifest], source_bytes: int, what: str, **more: Any) -> Outcome:
    """Return what became of a backup that was made.

    :param what: what is in it, in words.
    :param more: further evidence.
    """
    manifest = kept.manifest
    took = (manifest.finished - manifest.started).total_seconds()
    figures = {
        "backup.size": (manifest.size_bytes, "bytes"),
        "backup.seconds": (took, "s"),
        "backup.ratio": (manifest.size_bytes / max(source_bytes, 1), "ratio"),
        **{f"backup.{name}_seconds": (seconds, "s") for name, seconds in manifest.seconds.items()},
    }
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=f"{manifest.id}: {what}, {size(manifest.size_bytes)} stored in {duration(took)}; {kept.location}",
        measurements=tuple(Measurement(name=n, value=value, unit=unit) for n, (value, unit) in figures.items()),
        evidence={"backup": _common.evidence(kept, source_bytes, version=manifest.version, **more)},
    )


def emptied(
    job: Job[Any, Any], place: Place, made: CopyManifest, count: Callable[[CopyManifest], int], severity: Severity
) -> tuple[Finding, ...]:
    """Tell when nothing at all is in a backup and something was in the one before: it is whole, and of no use.

    :param count: how many rows or keys a backup holds.
    """
    if count(made):
        return ()
    older = [s.id for s in _common.newest_first(job, place) if s.id < made.id]
    try:
        before = _common.archiver(job).manifest(place, older[0]) if older else None
    except DamagedError:  # told of by the verification
        return ()
    if not isinstance(before, CopyManifest) or not count(before):
        return ()
    finding = Finding(
        check="emptied",
        subject=job.target.id,
        severity=severity,
        message=f"{job.target.id} is empty; the backup before, {before.id}, held {count(before)} rows or keys",
        observed="0",
        limit="at least 1",
        hint="was the file cut off, or the server started without its data? restore that backup, and hold it",
    )
    return (finding,)
