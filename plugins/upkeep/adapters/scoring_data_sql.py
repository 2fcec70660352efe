"""Rows of a query, streamed out of PostgreSQL by COPY in a read-only session."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from upkeep.adapters import postgres
from upkeep.adapters.scoring_data_types import narrowed
from upkeep.core.errors import ConfigurationError, TransientError, UpkeepError

if TYPE_CHECKING:
    import psycopg
    import pyarrow as pa

    from upkeep.adapters.scoring_data import Wanted

_BLOCK = 4 << 20
"""Bytes of CSV that become one batch."""
# Names of PostgreSQL's built-in types, by how Arrow takes their text. Unknown ones are enumerations for the most part.
_NUMBERS = {"int2": "int64", "int4": "int64", "int8": "int64", "oid": "int64",
            "float4": "double", "float8": "double", "numeric": "double", "bool": "bool"}  # fmt: skip
_TEXTS = {"text", "varchar", "bpchar", "name", "uuid", "char", "money", "inet", "cidr", "macaddr"}
_TIMES = {"date", "timestamp", "timestamptz"}


def batches(
    conninfo: str, database: str | None, sql: str, wanted: Wanted, *, statement_timeout: float, connect_timeout: float
) -> Generator[pa.RecordBatch]:
    """Give the rows of a query with %(start)s and %(end)s.

    COPY takes one SELECT in parentheses: nothing else can be smuggled in, and the session is read-only besides.

    :raises ConfigurationError: the query is wrong, or the role may not read what it names.
    :raises TransientError: the server is away, or the query took too long.
    """
    import psycopg

    with postgres.open_session(
        conninfo,
        database=database,
        application_name="upkeep scoring data",
        statement_timeout=statement_timeout,
        lock_timeout=5.0,
        connect_timeout=connect_timeout,
        # Whoever wrote the query saw it work with the usual path, and times are then read in no zone but UTC.
        settings={"search_path": '"$user",public'},
        kind=postgres.Session,
    ) as session:
        try:
            yield from _rows(session.connection, sql, wanted)
        except psycopg.Error as error:
            raise _told(session.place, error) from error


def _rows(connection: psycopg.Connection[Any], sql: str, wanted: Wanted) -> Iterator[pa.RecordBatch]:
    import psycopg
    from psycopg import sql as compose

    # A comment on the query's last line must not swallow the parenthesis.
    query = compose.SQL("({}\n) AS q").format(compose.SQL(sql.strip().rstrip(";")))
    assert wanted.start is not None and wanted.end is not None, "a query has bounds"
    bounds = {"start": wanted.start, "end": wanted.end}
    cursor = psycopg.ClientCursor(connection)
    found = cursor.execute(compose.SQL("SELECT * FROM {} LIMIT 0").format(query), bounds).description or ()
    # With none of the wanted columns there, the rows are still to be counted.
    chosen = [c for c in found if wanted.wants(c.name)] or found
    columns = {c.name: _type_of(connection, c.type_code) for c in chosen}
    names = compose.SQL(", ").join(compose.Identifier(name) for name in columns)
    copy = compose.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT csv)").format(names, query)
    with cursor.copy(copy, bounds) as blocks:
        block = bytearray()
        for row in blocks:
            block += row
            if len(block) > _BLOCK:
                yield _parsed(bytes(block), columns)
                block.clear()
        if block:
            yield _parsed(bytes(block), columns)


def _type_of(connection: psycopg.Connection[Any], oid: int) -> str:
    """Return how values of a type are taken: as an Arrow type, `time`, or `binary` (no order, no classes)."""
    known = connection.adapters.types.get(oid)
    if known is None:
        return "string"
    if known.oid != oid:  # an array of it
        return "binary"
    if known.name in _TIMES:
        return "time"
    return _NUMBERS.get(known.name, "string" if known.name in _TEXTS else "binary")


def _parsed(block: bytes, columns: dict[str, str]) -> pa.RecordBatch:
    import pyarrow as pa

    try:
        table = _csv(block, columns, {n: "string" if kind == "time" else kind for n, kind in columns.items()})
    except pa.ArrowInvalid:
        # A number that no double can hold. Text is taken as it is, and what is a number becomes one afterwards.
        table = _csv(block, columns, dict.fromkeys(columns, "string"))
        columns = {name: kind if kind in ("time", "binary") else "any" for name, kind in columns.items()}
    arrays = {name: narrowed(table.column(name).combine_chunks(), columns[name]) for name in columns}
    return pa.RecordBatch.from_arrays([_whole(a) for a in arrays.values()], names=list(arrays))


def _csv(block: bytes, columns: dict[str, str], types: dict[str, str]) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    return csv.read_csv(
        io.BytesIO(block),
        read_options=csv.ReadOptions(column_names=list(columns), block_size=2 * _BLOCK + len(block)),
        # A line of one column that is NULL is empty, and a row all the same.
        parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        # COPY writes NULL as nothing at all, and an empty text in quotes.
        convert_options=csv.ConvertOptions(
            column_types={name: pa.type_for_alias(kind) for name, kind in types.items()},
            null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False,
            true_values=["t"], false_values=["f"],
        ),
    )  # fmt: skip


def _whole(array: Any) -> pa.Array:
    import pyarrow as pa

    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _told(place: str, error: psycopg.Error) -> UpkeepError:
    import psycopg

    said = " ".join(str(error).split())[:400]
    if isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
        return TransientError(
            f"{place}: the query of the scoring data: {said}",
            "see that an index serves its bounds, or raise `statement_timeout`; it is tried again",
        )
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return ConfigurationError(f"{place}: the query of the scoring data: {said}", "GRANT SELECT on it to the role")
    if isinstance(error, psycopg.ProgrammingError | psycopg.DataError | psycopg.errors.ReadOnlySqlTransaction):
        return ConfigurationError(
            f"{place}: the query of the scoring data: {said}",
            "correct `scoring.sql`: one SELECT; a percent sign is written %%, a table outside public with its schema",
        )
    return TransientError(f"{place}: the query of the scoring data: {said}", "is the server up? It is tried again")
