"""Backups of SQLite and Redis: from a database in use into a store, and out of it again."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.cache_server import RedisServer
from tests.integration.backup_world import quiet
from tests.integration.copies_world import PROGRAMS, RUN, CopiesWorld, with_cache
from upkeep.adapters import archive, backup_marker, object_store
from upkeep.adapters.backup_making import Making
from upkeep.adapters.copy_maker import CopyMaker
from upkeep.core.backup import MARKER
from upkeep.core.copies import CopyOptions
from upkeep.core.errors import ConfigurationError, DamagedError
from upkeep.core.model import OutcomeStatus, Severity


@pytest.fixture
def shop(tmp_path: Path) -> CopiesWorld:
    world = CopiesWorld(tmp_path)
    world.sqlite(
        "create table student(id integer primary key, name text, photo blob)",
        "create table score(student int, course text, points real, primary key (student, course)) without rowid",
        'create table "odd "" name"(x)',
        "create index by_name on student(name)",
    )
    with contextlib.closing(sqlite3.connect(world.path)) as c, c:
        c.executemany("insert into student values (?, ?, ?)", ((n, f"n{n % 7}", bytes(n % 9)) for n in range(3000)))
        c.executemany("insert into score values (?, 'a', ?)", ((n, n / 3) for n in range(1000)))
    return world


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CopiesWorld]:
    with with_cache(tmp_path_factory.mktemp("cache")) as world:
        yield world


@pytest.fixture
def redis(cache: CopiesWorld, tmp_path: Path) -> CopiesWorld:
    """The server, emptied and filled: every type, two databases, keys that expire."""
    assert cache.cache is not None
    with cache.cache.client() as client:
        client.flushall()
        client.config_set("repl-diskless-sync", "yes")
        for number in range(500):
            client.set(f"s{number}", "value " * (number % 20), ex=3600 if number % 2 else None)
        client.hset("h", mapping={str(n): n for n in range(1000)})
        client.rpush("l", *range(500))
        client.zadd("z", {str(n): n / 7 for n in range(500)})
        client.xadd("x", {"a": "b"})
        client.execute_command("SELECT", 3)
        client.set("other", "database")
        client.execute_command("SELECT", 0)
    return CopiesWorld(tmp_path, cache.cache)


def test_sqlite_end_to_end(shop: CopiesWorld) -> None:
    """Backed up, verified and fetched back: the file that comes out holds the rows that went in, and nothing is red."""
    outcomes, findings = shop.run("backup.sqlite", "sqlite")
    assert findings == []
    made = outcomes[-1].evidence["backup"]
    assert (made["kind"], made["tables"], made["rows"]) == ("sqlite", 3, 4000)
    check = shop.check("sqlite", made["id"])
    assert (check.ok, check.decoded, check.rows, check.tables) == (True, True, 4000, 3)
    fetched = shop.copies.fetch(shop.place("sqlite"), made["id"], str(shop.root))
    with contextlib.closing(sqlite3.connect(fetched.path)) as back:
        assert back.execute("select count(*), sum(length(photo)) from student").fetchone() == (3000, 11_991)
        assert back.execute("pragma integrity_check").fetchone() == ("ok",)
    assert list(shop.scratch.iterdir()) == []


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_database_in_use_is_copied_as_of_one_moment(shop: CopiesWorld, mode: str) -> None:
    """While transfers go on, every copy holds the sum that every moment had: no half of a transaction is in it."""
    shop.sqlite(
        f"pragma journal_mode = {mode}", "create table account(id integer primary key, amount int)",
        "insert into account values (1, 500), (2, 500)",
    )  # fmt: skip
    done = threading.Event()

    def transfer() -> None:
        with contextlib.closing(sqlite3.connect(shop.path, timeout=30, isolation_level=None)) as c:
            while not done.is_set():
                c.execute("begin immediate")
                c.execute("update account set amount = amount - 1 where id = 1")
                c.execute("update account set amount = amount + 1 where id = 2")
                c.execute("commit")
                done.wait(0.005)

    writer = threading.Thread(target=transfer)
    writer.start()
    try:
        kept = [shop.copies.copy_sqlite(str(shop.path), shop.place("sqlite"), CopyOptions(), RUN, quiet)
                for _ in range(3)]  # fmt: skip
    finally:
        done.set()
        writer.join()
    for one in kept:
        fetched = shop.copies.fetch(shop.place("sqlite"), one.manifest.id, str(shop.root))
        with contextlib.closing(sqlite3.connect(fetched.path)) as back:
            assert back.execute("select sum(amount) from account").fetchone() == (1000,)


def test_equal_content_has_an_equal_proof(shop: CopiesWorld) -> None:
    """Two backups of a database at rest have the same content hash; a changed row changes it."""
    first, second = (shop.run("backup.sqlite", "sqlite")[0][-1].evidence["backup"] for _ in range(2))
    assert first["content_sha256"] == second["content_sha256"]
    shop.sqlite("update student set name = 'other' where id = 5")
    third = shop.run("backup.sqlite", "sqlite")[0][-1].evidence["backup"]
    assert third["content_sha256"] != first["content_sha256"]


def test_a_damaged_or_missing_source_is_told(shop: CopiesWorld) -> None:
    """A damaged database is not backed up as if it were whole; a missing one is a matter of configuration."""
    data = bytearray(shop.path.read_bytes())
    data[4096 : 4096 + 2048] = b"\xa5" * 2048
    shop.path.write_bytes(data)
    with pytest.raises(DamagedError):
        shop.run("backup.sqlite", "sqlite")
    assert shop.objects("sqlite") == []
    shop.path.unlink()
    with pytest.raises(ConfigurationError, match="no such file"):
        shop.run("backup.sqlite", "sqlite")


def test_redis_end_to_end(redis: CopiesWorld) -> None:
    """Sent by the server, loaded at once, verified and fetched: every database has its keys, and nothing is red."""
    outcomes, findings = redis.run("backup.redis", "redis")
    assert findings == []
    made = outcomes[-1].evidence["backup"]
    assert (made["kind"], made["keys"]) == ("redis", 505)
    manifest = redis.archive.manifest(redis.place("redis"), made["id"])
    assert manifest.proof["keys"] == {"0": 504, "3": 1}  # type: ignore[union-attr]
    assert manifest.proof["checksum"]  # type: ignore[union-attr]
    check = redis.check("redis", made["id"])
    assert (check.ok, check.decoded, check.rows) == (True, True, 505)
    fetched = redis.copies.fetch(redis.place("redis"), made["id"], str(redis.root))
    assert Path(fetched.path).read_bytes()[:5] in (b"REDIS", b"VALKE")
    assert list(redis.scratch.iterdir()) == []


def test_redis_with_a_snapshot_by_way_of_its_disk(redis: CopiesWorld) -> None:
    """A server that writes the snapshot to its disk first tells its size, one that does not ends it by a mark."""
    assert redis.cache is not None
    with redis.cache.client() as client:
        client.config_set("repl-diskless-sync", "no")
    outcomes, findings = redis.run("backup.redis", "redis")
    assert findings == []
    assert redis.check("redis", outcomes[-1].evidence["backup"]["id"]).rows == 505


def test_keys_that_expire_after_the_backup_are_still_counted(redis: CopiesWorld) -> None:
    """What was there at the backup is in it: loading it later does not miss what has expired since."""
    assert redis.cache is not None
    with redis.cache.client() as client:
        client.set("brief", "x", px=1500)
    made = redis.run("backup.redis", "redis")[0][-1].evidence["backup"]
    assert made["keys"] == 506
    threading.Event().wait(1.6)
    assert redis.check("redis", made["id"]).ok


def test_without_a_server_program_the_check_says_so(redis: CopiesWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program: the checksum is verified here, and neither backup nor check claims to have decoded anything."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("UPKEEP_REDIS_BIN", raising=False)
    outcomes, findings = redis.run("backup.redis", "redis", programs="")
    assert [(f.check, f.severity) for f in findings] == [("not_loaded", Severity.UNKNOWN)]
    check = redis.check("redis", outcomes[-1].evidence["backup"]["id"], programs="")
    assert (check.ok, check.decoded, check.bytes > 0) == (True, False, True)


def test_missing_permission_names_the_acl(redis: CopiesWorld) -> None:
    """A user who may not replicate gives an unknown with the ACL that cures it; with that ACL the backup is made."""
    assert redis.cache is not None
    with redis.cache.client() as client:
        client.execute_command("ACL", "SETUSER", "keeper", "reset", "on", ">word", "+info", "+ping")
    redis.user, redis.password = "keeper", "word"
    outcomes, findings = redis.run("backup.redis", "redis")
    assert [(f.check, f.severity) for f in findings] == [("privilege", Severity.UNKNOWN)]
    assert "+psync" in findings[0].hint
    assert outcomes[-1].status is OutcomeStatus.FAILED
    assert redis.objects("redis") == []
    with redis.cache.client() as client:
        client.execute_command("ACL", "SETUSER", "keeper", "+psync", "+replconf")
    assert redis.run("backup.redis", "redis")[1] == []


def test_one_node_of_a_cluster_is_not_taken_for_all_of_it(tmp_path: Path) -> None:
    """It holds the keys of its own slots; a backup of it would look whole."""

    class Node(RedisServer):
        def prepare(self) -> None:
            super().prepare()
            self._conf.write_text(f"{self._conf.read_text()}cluster-enabled yes\n")

    with Node(tmp_path / "cache") as cache:
        world = CopiesWorld(tmp_path, cache)
        _, findings = world.run("backup.redis", "redis")
        assert [(f.check, f.severity) for f in findings] == [("unsupported", Severity.UNKNOWN)]
        assert "Cluster" in findings[0].message
        assert world.objects("redis") == []


def test_work_shows_life_while_a_single_step_takes_long(shop: CopiesWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark of the writer is written anew all the while, and not once more after the backup is complete."""
    monkeypatch.setattr(backup_marker, "HEARTBEAT", timedelta(seconds=0.05))
    making = Making(shop.store, shop.place("sqlite"), RUN)
    mark = shop.root / "kept" / making.prefix / MARKER
    with making:
        first = mark.stat().st_mtime_ns
        time.sleep(0.4)  # whatever is done here
        assert mark.stat().st_mtime_ns > first
    assert not mark.exists()
    time.sleep(0.2)
    assert not mark.exists()


