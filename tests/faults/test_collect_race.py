"""Backups of a tree and collections of what nobody needs, at the same time and without any grace, lose no content."""

from __future__ import annotations

import multiprocessing
import random
import time
from datetime import timedelta
from pathlib import Path

from upkeep.adapters import tree_list
from upkeep.adapters.archive import make_archiver
from upkeep.adapters.object_store import FolderStore
from upkeep.adapters.tree_backup import make_trees
from upkeep.core.backup import Place, TreeManifest
from upkeep.core.errors import TransientError
from upkeep.core.targets import StoreRef
from upkeep.core.tree import FileSet, TreeOptions

SECONDS = 6


def place_of(folder: Path) -> Place:
    return Place(store=StoreRef(url=f"file://{folder}/kept"), target="shop/up", kind="files")


def write(folder: Path) -> None:
    """Make backups for some seconds of a tree whose contents come, go and come back."""
    dice, tree = random.Random(1), folder / "tree"
    trees = make_trees(lambda _: FolderStore(folder / "kept"), folder / "scratch")
    end, made = time.monotonic() + SECONDS, 0
    while time.monotonic() < end or not made:
        for n in range(12):
            # Large enough to be objects of their own, and few enough to come back soon.
            (tree / f"{n}").write_bytes(bytes([dice.randrange(6)]) * (70_000 + n))
        try:
            trees.backup(FileSet(paths=(str(tree),)), place_of(folder), TreeOptions(), "writer", lambda _: None)
            made += 1
        except TransientError:  # a collection was at work: it would be tried again
            time.sleep(0.01)


def test_a_collection_beside_backups_takes_nothing_that_one_needs(tmp_path: Path) -> None:
    """Whatever gives way to whatever: every backup that was finished has every content it refers to."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "scratch").mkdir()
    archive = make_archiver(lambda _: "", lambda _: FolderStore(tmp_path / "kept"), tmp_path / "scratch")
    place, store = place_of(tmp_path), FolderStore(tmp_path / "kept")
    writer = multiprocessing.get_context("spawn").Process(target=write, args=(tmp_path,))
    writer.start()
    collected = gave_way = 0
    try:
        while writer.is_alive():
            whole = [s.id for s in archive.stored(place) if s.complete]
            for backup_id in whole[3:]:
                archive.remove(place, backup_id, "only three are kept")
            done = archive.collect(place, "collector", timedelta(hours=2), timedelta(seconds=-5))
            collected, gave_way = collected + done.objects, gave_way + bool(done.reason)
            time.sleep(0.02)
    finally:
        writer.join(30)
    assert writer.exitcode == 0
    left = [s.id for s in archive.stored(place) if s.complete]
    assert left
    assert collected, "nothing was ever collected"
    assert gave_way, "the two never met"
    there = {item.key for item in store.list(f"{place.series}/objects/")}
    for backup_id in left:
        manifest = archive.manifest(place, backup_id)
        assert isinstance(manifest, TreeManifest)
        assert tree_list.contents(store, manifest, f"{place.series}/{backup_id}") <= there
