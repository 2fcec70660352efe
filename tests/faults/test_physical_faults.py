"""Every fault of a stored physical backup is detected and its file named; who is killed leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from lab.process import children
from tests.integration.physical_world import DATABASE, RUN, Cluster, cluster, quiet
from upkeep.adapters.physical_restore import codec_of, fetch_and_unpack, pieces
from upkeep.core import backup as core
from upkeep.core.backup import FileEntry, PhysicalManifest
from upkeep.core.errors import DamagedError, TransientError
from upkeep.core.physical import SERVER_MANIFEST, PhysicalOptions

WORKER = Path(__file__).with_name("physical_worker.py")
KILLS = int(os.environ.get("UPKEEP_TEST_KILLS", "4"))
PATIENCE = timedelta(hours=2)


@pytest.fixture(scope="module")
def made() -> Iterator[Cluster]:
    with cluster(18) as one:
        yield one


@pytest.fixture
def kept(made: Cluster, request: pytest.FixtureRequest) -> Iterator[tuple[Cluster, PhysicalManifest]]:
    """A sound backup in a series of its own, in several pieces."""
    mine = Cluster(made.server, made.folder, made.dsn, f"shop/f{abs(hash(request.node.name)) % 10**8}")
    yield mine, mine.backup(piece_bytes=1 << 19).manifest
    mine.store.delete(mine.objects())


def path_of(made: Cluster, manifest: PhysicalManifest, name: str) -> Path:
    return made.folder / "kept" / made.place.series / manifest.id / name


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def flipped(made: Cluster, manifest: PhysicalManifest) -> str:
    path = path_of(made, manifest, pieces(manifest)[1].name)
    flip(path, path.stat().st_size // 2)
    return path.name


def truncated(made: Cluster, manifest: PhysicalManifest) -> str:
    path = path_of(made, manifest, pieces(manifest)[-1].name)
    os.truncate(path, path.stat().st_size // 2)
    return path.name


def missing(made: Cluster, manifest: PhysicalManifest) -> str:
    path = path_of(made, manifest, pieces(manifest)[1].name)
    path.unlink()
    return path.name


def swapped(made: Cluster, manifest: PhysicalManifest) -> str:
    one, other = (path_of(made, manifest, piece.name) for piece in pieces(manifest)[:2])
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    return one.name


def manifest_of_server(made: Cluster, manifest: PhysicalManifest) -> str:
    flip(path_of(made, manifest, SERVER_MANIFEST), 500)
    return SERVER_MANIFEST


def own_manifest(made: Cluster, manifest: PhysicalManifest) -> str:
    flip(path_of(made, manifest, core.MANIFEST), 500)
    return core.MANIFEST


@pytest.mark.parametrize("fault", [flipped, truncated, missing, swapped, manifest_of_server, own_manifest])
def test_a_fault_in_the_store_is_detected_and_named(
    kept: tuple[Cluster, PhysicalManifest], tmp_path: Path, fault: Callable[[Cluster, PhysicalManifest], str]
) -> None:
    """Whatever happens to a stored file: the check names it, and a restore refuses."""
    made, manifest = kept
    name = fault(made, manifest)
    seen = made.check(manifest.id)
    assert name in {f.subject for f in seen.faults}
    if fault is not manifest_of_server:  # the archive has its own
        with pytest.raises(DamagedError, match=name.replace(".", r"\.")):
            fetch_and_unpack(made.store, made.place, manifest.id, tmp_path, programs=made.programs, say=quiet)


def resealed(
    made: Cluster, manifest: PhysicalManifest, change: Callable[[tarfile.TarInfo, bytes], bytes | None]
) -> None:
    """Pack the archive anew with a change in it, and make our own manifest agree: hashes of ours no longer help."""
    codec = codec_of(manifest)
    data = b"".join(path_of(made, manifest, p.name).read_bytes() for p in pieces(manifest))
    source, out = io.BytesIO(b"".join(bytes(part()) for part in codec.parts(iter([data])))), io.BytesIO()
    with tarfile.open(fileobj=source) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old:
            content = old.extractfile(member).read() if member.isfile() else b""  # type: ignore[union-attr]
            changed = change(member, content)
            if changed is not None:
                member.size = len(changed)
                new.addfile(member, io.BytesIO(changed))
    for piece in pieces(manifest):
        path_of(made, manifest, piece.name).unlink()
    name = pieces(manifest)[0].name
    written = made.store.write_bytes(f"{made.place.series}/{manifest.id}/{name}", codec.compress(out.getvalue(), 1))
    beside = [f for f in manifest.files if f.name == SERVER_MANIFEST]
    files = (FileEntry(name=name, size=written.size, sha256=written.sha256), *beside)
    sealed = manifest.model_copy(update={"files": files})
    made.store.write_bytes(f"{made.place.series}/{manifest.id}/{core.MANIFEST}", core.encode(sealed))


def without_wal(member: tarfile.TarInfo, content: bytes) -> bytes | None:
    return None if member.name.startswith("pg_wal/0") else content


def without_a_table(member: tarfile.TarInfo, content: bytes) -> bytes | None:
    return None if member.name.startswith("base/5/1259") else content


def with_a_flipped_page(member: tarfile.TarInfo, content: bytes) -> bytes | None:
    return content[:5000] + b"?" + content[5001:] if member.name == "base/5/1259" else content


def with_another_manifest(member: tarfile.TarInfo, content: bytes) -> bytes | None:
    return content.replace(b'"Size": 8192', b'"Size": 8193', 1) if member.name == SERVER_MANIFEST else content


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        (without_wal, "000000010000"),
        (without_a_table, "base/5/1259"),
        (with_a_flipped_page, "base/5/1259"),
        (with_another_manifest, SERVER_MANIFEST),
    ],
)
def test_what_our_own_hashes_cannot_see_pg_verifybackup_does(
    kept: tuple[Cluster, PhysicalManifest], change: Any, subject: str
) -> None:
    """Damage from before our hashes were taken: WAL, file, page and the server's manifest are looked at by its tool."""
    made, manifest = kept
    resealed(made, manifest, lambda member, content: content)
    assert made.check(manifest.id).faults == ()
    resealed(made, core.decode(path_of(made, manifest, core.MANIFEST).read_bytes(), ""), change)  # type: ignore[arg-type]
    seen = made.check(manifest.id)
    assert [f for f in seen.faults if subject in f.subject or subject in f.message], seen.faults


