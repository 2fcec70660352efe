"""What `database.sqlite_care` observes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upkeep.core.errors import ConfigurationError, DamagedError, TransientError
from upkeep.core.job import Disk, Failed, Job
from upkeep.core.model import Finding, Severity
from upkeep.core.sqlite import NotDone, SqliteBench, SqliteCopy, SqlitePlace, SqliteTable
from upkeep.core.targets import SqliteTarget
from upkeep.routines.database._sqlite_settings import Settings

_MESSAGES = 5
type Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Seen:
    """One look at a file. `trouble` says why there is nothing more to see."""

    path: str
    trouble: Finding | None = None
    place: SqlitePlace | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    check: Rows | NotDone = field(default_factory=list)
    orphans: Rows | NotDone = field(default_factory=list)
    tables: list[SqliteTable] | NotDone = field(default_factory=list)
    searches: Rows = field(default_factory=list)
    copies: tuple[SqliteCopy, ...] = ()
    spoilt: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    disks: Mapping[str, Disk | Failed] = field(default_factory=dict)

    @property
    def complaints(self) -> list[str]:
        """What integrity_check says is wrong."""
        said = [str(row["message"]) for row in self.check] if isinstance(self.check, list) else []
        return [] if said == ["ok"] else said

    @property
    def damaged(self) -> bool:
        """Whether the database itself says that it is damaged."""
        answers = (self.check, self.orphans, self.tables)
        return bool(self.complaints) or any(isinstance(a, NotDone) and a.reason == "damaged" for a in answers)

    @property
    def free_bytes(self) -> int:
        """Bytes in free pages."""
        return int(self.facts.get("freelist_count", 0) * self.facts.get("page_size", 0))

    @property
    def free_percent(self) -> float:
        """Share of the pages that are free."""
        return float(100 * self.facts.get("freelist_count", 0) / max(self.facts.get("page_count", 0), 1))

    @property
    def size(self) -> int:
        """Bytes of all pages, also of those that are still in the write-ahead log."""
        return int(self.facts.get("page_count", 0) * self.facts.get("page_size", 0))


def look(job: Job[SqliteTarget, Settings]) -> Seen:
    """Open the file and ask everything. A file that cannot be opened is an observation and no error."""
    path, workshop = job.target.path, job.tools.sqlite_work
    try:
        place = workshop.place(path)
        around = _around(job, place)
        if place.hot or place.names > 1:
            return Seen(path=path, place=place, **around)
        with workshop.open(place.path, busy_timeout=job.settings.busy_timeout) as file:
            return Seen(path=path, place=place, **around, **_ask(file, job.settings))
    except ConfigurationError as error:
        return Seen(path, _trouble("reachable", error.message, error.hint, Severity.CRITICAL))
    except DamagedError as error:
        return Seen(path, _trouble("integrity", error.message, error.hint, Severity.CRITICAL))
    except TransientError as error:
        return Seen(path, _trouble("locked", f"nothing could be looked at: {error.message}", error.hint))


def _trouble(check: str, message: str, hint: str, severity: Severity = Severity.UNKNOWN) -> Finding:
    return Finding(check=check, subject="", severity=severity, message=message, hint=hint)


def _around(job: Job[SqliteTarget, Settings], place: SqlitePlace) -> dict[str, Any]:
    keep = job.tools.sqlite_work.keep(job.target.id, job.settings.keep_folder)
    folders = {"folder": place.folder, "temporary": place.temporary, "keep": keep.volume}
    return {
        "copies": keep.copies(),
        "spoilt": keep.spoilt(),
        "leftovers": keep.leftovers(),
        "disks": {name: job.tools.disk(folder) for name, folder in folders.items()},
    }


def _ask(file: SqliteBench, settings: Settings) -> dict[str, Any]:
    seconds = settings.check_seconds
    facts = file.ask("sqlite/care", seconds=seconds)
    if isinstance(facts, NotDone):
        return {"check": facts}
    check = file.ask("sqlite/integrity_check", seconds=seconds, most=_MESSAGES)
    searches = file.ask("sqlite/searches", seconds=seconds)
    return {
        "facts": facts[0],
        "check": check,
        "orphans": file.ask("sqlite/foreign_keys", seconds=seconds) if facts[0]["foreign_keys"] else [],
        "tables": file.tables(seconds),
        "searches": searches if isinstance(searches, list) else [],
    }
