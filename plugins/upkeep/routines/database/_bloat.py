"""How much of tables and B-tree indexes is empty: measured by pgstattuple where it may be, else estimated.

An estimate comes from the planner's statistics: rows times mean width. It is right within some per cent where every
key occurs once; where keys repeat, the server stores equal ones together and the estimate is worthless, so that it is
only used to choose what to measure first. Measuring reads the whole index (of a table: the pages that hold anything
but rows visible to all), hence the limits on bytes and time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from pydantic import Field

from upkeep.core.errors import ConfigurationError, TransientError, UpkeepError
from upkeep.core.job import Failed, Server
from upkeep.core.routine import RoutineSettings
from upkeep.routines.database._text import byte_size, quoted

Kind = Literal["index", "table"]
Answers = Mapping[str, list[dict[str, Any]] | Failed]
_FIELD = re.compile(r"<(\w+)>([^<]*)</")
# The server's default fill of a B-tree leaf; a page that random inserts split is two thirds full and stays so.
_MEASURED = {"index": "bloat_measured_indexes", "table": "bloat_measured_tables"}


class BloatSettings(RoutineSettings):
    """What is looked at, and how much may be read to measure it."""

    bloat_min_bytes: int = Field(
        64 * 2**20, ge=2**16, description="bytes below which the bloat of a table or an index does not matter"
    )
    measure_each_bytes: int = Field(
        512 * 2**20, ge=0, description="bytes of the largest table or index that is measured; larger ones are estimated"
    )
    measure_total_bytes: int = Field(
        2 * 2**30, ge=0, description="bytes of all indexes (and again of all tables) that are measured in one run"
    )
    measure_seconds: float = Field(5, ge=0, le=3600, description="seconds after which no further measuring is begun")


class Limits(Protocol):
    """The settings that this module needs."""

    @property
    def bloat_min_bytes(self) -> int: ...
    @property
    def measure_each_bytes(self) -> int: ...
    @property
    def measure_total_bytes(self) -> int: ...
    @property
    def measure_seconds(self) -> float: ...


@dataclass(frozen=True)
class Bloat:
    """How much of a table (`index` is empty then) or of an index a fresh one would not need.

    With `toast` it is the table's TOAST: what its long values are kept in.
    `ratio` is `wasted_bytes / size_bytes`; both are None when `how` is `unknown`, and `why` says why it is not
    measured.
    """

    kind: Kind
    oid: int
    schema: str
    table: str
    index: str
    size_bytes: int
    wasted_bytes: int | None
    ratio: float | None
    how: Literal["measured", "estimated", "unknown"]
    why: str = ""
    fillfactor: float = 100.0
    toast: bool = False

    @property
    def name(self) -> str:
        """The name as SQL; of TOAST its table's, which is what one vacuums or rewrites."""
        return f"{quoted(self.schema)}.{quoted(self.index or self.table)}"


@dataclass(frozen=True)
class Tool:
    """The extension pgstattuple: the schema it is in, if it may be used, and otherwise the cure."""

    schema: str | None
    cure: str = ""


def index_bloat(server: Server, settings: Limits) -> list[Bloat]:
    """Return the bloat of every large B-tree index, in two round trips.

    :raises UpkeepError: the server did not answer; `TransientError` when that may pass by itself.
    """
    answers = server.batch(questions(settings))
    if isinstance(failed := answers["database/bloat_indexes"], Failed):
        raise _error(server, failed)
    plan = Plan.of(answers, settings)
    measured = server.batch(plan.questions()) if plan.questions() else {}
    return [bloat for bloat in plan.merge(measured) if bloat.kind == "index"]


def questions(settings: Limits) -> dict[str, dict[str, Any]]:
    """Return the statements that say what there is."""
    least = {"min_bytes": settings.bloat_min_bytes}
    return {"database/bloat_extension": {}, "database/bloat_indexes": least, "database/bloat_tables": least}


