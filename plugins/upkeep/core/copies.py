"""Backups of databases that are one file: SQLite, and Redis with its RDB; what is told of them and who makes them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol

from pydantic import Field

from upkeep.core.backup import CopyManifest, Kept, Place, Say, Tier
from upkeep.core.model import Model

SQLITE_PROOF, REDIS_PROOF = "upkeep-sqlite/1", "upkeep-rdb/1"
PACKED = {"sqlite": "database.db.gz", "redis": "dump.rdb.gz"}
"""The one file of a backup, by kind; without `.gz` it is the database as its own programs read it."""


class CopyOptions(Model):
    """How to make a copy. Times are in seconds."""

    tier: Tier = "daily"
    compression_level: int = Field(6, ge=1, le=9)
    seconds: float = Field(3600, gt=0, description="when to give up")
    busy_timeout: float = Field(30, ge=0, description="SQLite: how long to wait for a lock")
    hold_seconds: float = Field(10, ge=0, description="SQLite without a write-ahead log: how long writers may wait")
    programs: str = Field("", description="folder with redis-server; default: UPKEEP_REDIS_BIN, then PATH")


class RedisFacts(Model):
    """What a Redis server says of itself. `keys` counts by number of database."""

    version: str
    role: str
    keys: dict[str, int]
    used_memory: int
    loading: bool = False
    link_up: bool = Field(True, description="a replica: whether it hears its primary")
    last_save: datetime | None = None
    cluster: bool = Field(False, description="one node of a Redis Cluster, which holds a part of the keys")


class Refused(Model):
    """Why a server does not let itself be copied, and what to grant."""

    reason: Literal["privilege", "unsupported"]
    message: str
    hint: str


class Fetched(Model):
    """A backup that was fetched from the store, unpacked and compared with its proof."""

    path: str = Field(description="the file, as SQLite or Redis reads it")
    bytes: int
    manifest: CopyManifest
    seconds: float


class Copies(Protocol):
    """Makes and fetches copies; see `adapters.copy_maker`. Every method raises `UpkeepError`s."""

    def redis(self, conn_id: str) -> RedisFacts:
        """Ask a Redis server who it is."""
        ...

    def copy_sqlite(self, path: str, place: Place, options: CopyOptions, run_id: str, say: Say) -> Kept[CopyManifest]:
        """Copy a SQLite database that is in use into the store, with the proof of what it holds."""
        ...

    def copy_redis(
        self, conn_id: str, place: Place, options: CopyOptions, run_id: str, say: Say
    ) -> Kept[CopyManifest] | Refused:
        """Have a Redis server send its data as to a replica, and store them."""
        ...

    def fetch(self, place: Place, backup_id: str, folder: str) -> Fetched:
        """Fetch a backup into a folder and unpack it; compare with its proof whatever needs no server.

        :raises DamagedError: it is not what was written, and nothing is left in the folder.
        """
        ...
