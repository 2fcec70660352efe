"""Sweeps a folder of old cache files.

When it is red: look who fills the folder faster than this empties it.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from upkeep.core.cadence import Covers
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Judgement, Measurement, Outcome, OutcomeStatus, Plan, Severity
from upkeep.core.routine import RoutineSettings
from upkeep.core.targets import FileSetTarget

TITLE = "Cache sweep"
TARGETS = ("files",)
COVERS = Covers.NOW
ROLE = "sysadmin"


class Settings(RoutineSettings):
    """Settings of the sweep."""

    allowed: int = Field(1, ge=0, description="files that may stay")


def observe(job: Job[FileSetTarget, Settings]) -> list[Path]:
    """Return the files there are."""
    return sorted(Path(job.target.paths[0]).iterdir())


def judge(job: Job[FileSetTarget, Settings], seen: list[Path]) -> Judgement:
    """Judge their number."""
    measured = Measurement(name="cache.files", value=len(seen), unit="files")
    if len(seen) <= job.settings.allowed:
        return Judgement(measurements=(measured,))
    found = Finding(
        check="full",
        subject="cache",
        severity=Severity.WARNING,
        message=f"{len(seen)} files in the cache",
        observed=str(len(seen)),
        limit=str(job.settings.allowed),
        hint="they are swept now",
    )
    return Judgement(measurements=(measured,), findings=(found,))


def plan(job: Job[FileSetTarget, Settings], seen: list[Path]) -> Plan:
    """Plan to delete what is too much."""
    reason = "more files than allowed"
    extra = seen[job.settings.allowed :]
    return Plan(actions=tuple(Action(name="delete", subject=p.name, reason=reason) for p in extra))


def act(job: Job[FileSetTarget, Settings], action: Action) -> Outcome:
    """Delete one file."""
    (Path(job.target.paths[0]) / action.subject).unlink()
    return Outcome(status=OutcomeStatus.DONE, detail=f"deleted {action.subject}")
