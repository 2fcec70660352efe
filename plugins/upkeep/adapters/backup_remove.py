"""Removing a backup, so that at every moment it is either whole or no backup at all.

First a note of the removal is written beside the files (`removed.json`), then the manifest goes, then the files. Killed
before the manifest is gone, it is a whole backup still; killed after, it is a leftover that the note marks, which the
next sweep or removal clears at once. The note stays until retention has seen that the ledger knows.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from datetime import datetime

import pydantic

from upkeep.adapters.backup_leftovers import Heap, heaps
from upkeep.adapters.object_store import Store, read_bytes
from upkeep.core.backup import MANIFEST, MARKER, TOMBSTONE, Removal
from upkeep.core.errors import DamagedError, LockedError
from upkeep.core.model import Model


class Note(Model):
    """What the note of a removal says; `at` by the store's clock."""

    id: str
    reason: str
    at: datetime


def remove(store: Store, series: str, backup_id: str, reason: str) -> Removal:
    """Remove a backup, or go on where an earlier removal was cut off; anything else is left alone.

    :raises LockedError: the store does not let go of it yet; it is whole still, or what is left of it goes later.
    :raises UpkeepError: the store does not serve.
    """
    heap = _heap(store, series, backup_id)
    if heap.tombstone is None and not heap.complete:
        # Nothing is there, or somebody is making it this very moment.
        return Removal(id=backup_id, reason=reason, at=store.now(), whole=False, objects=0, bytes=0)
    if heap.tombstone is None:
        note = Note(id=backup_id, reason=reason, at=store.now())
        store.write_bytes(f"{series}/{backup_id}/{TOMBSTONE}", json.dumps(note.model_dump(mode="json")).encode())
    try:
        store.delete([f"{series}/{backup_id}/{MANIFEST}"])
    except LockedError:
        with contextlib.suppress(LockedError):  # a bucket may lock whatever is written to it
            store.delete([f"{series}/{backup_id}/{TOMBSTONE}"])
        raise
    rest = [item for item in heap.items if not item.key.endswith((f"/{MANIFEST}", f"/{TOMBSTONE}"))]
    store.delete(sorted((item.key for item in rest), key=lambda key: key.endswith(MARKER)))
    for upload in store.uploads(f"{series}/{backup_id}/"):
        store.abort(upload)
    freed = sum(item.size for item in rest)
    return Removal(id=backup_id, reason=reason, at=store.now(), whole=False, objects=len(rest), bytes=freed)


def removals(store: Store, series: str) -> tuple[Removal, ...]:
    """List the notes on removals, newest backup first."""
    found = []
    for heap in heaps(store, series):
        if heap.tombstone is None:
            continue
        rest = [item for item in heap.items if item != heap.tombstone and not item.key.endswith(f"/{MANIFEST}")]
        note = _read(store, heap)
        found.append(
            Removal(
                id=heap.id,
                reason=note.reason,
                at=note.at,
                whole=heap.complete,
                objects=len(rest),
                bytes=sum(item.size for item in rest),
            )
        )
    return tuple(found)


def forget(store: Store, series: str, ids: Iterable[str]) -> int:
    """Take away notes, unless they mark what is left of a removal; return how many."""
    count = 0
    for backup_id in ids:
        heap = _heap(store, series, backup_id)
        if heap.tombstone is not None and (heap.complete or len(heap.items) == 1):
            store.delete([heap.tombstone.key])
            count += 1
    return count


def _heap(store: Store, series: str, backup_id: str) -> Heap:
    return Heap(backup_id, list(store.list(f"{series}/{backup_id}/")))


def _read(store: Store, heap: Heap) -> Note:
    """Read a note; one that cannot be read marks its folder all the same."""
    assert heap.tombstone is not None
    try:
        return Note.model_validate_json(read_bytes(store, heap.tombstone.key, limit=1 << 16))
    except (DamagedError, pydantic.ValidationError):
        return Note(id=heap.id, reason="unknown: the note of its removal cannot be read", at=heap.tombstone.modified)
