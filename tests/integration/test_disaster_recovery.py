"""A whole system from its backups alone: it serves again, whatever is missing is told, and nothing is left over."""

from __future__ import annotations

import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.cache_server import RedisServer
from tests.integration.backup_world import BUCKET, RUN, World, world
from upkeep.adapters import copy_maker, http, tree_backup
from upkeep.adapters.recovery import make_recoverer
from upkeep.adapters.scratch_place import abandoned
from upkeep.core.backup import Database, Options, Place
from upkeep.core.cadence import Window
from upkeep.core.copies import CopyOptions
from upkeep.core.errors import ConfigurationError
from upkeep.core.job import Job
from upkeep.core.model import Outcome, OutcomeStatus, Severity
from upkeep.core.routine import Routine
from upkeep.core.system import System
from upkeep.core.targets import StoreRef
from upkeep.core.tree import FileSet, TreeOptions

ROOT = Path(__file__).parents[2]
STORE = StoreRef(url=f"s3://{BUCKET}/kept", conn_id="store")
TABLES = (
    "create type state as enum ('open', 'closed')",
    "create table claims_claim (id int primary key, status state, amount numeric)",
    "insert into claims_claim select i, 'open', i from generate_series(1, 500) as i",
)


@dataclass
class Site:
    """The claims system: a database, uploads, a cache, a SQLite file; each of them backed up."""

    world: World
    redis: RedisServer
    uploads: Path
    sqlite: Path

    def system(self, **changes: Any) -> System:
        """Return it as its file would describe it."""
        targets = {
            "db": {"kind": "postgres", "conn_id": "db", "smoke": {"claims": {
                "sql": "select count(*) from claims_claim", "equals": 500}}},
            "uploads": {"kind": "files", "paths": [f"{self.uploads}/**"]},
            "cache": {"kind": "redis", "conn_id": "redis"},
            "small": {"kind": "sqlite", "path": str(self.sqlite)},
            "api": {"kind": "http", "base_url": "http://127.0.0.1:1", "endpoints": {
                "health": {"path": "/health", "expect": [{"pointer": "/status", "equals": "healthy"}]},
                "claims": {"path": "/api/claims", "expect": [{"pointer": "/count", "equals": 20}]}}},
            "recovery": {"kind": "recovery", "parts": ["db", "uploads", "cache", "small"], "check": "api",
                "services": ["{python}", str(ROOT / "lab" / "recovered.py"), "claims", "{folder}", "{port}"],
            } | changes.pop("test", {}),
        }  # fmt: skip
        contacts = {"dba": {"primary": {"name": "A", "channels": [{"kind": "email", "address": "a@b.example"}]}}}
        said = {"name": "shop", "title": "Shop", "contacts": contacts, "store": STORE, "targets": targets, **changes}
        return System.model_validate({"rto": "1 h", "rpo": "1 h"} | said)

    def connection(self, _: str) -> Any:
        from airflow.sdk import Connection

        given = {"host": "127.0.0.1", "port": self.redis.port, "password": self.redis.password}
        return Connection(conn_id="redis", conn_type="redis", **given)

    def job(self, **changes: Any) -> tuple[Routine, Job[Any, Any]]:
        """Return the routine and its job."""
        settings = changes.pop("settings", {})
        routine, system, now = (
            Routine.load("upkeep.routines.recovery.system"),
            self.system(**changes),
            datetime.now(UTC),
        )
        world = self.world
        tools = SimpleNamespace(
            recovery=make_recoverer(lambda _: world.postgres.dsn("db"), lambda _: world.store, world.scratch),
            http=http.opener(self.connection), now=lambda: datetime.now(UTC), log=logging.getLogger("test"),
            scratch=world.scratch,
        )  # fmt: skip
        programs = os.pathsep.join([str(world.postgres.bin), str(Path(self.redis.command()[0]).parent)])
        return routine, Job(
            routine="recovery.system", target=system.targets["recovery"], system=system, run_id=RUN, try_number=1,
            settings=routine.settings(**{"programs": programs, "start_seconds": 20, **settings}),
            tools=tools, window=Window(start=now, end=now),  # type: ignore[arg-type]
        )  # fmt: skip

    def run(self, **changes: Any) -> tuple[Outcome, list[Any]]:
        """Do all of it."""
        routine, job = self.job(**changes)
        seen = routine.observe(job)
        outcome = routine.act(job, routine.plan(job, seen).actions[-1])
        assert routine.verify(job, seen, (outcome,)).findings == ()
        assert list(self.world.scratch.iterdir()) == []
        return outcome, list(outcome.findings)

    def place(self, name: str, kind: str) -> Place:
        return Place.model_validate({"store": STORE, "target": f"shop/{name}", "kind": kind})


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with world() as made, RedisServer(made.scratch.parent / "redis") as redis:
        made.database("db", *TABLES)
        uploads = made.scratch.parent / "claims" / "uploads"
        uploads.mkdir(parents=True)
        for number in range(20):
            (uploads / f"photo{number}.jpg").write_bytes(os.urandom(5000))
        sqlite = made.scratch.parent / "small.db"
        with sqlite3.connect(sqlite) as file:
            file.execute("create table t as select 1 as n")
        with redis.client() as client:
            client.mset({f"session:{n}": "x" * 100 for n in range(50)})
        found = Site(made, redis, uploads, sqlite)
        programs = Options(programs=str(made.postgres.bin))
        made.archive.backup(Database(conn_id="db"), found.place("db", "dump"), programs, RUN, lambda _: None)
        tree_backup.make_trees(lambda _: made.store, made.scratch).backup(
            FileSet(paths=(f"{uploads}/**",)), found.place("uploads", "files"), TreeOptions(), RUN, lambda _: None
        )
        copies = copy_maker.CopyMaker(found.connection, lambda _: made.store, made.scratch)
        options = CopyOptions(programs=str(Path(redis.command()[0]).parent))
        copies.copy_redis("redis", found.place("cache", "redis"), options, RUN, lambda _: None)
        copies.copy_sqlite(str(sqlite), found.place("small", "sqlite"), options, RUN, lambda _: None)
        yield found


