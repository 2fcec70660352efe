"""A database of everything that a dump can stumble over comes back whole, and whatever is altered in it is named.

What came back is compared twice: by our own fingerprints, and, independently of our code, by pg_dump's text of both
schemas and by the number of objects of every kind in both catalogues.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from lab import postgres as lab_postgres
from lab import wheels
from lab.process import scratch_folder
from tests.integration import hostile, test_canary
from tests.integration.backup_world import World, world, writing
from tests.integration.test_backup_roundtrip import VALUES
from upkeep.adapters import backup_snapshot, fingerprint, restore_compare
from upkeep.adapters.restore_test import Restorer
from upkeep.core.backup import Kept, Manifest
from upkeep.core.errors import ConfigurationError
from upkeep.core.restore import Options, Tested

COPY = "copied"
LOAD = "insert into no_rows_yet select count(*) + 1, 'busy' from no_rows_yet"
# One altered row in each kind of table, each in a way that the eye does not see: what must be named, and only that.
ALTERED = {
    "public.every": "update every set c_numeric = null",
    "public.typed": "update typed set cl = '{1.00,2.00}' where d = 'abc'",
    "public.of_rows": "update of_rows set ts[2].c = 9 where id = 10",
    "public.made": "update made set code = code || ' ' where id = 7",
    "public.sale_2025": "update sale_2025 set amount = amount + 0.01 where amount = 0.05",
    "public.sale 2026; x0": """delete from "sale 2026; x0" where ctid = '(0,1)'""",
    "public.sale_late": "insert into sale_late select * from sale_late limit 1",
    "public.feeling_odd": """update feeling_odd set n = null""",
    "public.parent": "update only parent set t = null",
    "public.both_of": "update both_of set y = y + 1",
    "public.dropped": "update dropped set e = 'Glad' where a = 30",
    "public.secrets": "update secrets set word = E'\\\\..' where id = 2",
    "public.long": "update long set e = overlay(e placing 'X' from 65000) where id = 2",
    "public.marks": "update marks set v = E'a\\tb\\n\\nc\\b\\f\\x0b' where id = 6",
    "public.no_columns": "delete from no_columns where ctid = '(0,1)'",
    "public.scratchpad": "update scratchpad set n = 11 where n = 10",
    "public.wide": "update wide set c1599 = 0 where c1 = 1",
    "public.wide_arrays": "update wide_arrays set c800 = '{{f,t}}' where c1 = '{t}'",
    "public.elsewhere": "update elsewhere set v = 'X'",
    "public.egg": "update egg set name = 'E'",
    "public.watched": "update watched set n = n - 1 where id = 2",
    " . leading": """update " "." leading" set "	" = 'x '""",
    "TABLE DATA.line\nbreak": """update "TABLE DATA"."line\nbreak" set v = v || E'\\n'""",
    "public.COPY x FROM stdin;\n1\n\\.": """delete from "COPY x FROM stdin;\n1\n\\." where "COPY y" = 'y'""",
}
UNPUBLISH = """do $$ declare p name; begin
    for p in select pubname from pg_publication loop execute format('drop publication %I', p); end loop; end $$"""
NOTED = {"public.ddl_log", "public.logins"}  # where the copy's own event triggers, which plain pg_restore wakes, write
COUNTED = {
    "relations": "select relkind::text || relpersistence::text || relispopulated || relrowsecurity, relreplident"
    " from pg_class as c where relkind <> 't' and relpersistence <> 't' and not (relkind = 'i' and not exists"
    " (select from pg_index where indexrelid = c.oid and indisvalid))",
    "columns": "select atttypid::regtype::text, attnotnull, attgenerated, attidentity, attislocal, attinhcount > 0,"
    " attstorage, attcompression, attoptions, attacl::text from pg_attribute join pg_class as c on c.oid = attrelid"
    " where attnum > 0 and not attisdropped and relkind not in ('t', 'i', 'I') and relpersistence <> 't'",
    "constraints": "select contype, condeferrable, condeferred, convalidated, contype = 'c' and connoinherit, conname"
    " from pg_constraint left join pg_class as c on c.oid = conrelid where relpersistence is distinct from 't'",
    "triggers": "select tgenabled, tgisinternal, case when not tgisinternal then tgname end from pg_trigger",
    "rules": "select rulename, ev_enabled from pg_rewrite",
    "policies": "select polname, polroles::regrole[]::text, polpermissive from pg_policy",
    "functions": "select proname, prokind, proowner, proacl::text, proconfig, lanname"
    " from pg_proc as p join pg_language as l on l.oid = prolang",
    "types": "select typname, typtype from pg_type where typname !~ '^_?pg_toast'",
    "labels": "select enumlabel, enumtypid::regtype::text from pg_enum",
    "operators": "select oprname, oprcom = 0 from pg_operator",
    "classes": "select opcname, opcdefault from pg_opclass",
    "families": "select opfname from pg_opfamily",
    "casts": "select castsource::regtype::text, casttarget::regtype::text, castcontext from pg_cast",
    "collations": "select collname from pg_collation",
    "conversions": "select conname from pg_conversion",
    "searches": "select cfgname from pg_ts_config union all select dictname from pg_ts_dict",
    "languages": "select lanname from pg_language",
    "methods": "select amname from pg_am",
    "statistics": "select stxname, stxkind::text from pg_statistic_ext",
    "publications": "select pubname, puballtables, pubinsert, pubupdate, pubviaroot from pg_publication",
    "published": "select count(*) from pg_publication_rel",
    "subscriptions": "select subname, subenabled, subslotname from pg_subscription where subdbid ="
    " (select oid from pg_database where datname = current_database())",
    "event triggers": "select evtname, evtevent, evtenabled, evttags from pg_event_trigger",
    "extensions": "select extname, extversion, extnamespace::regnamespace::text from pg_extension",
    "servers": "select srvname, srvoptions from pg_foreign_server",
    "schemas": "select nspname, nspowner, nspacl::text from pg_namespace where nspname !~ '^pg_(toast|temp)'",
    "defaults": "select defaclobjtype, defaclacl::text, defaclnamespace <> 0 from pg_default_acl",
    "large objects": "select oid, lomowner, lomacl::text from pg_largeobject_metadata",
    "comments": "select classoid::regclass::text, objsubid, description from pg_description",
    "inheritance": "select inhseqno, inhdetachpending from pg_inherits join pg_class as c on c.oid = inhparent"
    " where relkind in ('r', 'p')",
}  # fmt: skip


@pytest.fixture(scope="module", params=[14, 15, 16, 17, 18])
def lab(request: pytest.FixtureRequest) -> Iterator[World]:
    with world(request.param, max_prepared_transactions=2) as made:
        yield made


def every_type(connection: Any) -> None:
    """Make a table `every` with a column of every built-in type and of its array, and one row of values."""
    found = connection.execute(
        "select typname from pg_type where typnamespace = 'pg_catalog'::regnamespace"
        " and typtype in ('b', 'r', 'm') and typrelid = 0 and typarray <> 0 order by 1"
    )
    names = [row[0] for row in found]
    columns = ", ".join(f'"c_{n}" pg_catalog."{n}", "a_{n}" pg_catalog."{n}"[]' for n in names)
    connection.execute(f"create table every (key int default 1, {columns})".encode())
    connection.execute("insert into every default values")
    for name in (n for n in names if VALUES.get(n) is not None):
        text = (
            f'update every set "c_{name}" = %s::pg_catalog."{name}", "a_{name}" = array[%s::pg_catalog."{name}", null]'
        )
        connection.execute(text.encode(), [VALUES[name], VALUES[name]])


@contextlib.contextmanager
def hostile_database(lab: World) -> Iterator[None]:
    """Make the database, and keep others busy on it: a temporary table, open and prepared transactions, a writer."""
    lab.database("hostile")
    with lab.connect() as connection:
        for block in hostile.statements(lab.postgres.major):
            connection.execute(block.encode())
        every_type(connection)
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("create unique index concurrently twins_invalid on twins (n)")
        connection.execute("create table no_rows_yet (n int, v text)")
        for setting in (
            "search_path to ' ', public",
            "datestyle to 'SQL, DMY'",
            "lc_monetary to 'C'",
            "work_mem to '7MB'",
        ):
            connection.execute(f"alter database hostile set {setting}".encode())
        connection.execute("alter role shop_owner in database hostile set statement_timeout to '1ms'")
    with lab.connect() as other, lab.connect() as prepared, writing(lab, LOAD):
        other.execute("create temp table marks (id int primary key, own serial); insert into marks values (1)")
        prepared.execute("begin; insert into twins values (2, 'not yet'); prepare transaction 'it''s; --'")
        other.execute("begin; insert into twins values (3, 'never')")
        yield


def test_hostile_database_comes_back_whole_and_what_is_altered_is_named(lab: World, tmp_path: Path) -> None:
    """Backup, check and restore test find no fault; the copy of plain pg_restore is the source's; changes are told."""
    with hostile_database(lab):
        kept = lab.backup(jobs=2, fingerprint_jobs=2)
    assert lab.check(kept.manifest.id).faults == ()
    seen = proved(lab, kept.manifest)
    assert (seen.failures, seen.corruption, seen.differences, seen.missing) == ((), (), (), ())
    assert seen.checked == ("amcheck", "fingerprints") and seen.ok
    assert list(lab.scratch.iterdir()) == []

    lab.restore(lab.download(kept, tmp_path / "files"), COPY)
    assert schema(lab, COPY) == schema(lab, "hostile")
    assert counted(lab, COPY) == counted(lab, "hostile")
    assert set(compared(lab, kept)) <= NOTED

    with quietly(lab, COPY) as connection:
        connection.execute("set session_replication_role = replica")  # no trigger adds to what is altered
        connection.execute(UNPUBLISH.encode())
        for statement in ALTERED.values():
            assert connection.execute(statement.encode()).rowcount == 1, statement
        assert set(compared(lab, kept)) - NOTED == set(ALTERED)
    assert unseen_columns(lab) == []


