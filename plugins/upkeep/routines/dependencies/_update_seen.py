"""What is vulnerable, which versions are free of it, and what the manifests would become."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from upkeep.core.audit import Audited, Limits, Listed, Package, Rating, Unlisted, Vulnerability
from upkeep.core.dependencies import Ignore
from upkeep.core.job import Job
from upkeep.core.outdated import Change, Lookup, Outdated, Wanted
from upkeep.core.system import DependenciesTarget

type UpdateJob = Job[DependenciesTarget, Any]

_ROUNDS = 6
_NAMED = 6
_ORDER = list(Rating)


@dataclass(frozen=True)
class Seen:
    """The audit, what is wished for, what the manifests would become, and (Debian) what updates wait."""

    audited: Audited
    wanted: tuple[Wanted, ...] = ()
    open_ended: tuple[Vulnerability, ...] = ()
    """Vulnerabilities that no version is free of."""
    changes: tuple[Change, ...] = ()
    unknown: tuple[Unlisted, ...] = ()
    pending: Outdated | None = None
    cut_off: tuple[tuple[str, str], ...] = ()
    """Manifest and kept copy of what an earlier run has left untested."""
    manifests: tuple[str, ...] = ()


def observe(job: UpdateJob) -> Seen:
    """Audit the target as it is, choose versions, and ask what the manifests would become."""
    settings, updates, target = job.settings, job.tools.updates, job.target
    manifests = updates.manifests(target)
    cut_off = tuple((path, kept) for path in manifests if (kept := updates.unfinished(path)))
    limits: Limits = settings.limits
    listed = job.tools.auditor.listed(target, limits)
    audited = _audit(job, listed, limits)
    if target.ecosystem == "debian":
        lookup = Lookup(timeout=settings.resolve_seconds)
        return Seen(audited, pending=job.tools.outdated(target, listed, lookup), cut_off=cut_off)
    live = _live(audited.vulnerabilities, target.ignores, job.tools.now().astimezone(job.system.zone).date())
    fixes = _fixes(job, live, limits)
    patches, unknown = _patches(job, listed, fixes, manifests)
    wanted = (*fixes.values(), *patches)
    able = target.ecosystem == "python" or (target.ecosystem == "npm" and settings.npm_apply)
    changes = _changes(job, manifests, wanted) if able and wanted and not cut_off else ()
    hopeless = tuple(one for one in live if not one.fixed)
    return Seen(audited, wanted, hopeless, changes, unknown, None, cut_off, manifests)


def _audit(job: UpdateJob, listed: Listed, limits: Limits) -> Audited:
    sources = job.target.advisories or job.settings.advisories
    return job.tools.auditor.audited(listed, sources, limits, job.tools.now())


def _live(known: Sequence[Vulnerability], ignores: Sequence[Ignore], today: date) -> list[Vulnerability]:
    """Return the vulnerabilities that nobody answers for at present, of packages that this routine may move."""
    active = [one for one in ignores if one.until >= today]

    def ignored(one: Vulnerability) -> bool:
        return any(rule.advisory in one.names and rule.package in (None, one.package.name) for rule in active)

    return [one for one in known if one.package.ecosystem in ("PyPI", "npm") and not ignored(one)]


def _fixes(job: UpdateJob, known: Sequence[Vulnerability], limits: Limits) -> dict[str, Wanted]:
    """Return for each package the smallest version above ours of which no advisory is known.

    A version that is free of today's faults may have others of its own: the chosen ones are looked up again, until
    none moves any more.
    """
    by_name: dict[str, list[Vulnerability]] = defaultdict(list)
    for one in known:
        if one.fixed:
            by_name[one.package.name].append(one)
    chosen = {name: _highest(job, same) for name, same in by_name.items()}
    for _ in range(_ROUNDS):
        moved = _moved(job, {name: version for name, version in chosen.items() if version}, by_name, limits)
        if not moved:
            break
        chosen |= moved
    return {name: Wanted(name=name, version=v, why=_why(by_name[name])) for name, v in sorted(chosen.items()) if v}


def _highest(job: UpdateJob, same: Sequence[Vulnerability], version: str = "") -> str:
    versions = [one.fixed for one in same if one.fixed] + ([version] if version else [])
    return job.tools.updates.highest(same[0].package.ecosystem, versions)


def _moved(
    job: UpdateJob, chosen: Mapping[str, str], by_name: Mapping[str, Sequence[Vulnerability]], limits: Limits
) -> dict[str, str]:
    """Return the packages whose chosen version has faults of its own, with a version that has not."""
    packages = [by_name[name][0].package.model_copy(update={"version": version}) for name, version in chosen.items()]
    if not packages:
        return {}
    found: dict[str, list[Vulnerability]] = defaultdict(list)
    for one in _audit(job, Listed(packages=tuple(packages)), limits).vulnerabilities:
        if one.fixed:
            found[one.package.name].append(one)
    higher = {name: _highest(job, same, chosen[name]) for name, same in found.items()}
    return {name: version for name, version in higher.items() if version and version != chosen[name]}


def _why(same: Sequence[Vulnerability]) -> str:
    """Return the worst rating and the names of the vulnerabilities."""
    worst = min((one.rating for one in same), key=_ORDER.index)
    names = sorted({one.id for one in same})
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{worst}: {', '.join(names[:_NAMED])}{more}"


def _patches(
    job: UpdateJob, listed: Listed, fixes: Mapping[str, Wanted], manifests: Sequence[str]
) -> tuple[tuple[Wanted, ...], tuple[Unlisted, ...]]:
    if job.target.ecosystem != "python":
        return (), ()
    # What the environment alone has is not ours to move.
    places = tuple(f"{path.rpartition('/')[2]}:" for path in manifests)
    critical: dict[str, Package] = {}
    for one in listed.packages:
        pinned = any(place in one.where for place in places)
        if pinned and one.name in job.settings.security_packages and one.name not in fixes:
            critical.setdefault(one.name, one)
    return job.tools.updates.patches(tuple(critical.values()), job.settings.index_seconds)


def _changes(job: UpdateJob, manifests: Sequence[str], wanted: Sequence[Wanted]) -> tuple[Change, ...]:
    settings = job.settings
    return tuple(
        job.tools.updates.propose(path, wanted, environment=job.target.environment, timeout=settings.resolve_seconds)
        for path in manifests
    )
