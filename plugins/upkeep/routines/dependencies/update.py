"""Proposes the smallest safe updates of a target's manifests, and applies them once a person has agreed.

For every package with a known vulnerability that is fixed in some version it proposes the smallest version that none of
the advisories names any more. For packages of `security_packages` it also proposes the newest patch level. A resolver
is asked whether the new pins fit together. What a person sees before agreeing is the change of the file, line by line,
with the reason for each line; exactly that change is made, or none.

The change is made in the file (`apply: file`: the old one is kept beside it under a dated name) or on a branch of the
repository that the file lies in (`apply: branch`: nothing that is checked out changes). Then the target's `tests` run;
when they fail, the old file is put back, or there is no branch. Nothing is installed: deploying is the next release's
work. For npm the command is proposed or, with `npm_apply`, package.json and its lock as npm itself writes them.
Debian's security updates are proposed, and installed on yes, only where `debian_command` says how.

When it is not green:

- `advisories` (unknown): nobody can say what needs an update. See the routine `dependencies.audit`.
- `refused`: a vulnerable package that this cannot move (a range, an address, hashes that no index gives). By hand.
- `conflict`: the smallest safe versions do not fit together. The resolver's words say which package stands in the way.
- `branch_waits` (info): somebody agreed, and the branch is not merged yet. It is not proposed again while it is there.
- `no_manifest` (info): an environment or an image without a file that could be changed. Build it anew.
- `no_fix` (info): vulnerable, and no version without the fault exists yet. Watch it, or replace the package.
- `patches` (unknown): the index could not say whether security-critical packages have patches.
- `cut_off`: a worker died while the tests ran; the old file is put back by this run.

To undo an applied update: copy the kept file over the manifest, or delete the branch.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from upkeep.core.audit import Limits
from upkeep.core.cadence import Covers
from upkeep.core.dependencies import AdvisorySource
from upkeep.core.job import Job
from upkeep.core.model import Action, Judgement, Outcome, Plan
from upkeep.core.routine import RoutineSettings
from upkeep.core.targets import DependenciesTarget
from upkeep.routines.dependencies import _update_deeds, _update_judge, _update_plan, _update_seen
from upkeep.routines.dependencies._update_seen import Seen

TITLE = "Updates of dependencies"
TARGETS = ("dependencies",)
COVERS = Covers.NOW
ROLE = "sysadmin"


class Settings(RoutineSettings):
    """What is proposed, and how it is applied."""

    advisories: tuple[AdvisorySource, ...] = Field((), description="sources for targets that name none themselves")
    markers: dict[str, str] = Field(
        {}, description="PEP 508 variables of the environment meant; empty: every marked line counts"
    )
    own: tuple[str, ...] = Field((), description="packages of our own, of which no advisory can tell")
    request_seconds: float = Field(20, gt=0, le=300, description="seconds for one answer of a source of advisories")
    source_seconds: float = Field(300, gt=0, le=3600, description="seconds for all answers of such a source")
    content_age_days: float = Field(
        90, gt=0, description="days since the youngest advisory of a folder was changed: more is an old copy"
    )
    # ST-S05 names these three.
    security_packages: tuple[str, ...] = Field(
        ("cryptography", "requests", "urllib3"),
        description="packages whose newest patch level is proposed without any advisory; needs an index",
    )
    apply: Literal["file", "branch"] = Field(
        "file", description="change the file itself, or a branch of its repository"
    )
    resolve_seconds: float = Field(120, ge=1, le=1800, description="seconds for the resolver, for each manifest")
    index_seconds: float = Field(20, ge=1, le=300, description="seconds for one answer of the index")
    test_seconds: float = Field(1800, ge=1, le=14_400, description="seconds for the target's tests")
    npm_apply: bool = Field(
        False, description="npm: propose package.json and its lock as npm makes them anew (needs npm and the registry)"
    )
    debian_command: tuple[str, ...] = Field(
        (),
        description="command before the names of Debian packages (apt-get install --only-upgrade -y); default: none",
    )
    command_seconds: float = Field(1800, ge=10, le=14_400, description="seconds for that command")

    @property
    def limits(self) -> Limits:
        """What the auditor is told."""
        return Limits(
            markers=self.markers,
            own=self.own,
            request_seconds=self.request_seconds,
            source_seconds=self.source_seconds,
            content_age_days=self.content_age_days,
        )


def observe(job: Job[DependenciesTarget, Settings]) -> Seen:
    """Find out what is vulnerable, and what the manifests would have to become.

    :raises ConfigurationError: a source names a connection that does not exist.
    """
    return _update_seen.observe(job)


def judge(job: Job[DependenciesTarget, Settings], seen: Seen) -> Judgement:
    """Say what needs an update and cannot be proposed."""
    return _update_judge.judge(job, seen)


def plan(job: Job[DependenciesTarget, Settings], seen: Seen) -> Plan:
    """Propose one change for each manifest."""
    return _update_plan.plan(job, seen)


def act(job: Job[DependenciesTarget, Any], action: Action) -> Outcome:
    """Make the change that a person has agreed to."""
    return _update_deeds.act(job, action)
