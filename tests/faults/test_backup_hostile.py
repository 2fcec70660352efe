"""Ways to lose a backup, or to be told that all is well when it is not, each of which once worked."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.integration.copies_world import PROGRAMS, CopiesWorld, with_cache
from tests.integration.tree_world import RUN, Trees, quiet
from upkeep.adapters import backup_marker, tree_collect, tree_list
from upkeep.adapters.archive import make_archiver
from upkeep.adapters.backup_check import Checking
from upkeep.adapters.copy_maker import CopyMaker
from upkeep.adapters.object_store import FolderStore, Written
from upkeep.adapters.tree_backup import make_trees
from upkeep.core.backup import MANIFEST, Place, encode
from upkeep.core.cadence import Window
from upkeep.core.catalogue import Entry
from upkeep.core.copies import CopyOptions
from upkeep.core.errors import ConfigurationError, TransientError
from upkeep.core.job import Job
from upkeep.core.model import OutcomeStatus, Severity
from upkeep.core.system import Retention
from upkeep.core.targets import FileSetTarget, StoreRef
from upkeep.core.tree import FileSet, TreeOptions
from upkeep.routines.backup import retention, verify

HOURS = timedelta(hours=2)


def collect(world: Trees, run_id: str = RUN) -> Any:
    """Collect without any grace."""
    return tree_collect.collect(
        world.store, world.place, run_id, contents=tree_list.contents, patience=HOURS, grace=timedelta(seconds=-5)
    )


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one() -> None:
    """While the folder of a backup cannot be read, nothing is collected: it looked as if nobody needed its contents."""
    with tempfile.TemporaryDirectory() as folder:
        world = Trees(Path(folder))
        for path in (world.home, world.home / "scratch"):
            path.chmod(0o777)
        if os.getuid() == 0:  # nothing is closed to root
            os.seteuid(65534)
        try:
            (world.home / "scratch/mine").mkdir()
            kept = Trees(world.home / "scratch/mine")
            (kept.tree / "a").write_bytes(b"1" * 100_000)
            first = kept.manifest()
            (kept.tree / "a").write_bytes(b"2" * 100_001)
            kept.manifest()
            shut = kept.home / "kept" / kept.target / first.id
            shut.chmod(0)
            with pytest.raises(ConfigurationError, match="Permission denied"):
                collect(kept)
            shut.chmod(0o700)
            assert kept.check(first.id).ok
        finally:
            os.seteuid(os.getuid())


def test_a_hard_link_is_not_a_link_to_what_took_the_place_of_its_file(tmp_path: Path) -> None:
    """Two names of one file; one is replaced between the look and the reading: the other keeps its own content."""
    world = Trees(tmp_path)
    (world.tree / "0").write_bytes(os.urandom(100_000))
    (world.tree / "a").write_bytes(b"old")
    os.link(world.tree / "a", world.tree / "b")

    class Replacing(FolderStore):
        def write_bytes(self, key: str, data: bytes) -> Written:
            if "/objects/" in key and len(data) == 100_000:
                (world.home / "new").write_bytes(b"new")
                (world.home / "new").rename(world.tree / "a")
            return super().write_bytes(key, data)

    trees = make_trees(lambda _: Replacing(tmp_path / "kept"), tmp_path / "scratch")
    options = TreeOptions(upload_jobs=1)
    kept = trees.backup(world.files, world.place, options, RUN, lambda _: time.sleep(0.3)).kept.manifest
    trees.restore(world.place, kept.id, tmp_path / "back", (), quiet)
    assert (tmp_path / "back/b").read_bytes() == b"old"


@pytest.mark.parametrize("path", ["volume/uploads/**", "volume/*.conf", "volume/file"])
def test_a_pattern_below_a_folder_that_is_not_there_is_told(tmp_path: Path, path: str) -> None:
    """One of several paths leads to a volume that is not mounted: the others' files do not hide that."""
    world = Trees(tmp_path)
    (world.tree / "a").write_bytes(b"1")
    look = world.archive.look(FileSet(paths=(f"{world.tree}/**", f"{world.tree}/*.none", f"{tmp_path}/{path}")))
    assert (look.files, look.unmatched) == (1, 1)


def test_a_collection_does_not_take_a_backup_of_its_own_run_for_dead(tmp_path: Path) -> None:
    """All tasks of a run have one run id; a backup that was quiet for ten minutes elsewhere may be at work."""
    world = Trees(tmp_path)
    (world.tree / "a").write_bytes(b"1" * 100_000)
    kept = world.manifest()
    mark = backup_marker.ours(RUN, kept.started).model_copy(update={"machine": "another"})
    key = f"{world.target}/20261121T010000Z-00000000/started.json"
    world.store.write_bytes(key, mark.encode())
    os.utime(tmp_path / "kept" / key, (time.time() - 600,) * 2)
    assert "is being made" in collect(world).reason