@dataclass(frozen=True)
class Plan:
    """Estimates, and what is to be measured of them."""

    estimates: tuple[Bloat, ...]
    tool: Tool
    chosen: Mapping[Kind, Sequence[int]]
    seconds: float

    @classmethod
    def of(cls, answers: Answers, settings: Limits) -> Plan:
        """Choose what to measure from the answers to `questions`."""
        tool = _tool(answers.get("database/bloat_extension"))
        indexes = [_estimated("index", row) for row in _rows(answers, "bloat_indexes")]
        tables = [_estimated("table", row) for row in _rows(answers, "bloat_tables")]
        chosen: dict[Kind, Sequence[int]] = {}
        if tool.schema is not None and settings.measure_seconds:
            chosen = {"index": _choose(indexes, settings), "table": _choose(tables, settings)}
        return cls((*indexes, *tables), tool, chosen, settings.measure_seconds)

    def questions(self) -> dict[str, dict[str, Any]]:
        """Return the statements that measure; none when there is nothing to measure."""
        values = {"schema": self.tool.schema, "seconds": self.seconds}
        return {
            f"database/{_MEASURED[kind]}": {"oids": list(oids), **values} for kind, oids in self.chosen.items() if oids
        }

    def merge(self, answers: Answers) -> list[Bloat]:
        """Return the measured numbers where there are some, else the estimates with the reason."""
        said = {row["oid"]: row["said"] for name in _MEASURED.values() for row in _rows(answers, name)}
        return [self._settled(bloat, said.get(bloat.oid), answers) for bloat in self.estimates]

    def _settled(self, bloat: Bloat, said: str | None, answers: Answers) -> Bloat:
        if said is not None:
            return _measured(bloat, said)
        failed = answers.get(f"database/{_MEASURED[bloat.kind]}")
        if self.tool.schema is None:
            why = "the extension pgstattuple is not there or may not be used"
        elif bloat.oid not in self.chosen.get(bloat.kind, ()):
            why = "too large, or too much else, to be measured within the limits of this run"
        elif isinstance(failed, Failed):
            why = f"measuring failed: {failed.message}"
        else:
            why = "locked, or no time was left to measure it"
        return replace(bloat, why=f"{bloat.why}; {why}" if bloat.why else why)


def _tool(answer: list[dict[str, Any]] | Failed | None) -> Tool:
    if not isinstance(answer, list) or not answer:
        return Tool(None, "read the server's log: whether pgstattuple is there could not be asked")
    row = answer[0]
    if row["schema"] is None:
        package = "" if row["available"] else "install the server's contrib package, then "
        return Tool(None, f"{package}CREATE EXTENSION pgstattuple; GRANT pg_stat_scan_tables TO {quoted(row['role'])};")
    if not row["usable"]:
        role = quoted(row["role"])
        return Tool(
            None,
            f"GRANT pg_stat_scan_tables TO {role}; GRANT USAGE ON SCHEMA {quoted(row['schema'])} TO {role};"
            " ALTER EXTENSION pgstattuple UPDATE; -- 1.5 or later",
        )
    return Tool(row["schema"])


def _estimated(kind: Kind, row: Mapping[str, Any]) -> Bloat:
    """Return the estimate of one row, `unknown` where it would be a guess."""
    wasted: int | None = None
    how: Literal["estimated", "unknown"] = "unknown"
    if row["needed"] is None and row.get("toast"):
        why = "it was never vacuumed"
    elif row["needed"] is None:
        why = "statistics of its columns are missing or hidden from this role (ANALYZE, or GRANT SELECT)"
    elif row.get("repeats"):
        why = "most of its keys occur more than once, and such keys are stored together"
    else:
        wasted, how, why = estimated_waste(row["bytes"], row["pages"], row["needed"]), "estimated", ""
    return Bloat(
        kind=kind,
        oid=row["oid"],
        schema=row["schema"],
        table=row["table"],
        index=row.get("index", ""),
        size_bytes=row["bytes"],
        wasted_bytes=wasted,
        ratio=None if wasted is None else wasted / row["bytes"],
        how=how,
        why=why,
        fillfactor=row["fillfactor"],
        toast=row.get("toast", False),
    )


