"""What is read of a model's scoring data, and which profile it is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from upkeep.core.drift import Drifted, Profile, ProfileEntry, ProfileIndex, Stretch
from upkeep.core.errors import DamagedError
from upkeep.core.job import Job
from upkeep.core.targets import ModelTarget


@dataclass(frozen=True)
class Seen:
    """What one look gave. Without a profile nothing was compared; `damaged` says what is wrong with it."""

    index: ProfileIndex = field(default_factory=ProfileIndex)
    entry: ProfileEntry | None = None
    profile: Profile | None = None
    damaged: DamagedError | None = None
    features: tuple[str, ...] | None = None
    drifted: Drifted | None = None


def observe(job: Job[ModelTarget, Any]) -> Seen:
    """Compare the rows of the window with the profile that was current when it ended.

    :raises ConfigurationError: the data are described wrongly, or we may not read them.
    :raises TransientError: the database or the store is away.
    """
    if job.target.scoring is None:
        return Seen()
    drifts, where = job.tools.drifts, folder(job.target)
    features = features_of(job)
    try:
        index = drifts.index(where)
        entry = chosen(job, index)
        profile = drifts.load(where, entry) if entry else None
        _own(job, where, profile)
    except DamagedError as error:
        return Seen(damaged=error)
    if entry is None or profile is None:
        return Seen(index, features=features)
    columns = compared(job, profile, features)
    wanted = stretch(job, columns if features is not None else None)
    drifted = drifts.drifted(wanted, job.system, profile, columns)
    job.tools.log.info("%d rows compared with profile version %d", drifted.read.rows, entry.version)
    return Seen(index, entry, profile, None, features, drifted)


def _own(job: Job[ModelTarget, Any], where: str, profile: Profile | None) -> None:
    """See that a profile is this model's. :raises DamagedError: it is another one's."""
    if profile is not None and profile.target != job.target.id:
        raise DamagedError(
            f"{where} holds a profile of {profile.target}, expected one of {job.target.id}",
            "give each model a `profile` folder of its own, and build one for this model (model.profile)",
        )


def folder(target: ModelTarget) -> str:
    """Return where a model's profiles lie."""
    return target.profile or f"{target.path.rstrip('/')}/reference"


def features_of(job: Job[ModelTarget, Any]) -> tuple[str, ...] | None:
    """Return the model's features, None where nobody has named them."""
    target = job.target
    if target.features:
        return target.features
    return job.tools.drifts.features(f"{target.path.rstrip('/')}/{target.metadata}") if target.metadata else None


def chosen(job: Job[ModelTarget, Any], index: ProfileIndex) -> ProfileEntry | None:
    """Return the version that was current at the window's end, so that a backfill says what a run on time said.

    Only the newest window takes a profile that was made after it: whoever has just made the first one wants to see
    what it says.
    """
    found = index.at(job.window.end)
    if found is None and job.window.newest:
        return min(index.versions, key=lambda e: e.version, default=None)
    return found


def compared(job: Job[ModelTarget, Any], profile: Profile, features: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the columns to compare: features and answer; where nobody named them, all but times, which always move."""
    named = features if features is not None else tuple(n for n, c in profile.columns.items() if c.kind != "time")
    answer = job.target.prediction
    wanted = [*(n for n in named if n != answer), *([answer] if answer else [])]
    return tuple(n for n in wanted if n not in getattr(job.settings, "ignore", ()))


def stretch(job: Job[ModelTarget, Any], columns: tuple[str, ...] | None) -> Stretch:
    """Return the rows of the window."""
    assert job.target.scoring is not None
    return Stretch(
        source=job.target.scoring,
        start=job.window.start.astimezone(UTC),
        end=job.window.end.astimezone(UTC),
        columns=columns,
        statement_timeout=job.settings.statement_timeout,
    )
