"""What is vulnerable, which versions are free of it, and what the manifests would become."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from upkeep.core.audit import Audited, Limits, Listed, Package, Rating, Unlisted, Vulnerability
from upkeep.core.job import Job
from upkeep.core.outdated import Change, Lookup, Outdated, Wanted
from upkeep.core.targets import DependenciesTarget
from upkeep.routines.dependencies._audit_known import concerns, plain

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
    waiting: tuple[tuple[str, str], ...] = ()
    """Manifest and the branch that holds its change already."""


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
    live = _live(job, audited.vulnerabilities)
    fixes = _fixes(job, live, limits)
    patches, unknown = _patches(job, listed, fixes, manifests)
    wanted = (*fixes.values(), *patches)
    able = target.ecosystem == "python" or (target.ecosystem == "npm" and settings.npm_apply)
    changes = _changes(job, manifests, wanted) if able and wanted and not cut_off else ()
    hopeless = tuple(one for one in live if not one.fixed)
    branches = [(one.manifest, updates.waiting(one)) for one in changes if settings.apply == "branch" and one.bumps]
    waiting = tuple((manifest, branch) for manifest, branch in branches if branch)
    return Seen(audited, wanted, hopeless, changes, unknown, None, cut_off, manifests, waiting)


def _audit(job: UpdateJob, listed: Listed, limits: Limits) -> Audited:
    sources = job.target.advisories or job.settings.advisories
    return job.tools.auditor.audited(listed, sources, limits, job.tools.now())


def _live(job: UpdateJob, known: Sequence[Vulnerability]) -> list[Vulnerability]:
    """Return the vulnerabilities that nobody answers for at present, of packages that this routine may move."""
    today = job.tools.now().astimezone(job.system.zone).date()
    active = [one for one in job.target.ignores if one.until >= today]
    return [
        one
        for one in known
        if one.package.ecosystem in ("PyPI", "npm") and not any(concerns(rule, (one,)) for rule in active)
    ]


def _fixes(job: UpdateJob, known: Sequence[Vulnerability], limits: Limits) -> dict[str, Wanted]:
    """Return for each package the smallest version above ours of which no advisory is known.

    A version that is free of today's faults may have others of its own: the chosen ones are looked up again, until
    none moves any more.
    """
    by_name: dict[str, list[Vulnerability]] = defaultdict(list)
    for one in known:
        if one.fixed:
            by_name[one.package.name].append(one)
    chosen = {name: version for name, same in by_name.items() if (version := _highest(job, same))}
    for _ in range(_ROUNDS):
        proof = _proof(job, chosen, by_name, limits)
        if not proof.moved:
            break
        chosen |= proof.moved
    return {
        name: Wanted(name=name, version=version, why=_why(by_name[name]) + proof.doubt(name, version))
        for name, version in sorted(chosen.items())
    }


def _highest(job: UpdateJob, same: Sequence[Vulnerability], version: str = "") -> str:
    versions = [one.fixed for one in same if one.fixed] + ([version] if version else [])
    return job.tools.updates.highest(same[0].package.ecosystem, versions)


@dataclass(frozen=True)
class _Proof:
    """What is known of the chosen versions: which must move on, what stays wrong with them, what nobody could say."""

    moved: Mapping[str, str]
    left: Mapping[str, Sequence[str]]
    unsure: Collection[str]

    def doubt(self, name: str, version: str) -> str:
        """Return what whoever agrees must know of a version besides what it cures."""
        left = sorted(set(self.left.get(name, ())))
        some = f"; {version} itself has {', '.join(left[:_NAMED])}, of which no version is free" if left else ""
        unsure = name in self.unsure or name in self.moved
        return some + (f"; whether {version} has faults of its own is not known" if unsure else "")


def _proof(
    job: UpdateJob, chosen: Mapping[str, str], by_name: Mapping[str, Sequence[Vulnerability]], limits: Limits
) -> _Proof:
    """Look the chosen versions up."""
    packages = [by_name[name][0].package.model_copy(update={"version": version}) for name, version in chosen.items()]
    if not packages:
        return _Proof({}, {}, ())
    audited = _audit(job, Listed(packages=tuple(packages)), limits)
    curable: dict[str, list[Vulnerability]] = defaultdict(list)
    left: dict[str, list[str]] = defaultdict(list)
    for one in _live(job, audited.vulnerabilities):
        if one.fixed:
            curable[one.package.name].append(one)
        else:
            left[one.package.name].append(one.id)
    higher = {name: _highest(job, same, chosen[name]) for name, same in curable.items()}
    moved = {name: version for name, version in higher.items() if version and version != chosen[name]}
    return _Proof(moved, left, {one.name for one in audited.unanswered})


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
    meant = {plain(name) for name in job.settings.security_packages}
    critical: dict[str, Package] = {}
    for one in listed.packages:
        pinned = any(place in one.where for place in places)
        if pinned and plain(one.name) in meant and one.name not in fixes:
            critical.setdefault(one.name, one)
    return job.tools.updates.patches(tuple(critical.values()), job.settings.index_seconds)


def _changes(job: UpdateJob, manifests: Sequence[str], wanted: Sequence[Wanted]) -> tuple[Change, ...]:
    settings = job.settings
    return tuple(
        job.tools.updates.propose(path, wanted, environment=job.target.environment, timeout=settings.resolve_seconds)
        for path in manifests
    )
