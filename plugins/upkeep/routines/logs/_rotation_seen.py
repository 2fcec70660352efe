"""What one look at a target's log files gave, and how it is told."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime

from upkeep.core.job import Job
from upkeep.core.logs import Rotation, StrayFiles
from upkeep.core.rotation import LiveLog, LogFolder, NotDone, StrayFolder, unquoted
from upkeep.core.targets import LogSetTarget
from upkeep.routines.logs._rotation_need import Policy
from upkeep.routines.logs._rotation_settings import Settings

type LogJob = Job[LogSetTarget, Settings]


@dataclass(frozen=True)
class Seen:
    """The logs of the policy, and the stray files of each place that the system file names."""

    logs: LogFolder | NotDone | None = None
    strays: tuple[tuple[StrayFiles, StrayFolder | NotDone], ...] = ()

    @property
    def live(self) -> tuple[LiveLog, ...]:
        """The logs, none when they could not be listed."""
        return self.logs.logs if isinstance(self.logs, LogFolder) else ()


def look(job: LogJob) -> Seen:
    """Look at everything that the target names."""
    rotator, rotation = job.tools.rotator, job.target.rotation
    logs = rotator.look(rotation, zone(job)) if rotation else None
    now = job.tools.now()
    return Seen(logs=logs, strays=tuple((stray, rotator.strays(stray, now)) for stray in job.target.stray))


def look_at(job: LogJob, rotation: Rotation, name: str) -> LiveLog | None:
    """Look at one log again, as it is by now."""
    # By its path and not by the globs of the policy, which may mean thousands.
    only = rotation.model_copy(update={"live": (os.path.join(rotation.folder, unquoted(name)),)})  # noqa: PTH118
    seen = job.tools.rotator.look(only, zone(job))
    logs = seen.logs if isinstance(seen, LogFolder) else ()
    return next((log for log in logs if log.name == name), None)


def zone(job: LogJob) -> str:
    """Return the zone of times without an offset."""
    return job.target.time_zone or job.system.timezone


def policy(job: LogJob, rotation: Rotation) -> Policy:
    """Return the policy as it applies to this run."""
    return Policy(rotation, job.settings, job.tools.now(), job.window)


def moment(text: str | None) -> datetime | None:
    """Read a time that was written into an action's details."""
    return datetime.fromisoformat(text) if text else None
