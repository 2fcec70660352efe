"""What verification makes of the series of backups that it sees: age, size, standing content, damage, leftovers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from statistics import median
from typing import Any

from upkeep.core.backup import Tier
from upkeep.core.job import Job
from upkeep.core.model import Finding, Judgement, Measurement, Severity
from upkeep.core.retention import TOLERANCE
from upkeep.routines.backup._common import size
from upkeep.routines.backup._verify_choice import Candidate, overdue
from upkeep.routines.backup._verify_seen import Known, Series, begun

# How old the newest backup of a tier may be, in hours: its distance, and time for a run that came late.
AGES: dict[Tier, float] = {"daily": 26, "weekly": 7 * 24 + 12, "monthly": 31 * 24 + 24, "quarterly": 92 * 24 + 48}
_ENOUGH = 3  # sizes needed before one of them can stand out
_SHOWN = 3


def judge_series(job: Job[Any, Any], series: Series, chosen: Sequence[Candidate]) -> Judgement:
    """Judge one series."""
    counted = Judgement(measurements=(_measured(series, "backups.count", len(series.backups), "backups"),))
    if not series.backups:
        return counted + Judgement(findings=(_missing(job, series), *_leftovers(job, series)))
    weight = _measured(series, "backup.size", series.backups[0].size_bytes, "bytes")
    taken = {c.id for c in chosen}
    findings = (
        *_damaged(series, taken),
        *_suspicious(series, taken),
        *_constant(job, series),
        *_leftovers(job, series),
    )
    return counted + Judgement(measurements=(weight,), findings=findings) + _age(job, series) + _size(job, series)


def judge_coverage(
    job: Job[Any, Any], seen: Sequence[Series], found: Sequence[Candidate], chosen: Sequence[Candidate]
) -> Judgement:
    """Judge whether every stored byte has been read lately enough."""
    weeks = job.settings.coverage_weeks
    if any(one.entries is None for one in seen):
        away = Finding(
            check="coverage",
            subject=job.target.id,
            severity=Severity.UNKNOWN,
            message="the ledger does not answer, so nobody knows when which backup was last read",
            hint="see to the connection upkeep_ledger; meanwhile backups are read in turn",
        )
        return Judgement(findings=(away,))
    recorded = {(one.place.series, one.place.store.url) for one in seen if not one.further}
    mine = [c for c in found if (c.place.series, c.place.store.url) in recorded]
    late = overdue(mine, chosen, job.tools.now(), timedelta(weeks=weeks))
    unread = sum(c.bytes for c in late)
    measured = Measurement(name="coverage.overdue", value=unread, unit="bytes")
    if not late:
        return Judgement(measurements=(measured,))
    days = (job.tools.now() - late[0].since).days
    finding = Finding(
        check="coverage",
        subject=job.target.id,
        severity=Severity.WARNING,
        message=(
            f"{len(late)} backups ({size(unread)}) have not been read for more than {weeks} weeks; longest, for"
            f" {days} days, {late[0].id} of {late[0].place.series}"
        ),
        observed=f"{size(unread)} overdue",
        limit=f"{weeks} weeks",
        hint="run backup.verify with `which: older` each week, and raise its `max_bytes` when that does not suffice",
    )
    return Judgement(measurements=(measured,), findings=(finding,))


def _measured(series: Series, name: str, value: float, unit: str) -> Measurement:
    return Measurement(name=name, subject=series.subject, value=value, unit=unit)


def _missing(job: Job[Any, Any], series: Series) -> Finding:
    return Finding(
        check="missing",
        subject=series.label,
        severity=Severity.CRITICAL,
        message=f"there is no {series.place.kind} backup of {job.target.id} in {series.place.store.url}",
        observed="0 backups",
        limit="at least 1",
        hint=f"run {_maker(series)} for this target now, and find out why it has not run",
    )


def _maker(series: Series) -> str:
    return f"backup.{'postgres' if series.place.kind == 'dump' else series.place.kind}"


def _damaged(series: Series, taken: set[str]) -> tuple[Finding, ...]:
    """Tell of manifests that cannot be read; those of the chosen ones are told of by `act`."""
    wrong = [k for k in series.known if k.damage and k.id not in taken]
    if not wrong:
        return ()
    finding = Finding(
        check="manifest",
        subject=series.label,
        severity=Severity.CRITICAL,
        message="; ".join(k.damage for k in wrong),
        observed=f"{len(wrong)} of the newest {len(series.known)} manifests",
        limit="0",
        hint="these backups cannot be relied on; look at who or what writes to the store",
    )
    return (finding,)


def _suspicious(series: Series, taken: set[str]) -> tuple[Finding, ...]:
    """Tell of backups that an earlier look found damaged: the finding would be gone tomorrow, the damage would not."""
    there = {b.id for b in series.backups} - taken
    bad = [e for e in series.entries or () if e.suspicious and e.id in there]
    if not bad:
        return ()
    names = ", ".join(e.id for e in bad[:_SHOWN])
    finding = Finding(
        check="damaged",
        subject=series.label,
        severity=Severity.WARNING,
        message=f"{len(bad)} backups were found damaged, or failed their restore test, and are still there: {names}",
        observed=f"{len(bad)} backups",
        limit="0",
        hint="see the findings of those runs; once looked into, remove them from the store",
    )
    return (finding,)


def _leftovers(job: Job[Any, Any], series: Series) -> tuple[Finding, ...]:
    """Tell what unfinished tries have left: it costs money and, mostly, means that a worker was killed."""
    if not series.leftovers:
        return ()
    now = job.tools.now()
    parts = [
        f"{one.kind} of {one.name} ({f'{size(one.bytes)}, ' if one.bytes else ''}begun"
        f" {(now - begun(one.name)).total_seconds() / 3600:.1f} h ago; {one.reason})"
        for one in series.leftovers[:_SHOWN]
    ]
    more = f" and {len(series.leftovers) - _SHOWN} more" if len(series.leftovers) > _SHOWN else ""
    finding = Finding(
        check="leftover",
        subject=series.label,
        severity=Severity.INFO,
        message=f"unfinished tries have left something in {series.place.store.url}: {'; '.join(parts)}{more}",
        observed=f"{len(series.leftovers)} leftovers, {size(sum(one.bytes for one in series.leftovers))}",
        limit="0",
        hint=f"the next {_maker(series)} sweeps it; if it comes again and again, workers are killed: see their log",
    )
    return (finding,)


def _age(job: Job[Any, Any], series: Series) -> Judgement:
    newest = next((k for k in series.known if k.finished is not None), None)
    if newest is None or newest.finished is None:
        return Judgement()
    hours = (job.tools.now() - newest.finished).total_seconds() / 3600
    if newest.finished > job.tools.now() + TOLERANCE:
        return Judgement(findings=(_from_the_future(series, newest, hours),))
    measured = _measured(series, "backup.age", hours, "h")
    limit = job.settings.max_age_hours.get(series.tier, AGES[series.tier])
    if hours <= limit:
        return Judgement(measurements=(measured,))
    finding = Finding(
        check="age",
        subject=series.label,
        severity=Severity.CRITICAL,
        message=f"the newest backup that can be read, {newest.id}, is {hours:.1f} hours old; it is a {series.tier} one",
        observed=f"{hours:.1f} h",
        limit=f"{limit:g} h",
        hint=f"look at the last runs of {_maker(series)} and run it now",
    )
    return Judgement(measurements=(measured,), findings=(finding,))


def _from_the_future(series: Series, newest: Known, hours: float) -> Finding:
    """Tell that nobody knows how old the only backups there are really are."""
    return Finding(
        check="age",
        subject=series.label,
        severity=Severity.UNKNOWN,
        message=f"the newest backup that can be read, {newest.id}, is dated in the future: its age is not known",
        observed=f"{-hours:.1f} h from now",
        limit="not later than now",
        hint=f"correct the clock of the worker that made it (or of this one), then run {_maker(series)}",
    )


def _size(job: Job[Any, Any], seen: Series) -> Judgement:
    newest, limits = seen.backups[0], job.settings
    past: list[float] = [
        point.value for point in job.tools.history.series("backup.size", seen.subject, limit=limits.history)
    ]
    if len(past) < _ENOUGH:  # the ledger is young or away: the store remembers too
        past = [float(b.size_bytes) for b in seen.backups[1 : limits.history + 1]]
    if len(past) < _ENOUGH or not median(past):
        return Judgement()
    usual = median(past)
    ratio = newest.size_bytes / usual
    measured = _measured(seen, "backup.size_ratio", ratio, "ratio")
    severity, limit = max(limits.size_ratio_low.crossed(ratio), limits.size_ratio_high.crossed(ratio), key=_rank)
    if limit is None:
        return Judgement(measurements=(measured,))
    finding = Finding(
        check="size",
        subject=seen.label,
        severity=severity,
        message=f"backup {newest.id} has {size(newest.size_bytes)}, usual are {size(usual)} (median of {len(past)})",
        observed=f"{ratio:.2f}",
        limit=f"{limit:g}",
        hint="were tables emptied or loaded? is it the right database? compare the manifests' tables",
    )
    return Judgement(measurements=(measured,), findings=(finding,))


def _rank(crossed: tuple[Severity, float | None]) -> int:
    return crossed[0].rank


def _constant(job: Job[Any, Any], seen: Series) -> tuple[Finding, ...]:
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
        subject=seen.label,
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
