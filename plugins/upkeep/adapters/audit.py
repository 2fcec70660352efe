"""Listing and looking up, behind one door for the routine. Implements `core.audit.Auditor`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from upkeep.adapters import packages
from upkeep.adapters.advisories import OpenHttp, World, audit
from upkeep.adapters.packages import DockerAddress
from upkeep.core.audit import Audited, CrossChecked, Limits, Listed
from upkeep.core.dependencies import AdvisorySource
from upkeep.core.errors import ConfigurationError
from upkeep.core.targets import DependenciesTarget


class Auditor:
    """Audits the dependencies of one target, and remembers what came of it for the bill of materials.

    :param indexes: folder where folders of advisories are kept compiled.
    """

    def __init__(self, http: OpenHttp, docker_address: DockerAddress, indexes: Path) -> None:
        self._http, self._docker_address, self._indexes = http, docker_address, indexes
        self._last: Audited | None = None

    def listed(self, target: DependenciesTarget, limits: Limits) -> Listed:
        """Return what a target holds."""
        return packages.listed(target, limits, self._docker_address)

    def audited(self, listed: Listed, sources: Sequence[AdvisorySource], limits: Limits, now: datetime) -> Audited:
        """Look packages up in every source and merge what they say."""
        self._last = audit(listed, sources, World(self._http, self._indexes, limits, now))
        return self._last

    def bill(self, subject: str) -> str:
        """Return the bill of materials of what was audited last.

        :raises ConfigurationError: nothing was.
        """
        from upkeep.adapters.sbom import cyclonedx

        if self._last is None:
            raise ConfigurationError("a bill of materials was asked for before anything was audited", "audit first")
        return cyclonedx(self._last.listed, self._last, subject=subject)

    def cross_checked(self, audited: Audited, sources: Sequence[AdvisorySource], limits: Limits) -> CrossChecked | None:
        """Have pip-audit look the same packages up."""
        from upkeep.adapters.audit_cross import cross_check

        return cross_check(audited, sources, limits.source_seconds)
