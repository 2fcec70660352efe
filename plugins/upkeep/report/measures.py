"""Measurements of a routine, laid out: single values as tiles, values by subject as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from upkeep.core.model import Measurement, Severity, worst
from upkeep.ledger.record import RoutineRecord
from upkeep.report import human
from upkeep.report.extras import Extras
from upkeep.report.sparkline import sparkline

TILES = 12
ROWS = 6
FOLD = 60
FOLDED_ON_A_PAGE = 3000


class Tile(NamedTuple):
    """One value with its name and its past."""

    label: str
    shown: human.Shown
    line: Markup


class Row(NamedTuple):
    """The values of one subject; a cell is None where it has none."""

    subject: str
    severity: Severity
    cells: tuple[Tile | None, ...]


class Table(NamedTuple):
    """Measurements of the same subjects. `more` rows stand in a fold, `left_out` are only counted."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    more: tuple[Row, ...]
    left_out: int


class Measures(NamedTuple):
    """Everything that a routine measured."""

    tiles: tuple[Tile, ...]
    more: tuple[Tile, ...]
    left_out: int
    tables: tuple[Table, ...]


def fold_size(routines: int) -> int:
    """Return how many rows each fold may hold, so that a page over hundreds of systems stays one that opens."""
    return min(FOLD, max(ROWS, FOLDED_ON_A_PAGE // max(routines, 1)))


def lay_out(routine: RoutineRecord, extras: Extras, fold: int = FOLD) -> Measures:
    """Arrange the measurements of a routine; a thousand subjects give a short table, a fold and a count."""
    single = [m for m in routine.measurements if not m.subject]
    tiles = [_tile(m, human.quantity(m.name), routine, extras) for m in single[: TILES + fold]]
    marks: dict[str, Severity] = {}
    for finding in routine.findings:
        marks[finding.subject] = worst((finding.severity, marks.get(finding.subject, Severity.OK)))
    groups = _groups([m for m in routine.measurements if m.subject])
    return Measures(
        tiles=tuple(tiles[:TILES]),
        more=tuple(tiles[TILES:]),
        left_out=len(single) - len(tiles),
        tables=tuple(_table(group, marks, routine, extras, fold=fold) for group in groups),
    )


def _groups(measured: Sequence[Measurement]) -> list[dict[str, dict[str, Measurement]]]:
    """Put names together whose subjects are mostly the same: {name: {subject: measurement}}."""
    by_name: dict[str, dict[str, Measurement]] = {}
    for m in measured:
        by_name.setdefault(m.name, {})[m.subject] = m
    groups: list[dict[str, dict[str, Measurement]]] = []
    for name, values in by_name.items():
        for group in groups:
            known = next(iter(group.values())).keys()
            if 2 * len(known & values.keys()) > min(len(known), len(values)):
                group[name] = values
                break
        else:
            groups.append({name: values})
    return groups


def _table(
    group: dict[str, dict[str, Measurement]],
    marks: dict[str, Severity],
    routine: RoutineRecord,
    extras: Extras,
    *,
    fold: int,
) -> Table:
    prefix = _common_prefix(list(group))
    columns = {name: human.quantity(name.removeprefix(prefix)) for name in group}
    subjects = list(dict.fromkeys(subject for values in group.values() for subject in values))
    if len(subjects) > ROWS:
        ranking = _ranking(group)
        subjects.sort(key=lambda s: (-marks.get(s, Severity.OK).rank, -ranking[s].value if s in ranking else 0.0))
    rows = tuple(
        Row(
            subject,
            marks.get(subject, Severity.OK),
            tuple(
                _tile(values[subject], columns[name], routine, extras) if subject in values else None
                for name, values in group.items()
            ),
        )
        for subject in subjects[: ROWS + fold]
    )
    return Table(
        caption=human.label(prefix),
        columns=tuple(columns.values()),
        rows=rows[:ROWS],
        more=rows[ROWS:],
        left_out=len(subjects) - len(rows),
    )


def _ranking(group: dict[str, dict[str, Measurement]]) -> dict[str, Measurement]:
    """Return the values by which many rows are ordered: the first sizes there are, else times, else the first."""
    for units in (("B", "bytes"), ("s", "ms")):
        for values in group.values():
            if next(iter(values.values())).unit in units:
                return values
    return next(iter(group.values()))


def _common_prefix(names: list[str]) -> str:
    """Return the first dotted part, with its dot, when every name has it."""
    first = names[0].partition(".")[0] + "."
    return first if all(name.startswith(first) and name != first for name in names) else ""


def _tile(measured: Measurement, label: str, routine: RoutineRecord, extras: Extras) -> Tile:
    past = extras.series.get((routine.key.target, routine.key.routine, measured.name, measured.subject), ())
    line = sparkline(past, lambda value: human.measured(value, measured.unit).text)
    return Tile(label, human.measured(measured.value, measured.unit), line)