def estimated_waste(size: int, pages: int, needed: float) -> int:
    """Return the bytes that are probably wasted: the share of pages at the last analyze, applied to today's size.

    A negative share means that the estimate was too high, not that the index is better than a fresh one.

    >>> estimated_waste(800_000, 100, 60), estimated_waste(800_000, 100, 130)
    (320000, 0)
    """
    return round(size * max(0.0, 1 - needed / pages))


def _choose(found: Iterable[Bloat], settings: Limits) -> list[int]:
    """Return the object ids to measure: worst estimate first, then the largest of which nothing is known."""
    chosen, left = [], settings.measure_total_bytes
    for bloat in sorted(found, key=lambda b: (-(b.wasted_bytes or 0), -b.size_bytes, b.oid)):
        if bloat.size_bytes <= min(left, settings.measure_each_bytes):
            chosen.append(bloat.oid)
            left -= bloat.size_bytes
    return chosen


def _measured(bloat: Bloat, said: str) -> Bloat:
    fields = {name: float(value) for name, value in _FIELD.findall(said)}
    if bloat.kind == "index":
        wasted, size = wasted_in_index(fields, bloat.fillfactor), fields["index_size"]
    else:
        wasted, size = wasted_in_table(fields, bloat.fillfactor), fields["table_len"]
    ratio = wasted / size if size else 0.0
    return replace(bloat, size_bytes=int(size), wasted_bytes=round(wasted), ratio=ratio, how="measured", why="")


def wasted_in_index(fields: Mapping[str, float], fillfactor: float) -> float:
    """Return the wasted bytes of a B-tree from the columns of pgstatindex.

    Leaves filled up to the fillfactor waste nothing; empty and deleted pages are wasted whole.
    https://www.postgresql.org/docs/current/pgstattuple.html
    """
    leaves = fields["leaf_pages"]
    pages = 1 + fields["internal_pages"] + leaves + fields["empty_pages"] + fields["deleted_pages"]
    page = fields["index_size"] / pages
    density = fields["avg_leaf_density"]
    # An index without rows has no leaf to take a mean of.
    full = 1.0 if math.isnan(density) else min(1.0, density / fillfactor)
    return page * (leaves * (1 - full) + fields["empty_pages"] + fields["deleted_pages"])


def wasted_in_table(fields: Mapping[str, float], fillfactor: float) -> float:
    """Return the wasted bytes of a table from the columns of pgstattuple_approx: what a rewrite would give back.

    A rewrite fills pages up to the fillfactor with whole rows: of rows of 5 kB each page holds one, and the rest of it
    is free for ever. The number of rows may be the planner's and wrong; a rewrite never takes less than what is used.
    """
    used = fields["table_len"] - fields["dead_tuple_len"] - fields["approx_free_space"]
    rows, room = fields["approx_tuple_count"], fields["block_size"] * fillfactor / 100
    needed = used * 100 / fillfactor
    if rows > 0 and used > 0:
        # The mean is too large by the page's share of each row: nearly one more is one more.
        needed = max(used, rows * fields["block_size"] / max(1, math.floor(room * rows / used + 0.1)))
    return max(0.0, fields["table_len"] - needed)


def _rows(answers: Answers, name: str) -> list[dict[str, Any]]:
    answer = answers.get(f"database/{name}")
    return answer if isinstance(answer, list) else []


def _error(server: Server, failed: Failed) -> UpkeepError:
    message = f"{server.place}: the bloat of indexes could not be determined: {failed.message}"
    if failed.reason in ("gone", "timeout", "locked"):
        return TransientError(message, "the server is busy, or it ended the connection; it is tried again")
    return ConfigurationError(message, "grant the role of this connection pg_monitor, or read the server's log")


def told(bloat: Bloat) -> str:
    """Say how much is wasted.

    >>> told(Bloat("index", 1, "s", "t", "i", 2**20, 2**19, 0.5, "measured"))
    '512.0 kB of 1.0 MB (50 %, measured)'
    """
    if bloat.wasted_bytes is None or bloat.ratio is None:
        return f"an unknown part of {byte_size(bloat.size_bytes)}"
    return f"{byte_size(bloat.wasted_bytes)} of {byte_size(bloat.size_bytes)} ({bloat.ratio:.0%}, {bloat.how})".replace(
        "%,", " %,"
    )
