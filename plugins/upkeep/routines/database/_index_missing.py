"""Indexes that are missing: for foreign keys, and on large tables that are read as a whole again and again."""

from __future__ import annotations

from datetime import datetime

from upkeep.core.job import History
from upkeep.core.model import Finding, Judgement, Severity
from upkeep.routines.database._index_ddl import foreign_key_hint
from upkeep.routines.database._index_seen import Review, counted, label, limited
from upkeep.routines.database._index_settings import Settings
from upkeep.routines.database._seen import Row, judged, measured
from upkeep.routines.database._text import byte_size

_GROWING = {"scans": "table.seq_scans", "read": "table.seq_rows", "index_scans": "table.index_scans"}
_DAY = 86_400.0


def judge(review: Review, settings: Settings, history: History) -> Judgement:
    """Judge foreign keys and sequential scans."""
    keys = review.seen.rows("index_foreign_keys")
    findings = [f for row in keys for f in _foreign_key(row, settings)]
    return (
        counted("missing", keys)
        + Judgement(findings=limited(findings, settings.top))
        + _sequential(review, settings, history)
    )


def _foreign_key(row: Row, settings: Settings) -> tuple[Finding, ...]:
    table = label(row["schema"], row["table"])
    deleted = (
        f"{row['deletes']} of its rows were deleted since the statistics began" if row["deletes"] else "none were yet"
    )
    return judged(
        "foreign_key",
        f"{table}.{row['name']}",
        settings.foreign_key_bytes,
        row["bytes"],
        message=f"{table} ({byte_size(row['bytes'])}) refers to {row['referenced']} by {', '.join(row['columns'])} and"
        f" has no index that begins with that: each delete there reads this whole table, and holds its locks"
        f" meanwhile ({deleted})",
        hint=foreign_key_hint(row["schema"], row["table"], row["columns"], row["partitioned"]),
        say=byte_size,
        # Where nothing is ever deleted nobody waits.
        at_most=Severity.CRITICAL if row["deletes"] else Severity.INFO,
    )


def _sequential(review: Review, settings: Settings, history: History) -> Judgement:
    rows = review.seen.rows("index_seq_scans")
    server = review.seen.row("index_server")
    if not rows or not server or not server["counting"]:
        return Judgement()
    earlier = {column: history.latest(name) for column, name in _GROWING.items()}
    judgement = Judgement()
    found: list[Finding] = []
    for row in rows:
        table = label(row["schema"], row["table"])
        for column, name in _GROWING.items():
            unit = "rows" if column == "read" else "scans"
            judgement += Judgement(measurements=measured(name, row[column], unit, table))
        before = {column: points[table] for column, points in earlier.items() if table in points}
        if len(before) < len(_GROWING) or _reset_since(server["since"], before["scans"].at):
            continue
        grown = {column: row[column] - before[column].value for column in _GROWING}
        days = (server["now"] - before["scans"].at).total_seconds() / _DAY
        found += _scanned(table, row, grown, days, settings)
    return judgement + Judgement(findings=limited(found, settings.top))


def _reset_since(since: datetime | None, then: datetime) -> bool:
    return since is not None and since > then


def _scanned(table: str, row: Row, grown: dict[str, float], days: float, settings: Settings) -> tuple[Finding, ...]:
    """Judge growth: cumulative counters of an old server say what was, perhaps before an index was made."""
    scans, read, by_index = grown["scans"], grown["read"], grown["index_scans"]
    # A counter that fell was reset; scans that stop after a few rows (LIMIT) are no burden.
    if min(grown.values()) < 0 or days <= 0 or scans <= by_index or read < scans * settings.seq_scan_rows / 2:
        return ()
    return judged(
        "sequential_scans",
        table,
        settings.seq_scans,
        scans / max(days, 1.0),
        message=f"{table} ({row['live']:,} rows) was read as a whole {scans:,.0f} times since the last run,"
        f" {days:.1f} days ago, {read:,.0f} rows in all, and through an index {by_index:,.0f} times",
        hint="find the statements that read it (routine database.slow_queries, or pg_stat_statements) and index what"
        " they filter by: EXPLAIN shows the filter behind `Seq Scan`; a report that needs all rows needs no index",
        say="{:,.0f} a day".format,
    )
