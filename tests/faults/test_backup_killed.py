"""A worker killed at any moment leaves nothing that counts as a backup, and the next try cleans up after it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from lab.process import children
from tests.integration.backup_world import BUCKET, RUN, World, world
from upkeep.core.backup import MANIFEST

WORKER = Path(__file__).with_name("backup_worker.py")
KILLS = int(os.environ.get("UPKEEP_TEST_KILLS", "8"))
PATIENCE = timedelta(hours=2)
SECONDS: list[float] = []  # what an undisturbed worker takes here


@pytest.fixture(scope="module")
def lab() -> Iterator[World]:
    with world() as made:
        made.database(
            "shop",
            "create table big as select i, md5(i::text) as a, md5(i::text) as b from generate_series(1, 250000) as i",
            "create table wide as select i, repeat(md5(i::text), 20) as a from generate_series(1, 20000) as i",
            *(f"create table t{n} as select generate_series(1, 100) as n" for n in range(10)),
        )
        yield made


def start(lab: World, **more: str) -> subprocess.Popen[str]:
    order = {
        "dsn": lab.dsn, "endpoint": lab.s3.endpoint_url, "key": lab.s3.access_key, "secret": lab.s3.secret_key,
        "bucket": BUCKET, "scratch": str(lab.scratch), "target": lab.target, "programs": str(lab.postgres.bin),
        "run": RUN, **more,
    }  # fmt: skip
    worker = subprocess.Popen(
        [sys.executable, str(WORKER), json.dumps(order)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert worker.stdout and worker.stdout.readline() == "ready\n"
    return worker


def family(pid: int) -> list[psutil.Process]:
    found, ahead = [], [pid]
    while ahead:
        mother = ahead.pop()
        for child in children(mother):
            ahead.append(child)
            try:
                found.append(psutil.Process(child))
            except psutil.NoSuchProcess:
                continue
    return found


def test_undisturbed_worker_makes_a_backup(lab: World) -> None:
    """The worker of these tests does make a backup when nobody kills it, and takes long enough to be killed."""
    worker = start(lab)
    begun = time.monotonic()
    out, err = worker.communicate(timeout=120)
    assert worker.returncode == 0, (out, err)
    SECONDS.append(time.monotonic() - begun)
    made = json.loads(out.splitlines()[-1])["id"]
    assert lab.archive.manifest(lab.place, made).run_id == RUN


def test_killed_at_random_points_nothing_counts_and_the_next_try_cleans_up(lab: World) -> None:
    """After each SIGKILL every backup listed is whole, no program outlives its worker, and sweeping leaves no trace."""
    usual = SECONDS[0] if SECONDS else 3.0
    dice = random.Random(2026)
    whole = {s.id for s in lab.archive.stored(lab.place) if s.complete}
    leftovers = 0
    for number in range(KILLS):
        worker = start(lab)
        # A stratified choice: one moment from each part of a backup's life.
        time.sleep(usual * (number + dice.random()) / KILLS)
        programs = family(worker.pid)
        worker.kill()
        worker.communicate()
        assert psutil.wait_procs(programs, timeout=10)[1] == [], "a program outlived its worker"
        complete = {s.id for s in lab.archive.stored(lab.place) if s.complete}
        for fresh in complete - whole:
            assert lab.check(fresh).ok  # killed after the manifest: then it must be a whole backup
        whole = complete
        leftovers += len(lab.archive.leftovers(lab.place, RUN, PATIENCE))
        lab.archive.sweep(lab.place, RUN, PATIENCE)
        assert {key.split("/")[2] for key in lab.objects()} == whole
        assert not list(lab.store.uploads(lab.target))
        assert list(lab.scratch.iterdir()) == []
    assert leftovers > 0
    assert lab.check(lab.backup().manifest.id).ok


def test_a_writer_at_work_is_never_swept(lab: World) -> None:
    """While a backup is being made, sweeping by another finds and removes nothing of it, and the backup succeeds."""
    worker = start(lab)
    deadline = time.monotonic() + 30
    while not any(not s.complete for s in lab.archive.stored(lab.place)) and time.monotonic() < deadline:
        time.sleep(0.02)
    swept = lab.archive.sweep(lab.place, RUN, timedelta(0) + PATIENCE)
    out, err = worker.communicate(timeout=120)
    assert swept == ()
    assert worker.returncode == 0, (out, err)


def test_a_complete_backup_is_never_swept(lab: World) -> None:
    """A backup with a manifest stays, also with the mark of a dead writer and foreign objects beside it."""
    kept = lab.backup()
    prefix = f"{lab.target}/{kept.manifest.id}"
    lab.store.write_bytes(f"{prefix}/started.json", b"{}")
    lab.store.write_bytes(f"{prefix}/other", b"x")
    assert lab.archive.sweep(lab.place, RUN, timedelta(0)) == ()
    assert f"{prefix}/{MANIFEST}" in lab.objects()


def test_unknown_writers_are_given_their_time(lab: World) -> None:
    """Objects of a writer on another machine stay until nothing has been written for as long as the setting says."""
    prefix = f"{lab.target}/20200101T000000Z-0123abcd"
    mark = {"run_id": "other", "machine": "elsewhere", "pid": 1, "birth": 0, "started": "2020-01-01T00:00:00Z"}
    lab.store.write_bytes(f"{prefix}/started.json", json.dumps(mark).encode())
    lab.store.write_bytes(f"{prefix}/1.dat", b"x")
    assert lab.archive.sweep(lab.place, RUN, PATIENCE) == ()
    swept = lab.archive.sweep(lab.place, RUN, timedelta(seconds=-5))
    assert [left.name for left in swept] == ["20200101T000000Z-0123abcd"]
    assert not [key for key in lab.objects() if key.startswith(prefix)]


def test_foreign_objects_below_the_target_are_left_alone(lab: World) -> None:
    """Keys that do not have the shape of a backup's are nobody's business here."""
    lab.store.write_bytes(f"{lab.target}/notes/readme.txt", b"x")
    lab.store.write_bytes(f"{lab.target}-other/20200101T000000Z-0123abcd/1.dat", b"x")
    lab.archive.sweep(lab.place, RUN, timedelta(seconds=-5))
    assert f"{lab.target}/notes/readme.txt" in lab.objects()
    assert len(list(lab.store.list(f"{lab.target}-other/"))) == 1
    lab.store.delete([f"{lab.target}/notes/readme.txt"])
