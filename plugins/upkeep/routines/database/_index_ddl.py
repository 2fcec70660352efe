"""The exact statements that drop, rebuild and make indexes, each with what takes it back."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from upkeep.routines.database._seen import Row
from upkeep.routines.database._text import literal, quoted

_HEAD = re.compile(r'CREATE (?P<unique>UNIQUE )?INDEX (?P<name>"(?:[^"]|"")*"|[^\s"]+) ON (?P<only>ONLY )?')
_NAME_BYTES = 63
_BLOCKS = "-- of a partitioned table: it locks others out while it runs; with SET lock_timeout = '2s', at a quiet hour"


@dataclass(frozen=True)
class Definition:
    """How an index is dropped and made anew."""

    name: str
    table: str
    drop: str
    create: str
    partitioned: bool

    @classmethod
    def of(cls, row: Row) -> Definition:
        """Read a row of `index_definitions`."""
        name = f"{quoted(row['schema'])}.{quoted(row['index'])}"
        table = f"{quoted(row['table_schema'])}.{quoted(row['table'])}"
        partitioned = row["partitioned"]
        head = "DROP INDEX" if partitioned else "DROP INDEX CONCURRENTLY"
        make = whole(row["definition"]) if partitioned else concurrently(row["definition"])
        return cls(name, table, f"{head} {name};", " ".join(_dressed(f"{make};", row, name, table)), partitioned)

    def drop_hint(self) -> str:
        """Return the drop and its undo."""
        return f"{self.drop}{' ' + _BLOCKS if self.partitioned else ''}\nundo: {self.create}"

    def rebuild_hint(self) -> str:
        """Return the rebuild that leaves name and definition as they are."""
        return f"REINDEX INDEX CONCURRENTLY {self.name};\nundo: none is needed, the definition stays"


def concurrently(definition: str) -> str:
    """Return the statement of pg_get_indexdef so that it locks nobody out.

    >>> concurrently("CREATE UNIQUE INDEX i ON public.t USING btree (a)")
    'CREATE UNIQUE INDEX CONCURRENTLY i ON public.t USING btree (a)'
    """
    return _HEAD.sub(lambda m: f"CREATE {m['unique'] or ''}INDEX CONCURRENTLY {m['name']} ON ", definition, count=1)


def whole(definition: str) -> str:
    """Return the statement of pg_get_indexdef for a partitioned table so that every partition gets its part again.

    >>> whole("CREATE INDEX i ON ONLY public.t USING btree (a)")
    'CREATE INDEX i ON public.t USING btree (a)'
    """
    return _HEAD.sub(lambda m: f"CREATE {m['unique'] or ''}INDEX {m['name']} ON ", definition, count=1)


def _dressed(create: str, row: Row, name: str, table: str) -> list[str]:
    """Return a statement that makes an index, and those for what pg_get_indexdef leaves out."""
    made = [create]
    if row["tablespace"] is not None:
        made = [f"SET default_tablespace = {quoted(row['tablespace'])};", create, "RESET default_tablespace;"]
    made += [f"ALTER INDEX {name} ALTER COLUMN {number} SET STATISTICS {target};" for number, target in row["targets"]]
    if row["clustered"]:
        made.append(f"ALTER TABLE {table} CLUSTER ON {quoted(row['index'])};")
    if row["comment"] is not None:
        made.append(f"COMMENT ON INDEX {name} IS {_text(row['comment'])};")
    return made


def _text(text: str) -> str:
    """Return a literal that means the same whatever standard_conforming_strings says."""
    return " E" + literal(text.replace("\\", "\\\\")) if "\\" in text else literal(text)


def foreign_key_hint(schema: str, table: str, columns: Sequence[str], partitioned: bool) -> str:
    """Return how to make the index that a foreign key lacks, and how to take that back."""
    name, where = new_name(table, columns), f"{quoted(schema)}.{quoted(table)}"
    listed = ", ".join(map(quoted, columns))
    how = ("", f" {_BLOCKS}") if partitioned else (" CONCURRENTLY", "")
    create = f"CREATE INDEX{how[0]} {quoted(name)} ON {where} ({listed});{how[1]}"
    return f"{create}\nundo: DROP INDEX{how[0]} {quoted(schema)}.{quoted(name)};"


def new_name(table: str, columns: Sequence[str]) -> str:
    """Return a name for an index: short enough for the server, and hardly ever taken.

    >>> new_name("payment", ["claim_id"])
    'payment_claim_id_fk_idx'
    """
    name = "_".join((table, *columns, "fk_idx"))
    if len(name.encode()) <= _NAME_BYTES:
        return name
    tail = f"_{zlib.crc32(name.encode()):08x}_fk_idx"
    return name.encode()[: _NAME_BYTES - len(tail)].decode(errors="ignore") + tail
