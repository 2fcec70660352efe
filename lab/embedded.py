"""The whole lab: its servers, its data, its faults, and what Airflow has to know to work on it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import log_writers, models
from lab.advisories import write_advisories
from lab.cache_server import RedisServer
from lab.connections import connections, environment, shell_lines
from lab.faults import set_faults
from lab.keeper import Keeper
from lab.mail import SmtpServer
from lab.object_store import ObjectStoreServer
from lab.past import write_past
from lab.postgres import PostgresServer
from lab.process import Server, exclusive, write_private
from lab.seed import seed_cache, seed_databases, seed_sqlite, seed_store
from lab.services import WebServer
from lab.systems import BACKUP_BUCKET, CLUSTERS, PLATFORM, SYSTEMS, system, write_system_files
from lab.trees import seed_trees
from lab.wheels import lab_root

if TYPE_CHECKING:
    import psycopg

# Airflow keeps many connections open, the sample systems few. Theirs are servers as they should be; what is wrong with
# them is planted. The scale factors are those that molecular's guide wants (MO-B04).
_SETTINGS: dict[str, dict[str, str | int | float]] = {
    "platform": {"max_connections": 200},
    "sample": {
        "fsync": "on",
        "autovacuum_vacuum_scale_factor": 0.1,
        "autovacuum_analyze_scale_factor": 0.05,
        "summarize_wal": "on",  # what changed, for incremental backups
    },
    "campus": {"fsync": "on"},
}


def default_home() -> Path:
    """Return UPKEEP_LAB_HOME, or a folder of this checkout among the lab's files."""
    if given := os.environ.get("UPKEEP_LAB_HOME"):
        return Path(given).absolute()
    checkout = str(Path(__file__).resolve().parent.parent)
    return lab_root() / hashlib.sha256(checkout.encode()).hexdigest()[:12]


def default_scale() -> float:
    """Return LAB_SCALE, by which rows are multiplied, or 1."""
    return float(os.environ.get("LAB_SCALE", "1"))


class Lab:
    """All servers of a home folder. Making one starts nothing and finds what already runs."""

    def __init__(self, home: str | Path | None = None, scale: float | None = None) -> None:
        self.home = Path(home).absolute() if home else default_home()
        self.scale = default_scale() if scale is None else scale
        self.clusters = {
            name: PostgresServer(major, self.home / f"postgres-{name}", settings=_SETTINGS.get(name))
            for name, major in CLUSTERS.items()
        }
        buckets = [BACKUP_BUCKET, *(one.bucket for one in SYSTEMS if one.bucket)]
        self.object_store = ObjectStoreServer(self.home / "object-store", buckets=buckets)
        self.caches = {one.name: RedisServer(self.home / f"redis-{one.name}") for one in SYSTEMS if one.redis}
        self.mail = SmtpServer(self.home / "mail")
        self.web = WebServer(self.home / "web")
        self.keeper = Keeper(self.home / "keeper")

    @property
    def servers(self) -> dict[str, Server]:
        """Every server by name, in the order in which they may be stopped."""
        clusters = {f"postgres-{name}": server for name, server in self.clusters.items()}
        caches = {f"redis-{name}": server for name, server in self.caches.items()}
        rest: dict[str, Server] = {"object-store": self.object_store, "mail": self.mail}
        return {"keeper": self.keeper, "web": self.web, **caches, **rest, **clusters}

    def up(self, faults: bool = True, say: Callable[[str], None] = lambda _: None) -> None:
        """Start what does not run, fill what is not filled, plant the faults, write down the addresses."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o711)  # the database servers' user passes through
        with exclusive(self.home / ".lock"):
            self._up(faults, say)

    def _up(self, faults: bool, say: Callable[[str], None]) -> None:
        base = [*self.clusters.values(), self.object_store, *self.caches.values(), self.mail]
        say(f"starting {len(base)} servers in {self.home}")
        _at_once([server.start for server in base])
        say("filling the databases (once)")
        _at_once([self._seed_databases, self._seed_rest])
        self._introduce()
        say("starting the services and planting the faults" if faults else "starting the services")
        self.web.start()
        write_system_files(self.system_files)
        set_faults(self, faults)
        write_past(self)
        self._write_down()
        say("the lab is up")

    def down(self) -> None:
        """End exactly the processes that were started here."""
        servers = self.servers
        for name in ("keeper", "web"):
            servers.pop(name).stop()
        _at_once([server.stop for server in servers.values()])

    def status(self) -> dict[str, dict[str, Any]]:
        """Return what is known of every server."""
        return {
            name: {"alive": server.alive, "pid": server.pid, "ports": server.ports}
            for name, server in self.servers.items()
        }

    def environment(self) -> dict[str, str]:
        """Return the variables that Airflow needs to work on the lab."""
        return environment(self)

    def connect(self, name: str, as_owner: bool = False) -> psycopg.Connection:
        """Connect to a system's database as its maintenance role or as its owner."""
        one = system(name)
        return self.clusters[one.cluster].connect(one.database, one.owner if as_owner else one.keeper)

    @property
    def sqlite_file(self) -> Path:
        """The student system's SQLite file."""
        return self.home / "student" / "mvp_data.db"

    @property
    def system_files(self) -> Path:
        """The folder with the lab's copies of the sample systems' files."""
        return self.home / "systems"

    @property
    def spool(self) -> Path:
        """The folder with what the ledger has still to be told."""
        return self.home / "spool"

    def _seed_databases(self) -> None:
        seed_databases(self.clusters, self.scale, datetime.now(UTC).date())

    def _seed_rest(self) -> None:
        platform = self.clusters["platform"]
        for database, owner in PLATFORM.items():
            platform.create_role(owner)
            platform.create_database(database, owner)
        seed_sqlite(self.sqlite_file)
        seed_trees(self.home)
        models.seed_models(self.home, datetime.now(UTC))
        write_advisories(self.home / "advisories", datetime.now(UTC))
        for cache in self.caches.values():
            seed_cache(cache)
        seed_store(self.object_store, [one.bucket for one in SYSTEMS if one.bucket])

    def _introduce(self) -> None:
        """Tell the services and the keeper where the data are."""
        told: dict[str, Any] = {}
        for one in SYSTEMS:
            given: dict[str, Any] = {"dsn": self.clusters[one.cluster].dsn(one.database, one.owner)}
            if one.redis:
                given["redis"] = self.caches[one.name].url
            if one.bucket:
                store = self.object_store
                keys = {"access_key": store.access_key, "secret_key": store.secret_key}
                given["store"] = {"endpoint": store.endpoint_url, "bucket": one.bucket, **keys}
            if file := models.FOLDERS.get(one.name):
                given["model"] = str(self.home / file / "risk_model.json")
            given["log"] = log_writers.live(self.home, one.name)
            told[one.name] = given
        self.web.settings = {"systems": told}
        self.keeper.settings = {"dsns": {name: one["dsn"] for name, one in told.items()}}

    def _write_down(self) -> None:
        everything = {
            "home": str(self.home),
            "scale": self.scale,
            "servers": self.status(),
            "connections": connections(self),
            "superuser_dsns": {name: server.dsn() for name, server in self.clusters.items()},
            "sqlite": str(self.sqlite_file),
        }
        write_private(self.home / "lab.json", json.dumps(everything, indent=2) + "\n")
        write_private(self.home / "environment", shell_lines(self.environment()))


def _at_once(deeds: list[Callable[[], Any]]) -> None:
    """Do things in parallel; the first error is raised after all have ended."""
    with ThreadPoolExecutor(len(deeds)) as pool:
        for done in [pool.submit(deed) for deed in deeds]:
            done.result()
