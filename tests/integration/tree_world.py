"""A tree of files with everything that makes trees hard, and places to back it up to."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upkeep.adapters import archive_check, backup_staging
from upkeep.adapters.encrypted_store import EncryptedStore
from upkeep.adapters.encryption import Keys
from upkeep.adapters.object_store import FolderStore, Store
from upkeep.adapters.object_store_s3 import S3Store
from upkeep.adapters.tree_backup import TreeArchive, make_trees
from upkeep.core.backup import Check, Place, TreeManifest
from upkeep.core.targets import StoreRef
from upkeep.core.tree import Comparison, FileSet, Taken, TreeOptions

BUCKET = "trees"
LARGE = 9 << 20  # more than one part, and more than is held in memory
RUN = "scheduled__2026-11-21"
ODD = os.fsdecode(b"odd\n\xff\xfename")


def quiet(_: Any) -> None:
    """Take progress without a word."""


@dataclass
class Trees:
    """A tree, a place and a scratch folder. `key` is the id of the key by which the place encrypts."""

    home: Path
    client: Any = None
    key: str = ""
    target: str = "shop/files"
    keys: dict[str, bytes] = field(default_factory=lambda: {"k1": b"1" * 32})

    def __post_init__(self) -> None:
        for name in ("tree", "scratch"):
            (self.home / name).mkdir(exist_ok=True)

    @property
    def tree(self) -> Path:
        """The tree."""
        return self.home / "tree"

    @property
    def files(self) -> FileSet:
        """All of the tree."""
        return FileSet(paths=(f"{self.tree}/**",), secret=bool(self.key))

    @property
    def place(self) -> Place:
        """Where backups go."""
        ref: dict[str, Any] = {"url": f"file://{self.home}/kept"}
        if self.client:
            ref = {"url": f"s3://{BUCKET}/{self.home.name}", "conn_id": "store"}
        return Place(store=StoreRef(**ref, key_conn_id="key" if self.key else None), target=self.target, kind="files")

    @property
    def store(self) -> Store:
        """The place's store."""
        plain = S3Store(self.client, BUCKET, self.home.name) if self.client else FolderStore(self.home / "kept")
        return EncryptedStore(plain, Keys(self.key, self.keys, b"n" * 32, "key")) if self.key else plain

    @property
    def archive(self) -> TreeArchive:
        """What is under test."""
        return make_trees(lambda _: self.store, self.home / "scratch")

    def backup(self, files: FileSet | None = None, **options: Any) -> Taken:
        """Make a backup."""
        return self.archive.backup(files or self.files, self.place, TreeOptions(**options), RUN, quiet)

    def manifest(self, **options: Any) -> TreeManifest:
        """Make a backup and return its manifest."""
        return self.backup(**options).kept.manifest

    def check(self, backup_id: str) -> Check:
        """Read a backup again."""
        with backup_staging.staging(self.home / "scratch", self.target, "check") as folder:
            return archive_check.check(
                self.store, self.place, backup_id, folder=folder, decode=True, programs="", say=quiet
            )

    def restored(self, backup_id: str, *paths: str, into: str = "restored") -> Comparison:
        """Restore a backup and compare the result with the backup."""
        self.archive.restore(self.place, backup_id, self.home / into, paths, quiet)
        return self.archive.compare(self.place, backup_id, self.home / into)

    def objects(self) -> dict[str, int]:
        """Size by key of all objects that backups share."""
        return {item.key: item.size for item in self.store.list(f"{self.target}/objects/")}

    def age(self) -> None:
        """Wait until the files' times are of yesterday's, as far as a backup cares."""
        newest = max((path.lstat().st_ctime_ns for path in self.tree.rglob("*")), default=0)
        time.sleep(max(0.0, (newest - time.time_ns()) / 1e9 + 2.05))


def fill(tree: Path) -> None:
    """Make a tree in which everything occurs that a backup has to get right."""
    (tree / "a/b/empty").mkdir(parents=True)
    (tree / "a/small").write_bytes(b"small")
    (tree / "a/same").write_bytes(b"small")
    (tree / "a/none").touch()
    (tree / "a/middle").write_bytes(os.urandom(200_000))
    (tree / "a/large").write_bytes(os.urandom(LARGE))
    (tree / ".hidden").write_text("x")
    (tree / ODD).write_text("odd")
    (tree / "ünicode 'and\" so").write_text("u")
    os.link(tree / "a/small", tree / "a/b/link")
    (tree / "dangling").symlink_to("no/where")
    (tree / "outside").symlink_to("/etc")
    (tree / "bytes").symlink_to(os.fsdecode(b"\xff"))
    with (tree / "sparse").open("wb") as file:
        for place in (5 << 20, 80 << 20):
            file.seek(place)
            file.write(b"data" * 5000)
        file.truncate(100 << 20)
    with (tree / "hole").open("wb") as file:
        file.truncate(30 << 20)
    os.mkfifo(tree / "pipe")
    (tree / "a/small").chmod(0o4750)
    (tree / "a/b").chmod(0o500)
    os.utime(tree / "a/b", ns=(1, 1_234_567_890_123_456_789))
    os.utime(tree / "a/middle", ns=(1, 987_654_321))
