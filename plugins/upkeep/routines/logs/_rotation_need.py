"""Which logs are to be rotated, and which rotated files compressed or deleted. Pure: given a look and the time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from upkeep.core.cadence import Window
from upkeep.core.logs import Rotation
from upkeep.core.rotation import LiveLog, RotatedFile
from upkeep.routines.database._text import byte_size
from upkeep.routines.logs._rotation_settings import Settings


@dataclass(frozen=True)
class Policy:
    """The target's policy with what a run adds to it."""

    rotation: Rotation
    settings: Settings
    now: datetime
    window: Window

    def over(self, age: timedelta, days: float) -> bool:
        """Tell whether an age reaches that of the policy, give or take the slack."""
        limit = timedelta(days=days)
        return age >= limit - min(timedelta(minutes=self.settings.slack_minutes), limit / 20)


@dataclass(frozen=True)
class Due:
    """Why a log is to be rotated."""

    why: Literal["size", "age", "asked"]
    words: str


def due(log: LiveLog, policy: Policy) -> Due | None:
    """Return why a log is to be rotated now, None when it is not. One that is empty or missing never is."""
    if not log.there or not log.size:
        return None
    if policy.settings.force:
        return Due("asked", "the setting `force` asks for it")
    return None if done_before(log, policy) else beyond(log, policy)


def beyond(log: LiveLog, policy: Policy) -> Due | None:
    """Return what of the policy a log has reached."""
    size, days, age = policy.rotation.size, policy.rotation.age_days, age_of(log, policy.now)
    if size is not None and log.size > size:
        return Due("size", f"it has {byte_size(log.size)}, policy {byte_size(size)}")
    if days is not None and age is not None and policy.over(age, days):
        return Due("age", f"its first line is {age / timedelta(days=1):.1f} days old, policy {days:g}")
    return None


def done_before(log: LiveLog, policy: Policy) -> bool:
    """Tell whether the log was rotated for this window already: a repeat of a run rotates nothing again."""
    return any(file.rotated is not None and file.rotated >= policy.window.end for file in log.rotated)


def age_of(log: LiveLog, now: datetime) -> timedelta | None:
    """Return the age of the first line; where nobody knows, it is at least that of the last."""
    began = log.since or log.modified
    return now - began if began else None


def ratio(log: LiveLog, policy: Policy) -> float:
    """Return how many times the size or age of the policy a log has reached."""
    size, days, age = policy.rotation.size, policy.rotation.age_days, age_of(log, policy.now)
    if not log.there or not log.size:
        return 0.0
    by_size = log.size / size if size else 0.0
    return max(by_size, age / timedelta(days=days) if days and age else 0.0)


def to_delete(log: LiveLog, policy: Policy, coming: int = 0) -> tuple[RotatedFile, ...]:
    """Return the rotated files that are too old or too many; of these the newest stay.

    :param coming: rotated files that will be there in a moment.
    """
    rotation = policy.rotation
    files = sorted(log.rotated, key=lambda f: (f.rotated or f.modified, f.name), reverse=True)
    # A file that lies there both plain and compressed is one file, and first to be made so; numbered ones never are.
    halves = {name for file in files if file.twin and not file.numbered for name in (file.name, f"{file.name}.gz")}
    whole = [file for file in files if file.name not in halves]
    kept = len(whole) if rotation.keep is None else max(rotation.keep - coming - len(halves) // 2, 0)
    old = rotation.delete_after_days
    return tuple(
        file
        for place, file in enumerate(whole)
        if place >= kept or (old is not None and policy.over(policy.now - file.modified, old))
    )


def to_compress(log: LiveLog, policy: Policy) -> tuple[RotatedFile, ...]:
    """Return the plain rotated files that are old enough and that nobody writes to any more."""
    gone = {file.name for file in to_delete(log, policy)}
    return tuple(
        file
        for file in log.rotated
        if not file.compressed and not file.numbered and file.name not in gone
        and not any(holder.writes for holder in file.holders)
        and (file.twin or policy.over(policy.now - file.modified, policy.rotation.compress_after_days))
    )  # fmt: skip


def still_written(log: LiveLog) -> tuple[RotatedFile, ...]:
    """Return the rotated files that a process still has open for writing."""
    return tuple(file for file in log.rotated if any(holder.writes for holder in file.holders))


def written_late(log: LiveLog, policy: Policy) -> RotatedFile | None:
    """Return the newest rotated file if somebody wrote to it long after it was rotated.

    In another container, or on another machine, there may be a writer that no look at processes shows.
    """
    newest = next((file for file in log.rotated if file.rotated is not None), None)
    if newest is None or newest.rotated is None or newest.compressed:
        return None
    patience = timedelta(seconds=policy.rotation.reopen.timeout, minutes=policy.settings.late_minutes)
    return newest if newest.modified > newest.rotated + patience else None
