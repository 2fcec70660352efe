"""One look at a database for vacuum and analyze, and the tables that it finds in need."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from upkeep.core.job import Failed, Job, Server
from upkeep.core.targets import PostgresTarget
from upkeep.routines.database import _bloat, _horizon
from upkeep.routines.database._need import Need, Row, Table, need, parent_need, table_of
from upkeep.routines.database._vacuum_settings import CareSettings, VacuumSettings

CareJob = Job[PostgresTarget, Any]
Answers = Mapping[str, list[dict[str, Any]] | Failed]
# An age that no id reaches: analyze does not look at ages.
_NEVER = 1e9


@dataclass(frozen=True)
class Seen:
    """Everything that one look gave."""

    place: str
    now: datetime
    answers: Mapping[str, list[dict[str, Any]] | Failed]
    held: tuple[_horizon.Holder, ...] = ()
    bloated: tuple[_bloat.Bloat, ...] = ()
    round_trips: int = 0

    @functools.cached_property
    def server(self) -> Row:
        """The server's settings."""
        return self.rows("vacuum_server")[0]

    @functools.cached_property
    def tables(self) -> dict[int, Table]:
        """The tables that may need something, by their oid."""
        return {row["oid"]: table_of(row) for row in self.rows("vacuum_need")}

    @functools.cached_property
    def parents(self) -> dict[int, Row]:
        """The parents of other tables, by their oid."""
        return {row["oid"]: row for row in self.rows("vacuum_parents")}

    @functools.cached_property
    def refused(self) -> frozenset[int]:
        """The tables that this role may not look after."""
        return frozenset(row["oid"] for row in self.rows("vacuum_refused"))

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """Return the rows of a statement; none when it failed or was not asked."""
        answer = self.answers.get(f"database/{statement}")
        return answer if isinstance(answer, list) else []

    @property
    def failed(self) -> dict[str, Failed]:
        """The statements that gave no rows, and why."""
        return {name.split("/")[1]: a for name, a in self.answers.items() if isinstance(a, Failed)}


@dataclass(frozen=True)
class Wanted:
    """A table that needs something. One of `table` and `parent` is there, or both."""

    oid: int
    name: str
    need: Need
    table: Table | None = None
    parent: Row | None = None
    named: bool = False


def conn_id(target: PostgresTarget) -> str:
    """Return the connection whose role may do the work."""
    return target.maintenance_conn_id or target.conn_id


def look(
    job: CareJob,
    more: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    measure: Callable[[Server, Answers], tuple[_bloat.Bloat, ...]] = lambda *_: (),
) -> Seen:
    """Connect and ask everything, in one round trip.

    :param more: further statements to ask, with their values.
    :param measure: measures bloat by what was answered, in one more round trip.
    :raises TransientError: the server cannot be reached, or the settings could not be read.
    :raises ConfigurationError: the server is there and refuses us.
    """
    settings: CareSettings = job.settings
    with job.tools.postgres(
        conn_id(job.target),
        database=job.target.database,
        application_name=f"upkeep {job.routine}",
        statement_timeout=settings.statement_timeout,
        connect_timeout=settings.connect_timeout,
    ) as server:
        answers = server.batch({**_questions(job), **more})
        first = answers["database/vacuum_server"]
        if isinstance(first, Failed):
            server.rows("database/vacuum_server")  # raises with the reason
        return _seen(job, server, answers, measure(server, answers))


def wanted(seen: Seen, job: CareJob) -> list[Wanted]:
    """Return the tables that need something, permitted or not, in no order."""
    if "wanted" not in seen.__dict__:
        # Judging and planning go by the same list, which takes its time with ten thousand tables.
        seen.__dict__["wanted"] = _wanted(seen, job)
    found: list[Wanted] = seen.__dict__["wanted"]
    return found