def test_it_serves_again_from_its_backups_alone(site: Site, monkeypatch: pytest.MonkeyPatch):
    """All parts are back, identical, the real services answer on them; the evidence has every step with its time."""
    with site.world.connect("db") as connection:
        connection.execute("insert into claims_claim select i, 'open', i from generate_series(501, 530) as i")
    (site.uploads / "new.jpg").write_bytes(b"later")
    outcome, findings = site.run()
    assert findings == [] and outcome.status is OutcomeStatus.DONE, outcome
    seen = outcome.evidence["recovery"]
    assert [part["trouble"] for part in seen["parts"]] == [""] * 4
    assert {a["endpoint"]: a["well"] for a in seen["answers"]} == {"health": True, "claims": True}
    names = [step["name"] for step in seen["steps"]]
    assert names[:4] == [f"{n}: bring back" for n in ("db", "uploads", "cache", "small")] and seen["seconds"] > 0
    lost = {part["name"]: part["changed"] for part in seen["parts"]}
    assert lost == {"db": 30, "uploads": 1, "cache": None, "small": 0}
    assert "at least 30 rows written since" in outcome.detail and "unknown what has changed" in outcome.detail
    assert seen["rto_seconds"] == 3600 and len(seen["would_have_been_lost"]) == 4
    # The same with every source gone: only stores and keys are needed.
    monkeypatch.setattr(site.world.postgres, "dsn", lambda _: "host=127.0.0.1 port=1 dbname=gone connect_timeout=2")
    monkeypatch.setattr(site, "uploads", Path("/nonexistent/uploads"))
    outcome, findings = site.run()
    assert findings == [] and "the source does not answer" in outcome.detail


def test_what_does_not_come_back_is_told(site: Site):
    """A part without a backup and a damaged one are critical, each by its name; services are then not started."""
    key = next(i.key for i in site.world.store.list("shop/uploads/objects/"))
    with site.world.store.read(key) as blocks:
        good = b"".join(blocks)
    bad = site.world.scratch.parent / "bad"
    bad.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    site.world.store.write(key, bad)
    targets = {"parts": ["db", "uploads", "gone"], "services": ["true"]}
    try:
        system = site.system()
        more = {n: t.model_dump(exclude={"id"}, exclude_unset=True) for n, t in system.targets.items()}
        more |= {"gone": {"kind": "sqlite", "path": "/gone"}, "recovery": more["recovery"] | targets}
        outcome, findings = site.run(targets=more)
    finally:
        bad.write_bytes(good)
        site.world.store.write(key, bad)
    assert {(f.check, f.subject, f.severity) for f in findings} == {
        ("part", "uploads", Severity.CRITICAL), ("part", "gone", Severity.CRITICAL),
        ("health", "shop/recovery", Severity.CRITICAL),
    }  # fmt: skip
    assert outcome.status is OutcomeStatus.FAILED and "holds no backup" in " ".join(f.message for f in findings)


