"""What a SQLite database needs, and whether there is room for it: pure arithmetic over what was seen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from upkeep.core.job import Disk, Failed
from upkeep.core.model import Action, Plan
from upkeep.core.sqlite import SqlitePlace, SqliteTable
from upkeep.routines.database._sqlite_seen import Seen
from upkeep.routines.database._sqlite_settings import Settings
from upkeep.routines.database._text import byte_size

# "as much as twice the size of the original database file is required": https://www.sqlite.org/lang_vacuum.html
_VACUUM_ROOM = 2
# What must stay free for everybody else.
_SPARE = 1.05
_INCREMENTAL = 2
_CONTENT = re.compile(r"\bcontent\s*=\s*['\"]?([^'\",)\s]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Lack:
    """Less space than something needs."""

    where: str
    free: int
    wanted: int


@dataclass(frozen=True)
class Need:
    """The names of what is to be done, what cannot be for want of room, and what for want of rights."""

    actions: tuple[str, ...] = ()
    lacks: Mapping[str, Lack | Failed] = field(default_factory=dict)
    forbidden: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()


def need(seen: Seen, settings: Settings) -> Need:
    """Decide what to do. To a damaged database nothing is done at all: every write could destroy what can be saved."""
    place = seen.place
    if seen.trouble or place is None or seen.damaged or place.names > 1:
        return Need()
    stale = _stale(seen, settings)
    wanted = tuple(_wanted(seen, settings, stale))
    changes = tuple(name for name in wanted if name not in ("sweep", "copy", "remove"))
    forbidden = () if place.writable else changes
    lacks: dict[str, Lack | Failed] = {}
    for name in wanted:
        lack = _lack(name, seen)
        if lack and name not in forbidden:
            lacks[name] = lack
    # Without a copy to go back to, the file is not built anew.
    without = {*lacks, *forbidden, *({"vacuum"} if "copy" in lacks else ())}
    return Need(tuple(n for n in wanted if n not in without), lacks, forbidden, stale)


def missing_room(seen_bytes: int, disks: Mapping[str, Disk | Failed]) -> Lack | Failed | None:
    """Return why there is no room for VACUUM: beside the file, or where temporary files go."""
    return _short("the folder of the database", disks["folder"], _VACUUM_ROOM * seen_bytes) or _short(
        "the folder for temporary files", disks["temporary"], seen_bytes
    )


def plan(seen: Seen, settings: Settings, subject: str, keep_folder: str) -> Plan:
    """Return what is to be done, each with reason and undo."""
    needed = need(seen, settings)
    actions = (
        _action(name, seen, needed, settings, subject=subject, keep_folder=keep_folder) for name in needed.actions
    )
    return Plan(actions=tuple(actions))


def _wanted(seen: Seen, settings: Settings, stale: tuple[str, ...]) -> Iterator[str]:
    place = seen.place
    if seen.leftovers:
        yield "sweep"
    if place and place.hot:
        yield "recover"
    if settings.copies and (seen.size or (place and place.hot)):
        yield "copy"
        # One more may have been made by then; which are good is only known when they have been read.
        if len(seen.copies) >= settings.copies:
            yield "remove"
    if stale:
        yield "analyze"
    if seen.free_percent >= settings.vacuum_percent and seen.free_bytes >= settings.vacuum_bytes:
        yield "release" if seen.facts["auto_vacuum"] == _INCREMENTAL else "vacuum"
    if place and seen.facts.get("journal_mode") == "wal" and _log_matters(seen, place, settings):
        yield "checkpoint"


def _log_matters(seen: Seen, place: SqlitePlace, settings: Settings) -> bool:
    """Tell whether the log is large, or holds what makes the file smaller than it is."""
    return place.wal_bytes >= settings.wal_bytes or place.file_bytes > seen.size > 0


def _stale(seen: Seen, settings: Settings) -> tuple[str, ...]:
    tables = seen.tables if isinstance(seen.tables, list) else []
    return tuple(t.name for t in tables if t.indexes and _is_stale(t, settings))


def _is_stale(table: SqliteTable, settings: Settings) -> bool:
    if max(table.rows, table.analyzed or 0) < settings.analyze_rows:
        return False
    known = max(table.analyzed or 0, 1)
    growth = max(table.rows, 1) / known
    return table.analyzed is None or growth >= settings.analyze_factor or 1 / growth >= settings.analyze_factor


def _lack(name: str, seen: Seen) -> Lack | Failed | None:
    if name == "copy":
        size = max(seen.size, seen.place.file_bytes if seen.place else 0)
        return _short("the folder for copies", seen.disks["keep"], size)
    return missing_room(seen.size, seen.disks) if name == "vacuum" else None


def _short(where: str, disk: Disk | Failed, wanted: int) -> Lack | Failed | None:
    if isinstance(disk, Failed):
        return disk
    needed = int(wanted * _SPARE)
    return Lack(where, disk.free, needed) if disk.free < needed else None


def _action(name: str, seen: Seen, needed: Need, settings: Settings, *, subject: str, keep_folder: str) -> Action:
    free = f"{byte_size(seen.free_bytes)} of {byte_size(seen.size)} are free pages ({seen.free_percent:.0f} %)"
    reason, undo = {
        "sweep": (f"remove what a killed run left behind: {', '.join(seen.leftovers[:5])}", ""),
        "recover": ("a program was killed while it wrote; opening the file for writing rolls that back", ""),
        "copy": (f"keep a proved copy of {byte_size(seen.size)} in {keep_folder}", "remove the copy"),
        "remove": (f"{len(seen.copies)} copies lie there, {settings.copies} are to be kept", ""),
        "analyze": (
            f"no or stale statistics: {', '.join(needed.stale[:5])}",
            "DROP TABLE sqlite_stat1; the planner then guesses, as without statistics",
        ),
        "vacuum": (free, "put the copy of this run in the place of the file while no program has it open"),
        "release": (f"{free}; auto_vacuum is incremental", ""),
        "checkpoint": (_log(seen), ""),
    }[name]
    return Action(
        name=name,
        subject=subject,
        reason=reason,
        undo=undo,
        approval=_approval(seen) if name == "vacuum" else "",
        details=_details(name, seen, needed, settings),
    )


def _log(seen: Seen) -> str:
    wal, file = (seen.place.wal_bytes, seen.place.file_bytes) if seen.place else (0, 0)
    size = f"; it holds what makes the file {byte_size(seen.size)} instead of {byte_size(file)}"
    return f"the write-ahead log takes {byte_size(wal)}" + (size if file > seen.size else "")


def _details(name: str, seen: Seen, needed: Need, settings: Settings) -> dict[str, object]:
    match name:
        case "copy":
            return {"size_bytes": seen.size}
        case "analyze":
            return {"tables": list(needed.stale)}
        case "remove":
            return {"copies": [c.name for c in seen.copies]}
        case "vacuum":
            return {"size_bytes": seen.size, "free_bytes": seen.free_bytes, "needs_copy": settings.copies > 0}
        case "release":
            return {"pages": seen.facts["freelist_count"]}
    return {}


def _approval(seen: Seen) -> str:
    """Say why a person must agree to VACUUM: it may number rows anew that a search index knows by number."""
    tables = seen.tables if isinstance(seen.tables, list) else []
    loose = {t.name.lower() for t in tables if not t.keeps_rowids}
    risky = sorted(
        row["name"] for row in seen.searches for table in _CONTENT.findall(row["sql"]) if table.lower() in loose
    )
    if not risky:
        return ""
    return (
        f"VACUUM may change the rowids by which {', '.join(risky)} knows rows of a table without INTEGER PRIMARY KEY;"
        " rebuild it afterwards: INSERT INTO <name>(<name>) VALUES ('rebuild')"
    )
