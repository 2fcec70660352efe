"""What statements did between two runs, from counters that only ever grow, but may begin anew.

Every entry of pg_stat_statements counts from some moment on. Between two looks all of them may have been reset, one of
them may have been reset or evicted and have come back, and the database may even be on another server by now (a standby
was promoted), with counters of its own. So a difference is taken only between counters that are known to be of one
origin; counters that are known to have begun after the last look count in full; all others are told as what they are,
numbers since some reset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from upkeep.core.job import History, Point
from upkeep.core.model import Measurement
from upkeep.routines.database._seen import Row, measured

# Moments come back from the ledger as floats; the server's clock counts microseconds.
_SAME_MOMENT = 0.001
_COUNTERS = {"calls": "calls", "time": "ms", "io_time": "ms", "rows": "rows", "since_at": "epoch s"}


@dataclass(frozen=True)
class Spell:
    """What one statement did in a time: `run`: since the last run; `reset`: since its statistics were last reset.

    Times are in ms; `io_time` is None where nobody measured it. `at_least`: its counters began anew meanwhile, or may
    have, and what was before is lost.
    """

    row: Row
    calls: int
    time: float
    io_time: float | None
    rows: int
    since: Literal["run", "reset"]
    at_least: bool = False

    @property
    def subject(self) -> str:
        """The statement's stable id."""
        return subject(self.row)

    @property
    def mean(self) -> float:
        """Milliseconds a call."""
        return self.time / max(self.calls, 1)


@dataclass(frozen=True)
class Before:
    """What the last run kept. `taken` is the server's clock then; None: there is no last run."""

    taken: float | None
    at: datetime | None
    reset_at: float | None
    dealloc: float | None
    complete: bool
    counters: Mapping[str, Mapping[str, Point]]

    def of(self, name: str) -> dict[str, float]:
        """Return the counters that the last run kept of a statement; none when it did not see it."""
        found = {counter: points[name] for counter, points in self.counters.items() if name in points}
        # Older runs may have kept more statements than the last one.
        return {counter: p.value for counter, p in found.items() if self.at is not None and p.at >= self.at}


def subject(row: Row) -> str:
    """Return a statement's stable id: role and query id, and whether it runs inside functions."""
    return f"{row['role']}/{row['queryid']}{'' if row['toplevel'] else '/nested'}"


def recall(history: History) -> Before:
    """Return what the last run kept."""
    marker = history.last("statements.taken_at")

    def same_run(name: str) -> float | None:
        point = history.last(name)
        return point.value if point is not None and marker is not None and point.at >= marker.at else None

    return Before(
        taken=marker.value if marker else None,
        at=marker.at if marker else None,
        reset_at=same_run("statements.reset_at"),
        dealloc=same_run("statements.dealloc"),
        complete=same_run("statements.left_out") == 0,
        counters={name: history.latest(f"statement.{name}") for name in _COUNTERS} if marker else {},
    )


def kept(source: Row, rows: Sequence[Row]) -> tuple[Measurement, ...]:
    """Return what the next run needs. The mark of the run comes first: no counter of this run is older."""
    first = rows[0] if rows else {}
    numbers = measured("statements.taken_at", source["taken_at"], "epoch s")
    numbers += measured("statements.entries", first.get("entries", 0), "statements")
    seen = [row for row in rows if row["queryid"] is not None]
    numbers += measured("statements.left_out", first.get("entries", 0) - len(seen), "statements")
    numbers += measured("statements.reset_at", first.get("reset_at"), "epoch s")
    numbers += measured("statements.dealloc", first.get("dealloc"), "evictions")
    for row in seen:
        for name, unit in _COUNTERS.items():
            if name != "io_time" or source["io_timed"]:
                numbers += measured(f"statement.{name}", row[name], unit, subject(row))
    return numbers


def spells(source: Row, rows: Sequence[Row], before: Before) -> tuple[Spell, ...]:
    """Return what each statement did since the last run, as far as that can be told."""
    return tuple(_spell(row, source["io_timed"], before) for row in rows if row["queryid"] is not None)


def _spell(row: Row, io_timed: bool, before: Before) -> Spell:
    if before.taken is None:
        return _whole(row, io_timed, "reset")
    old = before.of(subject(row))
    evicted = before.dealloc is not None and row["dealloc"] is not None and row["dealloc"] > before.dealloc
    if old and _one_origin(row, old, before) and not _fell(row, old):
        # An entry that was evicted and is above its old counts again does not show before 1.11.
        return _difference(row, old, io_timed, at_least=evicted and row["since_at"] is None)
    began = row["since_at"] if row["since_at"] is not None else row["reset_at"]
    if began is not None and began > before.taken:
        return _whole(row, io_timed, "run", at_least=bool(old) or evicted)
    # Of one server and one reset: counters that fell, or were not there, began after the last run.
    if _same(row["reset_at"], before.reset_at) and row["since_at"] is None and (old or before.complete):
        return _whole(row, io_timed, "run", at_least=bool(old) or evicted)
    return _whole(row, io_timed, "reset")


def _one_origin(row: Row, old: Mapping[str, float], before: Before) -> bool:
    """Tell whether both counts began at the same moment; before 1.9 there is no moment to go by."""
    if row["since_at"] is not None or "since_at" in old:
        return _same(row["since_at"], old.get("since_at"))
    return _same(row["reset_at"], before.reset_at) or (row["reset_at"] is None and before.reset_at is None)


def _same(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and abs(one - other) < _SAME_MOMENT


def _fell(row: Row, old: Mapping[str, float]) -> bool:
    return any(row[name] < old.get(name, 0) for name in ("calls", "time", "rows"))


def _whole(row: Row, io_timed: bool, since: Literal["run", "reset"], *, at_least: bool = False) -> Spell:
    io_time = row["io_time"] if io_timed else None
    return Spell(row, row["calls"], row["time"], io_time, row["rows"], since, at_least)


def _difference(row: Row, old: Mapping[str, float], io_timed: bool, *, at_least: bool) -> Spell:
    def grown(name: str) -> Any:
        return row[name] - old.get(name, 0)

    io_time = max(grown("io_time"), 0.0) if io_timed and "io_time" in old else None
    return Spell(row, int(grown("calls")), grown("time"), io_time, int(grown("rows")), "run", at_least)
