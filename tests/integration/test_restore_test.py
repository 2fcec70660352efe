"""A restore test proves a sound backup, names what is wrong with any other, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.backup_world import World, world
from tests.integration.test_backup_roundtrip import SHOP
from upkeep.adapters import pg_restore, scratch_place
from upkeep.adapters.restore_test import Restorer
from upkeep.core import backup as core
from upkeep.core.backup import Kept, Manifest
from upkeep.core.restore import Options, Tested
from upkeep.core.targets import Smoke

LARGE = (
    "create table big (id int primary key, v text)",
    "insert into big select i, md5(i::text) from generate_series(1, 120000) as i",
    "do $$ begin create role shop_app nologin; exception when duplicate_object then end $$",
    "grant select on big to shop_app",
    "create table upkeep_canary (name text primary key, written_at timestamptz not null)",
    "insert into upkeep_canary values ('daily', now() - interval '90 min')",
    "vacuum analyze",
)


@pytest.fixture(scope="module")
def lab() -> Iterator[World]:
    with world() as made:
        yield made


@pytest.fixture(scope="module")
def stored(lab: World) -> Kept[Manifest]:
    lab.database("shop", *LARGE)
    return lab.backup()


@pytest.fixture
def kept(lab: World, stored: Kept[Manifest]) -> Kept[Manifest]:
    """Give one and the same backup, as it was written."""
    lab.target, lab.dsn = "shop/shop", lab.postgres.dsn("shop")
    rewritten(lab, stored)
    return stored


def test(lab: World, backup_id: str, **options: Any) -> Tested:
    restorer = Restorer(lambda _: lab.store, lab.scratch)
    chosen = Options(**{"programs": str(lab.postgres.bin), **options})
    return restorer.test(lab.place, backup_id, chosen, lambda _: None)


test.__test__ = False  # type: ignore[attr-defined]


def rewritten(lab: World, kept: Kept[Manifest], **changes: Any) -> None:
    """Replace the manifest in the store by one that says something else."""
    key = f"{lab.target}/{kept.manifest.id}/{core.MANIFEST}"
    lab.store.write_bytes(key, core.encode(kept.manifest.model_copy(update=changes)))


@pytest.mark.parametrize("major", [14, 15, 16, 17, 18])
def test_hostile_database_is_proved_identical(major: int) -> None:
    """Whatever rows are made of, a sound backup passes every look, and no server nor folder is left."""
    with world(major) as made:
        made.database("shop", "create schema hidden", "create table hidden.mark as select 1 as n", *SHOP)
        with made.connect() as connection:  # the application's own settings must not be in the way of any look
            connection.execute("alter database shop set search_path to hidden, public")
            connection.execute("alter database shop set default_transaction_read_only to on")
            connection.execute("alter database shop set statement_timeout to '7s'")
        kept = made.backup()
        smoke = {
            "customers": Smoke(sql="select count(*) from customer", equals=20000),
            "path": Smoke(sql="select n from mark", equals=1),
        }
        seen = test(made, kept.manifest.id, smoke=smoke)
        assert (seen.failures, seen.corruption, seen.differences, seen.missing) == ((), (), (), ())
        assert seen.ok and len(seen.smoke) == 2
        assert seen.rows == kept.manifest.rows
        assert seen.checked == ("amcheck", "fingerprints")
        assert {"fetch", "preflight", "start", "restore", "amcheck", "compare", "smoke", "remove"} == set(seen.phases)
        assert seen.server_version.startswith(str(major))
        assert list(made.scratch.iterdir()) == []


def test_source_is_not_touched_and_scratch_server_is_another(lab: World, kept: Kept[Manifest]) -> None:
    """While a backup is tested, nobody but us is on the source, and the scratch server has another identity."""
    with lab.connect() as connection:
        before = connection.execute("select pg_current_wal_lsn(), count(*) from pg_database").fetchone()
        assert test(lab, kept.manifest.id).ok
        assert connection.execute("select count(*) from pg_database").fetchone() == before[1:]
        row = connection.execute("select count(*) from pg_stat_activity where application_name like 'upkeep restore%'")
        assert row.fetchone() == (0,)


def test_altered_table_is_named_with_its_key_range(lab: World, kept: Kept[Manifest]) -> None:
    """A row that changed between snapshot and restore is found: which table, and between which keys."""
    big = next(t for t in kept.manifest.tables if t.name[1] == "big")
    assert (big.key, len(big.ranges)) == ("id", 64)
    assert sum(r.rows for r in big.ranges) == big.rows
    assert sum(int(r.hash) for r in big.ranges) == int(big.hash)
    ranges = list(big.ranges)
    ranges[40] = ranges[40].model_copy(update={"hash": str(int(ranges[40].hash) - 1)})
    other = big.model_copy(update={"hash": str(int(big.hash) - 1), "ranges": tuple(ranges)})
    tables = tuple(other if t.name == big.name else t for t in kept.manifest.tables)
    rewritten(lab, kept, tables=tables)
    seen = test(lab, kept.manifest.id, amcheck=False)
    assert not seen.ok
    (difference,) = seen.differences
    assert difference.name == "public.big"
    assert [(r.low, r.high) for r in difference.ranges] == [(ranges[40].low, ranges[40].high)]
    assert f"id {ranges[40].low} to {ranges[40].high}" in difference.told()


def test_wrong_sequences_large_objects_and_lost_tables_are_named(lab: World) -> None:
    """A sequence that stands elsewhere, other large objects, a table too few: each is told."""
    lab.database("small", "create table t (n int)", "create sequence s", "select lo_from_bytea(0, 'abc')")
    kept = lab.backup()
    sequences = tuple(s.model_copy(update={"last_value": 99}) for s in kept.manifest.sequences)
    objects = kept.manifest.large_objects.model_copy(update={"count": 2})
    more = kept.manifest.tables[0].model_copy(update={"name": ("public", "lost"), "rows": 3})
    rewritten(lab, kept, sequences=sequences, large_objects=objects, tables=(*kept.manifest.tables, more))
    seen = test(lab, kept.manifest.id)
    assert {(d.what, d.name) for d in seen.differences} == {
        ("table", "public.lost"), ("sequence", "public.s"), ("large objects", "all"),
    }  # fmt: skip


def test_smoke_questions_are_read_only_limited_and_judged(lab: World, kept: Kept[Manifest]) -> None:
    """A question that fails, writes, lasts too long or has another answer is not ok; the canary's age is known."""
    smoke = {
        "rows": Smoke(sql="select count(*) from big", least=120000),
        "few": Smoke(sql="select count(*) from big", least=120001),
        "text": Smoke(sql="select v from big where id = 1", equals="c4ca4238a0b923820dcc509a6f75849b"),
        "writes": Smoke(sql="delete from big returning 1", least=0),
        "slow": Smoke(sql="select pg_sleep(30)", least=0),
        "many": Smoke(sql="select id from big", least=0),
        "none": Smoke(sql="select max(id) from big where id < 0", least=0),
    }
    seen = test(lab, kept.manifest.id, smoke=smoke, smoke_timeout=0.5, amcheck=False)
    assert [name for name, result in seen.smoke.items() if result.ok] == ["rows", "text"]
    assert "read-only" in seen.smoke["writes"].seen and "timeout" in seen.smoke["slow"].seen
    assert not seen.ok and seen.checked == ("fingerprints",)
    assert seen.canary is not None and 5300 < seen.canary.age_seconds < 5700


