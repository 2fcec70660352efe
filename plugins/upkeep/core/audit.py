"""Packages that are in use and what is known to be wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from pydantic import Field

from upkeep.core.dependencies import AdvisorySource
from upkeep.core.model import Model
from upkeep.core.targets import DependenciesTarget


class Package(Model):
    """One version of one package in one place.

    `ecosystem` is OSV's word (`PyPI`, `npm`, `Debian:12`), `name` normalised as that ecosystem does it, `where` the
    manifest (`requirements.txt:12`), environment or image it was found in. `direct` is None where nobody can tell.
    """

    ecosystem: str
    name: str
    version: str
    where: str
    direct: bool | None = None
    source_package: str = ""
    """Debian: the source package, by which advisories are kept; empty: the name itself."""
    source_version: str = ""
    """Debian: the version of the source package; empty: the version itself."""


class Unlisted(Model):
    """Something that may name packages and could not be read, or a line without a version: its packages are unknown."""

    where: str
    reason: str
    hint: str


class Listed(Model):
    """What a manifest, environment, machine or image holds."""

    packages: tuple[Package, ...] = ()
    unlisted: tuple[Unlisted, ...] = ()
    open_ended: tuple[str, ...] = ()
    """Manifests that name what is wanted and not, for certain, all that comes with it."""

    def __add__(self, other: Listed) -> Listed:
        return Listed(
            packages=self.packages + other.packages,
            unlisted=self.unlisted + other.unlisted,
            open_ended=self.open_ended + other.open_ended,
        )


class Verdict(StrEnum):
    """What an audit says. It follows from documents that were read and understood, never from an exit code."""

    CLEAN = "clean"
    VULNERABLE = "vulnerable"
    PARTIAL = "partial"
    """Nothing was found in what could be looked at, and something could not be."""
    UNKNOWN = "unknown"


class Rating(StrEnum):
    """How bad a vulnerability is, in the bands of CVSS v3 (section 5 of its specification, first.org)."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    UNKNOWN = "unknown"
    """No source says it. It is treated as `high` until somebody has looked."""


class Vulnerability(Model):
    """One advisory that applies to one package as it is in use."""

    package: Package
    id: str
    """CVE where there is one, else the first of the advisory's ids: the name under which it is remembered."""
    aliases: tuple[str, ...] = ()
    """Its other names, over all sources."""
    rating: Rating = Rating.UNKNOWN
    score: float | None = None
    """CVSS v3 base score, where a vector was published."""
    rated_by: str = ""
    """Where the rating comes from: advisory id and vector or word."""
    fixed: str = ""
    """Smallest version above ours that is not affected; empty: there is none yet."""
    summary: str = ""
    source: str = ""
    """The source that told of it first."""
    note: str = ""
    """What could not be found out about it."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of it, the main one first."""
        return (self.id, *self.aliases)


class SourceState(Model):
    """What a source of advisories was like when it was asked."""

    place: str
    advisories: int | None = None
    """How many it holds; None for a service, which does not tell."""
    newest: datetime | None = None
    """When the newest of its files was written; None for a service."""
    newest_change: datetime | None = None
    """When the youngest of its advisories was last changed, as it says itself."""
    answered: int = 0
    """Packages of which it said whether anything is known."""
    seconds: float = 0.0


class Audited(Model):
    """What came of an audit: its verdict, and everything that the verdict follows from."""

    verdict: Verdict
    listed: Listed
    vulnerabilities: tuple[Vulnerability, ...] = ()
    problems: tuple[Unlisted, ...] = ()
    """What kept sources from answering, wholly or in part."""
    unanswered: tuple[Package, ...] = ()
    """Packages of which no source said anything."""
    sources: tuple[SourceState, ...] = ()
    undecided: int = 0
    """Advisories that only name commits of a repository (GIT ranges): versions cannot be compared with those."""


class Limits(Model):
    """How long and how much an audit may take, and what its listing is told."""

    markers: dict[str, str] = {}
    """PEP 508 variables of the environment meant; empty: lines with markers count whatever they say."""
    own: tuple[str, ...] = ()
    """Names of packages of our own, of which no advisory can tell."""
    request_seconds: float = Field(20, gt=0)
    source_seconds: float = Field(300, gt=0)
    content_age_days: float = Field(90, gt=0)


class CrossChecked(Model):
    """What another program says of the same packages and advisories."""

    program: str
    differences: tuple[str, ...] = ()
    failed: str = ""
    """Why it said nothing; empty: it did."""


class Auditor(Protocol):
    """Lists packages and looks them up; see `adapters.audit`. One is made for every job."""

    def listed(self, target: DependenciesTarget, limits: Limits) -> Listed:
        """Return what a target holds. What cannot be read is in `unlisted`, never left out silently."""
        ...

    def audited(self, listed: Listed, sources: Sequence[AdvisorySource], limits: Limits, now: datetime) -> Audited:
        """Look packages up in every source and merge what they say.

        :raises ConfigurationError: a source names a connection that does not exist.
        """
        ...

    def bill(self, subject: str) -> str:
        """Return the bill of materials of what was audited last, with what is wrong, as CycloneDX in JSON."""
        ...

    def cross_checked(self, audited: Audited, sources: Sequence[AdvisorySource], limits: Limits) -> CrossChecked | None:
        """Have another program look the same packages up; None where none can (no service among the sources)."""
        ...


def verdict_of(
    listed: Listed,
    vulnerabilities: Sequence[Vulnerability],
    problems: Sequence[Unlisted],
    unanswered: Sequence[Package],
    asked: Sequence[Package],
) -> Verdict:
    """Return what follows from what was listed and answered. Nothing asked, or nothing answered, is UNKNOWN."""
    if vulnerabilities:
        return Verdict.VULNERABLE
    if not listed.packages or (asked and len(unanswered) == len(asked)):
        return Verdict.UNKNOWN
    return Verdict.PARTIAL if problems or unanswered or listed.unlisted else Verdict.CLEAN
