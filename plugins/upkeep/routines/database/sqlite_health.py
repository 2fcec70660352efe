"""Look a SQLite database file over, read-only: there, readable, unlocked, intact, quick.

**What it does.** Opens the file for reading, asks `SELECT 1` and the schema, runs `PRAGMA quick_check` within a time
budget (everything that integrity_check does but for comparing indexes with their tables), and measures size, free
pages and journal mode.

**Why.** A damaged page shows only when somebody reads it, and a writer that holds its lock stops the application.

**When it is red.**

- `reachable`: the file is missing or may not be read. Correct the path, or restore the newest verified backup.
- `integrity`: the file is damaged. Copy it away with its `-wal` and `-journal` before anything else touches it; restore
  the newest verified backup; `sqlite3 damaged.db .recover` saves what is left.
- `locked`: a program holds a lock and does not let go. End its transaction; never delete `-wal` or `-journal`.
- `journal_mode`: not the one that the system file asks for: readers and writers may block each other.
- `query_time`: the disk is slow, or the file lies on a network file system, which SQLite should not.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from upkeep.core.cadence import Covers
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError
from upkeep.core.job import Failed, Job, SqliteFile
from upkeep.core.model import Finding, Judgement, Severity, Threshold
from upkeep.core.routine import RoutineSettings
from upkeep.core.targets import SqliteTarget
from upkeep.routines.database._seen import judged, measured, percent, worst_by_key
from upkeep.routines.database._text import byte_size

TITLE = "SQLite health"
TARGETS = ("sqlite",)
COVERS = Covers.NOW
ROLE = "dba"
_MESSAGES = 5


class Settings(RoutineSettings):
    """What counts as healthy."""

    busy_timeout: float = Field(5, ge=0, le=60, description="seconds to wait for a writer that holds the file")
    check_seconds: float = Field(
        60, ge=0.001, le=3600, description="seconds that PRAGMA quick_check may take; it reads the whole file"
    )
    query_tries: int = Field(3, ge=1, le=50, description="how many times SELECT 1 is asked")
    query_time: Threshold = Field(
        Threshold(warning=50), description="ms, median of the tries of SELECT 1 (guide ST-D06: < 50 ms)"
    )
    free: Threshold = Field(
        Threshold(info=25), description="percent of the pages that are free; VACUUM gives them back (ours)"
    )
    journal_mode: Literal["delete", "truncate", "persist", "wal"] | None = Field(
        None, description="journal mode that the file must have; none: any (a restored copy easily loses wal)"
    )
    size: Threshold = Field(Threshold(), description="bytes of the file (no limit in any guide)")


@dataclass(frozen=True)
class Seen:
    """What one look at a file gave; what failed says why."""

    path: str
    trouble: Finding | None = None
    pings: tuple[float, ...] = ()
    facts: list[dict[str, Any]] | Failed = field(default_factory=list)
    check: list[dict[str, Any]] | Failed = field(default_factory=list)
    file_bytes: int = 0
    wal_bytes: int = 0


def observe(job: Job[SqliteTarget, Settings]) -> Seen:
    """Open the file and ask everything. A file that cannot be opened is an observation and no error."""
    path, settings = job.target.path, job.settings
    try:
        with job.tools.sqlite(path, busy_timeout=settings.busy_timeout) as file:
            return Seen(
                path=path,
                pings=_pings(file, settings),
                facts=file.ask("sqlite/facts", seconds=settings.busy_timeout + 1),
                check=file.ask("sqlite/quick_check", seconds=settings.check_seconds, most=_MESSAGES),
                file_bytes=_bytes(path),
                wal_bytes=_bytes(f"{path}-wal"),
            )
    except ConfigurationError as error:
        return Seen(path, _trouble("reachable", error.message, error.hint))
    except DamagedError as error:
        return Seen(path, _trouble("integrity", error.message, error.hint))
    except TransientError as error:
        return Seen(path, _trouble("locked", error.message, error.hint))


def judge(job: Job[SqliteTarget, Settings], seen: Seen) -> Judgement:
    """Judge what was seen."""
    if seen.trouble is not None:
        return Judgement(findings=(seen.trouble,))
    settings = job.settings
    findings = [*_speed(seen, settings), *_integrity(seen), *_failed(seen.path, "the file's facts", seen.facts)]
    return Judgement(findings=worst_by_key(findings)) + _sizes(seen, settings)


def _pings(file: SqliteFile, settings: Settings) -> tuple[float, ...]:
    times = []
    for _ in range(settings.query_tries):
        begun = time.perf_counter()
        if not isinstance(file.ask("sqlite/ping", seconds=settings.busy_timeout + 1), Failed):
            times.append((time.perf_counter() - begun) * 1000)
    return tuple(times)


def _bytes(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _trouble(check: str, message: str, hint: str, severity: Severity = Severity.CRITICAL) -> Finding:
    return Finding(check=check, subject="", severity=severity, message=message, hint=hint)


def _speed(seen: Seen, settings: Settings) -> tuple[Finding, ...]:
    if not seen.pings:
        return ()
    middle = statistics.median(seen.pings)
    return judged(
        "query_time",
        "",
        settings.query_time,
        middle,
        message=f"SELECT 1 takes {middle:.1f} ms (median of {len(seen.pings)})",
        hint="look at the disk; a SQLite file does not belong on a network file system",
        say="{:.1f} ms".format,
    )


def _integrity(seen: Seen) -> tuple[Finding, ...]:
    if isinstance(seen.check, Failed):
        return _failed(seen.path, "PRAGMA quick_check", seen.check)
    said = [str(row["message"]) for row in seen.check]
    if said == ["ok"]:
        return ()
    hint = "copy the file with its -wal and -journal away; then restore the newest verified backup"
    return (_trouble("integrity", f"{seen.path} is damaged: {'; '.join(said)[:500]}", hint),)


def _failed(path: str, what: str, answer: object) -> tuple[Finding, ...]:
    if not isinstance(answer, Failed):
        return ()
    message = f"{path}: {what}: {answer.message}"
    match answer.reason:
        case "damaged":
            found = _trouble(
                "integrity", message, "restore the newest verified backup; copy the damaged file away first"
            )
        case "locked":
            found = _trouble("locked", message, "end the program that holds the lock")
        case "gone":
            found = _trouble("reachable", message, "look at the disk and the kernel's log")
        case _:
            hint = "it ended at its time budget: raise `check_seconds`" if answer.reason == "timeout" else ""
            found = _trouble("integrity", f"could not be determined: {message}", hint, Severity.UNKNOWN)
    return (found,)


def _sizes(seen: Seen, settings: Settings) -> Judgement:
    numbers = (
        *measured("file.size", seen.file_bytes, "bytes"),
        *measured("wal.size", seen.wal_bytes, "bytes"),
        *measured("query_time.median", statistics.median(seen.pings) if seen.pings else None, "ms"),
    )
    findings = judged(
        "size",
        "",
        settings.size,
        seen.file_bytes,
        message=f"{seen.path} takes {byte_size(seen.file_bytes)}",
        hint="delete what is no longer needed, then VACUUM",
        say=byte_size,
    )
    for row in [] if isinstance(seen.facts, Failed) else seen.facts:
        free = row["freelist_count"] / max(row["page_count"], 1)
        numbers += measured("freelist.ratio", free, "1")
        numbers += measured("freelist.size", row["freelist_count"] * row["page_size"], "bytes")
        findings += judged(
            "free",
            "",
            settings.free,
            free * 100,
            message=f"{row['freelist_count']} of {row['page_count']} pages are free",
            hint="VACUUM gives them back; it needs as much free space as the file takes",
            say=percent,
        )
        findings += _journal(row["journal_mode"], settings.journal_mode)
    return Judgement(measurements=numbers, findings=findings)


def _journal(mode: str, wanted: str | None) -> tuple[Finding, ...]:
    if wanted in (None, mode):
        return ()
    found = Finding(
        check="journal_mode",
        subject="",
        severity=Severity.WARNING,
        message=f"journal mode is {mode}",
        observed=mode,
        limit=str(wanted),
        hint=f"PRAGMA journal_mode = {wanted}; while nobody else has the file open",
    )
    return (found,)
