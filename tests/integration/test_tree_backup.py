"""Backups of file trees, in a folder and in a bucket, with every kind of file and every kind of trouble."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.servers import ObjectStoreServer
from tests.integration.tree_world import BUCKET, LARGE, ODD, RUN, Trees, fill, quiet
from upkeep.adapters import backup_marker, tree_collect, tree_list, tree_scan
from upkeep.core.backup import MANIFEST, encode
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError, UnsafeError
from upkeep.core.tree import FileSet, TreeOptions

Made = Callable[..., Trees]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreServer]:
    with ObjectStoreServer(tmp_path_factory.mktemp("s3"), buckets=[BUCKET]) as server:
        yield server


@pytest.fixture
def made(s3: ObjectStoreServer, tmp_path: Path) -> Made:
    def make(kind: str = "file", **more: Any) -> Trees:
        home = tmp_path / f"{tmp_path.name}-{kind}"
        home.mkdir()
        return Trees(home, client=s3.client() if kind == "s3" else None, **more)

    return make


def contents(world: Trees, backup_id: str) -> set[str]:
    manifest = next(m for m in [world.archive.last(world.place)] if m and m.id == backup_id)
    return tree_list.contents(world.store, manifest, f"{world.target}/{backup_id}")


@pytest.mark.parametrize(("kind", "key"), [("file", ""), ("s3", ""), ("s3", "k1")])
def test_everything_comes_back_as_it_was(made: Made, kind: str, key: str) -> None:
    """Names, contents, modes, times, holes, links and empty folders survive, with and without encryption."""
    world = made(kind, key=key)
    fill(world.tree)
    kept = world.manifest()
    assert kept.entries == {"directory": 3, "file": 10, "hardlink": 1, "symlink": 3}
    assert (kept.skipped, kept.vanished, kept.changed, kept.unreadable, kept.lost) == (1, 0, 0, 0, 0)
    assert kept.object_bytes < 20 << 20  # no hole was stored
    assert world.restored(kept.id).equal
    back = world.home / "restored"
    assert (back / "sparse").stat().st_blocks * 512 < 1 << 20
    assert (back / "sparse").read_bytes() == (world.tree / "sparse").read_bytes()
    assert (back / "a/small").stat().st_ino == (back / "a/b/link").stat().st_ino
    assert (back / "outside").readlink() == Path("/etc")
    assert world.archive.compare(world.place, kept.id, world.tree).equal
    seen = world.check(kept.id)
    assert (seen.faults, seen.decoded) == ((), True)
    assert seen.bytes >= kept.object_bytes
    assert contents(world, kept.id) == set(world.objects())


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_what_was_not_touched_is_neither_read_nor_stored_again(made: Made, kind: str) -> None:
    """The second backup reads and stores what changed and nothing else, and each backup stays what it was."""
    world = made(kind)
    fill(world.tree)
    world.age()
    first = world.manifest()
    second = world.manifest()
    assert (second.read_bytes, second.new_bytes, second.list_sha256) == (0, 0, first.list_sha256)
    (world.tree / "a/middle").write_bytes(b"new")
    (world.tree / "a/large").unlink()
    (world.tree / ".hidden").rename(world.tree / ".moved")
    third = world.manifest()
    assert third.new_bytes == 3
    assert third.read_bytes <= 4
    assert world.restored(first.id, into="old").equal
    assert world.restored(third.id, into="new").equal
    assert not (world.home / "new/a/large").exists()
    assert (world.home / "old/a/large").exists()


def test_a_file_touched_right_before_a_backup_is_read_again(made: Made) -> None:
    """A change that leaves size and times as they were, for it came within one tick of the clock, is not missed."""
    world = made()
    (world.tree / "f").write_text("one")
    seen = (world.tree / "f").stat()
    world.manifest()
    (world.tree / "f").write_text("two")
    os.utime(world.tree / "f", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert world.restored(world.manifest().id).equal


def test_everything_is_read_again_every_so_often(made: Made) -> None:
    """After `reread` everything is hashed again, nothing is stored twice, and a file altered by stealth is told."""
    world = made()
    fill(world.tree)
    world.age()
    first = world.manifest()
    again = world.manifest(reread=timedelta(0))
    assert (again.read_bytes, again.new_bytes, again.altered) == (first.read_bytes, 0, 0)
    assert again.read_all > first.read_all
    prefix = f"{world.target}/{again.id}"
    base, entries = tree_list.read(world.store, again, prefix)
    forged = [e._replace(sha256="0" * 64) if e.name == "a/middle" else e for e in entries]
    file = tree_list.write(world.store, prefix, base, forged)
    world.store.write_bytes(f"{prefix}/{MANIFEST}", encode(again.model_copy(update={"files": (file,)})))
    assert world.manifest(reread=timedelta(0)).altered == 1


def test_names_with_different_folders_and_exclusions(made: Made) -> None:
    """Globs choose as written: hidden names, `**`, one level, classes, exclusions, named files and named folders."""
    world = made()
    for name in ("x/a.py", "x/venv/b.py", "x/.c.py", "x/y/z/d.py", "x/e.txt", "etc/f", "etc/.g", ".env", "x/1.log"):
        (world.tree / name).parent.mkdir(parents=True, exist_ok=True)
        (world.tree / name).write_text(name)

    def names(*paths: str, exclude: tuple[str, ...] = ()) -> set[str]:
        files = FileSet(
            paths=tuple(f"{world.tree}/{path}" for path in paths),
            exclude=tuple(path if path.startswith("*") else f"{world.tree}/{path}" for path in exclude),
        )
        found = tree_scan.scan(files)
        return {os.path.relpath(f"{found.base}/{one.name}", world.tree) for one in found.found
                if not Path(found.base, one.name).is_dir()}  # fmt: skip

    assert names("x/**/*.py", exclude=("x/venv/**",)) == {"x/a.py", "x/.c.py", "x/y/z/d.py"}
    assert names("x/*.py") == {"x/a.py", "x/.c.py"}
    assert names("x/[!a].*", "x/[0-9].log") == {"x/e.txt", "x/1.log"}
    assert names("etc/**", ".env") == {"etc/f", "etc/.g", ".env"}
    assert names("etc", exclude=("*.g",)) == {"etc/f"}
    with pytest.raises(ConfigurationError, match="relative"):
        tree_scan.scan(FileSet(paths=("x/*",)))
    assert tree_scan.scan(FileSet(paths=(f"{world.tree}/gone.env",))).unmatched == 1


def test_files_that_go_and_files_that_change_are_counted(made: Made) -> None:
    """Files may vanish and be written to while the backup runs: both are counted, and the backup is whole."""
    world = made()
    for number in range(300):
        (world.tree / f"{number:03}").write_bytes(os.urandom(100_000))
    done = threading.Event()

    def churn() -> None:
        with (world.tree / "zz-log").open("wb", buffering=0) as log:
            log.write(bytes(6 << 20))
            while not done.is_set():
                log.write(b"line\n" * 100)
                done.wait(0.0005)

    writer = threading.Thread(target=churn)
    writer.start()

    def say(progress: Any) -> None:
        for number in range(progress.done + 50, 300, 2):
            (world.tree / f"{number:03}").unlink(missing_ok=True)

    try:
        taken = world.archive.backup(world.files, world.place, TreeOptions(), RUN, say)
    finally:
        done.set()
        writer.join()
    kept = taken.kept.manifest
    assert kept.vanished > 50
    assert kept.changed == 1
    world.archive.restore(world.place, kept.id, world.home / "back", (), quiet)
    assert kept.entries["file"] + kept.vanished == 301
    assert world.archive.compare(world.place, kept.id, world.home / "back").equal
    assert world.check(kept.id).ok


def test_what_may_not_be_read_is_told() -> None:
    """Folders and files without permission are counted and named, and the rest is backed up."""
    with tempfile.TemporaryDirectory() as folder:
        world = Trees(Path(folder))
        for name in ("open", "closed", "shut/in"):
            (world.tree / name).parent.mkdir(exist_ok=True)
            (world.tree / name).write_text(name)
        for path in (world.home, world.home / "scratch"):
            path.chmod(0o777)
        (world.tree / "closed").chmod(0)
        (world.tree / "shut").chmod(0)
        if os.getuid() == 0:  # nothing is closed to root
            os.seteuid(65534)
        try:
            taken = world.backup()
            hidden = world.archive.look(world.files.model_copy(update={"secret": True}))
        finally:
            os.seteuid(os.getuid())
        assert sorted(taken.unreadable) == ["closed", "shut"]
        assert taken.kept.manifest.unreadable == 2
        assert taken.kept.manifest.entries == {"file": 1, "directory": 1}
        assert (hidden.unreadable, hidden.unreadable_count) == ((), 1)


def test_a_folder_swapped_for_a_link_leads_nowhere(made: Made, tmp_path: Path) -> None:
    """Between looking and reading somebody puts a link to a foreign folder in a folder's place: it is not followed."""
    world = made()
    (world.tree / "d").mkdir()
    (world.tree / "d/passwd").write_text("ours")
    found = next(f for f in tree_scan.scan(world.files).found if f.name == "d/passwd")
    (world.tree / "d").rename(tmp_path / "away")
    (world.tree / "d").symlink_to("/etc")
    with pytest.raises(OSError, match=r"Not a directory|symbolic"), tree_scan.opened(found.root, found.path, 0):
        pass
    assert world.manifest().entries == {"symlink": 1}


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_objects_that_the_store_lost_are_stored_again_and_told(made: Made, kind: str) -> None:
    """An object is used again only when it is there with its size; else it is stored anew and counted as lost."""
    world = made(kind)
    fill(world.tree)
    world.age()
    first = world.manifest()
    gone, *_ = (key for key, size in world.objects().items() if size == 200_000)
    short, *_ = (key for key, size in world.objects().items() if size == LARGE)
    world.store.delete([gone])
    world.store.write_bytes(short, b"short")
    assert not world.check(first.id).ok
    second = world.manifest()
    assert second.lost == 2
    assert second.new_bytes == 200_000 + (LARGE)
    assert world.restored(second.id).equal
    assert world.check(first.id).ok  # the same content under the same name heals it


