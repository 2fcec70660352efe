"""The candidate for a reference profile: from which data it is built, and how it differs from the present one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

from upkeep.core.drift import Drifted, Profile, Profiled, ProfileEntry, Stretch
from upkeep.core.errors import DamagedError
from upkeep.core.job import Job
from upkeep.core.targets import ModelTarget
from upkeep.routines.model import _drift_seen
from upkeep.routines.model._profile_settings import Settings

ProfileJob = Job[ModelTarget, Settings]


@dataclass(frozen=True)
class Seen:
    """What one look gave; `damaged` says what is wrong with the present profile, or, without `entry`, the index."""

    candidate: Profiled | None = None
    entry: ProfileEntry | None = None
    present: Profile | None = None
    drifted: Drifted | None = None
    damaged: DamagedError | None = None


def observe(job: ProfileJob) -> Seen:
    """Build a candidate, and compare its data with the present profile.

    :raises ConfigurationError: the data are described wrongly, or we may not read them.
    :raises TransientError: the database or the store is away.
    """
    if job.target.scoring is None:
        return Seen()
    wanted = stretch(job)
    candidate = job.tools.drifts.profiled(wanted, job.system, job.target.id)
    job.tools.log.info("candidate of %d rows, %d columns", candidate.profile.rows, len(candidate.profile.columns))
    where = _drift_seen.folder(job.target)
    entry = None
    try:
        entry = job.tools.drifts.index(where).current
        present = job.tools.drifts.load(where, entry) if entry else None
    except DamagedError as error:
        return Seen(candidate, entry, damaged=error)
    if entry is None or present is None or entry.sha256 == candidate.profile.sha256:
        return Seen(candidate, entry, present)
    columns = tuple(n for n, c in present.columns.items() if c.kind != "time")
    return Seen(candidate, entry, present, job.tools.drifts.drifted(wanted, job.system, present, columns))


def stretch(job: ProfileJob, start: datetime | None = None, end: datetime | None = None) -> Stretch:
    """Return the rows that the profile is built from.

    Whole calendar months, and not the window: what is agreed to days later is built anew from the same rows then.
    """
    assert job.target.scoring is not None
    if start is None or end is None:
        start, end = months(job)
    features = _drift_seen.features_of(job)
    columns = None
    if features is not None:
        answer = (job.target.prediction,) if job.target.prediction else ()
        columns = tuple(sorted({*features, *answer}))
    return Stretch(
        source=job.target.scoring,
        start=start,
        end=end,
        columns=columns,
        statement_timeout=job.settings.statement_timeout,
    )


def months(job: Job[Any, Settings]) -> tuple[datetime, datetime]:
    """Return from when to when (UTC) the data are taken."""
    zone, settings = job.system.zone, job.settings
    if settings.since and settings.until:
        first, last = settings.since, settings.until + timedelta(days=1)
    else:
        last = job.window.end.astimezone(zone).date().replace(day=1)
        months = last.year * 12 + last.month - 1 - settings.months
        first = last.replace(year=months // 12, month=months % 12 + 1)
    start, end = (datetime.combine(day, time(), zone).astimezone(UTC) for day in (first, last))
    return start, end
