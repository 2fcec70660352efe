"""What `database.reindex` makes of what it saw: which indexes it rebuilds or drops, which not, and why."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from upkeep.core.model import Action, Finding, Severity
from upkeep.routines.database._bloat import Bloat, told
from upkeep.routines.database._reindex_seen import Index, Seen, Space, is_bloated
from upkeep.routines.database._reindex_settings import Settings
from upkeep.routines.database._text import byte_size, quoted, span

REBUILD, REBUILD_BLOCKING, DROP_LEFTOVER, DROP_INVALID = "reindex", "reindex_blocking", "drop_leftover", "drop_invalid"
DROPS = (DROP_LEFTOVER, DROP_INVALID)
# A build that failed early has few pages or none; its table bounds what it will need (ours: a third).
_UNBUILT_SHARE = 3


# Until then a concurrent build could miss rows updated meanwhile: https://www.postgresql.org/docs/release/14.4/
_UNSAFE_SERVERS = range(140_000, 140_004)


@dataclass(frozen=True)
class Choice:
    """What is to become of one index: an action, or the finding that says why there is none."""

    index: Index
    action: Action | None = None
    finding: Finding | None = None


def choose(seen: Seen, settings: Settings) -> list[Choice]:
    """Return the choices in the order of work: leftovers first (that frees space), then by wasted bytes."""
    invalid = [choice for index in seen.indexes if not index.valid for choice in _invalid(index, seen, settings)]
    changed = _by_index(seen.collations)
    valid = sorted((i for i in seen.indexes if i.valid), key=lambda i: (-_wasted(seen, i), i.name))
    rebuilt = [c for i in valid for c in _valid(i, changed.get(i.oid, ()), seen, settings)]
    if is_unsafe(seen):
        rebuilt, invalid = [], [c for c in invalid if c.action is None or c.action.name in DROPS]
    order = [DROP_LEFTOVER, REBUILD, REBUILD_BLOCKING, DROP_INVALID]
    return sorted(rebuilt + invalid, key=lambda c: order.index(c.action.name) if c.action else -1)


def is_unsafe(seen: Seen) -> bool:
    """Tell whether this server's concurrent builds are known to make damaged indexes."""
    return seen.version in _UNSAFE_SERVERS


def _valid(index: Index, collations: Sequence[Mapping[str, Any]], seen: Seen, settings: Settings) -> Iterator[Choice]:
    """Rebuild what is bloated, and propose to rebuild what is sorted by rules that have changed."""
    changed = [c for c in collations if seen.rebuilt_for.get(index.name) != mark(c["actual"])]
    bloat = seen.bloat.get(index.oid)
    bloated = bloat is not None and is_bloated(bloat, settings)
    if not (bloated or changed) or index.building:
        return
    reasons = [f"{told(bloat)} is empty"] if bloated and bloat else []
    reasons += [f"sorted by version {c['recorded']} of {c['collation']}, which is {c['actual']} now" for c in changed]
    approval = ["what is sorted by old rules may hold duplicates, over which the rebuild fails"] if changed else []
    details: dict[str, Any] = {"collation": mark(changed[0]["actual"])} if changed else {}
    yield _rebuild(index, seen, settings, reasons=reasons, approval=approval, details=details)


def _rebuild(
    index: Index,
    seen: Seen,
    settings: Settings,
    *,
    reasons: Sequence[str],
    approval: Sequence[str],
    details: dict[str, Any],
) -> Choice:
    bloat = seen.bloat.get(index.oid)
    fresh, seconds = _expected(index, bloat, seen, settings)
    needed = need(fresh)
    space = Space(None, why="it lies in a tablespace of its own") if index.elsewhere else seen.space
    if not index.may_rebuild:
        return Choice(index, finding=_forbidden(index, "rebuild", seen))
    if (lacking := no_room(index.name, needed, space, settings)) is not None:
        return Choice(index, finding=lacking)
    if seconds > settings.time_budget_minutes * 60:
        return Choice(index, finding=_too_long(index, seconds, settings))
    why = [*approval, *_reservations(index, needed, seconds, space, settings)]
    return Choice(
        index,
        Action(
            name=REBUILD_BLOCKING if index.exclusion else REBUILD,
            subject=index.name,
            reason="; ".join(reasons),
            approval="; ".join(why),
            details=_details(index)
            | {
                "bytes": index.bytes,
                "wasted_bytes": bloat.wasted_bytes if bloat else None,
                "bloat": bloat.how if bloat else "unknown",
                "need_bytes": needed,
                "work_bytes": index.heap_bytes + fresh,
                "expected_seconds": round(seconds, 1),
                "fillfactor": bloat.fillfactor if bloat else None,
                "measured_by": seen.tool.schema if bloat and bloat.how == "measured" else None,
                "elsewhere": index.elsewhere,
            }
            | details,
        ),
    )


def _reservations(index: Index, needed: int, seconds: float, space: Space, settings: Settings) -> Iterator[str]:
    """Yield why a person must agree first."""
    takes = f"it is {byte_size(index.bytes)} and will take about {span(seconds)}"
    if index.exclusion:
        yield (
            f"an index of an exclusion constraint cannot be rebuilt concurrently: all writes to {index.table_name}, and"
            f" what reads by this index, wait until it is done; {takes}"
        )
    elif index.bytes > settings.large_bytes:
        yield (
            f"{takes} and {byte_size(needed)} of disk; reads and writes go on, but vacuum and changes to the definition"
            f" of {index.table_name} wait"
        )
    if space.free is None and needed > settings.unknown_space_bytes:
        yield f"it needs {byte_size(needed)} of disk, and whether that is free is unknown: {space.why}"


