"""A backup that is being made, whatever its kind: its id, its mark, its objects, and their removal when it fails."""

from __future__ import annotations

import contextlib
import secrets
import threading
from datetime import UTC, datetime

from upkeep.adapters import backup_marker
from upkeep.adapters.object_store import Store, read_bytes
from upkeep.core import backup as core
from upkeep.core.backup import AnyManifest, BaseManifest, Kept, Place, Tier
from upkeep.core.errors import DamagedError, TransientError, UpkeepError


def new_id(started: datetime) -> str:
    """Return the id of a backup that is begun now; ids of one second stand in the order in which they were begun."""
    return f"{started:%Y%m%dT%H%M%SZ}-{started.microsecond:05x}{secrets.randbelow(4096):03x}"


def read_manifest(store: Store, place: Place, backup_id: str) -> AnyManifest:
    """Read the manifest of a backup and check that it is this backup's.

    :raises DamagedError: it is missing, altered, or that of another backup.
    """
    key = f"{place.series}/{backup_id}/{core.MANIFEST}"
    manifest = core.decode(read_bytes(store, key), f"{store.location}/{key}")
    if (manifest.id, manifest.target, manifest.kind) != (backup_id, place.target, place.kind):
        raise DamagedError(
            f"{store.location}/{key} is the manifest of {manifest.target}/{manifest.id} ({manifest.kind})",
            "somebody moved objects",
        )
    return manifest


def _last_thing_last(key: str) -> int:
    """Order what is removed: the manifest, by which it is a backup, and in the end the mark of who made it."""
    name = key.rsplit("/", 1)[1]
    return -1 if name == core.MANIFEST else int(name == core.MARKER)


class Making:
    """Use as a context manager: until `finish`, leaving it removes what was stored, as far as the store is there."""

    def __init__(self, store: Store, place: Place, run_id: str, tier: Tier = "daily") -> None:
        self.store, self.place, self.run_id = store.for_tier(tier), place, run_id
        self.started = datetime.now(UTC)
        self.id = new_id(self.started)
        self.prefix = f"{place.series}/{self.id}"
        self._marker = backup_marker.ours(run_id, self.started)
        self._complete = False
        self._ended = threading.Event()
        self._pulse = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Making:
        self._mark()
        self._pulse.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end_pulse()
        if self._complete:
            return
        with contextlib.suppress(UpkeepError):  # the next try sweeps what cannot be removed now
            for upload in self.store.uploads(f"{self.prefix}/"):
                self.store.abort(upload)
            # The manifest first: a store may have taken it although it did not say so, and then be away again.
            keys = [item.key for item in self.store.list(f"{self.prefix}/")]
            self.store.delete(sorted(keys, key=_last_thing_last))

    def _beat(self) -> None:
        """Show, once a minute, that somebody works on this, however long a single step of it takes."""
        while not self._ended.wait(backup_marker.HEARTBEAT.total_seconds()):
            with contextlib.suppress(UpkeepError):  # whoever works meets the same trouble, and tells it
                self._mark()

    def _mark(self) -> None:
        self.store.write_bytes(f"{self.prefix}/{core.MARKER}", self._marker.encode())

    def _end_pulse(self) -> None:
        self._ended.set()
        if self._pulse.is_alive():
            self._pulse.join()

    def finish[M: BaseManifest](self, manifest: M) -> Kept[M]:
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
        # No mark may come back after it was taken away.
        self._end_pulse()
        # Before the manifest, which is locked as it is written: a backup is never one that can still be removed.
        self.store.lock([f"{self.prefix}/{f.name}" for f in manifest.files])
        self.store.write_bytes(f"{self.prefix}/{core.MANIFEST}", core.encode(manifest))
        self._complete = True
        with contextlib.suppress(UpkeepError):  # a mark beside a manifest does no harm
            self.store.delete([f"{self.prefix}/{core.MARKER}"])
        location = f"{self.store.location}/{self.prefix}"
        return Kept(manifest=manifest, location=location, manifest_sha256=manifest.sha256)