def test_a_wrong_password_is_a_matter_of_configuration(redis: CopiesWorld) -> None:
    """It is told without the password."""
    redis.password = "wrong-word"
    with pytest.raises(ConfigurationError) as told:
        redis.run("backup.redis", "redis")
    assert "wrong-word" not in f"{told.value} {told.value.hint}"


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_leftovers_are_swept(kind: str, shop: CopiesWorld, redis: CopiesWorld) -> None:
    """What a dead writer left is planned and removed before the next backup."""
    world = shop if kind == "sqlite" else redis
    world.store.write_bytes(f"shop/{kind}/20200101T000000Z-0123abcd/x.gz", b"x")
    for path in (world.root / "kept").rglob("x.gz"):
        import os

        old = path.stat().st_mtime - timedelta(hours=5).total_seconds()
        os.utime(path, (old, old))
    outcomes, findings = world.run(f"backup.{kind}", kind)
    assert [o.status for o in outcomes] == [OutcomeStatus.DONE, OutcomeStatus.DONE]
    assert findings == []
    assert not [key for key in world.objects(kind) if "0123abcd" in key]


def test_packing_is_the_same_every_time(shop: CopiesWorld, tmp_path: Path) -> None:
    """Equal content gives equal bytes, so that a store that knows them need not keep them twice."""
    from upkeep.adapters import copy_pack

    for name in ("a.gz", "b.gz"):
        copy_pack.pack(shop.path, tmp_path / name, 6)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == shop.path.read_bytes()


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_encrypted_copies_come_back(kind: str, shop: CopiesWorld, redis: CopiesWorld) -> None:
    """With a key on the store nothing but the manifest can be read in it; check and fetch read what was written."""
    from airflow.sdk import Connection

    extra = {"keys": {"2026": base64.b64encode(bytes(range(32))).decode()}}
    key = Connection(conn_id="key", conn_type="generic", login="2026", extra=json.dumps(extra))
    world = shop if kind == "sqlite" else redis

    def connection(conn_id: str) -> Any:
        return key if conn_id == "key" else world.connection(conn_id)

    opener = object_store.opener(connection)
    place = world.place(kind).model_copy(update={"store": world.ref.model_copy(update={"key_conn_id": "key"})})
    maker = CopyMaker(connection, opener, world.scratch)
    options = CopyOptions(programs=PROGRAMS)
    if kind == "sqlite":
        kept: Any = maker.copy_sqlite(str(world.path), place, options, RUN, quiet)
    else:
        kept = maker.copy_redis("cache", place, options, RUN, quiet)
    assert kept.manifest.key_id == "2026"
    stored = next((world.root / "kept").rglob("*.gz")).read_bytes()
    assert not stored.startswith(b"\x1f\x8b")
    check = archive.make_archiver(lambda _: "", opener, world.scratch).check(
        place, kept.manifest.id, True, PROGRAMS, quiet
    )
    assert (check.ok, check.decoded) == (True, True)
    assert Path(maker.fetch(place, kept.manifest.id, str(world.root)).path).exists()
