"""Reference profiles: proposed, agreed to, written as versions; and made by a command."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.integration.drift_world import DAY, SEPTEMBER, WEEK, World, healthy, troubles
from upkeep import profile_command
from upkeep.adapters import profile_build, profile_spill, profile_store
from upkeep.core.errors import ConfigurationError, DamagedError
from upkeep.core.model import Severity


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A model with three months of scoring data and no profile."""
    made = World(tmp_path)
    for month in (7, 8, 9):
        start = datetime(2026, month, 1, tzinfo=UTC)
        made.write(f"{month}.parquet", healthy(1000, month), start, start + 30 * DAY)
    made.write("10.parquet", healthy(500, 10), WEEK.start, WEEK.end)
    return made


def agreed(record: Any) -> dict[tuple[str, str], Any]:
    """Return what a person agrees to who agrees to everything."""
    return {(a.action.name, a.action.subject): a.action.details["oid"] for a in record.actions}


def index(world: World) -> Any:
    return world.drifts.index(str(world.folder))


def test_it_is_proposed_agreed_to_and_written(world: World):
    """Three whole months are proposed with their facts; nothing is written before a yes; after it, exactly these."""
    asked = world.propose()
    assert [a.status for a in asked.actions] == ["proposed"] and not world.folder.exists()
    action = asked.actions[0].action
    assert action.details["rows"] == 3000 and action.details["start"].startswith("2026-07-01")
    assert action.details["end"].startswith("2026-10-01") and {c.split(":")[0] for c in action.details["columns"]} == {
        *world.features,
        "score",
    }
    assert "3,000 rows" in action.reason and "reference" in action.approval
    done = world.propose(approved=agreed(asked))
    assert [a.status for a in done.actions] == ["done"] and done.state == "success"
    entry = index(world).current
    assert (entry.version, entry.rows, entry.sha256) == (1, 3000, action.details["oid"])
    kept = (world.folder / entry.file).read_bytes()
    assert hashlib.sha256(kept).hexdigest() == entry.sha256
    artefact = done.actions[0].evidence["artefact"]
    assert artefact["content"].encode() == kept and artefact["sha256"] == entry.sha256
    again = world.propose()
    assert not again.actions and not [f for f in again.findings if f.severity.rank >= Severity.WARNING.rank]


