"""What `database.sqlite_care` makes of what it saw."""

from __future__ import annotations

from collections.abc import Iterator

from upkeep.core.job import Failed
from upkeep.core.model import Finding, Judgement, Measurement, Severity
from upkeep.core.sqlite import NotDone
from upkeep.routines.database._seen import measured, worst_by_key
from upkeep.routines.database._sqlite_need import Need
from upkeep.routines.database._sqlite_seen import Seen
from upkeep.routines.database._sqlite_settings import Settings
from upkeep.routines.database._text import byte_size

RESTORE = (
    "touch nothing: copy the file with its -wal and -journal away, restore the newest verified backup, and save what is"
    " newer with `sqlite3 damaged.db .recover`"
)


def judge(seen: Seen, need: Need, settings: Settings) -> Judgement:
    """Judge integrity and references, what is needed and cannot be done; measure sizes."""
    if seen.trouble:
        return Judgement(findings=(seen.trouble,))
    findings = [*_outside(seen), *_spoilt(seen), *_integrity(seen), *_references(seen), *_uncounted(seen)]
    if not seen.damaged:
        findings += [*_room(seen, need), *_rights(seen, need)]
    return Judgement(measurements=_sizes(seen), findings=worst_by_key(findings))


def _sizes(seen: Seen) -> tuple[Measurement, ...]:
    place = seen.place
    if place is None:
        return ()
    numbers = (
        *measured("file.size", place.file_bytes, "bytes"),
        *measured("wal.size", place.wal_bytes, "bytes"),
        *measured("copies.count", len(seen.copies), "copies"),
    )
    if not seen.facts:
        return numbers
    rows = sum(t.rows for t in seen.tables) if isinstance(seen.tables, list) else None
    return (
        *numbers,
        *measured("freelist.size", seen.free_bytes, "bytes"),
        *measured("freelist.ratio", seen.free_percent / 100, "1"),
        *measured("rows", rows, "rows"),
    )


def _outside(seen: Seen) -> Iterator[Finding]:
    place = seen.place
    if place is None:
        return
    if place.names > 1:
        yield Finding(
            check="links",
            subject="",
            severity=Severity.UNKNOWN,
            message=f"{place.path} has {place.names} names (hard links): a journal beside another name would be missed,"
            " so the file was not opened",
            observed=str(place.names),
            limit="1",
            hint="remove the other names; symbolic links are no trouble",
        )
    if place.hot:
        yield Finding(
            check="journal",
            subject="",
            severity=Severity.WARNING,
            message=f"{place.path}: a program was killed while it wrote, and its journal waits to be rolled back",
            hint="SQLite care opens the file for writing, which rolls it back; find out who killed the program",
        )


def _spoilt(seen: Seen) -> Iterator[Finding]:
    if seen.spoilt:
        yield Finding(
            check="copy",
            subject="",
            severity=Severity.WARNING,
            message=f"{len(seen.spoilt)} kept copies are not what they were when they were made:"
            f" {', '.join(seen.spoilt[:5])}",
            observed=str(len(seen.spoilt)),
            limit="0",
            hint="look at the disk and at who else writes there, then remove them; a good copy is made in their stead",
        )


def _integrity(seen: Seen) -> Iterator[Finding]:
    if isinstance(seen.check, NotDone):
        yield _failed(seen.path, "integrity", "PRAGMA integrity_check", seen.check)
    elif seen.complaints:
        yield damaged(f"{seen.path} is damaged: {'; '.join(seen.complaints)[:500]}")


def damaged(message: str) -> Finding:
    """Return the finding of a damaged database."""
    return Finding(check="integrity", subject="", severity=Severity.CRITICAL, message=message, hint=RESTORE)


def _failed(path: str, check: str, what: str, why: NotDone) -> Finding:
    if why.reason == "damaged":
        return damaged(f"{path} is damaged: {what}: {why.message}")
    hint = {
        "timeout": "raise `check_seconds`; the copy is checked too, and within `copy_seconds`",
        "locked": "end the program that holds the lock; it is looked at again in the next run",
    }.get(why.reason, "read it with the sqlite3 program; the file may need an extension that the application loads")
    message = f"could not be determined: {path}: {what}: {why.message}"
    return Finding(check=check, subject="", severity=Severity.UNKNOWN, message=message, hint=hint)


def _references(seen: Seen) -> Iterator[Finding]:
    if isinstance(seen.orphans, NotDone):
        yield _failed(seen.path, "foreign_key", "PRAGMA foreign_key_check", seen.orphans)
        return
    for row in seen.orphans:
        yield Finding(
            check="foreign_key",
            subject=f"{row['child']} -> {row['parent']}",
            severity=Severity.WARNING,
            message=f"{row['orphans']} rows of {row['child']} point to rows of {row['parent']} that do not exist",
            observed=str(row["orphans"]),
            limit="0",
            hint=f"list them with PRAGMA foreign_key_check('{row['child']}'); SQLite enforces references only in"
            " connections that say PRAGMA foreign_keys = on",
        )


def _uncounted(seen: Seen) -> Iterator[Finding]:
    if isinstance(seen.tables, NotDone):
        yield _failed(seen.path, "statistics", "counting rows", seen.tables)


def _room(seen: Seen, need: Need) -> Iterator[Finding]:
    for what, lack in need.lacks.items():
        failed = isinstance(lack, Failed)
        yield Finding(
            check="room",
            subject=what,
            severity=Severity.UNKNOWN if failed else Severity.WARNING,
            message=f"could not be determined: free space: {lack.message}"
            if isinstance(lack, Failed)
            else f"no room for {what}: {byte_size(lack.free)} are free in {lack.where}, expected"
            f" {byte_size(lack.wanted)}",
            observed="" if isinstance(lack, Failed) else byte_size(lack.free),
            limit="" if isinstance(lack, Failed) else byte_size(lack.wanted),
            hint="make room there"
            + (
                "; `keep_folder` names another place"
                if what == "copy"
                else "; SQLITE_TMPDIR names another place for it"
            ),
        )


def _rights(seen: Seen, need: Need) -> Iterator[Finding]:
    if need.forbidden and seen.place:
        yield Finding(
            check="privilege",
            subject="",
            severity=Severity.WARNING,
            message=f"{seen.place.path} needs {', '.join(need.forbidden)}, and this user may not write to it or"
            " its folder",
            hint="let the user that runs maintenance write to the file and its folder",
        )
