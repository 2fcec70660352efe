"""Real clusters for the tests of physical backups."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lab.postgres import PostgresServer
from lab.process import scratch_folder
from upkeep.adapters.archive import Archive, make_archiver
from upkeep.adapters.object_store import FolderStore, Store
from upkeep.adapters.physical import PhysicalBackups, make_physical
from upkeep.adapters.physical_restore import fetch_and_unpack
from upkeep.core.backup import Check, Database, Kept, PhysicalManifest, Place, Progress
from upkeep.core.cadence import Window
from upkeep.core.catalogue import Entry
from upkeep.core.job import Job
from upkeep.core.physical import PhysicalOptions
from upkeep.core.routine import Routine
from upkeep.core.targets import PostgresTarget, StoreRef

RUN = "scheduled__2026-11-21"
DATABASE = Database(conn_id="db")


def quiet(progress: Progress) -> None:
    """Take progress without a word."""


@dataclass
class Cluster:
    """A server, a store, a scratch folder, and physical backups between them."""

    server: PostgresServer
    folder: Path
    dsn: str
    target: str = "shop/db"
    other_store: Store | None = None
    known: tuple[Entry, ...] = ()

    @property
    def scratch(self) -> Path:
        """The folder of what is on its way."""
        return self.folder / "scratch"

    @property
    def place(self) -> Place:
        """Where the backups lie."""
        return Place(store=StoreRef(url=f"file://{self.folder}/kept"), target=self.target, kind="physical")

    @functools.cached_property
    def store(self) -> Store:
        """The store."""
        return self.other_store or FolderStore(self.folder / "kept")

    @property
    def archive(self) -> Archive:
        """What lists, checks and sweeps."""
        return make_archiver(lambda _: self.dsn, lambda _: self.store, self.scratch)

    @property
    def physical(self) -> PhysicalBackups:
        """What is under test."""
        return make_physical(lambda _: self.dsn, lambda _: self.store, self.scratch)

    @property
    def programs(self) -> str:
        """The folder with programs of the server's major."""
        return str(self.server.bin)

    def backup(self, parent: str | None = None, **options: Any) -> Kept[PhysicalManifest]:
        """Make a backup."""
        chosen = PhysicalOptions(parent=parent, programs=self.programs, **{"piece_bytes": 1 << 20, **options})
        return self.physical.backup(DATABASE, self.place, chosen, RUN, quiet)

    def check(self, backup_id: str) -> Check:
        """Check a backup in full."""
        return self.archive.check(self.place, backup_id, True, self.programs, quiet)

    def objects(self) -> list[str]:
        """List the keys of everything below the series."""
        return sorted(item.key for item in self.store.list(f"{self.place.series}/"))

    def run(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements as superuser; return the rows of the last."""
        rows: list[tuple[Any, ...]] = []
        with self.server.connect(database) as connection:
            for statement in statements:
                done = connection.execute(statement.encode())
                rows = done.fetchall() if done.description else []
        return rows

    def slots(self) -> int:
        """Count replication slots."""
        return int(self.run("select count(*) from pg_replication_slots")[0][0])

    @contextlib.contextmanager
    def restored(self, backup_id: str) -> Iterator[PostgresServer]:
        """Bring a backup back and start a server on it."""
        with scratch_folder() as folder:
            work = folder / "work"
            work.mkdir()
            data = fetch_and_unpack(self.store, self.place, backup_id, work, programs=self.programs, say=quiet)
            data.rename(folder / "pgdata")
            if os.geteuid() == 0:
                subprocess.run(["chown", "-R", "nobody:nogroup", folder / "pgdata"], check=True)
            shutil.copy(self.server.data_dir / "passwords.json", folder)
            with PostgresServer(self.server.major, folder) as server:
                yield server

    def job(self, name: str = "backup.physical", **settings: Any) -> tuple[Routine, Job[Any, Any]]:
        """Return a routine and a job for it."""
        routine = Routine.load(f"upkeep.routines.{name}")
        now = datetime.now(UTC)
        tools = SimpleNamespace(
            archive=self.archive, physical=self.physical, now=lambda: datetime.now(UTC), scratch=self.scratch,
            history=SimpleNamespace(series=lambda *_, **__: []), log=logging.getLogger("test"),
            catalogue=SimpleNamespace(entries=lambda *_: self.known),
        )  # fmt: skip
        target = PostgresTarget(conn_id="db", id=self.target, store=self.place.store)
        return routine, Job(
            routine=name, target=target, system=SimpleNamespace(name="shop", store=None),  # type: ignore[arg-type]
            settings=routine.settings(programs=self.programs, **settings), run_id=RUN, try_number=1, tools=tools,  # type: ignore[arg-type]
            window=Window(start=now - timedelta(days=1), end=now),
        )  # fmt: skip

    def routine(self, **settings: Any) -> tuple[dict[str, Any], list[Any]]:
        """Run the routine; return the evidence of the backup and all findings."""
        routine, job = self.job(**settings)
        seen = routine.observe(job)
        judged = routine.judge(job, seen)
        outcomes = tuple(routine.act(job, action) for action in routine.plan(job, seen).actions)
        verified = routine.verify(job, seen, outcomes)
        findings = [*judged.findings, *(f for o in outcomes for f in o.findings), *verified.findings]
        evidence = outcomes[-1].evidence["backup"]
        assert json.dumps(evidence)
        return evidence, findings


@contextlib.contextmanager
def cluster(major: int, **settings: str | int) -> Iterator[Cluster]:
    """Start a server with a small database."""
    with scratch_folder() as folder:
        (folder / "scratch").mkdir()
        wanted = {"summarize_wal": "on", **settings} if major >= 17 else settings
        with PostgresServer(major, folder / "pg", settings=wanted) as server:
            made = Cluster(server, folder, server.dsn())
            made.run("create table t as select i, md5(i::text) as a from generate_series(1, 20000) as i")
            yield made
