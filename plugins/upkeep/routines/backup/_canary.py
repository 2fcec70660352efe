"""The canary: a row written right before a backup, which that backup must hold.

A dump of a standby that stands still, or of another database, is whole, has its hashes, and is worthless. That the row
of this very run is in it proves that it is of the right database and new.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Protocol

from upkeep.core.backup import Manifest, Place, TableProof
from upkeep.core.errors import UpkeepError
from upkeep.core.job import Failed, Job, Workbench
from upkeep.core.model import Action, Finding, Measurement, Model, Outcome, OutcomeStatus, Severity
from upkeep.core.targets import PostgresTarget
from upkeep.routines.backup import _common

TABLE = "upkeep_canary"
# A text whose collation no database decides on, so that its hash is the same everywhere.
CREATE = (
    'create table {table} (target text collate pg_catalog."C" primary key, written_at timestamptz not null,'
    ' run_id text collate pg_catalog."C" not null, counter bigint not null)'
)
# pg_dump reads every table or fails: a role that was granted the tables of yesterday must be able to read this one too.
_OPEN = "grant select on {table} to public"
_TELL = "comment on table {table} is 'One row per target, written before each backup, which must hold it (upkeep)'"
_ABSENT = "42P01"
_PAUSE = 0.5


class Wanted(Protocol):
    """The settings that are about the canary."""

    @property
    def canary(self) -> bool: ...
    @property
    def canary_schema(self) -> str: ...
    @property
    def canary_wait(self) -> float: ...


class Written(Model):
    """What was written, and what a backup that holds it says of the table."""

    place: str
    table: str
    counter: int
    rows: int
    hash: str
    waited: float = 0.0
    arrived: bool = True


def planned(job: Job[PostgresTarget, Wanted]) -> tuple[Action, ...]:
    """Plan to write the canary, where a connection for that is named."""
    if not job.settings.canary or job.target.maintenance_conn_id is None:
        return ()
    table = f"{job.settings.canary_schema}.{TABLE}"
    return (
        Action(
            name="canary",
            subject=job.target.id,
            reason=f"write a row into {table} that the backup must hold",
            undo=f"drop table {table}",
        ),
    )


def switched_off(job: Job[PostgresTarget, Wanted]) -> tuple[Finding, ...]:
    """Tell that nothing proves the backup's freshness, and how to have that."""
    if not job.settings.canary or job.target.maintenance_conn_id is not None:
        return ()
    finding = Finding(
        check="canary",
        subject=job.target.id,
        severity=Severity.INFO,
        message="no canary: nothing but the server's word tells that a backup is new and of the right database",
        hint="name a `maintenance_conn_id` whose role may write to this database, or set `canary: false`",
    )
    return (finding,)


def write(job: Job[PostgresTarget, Wanted]) -> Outcome:
    """Write the row and wait until the server that the backup reads has it. A canary never keeps a backup from it."""
    try:
        written = _write(job)
        if not isinstance(written, Failed):
            written = _arrived(job, written)
    except UpkeepError as error:
        written = Failed("other", error.message)
    if isinstance(written, Failed):
        return _unknown(job, written)
    where = "and is there" if written.arrived else f"and has not arrived in {written.waited:.0f} s"
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=f"row {written.counter} written at {written.place} {where} where the backup reads",
        measurements=(Measurement(name="canary.arrival", value=written.waited, unit="s"),),
        evidence={"canary": written.model_dump()},
    )


def stale(job: Job[PostgresTarget, Wanted], where: Place, outcomes: tuple[Outcome, ...]) -> tuple[Finding, ...]:
    """See that the backup holds the row that was written before it."""
    found = {key: o.evidence[key] for o in outcomes for key in ("canary", "backup") if key in o.evidence}
    if len(found) < 2:
        return ()
    written = Written.model_validate(found["canary"])
    manifest = _common.archiver(job).manifest(where, found["backup"]["id"])
    assert isinstance(manifest, Manifest)
    proof = next((t for t in manifest.tables if t.name == (job.settings.canary_schema, TABLE)), None)
    if proof is not None and (_holds(proof, written) or _rewritten_by_others(job, proof, written)):
        return ()
    source = manifest.source
    seen = f"{proof.rows} rows, hash {proof.hash}" if proof else "no such table"
    standby = "a standby" if source.in_recovery else f"no standby, system {source.system_identifier or 'unknown'}"
    finding = Finding(
        check="stale",
        subject=job.target.id,
        severity=Severity.CRITICAL,
        message=(
            f"backup {manifest.id} does not hold the row that was written to {written.table} at {written.place} right"
            f" before it: it was read from database {source.database} ({standby})"
        ),
        observed=seen,
        limit=f"{written.rows} rows, hash {written.hash}, with row {written.counter} of this target",
        hint=(
            "the standby lags or its replay is paused (pg_wal_replay_resume): cure it, then back up again"
            if source.in_recovery
            else "do `backup_conn_id` and `maintenance_conn_id` lead to the same server and database? correct them"
        ),
    )
    return (finding,)