def test_a_damaged_parent_is_a_fault_of_all_that_is_built_upon_it(kept: tuple[Cluster, PhysicalManifest]) -> None:
    """An incremental backup is worth what its parents are; the next one is full and says why."""
    made, full = kept
    child = made.backup(full.id).manifest
    grandchild = made.backup(child.id).manifest
    assert made.check(grandchild.id).faults == ()
    name = flipped(made, full)
    seen = made.check(grandchild.id)
    assert [f for f in seen.faults if f.subject == name and full.id in f.message]
    path_of(made, full, core.MANIFEST).unlink()
    seen = made.check(grandchild.id)
    assert [f for f in seen.faults if f.check == "manifest" and full.id in f.message]
    evidence, findings = made.routine()
    assert evidence["parent"] is None and [f.check for f in findings] == ["incremental"]


def test_a_backend_that_is_ended_leaves_nothing(made: Cluster) -> None:
    """The server ends the copying in the middle: an error that is tried again, no objects, no slot, no files."""
    mine = Cluster(made.server, made.folder, made.dsn, "shop/ended")
    ended: list[int] = []

    def end(_: object) -> None:
        if not ended:
            ended.extend(n for (n,) in made.run("select pid from pg_stat_replication"))
            made.run("select pg_terminate_backend(pid) from pg_stat_replication")

    options = PhysicalOptions(programs=made.programs, max_rate=4096)
    with pytest.raises(TransientError, match="pg_basebackup"):
        mine.physical.backup(DATABASE, mine.place, options, RUN, end)
    assert ended
    assert mine.objects() == [] and list(made.scratch.iterdir()) == []
    assert made.slots() == 0


def test_a_killed_worker_leaves_no_phantom_and_no_slot(made: Cluster) -> None:
    """SIGKILL at any moment: nothing counts that is not whole, no program survives, the next run succeeds."""
    mine = Cluster(made.server, made.folder, made.dsn, "shop/killed")
    order = {
        "dsn": made.dsn, "store": str(made.folder / "kept"), "scratch": str(made.scratch), "target": mine.target,
        "programs": made.programs, "run": RUN, "rate": "20000",
    }  # fmt: skip
    dice, leftovers, usual = random.Random(2026), 0, 3.0
    for number in range(KILLS):
        worker = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(order)], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )  # fmt: skip
        assert worker.stdout and worker.stdout.readline() == "ready\n"
        time.sleep(usual * (number + dice.random()) / KILLS)
        programs = [psutil.Process(p) for p in children(worker.pid)]
        worker.kill()
        worker.communicate()
        assert psutil.wait_procs(programs, timeout=10)[1] == []
        for stored in mine.archive.stored(mine.place):
            assert not stored.complete or mine.check(stored.id).ok
        leftovers += len(mine.archive.leftovers(mine.place, RUN, PATIENCE))
        mine.archive.sweep(mine.place, RUN, PATIENCE)
        assert all(s.complete for s in mine.archive.stored(mine.place))
        assert list(made.scratch.iterdir()) == []
    assert leftovers > 0
    evidence, findings = mine.routine()
    assert mine.check(evidence["id"]).ok and findings == []
    deadline = time.monotonic() + 10
    while made.slots() and time.monotonic() < deadline:  # the server notices that its client is gone
        time.sleep(0.1)
    assert made.slots() == 0
