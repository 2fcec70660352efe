"""The backups of a target with what proves each: the table of the report, and the page of one backup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, tzinfo
from typing import Any, NamedTuple

from upkeep.core.model import Model, Severity
from upkeep.report import human, restored
from upkeep.report.restored import Said, Test

SHOWN = 5


class Proven(Model):
    """One backup of the catalogue with what proves it; `tests` newest first. `total` counts its series."""

    @classmethod
    def of(cls, row: dict[str, Any]) -> Proven:
        """Read a row of the ledger; a test is what its evidence says."""
        tests = [restored.of_evidence(t["evidence"], datetime.fromisoformat(t["at"])) for t in row["tests"]]
        return cls(**{**row, "tests": tuple(tests)})

    target: str
    kind: str
    id: str
    tier: str = ""
    parent: str | None = None
    key_id: str = ""
    location: str = ""
    manifest_sha256: str = ""
    content_sha256: str = ""
    finished: datetime
    size_bytes: int | None = None
    source_bytes: int | None = None
    summary: dict[str, Any] = {}
    verified_at: datetime | None = None
    verified_ok: bool | None = None
    verification: dict[str, Any] | None = None
    tested_at: datetime | None = None
    tested_ok: bool | None = None
    removed_at: datetime | None = None
    removal: str | None = None
    total: int = 1
    tests: tuple[Test, ...] = ()


class Look(NamedTuple):
    """One look at a backup: what it showed, when, and more about it."""

    severity: Severity
    word: str
    at: human.Shown
    lines: tuple[Said, ...] = ()


class Held(NamedTuple):
    """One backup as a row."""

    target: str
    kind: str
    id: str
    about: str
    """Tier, parent and key, in words."""
    age: human.Shown
    size: human.Shown
    verified: Look | None
    tested: Look | None
    gone: str
    """When and why it was removed; empty while it is there."""


class Shelf(NamedTuple):
    """One series of backups."""

    target: str
    kind: str
    said: str
    rows: tuple[Held, ...]
    more: tuple[Held, ...]
    left: int
    """Backups that are only counted here."""


def shelves(backups: Iterable[Proven], now: datetime, zone: tzinfo, fold: int) -> tuple[Shelf, ...]:
    """Return the series of backups, each newest first: a few rows, and up to `fold` more to unfold."""
    series: dict[tuple[str, str], list[Proven]] = {}
    for backup in backups:
        series.setdefault((backup.target, backup.kind), []).append(backup)
    return tuple(_shelf(found, now, zone, fold) for _, found in sorted(series.items()))


def _shelf(found: Sequence[Proven], now: datetime, zone: tzinfo, fold: int) -> Shelf:
    rows = tuple(held(backup, now, zone) for backup in found[: SHOWN + fold])
    target, kind = found[0].target, found[0].kind
    return Shelf(target, kind, _totals(found), rows[:SHOWN], rows[SHOWN:], max(found[0].total - len(rows), 0))


def _totals(found: Sequence[Proven]) -> str:
    """Say how many there are and how far they are proved; of more than were read, only the newest are told of."""
    here = [b for b in found if b.removed_at is None]
    total = found[0].total
    whole, well = sum(b.verified_ok is True for b in here), sum(b.tested_ok is True for b in here)
    bad = sum(b.verified_ok is False or b.tested_ok is False for b in here)
    of = f"of the newest {len(found)}, " if total > len(found) else ""
    gone = len(found) - len(here)
    told = [f"{whole} read back and whole", f"{well} restored and well"]
    told += [f"{bad} not to be relied on"] if bad else []
    told += [f"{gone} removed"] if gone else []
    return f"{human.plural(total, 'backup')} on record; {of}{', '.join(told)}"


def held(backup: Proven, now: datetime, zone: tzinfo) -> Held:
    """Return one backup as a row."""
    about = [backup.tier, f"incremental to {backup.parent}" if backup.parent else ""]
    key = f"encrypted by key {backup.key_id}" if backup.key_id else "not encrypted"
    moment = human.moment(backup.finished, zone)
    age = human.duration(max((now - backup.finished).total_seconds(), 0)).text
    gone = f"removed {human.moment(backup.removed_at, zone).text}: {backup.removal}" if backup.removed_at else ""
    return Held(
        target=backup.target,
        kind=backup.kind,
        id=backup.id,
        about=", ".join(filter(None, (*about, key))),
        age=human.Shown(age, f"finished {moment.text}"),
        size=_size(backup),
        verified=_verified(backup, zone),
        tested=_tested(backup, zone),
        gone=gone.removesuffix(": "),
    )


def _size(backup: Proven) -> human.Shown:
    """Return how large a backup is; files are stored once for all backups, so there it is how large the source was."""
    if backup.kind == "files" and backup.source_bytes is not None:
        shown = human.size(backup.source_bytes)
        return human.Shown(shown.text, f"{shown.exact} of files; equal contents are stored once for all backups")
    return human.size(backup.size_bytes) if backup.size_bytes is not None else human.Shown("unknown")


def _verified(backup: Proven, zone: tzinfo) -> Look | None:
    if backup.verified_at is None:
        return None
    severity, word = (
        (Severity.OK, "whole") if backup.verified_ok else (Severity.CRITICAL, "not whole")
    ) if backup.verified_ok is not None else (Severity.UNKNOWN, "no result")  # fmt: skip
    return Look(severity, word, human.moment(backup.verified_at, zone))


def _tested(backup: Proven, zone: tzinfo) -> Look | None:
    if backup.tested_at is None:
        return None
    newest = backup.tests[0] if backup.tests else Test(ok=backup.tested_ok)
    severity, word = restored.word(newest)
    return Look(severity, word, human.moment(backup.tested_at, zone), tuple(restored.lines(newest)))


def looks(backup: Proven, zone: tzinfo) -> Iterator[Look]:
    """Yield every restore test of a backup, newest first."""
    for test in backup.tests:
        yield Look(*restored.word(test), human.moment(test.at, zone), tuple(restored.lines(test)))
