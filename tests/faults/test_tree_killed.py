"""A worker killed while it backs a tree up leaves nothing that counts as a backup, and the next run is green."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from lab.servers import ObjectStoreServer
from tests.integration.tree_world import BUCKET, RUN, Trees
from upkeep.adapters import archive, tree_collect, tree_list

WORKER = Path(__file__).with_name("tree_worker.py")
ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("UPKEEP_TEST_KILLS", "8"))
HOURS = timedelta(hours=2)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreServer]:
    with ObjectStoreServer(tmp_path_factory.mktemp("s3"), buckets=[BUCKET]) as server:
        yield server


def start(world: Trees, s3: ObjectStoreServer | None) -> subprocess.Popen[str]:
    order = {"home": str(world.home), "key": world.key}
    if s3:
        order |= {"endpoint": s3.endpoint_url, "access": s3.access_key, "secret": s3.secret_key}
    worker = subprocess.Popen(
        [sys.executable, str(WORKER), json.dumps(order)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *(p for p in sys.path if p)])},
    )  # fmt: skip
    assert worker.stdout and worker.stdout.readline() == "ready\n", worker.communicate()
    return worker


def change(world: Trees, number: int) -> None:
    """Give the worker something to do: large, middle and small files that nobody has seen yet."""
    dice = random.Random(number)
    folder = world.tree / f"{number}"
    folder.mkdir()
    (folder / "large").write_bytes(dice.randbytes(9 << 20))
    for name in range(12):
        (folder / f"m{name}").write_bytes(dice.randbytes(150_000))
    for name in range(100):
        (folder / f"s{name}").write_bytes(dice.randbytes(20_000))
    if number > 1:
        shutil.rmtree(world.tree / f"{number - 2}", ignore_errors=True)


@pytest.mark.parametrize(("kind", "key"), [("file", ""), ("s3", "k1")])
def test_killed_at_random_points_nothing_counts_and_the_next_run_is_green(
    tmp_path: Path, s3: ObjectStoreServer, kind: str, key: str
) -> None:
    """After each SIGKILL what is listed is whole; sweeping and collecting leave only what backups need."""
    server = s3 if kind == "s3" else None
    home = tmp_path / f"killed-{kind}"
    home.mkdir()
    world = Trees(home, client=server.client() if server else None, key=key)
    lister = archive.make_archiver(str, lambda _: world.store, world.home / "scratch")
    dice = random.Random(2026)
    change(world, 0)
    worker, begun = start(world, server), time.monotonic()
    out, err = worker.communicate(timeout=120)
    assert worker.returncode == 0, (out, err)
    usual = time.monotonic() - begun
    whole, killed, leftovers = {out.strip()}, 0, 0
    for number in range(1, KILLS // 2 + 1):
        change(world, number)
        worker = start(world, server)
        time.sleep(usual * (number - 1 + dice.random()) / max(KILLS // 2, 1))
        worker.kill()
        worker.communicate()
        killed += worker.returncode != 0
        complete = {s.id for s in lister.stored(world.place) if s.complete}
        for fresh in complete - whole:
            assert world.check(fresh).ok  # killed after the manifest: then it must be a whole backup
        assert whole <= complete
        whole = complete
        leftovers += len(lister.sweep(world.place, RUN, HOURS))
    assert killed
    assert leftovers
    last = world.manifest()
    assert last.lost == 0
    assert world.restored(last.id).equal
    assert world.archive.compare(world.place, last.id, world.tree).equal
    # Killed before its mark was whole, a writer is told from one that lives only by its silence.
    assert {left.reason.split(" for ")[0] for left in lister.sweep(world.place, RUN, timedelta(seconds=-5))} <= {
        "nothing has been written"
    }
    for upload in world.store.uploads(f"{world.target}/"):
        world.store.abort(upload)
    done = tree_collect.collect(world.store, world.place, RUN, contents=tree_list.contents, patience=HOURS,
                                grace=timedelta(seconds=-5))  # fmt: skip
    assert done.reason == ""
    complete = {s.id for s in lister.stored(world.place)}
    assert complete == whole | {last.id}
    assert all(world.check(one).ok for one in complete)
    assert lister.leftovers(world.place, RUN, timedelta(seconds=-5)) == ()
    assert not list((world.home / "scratch").iterdir())
