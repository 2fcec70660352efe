"""Asks the ledger and the system files for what the record of a run does not hold."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from upkeep.core.errors import UpkeepError
from upkeep.ledger.record import RunRecord
from upkeep.ledger.store import Ledger
from upkeep.report.extras import PROOF_AREAS, Extras, Seen, SeriesKey, Stored
from upkeep.report.shelf import Proven
from upkeep.report.sparkline import POINTS

HISTORY_DAYS = 90
# Of each series, so many: what retention keeps of a series is rarely more.
BACKUPS = 60


def gather(ledger: Ledger, record: RunRecord, now: datetime) -> Extras:
    """Return the extras of a run; with the ledger away they are few, and say why."""
    systems = {r.system for r in record.routines} | {item.system for item in record.expected}
    titles, zones = _systems(systems)
    run = record.run.model_dump()
    keys = sorted({f.key(r.key.target, r.key.routine) for r in record.routines for f in r.findings})
    series = ledger.ask("series_of_run", days=HISTORY_DAYS, **run)
    seen = ledger.ask("first_seen", keys=keys)
    stored = ledger.ask("backups_of_run", **run)
    targets = sorted({r.key.target for r in record.routines if r.area in PROOF_AREAS})
    proofs = ledger.ask("backup_proofs", targets=targets, removed=False, id=None, tests=1, most=BACKUPS)
    away = series is None or seen is None or stored is None or proofs is None
    return Extras(
        now=now,
        titles=titles,
        zones=zones,
        series=_series(series or ()),
        first_seen={row["key"]: Seen(first=row["first_seen"], times=row["times"]) for row in seen or ()},
        stored={row["target"]: Stored(**{k: v for k, v in row.items() if k != "target"}) for row in stored or ()},
        proofs=_proofs(proofs or ()),
        ledger_away=(ledger.away_reason or "it did not answer") if away else "",
        rejected=ledger.spool.rejected,
    )


def _series(rows: Iterable[dict[str, Any]]) -> dict[SeriesKey, tuple[float, ...]]:
    return {
        (row["target"], row["routine"], row["name"], row["subject"]): tuple(row["values"][-POINTS:]) for row in rows
    }


def _proofs(rows: Iterable[dict[str, Any]]) -> dict[str, tuple[Proven, ...]]:
    found: dict[str, list[Proven]] = {}
    for row in rows:
        found.setdefault(row["target"], []).append(Proven.of(row))
    return {target: tuple(backups) for target, backups in found.items()}


def _systems(names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return titles and time zones; a system whose file cannot be read keeps its name, and UTC."""
    from upkeep.systems.load import load_all

    try:
        loaded = load_all(environ=None).systems
    except (UpkeepError, OSError):
        return {}, {}
    known = {name: loaded[name] for name in sorted(set(names)) if name in loaded}
    return {name: s.title for name, s in known.items()}, {name: s.timezone for name, s in known.items()}
