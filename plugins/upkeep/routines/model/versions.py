"""Keeps dated copies of a model's files, so that every version that was in service can come back.

**What it does.** When the files differ from every copy there is, it makes one: `versions/<time>-<hash>/` in the
model's folder, with a manifest of hashes; written aside, flushed, read back, then renamed, so that a copy is whole or
not there. For pickles whose hash nothing vouches for it proposes (approval) to trust the copy: `model.health` loads
only such. It finishes what a killed worker left: a restore, or a retraining in the middle (the old files come back,
and what lay there is copied first). Old copies are removed only when `keep` says so; never those in service.

**Bringing a version back**, when the model gives wrong answers or does not load. Run it by hand with the setting
`rollback` set to a copy's name, or to `stable`: the newest trusted copy that is not in service. It asks first; what is
in service then is copied before. Without Airflow: copy the files of `versions/<name>/` over those in service. Then
restart the service.

**When it is red.**

- `copy`: it could not be made (the reason says: disk full, owner, a file that changes while it is read). Until it can
  be, a change of the model cannot be taken back.
- `damaged`: a copy is not as its manifest says. Look at the disk; remove the copy's folder.
- `approve` (a proposal): somebody put these files into service. If you know who and why, approve.
- `rollback`: the copy that is named does not exist, or nothing is known to be stable.
"""

from __future__ import annotations

from pydantic import Field

from upkeep.core.cadence import Covers
from upkeep.core.job import Job
from upkeep.core.model import Action, Judgement, Measurement, Outcome, Plan
from upkeep.core.routine import RoutineSettings
from upkeep.core.targets import ModelTarget
from upkeep.routines.model import _retraining_half as half
from upkeep.routines.model import _versions_deeds as deeds
from upkeep.routines.model._versions_seen import Seen, look

TITLE = "Model versions"
TARGETS = ("model",)
COVERS = Covers.NOW
ROLE = "ml"


class Settings(RoutineSettings):
    """What is kept, and what is brought back."""

    keep: int | None = Field(None, ge=2, description="copies that are kept; default: all of them")
    check_copies: int = Field(3, ge=0, description="newest copies that are read and compared with their manifests")
    rollback: str = Field("", description="copy to bring back into service, or `stable`; only in a run by hand")


def observe(job: Job[ModelTarget, Settings]) -> Seen:
    """Read the files in service and the copies."""
    return look(job, job.settings.check_copies)


def judge(job: Job[ModelTarget, Settings], seen: Seen) -> Judgement:
    """Measure the copies; tell which are damaged, and what cannot be brought back."""
    measured = (
        Measurement(name="versions.count", value=len(seen.kept), unit="count"),
        Measurement(name="versions.size", value=sum(v.size for v in seen.kept), unit="bytes"),
    )
    return Judgement(measurements=measured, findings=tuple(deeds.findings(seen, job.settings.rollback)))


def plan(job: Job[ModelTarget, Settings], seen: Seen) -> Plan:
    """Finish what was left in the middle; else copy, ask for trust, bring back, tidy up."""
    if seen.trial is not None:
        return Plan(actions=half.planned(job.target.id, seen.trial, seen.busy))
    return Plan(actions=tuple(deeds.planned(job.target.id, seen, job.settings.keep, job.settings.rollback)))


def act(job: Job[ModelTarget, Settings], action: Action) -> Outcome:
    """Do one of them."""
    if action.name == half.NAME:
        return half.put_back(job)
    return deeds.do(job, action)
