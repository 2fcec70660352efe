"""Backups of trees of files; see `core.tree.Trees`.

Each backup is complete on its own: a list of everything, and the objects it names. A file that has not been touched
since the backup before (size, mtime, ctime, inode) is not read again, and its content is not stored again, as long as
the store still lists the object with its size; every so often everything is read, for a disk may alter files silently.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from upkeep import __version__
from upkeep.adapters import (
    backup_staging,
    object_store,
    tree_collect,
    tree_list,
    tree_read,
    tree_restore,
    tree_scan,
)
from upkeep.adapters.backup_leftovers import Heap, heaps
from upkeep.adapters.backup_making import Making, read_manifest
from upkeep.adapters.object_store import Store
from upkeep.adapters.tree_read import Content
from upkeep.adapters.tree_scan import Found, Scan
from upkeep.adapters.tree_store import SMALL, Packer, Stretch, Uploads
from upkeep.core.backup import Leftover, Place, Progress, Say, TreeManifest
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError
from upkeep.core.targets import StoreRef
from upkeep.core.tree import (
    OBJECTS,
    Comparison,
    Entry,
    FileSet,
    Look,
    Restored,
    Taken,
    TreeOptions,
    list_sha256,
    shown,
)

_SHOWN = 20
_EMPTY = hashlib.sha256(b"").hexdigest()
# A file that was touched so shortly before it was read may be touched again without any of its times changing.
_RACY_NS = 2_000_000_000
# A pack of which less is still in use is given up: its files are stored anew, and it goes when older backups go.
_LIVE = 0.5


def make_trees(store: Callable[[StoreRef], Store], scratch: Path) -> TreeArchive:
    """Return what backs up trees on this worker.

    :param store: opens the store that a system file names; see `adapters.object_store.opener`.
    :param scratch: an existing folder; the largest files must fit, as many as are uploaded at a time.
    """
    return TreeArchive(store, scratch)


class TreeArchive:
    """Backs trees of files up and restores them."""

    def __init__(self, store: Callable[[StoreRef], Store], scratch: Path) -> None:
        self._store, self._scratch = object_store.once(store), scratch

    def look(self, files: FileSet) -> Look:
        """Count what would be backed up."""
        seen = tree_scan.scan(files)
        regular = [f for f in seen.found if stat.S_ISREG(f.stat.st_mode)]
        first = {(f.stat.st_dev, f.stat.st_ino): f.stat.st_size for f in regular}
        return Look(
            entries=dict(Counter(_kind(found) for found in seen.found)),
            total_bytes=sum(first.values()),
            skipped=seen.skipped,
            unmatched=seen.unmatched,
            idle=seen.idle,
            vanished=seen.vanished,
            unreadable=_told(files, seen.unreadable),
            unreadable_count=len(seen.unreadable),
        )

    def last(self, place: Place) -> TreeManifest | None:
        """Return the newest backup's manifest that can be read."""
        store = self._store(place.store)
        return _newest(store, place, heaps(store, place.series))

    def leftovers(self, place: Place, patience: timedelta) -> tuple[Leftover, ...]:
        """List uploads of objects that nobody has completed for so long."""
        return tuple(leftover for leftover, _ in self._stale(place, patience))

    def sweep(self, place: Place, patience: timedelta) -> tuple[Leftover, ...]:
        """Remove these uploads."""
        found = self._stale(place, patience)
        for _, remove in found:
            remove()
        return tuple(leftover for leftover, _ in found)

    def backup(self, files: FileSet, place: Place, options: TreeOptions, run_id: str, say: Say) -> Taken:
        """Make a backup; what only this one would need and was stored is collected later when it fails."""
        if files.secret and not place.store.key_conn_id:
            raise ConfigurationError(
                f"{place.target} is secret, and its store {place.store.url} does not encrypt",
                "add `key_conn_id: <connection with the keys>` to the store in the system file",
            )
        store = self._store(place.store)
        making = Making(store, place, run_id, options.tier)
        with backup_staging.staging(self._scratch, place.target, making.id) as folder, making:
            return _Backup(making, files, options, folder, say).run()

    def restore(self, place: Place, backup_id: str, into: Path, paths: tuple[str, ...], say: Say) -> Restored:
        """Restore a backup, or some names of it and what lies below them, into an empty folder."""
        store = self._store(place.store)
        return tree_restore.restore(store, _read(store, place, backup_id), f"{place.series}/{backup_id}",
                                    into=into, paths=paths, say=say)  # fmt: skip

    def compare(self, place: Place, backup_id: str, folder: Path) -> Comparison:
        """Tell how a folder differs from a backup."""
        store = self._store(place.store)
        manifest = _read(store, place, backup_id)
        return tree_restore.compare(folder, tree_list.read(store, manifest, f"{place.series}/{backup_id}")[1])

    def _stale(self, place: Place, patience: timedelta) -> list[tuple[Leftover, Callable[[], None]]]:
        store = self._store(place.store)
        now, found = store.now(), list[tuple[Leftover, Callable[[], None]]]()
        for upload in store.uploads(f"{place.series}/{OBJECTS}/"):
            if now - upload.started > patience:
                reason = f"nobody completed it since {upload.started:%Y-%m-%d %H:%M} UTC"
                name = f"{OBJECTS}/{upload.key.rsplit('/', 1)[1]}"
                left = Leftover(kind="upload", name=name, reason=reason)
                found.append((left, lambda upload=upload: store.abort(upload)))  # type: ignore[misc]
        return found


