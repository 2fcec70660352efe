"""Backups of PostgreSQL databases in a store; see `core.backup.Archiver`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from upkeep import __version__
from upkeep.adapters import (
    archive_check,
    backup_leftovers,
    backup_remove,
    backup_snapshot,
    backup_staging,
    object_store,
    pg_tools,
    tree_collect,
    tree_list,
)
from upkeep.adapters.backup_dump import Dump, Sender, expect_same
from upkeep.adapters.backup_making import Making, read_manifest
from upkeep.adapters.backup_snapshot import Snapshot
from upkeep.adapters.object_store import Store
from upkeep.adapters.pg_tools import Access, Programs
from upkeep.core import backup as core
from upkeep.core.backup import (
    AnyManifest,
    Check,
    Collected,
    Database,
    Kept,
    Leftover,
    Manifest,
    Options,
    Place,
    Removal,
    Say,
    Source,
    Stored,
)
from upkeep.core.targets import StoreRef


def make_archiver(conninfo: Callable[[str], str], store: Callable[[StoreRef], Store], scratch: Path) -> Archive:
    """Return the archiver of this worker.

    :param conninfo: turns an Airflow connection id into a libpq connection string.
    :param store: opens the store that a system file names; see `adapters.object_store.opener`.
    :param scratch: an existing folder for what is on its way; a dump's largest files must fit.
    """
    return Archive(conninfo, store, scratch)


class Archive:
    """Makes, lists, reads and sweeps backups."""

    def __init__(self, conninfo: Callable[[str], str], store: Callable[[StoreRef], Store], scratch: Path) -> None:
        self._conninfo, self._store, self._scratch = conninfo, object_store.once(store), scratch

    def source(self, database: Database) -> Source:
        """Ask the server who it is; the snapshot time is that of asking."""
        conninfo = backup_snapshot.conninfo_of(self._conninfo, database)
        with backup_snapshot.connect(conninfo) as connection, backup_snapshot.told(backup_snapshot.place_of(conninfo)):
            return backup_snapshot.read_source(connection)

    def stored(self, place: Place) -> tuple[Stored, ...]:
        """List what the store holds for a target, newest first, leftovers included."""
        return backup_leftovers.stored(self._store(place.store), place.series)

    def manifest(self, place: Place, backup_id: str) -> AnyManifest:
        """Read a manifest. :raises DamagedError: it is missing or altered."""
        return read_manifest(self._store(place.store), place, backup_id)

    def free_bytes(self) -> int:
        """Return the free space of the scratch folder."""
        return backup_staging.free_bytes(self._scratch)

    def leftovers(self, place: Place, run_id: str, patience: timedelta) -> tuple[Leftover, ...]:
        """List what tries that nobody works on any more have left behind."""
        store = self._store(place.store)
        found = backup_leftovers.abandoned(store, place.series, run_id, patience)
        return (*(leftover for leftover, _, _ in found), *backup_staging.abandoned(self._scratch, place.target))

    def sweep(self, place: Place, run_id: str, patience: timedelta) -> tuple[Leftover, ...]:
        """Remove the leftovers and return them."""
        folders = backup_staging.abandoned(self._scratch, place.target)
        for folder in folders:
            backup_staging.remove(self._scratch, folder)
        store = self._store(place.store)
        objects = backup_leftovers.sweep(store, place.series, run_id, patience)
        return (*objects, *folders)

    def remove(self, place: Place, backup_id: str, reason: str) -> Removal:
        """Remove a backup, or end its removal."""
        return backup_remove.remove(self._store(place.store), place.series, backup_id, reason)

    def removals(self, place: Place) -> tuple[Removal, ...]:
        """List the notes on removals."""
        return backup_remove.removals(self._store(place.store), place.series)

    def forget(self, place: Place, ids: Iterable[str]) -> int:
        """Take away the notes on removals that are complete, or that never came to be; return how many."""
        return backup_remove.forget(self._store(place.store), place.series, ids)

    def collect(self, place: Place, run_id: str, patience: timedelta, grace: timedelta) -> Collected:
        """Remove objects of a series of file trees that no backup refers to and that are older than `grace`."""
        store = self._store(place.store)
        return tree_collect.collect(store, place, run_id, contents=tree_list.contents, patience=patience, grace=grace)

    def backup(self, database: Database, place: Place, options: Options, run_id: str, say: Say) -> Kept[Manifest]:
        """Make a backup; what was stored of one that fails is removed as far as the store can be reached."""
        backup_staging.need(self._scratch, options.expected_bytes, "the dump")
        making = Making(self._store(place.store), place, run_id, options.tier)
        with backup_staging.staging(self._scratch, place.target, making.id) as folder:
            conninfo = backup_snapshot.conninfo_of(self._conninfo, database)
            snapshot = Snapshot(conninfo, options.fingerprint_jobs, options.lock_timeout)
            with snapshot, making:
                manifest = _dump(making, snapshot, conninfo=conninfo, folder=folder, options=options, say=say)
                return making.finish(manifest)

    def check(self, place: Place, backup_id: str, decode: bool, programs: str, say: Say) -> Check:
        """Re-read a stored backup from its store."""
        store = self._store(place.store)
        with backup_staging.staging(self._scratch, place.target, f"check-{backup_id}") as folder:
            return archive_check.check(
                store, place, backup_id, folder=folder, decode=decode, programs=programs, say=say
            )


def _dump(making: Making, snapshot: Snapshot, *, conninfo: str, folder: Path, options: Options, say: Say) -> Manifest:
    """Dump, prove and store everything but the manifest, and return that."""
    programs = pg_tools.find(snapshot.source.version_num, options.programs)
    reach = pg_tools.access(conninfo, f"{backup_snapshot.APPLICATION} pg_dump")
    compress = pg_tools.compression(programs, options.compression_level, options.long_window)
    sender = Sender(making.store, making.prefix, options.upload_jobs)
    dump = Dump(snapshot, sender, folder / "dump", say)
    try:
        dump.run(programs, reach, options, compress)
        contents = pg_tools.entries(programs, folder / "dump")
        expect_same(snapshot, {entry.oid for entry in contents if entry.kind == "TABLE DATA"})
        sequences = pg_tools.sequences(programs, folder / "dump", contents)
        roles = _keep_globals(programs, reach, folder, sender)
        files = sender.files()
    finally:
        sender.close()
    return Manifest(
        id=making.id,
        target=making.place.target,
        run_id=making.run_id,
        tier=options.tier,
        key_id=making.store.key_id,
        started=making.started,
        finished=datetime.now(UTC),
        source=snapshot.source,
        tools={"upkeep": __version__, "pg_dump": programs.version},
        settings={**options.model_dump(exclude={"programs", "expected_bytes"}), "compress": compress},
        files=files,
        tables=tuple(sorted(snapshot.proofs, key=lambda proof: proof.name)),
        sequences=sequences,
        large_objects=snapshot.large_objects,
        roles=roles,
        seconds=dump.seconds,
    )


def _keep_globals(programs: Programs, reach: Access, folder: Path, sender: Sender) -> str:
    """Keep roles and tablespaces beside the dump; return why not, empty when they are kept."""
    data, reason = pg_tools.globals_of(programs, reach)
    if not reason:
        path = folder / core.GLOBALS
        path.write_bytes(data)
        sender.send(path)
    return reason
