"""Restore tests under faults: what is wrong is found and told as what it is, and nothing is left behind."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.backup_world import World, world
from upkeep.adapters import scratch_place
from upkeep.adapters.object_store import FolderStore
from upkeep.adapters.restore_test import Restorer
from upkeep.core import backup as core
from upkeep.core.backup import Kept, Manifest
from upkeep.core.errors import TransientError
from upkeep.core.restore import Options, Tested

KILLS = int(os.environ.get("UPKEEP_TEST_KILLS", "4"))
WORKER = Path(__file__).with_name("restore_worker.py")
ROWS = 150_000


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A store in a folder, and a backup whose data are not compressed (which pg_dump 15 is told by level 0)."""
    with world(15) as made:
        made.store = FolderStore(tmp_path_factory.mktemp("store"))
        made.database(
            "shop",
            "create table big (id int primary key, v text)",
            "insert into big select i, repeat('x', 100) || 'content of row ' || i"
            f" from generate_series(1, {ROWS}) as i",
            "vacuum analyze",
        )
        yield made


@pytest.fixture(scope="module")
def stored(lab: World) -> Kept[Manifest]:
    from upkeep.adapters import pg_tools

    plain = pg_tools.compression
    try:
        pg_tools.compression = lambda *_: "0"  # type: ignore[assignment]
        return lab.backup()
    finally:
        pg_tools.compression = plain


@pytest.fixture
def kept(lab: World, stored: Kept[Manifest], tmp_path: Path) -> Iterator[Kept[Manifest]]:
    """Give the backup, and put it back as it was afterwards."""
    folder = prefix(lab, stored)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    yield stored
    for name, data in before.items():
        (folder / name).write_bytes(data)


def prefix(lab: World, kept: Kept[Manifest]) -> Path:
    assert isinstance(lab.store, FolderStore)
    return lab.store.folder / lab.target / kept.manifest.id


def largest(lab: World, kept: Kept[Manifest]) -> Path:
    return prefix(lab, kept) / max(kept.manifest.files, key=lambda f: f.size).name


def restorer(lab: World) -> Restorer:
    return Restorer(lambda _: lab.store, lab.scratch)


def test(lab: World, kept: Kept[Manifest], say: Any = lambda _: None) -> Tested:
    options = Options(programs=str(lab.postgres.bin), amcheck=False)
    return restorer(lab).test(lab.place, kept.manifest.id, options, say)


test.__test__ = False  # type: ignore[attr-defined]


def flip(path: Path) -> None:
    """Change one letter in the middle of the data: still a row, still text."""
    data = bytearray(path.read_bytes())
    at = data.index(b"content of row 75000\n")
    data[at] = ord("C")
    path.write_bytes(data)


def test_flipped_byte_is_found_by_the_hash(lab: World, kept: Kept[Manifest]) -> None:
    """A byte that changed in the store is found while it is fetched, before anything is restored."""
    flip(largest(lab, kept))
    seen = test(lab, kept)
    assert not seen.ok and "restore" not in seen.phases
    assert largest(lab, kept).name in seen.failures[0] and "SHA-256" in seen.failures[0]
    assert list(lab.scratch.iterdir()) == []


def test_flipped_byte_before_the_hash_is_found_by_the_fingerprint(lab: World, kept: Kept[Manifest]) -> None:
    """Wrong data under a hash that fits restores without a complaint: the table and the range of keys are named."""
    path = largest(lab, kept)
    flip(path)
    entry = core.FileEntry(
        name=path.name, size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest()
    )
    files = tuple(entry if f.name == path.name else f for f in kept.manifest.files)
    (prefix(lab, kept) / core.MANIFEST).write_bytes(core.encode(kept.manifest.model_copy(update={"files": files})))
    seen = test(lab, kept)
    assert seen.failures == () and not seen.ok
    (difference,) = seen.differences
    assert difference.name == "public.big" and len(difference.ranges) == 1
    (where,) = difference.ranges
    assert where.low is not None and where.high is not None and where.low <= 75000 <= where.high
    assert where.high - where.low < ROWS / 60


@pytest.mark.parametrize("fault", ["truncated", "missing", "toc"])
def test_truncated_and_missing_files_are_named(lab: World, kept: Kept[Manifest], fault: str) -> None:
    """A file that is shorter or gone makes the backup one that cannot be restored, and is named."""
    path = prefix(lab, kept) / core.TOC if fault == "toc" else largest(lab, kept)
    if fault == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    else:
        path.unlink()
    seen = test(lab, kept)
    assert not seen.ok and path.name in seen.failures[0]


