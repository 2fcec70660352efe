"""How far installed packages are behind, and what is proposed about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol

from upkeep.core.audit import Listed, Package, Unlisted
from upkeep.core.model import Model
from upkeep.core.targets import DependenciesTarget

Behind = Literal["patch", "minor", "major"]
"""What differs first between two versions: the third number or less, the second, or the first (or the epoch)."""


class Newer(Model):
    """A package and the newest version of it that could be installed here.

    `latest` is the newest release that is neither withdrawn nor a pre-release and that runs on this Python; `releases`
    counts those after the installed one, `days` lie between the two, `since` is when the first release appeared that
    is ahead by as much as `behind` says. None: the index does not tell.
    """

    ecosystem: str
    name: str
    installed: str
    latest: str
    where: str
    behind: Behind | None = None
    """None: it is the newest one; then it is here because it was withdrawn."""
    releases: int | None = None
    days: float | None = None
    since: datetime | None = None
    withdrawn: str = ""
    """Why the installed version was withdrawn by its makers (yanked, deprecated); empty: it was not."""


class Pending(Model):
    """An update of a Debian package that `apt-get` would install."""

    name: str
    installed: str
    candidate: str
    origin: str
    security: bool


class Stated(Model):
    """A product whose version the system states, and what is installed. `fits` is None when that cannot be told."""

    product: str
    wanted: str
    installed: str
    where: str
    fits: bool | None


class Outdated(Model):
    """What is known of newer versions. `looked_up` counts packages; `unknown` is what could not be found out."""

    looked_up: int = 0
    newer: tuple[Newer, ...] = ()
    pending: tuple[Pending, ...] = ()
    lists_at: datetime | None = None
    """Debian: of when the newest package list is; None: there is none."""
    stated: tuple[Stated, ...] = ()
    unknown: tuple[Unlisted, ...] = ()


class Lookup(Model):
    """What to look up, and how long that may take."""

    transitive: bool = False
    """Whether packages that only others asked for count, too."""
    own: tuple[str, ...] = ()
    """Names of packages of our own, which no index has."""
    python: str = ""
    """Version of Python that must run what is newest; empty: that of the environment, else ours."""
    software: Mapping[str, str] = {}
    """Product -> versions it must have."""
    timeout: float = 300
    """Seconds for everything."""


class OutdatedLister(Protocol):
    """Finds newer versions. See `adapters.outdated`."""

    def __call__(self, target: DependenciesTarget, listed: Listed, lookup: Lookup) -> Outdated:
        """Return what is newer than what a target holds; what cannot be found out is told with its reason."""
        ...


class Wanted(Model):
    """A pin that should move: at least to a version, and why."""

    name: str
    version: str
    why: str


class Bump(Model):
    """A pin that would move, from what to what, and why."""

    name: str
    before: str
    after: str
    why: str


class Change(Model):
    """What a manifest should become. `sha256` and `new_sha256` are of its present and of its new content.

    `diff` is for people: credentials and control characters in it are masked. `refused` are the wishes that cannot be
    met, each with its reason; `missing` those whose package the manifest does not name.
    """

    manifest: str
    sha256: str
    new_sha256: str
    diff: str = ""
    bumps: tuple[Bump, ...] = ()
    refused: tuple[Unlisted, ...] = ()
    missing: tuple[str, ...] = ()
    resolved: Literal["yes", "conflict", "conflict before", "unchecked"] = "unchecked"
    """Whether a resolver finds versions of everything that fit together; `conflict before`: nor did it before."""
    resolver: str = ""
    """What the resolver said, or why it was not asked."""


class Applied(Model):
    """What became of a change. `kept` is the copy of the old file, or the branch with the new one."""

    done: bool
    detail: str
    kept: str = ""
    tests: str = ""
    """The end of what the tests said; empty: none were run."""


class Updater(Protocol):
    """Proposes and applies updates. See `adapters.updates`."""

    def highest(self, ecosystem: str, versions: Sequence[str]) -> str:
        """Return the newest of some versions; empty when there is none, or one cannot be read."""
        ...

    def patches(self, packages: Sequence[Package], timeout: float) -> tuple[tuple[Wanted, ...], tuple[Unlisted, ...]]:
        """Return the newest patch-level release of each Python package that is behind it, and what is not known."""
        ...

    def manifests(self, target: DependenciesTarget) -> tuple[str, ...]:
        """Return the paths of a target's manifests, its patterns filled in."""
        ...

    def propose(self, manifest: str, wanted: Sequence[Wanted], *, environment: str | None, timeout: float) -> Change:
        """Return the change of a requirements file, or of a lock of npm, that meets some wishes. Nothing is written.

        :param environment: interpreter for which a resolver is asked; None: ours.
        """
        ...

    def apply(
        self,
        change: Change,
        wanted: Sequence[Wanted],
        *,
        now: datetime,
        branch: bool,
        tests: Sequence[str],
        timeout: float,
    ) -> Applied:
        """Write the change in place of the manifest, or to a branch of its repository, and run the tests.

        It is refused when the manifest is not the one of the change any more, or would become another file than the
        change says. Where the tests fail, everything is as it was before.
        """
        ...

    def waiting(self, change: Change) -> str:
        """Return the branch of ours that holds a change already; empty where there is none."""
        ...

    def unfinished(self, manifest: str) -> str:
        """Return what an apply that was cut off has left in place untested; empty when there is nothing."""
        ...

    def put_back(self, manifest: str) -> Applied:
        """Put the file back that an apply which was cut off has replaced."""
        ...

    def run(self, command: Sequence[str], timeout: float) -> Applied:
        """Run a command that installs updates, as a setting spells it."""
        ...
