"""What a PostgreSQL log tells: slow statements, failed logins, deadlocks, checkpoints, temporary files, lock waits."""

from __future__ import annotations

from collections.abc import Iterator

from upkeep.core.log_review import DatabaseEvents, Statement
from upkeep.core.model import Finding, Judgement, Measurement
from upkeep.routines.logs._review_say import judged, measured, told
from upkeep.routines.logs._review_settings import Settings

_KEY = 120
"""Characters of a statement that name it; the message has all that is known of it."""
_SAY = {
    "failed_login": ("connections were refused", "who tried, from where: guessing, or a password that was changed?"),
    "deadlock": ("deadlocks", "let transactions lock rows in the same order; DETAIL lines of the log name the queries"),
    "checkpoint": ("checkpoints came too soon after each other", "raise max_wal_size (see database.settings_review)"),
    "temp_file": ("temporary files were written", "raise work_mem for these queries, or let them sort less"),
    "lock_wait": ("waits for locks took longer than deadlock_timeout", "see who held the lock: the lines name it"),
}


def judge(database: DatabaseEvents, settings: Settings) -> Judgement:
    """Judge what the server noted."""
    findings = [*_slow(database, settings), *_events(database, settings), *_states(database)]
    return Judgement(measurements=tuple(_measured(database)), findings=tuple(findings))


def _measured(database: DatabaseEvents) -> Iterator[Measurement]:
    for name in _SAY:
        yield measured("event", database.events.get(name, 0), subject=name)
    yield measured("temp_file.bytes", database.temp_bytes, "bytes")
    for state, count in database.sqlstates.items():
        yield measured("sqlstate", count, subject=state)
    for statement in _distinct(database.statements):
        yield measured("statement.mean_time", _mean(statement), "ms", statement.text[:_KEY])


def _distinct(statements: tuple[Statement, ...]) -> list[Statement]:
    """Return the statements whose key is not that of another one before it."""
    return list({s.text[:_KEY]: s for s in reversed(statements)}.values())[::-1]


def _mean(statement: Statement) -> float:
    return statement.total_ms / statement.count


def _slow(database: DatabaseEvents, settings: Settings) -> Iterator[Finding]:
    statements = _distinct(database.statements)
    late = [s for s in statements if settings.slow_query.judge(_mean(s)).rank]
    late = sorted(late, key=lambda s: (-s.total_ms, s.text))
    for statement in late[: settings.top]:
        yield from judged(
            "slow_query",
            statement.text[:_KEY],
            settings.slow_query,
            _mean(statement),
            message=f"{statement.count:,} x, on average {_mean(statement):,.0f} ms, at worst"
            f" {statement.worst_ms:,.0f} ms, {statement.total_ms / 1000:,.1f} s in all:\n{statement.text}",
            hint="EXPLAIN (ANALYZE, BUFFERS) with real values, on a copy or at a quiet hour; see database.slow_queries",
            unit=" ms",
        )
    if rest := late[settings.top :]:
        total = sum(s.total_ms for s in rest) / 1000
        yield told("slow_query", "others", f"{len(rest)} more statements are slow; together they took {total:,.1f} s")
    if database.more_statements:
        message = f"{database.more_statements:,} slow calls were one kind of statement too many to be told apart"
        yield told("slow_query", "capped", message)


def _events(database: DatabaseEvents, settings: Settings) -> Iterator[Finding]:
    for name, (what, cure) in _SAY.items():
        count, limit = database.events.get(name, 0), settings.events.get(name)
        if limit is not None and count:
            size = f" ({database.temp_bytes / 2**20:,.0f} MiB)" if name == "temp_file" else ""
            message = f"{count:,} {what}{size}, such as: {database.examples.get(name, '')}"
            yield from judged("event", name, limit, count, message=message, hint=cure)


def _states(database: DatabaseEvents) -> Iterator[Finding]:
    if database.sqlstates:
        counts = sorted(database.sqlstates.items(), key=lambda s: (-s[1], s[0]))
        text = ", ".join(f"{state} {count:,} x" for state, count in counts[:20])
        yield told("sqlstates", "", f"errors by SQLSTATE: {text}", "their meaning: appendix A of PostgreSQL's manual")