def unseen_columns(lab: World) -> list[str]:
    """Return the columns of `every` whose loss does not show in the fingerprint: one of each built-in type."""
    unseen = []
    with backup_snapshot.connect(dsn(lab, COPY)) as connection:
        table = next(t for t in fingerprint.tables(connection) if t.name == ("public", "every"))
        connection.execute("begin")
        connection.execute("lock table public.every")
        before = fingerprint.prove(connection, table).hash
        given = ", ".join(f'"{c.name}" is not null as "{c.name}"' for c in table.columns)
        row = connection.execute(f"select {given} from public.every".encode()).fetchone()
        filled = [name for name, is_given in row.items() if is_given]
        assert len(filled) > 120
        for name in filled:
            connection.execute("savepoint one")
            connection.execute(f'update public.every set "{name}" = null'.encode())
            if fingerprint.prove(connection, table).hash == before:
                unseen.append(name)
            connection.execute("rollback to savepoint one")
    return unseen


def proved(lab: World, manifest: Manifest) -> Tested:
    """Run the restore test."""
    options = Options(programs=str(lab.postgres.bin))
    return Restorer(lambda _: lab.store, lab.scratch).test(lab.place, manifest.id, options, lambda _: None)


def dsn(lab: World, name: str) -> str:
    """Return a connection string with which the copy's own event triggers note nothing."""
    quiet = "-c event_triggers=off" if lab.postgres.major >= 17 else ""
    return make_conninfo(lab.postgres.dsn(name), options=f"{quiet} -c search_path=public")