def from_the_future(world: Trees) -> str:
    """Make a backup by a worker whose clock is a year ahead; return its id."""
    made, year = world.manifest(), timedelta(days=365)
    ahead = f"{made.started + year:%Y%m%dT%H%M%SZ}-00000000"
    changed = {"id": ahead, "started": made.started + year, "finished": made.finished + year}
    home = world.home / "kept" / world.target
    (home / made.id).rename(home / ahead)
    (home / ahead / MANIFEST).write_bytes(encode(made.model_copy(update=changed)))
    return ahead


def job_of(world: Trees, now: datetime) -> Job[Any, Any]:
    """Return a job of the verification of a tree, at some moment."""
    tools = SimpleNamespace(
        archive=make_archiver(str, lambda _: world.store, world.home / "scratch"),
        catalogue=SimpleNamespace(entries=lambda *_: (), reachable=True),
        history=SimpleNamespace(series=lambda *_, **__: []), now=lambda: now, log=logging.getLogger("test"),
    )  # fmt: skip
    target = FileSetTarget(id=world.target, paths=(str(world.tree),), store=world.place.store)
    return Job(
        routine="backup.verify", target=target, system=SimpleNamespace(store=None), settings=verify.Settings(),  # type: ignore[arg-type]
        window=Window(start=now - timedelta(days=1), end=now), run_id=RUN, try_number=1, tools=tools,  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_backup_from_the_future_does_not_hide_that_none_is_made_any_more(tmp_path: Path) -> None:
    """Dated a year ahead it would be the newest for a year: the others' age and damage would not be looked at."""
    world = Trees(tmp_path)
    (world.tree / "a").write_bytes(b"1" * 100_000)
    ahead = from_the_future(world)
    alone = job_of(world, datetime.now(UTC))
    judged = verify.judge(alone, verify.observe(alone))
    assert [(f.check, f.severity) for f in judged.findings] == [("age", Severity.UNKNOWN)]
    kept = world.manifest()
    late = job_of(world, datetime.now(UTC) + timedelta(days=2))
    seen = verify.observe(late)
    assert [c.id for c in seen.chosen] == [kept.id]
    assert [b.id for b in seen.series[0].backups] == [kept.id, ahead]
    assert [(f.check, f.severity) for f in verify.judge(late, seen).findings] == [("age", Severity.CRITICAL)]


def test_a_try_that_failed_leaves_no_manifest_without_files(tmp_path: Path) -> None:
    """The store took the manifest without saying so, and went away again while that try was removed."""
    with contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as connection, connection:
        connection.execute("create table t (n)")

    class Going(FolderStore):
        def write_bytes(self, key: str, data: bytes) -> Written:
            written = super().write_bytes(key, data)
            if key.endswith(MANIFEST):
                raise TransientError("no answer", "")
            return written

        def delete(self, keys: Iterable[str]) -> None:
            super().delete(list(keys)[:1])
            raise TransientError("away", "")

    place = Place(store=StoreRef(url=f"file://{tmp_path}/kept"), target="shop/app", kind="sqlite")
    maker = CopyMaker(str, lambda _: Going(tmp_path / "kept"), tmp_path)
    with pytest.raises(TransientError, match="no answer"):
        maker.copy_sqlite(str(tmp_path / "app.db"), place, CopyOptions(), RUN, quiet)
    archiver = make_archiver(str, lambda _: FolderStore(tmp_path / "kept"), tmp_path)
    assert [s.complete for s in archiver.stored(place)] == [False]


def test_a_scratch_folder_that_is_gone_says_nothing_of_the_backup(tmp_path: Path) -> None:
    """Somebody cleans up where the check writes to: the backup was called damaged, its object missing."""
    world = Trees(tmp_path)
    (world.tree / "a").write_bytes(b"1")
    kept = world.manifest()
    prefix = f"{world.target}/{kept.id}"
    with pytest.raises(TransientError, match="No such file"):
        Checking(world.store, kept, prefix, tmp_path / "gone", quiet).files(keep=True)
    (tmp_path / "kept" / prefix / "tree.jsonl.gz").unlink()
    check = Checking(world.store, kept, prefix, tmp_path, quiet)
    check.files(keep=True)
    assert [fault.check for fault in check.faults] == ["integrity"]


def test_a_backup_that_retention_removes_while_it_is_read_is_not_damaged(tmp_path: Path) -> None:
    """Reading it fails, and that was no damage: nothing is told, and nothing goes on record."""
    world = Trees(tmp_path)
    (world.tree / "a").write_bytes(b"1")
    first = world.manifest()
    world.manifest()
    job = job_of(world, datetime.now(UTC))
    action = verify.plan(job, verify.observe(job)).actions[0].model_copy(update={"subject": first.id})
    (tmp_path / "kept" / world.target / first.id / "tree.jsonl.gz").unlink()
    assert verify.act(job, action).status is OutcomeStatus.FAILED
    job.tools.archive.remove(world.place, first.id, "not needed")
    outcome = verify.act(job, action)
    assert (outcome.status, outcome.findings, outcome.evidence) == (OutcomeStatus.SKIPPED, (), {})


def test_an_emptied_database_is_not_backed_up_without_a_word(tmp_path: Path) -> None:
    """A file cut off to nothing is a database without tables: its backup is whole, verified, and worthless."""
    world = CopiesWorld(tmp_path)
    world.sqlite("create table t (n)")
    assert world.run("backup.sqlite", "sqlite")[1] == []  # it never held anything
    world.sqlite("insert into t values (1), (2)")
    assert world.run("backup.sqlite", "sqlite")[1] == []
    world.path.write_bytes(b"")
    outcomes, found = world.run("backup.sqlite", "sqlite")
    assert outcomes[-1].status is OutcomeStatus.DONE
    assert [(f.check, f.severity) for f in found] == [("emptied", Severity.CRITICAL)]
    assert "held 2 rows" in found[0].message


def test_an_emptied_cache_is_told(tmp_path: Path) -> None:
    """A server that was started without its data has none to lose; the backup before has."""
    with with_cache(tmp_path) as world:
        assert world.cache is not None
        with world.cache.client() as client:
            client.set("a", "1")
            assert world.run("backup.redis", "redis", programs=PROGRAMS)[1] == []
            client.flushall()
        found = world.run("backup.redis", "redis", programs=PROGRAMS)[1]
    assert [(f.check, f.severity) for f in found] == [("emptied", Severity.WARNING)]


def test_a_copy_in_a_folder_of_the_store_does_not_stop_retention(tmp_path: Path) -> None:
    """A place below another place is another place: its newest backup was missed in the first, and nothing went."""
    world = Trees(tmp_path)
    (world.tree / "a").write_bytes(b"1")
    kept = world.manifest()
    copy = kept.id[:-8] + "ffffffff"
    seen = {"target": world.target, "kind": "files", "finished": kept.finished, "verified_ok": True}
    places = {kept.id: world.place.store.url, copy: f"{world.place.store.url}/copies"}
    entries = tuple(Entry(id=i, location=f"{url}/{world.target}/{i}", **seen) for i, url in places.items())
    job = job_of(world, datetime.now(UTC))
    job.tools.catalogue.entries = lambda *_: entries  # type: ignore[method-assign]
    target = job.target.model_copy(update={"copies": (StoreRef(url=places[copy]),)})
    system = SimpleNamespace(store=None, retention=Retention(), timezone="UTC", holds=())
    job = dataclasses.replace(job, target=target, system=system, settings=retention.Settings())  # type: ignore[arg-type]
    assert [series.decision.frozen for series in retention.observe(job).series][:1] == [""]


def test_retention_does_not_go_by_the_proof_of_what_is_another_backup_now(tmp_path: Path) -> None:
    """Under the id of the newest, proved backup lies a manifest that is damaged, or not the one on record."""
    world = Trees(tmp_path)
    (world.tree / "a").write_bytes(b"1")
    kept = world.manifest()
    path = tmp_path / "kept" / world.target / kept.id / MANIFEST
    seen = {"target": world.target, "kind": "files", "finished": kept.finished, "verified_ok": True}
    location = f"{world.place.store.url}/{world.target}/{kept.id}"
    entries = (Entry(id=kept.id, location=location, manifest_sha256=kept.sha256, **seen),)
    job = job_of(world, datetime.now(UTC))
    job.tools.catalogue.entries = lambda *_: entries  # type: ignore[method-assign]
    system = SimpleNamespace(store=None, retention=Retention(), timezone="UTC", holds=())
    job = dataclasses.replace(job, system=system, settings=retention.Settings())  # type: ignore[arg-type]

    def frozen() -> str:
        return retention.observe(job).series[0].decision.frozen

    assert frozen() == ""
    path.write_bytes(encode(kept.model_copy(update={"run_id": "another"})))
    assert "is suspicious" in frozen()
    path.write_bytes(encode(kept)[:-5])
    assert "is suspicious" in frozen()
