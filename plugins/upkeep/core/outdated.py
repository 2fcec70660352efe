"""How far installed packages are behind, and what is proposed about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

from upkeep.core.audit import Listed, Unlisted
from upkeep.core.model import Model
from upkeep.core.system import DependenciesTarget

Behind = Literal["none", "patch", "minor", "major", "unknown"]
"""What differs first between two versions: the third number or less, the second, the first (or the epoch)."""


class Newer(Model):
    """A package and the newest version of it that could be installed here.

    `latest` is the newest release that is neither withdrawn nor a pre-release and that runs on this interpreter;
    `releases` counts those after the installed one, `days` lie between the two, `since` is when the first release
    appeared that is ahead by as much as `behind` says. None: the index does not tell.
    """

    ecosystem: str
    name: str
    installed: str
    latest: str
    where: str
    behind: Behind = "unknown"
    releases: int | None = None
    days: float | None = None
    since: datetime | None = None
    direct: bool | None = None
    withdrawn: str = ""
    """Why the installed version was withdrawn (yanked, deprecated) by its makers; empty: it was not."""


class Pending(Model):
    """An update of a Debian package that `apt-get` would install."""

    name: str
    installed: str
    candidate: str
    origin: str
    security: bool


class Outdated(Model):
    """What is known of newer versions. `packages` counts what was looked up; `unknown` is what could not be."""

    packages: int = 0
    newer: tuple[Newer, ...] = ()
    pending: tuple[Pending, ...] = ()
    installed: Listed = Listed()
    lists_at: datetime | None = None
    """Debian: of when the newest package list is."""
    unknown: tuple[Unlisted, ...] = ()


class OutdatedLister(Protocol):
    """Finds newer versions. See `adapters.outdated`."""

    def __call__(self, target: DependenciesTarget, *, timeout: float) -> Outdated:
        """Return what is newer than what a target holds, within `timeout` seconds; what is not known says why."""
        ...


class Wanted(Model):
    """A pin that should move: to the smallest version that is not below any of `versions`, and why."""

    name: str
    version: str
    why: str


class Change(Model):
    """One manifest and what it should become; both as text. `sha256` is of the present content.

    `refused` are the wishes that could not be met, each with its reason.
    """

    manifest: str
    sha256: str
    diff: str
    bumps: tuple[Wanted, ...]
    refused: tuple[Unlisted, ...] = ()
    checked: Literal["resolved", "conflict", "unchecked"] = "unchecked"
    check_detail: str = ""


class Applied(Model):
    """What became of applying a change. `kept` is the copy, or the branch, that holds the other version."""

    done: bool
    detail: str
    kept: str = ""
    tests: str = ""
    """What the tests said, the end of it; empty: none were run."""


class Updater(Protocol):
    """Proposes and applies updates of manifests. See `adapters.updates`."""

    def propose(self, manifest: str, wanted: Sequence[Wanted], *, timeout: float) -> Change:
        """Return the change of a manifest that meets some wishes. Nothing is written."""
        ...

    def apply(self, change: Change, *, branch: bool, tests: tuple[str, ...], timeout: float) -> Applied:
        """Write a change, beside and then in its place, or to a branch. Refused when the manifest is another by now."""
        ...
