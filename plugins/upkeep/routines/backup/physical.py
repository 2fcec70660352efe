"""Copy a whole PostgreSQL cluster, its files and the WAL they need, so that it can be started elsewhere as it was.

**What it does.** pg_basebackup streams the cluster as one tar archive; this worker compresses it in pieces (zstd) and
stores each piece as soon as it is full, so that scratch never holds more than a few of them. The WAL of the copy's time
is in it: each backup is restorable by itself, or with the ones that it is built upon. A temporary replication slot,
which the server drops with our session, keeps that WAL from being recycled meanwhile. The server's own list of files
(`backup_manifest`) is stored beside the archive, our manifest last: **without a manifest there is no backup.** From
PostgreSQL 17 on, with `summarize_wal`, what follows a full backup is incremental, until the next full one is due.

One target per cluster is enough: a cluster holds all its databases. Skip the others, with the reason.

**Restoring by hand.** Copy the backup's folder from the store, then `cat base.tar.zst.* | zstd -d | tar x -C <folder>`;
for an incremental one do so for each back to the full one, then `pg_combinebackup <full> <next> ... -o <folder>`. Start
PostgreSQL of the same major on the folder, with `archive_mode=off` where it is not to become the real one.

**When it is red.**

- *lacks REPLICATION*, *no pg_hba.conf entry*, *max_wal_senders*, *wal_level*: the hint is the command to run.
- *further tablespaces*: clusters with tablespaces outside the data directory are refused; dumps cover them.
- `pages`: pages on the server's disk do not have their checksum. The backup is kept, with the damage in it. Keep the
  older ones (a hold), find the table, restore it; look at disk and memory. The next backup is full again.
- `incremental`: why a full backup was made though an incremental one was possible before; the hint is the command.
- `manifest`: the store did not keep what was written. Do not rely on it; look at the store, then run this again.
- *store away*, *server away*, *WAL segment has already been removed*: it is tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from upkeep.core.backup import Database, Leftover, PhysicalManifest, Place, Progress, Stored
from upkeep.core.cadence import Covers
from upkeep.core.errors import DamagedError
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Judgement, Measurement, Model, Outcome, Plan, Severity
from upkeep.core.physical import Cluster, Decision, Frequency, Physical, PhysicalOptions, decide
from upkeep.core.targets import PostgresTarget
from upkeep.routines.backup import _common, _physical_kept
from upkeep.routines.backup._common import duration, size
from upkeep.routines.backup._physical_settings import Settings

__all__ = ["Settings"]

TITLE = "Physical backup"
TARGETS = ("postgres",)
COVERS = Covers.NOW
ROLE = "dba"
# It reads every page and makes a checkpoint: heavy work takes turns.
EXCLUSIVE = timedelta(hours=3)


class Seen(Model):
    """The cluster, what its store holds, and what the next backup could be built upon."""

    database: Database
    place: Place
    cluster: Cluster
    stored: tuple[Stored, ...]
    leftovers: tuple[Leftover, ...]
    decision: Decision


def observe(job: Job[PostgresTarget, Settings]) -> Seen:
    """Ask the server who it is and whether it lets itself be copied, and the store what is there.

    :raises ConfigurationError, TransientError: one of them does not answer or refuses us.
    """
    archiver, place = _common.archiver(job), _common.place(job, "physical")
    target = job.target
    database = Database(
        conn_id=target.physical_conn_id or target.backup_conn_id or target.conn_id, database=target.database
    )
    cluster = _physical(job).look(database, job.settings.programs)
    stored = archiver.stored(place)
    chain, broken = _chain(job, place, stored)
    frequency = Frequency(days=job.settings.full_every_days, incrementals=job.settings.incrementals)
    return Seen(
        database=database,
        place=place,
        cluster=cluster,
        stored=stored,
        leftovers=archiver.leftovers(place, job.run_id, _patience(job)),
        decision=decide(cluster, chain, broken, frequency, tier=job.settings.tier, now=job.tools.now()),
    )


def judge(job: Job[PostgresTarget, Settings], seen: Seen) -> Judgement:
    """Measure cluster and store; tell of damaged pages that the server has met, and why a backup must be full."""
    backups = [s for s in seen.stored if s.complete]
    measured = (
        Measurement(name="cluster.size", value=seen.cluster.source.size_bytes, unit="bytes"),
        Measurement(name="cluster.page_failures", value=seen.cluster.page_failures, unit="pages"),
        Measurement(name="backups.count", value=len(backups), unit="backups"),
        Measurement(name="backups.size", value=sum(b.size_bytes for b in backups), unit="bytes"),
    )
    return Judgement(measurements=measured, findings=(*_met(seen), *_why_full(job, seen)))


def plan(job: Job[PostgresTarget, Settings], seen: Seen) -> Plan:
    """Sweep leftovers when there are any, then back up."""
    kind = "incremental" if seen.decision.parent else "full"
    backup = Action(
        name="backup",
        subject=job.target.id,
        reason=(
            f"{kind} backup of the cluster ({size(seen.cluster.source.size_bytes)}) to {seen.place.store.url}:"
            f" {seen.decision.reason}"
        ),
        undo="remove the backup's objects from the store",
        details={"parent": seen.decision.parent, "database": seen.database.model_dump()},
    )
    return Plan(actions=(*_common.sweeping(job, seen.leftovers), backup))


def act(job: Job[PostgresTarget, Settings], action: Action) -> Outcome:
    """Sweep or back up."""
    place = _common.place(job, "physical")
    if action.name == "sweep":
        return _common.sweep(job, place, _patience(job))
    database = Database.model_validate(action.details["database"])
    options = _options(job.settings, action.details["parent"])
    kept = _physical(job).backup(database, place, options, job.run_id, _reporter(job))
    return _physical_kept.outcome(job, kept)


def verify(job: Job[PostgresTarget, Settings], seen: Seen, outcomes: tuple[Outcome, ...]) -> Judgement:
    """Read the manifest back from the store and see that every object is there with its size."""
    return _common.kept_as_written(job, seen.place, outcomes)


def _patience(job: Job[PostgresTarget, Settings]) -> timedelta:
    return timedelta(hours=job.settings.sweep_after_hours)


def _physical(job: Job[PostgresTarget, Settings]) -> Physical:
    return job.tools.physical


def _chain(
    job: Job[PostgresTarget, Settings], place: Place, stored: tuple[Stored, ...]
) -> tuple[tuple[PhysicalManifest, ...], str]:
    """Return the newest backup with all that it is built upon, and why nothing can be built upon it."""
    newest = next((s.id for s in stored if s.complete), None)
    if newest is None:
        return (), ""
    try:
        chain = _physical(job).chain(place, newest)
    except DamagedError as error:
        return (), error.message
    # While the ledger is away nothing is known against any of them.
    suspicious = {e.id for e in job.tools.catalogue.entries(place.target, place.kind) if e.suspicious}
    bad = next((m.id for m in chain if m.id in suspicious), None)
    return chain, f"{bad} failed its last verification or restore test" if bad else ""


def _options(wanted: Settings, parent: str | None) -> PhysicalOptions:
    return PhysicalOptions(
        tier=wanted.tier,
        parent=parent,
        compression_level=wanted.compression_level,
        jobs=wanted.jobs,
        upload_jobs=wanted.upload_jobs,
        piece_bytes=wanted.piece_mb * 1_000_000,
        # pg_basebackup takes 32 to 1048576 kB/s
        max_rate=0 if not wanted.max_rate_mb else max(32, round(wanted.max_rate_mb * 1000)),
        checkpoint=wanted.checkpoint,
        programs=wanted.programs,
    )


def _met(seen: Seen) -> tuple[Finding, ...]:
    count = seen.cluster.page_failures
    if not count:
        return ()
    finding = Finding(
        check="pages",
        subject="statistics",
        severity=Severity.CRITICAL,
        message=f"the server has met {count} damaged pages (pg_stat_database.checksum_failures)",
        observed=str(count),
        limit="0",
        hint="look for `page verification failed` in the server's log, restore what is damaged; once it is repaired,"
        " reset the count in the database it is of: select pg_stat_reset()",
    )
    return (finding,)


def _why_full(job: Job[PostgresTarget, Settings], seen: Seen) -> tuple[Finding, ...]:
    decision = seen.decision
    if decision.severity == Severity.OK:
        return ()
    finding = Finding(
        check="incremental",
        subject=job.target.id,
        severity=decision.severity,
        message=f"the backup is a full one: {decision.reason}",
        hint=decision.hint,
    )
    return (finding,)


def _reporter(job: Job[PostgresTarget, Settings]) -> Callable[[Progress], None]:
    """Return what writes a line of progress to the log every so often."""
    every, last = timedelta(seconds=job.settings.progress_seconds), datetime.min.replace(tzinfo=job.tools.now().tzinfo)

    def say(progress: Progress) -> None:
        nonlocal last
        if job.tools.now() - last < every:
            return
        last = job.tools.now()
        rate = f"{size(progress.bytes_done / max(progress.seconds, 0.001))}/s"
        job.tools.log.info(
            "copied %s of about %s in %s (%s), %s stored",
            size(progress.bytes_done), size(progress.bytes_total), duration(progress.seconds), rate,
            size(progress.stored_bytes),
        )  # fmt: skip

    return say
