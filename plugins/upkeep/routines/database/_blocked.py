"""Who waits for whom: sessions that wait for locks as trees, each below its root blocker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from upkeep.core.model import Finding, Judgement
from upkeep.core.sql_text import without_literals
from upkeep.routines.database._seen import Row, Seen, judged, measured, worst_by_key
from upkeep.routines.database._settings import Settings
from upkeep.routines.database._text import span

_LINES = 12
Sessions = Mapping[int, Row]


def judge(seen: Seen, settings: Settings) -> Judgement:
    """Judge the trees: one finding for each kind of root blocker."""
    sessions: dict[int, Row] = {row["pid"]: row for row in seen.rows("blocked")}
    waiting = [row for row in sessions.values() if row["blocked_by"]]
    found: list[Finding] = []
    for root in roots(sessions):
        found += _finding(root, sessions, settings)
    longest = max((row["wait_seconds"] for row in waiting), default=0.0)
    counted = measured("locks.waiting", len(waiting), "sessions") + measured("locks.longest_wait", longest, "s")
    return Judgement(measurements=counted if "database/blocked" in seen.answers else (), findings=worst_by_key(found))


def roots(sessions: Sessions) -> list[int]:
    """Return those who block and do not wait; of a ring of waiters, which is a deadlock, the least id.

    >>> roots({1: {"blocked_by": []}, 2: {"blocked_by": [1]}, 3: {"blocked_by": [2]}})
    [1]
    >>> roots({7: {"blocked_by": [8]}, 8: {"blocked_by": [7]}})
    [7]
    """
    free = [pid for pid, row in sessions.items() if not row["blocked_by"]]
    left = set(sessions) - {pid for root in free for pid in below(root, sessions)}
    while left:
        ring = min(left)
        free.append(ring)
        left -= set(below(ring, sessions))
    return free


def below(root: int, sessions: Sessions) -> dict[int, int]:
    """Return `root` and all who wait for it, directly or not, in the order of a tree, with their depth in it."""
    depths: dict[int, int] = {}
    stack = [(root, 0)]
    while stack:
        pid, depth = stack.pop()
        if pid in depths:
            continue
        depths[pid] = depth
        stack += [(other, depth + 1) for other in reversed(list(sessions)) if pid in sessions[other]["blocked_by"]]
    return depths


def _finding(root: int, sessions: Sessions, settings: Settings) -> tuple[Finding, ...]:
    tree = below(root, sessions)
    waiters = [pid for pid in tree if pid != root]
    longest = max((sessions[pid]["wait_seconds"] for pid in tree), default=0.0)
    who = "1 session waits" if len(waiters) == 1 else f"{len(waiters)} sessions wait, the longest"
    lines = [f"{'  ' * depth}{_line(sessions[pid])}" for pid, depth in tree.items()]
    if len(lines) > _LINES:
        lines = [*lines[:_LINES], f"  … and {len(lines) - _LINES} more"]
    return judged(
        "blocked",
        _subject(sessions[root]),
        settings.blocked,
        longest,
        message=f"{who} for {span(longest)}, blocked by\n" + "\n".join(lines),
        hint=_hint(sessions[root]),
        say=span,
    )


def _subject(row: Row) -> str:
    if row["pid"] == 0:
        return "prepared transaction"
    return str(row["role"] or row["backend_type"] or "hidden")


def _line(row: Row) -> str:
    if row["pid"] == 0:
        return "a prepared transaction"
    who = f"pid {row['pid']} {row['role'] or row['backend_type'] or ''} ({row['application'] or 'no application name'})"
    waits = f", waits for {span(row['wait_seconds'])}" if row["blocked_by"] else ""
    if row["state"] is None and row["backend_type"] is None:
        return f"{who}, state hidden{waits}"
    since = f" for {span(row['state_seconds'])}" if row["state_seconds"] is not None else ""
    return f"{who}, {row['state'] or row['backend_type']}{since}{waits}: {without_literals(row['query'] or '', 120)}"


def _hint(row: Row) -> str:
    if row["pid"] == 0:
        return "SELECT * FROM pg_prepared_xacts; then COMMIT PREPARED or ROLLBACK PREPARED what nobody will end"
    if "to prevent wraparound" in str(row["query"] or ""):
        return "let this vacuum finish: cancelled, it begins again. End what waits for it, or give it more cost limit"
    how = "pg_cancel_backend" if _cancellable(row) else "pg_terminate_backend"
    return f"ask its owner, then SELECT {how}({row['pid']}); all others go on by themselves"


def _cancellable(row: Mapping[str, Any]) -> bool:
    """A statement can be cancelled; what sits idle in a transaction has none and must be terminated."""
    return bool(row["state"] == "active")