class _Before(NamedTuple):
    """The backup before: its entries by absolute name, the objects to rely on, and when everything was read."""

    entries: dict[str, Entry]
    usable: dict[str, int]
    lost: int
    read_all: datetime | None


class _Backup:
    """One backup of one tree."""

    def __init__(self, making: Making, files: FileSet, options: TreeOptions, folder: Path, say: Say) -> None:
        self._making, self._files, self._options = making, files, options
        self._folder, self._say_to = folder, say
        self._entries: list[Entry] = []
        self._placed: dict[str, Stretch] = {_EMPTY: Stretch("", 0, 0)}
        self._first: dict[tuple[int, int], str] = {}
        self._vanished = self._changed = self._altered = self._read_bytes = 0
        self._unreadable: list[str] = []
        self._begun = time.monotonic()

    def run(self) -> Taken:
        """Look, read, store; the manifest comes last."""
        making, store = self._making, self._making.store
        tree_collect.expect_no_collection(store, making.place.series)
        listed = {item.key: item.size for item in store.list(f"{making.place.series}/{OBJECTS}/")}
        seen = tree_scan.scan(self._files)
        before = self._before(seen, {key.rsplit("/", 1)[1]: size for key, size in listed.items()})
        full = before.read_all is None or making.started - before.read_all >= self._options.reread
        looked = time.monotonic()
        with Uploads(store, making.place.series, self._options.upload_jobs, before.usable) as uploads:
            packer = Packer(uploads, self._placed.__setitem__)
            self._take_all(seen, before, full, uploads, packer)
            packer.flush()
            uploads.drain()
        self._entries = [self._at_its_place(entry) for entry in self._entries]
        seconds = {"look": looked - self._begun, "store": time.monotonic() - looked}
        manifest = self._manifest(seen, before, full, uploads.new, seconds)
        return Taken(kept=making.finish(manifest), unreadable=_told(self._files, [*seen.unreadable, *self._unreadable]))

    def _before(self, seen: Scan, there: dict[str, int]) -> _Before:
        """Read the list of the backup before, and tell which of its objects may be used again.

        After a change of the key everything is stored anew: a backup then needs one key only. And when what is there
        was found damaged: a list tells names and sizes, so that every new backup would rely on the damaged object.
        """
        if self._options.distrust:
            return _Before({}, {}, 0, None)
        store, place = self._making.store, self._making.place
        fresh = _Before({}, {} if store.key_id else there, 0, None)
        try:
            manifest = _newest(store, place, heaps(store, place.series))
            if manifest is None or manifest.key_id != store.key_id:
                return fresh
            base, listed = tree_list.read(store, manifest, f"{place.series}/{manifest.id}")
        except (DamagedError, ConfigurationError):
            return fresh
        said = {entry.object: entry.object_bytes for entry in listed if entry.object}
        lost = [name for name, size in said.items() if there.get(name) != size]
        entries = {f"{base}/{entry.name}": entry for entry in listed}
        kept = {name: size for name, size in said.items() if there.get(name) == size}
        usable = kept if store.key_id else {name: size for name, size in there.items() if name not in lost}
        for name in _dying(seen, entries, kept):
            usable.pop(name)
        self._placed |= {
            e.sha256: Stretch(e.object, e.offset, e.object_bytes)
            for e in listed
            if e.type == "f" and e.object in usable and not e.data
        }
        return _Before(entries, usable, len(lost), manifest.read_all)

    def _take_all(self, seen: Scan, before: _Before, full: bool, uploads: Uploads, packer: Packer) -> None:
        total = sum(found.stat.st_size for found in seen.found if stat.S_ISREG(found.stat.st_mode))
        done = 0
        for number, found in enumerate(seen.found, 1):
            if stat.S_ISREG(found.stat.st_mode):
                self._file(found, self._untouched(seen, found, before), full, uploads, packer)
                done += found.stat.st_size
            else:
                self._entries.append(_bare(found))
            if number % 100 == 0 or number == len(seen.found) or found.stat.st_size > SMALL:
                self._say(number, len(seen.found), done, total, sum(uploads.new.values()))

    def _untouched(self, seen: Scan, found: Found, before: _Before) -> Entry | None:
        was = before.entries.get(f"{seen.base}/{found.name}")
        if was is None or was.type != "f" or (was.object and was.object not in before.usable):
            return None
        now = found.stat
        same = (was.size, was.mtime_ns, was.ctime_ns, was.ino) == (
            now.st_size,
            now.st_mtime_ns,
            now.st_ctime_ns,
            now.st_ino,
        )
        return was if same else None

    def _file(self, found: Found, was: Entry | None, full: bool, uploads: Uploads, packer: Packer) -> None:
        key = (found.stat.st_dev, found.stat.st_ino)
        if found.stat.st_nlink > 1 and key in self._first:
            self._entries.append(_bare(found)._replace(type="h", target=self._first[key]))
            return
        if was is not None and not full:
            self._entries.append(was._replace(name=found.name, **_attributes(found.stat)))
        else:
            content = self._read(found)
            if content is None:
                return
            # Another file may have taken the name since the look: further names are not of that one.
            key = (content.stat.st_dev, content.stat.st_ino)
            # Its times say that nobody has written to it since: a disk that forgets, or somebody who hides.
            self._altered += was is not None and content.steady and content.sha256 != was.sha256
            self._entries.append(self._store(found, content, uploads, packer))
        self._first[key] = found.name

    def _read(self, found: Found) -> Content | None:
        try:
            content = tree_read.read(found, self._folder / f"{len(self._entries)}")
        except OSError as error:
            if tree_read.vanished(error):
                self._vanished += 1
            else:
                self._unreadable.append(found.name)
            return None
        self._changed += not content.steady
        self._read_bytes += content.stored_bytes
        return content

    def _store(self, found: Found, content: Content, uploads: Uploads, packer: Packer) -> Entry:
        """See that a content is stored, and return the file's entry; where it lies may be known only later."""
        entry = _entry(found, content)
        if content.data:
            if not content.stored_bytes:
                return entry
            name = uploads.put(content.stored_sha256, content.stored_bytes, content.held)
            return entry._replace(object=name, object_bytes=content.stored_bytes)
        if content.sha256 in self._placed:
            if isinstance(content.held, Path):
                content.held.unlink()
        elif isinstance(content.held, bytes) and content.size < SMALL:
            packer.add(content.sha256, content.held)
        else:
            name = uploads.put(content.sha256, content.size, content.held)
            self._placed[content.sha256] = Stretch(name, 0, content.size)
        return entry

    def _at_its_place(self, entry: Entry) -> Entry:
        """Complete an entry whose content was put into a pack, or lay somewhere already."""
        if entry.type != "f" or entry.data or entry.object:
            return entry
        lies = self._placed[entry.sha256]
        return entry._replace(object=lies.object, offset=lies.offset, object_bytes=lies.object_bytes)

    def _manifest(
        self, seen: Scan, before: _Before, full: bool, new: dict[str, int], seconds: dict[str, float]
    ) -> TreeManifest:
        making, self._entries = self._making, _with_parents(self._entries)
        used = {entry.object: entry.object_bytes for entry in self._entries if entry.object}
        file = tree_list.write(making.store, making.prefix, seen.base, self._entries)
        self._see_all_there(used)
        making.store.lock([tree_list.key_of(making.place.series, name) for name in used])
        return TreeManifest(
            id=making.id,
            target=making.place.target,
            run_id=making.run_id,
            tier=self._options.tier,
            key_id=making.store.key_id,
            started=making.started,
            finished=datetime.now(UTC),
            tools={"upkeep": __version__},
            settings=self._options.model_dump(mode="json"),
            files=(file,),
            seconds=seconds,
            entries=dict(Counter(entry.kind for entry in self._entries)),
            total_bytes=sum(entry.size for entry in self._entries if entry.type == "f"),
            objects=len(used),
            object_bytes=sum(used.values()),
            new_objects=len(new),
            new_bytes=sum(new.values()),
            read_bytes=self._read_bytes,
            list_sha256=list_sha256(self._entries),
            vanished=self._vanished + seen.vanished,
            changed=self._changed,
            unreadable=len(seen.unreadable) + len(self._unreadable),
            skipped=seen.skipped,
            lost=before.lost,
            altered=self._altered,
            read_all=making.started if full or before.read_all is None else before.read_all,
            secret=self._files.secret,
        )

    def _see_all_there(self, used: dict[str, int]) -> None:
        """See that nobody removed an object between our first look at the store and now.

        :raises TransientError: objects are missing.
        """
        store, series = self._making.store, self._making.place.series
        listed = {item.key: item.size for item in store.list(f"{series}/{OBJECTS}/")}
        missing = [n for n, size in used.items() if listed.get(tree_list.key_of(series, n)) != size]
        if missing:
            raise TransientError(
                f"{store.location}/{series}/{OBJECTS}: {len(missing)} of {len(used)} objects are not there as they were"
                f" written or seen before (first: {missing[0]})",
                "somebody removed them meanwhile; it is tried again",
            )

    def _say(self, done: int, total: int, bytes_done: int, bytes_total: int, stored: int) -> None:
        self._say_to(
            Progress(
                phase="read",
                done=done,
                total=total,
                bytes_done=bytes_done,
                bytes_total=bytes_total,
                stored_bytes=stored,
                seconds=time.monotonic() - self._begun,
            )
        )


