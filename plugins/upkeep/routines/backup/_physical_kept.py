"""What came of a physical backup: its outcome, its evidence, whether the store kept it, and sweeping before it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from upkeep.core.backup import Kept, PhysicalManifest, Place
from upkeep.core.errors import DamagedError
from upkeep.core.job import Job
from upkeep.core.model import Finding, Judgement, Measurement, Outcome, OutcomeStatus, Severity
from upkeep.core.physical import DAMAGED, FULL_BECAUSE
from upkeep.core.system import PostgresTarget
from upkeep.routines.backup import _common
from upkeep.routines.backup._common import duration, size
from upkeep.routines.backup._physical_settings import Settings

_SHOWN = 5


def sweep(job: Job[PostgresTarget, Settings], place: Place) -> Outcome:
    """Remove what unfinished tries left behind."""
    patience = timedelta(hours=job.settings.sweep_after_hours)
    removed = _common.archiver(job).sweep(place, job.run_id, patience)
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


def outcome(job: Job[PostgresTarget, Settings], kept: Kept[PhysicalManifest]) -> Outcome:
    """Tell what was taken, how long it took, and what the server found wrong with its own pages."""
    manifest = kept.manifest
    took = (manifest.finished - manifest.started).total_seconds()
    source = manifest.source.size_bytes
    kind = f"incremental to {manifest.parent}" if manifest.parent else "full"
    measured = {
        "backup.size": (manifest.size_bytes, "bytes"),
        "backup.seconds": (took, "s"),
        "backup.rate": (source / max(took, 0.001), "bytes/s"),
        "backup.ratio": (manifest.size_bytes / max(source, 1), "ratio"),
        "backup.incremental": (1 if manifest.parent else 0, "flag"),
    }
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=(
            f"{manifest.id}: {kind}, {size(manifest.size_bytes)} of a cluster of {size(source)} in {duration(took)},"
            f" WAL {manifest.start_lsn} to {manifest.end_lsn} of timeline {manifest.timeline}; {kept.location}"
        ),
        measurements=tuple(Measurement(name=n, value=value, unit=unit) for n, (value, unit) in measured.items()),
        findings=(*_pages(manifest), *_full_after_all(job, manifest)),
        evidence={"backup": _evidence(kept)},
    )


def lost(job: Job[PostgresTarget, Settings], place: Place, made: dict[str, Any] | None) -> Judgement:
    """Read the manifest back from the store and see that every object is there with its size."""
    wrong = _missing(job, place, made) if made else ""
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


def _evidence(kept: Kept[PhysicalManifest]) -> dict[str, Any]:
    manifest = kept.manifest
    return _common.evidence(
        kept,
        manifest.source.size_bytes,
        lsn=manifest.end_lsn,
        timeline=manifest.timeline,
        snapshot_time=manifest.source.snapshot_time.isoformat(),
        system_identifier=manifest.source.system_identifier,
        server_version=manifest.source.version,
        pg_basebackup=manifest.tools["pg_basebackup"],
        compress=manifest.settings["compress"],
        damaged_pages=len(manifest.settings[DAMAGED]),
    )


def _pages(manifest: PhysicalManifest) -> tuple[Finding, ...]:
    """One finding for each file that holds damaged pages."""
    files: dict[str, list[str]] = {}
    for page in manifest.settings[DAMAGED]:
        name, _, block = page.partition(" block ")
        files.setdefault(name, []).append(block)
    return tuple(
        Finding(
            check="pages",
            subject=name,
            severity=Severity.CRITICAL,
            message=(
                f"{len(blocks)} or more pages of {name} are damaged (block {', '.join(blocks[:_SHOWN])}): the backup"
                " holds them as they are"
            ),
            observed=f"{len(blocks)}",
            limit="0",
            hint="keep every older backup (a hold), restore what is damaged from one of them, look at disks and memory;"
            " which table: select pg_filenode_relation(0, <last number of the path>)",
        )
        for name, blocks in files.items()
    )


def _full_after_all(job: Job[PostgresTarget, Settings], manifest: PhysicalManifest) -> tuple[Finding, ...]:
    reason = manifest.settings[FULL_BECAUSE]
    if not reason:
        return ()
    finding = Finding(
        check="incremental",
        subject=job.target.id,
        severity=Severity.WARNING,
        message=f"a full backup was made, an incremental one was refused: {reason}",
        hint="keep summaries for longer than backups are apart: ALTER SYSTEM SET wal_summary_keep_time = '30d';"
        " SELECT pg_reload_conf();",
    )
    return (finding,)


def _missing(job: Job[PostgresTarget, Settings], place: Place, made: dict[str, Any]) -> str:
    archiver = _common.archiver(job)
    there = next((s for s in archiver.stored(place) if s.id == made["id"]), None)
    if there is None or not there.complete:
        return "the store does not list it"
    if there.size_bytes != made["size_bytes"] and not made["key_id"]:  # what is encrypted is longer
        return f"the store lists {there.size_bytes} bytes, expected {made['size_bytes']}"
    try:
        seen = archiver.manifest(place, made["id"]).sha256
    except DamagedError as error:
        return error.message
    expected = made["manifest_sha256"]
    return "" if seen == expected else f"its manifest has hash {seen}, expected {expected}"
