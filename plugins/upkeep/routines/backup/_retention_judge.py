"""What retention reports: counts, standstills, what a person has to look at, and the review."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from upkeep.core.job import Job
from upkeep.core.model import Finding, Judgement, Measurement, Severity
from upkeep.core.retention import TIERS, taken
from upkeep.routines.backup._common import size
from upkeep.routines.backup._retention_seen import Series, Settings

_SHOWN = 5


def judge_series(job: Job[Any, Settings], series: Series) -> Judgement:
    """Measure one series and say what stands out."""
    if not series.entries and not series.notes:
        return Judgement()
    findings = [*_odd(series)]
    if series.decision.frozen and series.entries:
        findings.append(_frozen(job, series))
    if job.settings.review and series.entries:
        findings.append(_reviewed(series))
    return Judgement(measurements=tuple(_measured(series)), findings=tuple(findings))


def ledger_away(subject: str) -> Finding:
    """Say that nothing is known of any backup, and so nothing was removed."""
    return Finding(
        check="ledger",
        subject=subject,
        severity=Severity.UNKNOWN,
        message="the ledger does not answer: which backups are proved is unknown, so none is removed",
        hint="see to the connection upkeep_ledger and its PostgreSQL, then run backup.retention again",
    )


def told(ids: tuple[str, ...]) -> str:
    """Name a few, and count the rest."""
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"{', '.join(ids[:_SHOWN])}{more}"


def _measured(series: Series) -> Iterator[Measurement]:
    values = {
        "retention.kept": (len(series.entries) - len(series.decision.removal_order), "backups"),
        "retention.due": (len(series.decision.removal_order), "backups"),
        "retention.size": (sum(e.size_bytes for e in series.entries), "bytes"),
    }
    for name, (value, unit) in values.items():
        yield Measurement(name=name, subject=series.subject, value=value, unit=unit)


def _finding(series: Series, check: str, severity: Severity, said: str, hint: str) -> Finding:
    message = f"{series.name}: {said}"
    return Finding(check=check, subject=series.subject, severity=severity, message=message, hint=hint)


def _frozen(job: Job[Any, Settings], series: Series) -> Finding:
    """A standstill is usual for some hours after each backup; a long one fills the store."""
    good = [e for e in series.entries if e.proved and e.id not in series.decision.future]
    last = taken(good[0].id if good else series.entries[-1].id)
    age = job.tools.now() - last
    usual = "is not proved" in series.decision.frozen and age <= timedelta(days=job.settings.unproved_days)
    since = f"the newest proved one is of {last:%Y-%m-%d}" if good else f"none is proved since {last:%Y-%m-%d}"
    return _finding(
        series,
        "standstill",
        Severity.INFO if usual else Severity.WARNING,
        f"nothing is removed: {series.decision.frozen}; {since}",
        "it goes on when backup.verify, or a restore test, has found the newest backup whole",
    )


def _odd(series: Series) -> Iterator[Finding]:
    """Say what only a person can set right, and what the store does not let go of."""
    decision = series.decision
    if decision.future:
        yield _finding(
            series,
            "future",
            Severity.WARNING,
            f"dated in the future, kept, and not counted as newest: {told(decision.future)}",
            "correct the clock of the worker that made them (or of this one); remove them by hand when they mislead",
        )
    if series.unreadable:
        yield _finding(
            series,
            "unreadable",
            Severity.WARNING,
            f"the manifest cannot be read, and it is not on record; kept: {told(series.unreadable)}",
            "look at who or what writes to the store; remove by hand what is of no use as evidence",
        )
    if decision.broken:
        yield _finding(
            series,
            "chain",
            Severity.WARNING,
            f"incremental to what is not there; kept: {told(decision.broken)}",
            "bring back what they need (the store may keep versions), or remove them by hand; make a full backup",
        )
    if decision.locked:
        yield _finding(
            series,
            "locked",
            Severity.INFO,
            f"due, and kept by the store's lock: {told(decision.locked)}",
            "nothing to do: they go when their lock has run out",
        )


def _reviewed(series: Series) -> Finding:
    return _finding(series, "review", Severity.INFO, review(series), "see the evidence for every backup's reasons")


def review(series: Series) -> str:
    """Write what is kept for what, the oldest and the newest, bytes, what goes now, and what next."""
    decision, entries = series.decision, series.entries
    slots = [
        f"{sum(slot.tier == tier for slot in decision.slots)} of {getattr(series.rules.retention, tier)} {tier}"
        for tier in TIERS
        if getattr(series.rules.retention, tier)
    ]
    held = sum(any(r.startswith("held:") for r in v.reasons) for v in decision.verdicts if v.keep)
    proved = sum(e.proved for e in entries)
    coming = ", ".join(f"{going.id} on {going.day}" for going in series.next[:_SHOWN]) or "nothing within a month"
    return (
        f"{len(entries)} backups, {size(sum(e.size_bytes for e in entries))}, of {taken(entries[-1].id):%Y-%m-%d} to"
        f" {taken(entries[0].id):%Y-%m-%d}; kept for {', '.join(slots)}; {proved} proved, {held} held,"
        f" {len(decision.tainted)} suspicious; due now: {told(decision.removal_order) or 'none'}; next: {coming}"
    )