def test_the_next_version_is_compared_and_the_old_one_kept(world: World):
    """What differs from the present profile is told; both versions stay readable, and drift uses that of its time."""
    world.propose(approved=agreed(world.propose()))
    world.now = datetime(2026, 11, 2, tzinfo=UTC)
    columns = healthy(2000, 5) | {"age": np.random.default_rng(1).normal(60, 12, 2000)}
    world.write("10.parquet", columns, datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
    settings = {"since": "2026-10-01", "until": "2026-10-31"}
    asked = world.propose(**settings)
    changed = asked.actions[0].action.details["changed"]
    assert any(c.startswith("age distribution") for c in changed) and "from version 1" in asked.actions[0].action.reason
    assert world.propose(approved=agreed(asked), **settings).actions[0].status == "done"
    found = index(world)
    assert [e.version for e in found.versions] == [1, 2] and found.current.version == 2
    assert [world.drifts.load(str(world.folder), e).rows for e in found.versions] == [3000, 2000]
    assert "age distribution" in troubles(world.drift())


def test_data_that_changed_after_the_yes_are_not_written(world: World):
    """A late row makes another profile: what was agreed to is not what would be written, so nothing is."""
    asked = world.propose()
    world.write("late.parquet", healthy(1, 3), datetime(2026, 9, 3, tzinfo=UTC), datetime(2026, 9, 4, tzinfo=UTC))
    done = world.propose(approved=agreed(asked))
    assert [a.status for a in done.actions] == ["skipped"] and not world.folder.exists()


def test_a_dry_run_writes_nothing_and_the_first_may_go_unasked(world: World):
    """A dry run plans; with `first_without_approval` the first profile is made at once, the second is asked about."""
    assert [a.status for a in world.propose(dry_run=True, first_without_approval=True).actions] == ["planned"]
    assert not world.folder.exists()
    assert [a.status for a in world.propose(first_without_approval=True).actions] == ["done"]
    world.write("late.parquet", healthy(9, 3), datetime(2026, 9, 3, tzinfo=UTC), datetime(2026, 9, 4, tzinfo=UTC))
    assert [a.status for a in world.propose(first_without_approval=True).actions] == ["proposed"]


def test_poor_data_are_not_proposed(world: World):
    """Too few rows, or a file that cannot be read: unknown, and nothing is proposed."""
    few = world.propose(since="2026-09-01", until="2026-09-03")
    assert not few.actions and [f.severity for f in few.findings] == [Severity.UNKNOWN]
    (world.root / "data" / "bad.parquet").write_bytes(b"PAR1")
    bad = world.propose()
    assert not bad.actions and "bad.parquet" in bad.findings[0].message


def test_weak_columns_are_told(world: World):
    """Columns in which no drift will be seen are named before somebody agrees; values of identifiers are not kept."""
    rows = 3000
    odd = {"amount": np.ones(rows), "channel": [f"name {n}" for n in range(rows)]}
    world.write("7.parquet", healthy(rows, 7) | odd, SEPTEMBER, SEPTEMBER + DAY)
    settings = {"since": "2026-09-01", "until": "2026-09-01"}
    (world.root / "data" / "9.parquet").unlink()
    asked = world.propose(**settings)
    assert {f.subject for f in asked.findings} == {"amount", "channel"}
    world.propose(approved=agreed(asked), **settings)
    assert b"name 17" not in (world.folder / index(world).current.file).read_bytes()


def test_the_same_data_give_the_same_hash(world: World, monkeypatch: pytest.MonkeyPatch):
    """In other batches, files and order; and keeping it twice makes no second version. Sorted in several parts, too."""
    monkeypatch.setattr(profile_spill, "PART", 300)
    monkeypatch.setattr(profile_build, "_CHUNK", 130)
    one = world.profile()
    both = parquet.read_table(world.root / "data" / "9.parquet")
    (world.root / "data" / "9.parquet").unlink()
    parquet.write_table(both.slice(0, 400), world.root / "data" / "9a.parquet", row_group_size=77)
    backwards = both.take(pa.array(range(999, 399, -1)))
    parquet.write_table(backwards, world.root / "data" / "9b.parquet")
    again = world.profile(made_at=datetime(2026, 10, 5, tzinfo=UTC))
    assert again.version == 1 and again.sha256 == one.sha256
    profile = world.drifts.load(str(world.folder), one)
    assert profile.sha256 == one.sha256 and json.loads(profile.canonical())["rows"] == one.rows


def test_a_folder_that_is_not_ours(world: World, tmp_path: Path):
    """An index that is none, one that names a file outside, a version twice: refused, and nothing is overwritten."""
    entry = world.profile()
    path = world.folder / profile_store.INDEX
    good = path.read_text()
    for bad in (
        "",
        "[]",
        good.replace(entry.file, "../../etc/passwd.json"),
        good.replace('"versions": [', '"versions": [' + json.dumps(json.loads(good)["versions"][0]) + ","),
    ):
        path.write_text(bad)
        with pytest.raises(DamagedError):
            profile_store.index(world.folder)
        with pytest.raises(DamagedError):
            world.profile()
        assert path.read_text() == bad
    path.write_text(good)
    (tmp_path / "file").write_text("")
    with pytest.raises((ConfigurationError, Exception), match="file"):
        profile_store.keep(tmp_path / "file" / "x", world.drifts.load(str(world.folder), entry), world.now)


SYSTEM = """
name: claims
title: Claims
contacts: {ml: {primary: {name: M, channels: [{kind: email, address: m@example.org}]}}}
targets:
  risk-model:
    kind: model
    path: {root}/model
    features: [amount, age]
    prediction: score
    scoring: {files: ["{root}/data/*.parquet"], time_column: made_at}
"""


@pytest.fixture
def command(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command, as if it were called: returns its exit code, what it wrote, and what it complained about."""
    (world.root / "systems").mkdir()
    (world.root / "systems" / "claims.yaml").write_text(SYSTEM.replace("{root}", str(world.root)))
    monkeypatch.setenv("UPKEEP_SYSTEMS_DIR", str(world.root / "systems"))
    monkeypatch.setenv("UPKEEP_SCRATCH_DIR", str(world.root / "scratch"))

    def call(*arguments: str) -> tuple[int, str, str]:
        return profile_command.main([*arguments]), *capsys.readouterr()

    return call


def test_the_command(world: World, command: Any):
    """Builds a profile of scoring data, or of training data without times; lists versions; says what is wrong."""
    code, said, wrong = command("build", "claims/risk-model", "--since", "2026-09-01", "--until", "2026-10-01")
    assert code == 0 and "version 1: 1,000 rows" in said and "amount: number" in said, wrong
    parquet.write_table(pa.table(healthy(1500, 3)), world.root / "train.parquet")
    code, said, wrong = command("build", "claims/risk-model", "--files", str(world.root / "train.parquet"))
    assert code == 0 and "version 2: 1,500 rows" in said, wrong
    code, said, _ = command("show", "claims/risk-model")
    assert code == 0 and said.count("rows") == 2 and said.strip().endswith("current")
    code, said, wrong = command("build", "claims/risk-model", "--since", "2026-09-01", "--until", "2026-09-02")
    assert code == 1 and "expected at least 1,000" in wrong and not said
    assert command("build", "claims/risk-model", "--since", "2026-09-01")[0] == 1
    assert "nothing" in command("show", "claims/nothing")[2]
    assert len(index(world).versions) == 2


def test_the_command_stands_alone(world: World):
    """It is a program: help is printed without a system, a database or Airflow's."""
    paths = os.pathsep.join(filter(None, sys.path))
    line = [sys.executable, "-m", "upkeep.profile_command", "build", "--help"]
    done = subprocess.run(line, capture_output=True, text=True, env={"PYTHONPATH": paths}, timeout=60, check=True)
    assert "--since" in done.stdout
