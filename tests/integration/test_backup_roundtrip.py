"""A backup restored by plain pg_restore holds the rows of the snapshot, whatever they are made of."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.backup_world import World, world, writing
from upkeep.adapters import backup_snapshot, fingerprint
from upkeep.core import backup as core
from upkeep.core.backup import differences

SHOP = (
    "create type mood as enum ('glad', 'sad')",
    "create type pair as (a int, b text)",
    "create domain cents as numeric check (value >= 0)",
    "create domain words as text[]",
    """create table customer (id int primary key, name text, mood mood, home pair, tags words, credit cents,
                              doc jsonb, raw json, seen timestamptz, stay interval,
                              twice int generated always as (id * 2) stored)""",
    """insert into customer select i, md5(i::text), case when i % 2 = 0 then 'glad'::mood else 'sad' end,
              row(i, 'x')::pair, array['a', i::text], i / 7.0, jsonb_build_object('i', i), '{"b": 1,  "a": 2}',
              now() - i * interval '1 s', i * interval '1 day' from generate_series(1, 20000) as i""",
    "alter table customer add column gone int, add column late text default 'late'",
    "alter table customer drop column gone",
    "create table sale (day date, amount numeric(10, 2)) partition by range (day)",
    "create table sale_2025 partition of sale for values from ('2025-01-01') to ('2026-01-01')",
    "create table sale_2026 partition of sale for values from ('2026-01-01') to ('2027-01-01')",
    "insert into sale select date '2025-06-01' + i % 500, i / 100.0 from generate_series(1, 5000) as i",
    "create table feeling (mood mood, n int) partition by hash (mood)",
    "create table feeling_0 partition of feeling for values with (modulus 2, remainder 0)",
    "create table feeling_1 partition of feeling for values with (modulus 2, remainder 1)",
    "insert into feeling select case i % 3 when 0 then 'glad'::mood else 'sad' end, i from generate_series(1, 99) as i",
    "create table parent (x int)",
    "create table child (y int) inherits (parent)",
    "insert into parent values (1)",
    "insert into child values (2, 3)",
    "create table empty_table ()",
    "insert into empty_table default values",
    'create table "x""; drop table y;--" ("a""; select 1;--" int, "%s" text, "{}" text)',
    "insert into \"x\"\"; drop table y;--\" values (1, '%s', E'line\\nbreak\\t\\\\.')",
    'create schema "TABLE DATA"; create table "TABLE DATA"."line\nbreak" (v text)',
    'insert into "TABLE DATA"."line\nbreak" values (E\'a\\n\\\\.\\nb\')',
    'create sequence "odd\'name" start 7',
    "select nextval('\"odd''name\"')",
    "create unlogged table scratchpad as select generate_series(1, 10) as n",
    "create materialized view seen as select count(*) from customer",
    "select lo_from_bytea(0, decode(repeat('00ff', 5000), 'hex'))",
    "select lo_create(0)",
    "select lo_put(lo_from_bytea(0, 'head'), 100000, 'tail')",
)
LOAD = """with a as (update customer set late = clock_timestamp()::text where id % 50 = 0)
          insert into sale values ('2026-01-02', 1)"""


@pytest.fixture(scope="module", params=[14, 15, 16, 17, 18])
def lab(request: pytest.FixtureRequest) -> Iterator[World]:
    with world(request.param) as made:
        yield made


def test_restored_rows_are_those_of_the_snapshot_while_the_source_is_written_to(lab: World, tmp_path: Path) -> None:
    """Plain pg_restore of a backup gives fingerprints equal to the manifest although the source has moved on."""
    lab.database("shop", *SHOP)
    with writing(lab, LOAD) as writes:
        kept = lab.backup(jobs=2, fingerprint_jobs=2)
    lab.restore(lab.download(kept, tmp_path / "files"), "shop_restored")
    assert writes[0] > 0
    assert differences(kept.manifest.tables, lab.proofs("shop_restored")) == ()
    assert differences(kept.manifest.tables, lab.proofs("shop")) != ()
    assert kept.manifest.rows == sum(p.rows for p in lab.proofs("shop_restored"))


def test_large_objects_are_proved_alike_in_source_and_copy(lab: World, tmp_path: Path) -> None:
    """Large objects, also sparse and empty ones, have the same proof in the source and after a restore."""
    lab.database("shop", *SHOP)
    kept = lab.backup()
    lab.restore(lab.download(kept, tmp_path / "files"), "shop_restored")
    with backup_snapshot.connect(lab.postgres.dsn("shop_restored")) as connection:
        assert fingerprint.large_objects(connection) == kept.manifest.large_objects
    assert kept.manifest.large_objects.count == 3


def test_large_objects_have_one_proof_for_superusers_and_others(lab: World) -> None:
    """Read through the functions for large objects, the proof is the one that the catalogue gives."""
    from upkeep.adapters import statements

    lab.database("shop", *SHOP)
    seen = []
    with backup_snapshot.connect(lab.dsn) as connection:
        for name in ("large_objects", "large_objects_granted"):
            text = statements.load("backup", name, connection.info.server_version)
            connection.execute("begin")
            seen.append(connection.execute(text.encode(), {"page": 2048}).fetchall())
            connection.execute("rollback")
    assert seen[0] == seen[1]


def test_manifest_tells_source_sequences_and_tools(lab: World) -> None:
    """The manifest names the very source, holds sequences as the archive sets them, and the roles beside it."""
    lab.database("shop", *SHOP)
    kept = lab.backup()
    manifest = kept.manifest
    assert manifest.source.database == "shop"
    assert manifest.source.system_identifier and manifest.source.lsn
    assert [(s.last_value, s.is_called) for s in manifest.sequences] == [(7, True)]
    assert manifest.settings["compress"].startswith("zstd" if lab.postgres.major >= 16 else "6")
    assert core.GLOBALS in {f.name for f in manifest.files} and manifest.roles == ""
    assert b"PASSWORD" not in b"".join(open_file(lab, kept, core.GLOBALS))
    assert lab.archive.manifest(lab.place, manifest.id) == manifest


def open_file(lab: World, kept: core.Kept, name: str) -> list[bytes]:
    with lab.store.read(f"{lab.target}/{kept.manifest.id}/{name}") as blocks:
        return list(blocks)


def test_stored_backup_passes_its_check(lab: World) -> None:
    """Reading a sound backup again finds nothing, decodes every row, and leaves no staging behind."""
    lab.database("shop", *SHOP)
    kept = lab.backup()
    seen = lab.check(kept.manifest.id)
    assert seen.faults == ()
    assert seen.rows == kept.manifest.rows
    assert list(lab.scratch.iterdir()) == []
    assert not [key for key in lab.objects() if key.endswith(core.MARKER)]


@pytest.mark.parametrize(
    ("made", "changed"),
    [
        ("(a int, b int) ; insert into t values (1, 10), (2, 20)", "update t set b = 30 - b"),
        ("(a int[]) ; insert into t values ('{1,2,3,4}')", "update t set a = '{{1,2},{3,4}}'"),
        ("(a numeric) ; insert into t values (1.0)", "update t set a = 1.00"),
        ("(a interval) ; insert into t values ('30 days')", "update t set a = '1 mon'"),
        ("(a text) ; insert into t values (null)", "update t set a = ''"),
        ("(a xml) ; insert into t values (null)", "update t set a = ''"),
        ("(a json) ; insert into t values ('{}')", "update t set a = '{ }'"),
        ("(a int, b int) ; insert into t values (1, 2)", "update t set a = 2, b = 1"),
        ("(a int) ; insert into t values (1), (1)", "delete from t where ctid = '(0,1)'"),
        ("(a int) ; insert into t values (1), (2)", "update t set a = 3 - a where a = 1"),
    ],
)
def test_small_changes_change_the_fingerprint(lab: World, made: str, changed: str) -> None:
    """Values that change places or only their spelling, lost and doubled rows: each changes the fingerprint."""
    lab.database("small", *f"create table t {made}".split(" ; "))
    before = lab.proofs("small")
    with lab.connect() as connection:
        connection.execute(changed.encode())
    assert differences(before, lab.proofs("small")) != ()


def test_physical_order_does_not_change_the_fingerprint(lab: World) -> None:
    """Rows in another order, columns in another order: the same content, the same fingerprint."""
    rows = "insert into t (a, b) select i, i % 3 from generate_series(1, 500) as i order by"
    lab.database("one", "create table t (a int, b int)", f"{rows} i")
    one = lab.proofs("one")
    lab.database("two", "create table t (b int, a int)", f"{rows} i desc")
    assert differences(one, lab.proofs("two")) == ()


VALUES = {
    "bool": "true", "bytea": r"\x00ff", "char": "c", "name": "n", "int8": "8", "int2": "2", "int2vector": "1 2",
    "int4": "4", "text": "t", "oid": "16", "tid": "(1,2)", "xid": "3", "cid": "4", "oidvector": "1 2", "xml": "<a/>",
    "json": '{"a": 1}', "xid8": "5", "point": "(1,2)", "lseg": "[(0,0),(1,1)]", "path": "((0,0),(1,1))",
    "box": "(1,1),(0,0)",
    "polygon": "((0,0),(1,1))", "line": "{1,2,3}", "float4": "1.5", "float8": "-0.1", "circle": "<(0,0),1>",
    "money": "1234.50", "macaddr": "08:00:2b:01:02:03", "inet": "10.0.0.1/8", "cidr": "10.0.0.0/8", "bpchar": "b  ",
    "macaddr8": "08:00:2b:01:02:03:04:05", "varchar": "v", "date": "2026-11-21", "time": "12:00:01",
    "timestamp": "infinity", "timestamptz": "2026-11-21 12:00:00+05", "interval": "1 mon -3 days", "timetz": "12:00+02",
    "bit": "1", "varbit": "101", "numeric": "NaN", "refcursor": "r", "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "pg_lsn": "0/16B3748", "tsvector": "'a':1", "tsquery": "'a' & 'b'", "jsonb": '{"a": [1.0, null]}',
    "jsonpath": "$.a", "txid_snapshot": "10:20:10,14", "pg_snapshot": "10:20:10,14", "regproc": "now",
    "regprocedure": "abs(int)", "regoper": "||/", "regoperator": "+(int,int)", "regclass": "pg_class", "regtype": "int",
    "regconfig": "simple", "regdictionary": "simple", "regnamespace": "public", "regrole": "postgres",
    "regcollation": '"C"', "aclitem": "postgres=r/postgres", "int4range": "[1,5)", "numrange": "(1.0,2.00]",
    "tsrange": "empty", "tstzrange": "[2026-01-01+00,)", "daterange": "(,)", "int8range": "[1,9)",
    "int4multirange": "{[1,2),[4,5)}", "nummultirange": "{}", "gtsvector": None,
}  # fmt: skip


def test_every_built_in_type_can_be_proved_and_restored(lab: World, tmp_path: Path) -> None:
    """Columns of every built-in type, and of its array, with a value and with null, are the same after a restore.

    A type without a sample here (or that takes no input at all) still has its null.
    """
    lab.database("types")
    with lab.connect() as connection:
        names = [
            row[0]
            for row in connection.execute(
                "select typname from pg_type where typnamespace = 'pg_catalog'::regnamespace"
                " and typtype in ('b', 'r', 'm') and typrelid = 0 and typarray <> 0 order by 1"
            )
        ]
        columns = ", ".join(f'"c_{n}" pg_catalog."{n}", "a_{n}" pg_catalog."{n}"[]' for n in names)
        connection.execute(f"create table every ({columns})".encode())
        connection.execute("insert into every default values")
        for name in (n for n in names if VALUES.get(n) is not None):
            value = VALUES[name]
            connection.execute(
                f'insert into every ("c_{name}", "a_{name}")'
                f' values (%s::pg_catalog."{name}", array[%s::pg_catalog."{name}", null])'.encode(),
                [value, value],
            )
    assert set(VALUES) - set(names) <= {"gtsvector"}
    kept = lab.backup()
    lab.restore(lab.download(kept, tmp_path / "files"), "types_restored")
    assert differences(kept.manifest.tables, lab.proofs("types_restored")) == ()
    assert kept.manifest.rows > 60


def test_truncate_waits_until_dump_and_fingerprints_are_done(lab: World) -> None:
    """TRUNCATE, which respects no snapshot, cannot come between the fingerprint and the dump of a table."""
    lab.database("locked", "create table t as select generate_series(1, 300000) as n")
    conninfo = lab.dsn
    with backup_snapshot.Snapshot(conninfo, 1, 5.0) as snapshot:
        done = threading.Event()

        def truncate() -> None:
            with lab.connect() as connection:
                connection.execute("truncate t")
            done.set()

        thread = threading.Thread(target=truncate)
        thread.start()
        time.sleep(0.3)
        assert not done.is_set()
        assert [t.name for t in snapshot.tables] == [("public", "t")]
    thread.join(10)
    assert done.is_set()
