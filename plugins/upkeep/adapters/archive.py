"""Backups of PostgreSQL databases in a store; see `core.backup.Archiver`."""

from __future__ import annotations

import contextlib
import functools
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from upkeep import __version__
from upkeep.adapters import (
    archive_check,
    backup_leftovers,
    backup_marker,
    backup_snapshot,
    backup_staging,
    object_store,
    pg_tools,
)
from upkeep.adapters.backup_dump import Dump, Sender, expect_same
from upkeep.adapters.backup_snapshot import Snapshot
from upkeep.adapters.object_store import Store
from upkeep.adapters.pg_tools import Access, Programs
from upkeep.core import backup as core
from upkeep.core.backup import Check, Database, Kept, Leftover, Manifest, Options, Place, Say, Source, Stored
from upkeep.core.errors import DamagedError, TransientError, UpkeepError
from upkeep.core.system import StoreRef


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
        # A client for S3 takes a tenth of a second to make; threads may share it.
        self._conninfo, self._store, self._scratch = conninfo, functools.cache(store), scratch

    def source(self, database: Database) -> Source:
        """Ask the server who it is; the snapshot time is that of asking."""
        conninfo = backup_snapshot.conninfo_of(self._conninfo, database)
        with backup_snapshot.connect(conninfo) as connection, backup_snapshot.told(backup_snapshot.place_of(conninfo)):
            return backup_snapshot.read_source(connection)

    def stored(self, place: Place) -> tuple[Stored, ...]:
        """List what the store holds for a target, newest first, leftovers included."""
        return backup_leftovers.stored(self._store(place.store), place.target)

    def manifest(self, place: Place, backup_id: str) -> Manifest:
        """Read a manifest. :raises DamagedError: it is missing or altered."""
        return read_manifest(self._store(place.store), place.target, backup_id)

    def free_bytes(self) -> int:
        """Return the free space of the scratch folder."""
        return backup_staging.free_bytes(self._scratch)

    def leftovers(self, place: Place, run_id: str, patience: timedelta) -> tuple[Leftover, ...]:
        """List what tries that nobody works on any more have left behind."""
        store = self._store(place.store)
        found = backup_leftovers.abandoned(store, place.target, run_id, patience)
        return (*(leftover for leftover, _, _ in found), *backup_staging.abandoned(self._scratch, place.target))

    def sweep(self, place: Place, run_id: str, patience: timedelta) -> tuple[Leftover, ...]:
        """Remove the leftovers and return them."""
        folders = backup_staging.abandoned(self._scratch, place.target)
        for folder in folders:
            backup_staging.remove(self._scratch, folder)
        store = self._store(place.store)
        objects = backup_leftovers.sweep(store, place.target, run_id, patience)
        return (*objects, *folders)

    def backup(self, database: Database, place: Place, options: Options, run_id: str, say: Say) -> Kept:
        """Make a backup; what was stored of one that fails is removed as far as the store can be reached."""
        started = datetime.now(UTC)
        # Microseconds first: ids of one second stand in the order in which they were begun.
        backup_id = f"{started:%Y%m%dT%H%M%SZ}-{started.microsecond:05x}{secrets.randbelow(4096):03x}"
        store = self._store(place.store)
        backup_staging.need(self._scratch, options.expected_bytes, "the dump")
        making = Making(store, f"{place.target}/{backup_id}", backup_marker.ours(run_id, started))
        with backup_staging.staging(self._scratch, place.target, backup_id) as folder:
            conninfo = backup_snapshot.conninfo_of(self._conninfo, database)
            snapshot = Snapshot(conninfo, options.fingerprint_jobs, options.lock_timeout)
            with snapshot, making:
                manifest = making.make(
                    snapshot, conninfo=conninfo, folder=folder, options=options, target=place.target, say=say
                )
                encoded = core.encode(manifest)
                making.finish(manifest, encoded)
        return Kept(manifest=manifest, location=f"{store.location}/{making.prefix}", manifest_sha256=manifest.sha256)

    def check(self, place: Place, backup_id: str, decode: bool, programs: str, say: Say) -> Check:
        """Re-read a stored backup from its store."""
        store = self._store(place.store)
        with backup_staging.staging(self._scratch, place.target, f"check-{backup_id}") as folder:
            return archive_check.check(
                store, place.target, backup_id, folder=folder, decode=decode, programs=programs, say=say
            )


