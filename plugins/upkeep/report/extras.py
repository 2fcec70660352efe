"""What a report needs beside the record of its run, and what it amounts to."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from upkeep.core.model import Model
from upkeep.ledger.events import RunKey
from upkeep.report.shelf import Proven

PROOF_AREAS = ("backup", "recovery")
"""The areas whose part of the report shows the backups of their targets with their proof."""
SeriesKey = tuple[str, str, str, str]
"""Target, routine, name and subject of a measurement."""


class Seen(Model):
    """Since when a finding has been there, and in how many tries."""

    first: datetime
    times: int


class Stored(Model):
    """What the ledger's catalogue of backups says of one target."""

    kept: int
    """Backups on record."""
    newest_at: datetime
    proven_id: str = ""
    """The newest backup that was read back completely and found whole; empty when there is none."""
    proven_at: datetime | None = None
    """When that was."""


class Extras(Model):
    """What the record of a run does not know: names, time zones, history, and the state of the ledger.

    Every part may be empty, and the report says so; `now` is the moment of writing.
    """

    now: datetime
    titles: dict[str, str] = {}
    """Name of a system -> its title."""
    zones: dict[str, str] = {}
    """Name of a system -> its time zone; UTC where it is not known."""
    first_seen: dict[str, Seen] = {}
    """Key of a finding -> since when."""
    series: dict[SeriesKey, tuple[float, ...]] = {}
    """Kept values, oldest first, the run's own included."""
    stored: dict[str, Stored] = {}
    """Target -> its backups."""
    proofs: dict[str, tuple[Proven, ...]] = {}
    """Target -> its newest backups that are not removed, series by series, with what proves each."""
    ledger_away: str = ""
    """Why the ledger could not be asked; empty when it answered."""
    rejected: int = 0
    """Records that the ledger refused and that lie set aside on the worker's disk."""

    def zone(self, system: str) -> ZoneInfo:
        """Return the time zone of a system."""
        return ZoneInfo(self.zones.get(system, "UTC"))


class Report(Model):
    """A finished report, in both shapes."""

    run: RunKey
    html: str
    markdown: str
