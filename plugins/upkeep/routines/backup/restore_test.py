"""Restore a backup into a server of its own and prove that it is what was backed up.

**What it does.** It chooses a backup (the latest; one at random, the same again in every try of a run; or a named one),
downloads it and compares every byte with the manifest, starts a scratch PostgreSQL of the source's major on the worker
or, with `method: docker`, in a container (no network, only a socket for the worker's user), restores into it, lets
`pg_amcheck` read every page and compare every index with its table, and compares row count and content hash of **every
table**, every sequence and large object with what the manifest says the source held in the backup's snapshot. Then it
asks the system's own questions (`smoke` of the target) and looks how old the newest canary row is. A physical backup is
started instead of restored, its checksums are read. The server is removed whatever happens; what a killed worker leaves
behind, the next run removes.

It never connects to the source. Nothing is written before the server that answers has shown that it is ours.

**When it is red.**

- `none`: there is no backup. Run `backup.postgres` now; find out why it has not run.
- `restore`: it could not be restored. Make a new backup now, test an older one (`which: named`), look at the store.
- `different`: it restores and holds other rows than the source did. The message names tables and ranges of keys. Make
  a new backup now, keep this one; was the manifest or the archive written to? does the source have damaged indexes?
- `amcheck`: pages or indexes of the restored database are damaged. In a physical backup the source's own may be: run
  pg_amcheck there. In a dump it is the worker's disk or memory.
- `smoke`: the restored database does not answer as its application needs. Is the question still right?
- `rto`: bringing it back takes longer than promised. More `jobs`, a faster store, physical backups, or another promise.
- `rpo`: the newest backup is too old. Look at the runs of `backup.postgres`.
- `canary`: the backup is new and its content is old. Is it the right server? Does a standby hang?
- `preflight`: the worker lacks something (an extension, a locale, space; the Docker daemon, the image, which is never
  pulled by this routine); the message names it. Install it: as long as it is missing, nothing is known of these
  backups.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field

from upkeep.core.backup import Leftover, Manifest, PhysicalManifest, Place, Stored
from upkeep.core.cadence import Covers
from upkeep.core.errors import ConfigurationError, DamagedError
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Judgement, Measurement, Model, Outcome, OutcomeStatus, Plan, Severity
from upkeep.core.restore import Method, Options, Tested
from upkeep.core.routine import RoutineSettings
from upkeep.core.targets import PostgresTarget
from upkeep.routines.backup import _common, _restore_findings
from upkeep.routines.backup._common import duration, size

TITLE = "Restore test"
TARGETS = ("postgres",)
COVERS = Covers.NOW
ROLE = "dba"
_LOOKED_AT = 3  # manifests read in search of one that tells the newest backup's age


class Settings(RoutineSettings):
    """Which backup to restore, how, and how long that may take."""

    which: Literal["latest", "random", "named"] = Field("latest", description="the newest; any one of them; `backup`")
    backup: str = Field("", description="id of the backup when `which` is named")
    kind: Literal["dump", "physical"] = Field("dump", description="which of the target's backups")
    jobs: int = Field(2, ge=1, le=32, description="processes of pg_restore, pg_amcheck and of the comparison")
    fetch_jobs: int = Field(4, ge=1, le=16, description="files that are downloaded at a time")
    max_share: float = Field(0.8, gt=0, le=1, description="share of the scratch folder's free space it may take")
    size_factor: float = Field(1.2, ge=0.1, le=10, description="size of the restored database by the source's")
    amcheck: bool = Field(True, description="run pg_amcheck; over whole clusters with --heapallindexed")
    smoke: bool = Field(True, description="ask the target's smoke questions")
    smoke_seconds: float = Field(60, ge=0.1, le=3600, description="seconds for each of these questions")
    start_seconds: float = Field(900, ge=10, le=86_400, description="seconds for the server's start and recovery")
    rto_minutes: float | None = Field(None, gt=0, description="minutes that a restore may take; default: system's rto")
    rpo_minutes: float | None = Field(
        None, gt=0, description="minutes that the newest backup may be old; default: rpo of the system"
    )
    canary_hours: float = Field(26, gt=0, le=8760, description="hours between the canary's last row and the snapshot")
    method: Method = Field("local", description="where the scratch server runs: local programs, or a container")
    image: str = Field("postgres:{major}", description="image of the container; the source's {major} is filled in")
    docker_conn_id: str = Field(
        "", description="connection of type docker to a daemon of this machine (host); default /var/run/docker.sock"
    )
    docker_memory_mb: int = Field(2048, ge=768, le=1_048_576, description="megabytes that the container may take")
    programs: str = Field(
        "", description="folder with PostgreSQL's programs; default: UPKEEP_PG_BIN, PATH, usual places"
    )


class Seen(Model):
    """The backups there are, newest first, the one chosen, and what killed workers have left on this one."""

    place: Place
    backups: tuple[Stored, ...]
    chosen: str = ""
    newest_content: datetime | None = None
    leftovers: tuple[Leftover, ...] = ()


def observe(job: Job[PostgresTarget, Settings]) -> Seen:
    """List the backups and choose one.

    :raises ConfigurationError: the named one is not there.
    """
    place = _common.place(job, job.settings.kind)
    backups = _common.newest_first(job, place)
    return Seen(
        place=place,
        backups=backups,
        chosen=_choose(job, [b.id for b in backups]),
        newest_content=_newest_content(job, place, backups),
        leftovers=job.tools.restorer.leftovers(job.target.id, _options(job)),
    )


def judge(job: Job[PostgresTarget, Settings], seen: Seen) -> Judgement:
    """Judge whether there is a backup, and how old its content is."""
    count = Measurement(name="backups.count", value=len(seen.backups), unit="backups")
    if not seen.backups:
        none = Finding(
            check="none",
            subject=job.target.id,
            severity=Severity.CRITICAL,
            message=f"there is no backup of {job.target.id} (kind {job.settings.kind}) in {seen.place.store.url}",
            observed="0 backups",
            limit="at least 1",
            hint="run the backup for this target now, and find out why it has not run",
        )
        return Judgement(measurements=(count,), findings=(none,))
    if seen.newest_content is None:
        return Judgement(measurements=(count,))
    age = (job.tools.now() - seen.newest_content).total_seconds()
    measured = (count, Measurement(name="backup.age", value=age / 3600, unit="h"))
    return Judgement(measurements=measured, findings=_restore_findings.rpo(job.target.id, age, _rpo(job)))


def plan(job: Job[PostgresTarget, Settings], seen: Seen) -> Plan:
    """Remove what killed workers left, then restore the chosen backup."""
    actions = []
    if seen.leftovers:
        names = ", ".join(left.name for left in seen.leftovers[:5])
        actions.append(
            Action(
                name="sweep", subject=job.target.id, reason=f"end and remove scratch servers of killed tests: {names}"
            )
        )
    if seen.chosen:
        stored = next((b for b in seen.backups if b.id == seen.chosen), None)
        age = (job.tools.now() - seen.newest_content).total_seconds() if seen.newest_content else None
        actions.append(
            Action(
                name="restore_test",
                subject=seen.chosen,
                reason=f"restore backup {seen.chosen} ({size(stored.size_bytes if stored else 0)}),"
                f" {job.settings.which} of {len(seen.backups)}",
                undo="the scratch server is removed",
                details={"age_seconds": age},
            )
        )
    return Plan(actions=tuple(actions))


def act(job: Job[PostgresTarget, Settings], action: Action) -> Outcome:
    """Sweep or test."""
    return _sweep(job) if action.name == "sweep" else _test(job, action)


def _choose(job: Job[PostgresTarget, Settings], ids: list[str]) -> str:
    """Choose a backup; at random means: by what the run's id makes of each, so that a repeat chooses the same."""
    wanted = job.settings
    if wanted.which == "named" and wanted.backup not in ids:
        raise ConfigurationError(
            f"{job.target.id}: there is no complete backup {wanted.backup!r} of kind {wanted.kind}",
            f"name one of {', '.join(ids[:5]) or 'none'} in `backup`",
        )
    if not ids:
        return ""
    if wanted.which == "random":
        return min(ids, key=lambda i: hashlib.sha256(f"{job.run_id}|{job.target.id}|{i}".encode()).digest())
    return wanted.backup if wanted.which == "named" else ids[0]


