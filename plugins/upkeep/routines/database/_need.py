"""Which tables need vacuum or analyze: as autovacuum decides it, and what autovacuum leaves out.

The rules are those of `relation_needs_vacanalyze` (src/backend/postmaster/autovacuum.c, 14 to 18): limits from the
server's settings or the table's storage parameters, TOAST by its own counters with its own parameters or, where it has
none, its table's. Beyond that: a share of those limits is enough in quiet hours; tables with autovacuum switched off,
tables never looked after, and those whose counters a crash or a reset has lost are taken as well; and parents of
partitions, which autovacuum never analyzes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

Row = Mapping[str, Any]
Code = Literal["age", "dead", "inserts", "changes", "never vacuumed", "never analyzed", "lost", "named", "all"]
# ANALYZE refuses to work on the table that it writes to.
_PG_STATISTIC = 2619
_NO = ("0", "f", "fa", "fal", "fals", "false", "n", "no", "of", "off")


class Shares(Protocol):
    """The settings that decides what is enough."""

    @property
    def scope(self) -> Literal["needed", "all", "named"]: ...
    @property
    def share(self) -> float: ...
    @property
    def freeze_share(self) -> float: ...
    @property
    def never_vacuumed_rows(self) -> int: ...


@dataclass(frozen=True)
class Part:
    """A table without its TOAST, or the TOAST of one. Sizes in pages, ages in ids; counters since they were reset."""

    oid: int
    pages: float
    tuples: float
    all_visible: float
    all_frozen: float | None
    live: int
    dead: int
    inserted: int
    vacuumed_at: datetime | None
    xid_age: float
    mxid_age: float


@dataclass(frozen=True)
class Table:
    """A table or materialized view; see `vacuum_need.sql`."""

    schema: str
    table: str
    name: str
    is_system: bool
    is_shared: bool
    main: Part
    toast: Part | None
    options: Mapping[str, str]
    toast_options: Mapping[str, str]
    modified: int
    analyzed_at: datetime | None
    index_pages: float

    @property
    def pages(self) -> float:
        """Pages of everything that belongs to the table."""
        return self.main.pages + self.index_pages + (self.toast.pages if self.toast else 0)


@dataclass(frozen=True)
class Reason:
    """Why a table is taken. `ratio` 1 is where autovacuum would take it for this, `toast` says which part."""

    code: Code
    ratio: float
    text: str
    toast: bool = False


@dataclass(frozen=True)
class Need:
    """What a table needs. `dead_limit`: dead rows at which autovacuum would take it (0: not known, as of a parent)."""

    reasons: tuple[Reason, ...] = ()
    dead_limit: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.reasons)

    @functools.cached_property
    def main(self) -> bool:
        """Whether the table itself is to be vacuumed."""
        return any(not r.toast and r.code not in ("changes", "never analyzed") for r in self.reasons)

    @functools.cached_property
    def toast(self) -> bool:
        """Whether its TOAST is to be vacuumed."""
        return any(r.toast or r.code in ("lost", "named", "all") for r in self.reasons)

    @functools.cached_property
    def analyze(self) -> bool:
        """Whether its statistics are to be made anew."""
        return any(r.code in ("changes", "never analyzed", "lost", "named", "all") for r in self.reasons)

    @functools.cached_property
    def freeze(self) -> bool:
        """Whether old ids are among the reasons."""
        return any(r.code == "age" for r in self.reasons)

    @functools.cached_property
    def urgent(self) -> bool:
        """Whether autovacuum would take the table as well."""
        return any(r.ratio >= 1 for r in self.reasons)

    @functools.cached_property
    def score(self) -> float:
        """How bad it is; see `_weight`. Bounded, so that waiting for long enough outweighs any need."""
        return sum(_weight(r) for r in self.reasons)


def _weight(reason: Reason) -> float:
    """Return what a reason counts: ids past the age at which the server freezes by force count most (up to 200)."""
    match reason.code:
        case "age":
            return 50 + 50 * min(reason.ratio, 3) if reason.ratio >= 1 else 20 * reason.ratio
        case "dead":
            return min(reason.ratio, 10)
        case "inserts" | "changes":
            return min(reason.ratio, 10) / 2
        case "lost" | "never vacuumed" | "never analyzed":
            return 3
    return 0


@dataclass(frozen=True)
class Limits:
    """What autovacuum takes a part of a table at: rows and ages in ids; `insert` None: not for inserts."""

    dead: float
    insert: float | None
    changes: float
    xid_age: float
    mxid_age: float


def limits(server: Row, options: Mapping[str, str], part: Part) -> Limits:
    """Return the limits of a table (or its TOAST) with some storage parameters."""
    tuples = max(part.tuples, 0)
    if not options:  # nearly all tables; the rest of this takes time with ten thousand of them
        return _usual_limits(server, part, tuples)
    dead = _option(options, "vacuum_threshold", server["vacuum_threshold"]) + tuples * _option(
        options, "vacuum_scale_factor", server["vacuum_scale"]
    )
    if server["max_threshold"] is not None:
        cap = _option(options, "vacuum_max_threshold", server["max_threshold"], least=-1)
        dead = min(dead, cap) if cap >= 0 else dead
    base = _option(options, "vacuum_insert_threshold", server["insert_threshold"], least=-1)
    scale = _option(options, "vacuum_insert_scale_factor", server["insert_scale"])
    freeze, multixact = server["freeze_max_age"], server["multixact_freeze_max_age"]
    return Limits(
        dead=dead,
        insert=None if base < 0 else base + scale * tuples * _unfrozen(part),
        changes=_option(options, "analyze_threshold", server["analyze_threshold"])
        + tuples * _option(options, "analyze_scale_factor", server["analyze_scale"]),
        # A parameter can lower the age at which a table is frozen by force, never raise it.
        xid_age=min(freeze, _option(options, "freeze_max_age", freeze)),
        mxid_age=min(multixact, _option(options, "multixact_freeze_max_age", multixact)),
    )


def _usual_limits(server: Row, part: Part, tuples: float) -> Limits:
    dead = server["vacuum_threshold"] + tuples * server["vacuum_scale"]
    cap, base = server["max_threshold"], server["insert_threshold"]
    return Limits(
        dead=min(dead, cap) if cap is not None and cap >= 0 else dead,
        insert=None if base < 0 else base + server["insert_scale"] * tuples * _unfrozen(part),
        changes=server["analyze_threshold"] + tuples * server["analyze_scale"],
        xid_age=server["freeze_max_age"],
        mxid_age=server["multixact_freeze_max_age"],
    )


def need(table: Table, server: Row, settings: Shares, named: bool = False) -> Need:
    """Return what a table needs, for which reasons."""
    limit = limits(server, table.options, table.main)
    found = [*_parts(table, limit, server, settings), *_changes(table, limit.changes, settings.share)]
    if named:
        found.append(Reason("named", 0, "named by the system file"))
    elif settings.scope == "all":
        found.append(Reason("all", 0, "everything is done in this run"))
    return Need(() if settings.scope == "named" and not named else tuple(found), limit.dead)


def is_lost(table: Table) -> bool:
    """Tell whether the counters know nothing of rows that the catalogue knows: a crash or a reset has lost them."""
    main = table.main
    known = main.vacuumed_at is not None or table.analyzed_at is not None
    return not known and not table.is_system and main.tuples > 0 and main.live + main.dead < main.tuples / 2


def _parts(table: Table, limit: Limits, server: Row, settings: Shares) -> Iterator[Reason]:
    main, toast = table.main, table.toast
    yield from _part_needs(main, limit, settings)
    if toast is not None:
        for reason in _part_needs(toast, limits(server, table.toast_options, toast), settings):
            yield Reason(reason.code, reason.ratio, f"TOAST: {reason.text}", True)
    if is_lost(table):
        text = f"counters of changes were lost (the catalogue knows of {main.tuples:,.0f} rows)"
        yield Reason("lost", 0, text)
    elif main.vacuumed_at is None and main.all_visible == 0 and main.live >= settings.never_vacuumed_rows:
        yield Reason("never vacuumed", 0, f"never vacuumed, {main.live:,} rows")


def _part_needs(part: Part, limit: Limits, settings: Shares) -> Iterator[Reason]:
    yield from _ages(part, limit, settings.freeze_share)
    yield from _rows(part, limit, settings.share)


def _ages(part: Part, limit: Limits, share: float) -> Iterator[Reason]:
    for what, age, most in (("transaction", part.xid_age, limit.xid_age), ("multixact", part.mxid_age, limit.mxid_age)):
        if age > share * most:
            yield Reason("age", age / most, f"{what} ids {age:,.0f} old, frozen by force at {most:,.0f}")


def _rows(part: Part, limit: Limits, share: float) -> Iterator[Reason]:
    if part.dead > share * limit.dead:
        yield Reason(
            "dead", _ratio(part.dead, limit.dead), f"{part.dead:,} dead rows, autovacuum's limit {limit.dead:,.0f}"
        )
    if limit.insert is not None and part.inserted > share * limit.insert:
        ratio = _ratio(part.inserted, limit.insert)
        yield Reason("inserts", ratio, f"{part.inserted:,} rows inserted since, autovacuum's limit {limit.insert:,.0f}")


def _changes(table: Table, limit: float, share: float) -> Iterator[Reason]:
    if table.main.oid == _PG_STATISTIC:
        return
    if table.analyzed_at is None and not table.is_system and (table.main.live > 0 or table.main.tuples > 0):
        yield Reason("never analyzed", 0, "never analyzed")
    elif table.modified > share * limit:
        text = f"{table.modified:,} rows changed since it was analyzed, autovacuum's limit {limit:,.0f}"
        yield Reason("changes", _ratio(table.modified, limit), text)


def parent_need(row: Row, server: Row, settings: Shares, named: bool = False) -> Need:
    """Return what the parent of other tables needs, by what was changed in those since it was analyzed.

    A child that was analyzed since counts with the least change that autovacuum analyzes it for.
    """
    options = parsed(row["options"])
    base = _option(options, "analyze_threshold", server["analyze_threshold"])
    scale = _option(options, "analyze_scale_factor", server["analyze_scale"])
    limit = base + scale * row["tuples"]
    changed = row["modified"] + row["later"] * base + row["later_tuples"] * scale
    found: list[Reason] = []
    if row["analyzed_at"] is None and (row["tuples"] > 0 or row["modified"] > 0):
        found.append(Reason("never analyzed", 0, "never analyzed as a whole; autovacuum only does its parts"))
    elif changed > settings.share * limit:
        text = f"about {changed:,.0f} rows of its parts changed since it was analyzed; autovacuum only does the parts"
        found.append(Reason("changes", _ratio(changed, limit), text))
    if named:
        found.append(Reason("named", 0, "named by the system file"))
    elif settings.scope == "all":
        found.append(Reason("all", 0, "everything is done in this run"))
    return Need(() if settings.scope == "named" and not named else tuple(found))


def table_of(row: Row) -> Table:
    """Return a row of `vacuum_need.sql` as a table."""
    options = parsed(row["options"])
    return Table(
        schema=row["schema"],
        table=row["table"],
        name=row["name"],
        is_system=row["is_system"],
        is_shared=row["is_shared"],
        main=_part(row, ""),
        toast=_part(row, "toast_") if row["toast_oid"] else None,
        options=options,
        # Any parameter of its own makes TOAST forget those of its table.
        toast_options=options if row["toast_options"] is None else parsed(row["toast_options"]),
        modified=row["modified"] or 0,
        analyzed_at=row["analyzed_at"],
        index_pages=row["index_pages"],
    )


def parsed(options: Sequence[str] | None) -> dict[str, str]:
    """Return storage parameters as a mapping.

    >>> parsed(["fillfactor=70", "autovacuum_enabled=off"])
    {'fillfactor': '70', 'autovacuum_enabled': 'off'}
    """
    return dict(option.split("=", 1) for option in options or ())


def is_switched_off(options: Mapping[str, str]) -> bool:
    """Tell whether autovacuum is switched off for a table. :param options: its storage parameters."""
    return options.get("autovacuum_enabled", "").lower() in _NO


def _part(row: Row, of: str) -> Part:
    return Part(
        oid=row[f"{of}oid"],
        pages=row[f"{of}pages"] or 0,
        tuples=row[f"{of}tuples"] if row[f"{of}tuples"] is not None else -1,
        all_visible=row[f"{of}all_visible"] or 0,
        all_frozen=row[f"{of}all_frozen"],
        live=row[f"{of}live"] or 0,
        dead=row[f"{of}dead"] or 0,
        inserted=row[f"{of}inserted"] or 0,
        vacuumed_at=row[f"{of}vacuumed_at"],
        xid_age=row[f"{of}xid_age"] or 0,
        mxid_age=row[f"{of}mxid_age"] or 0,
    )


def _option(options: Mapping[str, str], name: str, default: float, least: float = 0) -> float:
    """Return a storage parameter; below `least` it means: as the server's settings say."""
    given = options.get(f"autovacuum_{name}")
    return default if given is None or float(given) < least else float(given)


def _unfrozen(part: Part) -> float:
    """Return the share of pages that are not frozen; only from 18 on it counts (and is known)."""
    if not part.all_frozen or part.pages <= 0:
        return 1
    return 1 - min(part.all_frozen, part.pages) / part.pages


def _ratio(value: float, limit: float) -> float:
    return value / limit if limit > 0 else 10.0