def test_damage_in_the_store_is_found_and_never_restored(made: Made) -> None:
    """A flipped byte in a pack, in a large object or in the list is a fault; a restore writes all other files."""
    world = made()
    fill(world.tree)
    kept = world.manifest()
    sizes = world.objects()
    large = next(key for key, size in sizes.items() if size == LARGE)
    path = world.home / "kept" / large
    data = bytearray(path.read_bytes())
    data[5_000_000] ^= 1
    path.write_bytes(data)
    faults = world.check(kept.id).faults
    assert [(f.check, f.subject) for f in faults] == [("integrity", "a/large")]
    with pytest.raises(DamagedError, match="1 of 10 files"):
        world.restored(kept.id)
    result = world.archive.compare(world.place, kept.id, world.home / "restored")
    assert (result.missing, result.differs, result.extra) == (("a/large",), {}, ())
    path = world.home / "kept" / world.target / kept.id / "tree.jsonl.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert {f.subject for f in world.check(kept.id).faults} == {"tree.jsonl.gz"}
    with pytest.raises(DamagedError, match="not the list"):
        tree_list.contents(world.store, kept, f"{world.target}/{kept.id}")


def test_parts_of_a_tree_and_folders_that_are_not_empty(made: Made) -> None:
    """Some paths can be restored alone, a hard link then as a file; a folder that holds anything is refused."""
    world = made()
    fill(world.tree)
    kept = world.manifest()
    result = world.archive.restore(world.place, kept.id, world.home / "part", ("a/b", ODD), quiet)
    assert result.entries == {"directory": 3, "file": 2}
    assert (world.home / "part/a/b/link").read_bytes() == b"small"
    assert (world.home / "part/a/b").stat().st_mode & 0o777 == 0o500
    assert not (world.home / "part/a/large").exists()
    with pytest.raises(UnsafeError, match="not empty"):
        world.archive.restore(world.place, kept.id, world.home / "part", (), quiet)
    with pytest.raises(ConfigurationError, match="not in the backup"):
        world.archive.restore(world.place, kept.id, world.home / "none", ("../etc",), quiet)


