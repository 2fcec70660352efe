"""What the catalogue routine makes of one series: on record, in the store, or not where it should be."""

from __future__ import annotations

from collections.abc import Iterable

from upkeep.core.backup import Place
from upkeep.core.catalogue import Entry
from upkeep.core.model import Finding, Judgement, Measurement, Model, Severity

_SHOWN = 5


class Series(Model):
    """One series of backups in one place: what is on record for it and what is there, both newest first.

    `copied`: it is not the target's own store but one with further copies. `unknown` is what the manifests say of those
    that are not on record (or not completely), `reread` the hashes of those that were read again, `damaged` why a
    manifest could not be read; all by backup id. `lost` was looked for twice; `proved` says whether a proved backup is
    left in any place.
    """

    place: Place
    copied: bool = False
    entries: tuple[Entry, ...]
    stored: tuple[str, ...]
    unknown: dict[str, Entry] = {}
    reread: dict[str, str] = {}
    damaged: dict[str, str] = {}
    lost: tuple[Entry, ...] = ()
    proved: bool = False

    @property
    def subject(self) -> str:
        """The series, and its store where that is not the target's own."""
        return f"{self.place.series} in {self.place.store.url}" if self.copied else self.place.series

    @property
    def present(self) -> tuple[Entry, ...]:
        """The backups on record that are in the store."""
        return tuple(entry for entry in self.entries if entry.id in set(self.stored))


def judge_series(series: Series) -> Judgement:
    """Count what there is, and say what is lost, altered, unreadable, torn from its chain, or was not on record."""
    kept = [e for e in series.entries if e.removed_at is None]
    counts = {"on_record": len(kept), "in_store": len(series.stored), "proved": sum(e.proved for e in series.present)}
    if not kept and not series.stored:
        return Judgement()
    found = (_lost_finding(series), _altered(series), _unreadable(series), _chain(series), _unrecorded(series))
    return Judgement(
        measurements=tuple(
            Measurement(name=f"catalogue.{name}", subject=series.subject, value=value, unit="backups")
            for name, value in counts.items()
        ),
        findings=tuple(finding for finding in found if finding),
    )


def _finding(series: Series, check: str, severity: Severity, said: str, hint: str) -> Finding:
    return Finding(
        check=check,
        subject=series.subject,
        severity=severity,
        message=f"{series.place.series} in {series.place.store.url}: {said}",
        hint=hint,
    )


def _lost_finding(series: Series) -> Finding | None:
    if not series.lost:
        return None
    only = any(entry.proved for entry in series.lost) and not series.proved
    last = "; none of those that are left is proved" if only else ""
    said = f"on record and not in the store, and nobody removed them: {names(e.id for e in series.lost)}{last}"
    hint = (
        f"make a new backup and verify it; then look at {series.lost[0].location}: lifecycle rules, who may delete"
        " there, whether the system file names another store than before"
    )
    return _finding(series, "lost", Severity.CRITICAL if only else Severity.WARNING, said, hint)


def _altered(series: Series) -> Finding | None:
    on_record = {e.id: e.manifest_sha256 for e in series.entries if e.manifest_sha256}
    differing = {i: seen for i, seen in series.reread.items() if on_record.get(i, seen) != seen}
    if not differing:
        return None
    first = next(iter(differing))
    said = (
        f"the manifest is not the one on record: {names(differing)} ({first}: seen SHA-256 {differing[first]},"
        f" expected {on_record[first]})"
    )
    hint = "do not restore from it; make a new backup, then look at who or what writes to the store"
    return _finding(series, "altered", Severity.CRITICAL, said, hint)


def _unreadable(series: Series) -> Finding | None:
    if not series.damaged:
        return None
    said = f"the manifest cannot be read: {names(series.damaged)} ({next(iter(series.damaged.values()))})"
    hint = "it cannot be restored; make a new backup, then look at who or what writes to the store"
    return _finding(series, "manifest", Severity.CRITICAL, said, hint)


def _chain(series: Series) -> Finding | None:
    parents = {e.id: e.parent for e in (*series.present, *series.unknown.values()) if e.parent}
    torn = [i for i, parent in parents.items() if parent not in set(series.stored)]
    if not torn:
        return None
    said = f"incremental to a backup that is not there, and worth nothing: {names(torn)}, to {parents[torn[0]]}"
    return _finding(series, "chain", Severity.CRITICAL, said, "make a full backup now")


def _unrecorded(series: Series) -> Finding | None:
    on_record = {e.id for e in series.entries}
    new = [i for i in series.unknown if i not in on_record]
    if not new:
        return None
    hint = "nothing to do: they are put on record; they count as unproved until they are verified"
    return _finding(series, "unrecorded", Severity.INFO, f"not on record: {names(new)}", hint)


def names(ids: Iterable[str]) -> str:
    """Name a few, and count the rest."""
    named = list(ids)
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return f"{', '.join(named[:_SHOWN])}{more}"