def quietly(lab: World, name: str) -> Any:
    """Connect so."""
    return psycopg.connect(dsn(lab, name), autocommit=True)


def compared(lab: World, kept: Kept[Manifest]) -> list[str]:
    """Return the names of what differs from the manifest in the copy."""
    found, _ = restore_compare.compare(dsn(lab, COPY), kept.manifest, 2)
    return [difference.name for difference in found]


def schema(lab: World, name: str) -> Counter[str]:
    """Return the entries of a schema as pg_dump writes them, in no order."""
    command = [lab.postgres.bin / "pg_dump", "--schema-only", f"--dbname={dsn(lab, name)}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    entries = re.split(r"\n--\n-- Name: ", re.sub(r"^\\(un)?restrict .*\n", "", done.stdout, flags=re.M))
    return Counter(entries)


def counted(lab: World, name: str) -> dict[str, Counter[str]]:
    """Return how many objects of each kind and nature a catalogue holds."""
    with quietly(lab, name) as connection:
        return {what: Counter(map(str, connection.execute(text.encode()))) for what, text in COUNTED.items()}


@pytest.fixture(scope="module")
def odd() -> Iterator[World]:
    with world() as made:
        yield made


def make(odd: World, name: str) -> None:
    """Make a database of that name, with rows and settings of its own, and point the archiver at it."""
    named = sql.Identifier(name)
    with odd.postgres.connect() as connection:
        connection.execute(sql.SQL("create database {}").format(named))
        connection.execute(sql.SQL("alter database {} set search_path to public, 'a; b'").format(named))
    odd.target, odd.dsn = "shop/odd", make_conninfo(odd.postgres.dsn(), dbname=name)
    odd.store.delete(odd.objects())
    with psycopg.connect(odd.dsn, autocommit=True) as connection:
        connection.execute("create table t as select generate_series(1, 10) as n")


NAMES = (
    'we"ird db; --',
    "quo'te\\ =x",
    "host=elsewhere dbname=postgres",
    "postgresql://x/y?z#",
    "%s%%(x)s{}",
    "täb😀",
    " A.b",
)


@pytest.mark.parametrize("name", NAMES)
def test_databases_of_odd_names_are_backed_up_and_proved(odd: World, name: str) -> None:
    """Whatever a database is called, the canary is written into it, and its backup, roles and proof are its own."""
    make(odd, name)
    outcomes, findings = test_canary.run(odd)
    assert findings == [] and outcomes[0].evidence["canary"]["counter"] == 1
    manifest = odd.archive.manifest(odd.place, outcomes[1].evidence["backup"]["id"])
    assert isinstance(manifest, Manifest)
    assert (manifest.source.database, manifest.roles) == (name, "")
    assert odd.check(manifest.id).faults == ()
    seen = proved(odd, manifest)
    assert (seen.failures, seen.differences, seen.missing, seen.ok) == ((), (), (), True)
    assert seen.rows == 11 and seen.canary is not None


def test_database_with_a_line_break_in_its_name_is_refused_with_the_cure(odd: World) -> None:
    """pg_restore takes no such name: the backup is good, and the restore test says what to do instead of failing."""
    make(odd, "line\nbreak")
    kept = odd.backup()
    assert odd.check(kept.manifest.id).faults == ()
    with pytest.raises(ConfigurationError, match="RENAME"):
        proved(odd, kept.manifest)
    assert list(odd.scratch.iterdir()) == []


EXTENSION = """
create table "rates; --" (name text primary key, rate numeric, own bool not null default true);
create table inner_table (n int);
create sequence numbers;
insert into "rates; --" values ('standard', 19, false);
insert into inner_table values (1);
select pg_catalog.pg_extension_config_dump('"rates; --"', 'where own');
select pg_catalog.pg_extension_config_dump('numbers', '');
"""


def link(source: str, target: str) -> None:
    """Give a file a second name, or, where the folder is on another disk, copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def test_rows_that_users_add_to_an_extensions_tables_are_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an extension's configuration table the rows that it asks for are dumped and proved, of its others none."""
    with scratch_folder() as folder:
        home = folder / "postgresql"
        shutil.copytree(wheels.bin(18).parent, home, symlinks=True, copy_function=link)
        extensions = next(home.rglob("plpgsql.control")).parent
        (extensions / "taxes.control").write_text("default_version = '1'\nrelocatable = false\n")
        (extensions / "taxes--1.sql").write_text(EXTENSION)
        monkeypatch.setattr(lab_postgres, "bin", lambda _: home / "bin")
        with world() as made:
            made.database("taxes", "create extension taxes", "insert into inner_table values (2)")
            with made.connect() as connection:
                connection.execute(
                    "insert into \"rates; --\" values ('mine', 7), ('yours', 8); select nextval('numbers')"
                )
            kept = made.backup()
            assert [(t.name, t.rows) for t in kept.manifest.tables] == [(("public", "rates; --"), 2)]
            assert made.check(kept.manifest.id).faults == ()
            seen = proved(made, kept.manifest)
            assert (seen.failures, seen.differences, seen.missing, seen.ok) == ((), (), (), True)
            monkeypatch.setattr(lab_postgres, "bin", wheels.bin)
            assert [(m.what, m.name) for m in proved(made, kept.manifest).missing] == [("extension", "taxes")]
