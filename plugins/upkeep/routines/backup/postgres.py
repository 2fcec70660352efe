"""Back a PostgreSQL database up and prove, row by row, what is in the backup.

**What it does.** One exported snapshot is dumped by pg_dump (directory format, parallel, zstd where it is built in). In
that very snapshot, at the same time, the server counts and hashes the rows of every table and large object. Each file
goes to the store as soon as it is finished, hashed while it is read, and the store verifies what arrives. Roles lie
beside the dump, without passwords. The manifest is written last: **without a manifest there is no backup.** What an
earlier try left behind, killed in the middle, is swept first; a complete backup or one being made is never touched.

Right before, a row is written into table `upkeep_canary` of the database by the target's maintenance connection, and
afterwards the dump must hold that row: it is of the right database and new, not of a standby that stands still.

**Restoring by hand.** Copy the backup's folder from the store, then
`pg_restore --create --dbname=postgres --jobs=2 <folder>` (roles first: `psql -f globals.sql`). No other tool is needed.

**When it is red.**

- *refused* (password, database, privilege, row-level security): the message names the GRANT or the setting.
- *lock timeout*: somebody holds or awaits an exclusive lock. It is tried again; look for long DDL in the night.
- *store away*, *disk full*: it is tried again; nothing that was half written counts as a backup.
- `manifest`: the store did not keep what was written. Do not rely on it; look at the store, then run this again.
- `stale`: the backup does not hold the row written before it. It is of another database, or of a standby that lags:
  look where the backup connection leads, and at the standby's replay; then run this again.
- `canary` (unknown): the row could not be written. Grant what the hint says, or make the table for that role:
  `CREATE TABLE upkeep_canary (target text COLLATE "C" PRIMARY KEY, written_at timestamptz NOT NULL, run_id text
  COLLATE "C" NOT NULL, counter bigint NOT NULL)`, with SELECT for PUBLIC and INSERT, UPDATE, SELECT for the role.
  Where a publication holds all tables, make it on every subscriber first: replication stops at a table not there.
- `roles`: the role may not read what pg_dumpall needs; the backup is whole, but roles must be made by hand.
- `unlogged`: dumps of a standby lack the rows of unlogged tables. Make those logged, or dump the primary.
- `collation`: the C library sorts differently from the one that built the indexes: REINDEX, then
  `ALTER DATABASE ... REFRESH COLLATION VERSION`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from pydantic import Field

from upkeep.core.backup import Database, Kept, Leftover, Manifest, Options, Place, Source, Stored
from upkeep.core.cadence import Covers
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Judgement, Measurement, Model, Outcome, OutcomeStatus, Plan, Severity
from upkeep.core.targets import PostgresTarget
from upkeep.routines.backup import _canary, _common
from upkeep.routines.backup._common import duration, size

TITLE = "Backup"
TARGETS = ("postgres",)
COVERS = Covers.NOW
ROLE = "dba"
# Its snapshot keeps dead rows from vacuum, and reindexing waits for it: they take turns. A backup waits longest.
EXCLUSIVE = timedelta(hours=3)
# What staging must have room for: a compressed dump took 15 to 35 % of the databases measured, 54 % at worst.
_SHARE_OF_SOURCE = 0.5
_SHARE_OF_LAST = 1.2


class Settings(_common.MakeSettings):
    """How to dump. More jobs are faster and take more of the server."""

    jobs: int = Field(2, ge=1, le=32, description="processes of pg_dump, each with a connection")
    fingerprint_jobs: int = Field(1, ge=1, le=16, description="connections that compute fingerprints")
    upload_jobs: int = Field(4, ge=1, le=16, description="files that are uploaded at a time (8 MiB of memory each)")
    compression_level: int = Field(7, ge=1, le=9, description="level of zstd (gzip, where there is no zstd: up to 6)")
    long_window: bool = Field(True, description="zstd looks 128 MiB back: smaller, and so much memory for each job")
    lock_timeout: float = Field(60, ge=1, le=3600, description="seconds to wait for a table that somebody has locked")
    programs: str = Field("", description="folder with pg_dump; default: UPKEEP_PG_BIN, PATH, usual places")
    canary: bool = Field(True, description="write a row before the backup, by the maintenance connection, and find it")
    canary_schema: str = Field("public", pattern=r"^[a-z_][a-z0-9_]{0,62}$", description="where its table lies")
    canary_wait: float = Field(60, ge=0, le=3600, description="seconds that a standby has to replay the row")


class Seen(Model):
    """The database, and what its store and the scratch folder hold."""

    database: Database
    place: Place
    source: Source
    stored: tuple[Stored, ...]
    leftovers: tuple[Leftover, ...]
    free_bytes: int


def observe(job: Job[PostgresTarget, Settings]) -> Seen:
    """Ask the database who it is, and the store what is there.

    :raises ConfigurationError, TransientError: one of them does not answer or refuses us.
    """
    archiver, place, database = _common.archiver(job), _common.place(job), _common.database(job)
    return Seen(
        database=database,
        place=place,
        source=archiver.source(database),
        stored=archiver.stored(place),
        leftovers=archiver.leftovers(place, job.run_id, _patience(job)),
        free_bytes=archiver.free_bytes(),
    )


def judge(job: Job[PostgresTarget, Settings], seen: Seen) -> Judgement:
    """Measure source, scratch and store; tell when the database's collation has changed under its indexes."""
    backups = [s for s in seen.stored if s.complete]
    measured = [
        Measurement(name="source.size", value=seen.source.size_bytes, unit="bytes"),
        Measurement(name="scratch.free", value=seen.free_bytes, unit="bytes"),
        Measurement(name="backups.count", value=len(backups), unit="backups"),
        Measurement(name="backups.size", value=sum(b.size_bytes for b in backups), unit="bytes"),
    ]
    findings = (*_collation(seen.source), *_unlogged(seen.source), *_canary.switched_off(job))
    return Judgement(measurements=tuple(measured), findings=findings)


