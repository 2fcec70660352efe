"""What came of a physical backup: its outcome, its evidence, and what is wrong with what was copied."""

from __future__ import annotations

from typing import Any

from upkeep.core.backup import Kept, PhysicalManifest
from upkeep.core.job import Job
from upkeep.core.model import Finding, Measurement, Outcome, OutcomeStatus, Severity
from upkeep.core.physical import DAMAGED, FULL_BECAUSE
from upkeep.core.targets import PostgresTarget
from upkeep.routines.backup import _common
from upkeep.routines.backup._common import duration, size
from upkeep.routines.backup._physical_settings import Settings

_SHOWN = 5


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