def test_comparison_tells_what_differs(made: Made) -> None:
    """Contents, modes, times, types, targets, broken hard links, missing and extra names: each is told."""
    world = made()
    fill(world.tree)
    kept = world.manifest()
    world.restored(kept.id)
    back = world.home / "restored"
    times = (back / "a/middle").stat()
    (back / "a/middle").write_bytes(os.urandom(200_000))
    os.utime(back / "a/middle", ns=(1, times.st_mtime_ns))
    (back / ".hidden").chmod(0o600)
    (back / "dangling").unlink()
    (back / "dangling").symlink_to("else")
    (back / "hole").unlink()
    (back / "extra").touch()
    (back / "a/none").unlink()
    (back / "a/none").mkdir()
    result = world.archive.compare(world.place, kept.id, back)
    assert result.missing == ("hole",)
    assert result.extra == ("extra",)
    assert {name: what for name, what in result.differs.items() if name not in ("a",)} == {
        "a/middle": "content", ".hidden": "mode", "dangling": "target", "a/none": "type",
    }  # fmt: skip


def test_secret_trees_are_never_stored_in_clear(made: Made) -> None:
    """Neither names nor contents nor their hashes can be seen in the store; without encryption it is refused."""
    world = made(key="k1")
    (world.tree / "prod-password.env").write_text("TOP-SECRET-VALUE" * 100)
    kept = world.backup().kept.manifest
    stored = b"".join(p.read_bytes() + str(p).encode() for p in (world.home / "kept").rglob("*") if p.is_file())
    entry = tree_list.read(world.store, kept, f"{world.target}/{kept.id}")[1][0]
    for text in ("prod-password", "TOP-SECRET", entry.sha256):
        assert text.encode() not in stored
    assert world.restored(kept.id).equal
    plain = world.place.model_copy(update={"store": world.place.store.model_copy(update={"key_conn_id": None})})
    with pytest.raises(ConfigurationError, match="does not encrypt"):
        world.archive.backup(world.files, plain, TreeOptions(), RUN, quiet)
    (object_key,) = world.objects()
    world.store.delete([object_key])
    assert "prod-password" not in str(world.check(kept.id).faults)
    with pytest.raises(DamagedError) as raised:
        world.archive.restore(world.place, kept.id, world.home / "r", (), quiet)
    assert "prod-password" not in str(raised.value)