def _newest(store: Store, place: Place, seen: list[Heap]) -> TreeManifest | None:
    for heap in seen:
        if heap.complete:
            try:
                return _read(store, place, heap.id)
            except DamagedError:
                continue
    return None


def _read(store: Store, place: Place, backup_id: str) -> TreeManifest:
    manifest = read_manifest(store, place, backup_id)
    if not isinstance(manifest, TreeManifest):
        raise DamagedError(f"{place.series}/{backup_id} is a backup of kind {manifest.kind}, expected files", "")
    return manifest


def _dying(seen: Scan, entries: dict[str, Entry], kept: dict[str, int]) -> list[str]:
    """Return packs of which little is still in use, by what the files look like from outside."""
    live: dict[str, dict[int, int]] = defaultdict(dict)
    for found in seen.found:
        was = entries.get(f"{seen.base}/{found.name}")
        if was and was.object and (was.size, was.mtime_ns) == (found.stat.st_size, found.stat.st_mtime_ns):
            live[was.object][was.offset] = was.stored_bytes
    packs = {entry.object for entry in entries.values() if entry.object and entry.stored_bytes < entry.object_bytes}
    return [name for name in packs if name in kept and sum(live[name].values()) < _LIVE * kept[name]]


def _with_parents(entries: list[Entry]) -> list[Entry]:
    """Leave out what lies below something that became no folder, or whose hard link's file vanished."""
    types: dict[str, str] = {}
    result = []
    for entry in entries:
        parent = entry.name.rpartition("/")[0]
        if (not parent or types.get(parent) == "d") and (entry.type != "h" or types.get(entry.target) == "f"):
            types[entry.name] = entry.type
            result.append(entry)
    return result