def read_manifest(store: Store, target: str, backup_id: str) -> Manifest:
    """Read the manifest of a backup and check that it is this backup's.

    :raises DamagedError: it is missing, altered, or that of another backup.
    """
    key = f"{target}/{backup_id}/{core.MANIFEST}"
    manifest = core.decode(object_store.read_bytes(store, key), f"{store.location}/{key}")
    if (manifest.id, manifest.target) != (backup_id, target):
        raise DamagedError(
            f"{store.location}/{key} is the manifest of {manifest.target}/{manifest.id}", "somebody moved objects"
        )
    return manifest


class Making:
    """A backup that is being made: its mark, its objects, and their removal when it fails."""

    def __init__(self, store: Store, prefix: str, marker: backup_marker.Marker) -> None:
        self.store, self.prefix, self._marker = store, prefix, marker
        self._beaten = 0.0
        self._complete = False

    def __enter__(self) -> Making:
        self.beat()
        return self

    def __exit__(self, *_: object) -> None:
        if self._complete:
            return
        with contextlib.suppress(UpkeepError):  # the next try sweeps what cannot be removed now
            for upload in self.store.uploads(f"{self.prefix}/"):
                self.store.abort(upload)
            self.store.delete([item.key for item in self.store.list(f"{self.prefix}/")])

    def beat(self) -> None:
        """Show, once a minute, that somebody works on this."""
        if not self._beaten or time.monotonic() - self._beaten > backup_marker.HEARTBEAT.total_seconds():
            self.store.write_bytes(f"{self.prefix}/{core.MARKER}", self._marker.encode())
            self._beaten = time.monotonic()

    def make(
        self, snapshot: Snapshot, *, conninfo: str, folder: Path, options: Options, target: str, say: Say
    ) -> Manifest:
        """Dump, prove and store everything but the manifest, and return that."""
        programs = pg_tools.find(snapshot.source.version_num, options.programs)
        reach = pg_tools.access(conninfo, f"{backup_snapshot.APPLICATION} pg_dump")
        compress = pg_tools.compression(programs, options.compression_level, options.long_window)
        sender = Sender(self.store, self.prefix, options.upload_jobs)
        dump = Dump(snapshot, sender, folder / "dump", say, self.beat)
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
            id=self.prefix.rsplit("/", 1)[1],
            target=target,
            run_id=self._marker.run_id,
            started=self._marker.started,
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

    def finish(self, manifest: Manifest, encoded: bytes) -> None:
        """Make it a backup: see that everything is there, write the manifest, take the mark away.

        :raises TransientError: objects are missing; somebody took this writer for dead and removed them.
        """
        there = {item.key.rsplit("/", 1)[1]: item.size for item in self.store.list(f"{self.prefix}/")}
        missing = [f.name for f in manifest.files if there.get(f.name) != f.size]
        if missing or core.MARKER not in there:
            raise TransientError(
                f"{self.store.location}/{self.prefix}: {len(missing)} of {len(manifest.files)} files are not there"
                f" as they were written (first: {missing[0] if missing else core.MARKER})",
                "somebody removed them while they were written; it is tried again",
            )
        self.store.write_bytes(f"{self.prefix}/{core.MANIFEST}", encoded)
        self._complete = True
        with contextlib.suppress(UpkeepError):  # a mark beside a manifest does no harm
            self.store.delete([f"{self.prefix}/{core.MARKER}"])


def _keep_globals(programs: Programs, reach: Access, folder: Path, sender: Sender) -> str:
    """Keep roles and tablespaces beside the dump; return why not, empty when they are kept."""
    data, reason = pg_tools.globals_of(programs, reach)
    if not reason:
        path = folder / core.GLOBALS
        path.write_bytes(data)
        sender.send(path)
    return reason
