"""Damage and death under backups of SQLite and Redis: each fault is produced on real files and servers, and noticed."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.backup_world import quiet
from tests.integration.copies_world import PROGRAMS, RUN, CopiesWorld, with_cache
from upkeep.adapters import copy_redis, rdb
from upkeep.adapters.copy_maker import CopyMaker
from upkeep.core import backup as core
from upkeep.core.backup import CopyManifest, FileEntry
from upkeep.core.copies import PACKED, CopyOptions
from upkeep.core.errors import DamagedError, TransientError

FLIPS = int(os.environ.get("UPKEEP_TEST_KILLS", "8"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CopiesWorld]:
    with with_cache(tmp_path_factory.mktemp("cache")) as world:
        assert world.cache is not None
        with world.cache.client() as client, client.pipeline(transaction=False) as pipe:
            for number in range(2000):
                pipe.set(f"key:{number}", hashlib.sha256(str(number).encode()).hexdigest())
            pipe.execute()
        yield world


@pytest.fixture
def world(cache: CopiesWorld, tmp_path: Path) -> CopiesWorld:
    made = CopiesWorld(tmp_path, cache.cache)
    made.sqlite("create table t(id integer primary key, x text)", "create index by_x on t(x)")
    with contextlib.closing(sqlite3.connect(made.path)) as c, c:
        c.executemany("insert into t values (?, ?)", ((n, str(n) * 5) for n in range(5000)))
    return made


def backed_up(world: CopiesWorld, kind: str) -> str:
    return str(world.run(f"backup.{kind}", kind)[0][-1].evidence["backup"]["id"])


def repacked(world: CopiesWorld, kind: str, backup_id: str, change: Any) -> None:
    """Alter the database inside the packed file and make manifest and hashes agree with it: only decoding can tell."""
    folder = world.root / "kept" / "shop" / kind / backup_id
    packed = folder / PACKED[kind]
    plain = bytearray(gzip.decompress(packed.read_bytes()))
    altered_to = change(plain)
    data = bytes(plain if altered_to is None else altered_to)
    packed.write_bytes(gzip.compress(data, mtime=0))
    seen = packed.read_bytes()
    manifest = world.archive.manifest(world.place(kind), backup_id)
    entry = FileEntry(name=packed.name, size=len(seen), sha256=hashlib.sha256(seen).hexdigest())
    settings = {**manifest.settings, "unpacked_bytes": len(data)}
    altered = manifest.model_copy(update={"files": (entry,), "settings": settings})
    (folder / core.MANIFEST).write_bytes(core.encode(altered))


def flipped(at: float) -> Any:
    def flip(data: bytearray) -> None:
        data[int(len(data) * at)] ^= 0x10

    return flip


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
@pytest.mark.parametrize("fault", ["flip", "truncate", "missing", "manifest", "swapped", "extra"])
def test_damage_in_the_store_is_noticed(world: CopiesWorld, kind: str, fault: str) -> None:
    """Whatever happens to objects: the check has faults, and nothing else than what was written can be fetched."""
    other = backed_up(world, kind)
    if kind == "sqlite":
        world.sqlite("insert into t values (100000, 'x')")
    backup_id = backed_up(world, kind)
    folder = world.root / "kept" / "shop" / kind / backup_id
    name = PACKED[kind]
    match fault:
        case "flip":
            world.alter(kind, name, flipped(0.5))
        case "truncate":
            world.alter(kind, name, lambda data: data[: len(data) // 2])
        case "missing":
            (folder / name).unlink()
        case "manifest":
            world.alter(kind, core.MANIFEST, flipped(0.5))
        case "swapped":
            (folder / name).write_bytes((folder.parent / other / name).read_bytes())
            if kind == "redis":
                world.alter(kind, name, flipped(0.9))
        case "extra":
            (folder / "unknown.bin").write_bytes(b"x")
    check = world.check(kind, backup_id)
    assert not check.ok
    assert {f.check for f in check.faults} <= {"integrity", "manifest", "decode"}
    if fault != "extra":
        with pytest.raises(DamagedError):
            world.copies.fetch(world.place(kind), backup_id, str(world.root))
        assert not (world.root / name.removesuffix(".gz")).exists()
    assert not list(world.root.glob("*.partial"))
    assert list(world.scratch.iterdir()) == []
    assert world.check(kind, other).ok


@pytest.mark.parametrize("programs", [PROGRAMS, ""])
def test_a_flipped_byte_in_the_rdb_is_found_by_decoding(
    world: CopiesWorld, programs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With hashes that agree: a server refuses to load the file, and without a server its CRC-64 tells."""
    if not programs:
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.delenv("UPKEEP_REDIS_BIN", raising=False)
    dice = random.Random(2026)
    whole = (
        backed_up(world, "redis")
        if programs
        else str(world.run("backup.redis", "redis", programs="")[0][-1].evidence["backup"]["id"])
    )
    for _ in range(FLIPS):
        folder = world.root / "kept" / "shop" / "redis" / whole
        before = {path: path.read_bytes() for path in folder.iterdir()}
        repacked(world, "redis", whole, flipped(dice.random()))
        check = world.check("redis", whole, programs)
        assert [f.check for f in check.faults] == ["decode"]
        for path, data in before.items():
            path.write_bytes(data)
    assert world.check("redis", whole, programs).ok


