"""Backups of SQLite and Redis databases on this worker; see `core.copies.Copies`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from upkeep.adapters import copy_redis, copy_restore, copy_sqlite, object_store, redis_line
from upkeep.adapters.backup_making import Making
from upkeep.adapters.object_store import Store
from upkeep.core.backup import CopyManifest, Kept, Place, Say
from upkeep.core.copies import CopyOptions, Fetched, RedisFacts, Refused
from upkeep.core.targets import StoreRef


class CopyMaker:
    """Makes and fetches copies.

    :param connection: gives the Airflow connection of an id.
    :param store: opens the store that a system file names.
    :param scratch: an existing folder; a copy and its packed form must fit.
    """

    def __init__(self, connection: Callable[[str], Any], store: Callable[[StoreRef], Store], scratch: Path) -> None:
        self._connection, self._store, self._scratch = connection, object_store.once(store), scratch

    def redis(self, conn_id: str) -> RedisFacts:
        """Ask a Redis server who it is."""
        return redis_line.facts(redis_line.options(self._connection(conn_id)))

    def copy_sqlite(self, path: str, place: Place, options: CopyOptions, run_id: str, say: Say) -> Kept[CopyManifest]:
        """Copy a SQLite database that is in use into the store, with the proof of what it holds."""
        making = Making(self._store(place.store), place, run_id, options.tier)
        return copy_sqlite.copy(path, making, options, self._scratch, say)

    def copy_redis(
        self, conn_id: str, place: Place, options: CopyOptions, run_id: str, say: Say
    ) -> Kept[CopyManifest] | Refused:
        """Have a Redis server send its data as to a replica, and store them."""
        given = redis_line.options(self._connection(conn_id))
        making = Making(self._store(place.store), place, run_id, options.tier)
        return copy_redis.copy(given, making, options, self._scratch, say)

    def fetch(self, place: Place, backup_id: str, folder: str) -> Fetched:
        """Fetch a backup into a folder and unpack it; compare with its proof whatever needs no server."""
        return copy_restore.fetch(self._store(place.store), place, backup_id, Path(folder))
