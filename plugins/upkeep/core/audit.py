"""Packages that are in use and what is known to be wrong with them."""

from __future__ import annotations

from enum import StrEnum

from upkeep.core.model import Model


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


class Verdict(StrEnum):
    """What an audit says. It follows from documents that were read and understood, never from an exit code."""

    CLEAN = "clean"
    VULNERABLE = "vulnerable"
    PARTIAL = "partial"
    """Nothing was found in what could be looked at, and something could not be."""
    UNKNOWN = "unknown"
