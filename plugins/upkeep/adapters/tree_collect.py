"""Removing the objects of a series of file trees that none of its backups refers to any more.

A backup that is being made relies on objects that are there already. So it and a collection keep out of each other's
way with marks: each sets its own first and looks for the other's then, so at least one of them sees the other and
gives way. A collection also spares what is young, for what a writer has just stored is in no manifest yet.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from upkeep.adapters import backup_leftovers, backup_marker
from upkeep.adapters.backup_making import read_manifest
from upkeep.adapters.object_store import Item, Store, read_bytes
from upkeep.core.backup import Collected, Place, TreeManifest
from upkeep.core.errors import ConfigurationError, DamagedError, LockedError, TransientError
from upkeep.core.tree import OBJECTS

COLLECTING = "collecting"
# A collection sets its mark anew before every batch; one that has been quiet for so long is dead.
_PATIENCE = timedelta(minutes=30)
_BATCH = 200

Contents = Callable[[Store, TreeManifest, str], set[str]]


def collect(
    store: Store, place: Place, run_id: str, *, contents: Contents, patience: timedelta, grace: timedelta
) -> Collected:
    """Remove what no backup refers to and what is older than `grace` by the store's clock.

    :param contents: returns the keys of the objects that a backup needs; see `tree_list.contents`.
    :param patience: how long an unfinished backup may be quiet before it counts as dead.
    """
    store.delete([item.key for item, alive in _collections(store, place.series) if not alive])
    mark = f"{place.series}/{COLLECTING}/{secrets.token_hex(4)}.json"

    def in_the_way() -> str:
        """Set the mark anew, then look whether somebody makes a backup."""
        store.write_bytes(mark, backup_marker.ours(run_id, datetime.now(UTC)).encode())
        # By the patience for any writer: a run's id is that of all its tasks, and a backup in it may be at work.
        alive = _at_work(store, place.series, patience)
        return f"backup {alive} is being made" if alive else ""

    try:
        if reason := in_the_way():
            return Collected(reason=reason)
        try:
            needed = _needed(store, place, contents)
        except (DamagedError, ConfigurationError) as error:  # a list is damaged, or encrypted by a key not at hand
            return Collected(reason=f"which objects a backup needs is unknown: {error.message}", unknown=True)
        if not needed:
            # So it looks as well when the volume of the store has just been unmounted.
            return Collected(reason="there is no whole backup that tells which objects it needs")
        return _sweep(store, place.series, needed, grace, in_the_way)
    finally:
        store.delete([mark])


def expect_no_collection(store: Store, series: str) -> None:
    """Give way to a collection at work.

    Whoever makes a backup asks this when its own mark is set, and before it relies on any object that is there.

    :raises TransientError: objects are being removed this moment.
    """
    if any(alive for _, alive in _collections(store, series)):
        raise TransientError(
            f"{store.location}/{series}: objects that no backup needs are being removed", "it is tried again"
        )


def _collections(store: Store, series: str) -> Iterator[tuple[Item, bool]]:
    """Yield the marks of collections, each with whether it may be at work."""
    for item in list(store.list(f"{series}/{COLLECTING}/")):
        try:
            marker = backup_marker.read(read_bytes(store, item.key, limit=1 << 16))
        except DamagedError:  # it ended a moment ago
            continue
        yield item, not backup_marker.verdict(marker, store.now() - item.modified, "", _PATIENCE)


def _at_work(store: Store, series: str, patience: timedelta) -> str:
    """Return the id of a backup that somebody is making; empty: nobody is."""
    dead = {left.name for left, _, _ in backup_leftovers.abandoned(store, series, "", patience)}
    there = backup_leftovers.stored(store, series)
    return next((s.id for s in there if not s.complete and s.id not in dead), "")


def _needed(store: Store, place: Place, contents: Contents) -> set[str]:
    """Return the keys of all objects that any backup of the series refers to.

    :raises DamagedError, ConfigurationError: one of them cannot tell.
    """
    needed: set[str] = set()
    for there in backup_leftovers.stored(store, place.series):
        if there.complete:
            manifest = read_manifest(store, place, there.id)
            assert isinstance(manifest, TreeManifest)  # `read_manifest` has compared the kind
            needed |= contents(store, manifest, f"{place.series}/{there.id}")
    return needed


def _sweep(store: Store, series: str, needed: set[str], grace: timedelta, in_the_way: Callable[[], str]) -> Collected:
    now = store.now()
    kept, waiting, unneeded = 0, 0, list[Item]()
    for item in store.list(f"{series}/{OBJECTS}/"):
        if item.key in needed:
            kept += 1
        elif now - item.modified <= grace:
            waiting += 1
        else:
            unneeded.append(item)
    removed, locked, reason = list[Item](), 0, ""
    for number, item in enumerate(unneeded):
        if number % _BATCH == 0 and (reason := in_the_way()):
            break
        try:
            store.delete([item.key])
        except LockedError:
            locked += 1
            continue
        removed.append(item)
    freed = sum(item.size for item in removed)
    return Collected(objects=len(removed), bytes=freed, waiting=waiting, locked=locked, kept=kept, reason=reason)