def _wanted(seen: Seen, job: CareJob) -> list[Wanted]:
    analyze_only = not isinstance(job.settings, VacuumSettings)
    settings = _Shares(job.settings)
    found: dict[int, Wanted] = {}
    for oid, table in seen.tables.items():
        named = is_named(job.target, table.name, table.schema, table.table)
        why = need(table, seen.server, settings, named)
        if analyze_only or (why.analyze and not seen.server["track_counts"]):
            why = _for_analyze(why)
        elif not job.settings.analyze:
            why = replace(why, reasons=tuple(r for r in why.reasons if r.code not in ("changes", "never analyzed")))
        if why:
            found[oid] = Wanted(oid, table.name, why, table, None, named)
    if analyze_only or job.settings.analyze:
        for wish in _parents(seen, job, settings):
            other = found.get(wish.oid)
            found[wish.oid] = (
                Wanted(
                    wish.oid,
                    wish.name,
                    replace(other.need, reasons=other.need.reasons + wish.need.reasons),
                    other.table,
                    wish.parent,
                    other.named,
                )
                if other
                else wish
            )
    return list(found.values())


def is_named(target: PostgresTarget, name: str, schema: str, table: str) -> bool:
    """Tell whether the system file names a table: as SQL spells it, or without quotes."""
    return name in target.tables or f"{schema}.{table}" in target.tables


def unknown_names(seen: Seen, target: PostgresTarget) -> list[str]:
    """Return the tables that the system file names and the database does not have."""
    rows: list[Row] = [*seen.rows("vacuum_need"), *seen.rows("vacuum_parents")]
    there = {row["name"] for row in rows} | {f"{row['schema']}.{row['table']}" for row in rows}
    return [name for name in target.tables if name not in there]


def _parents(seen: Seen, job: CareJob, settings: _Shares) -> list[Wanted]:
    found = {}
    for oid, row in seen.parents.items():
        named = is_named(job.target, row["name"], row["schema"], row["table"])
        if why := parent_need(row, seen.server, settings, named):
            found[oid] = Wanted(oid, row["name"], why, None, row, named)
    if seen.server["version"] >= 180_000:
        return list(found.values())
    # Up to 17, ANALYZE of a partitioned table does all below it: not again for its parts that are parents themselves.
    above = {oid for oid, wish in found.items() if wish.parent and wish.parent["kind"] == "p"}
    return [w for w in found.values() if not (w.parent and above & set(w.parent["ancestors"] or ()))]


def _for_analyze(why: Need) -> Need:
    kept = ("changes", "never analyzed", "lost", "named", "all")
    return replace(why, reasons=tuple(r for r in why.reasons if r.code in kept and not r.toast))


class _Shares:
    """The settings that decide what is enough, with what `database.analyze` does not ask for."""

    def __init__(self, settings: CareSettings) -> None:
        self.scope, self.share = settings.scope, settings.share
        vacuum = isinstance(settings, VacuumSettings)
        self.freeze_share = settings.freeze_share if vacuum else _NEVER  # type: ignore[attr-defined]
        self.never_vacuumed_rows = settings.never_vacuumed_rows if vacuum else 2**62  # type: ignore[attr-defined]


def _questions(job: CareJob) -> dict[str, dict[str, Any]]:
    settings: CareSettings = job.settings
    need_values = {
        "everything": settings.scope == "all",
        "share": _Shares(settings).freeze_share,
        "named": list(job.target.tables),
    }
    asked: dict[str, dict[str, Any]] = {
        "database/vacuum_server": {},
        "database/vacuum_need": need_values,
        "database/vacuum_parents": {},
        "database/vacuum_refused": {},
    }
    if isinstance(settings, VacuumSettings):
        asked["database/horizon_holders"] = {"top": settings.top}
    return asked


def _seen(job: CareJob, server: Server, answers: dict[str, Any], bloated: tuple[_bloat.Bloat, ...]) -> Seen:
    now = job.tools.now()
    rows = answers.get("database/horizon_holders", [])
    held = _horizon.holders(rows, job.tools.history, now) if isinstance(rows, list) else ()
    return Seen(server.place, now, answers, held, bloated, server.round_trips)
