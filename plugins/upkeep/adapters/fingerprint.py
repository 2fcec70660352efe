"""Fingerprints: row count and order-independent content hash of tables, computed by the server in one snapshot.

The hash of a row is `hash_record_extended` over its columns, of a table the sum over its rows. hash_record combines
columns by 31 * h + h', so that alone a sum would not notice two rows that swap a value; each row's hash therefore goes
through a second, nonlinear hash. Columns go in the order of their names: a restored table may have them in another.

Values enter as themselves where the type's own hash sees all there is and holds nothing that differs between clusters.
Everything else enters as the text that a dump would hold, quoted by `format('%L')`, which calls the type's output
function (a cast to text may be somebody's own): enums and reg* (hash of an OID), composites, json, xml, point (no
hash), numeric without scale and interval (1.0 = 1.00, 30 days = 1 month), types of extensions.

The rows of a large table whose primary key is one integer are summed by ranges of it, in the same pass: the sum over
the ranges is the hash of the table, and where two copies differ, the ranges tell where.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from upkeep.adapters import statements
from upkeep.core.backup import KeyRange, LargeObjects, TableProof

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

# Types whose hash depends on the value alone. float: -0 and 0 are one value; jsonb: so are 1.0 and 1.00.
_NATIVE = frozenset((
    "bool", "bytea", "char", "name", "int2", "int4", "int8", "float4", "float8", "text", "varchar", "bpchar", "date",
    "time", "timetz", "timestamp", "timestamptz", "uuid", "inet", "cidr", "macaddr", "macaddr8", "oid", "jsonb",
))  # fmt: skip
# Ranges of the key of a table that has at least so many rows, by the planner's estimate or by its size.
RANGES, RANGED_ROWS = 64, 100_000
_ROW_BYTES = 100
# Array columns count twice, so that 1600 columns can be more values than fit: MaxTupleAttributeNumber is 1664,
# https://github.com/postgres/postgres/blob/REL_18_STABLE/src/include/access/htup_details.h
_ROW_VALUES = 1664
_WIDEST = 1 << 62  # differences of keys must fit into a bigint
# What text forms depend on, pinned; a name in somebody's schema must not stand in for a function of the server.
PINNED = {
    "search_path": "",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmlbinary": "base64",
    "row_security": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "client_connection_check_interval": "10s",
    "client_encoding": "UTF8",
}


class Column(NamedTuple):
    """One column as statement backup/tables tells it: `type` is that of an array's elements, '' when not built in."""

    name: str
    type: str
    array: bool
    typmod: int
    loose: bool


class Table(NamedTuple):
    """One table whose rows a dump holds."""

    oid: int
    name: tuple[str, str]
    root: tuple[str, str] | None
    condition: str
    bytes: int
    writes: int
    hides_rows: bool
    columns: tuple[Column, ...]
    key: str = ""
    estimate: float = -1.0

    @property
    def large(self) -> bool:
        """Whether it is worth telling where in it a difference lies."""
        return (self.estimate if self.estimate >= 0 else self.bytes / _ROW_BYTES) >= RANGED_ROWS


def tables(connection: psycopg.Connection[Any]) -> list[Table]:
    """Return all tables whose rows a dump holds, largest first."""
    return [_table(row) for row in _rows(connection, "tables")]


def _table(row: dict[str, Any]) -> Table:
    return Table(
        oid=row["oid"],
        name=(row["schema"], row["name"]),
        root=(row["root_schema"], row["root_name"]) if row["root_name"] is not None else None,
        condition=row["condition"] or "",
        bytes=row["bytes"],
        writes=row["writes"],
        hides_rows=row["hides_rows"],
        columns=tuple(Column(**column) for column in row["columns"]),
        key=row["key"] or "",
        estimate=row["estimate"],
    )


def spread(found: Sequence[Table], workers: int) -> list[list[Table]]:
    """Give tables to workers, the largest first, each to the worker that has least to read."""
    shares: list[list[Table]] = [[] for _ in range(workers)]
    load = [(0, number) for number in range(workers)]
    for table in found:
        bytes_, number = heapq.heappop(load)
        shares[number].append(table)
        heapq.heappush(load, (bytes_ + table.bytes + 8192, number))
    return shares


class Bounds(NamedTuple):
    """Ranges of keys: the first begins at `low`, each is `step` keys wide, the last ends with or after `high`."""

    low: int
    step: int
    high: int

    @property
    def number(self) -> int:
        """How many ranges there are."""
        return (self.high - self.low) // self.step + 1


def prove(connection: psycopg.Connection[Any], table: Table, like: TableProof | None = None) -> TableProof:
    """Return the proof of one table in the connection's snapshot.

    :param like: the proof to compare it with, whose ranges are then used.
    """
    bounds = _bounds(connection, table) if like is None else _same_bounds(table, like)
    if bounds is None:
        row = connection.execute(statement(table)).fetchone()
        assert row is not None
        return _proof(table, row["rows"], row["hash"])
    buckets = {row["bucket"]: row for row in connection.execute(_by_ranges(table, bounds)).fetchall()}
    return _proof(
        table,
        sum(row["rows"] for row in buckets.values()),
        str(sum(int(row["hash"]) for row in buckets.values())),
        tuple(
            KeyRange(
                low=bounds.low + n * bounds.step,
                high=min(bounds.low + (n + 1) * bounds.step - 1, bounds.high),
                rows=buckets[n]["rows"] if n in buckets else 0,
                hash=buckets[n]["hash"] if n in buckets else "0",
            )
            for n in range(bounds.number)
        ),
    )


