"""Lists packages that are behind their newest version, and by how much; and whether stated versions are kept.

For Python the configured index is asked about every package, for npm the registry, for Debian apt simulates an upgrade
by the package lists that are there. Newest is what could be installed here: no pre-release, nothing withdrawn, nothing
that needs another Python. Nothing is changed; `dependencies.update` proposes the updates that security needs.

When it is not green:

- `major_behind`: a new major version has been out for long. Makers stop mending old ones: plan the move (read its
  release notes, run the tests against it), or set a longer time for this package in `patience`.
- `withdrawn`: the makers took back the version in use; the reason is theirs. Move to the version named.
- `security_updates`: Debian has security updates that are not installed. Install them: the hint is the command.
- `stated_version`: the system says which versions it must have, and has another. Correct the one or the other.
- `index`, `lookup` (unknown): nobody can say whether these packages are behind. Follow the hint.
- `package_lists` (unknown): the machine has not fetched Debian's package lists lately, so it knows of no new update.
- `behind` (info): what to read before the next planned update.
"""

from __future__ import annotations

from pydantic import Field

from upkeep.core.audit import Limits, Listed
from upkeep.core.cadence import Covers
from upkeep.core.job import Job
from upkeep.core.model import Judgement, Threshold
from upkeep.core.outdated import Lookup
from upkeep.core.routine import RoutineSettings
from upkeep.core.targets import DependenciesTarget
from upkeep.routines.dependencies import _outdated_judge
from upkeep.routines.dependencies._outdated_judge import Seen

TITLE = "Outdated packages"
TARGETS = ("dependencies",)
COVERS = Covers.NOW
ROLE = "sysadmin"


class Settings(RoutineSettings):
    """What is looked up, and how long a package may stay behind."""

    timeout: float = Field(300, ge=5, le=3600, description="seconds for asking about all packages")
    transitive: bool = Field(False, description="look up packages, too, that only other packages asked for")
    own: tuple[str, ...] = Field((), description="names of packages of your own, which no index has")
    python: str = Field(
        "",
        pattern=r"^(\d+\.\d+(\.\d+)?)?$",
        description="Python that the newest version must run on; default: the environment's, else the worker's",
    )
    # A year: several makers (Django, Node) support a major version for about a year after its successor.
    major_days: float = Field(365, ge=0, description="days after which a newer major version is a warning")
    patience: dict[str, float] = Field(default_factory=dict, description="package -> days, where they differ")
    security_updates: Threshold = Field(Threshold(warning=0), description="Debian: security updates that wait")
    max_lists_days: float = Field(7, gt=0, description="days after which Debian's package lists say nothing any more")
    shown: int = Field(100, ge=1, le=1000, description="packages that get a finding of their own")


def observe(job: Job[DependenciesTarget, Settings]) -> Seen:
    """List the packages and ask what is newer."""
    settings = job.settings
    listed: Listed = job.tools.auditor.listed(job.target, Limits(own=settings.own))
    lookup = Lookup(
        transitive=settings.transitive,
        own=settings.own,
        python=settings.python,
        software=job.system.software,
        timeout=settings.timeout,
    )
    found = job.tools.outdated(job.target, listed, lookup)
    job.tools.log.info(
        "%d packages looked up: %d behind, %d not known", found.looked_up, len(found.newer), len(found.unknown)
    )
    return Seen(listed, found, job.tools.now())


def judge(job: Job[DependenciesTarget, Settings], seen: Seen) -> Judgement:
    """Say what is behind, for how long, and what could not be found out."""
    return _outdated_judge.judge(job, seen)