def without(manifest: Manifest) -> Manifest:
    """Return a manifest as it would be without canary: with it, no two backups are equal."""
    return manifest.model_copy(update={"tables": tuple(t for t in manifest.tables if t.name[1] != TABLE)})


def _holds(proof: TableProof, written: Written) -> bool:
    return (proof.rows, proof.hash) == (written.rows, written.hash)


def _rewritten_by_others(job: Job[PostgresTarget, Wanted], proof: TableProof, written: Written) -> bool:
    """Tell whether the table is as in the backup now: another target of this database wrote its row in between."""
    try:
        with _bench(job) as bench:
            row = bench.rows("backup/canary_seen", target=job.target.id)[0]
    except UpkeepError:
        return False
    return row["counter"] == written.counter and (row["rows"], row["hash"]) == (proof.rows, proof.hash)


def _bench(job: Job[PostgresTarget, Wanted]) -> AbstractContextManager[Workbench]:
    return job.tools.workbench(
        job.target.maintenance_conn_id,
        database=job.target.database,
        application_name="upkeep canary",
        settings=_path(job),
    )


def _path(job: Job[PostgresTarget, Wanted]) -> dict[str, str]:
    return {"search_path": f'pg_catalog,"{job.settings.canary_schema}",pg_temp'}


def _write(job: Job[PostgresTarget, Wanted]) -> Written | Failed:
    values = {"target": job.target.id, "run_id": job.run_id}
    table = (job.settings.canary_schema, TABLE)
    with _bench(job) as bench:
        row = bench.batch({"backup/canary_write": values})["backup/canary_write"]
        if isinstance(row, Failed) and row.sqlstate == _ABSENT:
            if published := [p["name"] for p in bench.rows("backup/canary_published", schema=table[0])]:
                return _replicated(".".join(table), published[0])
            for command in (CREATE, _OPEN, _TELL):
                done = bench.run(command, names={"table": table}, seconds=30)
                if isinstance(done, Failed):
                    return done
            row = bench.batch({"backup/canary_write": values})["backup/canary_write"]
        if isinstance(row, Failed):
            return row
        seen = bench.rows("backup/canary_seen", target=job.target.id)[0]
        return Written(place=bench.place, table=".".join(table), **seen)


def _replicated(table: str, publication: str) -> Failed:
    """Say why the table is not made: a subscriber that has no such table stops at its first row, with all others."""
    return Failed(
        "other",
        f"publication {publication} would send {table} to subscribers, whose replication stops where they have no such"
        " table; make it there first, then here, or choose a `canary_schema` that is not published",
    )


def _arrived(job: Job[PostgresTarget, Wanted], written: Written) -> Written:
    """Wait until the backup's server has the row: a standby that is well needs a moment, too."""
    database = _common.database(job)
    if database.conn_id == job.target.maintenance_conn_id:
        return written
    begun = time.monotonic()
    try:
        with job.tools.postgres(database.conn_id, database=database.database, settings=_path(job)) as server:
            while True:
                job.still_alone()
                row = server.batch({"backup/canary_seen": {"target": job.target.id}})["backup/canary_seen"]
                waited = time.monotonic() - begun
                arrived = not isinstance(row, Failed) and (row[0]["counter"] or 0) >= written.counter
                if arrived or waited > job.settings.canary_wait:
                    return written.model_copy(update={"waited": waited, "arrived": arrived})
                time.sleep(_PAUSE)
    except UpkeepError as error:
        job.tools.log.warning("nobody can tell whether the canary has arrived: %s", error.message)
        return written.model_copy(update={"arrived": False})


def _unknown(job: Job[PostgresTarget, Wanted], failed: Failed) -> Outcome:
    schema = job.settings.canary_schema
    finding = Finding(
        check="canary",
        subject=job.target.id,
        severity=Severity.UNKNOWN,
        message=f"the canary could not be written, so that the backup's freshness is not proved: {failed.message}",
        hint=(
            f"GRANT CREATE ON SCHEMA {schema} TO the role of connection {job.target.maintenance_conn_id}, or make"
            f" {schema}.{TABLE} for it (see the runbook); `canary: false` does without"
        ),
    )
    return Outcome(status=OutcomeStatus.SKIPPED, detail=f"not written: {failed.message}", findings=(finding,))
