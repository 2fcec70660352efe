"""What follows from versions that are behind."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from upkeep.core.audit import Listed, Unlisted
from upkeep.core.job import Job
from upkeep.core.model import Finding, Judgement, Measurement, Severity
from upkeep.core.outdated import Newer, Outdated, Pending, Stated
from upkeep.core.targets import DependenciesTarget
from upkeep.routines.dependencies._audit_known import plain

type OutdatedJob = Job[DependenciesTarget, Any]

_FIRST_SEEN = "major.first_seen"
_NAMED = 8


@dataclass(frozen=True)
class Seen:
    """What was listed, what is newer, and when that was asked."""

    listed: Listed
    found: Outdated
    at: datetime


def judge(job: OutdatedJob, seen: Seen) -> Judgement:
    """Return counts of what is behind, and a finding for what somebody should know or do."""
    majors = _since(job, seen)
    findings = [
        *_unknown((*seen.listed.unlisted, *seen.found.unknown)),
        *(_nothing(seen) if job.target.ecosystem != "debian" else ()),  # apt looks by itself
        *_stated(seen.found.stated),
        *_behind(job, seen, majors),
        *(_debian(job, seen) if job.target.ecosystem == "debian" else ()),
    ]
    return Judgement(measurements=tuple(_measured(seen, majors)), findings=tuple(findings))


def _since(job: OutdatedJob, seen: Seen) -> dict[str, datetime]:
    """Return since when each package is a major version behind: by the index, else since we saw it first."""
    remembered = job.tools.history.latest(_FIRST_SEEN)
    found: dict[str, datetime] = {}
    for one in seen.found.newer:
        if one.behind == "major":
            known = remembered.get(_subject(one))
            first = datetime.fromtimestamp(known.value, UTC) if known else seen.at
            found[_subject(one)] = min(found.get(_subject(one), seen.at), one.since or first)
    return found


def _subject(one: Newer) -> str:
    return one.name


def _measured(seen: Seen, majors: dict[str, datetime]) -> Iterator[Measurement]:
    found = seen.found
    counts = Counter(one.behind for one in found.newer if one.behind)
    yield Measurement(name="packages.looked_up", value=found.looked_up, unit="count")
    for kind in ("major", "minor", "patch"):
        yield Measurement(name=f"packages.behind.{kind}", value=counts[kind], unit="count")
    yield Measurement(name="packages.unknown", value=len(found.unknown), unit="count")
    for subject, since in majors.items():
        yield Measurement(name=_FIRST_SEEN, value=since.timestamp(), unit="s", subject=subject)
    if found.lists_at:
        security = sum(one.security for one in found.pending)
        yield Measurement(name="updates.security", value=security, unit="count")
        yield Measurement(name="updates.other", value=len(found.pending) - security, unit="count")
        yield Measurement(name="package_lists.age", value=_age(seen, found.lists_at), unit="d")


def _age(seen: Seen, at: datetime) -> float:
    return max(0.0, (seen.at - at).total_seconds() / 86400)


def _unknown(problems: Sequence[Unlisted]) -> Iterator[Finding]:
    """One finding for each reason: an index away concerns all its packages at once."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in problems:
        groups[one.reason, one.hint].append(one.where)
    for subject, reasons in _by_first_place(groups).items():
        message = "; ".join(f"{_some(places)}: {reason}" for (reason, _), places in reasons)
        yield Finding(
            check="lookup",
            subject=subject,
            severity=Severity.UNKNOWN,
            message=f"{message}; whether newer versions exist is not known",
            hint=reasons[0][0][1],
        )


def _nothing(seen: Seen) -> Iterator[Finding]:
    if not seen.listed.packages and not seen.listed.unlisted:
        yield Finding(
            check="lookup",
            subject="packages",
            severity=Severity.UNKNOWN,
            message="the target names no package at all: whether newer versions exist is not known",
            hint="correct `manifests`, `environment` or `images` of the target",
        )


def _by_first_place(
    groups: dict[tuple[str, str], list[str]],
) -> dict[str, list[tuple[tuple[str, str], list[str]]]]:
    """Return what is wrong by the first place that it is wrong at: a finding's subject must stand for one finding."""
    found = defaultdict[str, list[tuple[tuple[str, str], list[str]]]](list)
    for cause, places in groups.items():
        found[min(places)].append((cause, sorted(set(places))))
    return found


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _stated(facts: Sequence[Stated]) -> Iterator[Finding]:
    # A product that is installed several times is told once, by what does not fit.
    worst = {one.product: one for one in sorted(facts, key=lambda one: {True: 0, None: 1, False: 2}[one.fits])}
    for one in worst.values():
        place = f" ({one.where})" if one.where else ""
        if one.fits is None:
            yield Finding(
                check="stated_version",
                subject=one.product,
                severity=Severity.UNKNOWN,
                message=f"{one.product} {one.installed}{place} cannot be compared with {one.wanted!r}, which is stated",
                observed=one.installed,
                limit=one.wanted,
                hint="write `software` in the system file as PEP 440 specifiers: `>=12`, `==5.1.6`, `>=3.8,<4`",
            )
        elif not one.fits:
            yield Finding(
                check="stated_version",
                subject=one.product,
                severity=Severity.WARNING,
                message=f"{one.product} {one.installed}{place}; the system file states {one.wanted}",
                observed=one.installed,
                limit=one.wanted,
                hint="install the stated version, or correct `software` in the system file",
            )


