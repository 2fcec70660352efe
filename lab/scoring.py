"""Tables with what the models were asked, what they answered, and what turned out to be true a day later.

They end with the moment of `up` and are filled anew on another day: many rows for two weeks, which weekly and daily
runs answer for, and few for most of a year, which monthly and quarterly ones do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lab.model_rows import KINDS, Columns, Kind, dice, rows
from lab.models import trained_model
from lab.process import write_private
from lab.train import VERSION
from lab.windows import Span, newest

if TYPE_CHECKING:
    import numpy as np

    from lab.embedded import Lab

DAYS, DAILY, LEAST_DAILY = 16, 1200, 300
OLDER_DAYS, OLDER_DAILY = 290, 40
LABELLED_AFTER = timedelta(days=1)
# Tables that change from day to day and with the faults; the others are the same for the same day and scale.
TABLES = {name: f"{name}_scoring" for name in KINDS}
Change = Callable[["np.random.Generator", Columns], None]
"""What a fault does to the rows of the newest weekly window, before the model answers (features) or after (labels)."""


def write_scoring(lab: Lab, faults: dict[str, dict[str, Change]], now: datetime | None = None) -> list[str]:
    """Fill the tables that are not as they should be, and return the names of their systems.

    :param faults: changes of the newest weekly window by system: `features` and `labels`.
    """
    now = now or datetime.now(UTC)
    marks = lab.home / "scoring-written.json"
    known: dict[str, str] = json.loads(marks.read_text()) if marks.exists() else {}
    written = []
    for name in KINDS:
        mark = f"3 {lab.scale:g} {newest('daily', now).end:%Y-%m-%d} {' '.join(sorted(faults.get(name, {})))}"
        if known.get(name) != mark:
            _fill(lab, KINDS[name], faults.get(name, {}), now)
            known[name] = mark
            written.append(name)
    write_private(marks, json.dumps(known))
    return written


def _fill(lab: Lab, kind: Kind, faults: dict[str, Change], now: datetime) -> None:
    table = TABLES[kind.name]
    types = {**dict.fromkeys(kind.numeric, "float8"), kind.category: "text"}
    columns = ", ".join(f"{name} {types[name]}" for name in kind.features)
    with lab.connect(kind.name, as_owner=True) as owner:
        owner.execute(
            f"CREATE TABLE IF NOT EXISTS {table} (id bigint PRIMARY KEY, scored_at timestamptz NOT NULL, {columns},"
            " probability float8 NOT NULL, prediction boolean NOT NULL, model_version text NOT NULL,"
            " label boolean, labelled_at timestamptz);"
            f"CREATE INDEX IF NOT EXISTS {table}_scored_at ON {table} (scored_at)".encode()
        )
        with owner.transaction(), owner.cursor() as cursor:
            cursor.execute(f"TRUNCATE {table}".encode())
            with cursor.copy(f"COPY {table} FROM STDIN".encode()) as copy:
                copy.write("".join(_lines(kind, faults, lab.scale, now)))
        owner.execute(f"VACUUM ANALYZE {table}".encode())


def _lines(kind: Kind, faults: dict[str, Change], scale: float, now: datetime) -> list[str]:
    """Return the rows as COPY wants them, oldest first."""
    today, span = now.replace(hour=0, minute=0, second=0, microsecond=0), newest("weekly", now)
    daily, found = max(LEAST_DAILY, round(DAILY * scale)), list[str]()
    for back in range(OLDER_DAYS, -1, -1):
        day = today - timedelta(days=back)
        found += _day(kind, day, daily if back <= DAYS else OLDER_DAILY, (span, faults), now)
    return [f"{number}\t{rest}\n" for number, rest in enumerate(found, 1)]


def _day(kind: Kind, day: datetime, count: int, wrong: tuple[Span, dict[str, Change]], now: datetime) -> list[str]:
    import numpy as np

    generator = dice(kind.name, day.date())
    times = _moment(day) + (np.sort(generator.uniform(0, 86_400, count)) * 1e6).astype("timedelta64[us]")
    columns = rows(kind, generator, count)
    span, faults = wrong
    inside = (times >= _moment(span.start)) & (times < _moment(span.end))
    _change(faults.get("features"), kind, columns, inside)
    probability = _probabilities(kind, columns)
    columns["prediction"] = probability > 0.5
    _change(faults.get("labels"), kind, columns, inside)
    later = times + np.timedelta64(LABELLED_AFTER)
    known = later < _moment(now)
    parts = [
        [f"{moment}Z" for moment in np.datetime_as_string(times).tolist()],
        *([_text(value) for value in columns[name].tolist()] for name in kind.features),
        [f"{one:.6f}" for one in probability.tolist()],
        ["t" if one else "f" for one in columns["prediction"].tolist()],
        [VERSION] * count,
        [("t" if one else "f") if told else r"\N" for one, told in zip(columns["label"].tolist(), known, strict=True)],
        [f"{at}Z" if told else r"\N" for at, told in zip(np.datetime_as_string(later).tolist(), known, strict=True)],
    ]
    return list(map("\t".join, zip(*parts, strict=True)))[: int((times < _moment(now)).sum())]


def _moment(when: datetime) -> Any:
    import numpy as np

    return np.datetime64(when.astimezone(UTC).replace(tzinfo=None), "us")


def _change(change: Change | None, kind: Kind, columns: Columns, inside: Any) -> None:
    if change is None or not inside.any():
        return
    part = {name: values[inside] for name, values in columns.items()}
    change(dice(kind.name, "fault", int(inside.sum())), part)
    for name, values in part.items():
        columns[name] = columns[name].astype(values.dtype) if values.dtype != columns[name].dtype else columns[name]
        columns[name][inside] = values


def _probabilities(kind: Kind, columns: Columns) -> Any:
    """Return the very model's probabilities, from its weights; what is missing counts as the training's mean."""
    import numpy as np

    told = json.loads((trained_model(kind.name) / "risk_model.json").read_text())
    odds = np.full(len(columns["label"]), told["intercept"])
    for name, one in told["numeric"].items():
        values = columns[name].astype(float)
        odds += one["weight"] * (np.where(np.isnan(values), one["default"], values) - one["mean"]) / one["scale"]
    for name, weights in told["categories"].items():
        odds += np.array([weights.get(value, 0.0) for value in columns[name].tolist()])
    return 1 / (1 + np.exp(-odds))


def _text(value: Any) -> str:
    return r"\N" if isinstance(value, float) and math.isnan(value) else str(value)