def _invalid(index: Index, seen: Seen, settings: Settings) -> Iterator[Choice]:
    """Drop the leftover of a rebuild; of somebody's failed build only propose what may be done."""
    if index.building:
        return
    if index.definition is None:
        yield Choice(index, finding=_locked(index))
        return
    if index.is_leftover:
        reason = f"a broken concurrent rebuild of {index.base} left it; it costs every write and serves no query"
        yield _drop(index, DROP_LEFTOVER, reason, "", seen)
        return
    yield Choice(index, finding=_failed_build(index))
    asks = "an application's own build failed here: agree to its rebuild or to its removal, not to both"
    if index.constrained:
        asks = "it belongs to a constraint"
    elif index.may_drop:
        yield _drop(index, DROP_INVALID, "nothing can use it, and it is not a leftover of a rebuild", asks, seen)
    yield _rebuild(index, seen, settings, reasons=["it is invalid: no query may use it"], approval=[asks], details={})


def _drop(index: Index, name: str, reason: str, approval: str, seen: Seen) -> Choice:
    if not index.may_drop:
        return Choice(index, finding=_forbidden(index, "drop", seen))
    undo = f"{index.definition};"
    action = Action(name=name, subject=index.name, reason=reason, undo=undo, approval=approval, details=_details(index))
    return Choice(index, action)


def _details(index: Index) -> dict[str, Any]:
    return {
        "schema": index.schema,
        "index": index.index,
        "table_schema": index.table_schema,
        "table": index.table,
        "oid": index.oid,
        "table_oid": index.table_oid,
        "valid": index.valid,
        "definition": index.definition,
    }


def _expected(index: Index, bloat: Bloat | None, seen: Seen, settings: Settings) -> tuple[int, float]:
    """Return the bytes of the new index, and the seconds that it will take: reading the table, writing the index."""
    wasted = (bloat.wasted_bytes if bloat else None) or 0
    fresh = index.bytes - wasted if index.valid else max(index.bytes, index.heap_bytes // _UNBUILT_SHARE)
    rate = seen.rate(index.name, settings.assumed_rate)
    return fresh, (index.heap_bytes + fresh) / rate * settings.estimate_factor


def need(fresh: int) -> int:
    """Return the bytes of disk that a rebuild takes at its worst: the new index, the files of its sort, and its WAL."""
    return 3 * fresh


def no_room(name: str, needed: int, space: Space, settings: Settings) -> Finding | None:
    """Return the finding when a rebuild would leave too little free; None when it fits or nobody knows."""
    if space.free is None:
        return None
    kept = round(space.total * settings.keep_free_percent / 100)
    if needed <= space.free - kept:
        return None
    return Finding(
        check="space",
        subject=name,
        severity=Severity.WARNING,
        message=f"{name} is not rebuilt: it needs {byte_size(needed)} (new index, sort, WAL), and of the"
        f" {byte_size(max(space.free, 0))} that are free {byte_size(kept)} are to stay so",
        observed=byte_size(max(space.free, 0)),
        limit=byte_size(needed + kept),
        hint="make room or enlarge the volume; if space is freed elsewhere, correct `volume` of the system file",
    )


def _too_long(index: Index, seconds: float, settings: Settings) -> Finding:
    return Finding(
        check="time",
        subject=index.name,
        severity=Severity.WARNING,
        message=f"{index.name} is not rebuilt: it would take about {span(seconds)}, longer than the time budget of"
        f" {span(settings.time_budget_minutes * 60)}",
        hint="raise `time_budget_minutes` of database.reindex for one run, in a window that is long enough",
    )


def _failed_build(index: Index) -> Finding:
    return Finding(
        check="invalid",
        subject=index.name,
        severity=Severity.WARNING,
        message=f"index {index.name} of {index.table_name} is invalid: a concurrent build of it failed, no query may"
        " use it, and writes may still pay for it",
        hint="find out who needs it; its rebuild is proposed"
        + ("" if index.constrained else f", and so is: DROP INDEX CONCURRENTLY {quoted_name(index)};"),
    )


def _locked(index: Index) -> Finding:
    return Finding(
        check="locked",
        subject=index.name,
        severity=Severity.UNKNOWN,
        message=f"what the invalid index {index.name} is, and whether it may go, is unknown: its table"
        f" {index.table_name} is locked exclusively",
        hint="SELECT * FROM pg_locks WHERE mode = 'AccessExclusiveLock'; the next run looks again",
    )


def _forbidden(index: Index, what: str, seen: Seen) -> Finding:
    owner, role = quoted(index.owner), quoted(seen.role)
    grant = f"GRANT {owner} TO {role};"
    if what == "rebuild" and seen.version >= 170_000:
        grant = f"GRANT MAINTAIN ON TABLE {quoted(index.table_schema)}.{quoted(index.table)} TO {role}; or {grant}"
    return Finding(
        check="privilege",
        subject=f"{what} {index.name}",
        severity=Severity.UNKNOWN,
        message=f"role {seen.role} may not {what} {index.name}, which belongs to role {index.owner}",
        hint=f"{grant} or name a role that may in `maintenance_conn_id`",
    )


def quoted_name(index: Index) -> str:
    """Return an index's name with all its quotes."""
    return f"{quoted(index.schema)}.{quoted(index.index)}"


def mark(version: str) -> float:
    """Return a number that stands for a collation's version in the ledger, whose measurements are numbers."""
    return float(zlib.crc32(version.encode()))


def _wasted(seen: Seen, index: Index) -> int:
    bloat = seen.bloat.get(index.oid)
    return (bloat.wasted_bytes if bloat else None) or 0


def _by_index(rows: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    found: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["oid"], []).append(row)
    return found
