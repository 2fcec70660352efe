"""Which tables hold the data, which grow, and how they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from upkeep.core.job import History, Point
from upkeep.core.model import Finding, Judgement, Measurement, Severity
from upkeep.routines.capacity._seen import Seen
from upkeep.routines.capacity._settings import Settings
from upkeep.routines.database._seen import judged, percent
from upkeep.routines.database._text import byte_size

PARTS = {"table.size": "total", "table.heap": "heap", "table.toast": "toast", "table.indexes": "indexes"}
WRITES = ("inserts", "updates", "deletes", "hot_updates")
_NAMED = 3
_RECENT_POINTS = 60


@dataclass(frozen=True)
class Grown:
    """A table that takes so many bytes more (or less) than so many days ago."""

    table: str
    bytes: float
    days: float


def grown(seen: Seen, settings: Settings, history: History) -> list[Grown]:
    """Return how tables have grown since about `growers_days` ago, the most first; growth of minutes is none."""
    then, latest = seen.at - timedelta(days=settings.growers_days), seen.at - timedelta(hours=12)
    found = []
    for row in seen.rows("tables"):
        points = [p for p in history.series("table.size", row["name"], limit=_RECENT_POINTS) if p.at < latest]
        if points:
            old = min(points, key=lambda point: abs(point.at - then))
            found.append(Grown(row["name"], row["total"] - old.value, (seen.at - old.at) / timedelta(days=1)))
    return sorted(found, key=lambda g: -g.bytes)


def growing(found: Sequence[Grown]) -> str:
    """Return the end of a sentence that says which tables grow, empty when none does."""
    most = [f"{g.table} by {byte_size(g.bytes)} in {g.days:.0f} days" for g in found[:_NAMED] if g.bytes > 0]
    return f". Growing most: {', '.join(most)}" if most else ""


def judge(seen: Seen, settings: Settings, history: History, found: Sequence[Grown]) -> Judgement:
    """Keep sizes, growth and writes; judge what came, went, and is updated at a cost."""
    rows = seen.rows("tables")
    numbers = [*_sizes(seen, rows), *(_number("table.growth", g.bytes, "bytes", g.table) for g in found)]
    findings = list(_came_and_went(seen, settings, rows))
    before = {name: history.latest(f"table.{name}_total") for name in WRITES}
    for row in rows:
        written = _since(row, {name: before[name].get(row["name"]) for name in WRITES}, seen)
        numbers += [_number(f"table.{name}_total", row[name], "rows", row["name"]) for name in WRITES]
        numbers += [_number(f"table.{name}", count, "rows", row["name"]) for name, count in written.items()]
        if written and written["updates"]:
            ratio = written["hot_updates"] / written["updates"]
            numbers.append(_number("table.hot_ratio", ratio, "1", row["name"]))
            findings += _hot(row, written["updates"], ratio, settings)
    return Judgement(measurements=tuple(numbers), findings=tuple(findings))


def database_writes(seen: Seen, history: History) -> tuple[Measurement, ...]:
    """Return the rows written in the whole database, since the statistics began and since the last run."""
    names = WRITES[:3]
    row = seen.server
    before = {name: history.last(f"database.{name}_total") for name in names}
    totals = tuple(_number(f"database.{name}_total", row[name], "rows") for name in names)
    return totals + tuple(_number(f"database.{n}", c, "rows") for n, c in _since(row, before, seen).items())


def _sizes(seen: Seen, rows: Sequence[Mapping[str, Any]]) -> Iterator[Measurement]:
    for row in rows:
        for name, column in PARTS.items():
            yield _number(name, row[column], "bytes", row["name"])
    for row in seen.rows("indexes"):
        yield _number("index.size", row["bytes"], "bytes", row["name"])
    for row in rows[:1]:
        yield _number("tables", row["tables"], "tables")
        for part in ("heap", "toast", "indexes"):
            yield _number(f"database.{part}", row[f"all_{part}"], "bytes")


def _since(row: Mapping[str, Any], before: Mapping[str, Point | None], seen: Seen) -> dict[str, float]:
    """Return how many rows were written since the last run; nothing when the counters began anew meanwhile.

    A crash lets them begin anew and, before 15, does not say so; resetting one table never does: then some fall.
    """
    reset = seen.server.get("reset_at")
    counts = {}
    for name, point in before.items():
        if point is None or (reset is not None and reset > point.at) or row[name] < point.value:
            return {}
        counts[name] = row[name] - point.value
    return counts


def _hot(row: Mapping[str, Any], updates: float, ratio: float, settings: Settings) -> tuple[Finding, ...]:
    if updates < settings.hot_updates:
        return ()
    name = row["name"]
    room = (
        f"leave room in its pages: ALTER TABLE {name} SET (fillfactor = 90); (undo: RESET (fillfactor);) for new pages"
        if not row["partitioned"]
        else "leave room in the pages of its partitions (fillfactor = 90)"
    )
    return judged(
        "hot",
        name,
        settings.hot_ratio,
        100 * ratio,
        message=f"{name}: {ratio:.0%} of {updates:,.0f} updates since the last run were HOT; each of the others wrote"
        " to every index of the table",
        hint=f"an index on a column that is updated rules HOT out: drop it if it is unused (database.indexes); else"
        f" {room}",
        say=percent,
    )


def _came_and_went(seen: Seen, settings: Settings, rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    if not seen.before or not rows:
        return
    came = [r for r in rows if r["name"] not in seen.before and r["total"] > settings.step_bytes]
    gone = {name: seen.before[name].value for name in rows[0]["vanished"] or ()}
    said = [f"{r['name']} is new among the largest ({byte_size(r['total'])})" for r in came]
    said += [f"{n} ({byte_size(v)}) is gone" for n, v in gone.items() if v > settings.step_bytes]
    if said:
        hint = "expected after a release or an archiving; otherwise ask who did it"
        yield Finding(check="tables", subject="", severity=Severity.INFO, message="; ".join(said), hint=hint)


def _number(name: str, value: float, unit: str, subject: str = "") -> Measurement:
    return Measurement(name=name, value=float(value), unit=unit, subject=subject)