def _newest_content(job: Job[PostgresTarget, Settings], place: Place, backups: tuple[Stored, ...]) -> datetime | None:
    for stored in backups[:_LOOKED_AT]:
        try:
            manifest = _common.archiver(job).manifest(place, stored.id)
        except DamagedError:
            continue  # told of by the verification, and here when it is the chosen one
        if isinstance(manifest, Manifest | PhysicalManifest):
            return manifest.source.snapshot_time
    return None


def _minutes(own: float | None, of_system: timedelta | None) -> float | None:
    return own * 60 if own is not None else of_system.total_seconds() if of_system is not None else None


def _rto(job: Job[PostgresTarget, Settings]) -> float | None:
    return _minutes(job.settings.rto_minutes, job.system.rto)


def _rpo(job: Job[PostgresTarget, Settings]) -> float | None:
    return _minutes(job.settings.rpo_minutes, job.system.rpo)


def _sweep(job: Job[PostgresTarget, Settings]) -> Outcome:
    removed = job.tools.restorer.sweep(job.target.id, _options(job))
    for left in removed:
        job.tools.log.info("removed %s (%s): %s", left.name, size(left.bytes), left.reason)
    freed = sum(left.bytes for left in removed)
    if not removed:
        return Outcome(status=OutcomeStatus.UNCHANGED, detail="nothing to remove any more")
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=f"removed {len(removed)} scratch servers, {size(freed)}",
        measurements=(Measurement(name="swept.size", value=freed, unit="bytes"),),
    )