def _collation(source: Source) -> Iterator[Finding]:
    was, now = source.collation_version, source.collation_version_now
    if was != now and was is not None:
        yield Finding(
            check="collation",
            subject=source.database,
            severity=Severity.WARNING,
            message=f"collation version {now} is in use, the database was built with {was}",
            observed=str(now),
            limit=was,
            hint="REINDEX the database, then ALTER DATABASE ... REFRESH COLLATION VERSION",
        )


def _unlogged(source: Source) -> Iterator[Finding]:
    if source.unlogged:
        yield Finding(
            check="unlogged",
            subject=source.database,
            severity=Severity.WARNING,
            message=f"a standby has no rows of unlogged tables, nor do its backups: {_some(source.unlogged)}",
            observed=f"{len(source.unlogged)} unlogged tables on a standby",
            limit="none, or dumps of the primary",
            hint="ALTER TABLE ... SET LOGGED, dump the primary (`backup_conn_id`), or drop what nobody would miss",
        )


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def plan(job: Job[PostgresTarget, Settings], seen: Seen) -> Plan:
    """Sweep leftovers when there are any, write the canary, then back up."""
    backup = Action(
        name="backup",
        subject=job.target.id,
        reason=f"back up {seen.source.database} ({size(seen.source.size_bytes)}) to {seen.place.store.url}",
        undo="remove the backup's objects from the store",
        details={"expected_bytes": _expected(seen)},
    )
    return Plan(actions=(*_common.sweeping(job, seen.leftovers), *_canary.planned(job), backup))


def act(job: Job[PostgresTarget, Settings], action: Action) -> Outcome:
    """Sweep, write the canary, or back up."""
    if action.name == "sweep":
        return _common.sweep(job, _common.place(job), _patience(job))
    if action.name == "canary":
        return _canary.write(job)
    return _backup(job, action.details["expected_bytes"])