def test_what_the_worker_lacks_is_named_and_is_not_the_backups_fault(lab: World, kept: Kept[Manifest]) -> None:
    """An extension, a server version, space, a locale: each missing thing is named, and none is a failure."""
    source = kept.manifest.source
    rewritten(lab, kept, source=source.model_copy(update={"extensions": {"timescaledb": "2.1"}}))
    seen = test(lab, kept.manifest.id)
    assert [(m.what, m.name, m.stops) for m in seen.missing] == [("extension", "timescaledb", True)]
    assert (seen.failures, seen.differences, seen.ok) == ((), (), False)
    rewritten(lab, kept, source=source.model_copy(update={"version_num": 130001, "version": "13.1"}))
    assert [m.what for m in test(lab, kept.manifest.id).missing] == ["server"]
    rewritten(lab, kept, source=source.model_copy(update={"size_bytes": 1 << 50}))
    assert [m.what for m in test(lab, kept.manifest.id).missing] == ["space"]
    assert list(lab.scratch.iterdir()) == []


def test_roles_that_are_not_beside_the_backup_are_named(lab: World, kept: Kept[Manifest]) -> None:
    """Without roles beside it a dump is restored all the same, and every role that it names is told of."""
    files = tuple(f for f in kept.manifest.files if f.name != core.GLOBALS)
    rewritten(lab, kept, files=files, roles="permission denied for pg_authid")
    seen = test(lab, kept.manifest.id, amcheck=False)
    assert {m.name for m in seen.missing if m.what == "role"} == {"postgres", "shop_app"}
    assert seen.differences == () and seen.failures == ()