@pytest.mark.parametrize("change", ["truncated", "page", "row", "empty"])
def test_a_sqlite_file_that_is_another_is_found_by_decoding(world: CopiesWorld, change: str) -> None:
    """With hashes that agree: integrity_check or the fingerprint of the rows tells what differs."""
    backup_id = backed_up(world, "sqlite")

    def altered(data: bytearray) -> bytes | None:
        if change == "truncated":
            return bytes(data[: len(data) // 2])
        if change == "empty":
            return b""
        if change == "page":
            data[5 * 4096 : 6 * 4096] = bytes(4096)
            return None
        path = world.root / "other.db"
        path.write_bytes(data)
        with contextlib.closing(sqlite3.connect(path)) as c, c:
            c.execute("update t set x = 'other' where id = 77")
        return path.read_bytes()

    repacked(world, "sqlite", backup_id, altered)
    check = world.check("sqlite", backup_id)
    assert {f.check for f in check.faults} == {"decode"}
    if change == "row":
        assert "table t" in check.faults[0].message


class Faulty:
    """A server that lets a fixed number of bytes of another through and then ends, or stands still."""

    def __init__(self, port: int, limit: int, action: Any) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._to, self._limit, self._action = port, limit, action
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            threading.Thread(target=self._up, args=(near, far), daemon=True).start()
            threading.Thread(target=self._down, args=(far, near), daemon=True).start()

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(4096):
                far.sendall(data)

    def _down(self, far: socket.socket, near: socket.socket) -> None:
        done = 0
        with contextlib.suppress(OSError):
            while data := far.recv(1024):
                done += len(data)
                if done > self._limit:
                    self._action()
                    break
                near.sendall(data)
        for one in (near, far):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Serve nobody any more."""
        self._server.close()


def copied_through(world: CopiesWorld, between: Faulty) -> None:
    """Try to back up by way of the faulty server, and see that it ends in an error and in nothing else."""
    connection = world.connection("cache")
    connection.port = between.port
    maker = CopyMaker(lambda _: connection, lambda _: world.store, world.scratch)
    with pytest.raises(TransientError):
        maker.copy_redis("cache", world.place("redis"), CopyOptions(programs=PROGRAMS), RUN, quiet)
    between.close()
    assert world.objects("redis") == []
    assert list(world.scratch.iterdir()) == []


def test_a_server_killed_while_it_sends_leaves_nothing(tmp_path: Path) -> None:
    """SIGKILL to the server in the middle of the stream: tried again later, no object, no file; then it works again."""
    with with_cache(tmp_path) as world:
        assert world.cache is not None
        with world.cache.client() as client:
            client.config_set("save", "")
            for number in range(300):
                client.set(f"k{number}", os.urandom(2000))
        pid = int(world.cache.client().info("server")["process_id"])  # type: ignore[index]
        between = Faulty(world.cache.port, 100_000, lambda: os.kill(pid, signal.SIGKILL))
        copied_through(world, between)


def test_a_stream_that_is_cut_is_never_taken_for_whole(world: CopiesWorld) -> None:
    """Wherever the connection ends before all was sent, there is an error and no backup."""
    assert world.cache is not None
    dice = random.Random(7)
    for _ in range(FLIPS):
        # More than the answers to INFO, less than the data.
        between = Faulty(world.cache.port, dice.randrange(9000, 120_000), lambda: None)
        copied_through(world, between)


def test_a_dump_of_another_server_does_not_pass(world: CopiesWorld, tmp_path: Path) -> None:
    """A dump that is whole and does not hold the keys that the server has is refused."""
    proof = {
        "format": "upkeep-rdb/1", "bytes": 0, "checksum": "", "keys": {"0": 5000}, "keys_before": {}, "keys_after": {},
    }  # fmt: skip
    backup_id = backed_up(world, "redis")
    fetched = world.copies.fetch(world.place("redis"), backup_id, str(tmp_path))
    seen = rdb.look(Path(fetched.path))
    proof |= {"bytes": seen.size, "checksum": seen.checksum}
    wrong, keys = copy_redis.faults(Path(fetched.path), proof, PROGRAMS, time.monotonic() + 30)
    assert (keys, len(wrong)) == ({"0": 2000}, 1)
    assert "2000 keys, expected 5000" in wrong[0]


def test_a_store_that_goes_away_leaves_nothing_that_counts(world: CopiesWorld) -> None:
    """A store that fails while the file is written: no manifest, and nothing is left in the scratch folder."""
    kept = world.root / "kept"

    class Away(type(world.store)):  # type: ignore[misc]
        def write(self, key: str, source: Path) -> Any:
            raise TransientError("gone", "")

    maker = CopyMaker(world.connection, lambda _: Away(kept), world.scratch)
    for kind in ("sqlite", "redis"):
        with pytest.raises(TransientError):
            if kind == "sqlite":
                maker.copy_sqlite(str(world.path), world.place(kind), CopyOptions(), RUN, quiet)
            else:
                maker.copy_redis("cache", world.place(kind), CopyOptions(programs=PROGRAMS), RUN, quiet)
        assert world.objects(kind) == []
    assert list(world.scratch.iterdir()) == []


def test_a_bomb_is_not_unpacked(world: CopiesWorld) -> None:
    """A packed file that unpacks to more than its manifest says is refused before it fills the disk."""
    backup_id = backed_up(world, "sqlite")
    folder = world.root / "kept" / "shop" / "sqlite" / backup_id
    packed = folder / PACKED["sqlite"]
    packed.write_bytes(gzip.compress(bytes(50 << 20), mtime=0))
    data = packed.read_bytes()
    manifest = world.archive.manifest(world.place("sqlite"), backup_id)
    assert isinstance(manifest, CopyManifest)
    entry = FileEntry(name=packed.name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    (folder / core.MANIFEST).write_bytes(core.encode(manifest.model_copy(update={"files": (entry,)})))
    assert "unpacks to more than" in world.check("sqlite", backup_id).faults[0].message


def test_no_scratch_server_outlives_a_check(world: CopiesWorld) -> None:
    """The server that a dump is loaded by is gone when the check ends."""
    import psutil

    backup_id = backed_up(world, "redis")
    world.check("redis", backup_id)
    mine = [p for p in psutil.Process().children(recursive=True) if "redis.conf" in " ".join(p.cmdline())]
    assert mine == []
    assert list(world.scratch.iterdir()) == []


def test_a_worker_killed_anywhere_leaves_whole_backups_or_leftovers(world: CopiesWorld) -> None:
    """After each SIGKILL no program outlives the worker, every backup listed is whole, and sweeping leaves no trace."""
    import psutil

    assert world.cache is not None
    order = {
        "port": world.cache.port, "password": world.cache.password, "scratch": str(world.scratch), "run": RUN,
        "store": world.ref.url, "programs": PROGRAMS, "path": str(world.path),
    }  # fmt: skip
    dice = random.Random(2026)
    for _ in range(max(FLIPS // 2, 1)):
        worker = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("copies_worker.py")), json.dumps(order)],
            stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )  # fmt: skip
        assert worker.stdout and worker.stdout.readline() == "ready\n"
        time.sleep(dice.random() * 0.6)
        programs = psutil.Process(worker.pid).children(recursive=True)
        worker.kill()
        worker.communicate()
        assert psutil.wait_procs(programs, timeout=10)[1] == []
        for kind in ("sqlite", "redis"):
            place = world.place(kind)
            world.archive.sweep(place, RUN, timedelta(hours=2))
            listed = world.archive.stored(place)
            # Killed before its mark was whole, a writer is told from one that lives only by its silence.
            assert all(s.complete or s.objects == 1 for s in listed)
            for one in [s for s in listed if s.complete][:2]:
                assert world.check(kind, one.id).ok
        assert list(world.scratch.iterdir()) == []
    assert world.run("backup.redis", "redis")[1] == []
