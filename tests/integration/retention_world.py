"""A store with backups of chosen dates, and a real ledger that knows of them, for the tests of retention."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from upkeep.adapters.archive import Archive, make_archiver
from upkeep.adapters.object_store import FolderStore, Store
from upkeep.adapters.object_store_s3 import S3Store
from upkeep.core import backup as core
from upkeep.core.backup import CopyManifest, FileEntry, Place
from upkeep.core.cadence import Window
from upkeep.core.catalogue import Entry
from upkeep.core.job import Job
from upkeep.core.model import Action
from upkeep.core.routine import Routine
from upkeep.core.system import System
from upkeep.ledger import events as ev
from upkeep.ledger.catalogue import LedgerCatalogue
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger
from upkeep.operators.lifecycle import Lifecycle, Summary

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, 1, 30, tzinfo=UTC)
ROUTINE = "upkeep.routines.backup.retention"
_numbers = itertools.count(1)


def system(url: str, **more: Any) -> System:
    """Return a system with one SQLite and one file target, whose retention is 3 days, 2 weeks and 1 month."""
    facts = {
        "name": "shop", "title": "Shop", "contacts": {"dba": {"primary": {"name": "D", "channels": [
            {"kind": "email", "address": "d@example.com"}]}}},
        "retention": {"daily": 3, "weekly": 2, "monthly": 1, "quarterly": 0},
        "store": {"url": url, **({"conn_id": "store"} if url.startswith("s3") else {})},
        "targets": {"db": {"kind": "sqlite", "path": "/nowhere"}, "up": {"kind": "files", "paths": ["/nowhere"]}},
    }  # fmt: skip
    return System.model_validate({**facts, **more})


def key_of(store: dict[str, Any]) -> Store:
    """Open the store that a worker's order describes."""
    if "folder" in store:
        return FolderStore(Path(store["folder"]))
    import boto3
    from botocore.config import Config

    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2})
    client = boto3.client(
        "s3", endpoint_url=store["endpoint"], region_name="us-east-1", aws_access_key_id=store["key"],
        aws_secret_access_key=store["secret"], config=config,
    )  # fmt: skip
    return S3Store(client, store["bucket"], store["prefix"], lock_days=store.get("lock_days"))


