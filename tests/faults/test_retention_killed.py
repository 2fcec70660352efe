"""A worker killed at any moment of a removal leaves every backup whole or gone, and the next run ends what it began."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.object_store import ObjectStoreServer
from lab.postgres import PostgresServer
from lab.process import scratch_folder
from tests.integration.retention_world import DAY, START, Shelf, dumps
from upkeep.core.backup import TOMBSTONE
from upkeep.core.model import Severity

WORKER = Path(__file__).with_name("retention_worker.py")
KILLS = int(os.environ.get("UPKEEP_TEST_KILLS", "4"))


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[PostgresServer, ObjectStoreServer]]:
    with (
        scratch_folder() as folder,
        PostgresServer(18, folder / "ledger") as ledger,
        ObjectStoreServer(folder / "s3", buckets=["kept"]) as s3,
    ):
        yield ledger, s3


@pytest.fixture(params=["folder", "s3"])
def shelf(servers: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Shelf]:
    ledger, s3 = servers
    database = f"k{hashlib.sha256(request.node.name.encode()).hexdigest()[:20]}"
    ledger.create_database(database)
    where = {"endpoint": s3.endpoint_url, "key": s3.access_key, "secret": s3.secret_key, "bucket": "kept",
             "prefix": database} if request.param == "s3" else {"folder": str(tmp_path / "kept")}  # fmt: skip
    (tmp_path / "scratch").mkdir()
    made = Shelf(where, ledger.dsn(database), tmp_path / "scratch")
    yield made
    made.close()


def start(shelf: Shelf) -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [sys.executable, str(WORKER), dumps(shelf)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert worker.stdout
    assert worker.stdout.readline() == "ready\n"
    return worker


def fill(shelf: Shelf, days: int, first: int) -> None:
    """Make a full backup every fifth day and incremental ones between them; the last one is full, as the newest."""
    parent = None
    for n in range(days):
        full = n % 5 == 0 or n == days - 1
        parent = shelf.put(START + (first + n) * DAY, parent=None if full else parent, files=3)
    shelf.now = START + (first + days - 1) * DAY + timedelta(hours=1)


def expect_sound(shelf: Shelf, wanted: set[str]) -> set[str]:
    """See that what is wanted is there, that everything there is whole, and nothing lacks what it needs."""
    whole = shelf.whole()
    assert wanted <= whole, "a backup that should stay is gone"
    for backup_id in whole:
        parent = shelf.archive.manifest(shelf.place, backup_id).parent
        assert parent is None or parent in whole, "an incremental has lost what it needs"
    return whole


def test_killed_at_random_points_every_backup_is_whole_or_gone(shelf: Shelf) -> None:
    """After each SIGKILL: all that should stay is whole, no phantom; the next run is green and tells the ledger."""
    dice, first, usual, cut = random.Random(2026), 0, 0.0, 0
    for number in range(KILLS + 1):
        fill(shelf, 12, first)
        first += 13
        routine, one = shelf.job(share=1)
        (series,) = routine.observe(one).series
        due, wanted = set(series.decision.removal_order), {v.id for v in series.decision.verdicts if v.keep}
        assert len(due) >= 5
        worker, begun = start(shelf), time.monotonic()
        if number:
            # A stratified choice: one moment from each part of a run.
            time.sleep(usual * (number - 1 + dice.random()) / KILLS)
            worker.kill()
            worker.communicate()
        else:
            out, err = worker.communicate(timeout=60)
            assert (worker.returncode, out.endswith("done\n")) == (0, True), err
            usual = time.monotonic() - begun
        left = expect_sound(shelf, wanted)
        cut += bool(due & left) and not due <= left
        shelf.now += timedelta(minutes=1)
        summary, _, findings = shelf.run(share=1)
        assert (summary.severity, findings) == (Severity.OK, [])
        assert expect_sound(shelf, wanted) == wanted
        assert {i for i, e in shelf.catalogue.items() if e.removed_at is None} == wanted, "the ledger was not told"
        shelf.run(share=1)
        assert {key.split("/")[2] for key in shelf.listed()} == wanted
        assert not [key for key in shelf.listed() if key.endswith(TOMBSTONE)]
        assert shelf.run(share=1)[1].planned == ()
    assert cut or KILLS < 20, "no kill came in the middle of a removal"


def test_two_at_once_do_no_harm(shelf: Shelf) -> None:
    """Two runs that remove the same at the same time both end well, and nothing that should stay is touched."""
    fill(shelf, 12, 0)
    routine, one = shelf.job(share=1)
    (series,) = routine.observe(one).series
    wanted = {v.id for v in series.decision.verdicts if v.keep}
    workers = [start(shelf), start(shelf)]
    for worker in workers:
        out, err = worker.communicate(timeout=60)
        assert (worker.returncode, out.endswith("done\n")) == (0, True), err
    assert expect_sound(shelf, wanted) == wanted
    shelf.run(share=1)
    assert {i for i, e in shelf.catalogue.items() if e.removed_at is None} == wanted