def test_a_system_that_is_back_and_ill_is_told(site: Site):
    """The services run and an endpoint is not as it must be; a promise that is broken is a warning."""
    one = site.system(test={"parts": ["db"]}).targets["recovery"].model_dump(exclude={"id"}, exclude_unset=True)
    outcome, findings = site.run(
        test={"parts": ["db"]}, rto="1 s", rpo="1 s", settings={"start_seconds": 2},
        targets={
            **{n: t.model_dump(exclude={"id"}, exclude_unset=True) for n, t in site.system().targets.items()},
            "api": {"kind": "http", "base_url": "http://127.0.0.1:1", "endpoints": {
                "count": {"path": "/api/claims", "expect": [{"pointer": "/count", "equals": 21}]}}},
            "recovery": one,
        },
    )  # fmt: skip
    assert [(f.check, f.subject, f.severity) for f in findings] == [
        ("health", "count", Severity.CRITICAL), ("rto", "shop/recovery", Severity.WARNING),
        ("rpo", "db", Severity.WARNING),
    ]  # fmt: skip
    assert "/count is 20, expected to be 21" in findings[0].message and outcome.status is OutcomeStatus.FAILED


def test_what_the_worker_lacks_is_unknown(site: Site):
    """Without a server of the right major nobody knows whether the database could be brought back."""
    _, findings = site.run(test={"parts": ["db"]}, settings={"programs": "/nonexistent"})
    assert {f.severity for f in findings} == {Severity.UNKNOWN} and "install" in findings[0].hint


def test_a_part_must_have_backups(site: Site):
    """A service cannot be a part; a command without anything to ask tests nothing."""
    for wrong in ({"parts": ["api"]}, {"check": None}):
        routine, job = site.job(test=wrong)
        with pytest.raises(ConfigurationError):
            routine.observe(job)


@pytest.mark.parametrize("step", ["cache: bring back", "ask the services"])
def test_a_killed_test_leaves_nothing_for_long(site: Site, step: str):
    """SIGKILL with servers and services running: they end with the worker or are ended by the next test."""
    _, job = site.job()
    order = Routine.load("upkeep.routines.recovery.system").observe(job).order
    script = (
        "import json, os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.faults.recovery_worker import store_of\n"
        "from upkeep.adapters.recovery import make_recoverer\n"
        "from upkeep.core.recovery import Rebuild\n"
        "told = json.loads(sys.argv[1])\n"
        "def tell(text):\n"
        "    if text == told['at']: os.kill(os.getpid(), signal.SIGKILL)\n"
        "made = make_recoverer(lambda _: '', lambda _: store_of(told), Path(told['scratch']))\n"
        "made.rebuild(Rebuild.model_validate(told['order']), tell, lambda _: ())\n"
    )
    s3 = site.world.s3
    told = {
        "endpoint": s3.endpoint_url, "key": s3.access_key, "secret": s3.secret_key, "bucket": BUCKET, "at": step,
        "scratch": str(site.world.scratch), "order": order.model_dump(mode="json", exclude_unset=True),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(told)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *(p for p in sys.path if p)])},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert abandoned(site.world.scratch, "shop/recovery") != []
    routine, job = site.job()
    seen = routine.observe(job)
    sweep, _ = routine.plan(job, seen).actions
    assert routine.act(job, sweep).status is OutcomeStatus.DONE
    assert list(site.world.scratch.iterdir()) == []
    folder = str(site.world.scratch)
    deadline = time.monotonic() + 10
    while living(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert living(folder) == []


def living(folder: str) -> list[str]:
    """Return the command lines of processes that work in a folder."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = line.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{folder}/restore-" in text:
            found.append(text)
    return found


def test_the_age_is_that_of_the_backup(site: Site):
    """What an RPO is about: the moment the content is from, not that of the last write to the store."""
    outcome, _ = site.run(test={"parts": ["small"], "services": [], "check": None})
    [part] = outcome.evidence["recovery"]["parts"]
    assert datetime.now(UTC) - datetime.fromisoformat(part["taken"]) < timedelta(hours=1)
    assert "was not tried" in outcome.detail