def _options(job: Job[PostgresTarget, Settings]) -> Options:
    wanted = job.settings
    return Options(
        jobs=wanted.jobs,
        fetch_jobs=wanted.fetch_jobs,
        programs=wanted.programs,
        max_share=wanted.max_share,
        size_factor=wanted.size_factor,
        amcheck=wanted.amcheck,
        smoke=job.target.smoke if wanted.smoke else {},
        smoke_timeout=wanted.smoke_seconds,
        start_timeout=wanted.start_seconds,
        method=wanted.method,
        image=wanted.image,
        docker_conn_id=wanted.docker_conn_id,
        docker_memory=wanted.docker_memory_mb << 20,
    )


def _test(job: Job[PostgresTarget, Settings], action: Action) -> Outcome:
    place, started = _common.place(job, job.settings.kind), job.tools.now()
    try:
        tested = job.tools.restorer.test(place, action.subject, _options(job), job.tools.log.info)
    except DamagedError as error:  # not even its manifest can be read
        failed = Tested(
            id=action.subject, kind=job.settings.kind, started=started, snapshot_time=started, failures=(error.message,)
        )
        return _outcome(job, failed, action.details["age_seconds"])
    return _outcome(job, tested, action.details["age_seconds"])


def _outcome(job: Job[PostgresTarget, Settings], tested: Tested, age: float | None) -> Outcome:
    findings = _restore_findings.of(job.target.id, tested, _rto(job), job.settings.canary_hours)
    if tested.stopped:
        lacking = "; ".join(m.message for m in tested.missing if m.stops)
        return Outcome(status=OutcomeStatus.SKIPPED, detail=f"{tested.id}: not tested: {lacking}", findings=findings)
    limits = {"rto_seconds": _rto(job), "rpo_seconds": _rpo(job), "age_seconds": age}
    return Outcome(
        status=OutcomeStatus.DONE if tested.ok else OutcomeStatus.FAILED,
        detail=_told(tested),
        measurements=_measurements(tested),
        findings=findings,
        evidence={"restore_test": _evidence(tested, limits)},
    )


def _told(tested: Tested) -> str:
    phases = ", ".join(f"{name} {duration(seconds)}" for name, seconds in tested.phases.items())
    if tested.failures:
        return f"{tested.id}: it could not be restored ({phases}): {tested.failures[0]}"
    same = f"{len(tested.differences)} differences" if tested.differences else "identical to its source"
    what = f"{tested.tables} tables, {tested.rows} rows {same}" if "fingerprints" in tested.checked else "started"
    right = sum(s.ok for s in tested.smoke.values())
    smoke = f"; {right} of {len(tested.smoke)} smoke questions answered right" if tested.smoke else ""
    return f"{tested.id}: {what}; {len(tested.corruption)} damages{smoke}; {duration(tested.seconds)} ({phases})"


def _measurements(tested: Tested) -> tuple[Measurement, ...]:
    values = {
        "restore.seconds": (tested.recovery_seconds, "s"),
        "restore.total_seconds": (tested.seconds, "s"),
        "restore.rate": (tested.source_bytes / max(tested.recovery_seconds, 0.001), "bytes/s"),
        "restore.rows": (tested.rows, "rows"),
        "restore.tables": (tested.tables, "tables"),
        "restore.differences": (len(tested.differences), "differences"),
        **({"canary.age": (tested.canary.age_seconds / 3600, "h")} if tested.canary else {}),
    }
    named = [Measurement(name=name, value=value, unit=unit) for name, (value, unit) in values.items()]
    phases = [Measurement(name="restore.phase", subject=n, value=s, unit="s") for n, s in tested.phases.items()]
    return (*named, *phases)


def _evidence(tested: Tested, limits: dict[str, float | None]) -> dict[str, Any]:
    shown = tested.model_dump(mode="json", include={"id", "kind", "started", "phases", "server_version", "method"})
    more = tested.model_dump(mode="json", include={"checked", "canary", "rows", "tables", "archive_bytes", "notes"})
    return {
        **shown,
        **more,
        **limits,
        "ok": tested.ok,
        "total_seconds": round(tested.seconds, 3),
        "recovery_seconds": round(tested.recovery_seconds, 3),
        "snapshot_time": tested.snapshot_time.isoformat(),
        "differences": [d.told() for d in tested.differences[:50]],
        "smoke": {name: result.model_dump(mode="json") for name, result in tested.smoke.items()},
        "errors": [*tested.failures, *tested.corruption][:20],
        "missing": [m.model_dump(mode="json") for m in tested.missing],
    }
