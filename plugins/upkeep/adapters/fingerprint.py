"""Fingerprints: row count and order-independent content hash of tables, computed by the server in one snapshot.

The hash of a row is `hash_record_extended` over its columns, of a table the sum over its rows. hash_record combines
columns by 31 * h + h', so that alone a sum would not notice two rows that swap a value; each row's hash therefore goes
through a second, nonlinear hash. Columns go in the order of their names: a restored table may have them in another.

Values enter as themselves where the type's own hash sees all there is and holds nothing that differs between clusters.
Everything else enters as the text that a dump would hold, quoted by `format('%L')`, which calls the type's output
function (a cast to text may be somebody's own): enums and reg* (hash of an OID), composites, json, xml, point (no
hash), numeric without scale and interval (1.0 = 1.00, 30 days = 1 month), types of extensions.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from upkeep.adapters import statements
from upkeep.core.backup import LargeObjects, TableProof

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

# Types whose hash depends on the value alone. float: -0 and 0 are one value; jsonb: so are 1.0 and 1.00.
_NATIVE = frozenset((
    "bool", "bytea", "char", "name", "int2", "int4", "int8", "float4", "float8", "text", "varchar", "bpchar", "date",
    "time", "timetz", "timestamp", "timestamptz", "uuid", "inet", "cidr", "macaddr", "macaddr8", "oid", "jsonb",
))  # fmt: skip
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


def prove(connection: psycopg.Connection[Any], table: Table) -> TableProof:
    """Return the proof of one table in the connection's snapshot."""
    row = connection.execute(statement(table)).fetchone()
    assert row is not None
    return TableProof(
        oid=table.oid,
        name=table.name,
        root=table.root,
        rows=row["rows"],
        hash=row["hash"],
        bytes=table.bytes,
        writes=table.writes,
    )


def statement(table: Table) -> sql.Composed:
    """Return the statement that counts and hashes the rows of a table.

    The condition of an extension's configuration table is SQL that the extension declared; pg_dump uses it as it is.
    """
    from psycopg import sql

    columns = [part for column in table.columns for part in _expressions(column)]
    return sql.SQL(
        "select pg_catalog.count(*) as rows, coalesce(pg_catalog.sum(pg_catalog.hashfloat8extended("
        "pg_catalog.hash_record_extended(row({}), 0)::pg_catalog.float8, 0)), 0)::pg_catalog.text as hash"
        " from only {} {}"
    ).format(sql.SQL(", ").join(columns), sql.Identifier(*table.name), sql.SQL(table.condition))


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
