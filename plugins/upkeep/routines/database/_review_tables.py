"""Autovacuum settings of single tables."""

from __future__ import annotations

import math

from upkeep.core.model import Finding, Judgement, Severity
from upkeep.routines.database._index_seen import label
from upkeep.routines.database._review_seen import Review, source
from upkeep.routines.database._review_settings import Settings
from upkeep.routines.database._seen import Row, measured
from upkeep.routines.database._text import byte_size, literal, quoted

_STORAGE = "sql-createtable.html#SQL-CREATETABLE-STORAGE-PARAMETERS"
_SCALE, _LEAST = "autovacuum_vacuum_scale_factor", "autovacuum_vacuum_threshold"
_MOST = "autovacuum_vacuum_max_threshold"
NAMES = (_SCALE, _LEAST, _MOST)
_OFF = ("off", "false", "no", "0", "f", "n", "of", "fa", "fal", "fals")


def judge(review: Review, settings: Settings) -> Judgement:
    """Judge tables that have settings of their own, and large ones that have none."""
    rows = review.seen.rows("settings_tables")
    if "database/settings_tables" not in review.seen.answers or "settings_tables" in review.seen.failed:
        return Judgement()
    disabled = [_disabled(row) for row in rows if row["options"].get("autovacuum_enabled", "on").lower() in _OFF]
    late = [finding for row in rows for finding in _late(review, row, settings)]
    own = rows[0]["own"] if rows else 0
    return Judgement(
        measurements=measured("tables.own_autovacuum", own, "tables")
        + measured("tables.autovacuum_off", len(disabled), "tables"),
        findings=(*_limited(disabled, settings.top), *_limited(late, settings.top)),
    )


def _name(row: Row) -> str:
    return label(row["schema"], row["table"]) + (" (TOAST)" if row["toast"] else "")


def _alter(row: Row, change: str) -> str:
    what = "MATERIALIZED VIEW" if row["kind"] == "m" else "TABLE"
    return f"ALTER {what} {quoted(row['schema'])}.{quoted(row['table'])} {change};"


def _changes(row: Row, name: str, wanted: str | None) -> str:
    """Return how to change a setting of a table (None: take it out), and behind `undo:` how to take that back."""
    full = f"toast.{name}" if row["toast"] else name
    reset, present = f"RESET ({full})", row["options"].get(name)
    do = reset if wanted is None else f"SET ({full} = {wanted})"
    undo = reset if present is None else f"SET ({full} = {literal(present)})"
    return f"{_alter(row, do)}\nundo: {_alter(row, undo)}"


def _disabled(row: Row) -> Finding:
    return Finding(
        check="autovacuum_disabled",
        subject=_name(row),
        severity=Severity.WARNING,
        message=f"{_name(row)} ({byte_size(row['bytes'])}) has autovacuum_enabled = off: dead rows stay and"
        " statistics grow old until somebody vacuums it by hand; only ids near wraparound are still taken care of",
        observed="off",
        limit="on",
        hint=f"{_changes(row, 'autovacuum_enabled', None)}\nwhy: {source(_STORAGE)}",
    )


def _late(review: Review, row: Row, settings: Settings) -> list[Finding]:
    """Vacuum comes at threshold + scale factor * rows dead rows; 18 caps that (`relation_needs_vacanalyze`)."""
    scale, least = _number(review, row, _SCALE), _number(review, row, _LEAST)
    most = _number(review, row, _MOST)
    if math.isnan(scale) or math.isnan(least):
        return []
    trigger = least + scale * row["rows"]
    if most >= 0:
        trigger = min(trigger, most)
    if trigger <= settings.trigger_rows or row["rows"] < settings.trigger_rows / 10:
        return []
    if scale > 0:
        name, wanted = _SCALE, f"{max(settings.trigger_rows - least, 0) / row['rows'] / 2:.2g}"
    else:
        name, wanted = _LEAST, f"{settings.trigger_rows // 2}"
    return [
        Finding(
            check="autovacuum_late",
            subject=_name(row),
            severity=Severity.INFO,
            message=f"{_name(row)} (about {row['rows']:,.0f} rows, {byte_size(row['bytes'])}) gathers {trigger:,.0f}"
            f" dead rows before autovacuum comes ({_SCALE} {scale:g}, {_LEAST} {least:g}):"
            " it then works long and rarely",
            observed=f"{trigger:,.0f} rows",
            limit=f"{settings.trigger_rows:,} rows",
            hint=f"{_changes(row, name, wanted)}\nwhy: {source('routine-vacuuming.html#AUTOVACUUM')}",
        )
    ]


def _number(review: Review, row: Row, name: str) -> float:
    """Return a table's own value, or the server's; nan where there is none (the cap, before 18)."""
    own = row["options"].get(name)
    if own is not None:
        return float(own)
    value = review.value(name)
    return value.number if value else math.nan


def _limited(findings: list[Finding], top: int) -> list[Finding]:
    """Keep the first `top` findings of a check, largest tables first; one more says how many are left."""
    kept, left = findings[:top], findings[top:]
    if left:
        message = f"{len(left)} more of this kind; raise `top` of database.settings_review to see each"
        kept.append(Finding(check=left[0].check, subject="others", severity=left[0].severity, message=message))
    return kept
