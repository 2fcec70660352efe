"""Compare the catalogue of backups with what lies in the store, and put on record what only the store knows.

**What it does.** It lists every series of backups of the target (for PostgreSQL dumps and physical backups) and reads
the manifests of those that are not on record, and of a few that are, in turn, so that in time each is compared with the
hash on record. What is not on record is put there, from the manifest alone: after a loss of the ledger one run of this
routine rebuilds the catalogue (not the proof: backups that were learnt count as unproved until they are verified). It
removes nothing and reads no backup beyond its manifest, so it costs a listing and a few small objects.

**When it is red.**

- `lost`: backups on record are not in the store, and nobody noted that they were removed. Look at the store's lifecycle
  rules, at who else may delete there, and whether the system file names another store than before. Critical when no
  proved backup is left: make a new one and verify it now.
- `altered`: a manifest is not the one that was written. Somebody or something writes to the store: do not restore from
  it, make a new backup elsewhere, look into the store's versions and access log.
- `manifest`: a backup's manifest cannot be read, so it cannot be restored. As with `altered`.
- `chain`: a backup is incremental to one that is not there any more, and is worth nothing. Make a full backup now.
- `ledger`: the ledger does not answer, so nothing could be compared. See to the connection `upkeep_ledger`.
- `unrecorded` (a note): backups were in the store and not on record; they are now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from pydantic import Field

from upkeep.core.backup import BaseManifest, Kind, Place
from upkeep.core.cadence import Covers, Window
from upkeep.core.catalogue import Entry
from upkeep.core.errors import DamagedError
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Judgement, Measurement, Model, Outcome, OutcomeStatus, Plan, Severity
from upkeep.core.routine import RoutineSettings
from upkeep.core.targets import FileSetTarget
from upkeep.routines.backup import _common
from upkeep.routines.backup._catalogue import Series, judge_series, names

TITLE = "Backup catalogue"
TARGETS = ("postgres", "files", "sqlite", "redis", "model")
COVERS = Covers.NOW
ROLE = "dba"
_KINDS: dict[str, tuple[Kind, ...]] = {
    "postgres": ("dump", "physical"),
    "files": ("files",),
    "model": ("files",),
    "sqlite": ("sqlite",),
    "redis": ("redis",),
}


class Settings(RoutineSettings):
    """How many manifests are compared with the record."""

    reread: int = Field(3, ge=0, le=1000, description="manifests on record that are read again in a run, in turn")


class Stock(NamedTuple):
    """One place: what is on record for it, and the complete backups that lie there, both newest first."""

    place: Place
    entries: tuple[Entry, ...]
    stored: tuple[str, ...]

    @property
    def present(self) -> tuple[Entry, ...]:
        """What is on record and there."""
        return tuple(e for e in self.entries if e.id in set(self.stored))

    @property
    def missing(self) -> tuple[Entry, ...]:
        """What is on record, not there, and was not removed."""
        return tuple(e for e in self.entries if e.removed_at is None and e.id not in set(self.stored))


class Seen(Model):
    """All series of the target; `away`: the ledger did not answer, and nothing was compared."""

    away: bool
    series: tuple[Series, ...] = ()


def observe(job: Job[Any, Settings]) -> Seen:
    """List the store, ask the record, and read the manifests that are needed."""
    if not job.tools.catalogue.reachable:
        return Seen(away=True)
    series = tuple(one for kind in _KINDS[job.target.kind] for one in _look(job, places(job, kind)))
    # Asked again: only with an answer now were the records above answers, and not the silence of a ledger that went.
    if not job.tools.catalogue.reachable:
        return Seen(away=True)
    return Seen(away=False, series=series)


def places(job: Job[Any, Settings], kind: Kind) -> tuple[Place, ...]:
    """Return where the target's backups of a kind lie: its own store first, then those that hold further copies."""
    first = _common.place(job, kind)
    copies = job.target.copies if isinstance(job.target, FileSetTarget) else ()
    return (first, *(first.model_copy(update={"store": store}) for store in copies))


def judge(job: Job[Any, Settings], seen: Seen) -> Judgement:
    """Say what is lost, altered, unreadable, or was not on record."""
    if seen.away:
        return Judgement(findings=(_ledger_away(job),))
    return sum((judge_series(series) for series in seen.series), Judgement())


def plan(job: Job[Any, Settings], seen: Seen) -> Plan:
    """Put on record what is only in the store."""
    return Plan(
        actions=tuple(
            Action(
                name="learn",
                subject=series.subject,
                reason=f"not on record, or not completely: {names(series.unknown)}",
                details={"backups": [entry.model_dump(mode="json") for entry in series.unknown.values()]},
            )
            for series in seen.series
            if series.unknown
        )
    )


