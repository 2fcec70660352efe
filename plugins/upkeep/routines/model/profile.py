"""Build a new reference profile of a model's data, and propose it; it counts from when somebody has agreed.

**What it does.** It reads the scoring data of the last whole calendar months (or of `since` to `until`) once, with a
fixed amount of memory, and makes of each column what drift is measured against: a thousand quantiles of numbers, the
counts of categories. It compares the candidate with the present profile and proposes it, with rows, hash and a line a
column. On a yes it is built again from the same rows; only when its hash is the one that was agreed to, it is written
into the profile folder as the next version. Older versions are kept, and backfills use them.

**Why it asks.** What becomes the reference stops being drift. A profile of data that are already wrong hides just that.

**When it is red.**

- `rows`: too few for a reference. `unread`, `rows_lost`: files or rows that could not be read.
- `profile`: the present profile was altered on the disk. Restore the folder, or agree to the next version.
- The action was skipped because the data have changed since it was proposed (rows that came late): it is proposed again
  by the next run, or at once when `approved_changes` is triggered with this routine.

To undo it, make a profile of the old months: `since`, `until`. Nothing of the old version is lost.
"""

from __future__ import annotations

import json
from datetime import datetime

from upkeep.core.cadence import Covers
from upkeep.core.drift import Profile
from upkeep.core.model import Action, Finding, Judgement, Measurement, Outcome, OutcomeStatus, Plan, Severity
from upkeep.routines.model import _drift_gaps, _drift_judge, _profile_words
from upkeep.routines.model._drift_seen import folder
from upkeep.routines.model._profile_seen import ProfileJob, Seen, observe, stretch
from upkeep.routines.model._profile_settings import Settings

TITLE = "Reference profile"
TARGETS = ("model",)
COVERS = Covers.WINDOW
ROLE = "ml"
__all__ = ["Settings", "act", "judge", "observe", "plan", "verify"]
_ACTION = "keep_profile"


def judge(job: ProfileJob, seen: Seen) -> Judgement:
    """Judge the data that the candidate is built from, not whether it differs: that is the question to the person."""
    if job.target.scoring is None:
        return Judgement(findings=(_drift_gaps.no_data(job.target),))
    assert seen.candidate is not None
    limits = job.settings.as_drift()
    findings = [*_drift_gaps.of_reading(seen.candidate.read, limits)]
    few = _drift_gaps.too_few(seen.candidate.read, limits, "data of the profile")
    findings += [few] if few else _profile_words.weaknesses(seen.candidate.profile)
    if seen.damaged is not None:
        findings.append(_drift_gaps.altered(job.target, seen.damaged))
    rows = Measurement(name="profile.rows", value=seen.candidate.profile.rows, unit="rows")
    return Judgement(measurements=(rows,), findings=tuple(findings))


def plan(job: ProfileJob, seen: Seen) -> Plan:
    """Propose the candidate, unless it is the present profile, or not built from all the data."""
    if seen.candidate is None or seen.candidate.read.unread or seen.candidate.read.rows < job.settings.min_rows:
        return Plan()
    profile, entry = seen.candidate.profile, seen.entry
    # An index that cannot be read must be looked at first: which version would be the next, nobody knows.
    if (seen.damaged and not entry) or (not seen.damaged and entry and entry.sha256 == profile.sha256):
        return Plan()
    changed = _changed(job, seen)
    first = entry is None
    action = Action(
        name=_ACTION,
        subject=folder(job.target),
        reason=f"{profile.rows:,} rows of {_span(profile)}; "
        + (_compared(seen, entry.version, changed) if entry else "there is no profile yet"),
        undo="make a profile of the old months (`since`, `until`); older versions stay in the folder",
        approval=""
        if first and job.settings.first_without_approval
        else "what becomes the reference stops being drift: agree only when these data are as they should be",
        details=_profile_words.details(profile, changed),
    )
    return Plan(actions=(action,))


def act(job: ProfileJob, action: Action) -> Outcome:
    """Build the profile once more and keep it, when it is the one that was agreed to."""
    start, end = (datetime.fromisoformat(action.details[key]) for key in ("start", "end"))
    profile = job.tools.drifts.profiled(stretch(job, start, end), job.system, job.target.id).profile
    if profile.sha256 != action.details["oid"]:
        return Outcome(
            status=OutcomeStatus.SKIPPED,
            detail=f"the data of {_span(profile)} have changed meanwhile: {profile.rows:,} rows now,"
            f" {action.details['rows']:,} when it was planned; nothing was written",
        )
    entry = job.tools.drifts.keep(action.subject, profile, job.tools.now())
    text = profile.canonical().decode()
    artefact = {"name": entry.file, "media_type": "application/json", "sha256": entry.sha256, "content": text}
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=f"version {entry.version}, {entry.rows:,} rows, SHA-256 {entry.sha256}",
        measurements=(_drift_gaps.hash_of(entry),),
        evidence={"profile": json.loads(entry.model_dump_json()), "artefact": artefact},
    )


def verify(job: ProfileJob, seen: Seen, outcomes: tuple[Outcome, ...]) -> Judgement:
    """Read back what was written: it must be the current version, with the hash that was agreed to."""
    done = [o for o in outcomes if o.status is OutcomeStatus.DONE]
    if not done or seen.candidate is None:
        return Judgement()
    where = folder(job.target)
    entry = job.tools.drifts.index(where).current
    kept = job.tools.drifts.load(where, entry) if entry else None
    if kept == seen.candidate.profile:
        return Judgement()
    finding = Finding(
        check="profile",
        subject="written",
        severity=Severity.CRITICAL,
        message=f"{where}: the current profile is not the one that was just written",
        hint="somebody else writes there; look at the folder before the next run of model.drift",
    )
    return Judgement(findings=(finding,))


def _changed(job: ProfileJob, seen: Seen) -> tuple[Finding, ...]:
    """Return what the candidate's data would have been told of by model.drift."""
    if seen.drifted is None or seen.present is None or seen.entry is None:
        return ()
    judged = _drift_judge.judge(
        seen.drifted.columns, job.settings.as_drift(), job.target.prediction, seen.present, seen.entry.version
    )
    return tuple(f for f in judged.findings if f.severity.rank >= Severity.WARNING.rank)


def _compared(seen: Seen, version: int, changed: tuple[Finding, ...]) -> str:
    if seen.damaged:
        return f"version {version} cannot be read"
    said = "1 aspect differs" if len(changed) == 1 else f"{len(changed)} aspects differ"
    return f"{said} from version {version}"


def _span(profile: Profile) -> str:
    return f"{profile.start:%Y-%m-%d %H:%M} to {profile.end:%Y-%m-%d %H:%M} UTC"