def test_a_new_key_means_new_objects(made: Made) -> None:
    """After a change of key a backup needs the new key only, and the older backup can still be read with both."""
    world = made(key="k1", keys={"k1": b"1" * 32, "k2": b"2" * 32})
    fill(world.tree)
    world.age()
    first = world.manifest()
    world.key = "k2"
    second = world.manifest()
    assert (second.key_id, second.new_bytes) == ("k2", first.new_bytes)
    assert world.restored(first.id, into="first").equal
    world.keys = {"k2": b"2" * 32}
    assert world.restored(second.id, into="second").equal
    assert world.manifest().new_bytes == 0


def test_packs_of_which_little_is_used_are_given_up(made: Made) -> None:
    """When most files of a pack are gone, the others are stored anew, so that the pack can go one day."""
    world = made()
    for number in range(100):
        (world.tree / f"{number}").write_bytes(os.urandom(1000))
    world.age()
    assert len(world.objects()) == 0
    first = world.manifest()
    assert first.objects == 1
    for number in range(40):
        (world.tree / f"{number}").unlink()
    assert world.manifest().new_objects == 0
    for number in range(40, 80):
        (world.tree / f"{number}").unlink()
    last = world.manifest()
    assert (last.new_objects, last.new_bytes, last.objects) == (1, 20_000, 1)
    assert world.restored(last.id).equal
    assert world.restored(first.id, into="first").equal


def test_collection_takes_only_what_no_backup_needs(made: Made) -> None:
    """Objects of removed backups go, those that any backup needs stay, and a collection at work is given way to."""
    world = made()
    fill(world.tree)
    first = world.manifest()
    (world.tree / "a/large").unlink()
    second = world.manifest()
    folder = f"{world.target}/{first.id}"
    world.store.delete([item.key for item in world.store.list(f"{folder}/")])
    done = tree_collect.collect(world.store, world.place, RUN, contents=tree_list.contents, patience=timedelta(hours=1),
                                grace=timedelta(seconds=-5))  # fmt: skip
    assert (done.objects, done.bytes, done.reason) == (1, LARGE, "")
    assert world.check(second.id).ok
    mark = f"{world.target}/{tree_collect.COLLECTING}/1.json"
    other = backup_marker.ours("other", world.store.now()).model_copy(update={"machine": "elsewhere"})
    world.store.write_bytes(mark, other.encode())
    with pytest.raises(TransientError, match="are being removed"):
        world.backup()
    assert world.archive.last(world.place).id == second.id  # type: ignore[union-attr]