@dataclass
class Shelf:
    """Backups of `shop/db` in one store, what the ledger knows, and a clock.

    `where` describes the store so that another process can open it.
    """

    where: dict[str, Any]
    dsn: str
    scratch: Path
    more: dict[str, Any] = field(default_factory=dict)
    now: datetime = START
    target: str = "shop/db"
    untold: list[ev.Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = key_of(self.where)
        self.ledger = Ledger(lambda: self.dsn, Spool(self.scratch / "spool"))

    @property
    def url(self) -> str:
        """The store's address as a system file has it."""
        if "folder" in self.where:
            return f"file://{self.where['folder']}"
        return f"s3://{self.where['bucket']}/{self.where['prefix']}"

    @property
    def system(self) -> System:
        """The system."""
        return system(self.url, **self.more)

    @property
    def place(self) -> Place:
        """Where the backups lie."""
        assert self.system.store
        kind: Any = "sqlite" if self.target == "shop/db" else "files"
        return Place(store=self.system.store, target=self.target, kind=kind)

    @property
    def archive(self) -> Archive:
        """The archiver."""
        return make_archiver(lambda _: "", lambda _: self.store, self.scratch)

    @property
    def catalogue(self) -> dict[str, Entry]:
        """What is on record, by id."""
        self.settle()
        return {e.id: e for e in LedgerCatalogue(self.ledger).entries(self.target, self.place.kind)}

    def put(self, moment: datetime, ok: bool | None = True, parent: str | None = None, files: int = 2) -> str:
        """Store a backup of a moment; it was verified, with this result, unless that is None."""
        backup_id = f"{moment:%Y%m%dT%H%M%SZ}-{next(_numbers):08x}"
        prefix = f"{self.place.series}/{backup_id}"
        entries = []
        for n in range(files):
            written = self.store.write_bytes(f"{prefix}/{n}.dat", f"{backup_id} {n}".encode() * 9)
            entries.append(FileEntry(name=f"{n}.dat", size=written.size, sha256=written.sha256))
        manifest = CopyManifest(
            kind="sqlite", id=backup_id, target=self.target, run_id="r", started=moment, finished=moment, tools={},
            settings={}, files=tuple(entries), parent=parent, version="3", proof={"id": backup_id},
        )  # fmt: skip
        self.store.lock([f"{prefix}/{e.name}" for e in entries])
        self.store.write_bytes(f"{prefix}/{core.MANIFEST}", core.encode(manifest))
        facts = {"id": backup_id, "kind": "sqlite", "parent": parent, "finished": moment.isoformat(),
                 "location": f"{self.url}/{prefix}", "manifest_sha256": manifest.sha256, "size_bytes": 1}  # fmt: skip
        self.tell(moment, backup=facts)
        if ok is not None:
            self.tell(moment, verification={"id": backup_id, "kind": "sqlite", "ok": ok})
        return backup_id

    def tell(self, at: datetime, **evidence: Any) -> None:
        """Note what a routine says when an action ends; the ledger hears of it with all the rest, before a run."""
        key = ev.RoutineKey(
            dag_id="d", run_id=f"r{next(_numbers)}", routine="x.y", target=self.target, try_number=1
        )  # fmt: skip
        action = Action(name="x", subject="x", reason="y")
        closed: dict[str, Any] = {"system": "shop", "number": 1, "status": "done", "detail": "", "evidence": evidence}
        self.untold += [
            ev.RoutineOpened(at=at, routine=key, system="shop", role="dba", title="T"),
            ev.ActionOpened(at=at, routine=key, number=1, action=action),
            ev.ActionClosed(at=at, routine=key, **closed),
        ]

    def settle(self) -> None:
        """Tell the ledger what was noted."""
        if self.untold:
            assert self.ledger.write(*self.untold)
            self.untold.clear()

    def daily(self, days: int, **how: Any) -> list[str]:
        """Store one backup a day, and let the clock stand an hour after the last."""
        ids = [self.put(START + n * DAY, **how) for n in range(days)]
        self.now = START + (days - 1) * DAY + timedelta(hours=1)
        return ids

    def job(self, ledger: Ledger | None = None, **settings: Any) -> tuple[Routine, Job[Any, Any]]:
        """Return the routine and a job for it."""
        self.settle()
        return job(self.system, self.target, self.archive, ledger or self.ledger, lambda: self.now, **settings)

    def run(
        self,
        dry_run: bool = False,
        ledger: Ledger | None = None,
        approved: frozenset[tuple[str, str]] | None = None,
        **settings: Any,
    ) -> tuple[Summary, Lifecycle, list[Any]]:
        """Run the whole lifecycle; return its summary, itself, and its findings."""
        routine, one = self.job(ledger, **settings)
        return lifecycle(routine, one, ledger or self.ledger, dry_run, approved)

    def whole(self) -> set[str]:
        """Return the ids of the backups that are there, each read back and found to be what it was."""
        there = {s.id for s in self.archive.stored(self.place) if s.complete}
        for backup_id in there:
            check = self.archive.check(self.place, backup_id, False, "", lambda _: None)
            assert check.ok, check.faults
        return there

    def listed(self) -> list[str]:
        """Return all keys of the series."""
        return sorted(item.key for item in self.store.list(f"{self.place.series}/"))

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()


def job(
    made: System, target: str, archive: Archive, ledger: Ledger, now: Callable[[], datetime], **settings: Any
) -> tuple[Routine, Job[Any, Any]]:
    """Return the routine and a job for it."""
    routine = Routine.load(ROUTINE)
    tools = SimpleNamespace(archive=archive, catalogue=LedgerCatalogue(ledger), now=now, log=logging.getLogger("test"))
    return routine, Job(
        routine="backup.retention", target=made.target(target), system=made, settings=routine.settings(**settings),
        run_id=f"run{next(_numbers)}-{datetime.now(UTC).timestamp()}", try_number=1, tools=tools,  # type: ignore[arg-type]
        window=Window(start=now() - DAY, end=now()),
    )  # fmt: skip


def lifecycle(
    routine: Routine, one: Job[Any, Any], ledger: Ledger, dry_run: bool, approved: frozenset[tuple[str, str]] | None
) -> tuple[Summary, Lifecycle, list[Any]]:
    """Run a routine as its operator does; return summary, lifecycle and findings."""
    key = ev.RoutineKey(dag_id="d", run_id=one.run_id, routine=routine.name, target=one.target.id, try_number=1)
    work = Lifecycle(routine, one, key, ledger, dry_run=dry_run, last_try=True, approved=approved)
    findings: list[Any] = []
    note = work._note

    def listen(stage: Any, said: Any) -> None:
        findings.extend(said.findings)
        note(stage, said)

    work._note = listen  # type: ignore[method-assign]
    return work.run(), work, findings


def dumps(shelf: Shelf) -> str:
    """Return the order for a worker in another process."""
    return json.dumps({
        "where": shelf.where, "dsn": shelf.dsn, "scratch": str(shelf.scratch), "more": shelf.more,
        "now": shelf.now.isoformat(), "target": shelf.target,
    })  # fmt: skip


def loads(order: str) -> Shelf:
    """Return the shelf of an order."""
    given = json.loads(order)
    return Shelf(
        where=given["where"], dsn=given["dsn"], scratch=Path(given["scratch"]), more=given["more"],
        now=datetime.fromisoformat(given["now"]), target=given["target"],
    )  # fmt: skip
