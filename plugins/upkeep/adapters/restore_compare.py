"""A restored database against the manifest of its backup: every table, sequence and large object."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from upkeep.adapters import backup_snapshot, fingerprint, statements
from upkeep.adapters.fingerprint import Table
from upkeep.core.backup import LargeObjects, Manifest, SequenceValue, TableProof, differences
from upkeep.core.restore import TableDifference, range_differences

if TYPE_CHECKING:
    import psycopg


def compare(conninfo: str, manifest: Manifest, jobs: int) -> tuple[list[TableDifference], int]:
    """Return what differs from the manifest, and the rows that were read.

    :raises TransientError: the server went away.
    """
    place = "the restored database"
    with backup_snapshot.connect(conninfo) as connection, backup_snapshot.told(place):
        shares = fingerprint.spread(fingerprint.tables(connection), jobs)
        others = [*_sequences(connection, manifest.sequences), *_large(connection, manifest.large_objects)]
    expected = {proof.name: proof for proof in manifest.tables}

    def prove(share: list[Table]) -> list[TableProof]:
        with backup_snapshot.connect(conninfo) as connection, backup_snapshot.told(place):
            return [_prove(connection, table, expected.get(table.name)) for table in share]

    with ThreadPoolExecutor(jobs, thread_name_prefix="compare") as pool:
        seen = [proof for proofs in pool.map(prove, shares) for proof in proofs]
    return [*_tables(manifest, seen), *others], sum(proof.rows for proof in seen)


def _prove(connection: psycopg.Connection[Any], table: Table, expected: TableProof | None) -> TableProof:
    """Prove a table; only one that differs is read again, by ranges: that costs a third more."""
    plain = fingerprint.prove(connection, table._replace(key=""))
    if expected is None or not expected.ranges or (plain.rows, plain.hash) == (expected.rows, expected.hash):
        return plain
    return fingerprint.prove(connection, table, expected)


def _tables(manifest: Manifest, seen: list[TableProof]) -> list[TableDifference]:
    left, right = ({p.name: p for p in proofs} for proofs in (manifest.tables, seen))
    return [
        TableDifference(
            name=".".join(d.name),
            expected=d.expected,
            seen=d.seen,
            key=left[d.name].key if d.name in left else "",
            ranges=range_differences(left[d.name], right[d.name]) if d.name in left and d.name in right else (),
        )
        for d in differences(manifest.tables, seen)
    ]


def _sequences(connection: psycopg.Connection[Any], expected: tuple[SequenceValue, ...]) -> list[TableDifference]:
    from psycopg import sql

    found = []
    for sequence in expected:
        row = connection.execute(statements.load("restore", "relation").encode(), {"name": sequence.name}).fetchone()
        wanted, got = _value(sequence.last_value, sequence.is_called), "no such sequence"
        if row is not None:
            name = sql.Identifier(row["schema"], row["name"])
            value = connection.execute(sql.SQL("select last_value, is_called from {}").format(name)).fetchone()
            got = _value(value["last_value"], value["is_called"]) if value else got
        if got != wanted:
            found.append(TableDifference(what="sequence", name=sequence.name, expected=wanted, seen=got))
    return found


def _value(last_value: int, is_called: bool) -> str:
    return f"{last_value}{'' if is_called else ' (not called)'}"


def _large(connection: psycopg.Connection[Any], expected: LargeObjects) -> list[TableDifference]:
    seen = fingerprint.large_objects(connection)
    if seen == expected:
        return []
    wanted, got = (f"{o.count} with {o.bytes} bytes, hash {o.hash}" for o in (expected, seen))
    return [TableDifference(what="large objects", name="all", expected=wanted, seen=got)]
