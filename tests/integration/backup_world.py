"""Real servers for the tests of backups, with an archiver on top of them."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.postgres import PostgresServer
from lab.process import scratch_folder
from lab.servers import ObjectStoreServer
from upkeep.adapters import backup_snapshot, fingerprint
from upkeep.adapters.archive import Archive, make_archiver
from upkeep.adapters.object_store import Store
from upkeep.adapters.object_store_s3 import S3Store
from upkeep.core.backup import Database, Kept, Options, Place, Progress, TableProof
from upkeep.core.targets import StoreRef

BUCKET = "backups"
RUN = "scheduled__2026-11-21"


def quiet(progress: Progress) -> None:
    """Take progress without a word."""


@dataclass
class World:
    """A PostgreSQL server, an S3 server, a scratch folder, and backups of one database between them."""

    postgres: PostgresServer
    s3: ObjectStoreServer
    scratch: Path
    target: str = "shop/db"
    dsn: str = ""

    @property
    def place(self) -> Place:
        """Where the backups lie."""
        return Place(store=StoreRef(url=f"s3://{BUCKET}/kept", conn_id="store"), target=self.target)

    @functools.cached_property
    def store(self) -> Store:
        """The store as the archiver sees it."""
        return S3Store(self.s3.client(retries={"total_max_attempts": 2}), BUCKET, "kept")

    @property
    def archive(self) -> Archive:
        """The archiver under test."""
        return make_archiver(lambda _: self.dsn, lambda _: self.store, self.scratch)

    def database(self, name: str, *statements: str) -> str:
        """Make a database anew, run statements in it, and point the archiver at it."""
        with self.postgres.connect() as connection:
            connection.execute(f'drop database if exists "{name}" with (force)'.encode())
            connection.execute(f'create database "{name}"'.encode())
        self.target, self.dsn = f"shop/{name}", self.postgres.dsn(name)
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())
        return name

    def connect(self, name: str | None = None) -> Any:
        """Connect to the database as superuser."""
        return self.postgres.connect(name or self.target.split("/")[1])

    def backup(self, say: Callable[[Progress], None] = quiet, **options: Any) -> Kept:
        """Make a backup of the database."""
        chosen = Options(**{"programs": str(self.postgres.bin), **options})
        return self.archive.backup(Database(conn_id="db"), self.place, chosen, RUN, say)

    def check(self, backup_id: str, *, decode: bool = True) -> Any:
        """Check a backup."""
        return self.archive.check(self.place, backup_id, decode, str(self.postgres.bin), quiet)

    def download(self, kept: Kept, into: Path) -> Path:
        """Copy the files of a backup out of the store, as somebody would by hand."""
        into.mkdir()
        for entry in kept.manifest.files:
            with self.store.read(f"{self.target}/{kept.manifest.id}/{entry.name}") as blocks:
                (into / entry.name).write_bytes(b"".join(blocks))
        return into

    def restore(self, folder: Path, name: str) -> None:
        """Restore with plain pg_restore into a fresh database."""
        with self.postgres.connect() as connection:
            connection.execute(f'drop database if exists "{name}" with (force)'.encode())
            connection.execute(f'create database "{name}" template template0'.encode())
        command = [self.postgres.bin / "pg_restore", "--exit-on-error", "-j2", "-d", self.postgres.dsn(name), folder]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env={"LC_ALL": "C"})
        assert done.returncode == 0, done.stderr

    def proofs(self, name: str) -> list[TableProof]:
        """Compute the fingerprints of a database as it is now."""
        with backup_snapshot.connect(self.postgres.dsn(name)) as connection:
            return [fingerprint.prove(connection, table) for table in fingerprint.tables(connection)]

    def objects(self) -> list[str]:
        """List the keys of everything below the target."""
        return sorted(item.key for item in self.store.list(f"{self.target}/"))


@contextlib.contextmanager
def world(major: int = 18, **settings: str | int) -> Iterator[World]:
    """Start the servers."""
    with scratch_folder() as folder:
        scratch = folder / "scratch"
        scratch.mkdir()
        with (
            PostgresServer(major, folder / "pg", settings=settings) as postgres,
            ObjectStoreServer(folder / "s3", buckets=[BUCKET]) as s3,
        ):
            yield World(postgres, s3, scratch)


@contextlib.contextmanager
def writing(world: World, statement: str) -> Iterator[list[int]]:
    """Keep writing to the database while the block runs; the list counts the writes."""
    done, counter = threading.Event(), [0]

    def write() -> None:
        with world.connect() as connection:
            while not done.is_set():
                connection.execute(statement.encode())
                counter[0] += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield counter
    finally:
        done.set()
        thread.join()