def verify(job: Job[PostgresTarget, Settings], seen: Seen, outcomes: tuple[Outcome, ...]) -> Judgement:
    """Read the manifest back: every object must be there with its size, and the canary's row in the dump."""
    judged = _common.kept_as_written(job, seen.place, outcomes)
    if judged.findings:  # a manifest that cannot be read back says nothing of the canary either
        return judged
    return Judgement(findings=_canary.stale(job, seen.place, outcomes))


def _patience(job: Job[PostgresTarget, Settings]) -> timedelta:
    return timedelta(hours=job.settings.sweep_after_hours)


def _expected(seen: Seen) -> int:
    last = next((s.size_bytes for s in seen.stored if s.complete), 0)
    return int(last * _SHARE_OF_LAST) if last else int(seen.source.size_bytes * _SHARE_OF_SOURCE)


def _backup(job: Job[PostgresTarget, Settings], expected_bytes: int) -> Outcome:
    wanted = job.settings
    options = Options(
        tier=wanted.tier,
        jobs=wanted.jobs,
        fingerprint_jobs=wanted.fingerprint_jobs,
        upload_jobs=wanted.upload_jobs,
        compression_level=wanted.compression_level,
        long_window=wanted.long_window,
        lock_timeout=wanted.lock_timeout,
        programs=wanted.programs,
        expected_bytes=expected_bytes,
    )
    report = _common.Reporter(job.tools.log.info, job.tools.now, wanted.progress_seconds)
    place = _common.place(job)
    kept = _common.archiver(job).backup(_common.database(job), place, options, job.run_id, report)
    return _outcome(job, kept)


def _outcome(job: Job[PostgresTarget, Settings], kept: Kept[Manifest]) -> Outcome:
    manifest = kept.manifest
    source = manifest.source
    took = (manifest.finished - manifest.started).total_seconds()
    measured = {
        "backup.size": (manifest.size_bytes, "bytes"),
        "backup.seconds": (took, "s"),
        "backup.rate": (source.size_bytes / max(took, 0.001), "bytes/s"),
        "backup.ratio": (manifest.size_bytes / max(source.size_bytes, 1), "ratio"),
        "backup.tables": (len(manifest.tables), "tables"),
        "backup.rows": (manifest.rows, "rows"),
        **{f"backup.{name}_seconds": (seconds, "s") for name, seconds in manifest.seconds.items()},
    }
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=(
            f"{manifest.id}: {len(manifest.tables)} tables, {manifest.rows} rows, {size(manifest.size_bytes)} of"
            f" {size(source.size_bytes)} in {duration(took)}, fingerprints of every table; {kept.location}"
        ),
        measurements=tuple(Measurement(name=n, value=value, unit=unit) for n, (value, unit) in measured.items()),
        findings=_roles_unknown(job, manifest),
        evidence={"backup": _evidence(kept)},
    )


def _evidence(kept: Kept[Manifest]) -> dict[str, Any]:
    """Return what the ledger keeps of a dump."""
    manifest, source = kept.manifest, kept.manifest.source
    return _common.evidence(
        kept,
        source.size_bytes,
        tables=len(manifest.tables),
        rows=manifest.rows,
        lsn=source.lsn,
        snapshot_time=source.snapshot_time.isoformat(),
        system_identifier=source.system_identifier,
        server_version=source.version,
        pg_dump=manifest.tools["pg_dump"],
        compress=manifest.settings["compress"],
    )


def _roles_unknown(job: Job[PostgresTarget, Settings], manifest: Manifest) -> tuple[Finding, ...]:
    if not manifest.roles:
        return ()
    finding = Finding(
        check="roles",
        subject=job.target.id,
        severity=Severity.UNKNOWN,
        message=f"roles and tablespaces are not beside the backup: {manifest.roles}",
        hint="let the role of the backup connection read them, or keep their definitions elsewhere",
    )
    return (finding,)
