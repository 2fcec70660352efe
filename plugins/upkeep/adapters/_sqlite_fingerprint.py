"""What is in a SQLite database, as a hash over the rows of every table.

Rowids are no part of it but where a column holds them: VACUUM may change the others. Rows of a table are read in the
order of their rowids, or of their primary key; virtual tables are covered by the tables that they keep their data in.
"""

from __future__ import annotations

import hashlib
import pickle
import sqlite3
from contextlib import closing
from dataclasses import dataclass

# Bytes read under one lock: some ten milliseconds, after which a writer may go on.
_SLICE = 1 << 20
_STATISTICS = "sqlite_stat"


@dataclass(frozen=True)
class Fingerprint:
    """Rows and hash of every table, by name. `content` leaves out what ANALYZE has written."""

    tables: dict[str, tuple[int, str]]
    schema: str

    @property
    def content(self) -> str:
        """One hash over schema and tables."""
        whole = hashlib.sha256(self.schema.encode())
        for name, (_, digest) in sorted(self.tables.items()):
            if not name.startswith(_STATISTICS):
                whole.update(f"{name!r} {digest}\n".encode())
        return whole.hexdigest()

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(rows for rows, _ in self.tables.values())

    def differences(self, other: Fingerprint) -> list[str]:
        """Name the tables that are not the same in both."""
        names = sorted(self.tables.keys() | other.tables.keys())
        wrong = [name for name in names if self.tables.get(name) != other.tables.get(name)]
        return wrong if self.schema == other.schema else ["the schema", *wrong]


def fingerprint(connection: sqlite3.Connection) -> Fingerprint:
    """Read every row. Outside a transaction, nobody is kept waiting for longer than a slice takes.

    :raises sqlite3.Error: something could not be read, or took too long.
    """
    # Text that is no UTF-8 must not stop this, nor be taken for a blob, which comes as `bytes`.
    before, connection.text_factory = connection.text_factory, bytearray
    try:
        return Fingerprint({name: _table(connection, name) for name in tables(connection)}, _schema(connection))
    finally:
        connection.text_factory = before


def tables(connection: sqlite3.Connection) -> list[str]:
    """Return the names of the tables that hold rows themselves."""
    found = connection.execute(
        "select cast(name as blob) from sqlite_schema where type = 'table' and rootpage > 0 order by name"
    )
    return [name.decode(errors="surrogateescape") for (name,) in found.fetchall()]


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def rowid(connection: sqlite3.Connection, table: str) -> str:
    """Return a name by which a table's rowid can be read, empty when it has none (or none is left for it)."""
    listed = connection.execute(f"pragma table_xinfo({quoted(table)})").fetchall()
    columns = {_text(row[1]).lower() for row in listed}
    for name in ("rowid", "_rowid_", "oid"):
        if name in columns:
            continue
        try:
            connection.execute(f"select {name} from {quoted(table)} limit 0")
        except sqlite3.OperationalError:
            return ""
        return name
    return ""


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes | bytearray) else str(value)


def _schema(connection: sqlite3.Connection) -> str:
    """Return all definitions but those of statistics, with what else the header holds."""
    said = connection.execute(
        "select type, name, tbl_name, sql from sqlite_schema where name not like 'sqlite\\_stat%' escape '\\'"
        " order by type, name"
    ).fetchall()
    for pragma in ("encoding", "user_version", "application_id"):
        said += connection.execute(f"pragma {pragma}").fetchall()
    return hashlib.sha256(repr(said).encode()).hexdigest()


def _table(connection: sqlite3.Connection, name: str) -> tuple[int, str]:
    key = rowid(connection, name)
    digest, count, begin, size = hashlib.sha256(), 0, -(2**63), _SLICE
    columns = f"{key}, *" if key else "0, *"
    where = f"where {key} >= ? order by {key}" if key else "not indexed where ? is not null"
    # A slice that came to its end before it was full was the last one.
    while size >= _SLICE and begin < 2**63:
        size = 0
        with closing(connection.execute(f"select {columns} from {quoted(name)} {where}", (begin,))) as cursor:
            for row in cursor:
                # Tells text, blob, number and null apart, and takes half the time of `repr`; it is never loaded.
                data = pickle.dumps(row[1:], protocol=5)
                digest.update(data)
                count, size, begin = count + 1, size + len(data), row[0] + 1
                if key and size >= _SLICE:
                    break
            else:
                break
    return count, digest.hexdigest()
