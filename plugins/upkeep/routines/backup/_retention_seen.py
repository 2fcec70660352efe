"""What retention looks at: each series of a target, in each of its stores, and what is decided on it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import Field

from upkeep.core.backup import Kind, Place, Removal
from upkeep.core.catalogue import Entry
from upkeep.core.errors import DamagedError
from upkeep.core.job import Job
from upkeep.core.model import Model
from upkeep.core.retention import TOLERANCE, Decision, Going, Rules, decide, forecast, taken
from upkeep.core.targets import FileSetTarget
from upkeep.routines.backup import _common

_KINDS: dict[str, tuple[Kind, ...]] = {
    "postgres": ("dump", "physical"),
    "files": ("files",),
    "model": ("files",),
    "sqlite": ("sqlite",),
    "redis": ("redis",),
}


class Settings(_common.SweepSettings):
    """Beside the counts, which stand under `retention` of the system."""

    share: float = Field(0.5, gt=0, le=1, description="part of a series above which a person must agree to a removal")
    young_hours: float = Field(48, ge=0, le=8760, description="hours for which nothing goes, wanted or not")
    evidence_days: float = Field(30, ge=0, le=3660, description="days for which a suspicious backup is kept")
    unproved_days: float = Field(
        8, gt=0, le=366, description="days without a newly proved backup after which a standstill is a warning"
    )
    grace_hours: float = Field(
        48, ge=1, le=8760, description="hours for which contents of file trees stay that no backup refers to"
    )
    review: bool = Field(False, description="also report what is kept for what, and what goes next, as a finding")


class Series(Model):
    """One series in one store. `entries` are whole, newest first, with what is on record of them.

    `notes` are those on removals: ended, begun, or never come to be.
    """

    place: Place
    copy_of_first: bool
    rules: Rules
    entries: tuple[Entry, ...]
    decision: Decision
    notes: tuple[Removal, ...] = ()
    unreadable: tuple[str, ...] = ()
    on_record: frozenset[str] = frozenset()
    told_gone: frozenset[str] = frozenset()
    next: tuple[Going, ...] = ()

    @property
    def name(self) -> str:
        """The series and its store, for people."""
        return f"{self.place.series} ({self.place.kind}) in {self.place.store.url}"

    @property
    def subject(self) -> str:
        """The series, and its store where it is not the first one."""
        return f"{self.place.series} in {self.place.store.url}" if self.copy_of_first else self.place.series

    @property
    def unfinished(self) -> tuple[Removal, ...]:
        """Removals that were cut off: files are left, or the ledger has not been told."""
        return tuple(
            note
            for note in self.notes
            if not note.whole and (note.objects or note.id in self.on_record - self.told_gone)
        )

    @property
    def settled(self) -> tuple[str, ...]:
        """Notes that have done their duty, or that lie beside a backup that is to stay."""
        open_ones = {*(note.id for note in self.unfinished), *self.decision.removal_order}
        return tuple(note.id for note in self.notes if note.id not in open_ones)


class Seen(Model):
    """All series of the target; `away`: the ledger did not answer, and nothing is known of any backup."""

    away: bool
    series: tuple[Series, ...] = ()


def places(job: Job[Any, Any]) -> tuple[Place, ...]:
    """Return where the target's backups lie: of each kind, and for files in each store."""
    first = tuple(_common.place(job, kind) for kind in _KINDS[job.target.kind])
    if not isinstance(job.target, FileSetTarget):
        return first
    return (*first, *(first[0].model_copy(update={"store": store}) for store in job.target.copies))


def look(job: Job[Any, Settings], place: Place) -> Series:
    """Ask the record, list the store and decide."""
    archiver, now = _common.archiver(job), job.tools.now()
    record = {e.id: e for e in job.tools.catalogue.entries(place.target, place.kind)}
    notes = archiver.removals(place)
    entries, unreadable = list[Entry](), list[str]()
    for there in archiver.stored(place):
        if not there.complete:
            continue
        entry = record.get(there.id) or _entry(job, place, there.id)
        if entry is None:
            unreadable.append(there.id)
            entry = Entry(**_facts(place, there.id), finished=there.modified, verified_ok=False)
        if not entries and entry.manifest_sha256 and not _as_recorded(job, place, entry):
            entry = entry.model_copy(update={"verified_ok": False, "verified_at": now})
        entries.append(entry.model_copy(update={"size_bytes": there.size_bytes}))
    rules = _rules(job, place)
    lost = _newest_lost(job, place, record, {e.id for e in entries} | {n.id for n in notes})
    return Series(
        place=place,
        copy_of_first=place.store != places(job)[0].store,
        rules=rules,
        entries=tuple(entries),
        decision=decide(entries, rules, now, frozenset(unreadable), lost),
        notes=notes,
        unreadable=tuple(unreadable),
        on_record=frozenset(record),
        told_gone=frozenset(i for i, e in record.items() if e.removed_at is not None),
        next=forecast(entries, rules, now) if job.settings.review else (),
    )


def _rules(job: Job[Any, Settings], place: Place) -> Rules:
    system, name = job.system, place.target.partition("/")[2]
    return Rules(
        retention=system.retention,
        timezone=system.timezone,
        holds=tuple(h for h in system.holds if h.target in (None, name)),
        young=timedelta(hours=job.settings.young_hours),
        evidence=timedelta(days=job.settings.evidence_days),
        lock=timedelta(days=place.store.lock_days or 0),
    )


def _facts(place: Place, backup_id: str) -> dict[str, Any]:
    location = f"{place.store.url.rstrip('/')}/{place.series}/{backup_id}"
    return {"target": place.target, "kind": place.kind, "id": backup_id, "location": location}


def _entry(job: Job[Any, Any], place: Place, backup_id: str) -> Entry | None:
    """Return what the manifest of a backup tells that is not on record; None when it cannot be read."""
    try:
        manifest = _common.archiver(job).manifest(place, backup_id)
    except DamagedError:
        return None
    told = {"finished": manifest.finished, "tier": manifest.tier, "parent": manifest.parent}
    return Entry(**_facts(place, backup_id), **told)


def _as_recorded(job: Job[Any, Any], place: Place, entry: Entry) -> bool:
    """Tell whether the newest backup, upon which the others may go, is still the one that was proved."""
    try:
        return _common.archiver(job).manifest(place, entry.id).sha256 == entry.manifest_sha256
    except DamagedError:
        return False


def _newest_lost(job: Job[Any, Any], place: Place, record: dict[str, Entry], known: set[str]) -> str:
    """Return why nothing may go, when the newest backup on record is not in the store: somebody else removes there."""
    stores = {p.store.url for p in places(job)}
    kept = [
        e.id
        for e in record.values()
        if e.removed_at is None
        and (len(stores) == 1 or e.location.startswith(f"{place.store.url.rstrip('/')}/{place.series}/"))
        and taken(e.id) <= job.tools.now() + TOLERANCE
    ]
    newest = max(kept, default="")
    return f"the newest backup on record, {newest}, is not in the store" if newest and newest not in known else ""
