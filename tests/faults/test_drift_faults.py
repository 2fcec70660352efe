"""Servers and stores that die while rows are read, and writers of profiles that are killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from lab.object_store import ObjectStoreServer
from lab.process import scratch_folder
from tests.integration.database_bench import server
from tests.integration.drift_world import WEEK, World, healthy
from tests.integration.test_scoring_data import aws
from upkeep.adapters import profile_store
from upkeep.adapters.scoring_data import ScoringData
from upkeep.core.errors import ConfigurationError, TransientError
from upkeep.core.ml import DataSource
from upkeep.core.targets import PostgresTarget

KILLS = int(os.environ.get("UPKEEP_TEST_KILLS", "5"))
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


def opened(data: ScoringData, source: DataSource, **targets: Any) -> Any:
    system: Any = SimpleNamespace(name="claims", zone=ZoneInfo("UTC"), targets=targets)
    return data.open(source, system, START, END)


def test_a_server_that_ends_the_session_while_rows_arrive():
    """What was read so far is not taken for the whole: the error says that it is tried again."""
    pg = server(18)
    sql = "SELECT g, repeat('x', 200) AS t, %(start)s < %(end)s AS b FROM generate_series(1, 1000000) AS g"
    data = ScoringData(lambda _: pg.dsn(), lambda _: None)
    target = PostgresTarget(conn_id="db", id="claims/db")
    with (
        pytest.raises(TransientError, match="tried again"),
        opened(data, DataSource(target="db", sql=sql), db=target) as rows,
    ):
        for _ in rows:
            with pg.connect() as connection:
                ours = "application_name = 'upkeep scoring data'"
                connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}".encode())


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_store_that_goes_away_while_rows_arrive(kind: str, tmp_path: Path):
    """Through Arrow's reader and out again: a store that is away is no damaged file."""
    count = 1_200_000 if kind == "parquet" else 800_000
    times = pa.array(np.full(count, START), pa.timestamp("us", "UTC"))
    numbers = np.random.default_rng(0).random(count)
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        parquet.write_table(pa.table({"t": times, "x": numbers}), path)
    else:
        path.write_text("t,x\n" + "".join(f"{START.isoformat()},{x}\n" for x in numbers.tolist()))
    with scratch_folder() as folder, ObjectStoreServer(folder, buckets=["data"]) as store:
        store.create_bucket("data")
        store.client().upload_file(str(path), "data", f"in/a.{kind}")
        data = ScoringData(lambda _: "", lambda _: aws(store))
        source = DataSource(files=("s3://data/in/",), conn_id="s3", time_column="t")
        with pytest.raises(TransientError, match="object store up"), opened(data, source) as rows:
            for _ in rows:
                store.kill()


def test_killed_writers_leave_a_folder_that_can_be_read(tmp_path: Path):
    """However many die, and whenever: the index reads, every version it names loads, and the next one can be kept."""
    chance = random.Random(1)
    line = [sys.executable, str(Path(__file__).with_name("profile_worker.py")), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for kill in range(KILLS):
        worker = subprocess.Popen([*line, str(kill * 1000), "900"], stdout=subprocess.PIPE, text=True, env=environment)
        assert worker.stdout and worker.stdout.readline() == "ready\n"
        time.sleep(chance.random() * 0.1)
        worker.kill()
        worker.communicate()
        index = profile_store.index(tmp_path)
        assert [e.version for e in index.versions] == list(range(1, len(index.versions) + 1))
        for entry in index.versions[-3:]:
            assert profile_store.load(tmp_path, entry).sha256 == entry.sha256
    assert profile_store.index(tmp_path).current, "no writer lived long enough"


def test_two_writers_at_once(tmp_path: Path):
    """Both go through the one lock: no version is lost, none is given twice."""
    line = [sys.executable, str(Path(__file__).with_name("profile_worker.py")), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    workers = [
        subprocess.Popen([*line, str(n * 1000), "15"], stdout=subprocess.PIPE, text=True, env=environment)
        for n in (1, 2)
    ]
    said = [int(v) for w in workers for v in w.communicate(timeout=60)[0].split()[1:]]
    assert sorted(said) == list(range(1, 31))
    assert [e.version for e in profile_store.index(tmp_path).versions] == list(range(1, 31))


def test_a_profile_folder_that_cannot_be_written(tmp_path: Path):
    """A file where the folder should be: the error names the place, and the run that asked for it fails."""
    world = World(tmp_path)
    world.write("week.parquet", healthy(500), WEEK.start, WEEK.end)
    (world.root / "model" / "reference").write_text("not a folder")
    with pytest.raises((TransientError, ConfigurationError), match="reference"):
        world.reference()
