"""What verification looks at: the series of backups of a target, in every store that holds them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from upkeep.core.backup import Kind, Leftover, Manifest, Place, Stored, Tier, TreeManifest
from upkeep.core.catalogue import Entry
from upkeep.core.errors import DamagedError
from upkeep.core.job import Job
from upkeep.core.model import Model
from upkeep.core.targets import FileSetTarget
from upkeep.routines.backup import _canary, _common

# The first is the one that must be there; others count from their first backup on.
KINDS: dict[str, tuple[Kind, ...]] = {
    "postgres": ("dump", "physical"),
    "files": ("files",),
    "model": ("files",),
    "sqlite": ("sqlite",),
    "redis": ("redis",),
}


class Known(Model):
    """What the manifest of a backup says; `damage` when it cannot be read. `bytes`: what reading it in full reads."""

    id: str
    finished: datetime | None = None
    tier: Tier = "daily"
    content_sha256: str = ""
    writes: int = 0
    bytes: int = 0
    damage: str = ""


class Series(Model):
    """The backups of one series in one store, newest first, and what the newest ones say of themselves.

    `entries` are those on record that were not removed; None: the ledger is away. `copy`: another store than the
    target's own, of which the ledger keeps no record.
    """

    place: Place
    backups: tuple[Stored, ...]
    known: tuple[Known, ...] = ()
    entries: tuple[Entry, ...] | None = ()
    leftovers: tuple[Leftover, ...] = ()
    further: bool = False
    first: bool = True

    @property
    def label(self) -> str:
        """How findings call it: empty for what is usual, else by series and store."""
        return f"{self.place.series} in {self.place.store.url}" if self.further else self.place.series

    @property
    def subject(self) -> str:
        """The subject of its measurements: none for the usual series, so that its history goes on."""
        return "" if self.first else self.label

    @property
    def tier(self) -> Tier:
        """How often a backup is to be expected: the most frequent tier that there is."""
        tiers = {k.tier for k in self.known if not k.damage} | {e.tier for e in self.entries or ()}
        return next((t for t in _TIERS if t in tiers), "daily")


_TIERS: tuple[Tier, ...] = ("daily", "weekly", "monthly", "quarterly")


def begun(backup_id: str) -> datetime:
    """Return when a backup was begun, which its id tells.

    >>> begun("20261121T010000Z-00000000").isoformat()
    '2026-11-21T01:00:00+00:00'
    """
    return datetime.strptime(backup_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def places(job: Job[Any, Any]) -> Iterator[tuple[Place, bool]]:
    """Give every place of the target's backups, and whether it is that of further copies."""
    for kind in job.settings.kinds or KINDS[job.target.kind]:
        place = _common.place(job, kind)
        yield place, False
        if isinstance(job.target, FileSetTarget):
            for store in job.target.copies:
                yield place.model_copy(update={"store": store}), True


def look(job: Job[Any, Any]) -> tuple[Series, ...]:
    """List every series that there should be, and those that there are."""
    found = []
    for number, (place, further) in enumerate(places(job)):
        one = _series(job, place, further, number == 0)
        if one.backups or one.leftovers or number == 0 or further or job.settings.kinds:
            found.append(one)
    return tuple(found)


def _series(job: Job[Any, Any], place: Place, further: bool, first: bool) -> Series:
    archiver = _common.archiver(job)
    backups = _common.newest_first(job, place)
    patience = timedelta(hours=job.settings.sweep_after_hours)
    left = archiver.leftovers(place, job.run_id, patience)
    return Series(
        place=place,
        backups=backups,
        known=tuple(_known(job, place, b) for b in backups[: job.settings.constant_backups]),
        entries=() if further else _entries(job, place),
        leftovers=tuple(one for one in left if one.kind != "staging"),  # the next backup sweeps those
        further=further,
        first=first,
    )


def _entries(job: Job[Any, Any], place: Place) -> tuple[Entry, ...] | None:
    catalogue = job.tools.catalogue
    entries = catalogue.entries(place.target, place.kind)
    # Asked afterwards: only then was an empty answer an answer.
    return tuple(e for e in entries if e.removed_at is None) if catalogue.reachable else None


def _known(job: Job[Any, Any], place: Place, stored: Stored) -> Known:
    try:
        manifest = _common.archiver(job).manifest(place, stored.id)
    except DamagedError as error:
        return Known(id=stored.id, bytes=stored.size_bytes, damage=error.message)
    told = _canary.without(manifest) if isinstance(manifest, Manifest) else manifest
    return Known(
        id=stored.id,
        finished=manifest.finished,
        tier=manifest.tier,
        content_sha256=told.content_sha256,
        writes=told.writes if isinstance(told, Manifest) else 0,
        bytes=stored.size_bytes + (manifest.object_bytes if isinstance(manifest, TreeManifest) else 0),
    )