def test_manifest_that_was_altered_is_damage(lab: World, kept: Kept[Manifest]) -> None:
    """Without a manifest that can be read there is nothing to compare with: no test, an error that says so."""
    from upkeep.core.errors import DamagedError

    path = prefix(lab, kept) / core.MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"rows":', b'"rowz":', 1))
    with pytest.raises(DamagedError, match=r"manifest\.json"):
        test(lab, kept)


@pytest.mark.parametrize("phase", ["restore", "compare"])
def test_scratch_server_killed_in_the_middle_is_no_fault_of_the_backup(
    lab: World, kept: Kept[Manifest], phase: str
) -> None:
    """When the server goes, the test is tried again: the backup is not called bad, nothing is left."""
    killed: list[int] = []

    def say(line: str) -> None:
        if line == f"{phase} ...":
            threading.Timer(0.15 if phase == "restore" else 0.0, kill).start()
            time.sleep(0.0 if phase == "restore" else 0.2)

    def kill() -> None:
        for folder in lab.scratch.glob(f"{scratch_place.PREFIX}*"):
            head = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
            os.kill(head, signal.SIGKILL)
            killed.append(head)

    with pytest.raises(TransientError):
        test(lab, kept, say)
    assert killed
    assert list(lab.scratch.iterdir()) == []


def order(lab: World, kept: Kept[Manifest], **more: str) -> list[str]:
    assert isinstance(lab.store, FolderStore)
    said = {
        "store": str(lab.store.folder), "scratch": str(lab.scratch), "target": lab.target, "id": kept.manifest.id,
        "programs": str(lab.postgres.bin), **more,
    }  # fmt: skip
    return [sys.executable, str(WORKER), json.dumps(said)]


def test_disk_that_fills_up_is_tried_again(lab: World, kept: Kept[Manifest]) -> None:
    """A write that fails for want of space is no fault of the backup, and leaves nothing behind."""
    done = subprocess.run(
        order(lab, kept, fsize=str(18 << 20)), capture_output=True, text=True, check=False, timeout=120
    )
    assert json.loads(done.stdout.splitlines()[-1])["error"] == "TransientError", done.stdout + done.stderr
    assert list(lab.scratch.iterdir()) == []


def running_on(scratch: Path) -> list[int]:
    """Return the processes that work in the scratch folder."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if str(link.readlink()).startswith(f"{scratch}/"):
                found.append(int(link.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", range(KILLS))
def test_killed_worker_leaves_nothing_after_the_next_run(lab: World, stored: Kept[Manifest], number: int) -> None:
    """SIGKILL at any moment: the next run removes server and folder, the backup is whole, the source goes on."""
    dice = random.Random(f"{number}-{os.environ.get('UPKEEP_TEST_SEED', '1')}")
    worker = subprocess.Popen(order(lab, stored), stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    time.sleep(dice.uniform(0.0, 3.0))
    worker.kill()
    worker.communicate()
    # Also the guard may go: then nobody is left to end the server but the next run.
    swept = restorer(lab).sweep(lab.target)
    assert running_on(lab.scratch) == []
    assert list(lab.scratch.iterdir()) == []
    assert len(swept) <= 1
    with lab.connect() as connection:
        assert connection.execute("select count(*) from big").fetchone() == (ROWS,)
    assert (prefix(lab, stored) / core.MANIFEST).exists()


def test_server_whose_guard_was_killed_too_is_ended_by_the_next_run(lab: World, stored: Kept[Manifest]) -> None:
    """With the worker and all that watched over the server gone, the next run ends exactly that server."""
    worker = subprocess.Popen(order(lab, stored), stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    for line in worker.stdout:
        if line == "restore ...\n":
            break
    (folder,) = lab.scratch.glob(f"{scratch_place.PREFIX}*")
    assert restorer(lab).leftovers(lab.target) == ()  # somebody works on it
    os.kill(worker.pid, signal.SIGSTOP)
    servers = scratch_place.processes(folder / "data")
    head = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
    guard = int(Path(f"/proc/{head}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(head, signal.SIGSTOP)  # so that it cannot hear that its guard is gone
    os.kill(guard, signal.SIGKILL)
    worker.kill()
    worker.communicate()
    os.kill(head, signal.SIGCONT)
    assert servers
    restorer(lab).sweep(lab.target)
    assert running_on(lab.scratch) == [] and list(lab.scratch.iterdir()) == []


def test_folder_of_a_living_worker_is_left_alone(lab: World) -> None:
    """While a test runs, another worker's sweep does not touch it."""
    with scratch_place.scratch_place(lab.scratch, lab.target, "x") as folder:
        assert restorer(lab).sweep(lab.target) == ()
        assert folder.is_dir()
    assert list(lab.scratch.iterdir()) == []