def _behind(job: OutdatedJob, seen: Seen, majors: dict[str, datetime]) -> Iterator[Finding]:
    """Return a finding for each package, the worst first; the rest are counted."""
    found = [_one_behind(job, seen, one, majors.get(_subject(one))) for one in _worst_per_name(seen.found.newer)]
    found.sort(key=lambda finding: -finding.severity.rank)
    limit = job.settings.shown
    yield from found[:limit]
    if rest := [one for one in found[limit:] if one.severity is Severity.INFO]:
        names = _some([one.subject for one in rest])
        yield Finding(
            check="behind", subject="(others)", severity=Severity.INFO, message=f"{len(rest)} more are behind: {names}"
        )
    yield from (one for one in found[limit:] if one.severity is not Severity.INFO)


def _worst_per_name(newer: Sequence[Newer]) -> list[Newer]:
    """Return one entry for each name: of several versions in use, the one that is furthest behind or withdrawn."""
    order = {None: 0, "patch": 1, "minor": 2, "major": 3}
    worst: dict[str, Newer] = {}
    for one in newer:
        other = worst.get(_subject(one))
        weight = (bool(one.withdrawn), order[one.behind], one.releases or 0)
        if other is None or weight > (bool(other.withdrawn), order[other.behind], other.releases or 0):
            worst[_subject(one)] = one
    return list(worst.values())


def _one_behind(job: OutdatedJob, seen: Seen, one: Newer, since: datetime | None) -> Finding:
    patience = {plain(name): days for name, days in job.settings.patience.items()}.get(
        plain(one.name), job.settings.major_days
    )
    waited = _age(seen, since) if since else 0.0
    facts = [f"{one.behind} version behind"] if one.behind else []
    facts += [f"{one.releases} releases"] if one.releases else []
    facts += [f"{one.days:.0f} days between them"] if one.days else []
    text = f"{one.name} {one.installed} in {one.where}: newest is {one.latest} ({', '.join(facts)})"
    if one.withdrawn:
        return Finding(
            check="withdrawn",
            subject=_subject(one),
            severity=Severity.WARNING,
            message=f"{one.name} {one.installed} in {one.where} was withdrawn by its makers: {one.withdrawn}",
            observed=one.installed,
            limit=one.latest,
            hint=f"move to {one.latest}" if one.behind else "look for a version that is not withdrawn",
        )
    if one.behind == "major" and waited > patience:
        return Finding(
            check="major_behind",
            subject=_subject(one),
            severity=Severity.WARNING,
            message=f"{text}; a newer major version has been out for {waited:.0f} days",
            observed=f"{waited:.0f} d",
            limit=f"{patience:g} d",
            hint="plan the move: its release notes, a test run; or give it more time in `patience`",
        )
    return Finding(
        check="behind",
        subject=_subject(one),
        severity=Severity.INFO,
        message=text,
        observed=one.installed,
        limit=one.latest,
    )


def _debian(job: OutdatedJob, seen: Seen) -> Iterator[Finding]:
    at, settings = seen.found.lists_at, job.settings
    if at is None or _age(seen, at) > settings.max_lists_days:
        yield Finding(
            check="package_lists",
            subject="apt",
            severity=Severity.UNKNOWN,
            message=f"Debian's package lists are {f'of {at:%Y-%m-%d}' if at else 'missing'}: no later update is known",
            observed=f"{_age(seen, at):.0f} d" if at else "none",
            limit=f"{settings.max_lists_days:g} d",
            hint="apt-get update, every day (apt-daily.timer); check its log when the mirror cannot be reached",
        )
    yield from _pending(job, [one for one in seen.found.pending if one.security])
    if others := [one for one in seen.found.pending if not one.security]:
        yield Finding(
            check="behind",
            subject="debian",
            severity=Severity.INFO,
            message=f"{len(others)} updates wait that are not of security: {_some([_update(one) for one in others])}",
            observed=str(len(others)),
        )


def _pending(job: OutdatedJob, updates: Sequence[Pending]) -> Iterator[Finding]:
    severity, crossed = job.settings.security_updates.crossed(len(updates))
    if severity is not Severity.OK:
        yield Finding(
            check="security_updates",
            subject="debian",
            severity=severity,
            message=f"{len(updates)} security updates are not installed: {_some([_update(one) for one in updates])}",
            observed=str(len(updates)),
            limit=f"{crossed:g}",
            hint="apt-get install --only-upgrade " + " ".join(sorted({one.name for one in updates})[:40]),
        )


def _update(one: Pending) -> str:
    return f"{one.name} {one.installed} -> {one.candidate}"