def _attributes(seen: os.stat_result) -> dict[str, Any]:
    return {"mode": stat.S_IMODE(seen.st_mode), "uid": seen.st_uid, "gid": seen.st_gid}


def _kind(found: Found) -> str:
    mode = found.stat.st_mode
    return "directory" if stat.S_ISDIR(mode) else "symlink" if stat.S_ISLNK(mode) else "file"


def _bare(found: Found) -> Entry:
    """Return the entry of what has no content of its own."""
    return Entry(
        name=found.name,
        type="d" if stat.S_ISDIR(found.stat.st_mode) else "l",
        mtime_ns=found.stat.st_mtime_ns,
        target=found.target,
        **_attributes(found.stat),
    )


def _entry(found: Found, content: Content) -> Entry:
    seen = content.stat
    calm = content.steady and max(seen.st_ctime_ns, seen.st_mtime_ns) < time.time_ns() - _RACY_NS
    return Entry(
        name=found.name,
        type="f",
        mtime_ns=seen.st_mtime_ns,
        size=content.size,
        sha256=content.sha256,
        data=content.data,
        ino=seen.st_ino,
        ctime_ns=seen.st_ctime_ns if calm else 0,
        **_attributes(seen),
    )


def _told(files: FileSet, names: list[str]) -> tuple[str, ...]:
    """Return the first names for people; none of a secret set."""
    return () if files.secret else tuple(shown(name) or "." for name in names[:_SHOWN])