def _proof(table: Table, rows: int, hash_: str, ranges: tuple[KeyRange, ...] = ()) -> TableProof:
    return TableProof(
        oid=table.oid,
        name=table.name,
        root=table.root,
        rows=rows,
        hash=hash_,
        bytes=table.bytes,
        writes=table.writes,
        key=table.key if ranges else "",
        ranges=ranges,
    )


def _bounds(connection: psycopg.Connection[Any], table: Table) -> Bounds | None:
    """Divide the keys of a large table into ranges; its index knows the least and the greatest."""
    from psycopg import sql

    if not (table.key and table.large):
        return None
    text = sql.SQL("select pg_catalog.min({0})::int8 as low, pg_catalog.max({0})::int8 as high from only {1} {2}")
    query = text.format(sql.Identifier(table.key), sql.Identifier(*table.name), sql.SQL(table.condition))
    row = connection.execute(query).fetchone()
    if row is None or row["low"] is None or row["high"] - row["low"] >= _WIDEST:
        return None
    return Bounds(row["low"], -(-(row["high"] - row["low"] + 1) // RANGES), row["high"])


def _same_bounds(table: Table, like: TableProof) -> Bounds | None:
    if not like.ranges or like.key != table.key:
        return None
    first = like.ranges[0]
    return Bounds(first.low, first.high - first.low + 1, like.ranges[-1].high)


def _by_ranges(table: Table, bounds: Bounds) -> sql.Composed:
    """Return the statement that counts and hashes rows by range: 0, 1, ...; -1 below the first, -2 above the last."""
    from psycopg import sql

    bucket = sql.SQL(
        "case when {key} < {low} then -1 when {key} > {high} then -2 else ({key}::int8 - {low}) / {step} end"
    )
    parts = {"low": bounds.low, "high": bounds.high, "step": bounds.step}
    literals = {name: sql.SQL("({}::int8)").format(sql.Literal(value)) for name, value in parts.items()}
    by = bucket.format(key=sql.Identifier(table.key), **literals)
    return sql.SQL("select {} as bucket, {} group by 1").format(by, _summed(table))


def statement(table: Table) -> sql.Composed:
    """Return the statement that counts and hashes the rows of a table."""
    from psycopg import sql

    return sql.SQL("select {}").format(_summed(table))


def _summed(table: Table) -> sql.Composed:
    """Return count and hash of rows, and where they come from.

    The condition of an extension's configuration table is SQL that the extension declared; pg_dump uses it as it is.
    """
    from psycopg import sql

    hashed = _hashed([part for column in table.columns for part in _expressions(column)])
    return sql.SQL(
        "pg_catalog.count(*) as rows, coalesce(pg_catalog.sum(pg_catalog.hashfloat8extended("
        "{}::pg_catalog.float8, 0)), 0)::pg_catalog.text as hash from only {} {}"
    ).format(hashed, sql.Identifier(*table.name), sql.SQL(table.condition))


def _hashed(values: Sequence[sql.Composable]) -> sql.Composed:
    """Return the hash of a row; of one with more values than a row constructor takes, the hash of the parts' hashes."""
    from psycopg import sql

    if len(values) > _ROW_VALUES:
        parts = [values[at : at + _ROW_VALUES] for at in range(0, len(values), _ROW_VALUES)]
        values = [_hashed(part) for part in parts]
    return sql.SQL("pg_catalog.hash_record_extended(row({}), 0)").format(sql.SQL(", ").join(values))


def _expressions(column: Column) -> Iterable[sql.Composable]:
    from psycopg import sql

    name = sql.Identifier(column.name)
    exact = column.type in _NATIVE or (column.type == "numeric" and column.typmod >= 0)
    if not exact:
        return [sql.SQL("pg_catalog.format('%L', {})").format(name)]
    # Under a nondeterministic collation different strings may be equal and have the same hash.
    value = sql.SQL('{} collate pg_catalog."C"').format(name) if column.loose else name
    # An array's hash sees its elements only: {1,2,3,4} and {{1,2},{3,4}} have the same.
    return [value, sql.SQL("pg_catalog.array_dims({})").format(name)] if column.array else [value]


def large_objects(connection: psycopg.Connection[Any]) -> LargeObjects:
    """Return the proof of all large objects in the connection's snapshot."""
    seen = _rows(connection, "large_objects_readable")[0]
    if not seen["present"]:
        return LargeObjects()
    name = "large_objects" if seen["readable"] else "large_objects_granted"
    return LargeObjects(**_rows(connection, name, page=seen["page"])[0])


def _rows(connection: psycopg.Connection[Any], name: str, **values: Any) -> list[dict[str, Any]]:
    text = statements.load("backup", name, connection.info.server_version)
    return connection.execute(text.encode(), values or None).fetchall()
