"""Read stored backups again: every byte, every row, and whether they are what backups of this database should be.

**What it does.** It chooses backups (the latest; or older ones in turn, so that in time each gets its turn; or all),
reads every file from the store and compares it with the manifest, then decodes the archive as a restore would and
counts the rows that come out of it. It does not go by exit codes: `pg_restore` reads some damaged archives without
complaint. It also looks at the newest backup's age and size, and whether the content has stood still while the
database was being written to.

**When it is red.**

- `missing`: there is no backup at all. Run `backup.postgres` now; find out why it has not run.
- `age`: the newest backup is too old. Look at the runs of `backup.postgres`.
- `integrity`, `decode`: the backup cannot be relied on. Make a new one now, keep the damaged one for the search, verify
  the others (`which: all`), look at the store's hardware.
- `key` (unknown): the backup is encrypted, and its key is not in the store's `key_conn_id`. Put the key back; until
  then nobody can restore it.
- `manifest`: the record of a backup is missing or altered. Somebody or something writes to the store.
- `size`: much smaller or larger than usual. Were tables emptied, or is it another database?
- `constant`: the same content again and again although rows were written. Is it the right server? Does a standby hang?
"""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Literal

from pydantic import Field

from upkeep.core.backup import Check, Manifest, Place, Stored
from upkeep.core.cadence import Covers, Window
from upkeep.core.errors import DamagedError, NoKeyError
from upkeep.core.job import Job
from upkeep.core.model import (
    Action,
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
from upkeep.core.routine import RoutineSettings
from upkeep.core.system import PostgresTarget
from upkeep.routines.backup import _common
from upkeep.routines.backup._common import duration, size

TITLE = "Backup verification"
TARGETS = ("postgres",)
COVERS = Covers.NOW
ROLE = "dba"
_ENOUGH = 3  # sizes needed before one of them can stand out
_SHOWN = 3


class Settings(RoutineSettings):
    """Which backups to read, and what is too old or of a strange size."""

    which: Literal["latest", "older", "all"] = Field("latest", description="the newest; older ones in turn; every one")
    count: int = Field(1, ge=1, le=100, description="backups read in a run when `which` is older")
    decode: bool = Field(True, description="decode all data (needs scratch space for one archive)")
    max_age_hours: float = Field(26, gt=0, le=8760, description="hours after which the newest backup is too old")
    size_ratio_low: Threshold = Threshold(warning=0.5, critical=0.1, direction="below")
    size_ratio_high: Threshold = Threshold(warning=3.0)
    constant_backups: int = Field(3, ge=2, le=30, description="equal contents in a row that are suspicious")
    constant_writes: int = Field(
        1000,
        ge=1,
        description="rows written between two equal backups that make them suspicious; rolled-back ones count",
    )
    history: int = Field(14, ge=3, le=365, description="earlier sizes that the newest is compared with")
    programs: str = Field("", description="folder with pg_restore; default: UPKEEP_PG_BIN, PATH, usual places")
    progress_seconds: float = Field(15, ge=1, le=600, description="seconds between two lines of progress in the log")


class Known(Model):
    """What the manifest of a backup says; `damage` when it cannot be read."""

    id: str
    finished: datetime | None = None
    content_sha256: str = ""
    writes: int = 0
    damage: str = ""


class Seen(Model):
    """The backups there are, newest first, and what the newest ones say of themselves."""

    place: Place
    backups: tuple[Stored, ...]
    known: tuple[Known, ...]
    chosen: tuple[str, ...]


def observe(job: Job[PostgresTarget, Settings]) -> Seen:
    """List the backups, read the newest manifests and choose what to read in full."""
    archiver, place = _common.archiver(job), _common.place(job)
    backups = tuple(s for s in archiver.stored(place) if s.complete)
    newest = [b.id for b in backups[: job.settings.constant_backups]]
    return Seen(
        place=place,
        backups=backups,
        known=tuple(_known(job, place, backup_id) for backup_id in newest),
        chosen=choose([b.id for b in backups], job.settings.which, job.settings.count, job.window),
    )


def choose(ids: list[str], which: str, count: int, window: Window) -> tuple[str, ...]:
    """Choose from the ids (newest first): the same window chooses the same, the next one goes on where it ended."""
    older = ids[1:][::-1]
    if which == "latest" or (which == "older" and not older):
        return tuple(ids[:1])
    if which == "all":
        return tuple(ids)
    span = max((window.end - window.start).total_seconds(), 86_400)
    begin = int(window.end.timestamp() // span) * count
    return tuple(older[(begin + n) % len(older)] for n in range(min(count, len(older))))


def judge(job: Job[PostgresTarget, Settings], seen: Seen) -> Judgement:
    """Judge age, size and change of the newest backup."""
    if not seen.backups:
        missing = Finding(
            check="missing",
            subject=job.target.id,
            severity=Severity.CRITICAL,
            message=f"there is no backup of {job.target.id} in {seen.place.store.url}",
            observed="0 backups",
            limit="at least 1",
            hint="run backup.postgres for this target now, and find out why it has not run",
        )
        count = Measurement(name="backups.count", value=0, unit="backups")
        return Judgement(measurements=(count,), findings=(missing,))
    newest = seen.backups[0]
    count = Measurement(name="backups.count", value=len(seen.backups), unit="backups")
    weight = Measurement(name="backup.size", value=newest.size_bytes, unit="bytes")
    judged = Judgement(measurements=(count, weight), findings=_damaged(seen) + _constant(job, seen))
    return judged + _age(job, seen) + _size(job, seen)


def plan(job: Job[PostgresTarget, Settings], seen: Seen) -> Plan:
    """Read every chosen backup."""
    sizes = {b.id: b.size_bytes for b in seen.backups}
    return Plan(
        actions=tuple(
            Action(name="verify", subject=i, reason=f"read backup {i} again ({size(sizes[i])}), {job.settings.which}")
            for i in seen.chosen
        )
    )


def act(job: Job[PostgresTarget, Settings], action: Action) -> Outcome:
    """Read one backup from its store, every byte and every row."""
    report = _common.Reporter(job.tools.log.info, job.tools.now, job.settings.progress_seconds)
    wanted = job.settings
    try:
        seen = _common.archiver(job).check(_common.place(job), action.subject, wanted.decode, wanted.programs, report)
    except NoKeyError as error:
        return _no_key(job, error)
    rate = f"{size(seen.bytes / max(seen.seconds, 0.001))}/s"
    rows = f"{seen.rows} rows of {seen.tables} tables decoded" if seen.decoded else "not decoded"
    verdict = "as it was written" if seen.ok else f"{len(seen.faults)} faults"
    return Outcome(
        status=OutcomeStatus.DONE if seen.ok else OutcomeStatus.FAILED,
        detail=(
            f"{seen.id}: {verdict}; {seen.files} files, {size(seen.bytes)} read in {duration(seen.seconds)}"
            f" ({rate}), {rows}"
        ),
        measurements=(
            Measurement(name="verify.seconds", value=seen.seconds, unit="s"),
            Measurement(name="verify.bytes", value=seen.bytes, unit="bytes"),
            Measurement(name="verify.faults", value=len(seen.faults), unit="faults"),
        ),
        findings=_faults(seen),
        evidence={"verification": _evidence(seen)},
    )


def _no_key(job: Job[PostgresTarget, Settings], error: NoKeyError) -> Outcome:
    """Nothing is known of a backup whose key is not at hand: it may be perfect, so it is neither good nor damaged."""
    finding = Finding(
        check="key",
        subject=job.target.id,
        severity=Severity.UNKNOWN,
        message=f"{error.message}; the backup was not read",
        hint=error.hint,
    )
    return Outcome(status=OutcomeStatus.FAILED, detail=error.message, findings=(finding,))


def _known(job: Job[PostgresTarget, Settings], place: Place, backup_id: str) -> Known:
    try:
        manifest = _common.archiver(job).manifest(place, backup_id)
    except DamagedError as error:
        return Known(id=backup_id, damage=error.message)
    return Known(
        id=backup_id,
        finished=manifest.finished,
        content_sha256=manifest.content_sha256,
        writes=manifest.writes if isinstance(manifest, Manifest) else 0,
    )


def _damaged(seen: Seen) -> tuple[Finding, ...]:
    # The chosen ones are told of by `act`.
    return tuple(
        Finding(
            check="manifest",
            subject=known.id,
            severity=Severity.CRITICAL,
            message=known.damage,
            hint="this backup cannot be relied on; look at who or what writes to the store",
        )
        for known in seen.known
        if known.damage and known.id not in seen.chosen
    )


def _age(job: Job[PostgresTarget, Settings], seen: Seen) -> Judgement:
    newest = next((k for k in seen.known if k.finished is not None), None)
    if newest is None or newest.finished is None:
        return Judgement()
    hours = (job.tools.now() - newest.finished).total_seconds() / 3600
    measured = Measurement(name="backup.age", value=hours, unit="h")
    limit = job.settings.max_age_hours
    if hours <= limit:
        return Judgement(measurements=(measured,))
    finding = Finding(
        check="age",
        subject=job.target.id,
        severity=Severity.CRITICAL,
        message=f"the newest backup that can be read, {newest.id}, is {hours:.1f} hours old",
        observed=f"{hours:.1f} h",
        limit=f"{limit:g} h",
        hint="look at the last runs of backup.postgres and run it now",
    )
    return Judgement(measurements=(measured,), findings=(finding,))


def _size(job: Job[PostgresTarget, Settings], seen: Seen) -> Judgement:
    newest, limits = seen.backups[0], job.settings
    past: list[float] = [point.value for point in job.tools.history.series("backup.size", limit=limits.history)]
    if len(past) < _ENOUGH:  # the ledger is young or away: the store remembers too
        past = [float(b.size_bytes) for b in seen.backups[1 : limits.history + 1]]
    if len(past) < _ENOUGH or not median(past):
        return Judgement()
    usual = median(past)
    ratio = newest.size_bytes / usual
    measured = Measurement(name="backup.size_ratio", value=ratio, unit="ratio")
    severity, limit = max(limits.size_ratio_low.crossed(ratio), limits.size_ratio_high.crossed(ratio), key=_rank)
    if limit is None:
        return Judgement(measurements=(measured,))
    finding = Finding(
        check="size",
        subject=job.target.id,
        severity=severity,
        message=f"backup {newest.id} has {size(newest.size_bytes)}, usual are {size(usual)} (median of {len(past)})",
        observed=f"{ratio:.2f}",
        limit=f"{limit:g}",
        hint="were tables emptied or loaded? is it the right database? compare the manifests' tables",
    )
    return Judgement(measurements=(measured,), findings=(finding,))


def _rank(crossed: tuple[Severity, float | None]) -> int:
    return crossed[0].rank


def _constant(job: Job[PostgresTarget, Settings], seen: Seen) -> tuple[Finding, ...]:
    """Equal contents in a row are fine for a database at rest, not for one that was written to between all of them."""
    known = [k for k in seen.known if not k.damage]
    if len(known) < job.settings.constant_backups or len({k.content_sha256 for k in known}) > 1:
        return ()
    # Newest first; a reset of the server's statistics makes a count smaller, and then nothing is known. The server
    # counts rows of rolled-back transactions as written too, so a few of them prove nothing.
    least = job.settings.constant_writes
    if not all(newer.writes - older.writes >= least for newer, older in pairwise(known)):
        return ()
    finding = Finding(
        check="constant",
        subject=job.target.id,
        severity=Severity.WARNING,
        message=(
            f"the last {len(known)} backups hold the very same rows, although the server counted"
            f" {known[0].writes - known[-1].writes} rows written between them"
        ),
        observed=f"{len(known)} equal backups",
        limit=f"{job.settings.constant_backups}",
        hint="is it the right server and database? does the application roll back, or a standby hang?",
    )
    return (finding,)


def _faults(seen: Check) -> tuple[Finding, ...]:
    """One finding for each kind of fault, with the first few faults in its message."""
    findings = []
    for check in dict.fromkeys(fault.check for fault in seen.faults):
        same = [fault for fault in seen.faults if fault.check == check]
        shown = [
            f"{f.subject}: {f.message}" + (f" (seen {f.observed}, expected {f.expected})" if f.expected else "")
            for f in same[:_SHOWN]
        ]
        more = f" and {len(same) - _SHOWN} more" if len(same) > _SHOWN else ""
        findings.append(
            Finding(
                check=check,
                subject=seen.id,
                severity=Severity.CRITICAL,
                message=f"backup {seen.id}: {'; '.join(shown)}{more}",
                observed=f"{len(same)} faults",
                limit="0",
                hint="make a new backup now, verify the others (which: all), then look at the store",
            )
        )
    return tuple(findings)


def _evidence(seen: Check) -> dict[str, object]:
    return {
        "id": seen.id,
        "ok": seen.ok,
        "files": seen.files,
        "bytes": seen.bytes,
        "rows": seen.rows,
        "tables": seen.tables,
        "decoded": seen.decoded,
        "seconds": round(seen.seconds, 3),
        "errors": [f"{f.check} {f.subject}: {f.message}" for f in seen.faults[:20]],
    }