def act(job: Job[Any, Settings], action: Action) -> Outcome:
    """Put the backups of one series on record; what is there already is completed and never overwritten."""
    entries = [Entry.model_validate(entry) for entry in action.details["backups"]]
    new = job.tools.catalogue.learn(entries)
    if not job.tools.catalogue.reachable:
        detail = f"the ledger is away: {len(entries)} backups go on record when it is back"
        return Outcome(status=OutcomeStatus.DONE, detail=detail)
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=f"{new} of {len(entries)} backups are new on record",
        measurements=(Measurement(name="catalogue.learnt", subject=action.subject, value=new, unit="backups"),),
    )


def _look(job: Job[Any, Settings], places: Sequence[Place]) -> Iterator[Series]:
    """Look at the backups of one kind in all places."""
    stocks = _stocks(job, places)
    missing = [e for stock in stocks for e in stock.missing]
    # Asked again where something is missing, for retention may be removing it just now.
    again = {e.id for stock in _stocks(job, places) for e in stock.missing} if missing else set()
    # Retention was killed before it could put on record what it had removed; its next run does that.
    again -= {note.id for place in places for note in _common.archiver(job).removals(place)} if again else set()
    proved = any(e.proved for stock in stocks for e in stock.present)
    for number, stock in enumerate(stocks):
        lost = tuple(e for e in stock.missing if e.id in again)
        yield _read(job, stock, lost, copied=number > 0, proved=proved)


def _stocks(job: Job[Any, Settings], places: Sequence[Place]) -> list[Stock]:
    """Ask the record, then list every place. What is nowhere belongs where the record says, else to the first place."""
    first = places[0]
    entries = job.tools.catalogue.entries(first.target, first.kind)
    stored = [tuple(s.id for s in _common.archiver(job).stored(place) if s.complete) for place in places]
    owned: list[list[Entry]] = [[] for _ in places]
    for entry in entries:
        there = [n for n, ids in enumerate(stored) if entry.id in set(ids)]
        named = [n for n, place in enumerate(places) if entry.location.startswith(f"{_folder(place)}/")]
        for n in there or named[:1] or [0]:
            owned[n].append(entry)
    return [Stock(place, tuple(own), ids) for place, own, ids in zip(places, owned, stored, strict=True)]


def _read(job: Job[Any, Settings], stock: Stock, lost: tuple[Entry, ...], *, copied: bool, proved: bool) -> Series:
    """Read the manifests of one place: of what is not on record, and of a few that are."""
    incomplete = {e.id for e in stock.entries if not (e.manifest_sha256 and e.content_sha256)}
    known = {e.id for e in stock.entries} - incomplete
    again = in_turn([i for i in stock.stored if i in known], job.settings.reread, job.window)
    manifests, damaged = _manifests(job, stock.place, [*(i for i in stock.stored if i not in known), *again])
    return Series(
        place=stock.place,
        copied=copied,
        entries=stock.entries,
        stored=stock.stored,
        unknown={i: _entry(stock.place, manifest) for i, manifest in manifests.items() if i not in known},
        reread={i: manifest.sha256 for i, manifest in manifests.items()},
        damaged=damaged,
        lost=lost,
        proved=proved,
    )


def in_turn(ids: Sequence[str], count: int, window: Window) -> tuple[str, ...]:
    """Choose `count` of the ids: the same window chooses the same, the next one goes on where it ended."""
    span = max(window.end - window.start, timedelta(days=1)).total_seconds()
    begin = int(window.end.timestamp() // span) * count
    return tuple(ids[(begin + n) % len(ids)] for n in range(min(count, len(ids))))


def _manifests(
    job: Job[Any, Settings], place: Place, ids: Iterable[str]
) -> tuple[dict[str, BaseManifest], dict[str, str]]:
    """Read manifests; return those that could be read, and why the others could not."""
    read: dict[str, BaseManifest] = {}
    damaged: dict[str, str] = {}
    for backup_id in ids:
        try:
            read[backup_id] = _common.archiver(job).manifest(place, backup_id)
        except DamagedError as error:
            damaged[backup_id] = error.message
    # One that was removed while we read cannot be read; it is neither damaged nor there.
    if damaged:
        there = {s.id for s in _common.archiver(job).stored(place) if s.complete}
        damaged = {i: why for i, why in damaged.items() if i in there}
    return read, damaged


def _folder(place: Place) -> str:
    return f"{place.store.url.rstrip('/')}/{place.series}"


def _entry(place: Place, manifest: BaseManifest) -> Entry:
    """Return what a manifest tells for the record."""
    return Entry(
        target=place.target,
        kind=place.kind,
        id=manifest.id,
        location=f"{_folder(place)}/{manifest.id}",
        finished=manifest.finished,
        tier=manifest.tier,
        parent=manifest.parent,
        key_id=manifest.key_id,
        size_bytes=manifest.size_bytes,
        manifest_sha256=manifest.sha256,
        content_sha256=manifest.content_sha256,
    )


def _ledger_away(job: Job[Any, Settings]) -> Finding:
    return Finding(
        check="ledger",
        subject=job.target.id,
        severity=Severity.UNKNOWN,
        message="the ledger does not answer, so the catalogue of backups could not be compared with the store",
        hint="see to the connection upkeep_ledger and its PostgreSQL, then run backup.catalogue again",
    )
