"""Workers killed while they copy, restore or retrain: a copy is whole or not there, and the old model lives."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from lab.process import children
from tests.integration.model_health_bench import Care, make, write
from upkeep.adapters.model_versions import ModelVersions
from upkeep.adapters.retrain import Retrainer

WORKER = Path(__file__).with_name("model_worker.py")
KILLS = int(os.environ.get("UPKEEP_TEST_KILLS", "3"))
TRAIN = """
import json, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
for n in range(30):
    (folder / "model.pkl").write_bytes(b"half" * n)
    (folder / "model_metadata.json").write_text("{" * n)
    time.sleep(0.02)
"""


@pytest.fixture
def care(tmp_path: Path) -> Care:
    made = make(tmp_path)
    (made.folder / "weights.json").write_text(json.dumps("x" * 12_000_000))
    (tmp_path / "train.py").write_text(TRAIN)
    return made


def start(care: Care, routine: str, action: str, **more: str) -> subprocess.Popen[str]:
    """Start a worker and wait until it begins."""
    order = {"folder": str(care.folder), "scratch": str(care.scratch), "routine": routine, "action": action,
             "program": str(care.folder.parent / "train.py"), "now": care.now.isoformat(), **more}  # fmt: skip
    worker = subprocess.Popen(
        [sys.executable, str(WORKER), json.dumps(order)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert worker.stdout and worker.stdout.readline() == "ready\n"
    return worker


def family(pid: int) -> list[psutil.Process]:
    """Return the processes that a worker has started, and theirs."""
    found, ahead = [], [pid]
    while ahead:
        for child in children(ahead.pop()):
            ahead.append(child)
            found.append(psutil.Process(child))
    return found


def content(care: Care) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in care.folder.iterdir() if p.is_file()}


def test_a_copy_is_whole_or_not_there(care: Care) -> None:
    """After each SIGKILL every copy that is listed is as its manifest says, and the next run tidies up and copies."""
    keeper, folder = ModelVersions(), str(care.folder)
    for n in range(KILLS):
        care.now += timedelta(days=1)
        write(care.folder, seed=n + 10)
        worker = start(care, "versions", "copy")
        time.sleep(random.Random(n).uniform(0, 0.08))
        worker.kill()
        worker.communicate()
        assert all(keeper.spoilt(folder, version) == () for version in keeper.kept(folder))
        assert set(care.run("versions").did.values()) <= {"done"}
        assert keeper.leftovers(folder) == () and keeper.kept(folder)[0].version == str(n + 10)
        assert care.run("versions").did == {}


def test_a_killed_rollback_is_finished_or_never_began(care: Care) -> None:
    """After each SIGKILL and the next run the files are those of one version: all old, or all new."""
    care.run("versions")
    old = content(care)
    care.now += timedelta(days=1)
    write(care.folder, seed=2)
    (care.folder / "weights.json").write_text(json.dumps("y" * 12_000_000))
    care.run("versions")
    new = content(care)
    name = ModelVersions().kept(str(care.folder))[-1].name
    for n in range(KILLS):
        for file, data in new.items():
            (care.folder / file).write_bytes(data)
        worker = start(care, "versions", "rollback", rollback=name)
        time.sleep(random.Random(n).uniform(0, 0.15))
        worker.kill()
        worker.communicate()
        care.run("versions")
        assert content(care) in (old, new)


def test_a_killed_retraining_is_undone(care: Care) -> None:
    """After each SIGKILL no program lives on, and the next run has the old files in service, byte for byte."""
    before, undone = content(care), 0
    for n in range(KILLS):
        worker = start(care, "retraining", "retrain")
        time.sleep(random.Random(n).uniform(0, 0.6))
        programs = family(worker.pid)
        worker.kill()
        worker.communicate()
        psutil.wait_procs(programs, timeout=5)
        assert not [p for p in programs if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        undone += Retrainer().note(str(care.folder)) is not None
        care.run("versions" if n % 2 else "retraining")
        assert content(care) == before
        assert Retrainer().note(str(care.folder)) is None
    assert undone > 0, "no worker was killed in the middle"