def test_scratch_server_lets_only_us_in(lab: World, tmp_path: Path) -> None:
    """It listens on no network, and refuses every user of the machine but the worker's."""
    from upkeep.adapters.scratch_cluster import Cluster, server_programs

    programs = server_programs(180000, str(lab.postgres.bin))
    with scratch_place.scratch_place(lab.scratch, "shop/db", "x") as folder, Cluster(programs, folder) as cluster:
        cluster.create()
        cluster.start()
        with cluster.connect() as connection:
            assert connection.execute("show listen_addresses").fetchone() == ("",)
        hba = (folder / "hba.conf").read_text()
        assert hba == "local all all peer map=upkeep\n"
        assert (folder / "socket").stat().st_mode & 0o077 == 0
        with pytest.raises(Exception, match="system identifier"):
            cluster.check_own(cluster.control()["Database system identifier"])


def test_scratch_server_has_no_network_where_that_can_be(lab: World) -> None:
    """Where this user may make network namespaces, what is restored can reach no other server, not even here."""
    from upkeep.adapters.scratch_cluster import Cluster, server_programs

    how = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*how, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make network namespaces here")
    door = f"/dev/tcp/127.0.0.1/{lab.postgres.port}"
    knock = f'bash -c "(echo > {door}) 2> /dev/null && echo reached || echo cut off"'
    assert subprocess.run(knock, shell=True, capture_output=True, check=True).stdout == b"reached\n"
    programs = server_programs(180000, str(lab.postgres.bin))
    with scratch_place.scratch_place(lab.scratch, "shop/db", "x") as folder, Cluster(programs, folder) as cluster:
        cluster.create()
        cluster.start()
        with cluster.connect() as connection:
            connection.execute("create table answer (line text)")
            connection.execute(f"copy answer from program $${knock}$$".encode())
            assert connection.execute("select line from answer").fetchone() == ("cut off",)


def test_globals_carry_out_roles_only() -> None:
    """Statements are split whatever is in names and literals, and tablespaces are never made."""
    text = (
        "-- a; comment\n\\restrict abc;\nSET x = 'y';\nCREATE ROLE \"a;b\";\n"
        "ALTER ROLE \"a;b\" SET search_path TO 'x'';y';\nCOMMENT ON ROLE r IS E'it\\'s; - fine';\n"
        "CREATE TABLESPACE t OWNER o LOCATION '/srv/data';\n"
    )
    assert list(pg_restore.statements(text)) == [
        "SET x = 'y'", 'CREATE ROLE "a;b"', "ALTER ROLE \"a;b\" SET search_path TO 'x'';y'",
        "COMMENT ON ROLE r IS E'it\\'s; - fine'", "CREATE TABLESPACE t OWNER o LOCATION '/srv/data'",
    ]  # fmt: skip

    class Connection:
        def __init__(self) -> None:
            self.done: list[bytes] = []

        def execute(self, statement: bytes) -> None:
            self.done.append(statement)

    connection = Connection()
    report = pg_restore.apply_globals(connection, text)  # type: ignore[arg-type]
    assert report.applied == 3
    assert report.left_out == ["CREATE TABLESPACE t OWNER o LOCATION '/srv/data'"]
    assert not any(b"TABLESPACE" in statement for statement in connection.done)


def test_result_survives_json(lab: World, kept: Kept[Manifest]) -> None:
    """What a test showed goes to the ledger as JSON and means the same there."""
    seen = test(lab, kept.manifest.id, amcheck=False)
    assert Tested.model_validate(json.loads(seen.model_dump_json())) == seen
