"""Looks every package of a target up in the advisories of its sources and says what is known to be wrong with it.

**What it does.** It lists what the target holds (requirements files, locks and environments of Python, lock files of
npm, Debian packages, container images) without running, resolving or fetching any of it. It asks every source of
advisories: folders of OSV files, and services that speak OSV's API. Advisories that share a name are one vulnerability;
of what the databases say, the worst severity and the highest fixed version count. From what was read follows the
verdict: CLEAN, VULNERABLE, PARTIAL (nothing found, and something could not be looked at) or UNKNOWN (nothing could).
No exit code of any program takes part in it. The bill of materials is kept whenever something changed.

**Who is called.** A vulnerability that is new, that can be fixed since now, or that is past its due date is critical
when its severity is critical or high, else a warning. All others are on record with their due date and call nobody.

**When it is red.**

- `vulnerability`: update the package to the version in the hint (the routine `dependencies.update` proposes it), or
  have somebody answer for it for a while: `ignores` of the target, with owner, reason and `until`.
- `source`: a source is away, too old, damaged or knows nothing of the ecosystem. Nothing is known until it is back.
- `mirror` (unknown): a folder has lost a tenth of its advisories or more: a copy that was cut off.
- `unlisted`: a manifest has lines whose package or version cannot be known. Pin them, or audit the environment.
- `verdict`: packages of which no source said anything, or a target that holds no package at all.
- `ignore`: what somebody answered for is over and still there; the vulnerability counts again.
- `history`: without the ledger nobody can tell what is new.
- `open_ended` and `commits` only inform: what a manifest may not name, and what advisories leave open.
- `cross_check` (when asked for): pip-audit sees the same advisories otherwise, or could not look.

**What it cannot tell.** Whether the vulnerable code is used. What a requirements file without hashes brings along and
does not name. Advisories that name only commits of a repository; how many those are is said.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from upkeep.core.audit import Audited, CrossChecked
from upkeep.core.cadence import Covers
from upkeep.core.job import Job
from upkeep.core.model import Action, Judgement, Measurement, Outcome, OutcomeStatus, Plan
from upkeep.core.targets import DependenciesTarget
from upkeep.routines.dependencies import _audit_judge, _audit_trouble
from upkeep.routines.dependencies._audit_known import recall
from upkeep.routines.dependencies._audit_settings import Settings

TITLE = "Dependency audit"
TARGETS = ("dependencies",)
COVERS = Covers.NOW
ROLE = "security"

_MEDIA_TYPE = "application/vnd.cyclonedx+json; version=1.6"
_BILL = "bill.fingerprint"


@dataclass(frozen=True)
class Seen:
    """What was looked up, when, and what a second program said of it."""

    audited: Audited
    at: datetime
    crossed: CrossChecked | None = None

    @property
    def fingerprint(self) -> int:
        """A number that differs when packages or vulnerabilities do (48 bits: a float holds it exactly)."""
        packages = sorted((p.ecosystem, p.name, p.version, p.where) for p in self.audited.listed.packages)
        wrong = sorted(
            (v.package.name, v.package.version, v.id, v.fixed, v.rating) for v in self.audited.vulnerabilities
        )
        return int(hashlib.sha256(repr((packages, wrong)).encode()).hexdigest()[:12], 16)


def observe(job: Job[DependenciesTarget, Settings]) -> Seen:
    """List the packages and look them up.

    :raises ConfigurationError: a source names a connection that does not exist.
    """
    settings, auditor, now = job.settings, job.tools.auditor, job.tools.now()
    sources = job.target.advisories or settings.advisories
    listed = auditor.listed(job.target, settings.limits)
    audited = auditor.audited(listed, sources, settings.limits, now)
    job.tools.log.info(
        "%s: %d packages, %d vulnerabilities, %d not answered",
        audited.verdict,
        len(listed.packages),
        len(audited.vulnerabilities),
        len(audited.unanswered),
    )
    crossed = auditor.cross_checked(audited, sources, settings.limits) if settings.cross_check else None
    return Seen(audited, now, crossed)


def judge(job: Job[DependenciesTarget, Settings], seen: Seen) -> Judgement:
    """Say what is wrong, what of it is new or overdue, and what could not be looked at."""
    settings, audited = job.settings, seen.audited
    today = seen.at.astimezone(job.system.zone).date()
    known = recall(
        audited.vulnerabilities,
        history=job.tools.history,
        settings=settings,
        ignores=job.target.ignores,
        prefixed=job.target.ecosystem == "containers",
        now=seen.at,
        today=today,
    )
    judged = _audit_judge.judge_known(known, settings, remembers=job.tools.catalogue.reachable)
    findings = (
        *_audit_judge.judge_ignores(job.target.ignores, known, audited, today.isoformat()),
        *_audit_trouble.troubles(audited),
        *_audit_trouble.shrunk(audited, job.tools.history),
        *_audit_trouble.remarks(audited, whole=_whole(job.target, audited)),
        *_audit_trouble.crossed(seen.crossed, settings.cross_check),
    )
    measured = (*_audit_judge.counts(known, audited), *_audit_trouble.ages(audited, seen.at))
    return judged + Judgement(measurements=measured, findings=findings)


def _whole(target: DependenciesTarget, audited: Audited) -> bool:
    """Tell whether something is audited in which all that comes with a package is named: an environment, a lock."""
    return target.environment is not None or len(audited.listed.open_ended) < len(target.manifests)


def plan(job: Job[DependenciesTarget, Settings], seen: Seen) -> Plan:
    """Keep the bill of materials when it differs from the one kept last."""
    last = job.tools.history.last(_BILL)
    same = last is not None and last.value == seen.fingerprint
    if not job.settings.keep_bill or not seen.audited.listed.packages or same:
        return Plan()
    action = Action(
        name="record",
        subject="bill of materials",
        reason="packages or what is known of them changed since the last one was kept",
        details={"fingerprint": seen.fingerprint, "packages": len(seen.audited.listed.packages)},
    )
    return Plan(actions=(action,))


def act(job: Job[DependenciesTarget, Settings], action: Action) -> Outcome:
    """Hand the bill of materials to the ledger."""
    content = job.tools.auditor.bill(job.target.id)
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=f"CycloneDX 1.6 with {action.details['packages']} packages, {len(content)} characters",
        measurements=(Measurement(name=_BILL, value=float(action.details["fingerprint"]), unit="hash"),),
        evidence={
            "artefact": {
                "name": "sbom.cdx.json",
                "media_type": _MEDIA_TYPE,
                "sha256": hashlib.sha256(content.encode()).hexdigest(),
                "content": content,
            }
        },
    )
