"""What lies in the store for a target: backups, and what tries that did not finish have left behind."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime, timedelta
from typing import NamedTuple

from upkeep.adapters import backup_marker
from upkeep.adapters.backup_marker import Marker
from upkeep.adapters.object_store import Item, Store, Upload, read_bytes
from upkeep.core.backup import ID_PATTERN, MANIFEST, MARKER, TOMBSTONE, Leftover, Stored
from upkeep.core.errors import DamagedError, LockedError

_ID = re.compile(ID_PATTERN)


class Heap(NamedTuple):
    """The objects below one backup id."""

    id: str
    items: list[Item]

    @property
    def complete(self) -> bool:
        """Whether the manifest is there."""
        return any(item.key.endswith(f"{self.id}/{MANIFEST}") for item in self.items)

    @property
    def marker(self) -> Item | None:
        """The mark of the one who writes."""
        return next((item for item in self.items if item.key.endswith(f"{self.id}/{MARKER}")), None)

    @property
    def tombstone(self) -> Item | None:
        """The note that it is being removed, or was."""
        return next((item for item in self.items if item.key.endswith(f"{self.id}/{TOMBSTONE}")), None)

    @property
    def modified(self) -> datetime:
        """Time of the last change of any of them."""
        return max(item.modified for item in self.items)


def heaps(store: Store, target: str) -> list[Heap]:
    """List everything below a target by backup id, newest first; keys of any other shape are not ours."""
    found: dict[str, list[Item]] = defaultdict(list)
    for item in store.list(f"{target}/"):
        backup_id = item.key.removeprefix(f"{target}/").split("/", 1)[0]
        if _ID.match(backup_id) and item.key.startswith(f"{target}/{backup_id}/"):
            found[backup_id].append(item)
    return [Heap(backup_id, found[backup_id]) for backup_id in sorted(found, reverse=True)]


def stored(store: Store, target: str) -> tuple[Stored, ...]:
    """Tell what lies there, newest first; what was removed, and of which only the note of that is left, does not."""
    return tuple(
        Stored(
            id=heap.id,
            complete=heap.complete,
            objects=len(heap.items),
            size_bytes=sum(i.size for i in heap.items if not i.key.endswith((MANIFEST, MARKER, TOMBSTONE))),
            modified=heap.modified,
        )
        for heap in heaps(store, target)
        if heap.items != [heap.tombstone]
    )


def abandoned(
    store: Store, target: str, run_id: str, patience: timedelta
) -> list[tuple[Leftover, list[str], list[Upload]]]:
    """List leftovers whose writer is dead, each with its keys (mark last) and unfinished uploads.

    A backup with a manifest is not looked at, whatever else lies beside it. Ages are measured
    with the store's own clock: this machine's may be wrong. What was begun to be removed is a
    leftover at once; the note of its removal is none, for retention still has to put that on record.
    """
    seen, now = heaps(store, target), store.now()
    pending: dict[str, list[Upload]] = defaultdict(list)
    for upload in store.uploads(f"{target}/"):
        backup_id = upload.key.removeprefix(f"{target}/").split("/", 1)[0]
        if _ID.match(backup_id):
            pending[backup_id].append(upload)
    found = []
    for heap in seen:
        uploads = pending.pop(heap.id, [])
        changed = max([heap.modified, *(u.started for u in uploads)])
        items = [item for item in heap.items if item != heap.tombstone]
        if heap.complete or not (items or uploads):
            continue
        reason = (
            "its removal was not completed"
            if heap.tombstone
            else backup_marker.verdict(_mark(store, heap), now - changed, run_id, patience)
        )
        if reason:
            size = sum(item.size for item in items)
            keys = sorted((item.key for item in items), key=lambda key: key.endswith(MARKER))
            found.append((Leftover(kind="objects", name=heap.id, bytes=size, reason=reason), keys, uploads))
    for backup_id, uploads in pending.items():
        reason = backup_marker.verdict(None, now - max(u.started for u in uploads), run_id, patience)
        if reason:
            found.append((Leftover(kind="upload", name=backup_id, reason=reason), [], uploads))
    return found


def sweep(store: Store, target: str, run_id: str, patience: timedelta) -> list[Leftover]:
    """Remove leftovers whose writer is dead; return them."""
    removed = []
    for leftover, keys, uploads in abandoned(store, target, run_id, patience):
        # Asked again right before: nothing that has become a backup meanwhile is touched.
        if any(item.key.endswith(f"/{MANIFEST}") for item in store.list(f"{target}/{leftover.name}/")):
            continue
        for upload in uploads:
            store.abort(upload)
        try:
            store.delete(keys)
        except LockedError:  # killed between the locks and the manifest: it goes when they have run out
            continue
        removed.append(leftover)
    return removed


def _mark(store: Store, heap: Heap) -> Marker | None:
    if heap.marker is None:
        return None
    try:
        return backup_marker.read(read_bytes(store, heap.marker.key, limit=1 << 16))
    except DamagedError:
        return None
