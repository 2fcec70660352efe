"""Actions that change manifests: what a person agrees to is the change itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from upkeep.core.model import Action, Plan
from upkeep.core.outdated import Change, Wanted
from upkeep.routines.dependencies._update_seen import Seen, UpdateJob

_RESOLVER = {
    "yes": "a resolver finds versions of everything that fit together",
    "conflict before": "a resolver finds no versions that fit together, nor did it for the present file",
    "unchecked": "whether everything fits together could not be checked",
}
_DIFF = 60_000


def plan(job: UpdateJob, seen: Seen) -> Plan:
    """Return what is put back without asking, and what is proposed."""
    return Plan(actions=(*_put_back(seen), *_manifests(job, seen), *_debian(job, seen)))


def _put_back(seen: Seen) -> Iterator[Action]:
    for manifest, kept in seen.cut_off:
        yield Action(
            name="put_back",
            subject=manifest,
            reason="an update of it was cut off before its tests had passed",
            undo="the update is proposed again",
            details={"kept": kept},
        )


def _manifests(job: UpdateJob, seen: Seen) -> Iterator[Action]:
    waiting = dict(seen.waiting)
    for change in seen.changes:
        if change.bumps and change.resolved != "conflict" and change.manifest not in waiting:
            yield _change(job, change, seen.wanted)


def _change(job: UpdateJob, change: Change, wanted: tuple[Wanted, ...]) -> Action:
    moves = ", ".join(f"{one.name} {one.before} -> {one.after}" for one in change.bumps)
    names = {one.name for one in change.bumps}
    branch = job.settings.apply == "branch"
    checked = _RESOLVER[change.resolved] + (f" ({change.resolver})" if change.resolver else "")
    tests = "and has the target's tests run" if job.target.tests else "no tests are configured to run after it"
    return Action(
        name="update_manifest",
        subject=change.manifest,
        reason=moves,
        undo="delete the branch" if branch else "the old file is kept beside it under a dated name",
        approval=f"it {'makes a branch' if branch else 'changes the file'}, {tests}; {checked}",
        details={
            # The change that was agreed to: another one, or another file, is not made.
            "oid": _identity(change, branch),
            "diff": _bounded(change.diff),
            "base_sha256": change.sha256,
            "new_sha256": change.new_sha256,
            "why": {one.name: f"{one.before} -> {one.after}: {one.why}" for one in change.bumps},
            "resolved": change.resolved,
            "wanted": [one.model_dump() for one in wanted if one.name in names],
            "apply": job.settings.apply,
        },
    )


def _bounded(diff: str) -> str:
    """Return a change as it fits into a request; whoever reads it must see that it is not all."""
    left = len(diff) - _DIFF
    return diff if left <= 0 else f"{diff[:_DIFF]}\n(cut: {left} more characters of the change are not shown)\n"


def _identity(change: Change, branch: bool) -> str:
    text = f"{change.manifest}\n{change.sha256}\n{change.new_sha256}\n{branch}"
    return hashlib.sha256(text.encode()).hexdigest()


def _debian(job: UpdateJob, seen: Seen) -> Iterator[Action]:
    command = job.settings.debian_command
    updates = [one for one in seen.pending.pending if one.security] if seen.pending else []
    if not command or not updates:
        return
    versions = {one.name: f"{one.installed} -> {one.candidate}" for one in updates}
    yield Action(
        name="install_security_updates",
        subject="debian",
        reason=f"{len(versions)} security updates wait",
        undo="none: Debian keeps no older version to go back to",
        approval="it installs packages on this machine and may restart services",
        details={
            "oid": hashlib.sha256(repr(sorted(versions.items())).encode()).hexdigest(),
            "packages": versions,
            "command": [*command, *sorted(versions)],
        },
    )
