"""What needs an update and cannot be proposed, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from upkeep.core.audit import Unlisted, Verdict
from upkeep.core.model import Finding, Judgement, Measurement, Severity
from upkeep.core.outdated import Change, Wanted
from upkeep.routines.dependencies._update_seen import Seen, UpdateJob

_NAMED = 8


def judge(job: UpdateJob, seen: Seen) -> Judgement:
    """Return findings for everything that no approval will cure."""
    findings = [
        *_advisories(seen),
        *_cut_off(seen),
        *_waiting(seen),
        *_hopeless(seen),
        *_refused(seen),
        *_conflicts(seen.changes),
        *_npm(job, seen),
        *_debian(job, seen),
        *(_unknown("patches", one) for one in seen.unknown),
    ]
    bumps = sum(len(change.bumps) for change in seen.changes)
    measured = (
        Measurement(name="updates.proposed", value=bumps, unit="count"),
        Measurement(name="updates.without_fix", value=len(seen.open_ended), unit="count"),
    )
    return Judgement(measurements=measured, findings=tuple(findings))


def _unknown(check: str, one: Unlisted) -> Finding:
    return Finding(
        check=check, subject=one.where, severity=Severity.UNKNOWN, message=f"{one.where}: {one.reason}", hint=one.hint
    )


def _advisories(seen: Seen) -> Iterator[Finding]:
    """An audit that could not look everything up: one finding, for the audit's own routine tells the rest."""
    if seen.audited.verdict is Verdict.UNKNOWN or seen.audited.problems or seen.audited.unanswered:
        reason = seen.audited.problems[0].reason if seen.audited.problems else "no source answered"
        yield Finding(
            check="advisories",
            subject="audit",
            severity=Severity.UNKNOWN,
            message=f"what needs an update is not known, or not wholly: {reason}",
            hint="see the findings of dependencies.audit for this target",
        )


def _cut_off(seen: Seen) -> Iterator[Finding]:
    for manifest, kept in seen.cut_off:
        yield Finding(
            check="cut_off",
            subject=manifest,
            severity=Severity.WARNING,
            message=f"{manifest}: an update was cut off before its tests had passed; the old file is {kept}",
            hint="this run puts the old file back; the update is proposed again by the next one",
        )


def _waiting(seen: Seen) -> Iterator[Finding]:
    for manifest, branch in seen.waiting:
        yield Finding(
            check="branch_waits",
            subject=manifest,
            severity=Severity.INFO,
            message=f"{manifest}: its safe versions are on the branch {branch} and not where it is checked out",
            hint=f"review and merge {branch}; delete it to have the update proposed again",
        )


def _hopeless(seen: Seen) -> Iterator[Finding]:
    for name in sorted({one.package.name for one in seen.open_ended}):
        same = [one for one in seen.open_ended if one.package.name == name]
        ids = sorted({one.id for one in same})
        yield Finding(
            check="no_fix",
            subject=name,
            severity=Severity.INFO,
            message=f"{name} {same[0].package.version} in {same[0].package.where}: no version is free of {_some(ids)}",
            hint="watch its makers' releases, switch the faulty part off, or replace the package",
        )


def _refused(seen: Seen) -> Iterator[Finding]:
    for change in seen.changes:
        # A package that a file names several times is told once.
        for subject, one in {_subject(change, one): one for one in change.refused}.items():
            yield Finding(
                check="refused",
                subject=subject,
                severity=Severity.WARNING,
                message=f"{one.where}: {one.reason}; it needs an update and was left as it is",
                hint=one.hint,
            )
    if seen.wanted and not seen.manifests:
        yield Finding(
            check="no_manifest",
            subject="target",
            severity=Severity.INFO,
            message=f"safe versions exist, and the target names no file to change: {_some(_told(seen.wanted))}",
            hint="name its `manifests`, or build the image or environment anew with these versions",
        )
    # What no manifest names was brought along by something else, or lies in the environment alone.
    readable = [change for change in seen.changes if change.sha256]
    missing = [w for w in seen.wanted if readable and all(w.name in change.missing for change in readable)]
    if missing:
        names = _some(_told(missing))
        yield Finding(
            check="refused",
            subject="not in any manifest",
            severity=Severity.WARNING,
            message=f"vulnerable, and no manifest pins them: {names}",
            hint="pin them in the manifest, or update what brings them along: uv pip tree --invert --package NAME",
        )


def _told(wanted: Sequence[Wanted]) -> list[str]:
    return [f"{one.name} (at least {one.version}; {one.why})" for one in wanted]


def _subject(change: Change, one: Unlisted) -> str:
    return f"{change.manifest} {one.reason.split(' ', 1)[0]}"


def _conflicts(changes: Sequence[Change]) -> Iterator[Finding]:
    for change in changes:
        if change.resolved == "conflict":
            moves = _some([f"{one.name} {one.before} -> {one.after}" for one in change.bumps])
            yield Finding(
                check="conflict",
                subject=change.manifest,
                severity=Severity.WARNING,
                message=f"{change.manifest}: safe versions do not fit together: {moves}; {change.resolver}",
                hint="move what stands in the way, too, and let the resolver choose: uv pip compile",
            )


def _npm(job: UpdateJob, seen: Seen) -> Iterator[Finding]:
    if job.target.ecosystem != "npm" or job.settings.npm_apply or not seen.wanted:
        return
    direct = {one.package.name for one in seen.audited.vulnerabilities if one.package.direct is not False}
    ours = [f"{one.name}@^{one.version}" for one in seen.wanted if one.name in direct]
    others = [f"{one.name} (at least {one.version})" for one in seen.wanted if one.name not in direct]
    if ours:
        yield Finding(
            check="npm_update",
            subject="direct",
            severity=Severity.INFO,
            message="safe versions exist of " + _some([f"{w.name} ({w.why})" for w in seen.wanted if w.name in direct]),
            hint=f"npm install --ignore-scripts {' '.join(ours[:40])}, run the tests, commit package.json and the lock",
        )
    if others:
        yield Finding(
            check="npm_update",
            subject="transitive",
            severity=Severity.INFO,
            message=f"safe versions exist of packages that others bring along: {_some(others)}",
            hint="npm update --ignore-scripts; where a range forbids it, `overrides` in package.json",
        )


def _debian(job: UpdateJob, seen: Seen) -> Iterator[Finding]:
    if seen.pending is None:
        return
    for one in seen.pending.unknown:
        yield _unknown("advisories", one)
    names = sorted({one.name for one in seen.pending.pending if one.security})
    if names and not job.settings.debian_command:
        yield Finding(
            check="debian_update",
            subject="security",
            severity=Severity.INFO,
            message=f"{len(names)} security updates wait: {_some(names)}",
            hint="apt-get install --only-upgrade "
            + " ".join(names[:40])
            + "; to have it proposed, set `debian_command`",
        )


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
