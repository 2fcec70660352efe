"""Read stored backups again: every byte, every row, and whether they are what backups of this database should be.

**What it does.** Of every series of backups of the target it chooses some: the latest; or those that nobody has read
for longest, so that every stored byte is read within `coverage_weeks`, at most `max_bytes` in a run; or all. It reads
every file from the store and compares it with the manifest, then decodes it as a restore would: dumps to rows, SQLite
databases to rows and indexes, Redis data to keys, in a server of its own. It does not go by exit codes: `pg_restore`
reads some damaged archives without complaint. It also looks at the newest backup's age and size, and whether the
content has stood still while the database was being written to.

**When it is red.**

- `missing`: there is no backup at all. Run the backup now; find out why it has not run.
- `age`: the newest backup is older than one of its tier may be. Look at the runs of the backup.
- `integrity`, `decode`: the backup cannot be relied on. Make a new one now, keep the damaged one for the search, verify
  the others (`which: all`), look at the store's hardware.
- `key` (unknown): the backup is encrypted, and its key is not in the store's `key_conn_id`. Put the key back; until
  then nobody can restore it.
- `manifest`: the record of a backup is missing or altered. Somebody or something writes to the store.
- `size`: much smaller or larger than usual. Were tables emptied, or is it another database?
- `constant`: the same content again and again although rows were written. Is it the right server? Does a standby hang?
- `coverage`: bytes have not been read for too long, or (unknown) the ledger cannot tell. Raise `max_bytes`, or see why
  the weekly run did not come; damage that nobody reads is found when it is too late.
- `damaged`: backups that were found damaged before are still there. Look into it, then remove them.
- `not_decoded` (unknown): no program on the worker could load a Redis backup: its bytes are right, its keys unproved.
- `leftover` (a note): what unfinished tries left in the store; the next backup sweeps it.

Backups on record that are gone from the store are told by `backup.catalogue`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from upkeep.core.backup import Check, Kind, Place, Tier
from upkeep.core.cadence import Covers
from upkeep.core.errors import NoKeyError
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
from upkeep.routines.backup import _common
from upkeep.routines.backup._common import duration, size
from upkeep.routines.backup._verify_choice import Candidate, candidates, choose
from upkeep.routines.backup._verify_judge import judge_coverage, judge_series
from upkeep.routines.backup._verify_seen import Series, look

TITLE = "Backup verification"
TARGETS = ("postgres", "files", "sqlite", "redis", "model")
COVERS = Covers.NOW
ROLE = "dba"
_SHOWN = 3
# What can be decoded without anything that the check itself does not say.
_DECODED = ("dump", "sqlite", "redis")


class Settings(_common.SweepSettings):
    """Which backups to read, and what is too old or of a strange size."""

    which: Literal["latest", "older", "all"] = Field(
        "latest", description="the newest of each series; those that nobody has read for longest; every one"
    )
    kinds: tuple[Kind, ...] = Field((), description="only these kinds (dump, physical ...), which must be there")
    coverage_weeks: int = Field(8, ge=1, le=520, description="weeks within which every stored byte is read again")
    max_bytes: pydantic.ByteSize = Field(
        pydantic.ByteSize(50 * 10**9),
        ge=1,
        description="`which: older` reads no more in a run, but at least one backup",
    )
    decode: bool = Field(True, description="decode all data (needs scratch space for one archive)")
    max_age_hours: dict[Tier, Annotated[float, Field(gt=0, le=87_600)]] = Field(
        default_factory=dict,
        description="by tier, hours after which the newest backup is too old; default: daily 26, weekly 180,"
        " monthly 768, quarterly 2256; a series counts by the most frequent tier in it",
    )
    size_ratio_low: Threshold = Threshold(warning=0.5, critical=0.1, direction="below")
    size_ratio_high: Threshold = Threshold(warning=3.0)
    constant_backups: int = Field(3, ge=2, le=30, description="equal contents in a row that are suspicious")
    constant_writes: int = Field(
        1000,
        ge=1,
        description="rows written between two equal backups that make them suspicious; rolled-back ones count",
    )
    history: int = Field(14, ge=3, le=365, description="earlier sizes that the newest is compared with")
    programs: str = Field(
        "", description="folder with pg_restore or redis-server; default: UPKEEP_PG_BIN, UPKEEP_REDIS_BIN, PATH"
    )
    progress_seconds: float = Field(15, ge=1, le=600, description="seconds between two lines of progress in the log")


class Seen(Model):
    """Every series of the target, and what of it is to be read."""

    series: tuple[Series, ...]
    found: tuple[Candidate, ...]
    chosen: tuple[Candidate, ...]


def observe(job: Job[Any, Settings]) -> Seen:
    """List the backups, read the newest manifests and choose what to read in full."""
    series = look(job)
    found = candidates(series)
    return Seen(series=series, found=tuple(found), chosen=tuple(_chosen(job, series, found)))


def judge(job: Job[Any, Settings], seen: Seen) -> Judgement:
    """Judge age, size and change of the newest backups, and for how long the others have not been read."""
    judged = Judgement()
    for one in seen.series:
        judged += judge_series(job, one, [c for c in seen.chosen if c.place == one.place])
    return judged + judge_coverage(job, seen.series, seen.found, seen.chosen)


def plan(job: Job[Any, Settings], seen: Seen) -> Plan:
    """Read every chosen backup."""
    return Plan(
        actions=tuple(
            Action(
                name="verify",
                subject=c.id,
                reason=f"read {c.place.kind} backup {c.id} of {c.place.store.url} again ({size(c.bytes)}),"
                f" {job.settings.which}" + (f", last read {c.read:%Y-%m-%d}" if c.read else ""),
                details={"place": c.place.model_dump(mode="json")},
            )
            for c in seen.chosen
        )
    )


def act(job: Job[Any, Settings], action: Action) -> Outcome:
    """Read one backup from its store, every byte, and decode it."""
    report = _common.Reporter(job.tools.log.info, job.tools.now, job.settings.progress_seconds)
    wanted, place = job.settings, Place.model_validate(action.details["place"])
    try:
        seen = _common.archiver(job).check(place, action.subject, wanted.decode, wanted.programs, report)
    except NoKeyError as error:
        return _no_key(job, error)
    if not seen.ok and any(n.id == seen.id and not n.whole for n in _common.archiver(job).removals(place)):
        return Outcome(status=OutcomeStatus.SKIPPED, detail=f"{seen.id} was removed by retention while it was read")
    rate = f"{size(seen.bytes / max(seen.seconds, 0.001))}/s"
    rows = f"{seen.rows} rows of {seen.tables} tables decoded" if seen.decoded else "not decoded"
    verdict = "as it was written" if seen.ok else f"{len(seen.faults)} faults"
    # The record is of the target's own store; what a further copy is like says nothing of that one.
    kept = "verification" if place.store == _common.place(job, place.kind).store else "verification_of_copy"
    return Outcome(
        status=OutcomeStatus.DONE if seen.ok else OutcomeStatus.FAILED,
        detail=(
            f"{seen.id} ({place.kind}): {verdict}; {seen.files} files, {size(seen.bytes)} read in"
            f" {duration(seen.seconds)} ({rate}), {rows}"
        ),
        measurements=(
            Measurement(name="verify.seconds", value=seen.seconds, unit="s"),
            Measurement(name="verify.bytes", value=seen.bytes, unit="bytes"),
            Measurement(name="verify.faults", value=len(seen.faults), unit="faults"),
        ),
        findings=(*_faults(place, seen), *_not_decoded(job, place, seen)),
        evidence={kept: {**_evidence(seen), "kind": place.kind, "store": place.store.url}},
    )


def _chosen(job: Job[Any, Settings], series: tuple[Series, ...], found: list[Candidate]) -> list[Candidate]:
    """Choose among what is on record and, by themselves, among what no record is kept of."""
    wanted = job.settings
    coverage = timedelta(weeks=wanted.coverage_weeks)
    unrecorded = {(s.place.series, s.place.store.url) for s in series if s.entries is None or s.further}
    known = [c for c in found if (c.place.series, c.place.store.url) not in unrecorded]
    others = [c for c in found if c not in known]
    chosen = choose(known, wanted.which, job.window, coverage=coverage, max_bytes=wanted.max_bytes)
    left = max(wanted.max_bytes - sum(c.bytes for c in chosen), 0)
    return chosen + choose(others, wanted.which, job.window, coverage=coverage, max_bytes=left, recorded=False)


def _not_decoded(job: Job[Any, Settings], place: Place, seen: Check) -> tuple[Finding, ...]:
    if seen.decoded or not job.settings.decode or not seen.ok or place.kind not in _DECODED:
        return ()
    finding = Finding(
        check="not_decoded",
        subject=place.series,
        severity=Severity.UNKNOWN,
        message=f"every byte of backup {seen.id} is as it was written, but nothing here could load it",
        hint="install a redis-server of the server's version on the workers, or name its folder in UPKEEP_REDIS_BIN",
    )
    return (finding,)


def _no_key(job: Job[Any, Settings], error: NoKeyError) -> Outcome:
    """Nothing is known of a backup whose key is not at hand: it may be perfect, so it is neither good nor damaged."""
    finding = Finding(
        check="key",
        subject=job.target.id,
        severity=Severity.UNKNOWN,
        message=f"{error.message}; the backup was not read",
        hint=error.hint,
    )
    return Outcome(status=OutcomeStatus.FAILED, detail=error.message, findings=(finding,))


def _faults(place: Place, seen: Check) -> tuple[Finding, ...]:
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
                subject=place.series,
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
