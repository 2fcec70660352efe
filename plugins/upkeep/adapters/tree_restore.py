"""Restoring a tree into an empty folder, every content proved on its way, and comparing a folder with a list.

Folders come first, private until everything lies in them; links come last, so that nothing can be written through
them; then modes and times, the deepest first. Every name is opened part by part and never over a symbolic link.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from upkeep.adapters import encrypted_store, tree_list, tree_scan
from upkeep.adapters.object_store import BLOCK, Store, read_bytes
from upkeep.adapters.tree_store import PACK, SMALL
from upkeep.core.backup import Progress, Say, TreeManifest
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError, UnsafeError
from upkeep.core.tree import Comparison, Entry, FileSet, Restored, shown

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_SHOWN = 5


def restore(
    store: Store, manifest: TreeManifest, prefix: str, *, into: Path, paths: tuple[str, ...], say: Say
) -> Restored:
    """Restore a backup, or the entries named by `paths` and what lies below them.

    Everything that can be restored is, also when something else turns out to be damaged.

    :param prefix: `<series>/<backup id>`.
    :param into: a folder that is empty, or does not exist.
    :raises UnsafeError: it is not empty.
    :raises ConfigurationError: a path is not in the backup.
    :raises DamagedError: contents are missing or are not what the list says; those files are not written.
    """
    _, entries = tree_list.read(store, manifest, prefix)
    chosen = choose(entries, paths, manifest.secret)
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(into.iterdir()):
        raise UnsafeError(f"folder {into} is not empty", "restore into an empty folder, then compare and move")
    reading = encrypted_store.reading(store, manifest)
    try:
        return _Restoring(reading, tree_list.series_of(prefix), manifest, into, say).run(chosen)
    except OSError as error:
        # The cause would name a file.
        raise TransientError(
            f"restoring into {into}: {error.strerror}", "free space there or correct its owner; empty it, try again"
        ) from None


def choose(entries: list[Entry], paths: tuple[str, ...], secret: bool) -> list[Entry]:
    """Return the entries to restore: with those that were asked for the folders they lie in.

    A hard link whose file was not asked for becomes that file.
    """
    if not paths:
        return entries
    by_name = {entry.name: entry for entry in entries}
    wanted = [path.strip("/") for path in paths]
    if absent := [path for path in wanted if path not in by_name]:
        first = "" if secret else f" (first: {shown(absent[0])})"
        raise ConfigurationError(f"{len(absent)} paths are not in the backup{first}", "look at the backup's list")
    names = {e.name for e in entries if any(e.name == path or e.name.startswith(f"{path}/") for path in wanted)}
    above = {name[:at] for name in names for at in range(len(name)) if name[at] == "/"}
    renamed: dict[str, str] = {}
    chosen = []
    for entry in (by_name[name] for name in sorted(names | above)):
        if entry.type == "h" and entry.target not in names:
            first = renamed.setdefault(entry.target, entry.name)
            is_first = first == entry.name
            chosen.append(by_name[entry.target]._replace(name=first) if is_first else entry._replace(target=first))
        else:
            chosen.append(entry)
    return chosen


class _Restoring:
    def __init__(self, store: Store, series: str, manifest: TreeManifest, into: Path, say: Say) -> None:
        self._store, self._series, self._manifest = store, series, manifest
        self._into, self._root, self._say_to = into, str(into), say
        self._begun, self._bytes = time.monotonic(), 0
        self._damaged: list[str] = []
        # Only root may give files away; others own what they restore.
        self._owners = os.geteuid() == 0

    def run(self, entries: list[Entry]) -> Restored:
        """Write everything."""
        folders = [entry for entry in entries if entry.type == "d"]
        files = [entry for entry in entries if entry.type == "f"]
        for entry in folders:
            with self._parent(entry.name) as (handle, name):
                os.mkdir(name, 0o700, dir_fd=handle)
        self._files(files)
        failed = set(self._damaged)
        for entry in entries:
            if entry.type == "h" and entry.target not in failed:
                with self._parent(entry.name) as (there, name), self._parent(entry.target) as (source, first):
                    os.link(first, name, src_dir_fd=source, dst_dir_fd=there, follow_symlinks=False)
            elif entry.type == "l":
                with self._parent(entry.name) as (handle, name):
                    os.symlink(entry.target, name, dir_fd=handle)
                    self._dress(handle, name, entry)
        for entry in sorted(folders, key=lambda e: e.name.count("/"), reverse=True):
            with self._parent(entry.name) as (handle, name):
                self._dress(handle, name, entry)
        os.sync()  # once: flushing every file by itself would take most of the time
        self._tell_damage(files)
        return Restored(
            entries=dict(Counter(entry.kind for entry in entries)),
            bytes=self._bytes,
            seconds=time.monotonic() - self._begun,
            owners=self._owners,
        )

    def _files(self, files: list[Entry]) -> None:
        by_object: dict[str, list[Entry]] = defaultdict(list)
        for entry in files:
            by_object[entry.object].append(entry)
        total, done = sum(entry.size for entry in files), 0
        for name, entries in by_object.items():
            for entry, blocks in _contents(self._store, self._series, name, entries):
                try:
                    self._file(entry, blocks)
                except DamagedError:
                    self._damaged.append(entry.name)
                done += 1
                if done % 100 == 0 or done == len(files) or entry.size > PACK:
                    self._say(done, len(files), total)

    def _file(self, entry: Entry, blocks: Iterable[bytes]) -> None:
        with self._parent(entry.name) as (handle, name):
            file = os.open(name, _NEW | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=handle)
            try:
                seen = _write(file, entry, blocks)
                if seen != entry.sha256:
                    raise DamagedError("the content is another one", "")
            except BaseException:
                os.unlink(name, dir_fd=handle)
                raise
            finally:
                os.close(file)
            self._bytes += entry.size
            self._dress(handle, name, entry)

    def _dress(self, handle: int, name: str, entry: Entry) -> None:
        """Set owner, mode and time. The owner first: to change it takes the set-user-id bit away."""
        if self._owners:
            os.chown(name, entry.uid, entry.gid, dir_fd=handle, follow_symlinks=False)
        if entry.type != "l":
            os.chmod(name, entry.mode, dir_fd=handle)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=handle, follow_symlinks=False)

    @contextlib.contextmanager
    def _parent(self, name: str) -> Iterator[tuple[int, str]]:
        """Open the folder that a name lies in."""
        folder, _, last = name.rpartition("/")
        with tree_scan.opened(self._root, folder, _FOLDER) as handle:
            yield handle, last

    def _tell_damage(self, files: list[Entry]) -> None:
        if not self._damaged:
            return
        names = "" if self._manifest.secret else f": {', '.join(shown(name) for name in self._damaged[:_SHOWN])}"
        raise DamagedError(
            f"backup {self._manifest.id} of {self._manifest.target}: {len(self._damaged)} of {len(files)} files are"
            f" missing or damaged and were not restored{names}",
            "take these from another backup; verify all of them, then look at the store",
        )

    def _say(self, done: int, total: int, bytes_total: int) -> None:
        self._say_to(
            Progress(
                phase="read",
                done=done,
                total=total,
                bytes_done=self._bytes,
                bytes_total=bytes_total,
                seconds=time.monotonic() - self._begun,
            )
        )


def _contents(store: Store, series: str, name: str, entries: list[Entry]) -> Iterator[tuple[Entry, Iterable[bytes]]]:
    """Yield the entries that need an object, each with its content; errors come when it is read."""
    if not name:
        yield from ((entry, ()) for entry in entries)
        return
    key = tree_list.key_of(series, name)
    if entries[0].object_bytes < PACK + SMALL:
        try:
            whole = read_bytes(store, key, PACK + SMALL)
        except DamagedError as error:
            yield from ((entry, _broken(error)) for entry in entries)
            return
        yield from ((e, (whole[e.offset : e.offset + e.stored_bytes],)) for e in entries)
        return
    for entry in entries:
        yield entry, _stream(store, key)


def _broken(error: DamagedError) -> Iterator[bytes]:
    raise error
    yield b""


def _stream(store: Store, key: str) -> Iterator[bytes]:
    with store.read(key) as blocks:
        yield from blocks


def _write(file: int, entry: Entry, blocks: Iterable[bytes]) -> str:
    """Write a content, holes as holes, and return the hash of what a reader will see."""
    seen, at = hashlib.sha256(), 0
    for start, block in _placed(entry, blocks):
        _hash_hole(seen, start - at)
        seen.update(block)
        view, at = memoryview(block), start
        while view:
            written = os.pwrite(file, view, at)
            view, at = view[written:], at + written
    _hash_hole(seen, entry.size - at)
    os.ftruncate(file, entry.size)
    return seen.hexdigest()


def _placed(entry: Entry, blocks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield stored bytes with where they stand in the file.

    :raises DamagedError: there are more or fewer of them than the list says.
    """
    stretches = iter(entry.data or ((0, entry.size),))
    at, left = next(stretches)
    for block in blocks:
        rest = block
        while rest:
            while not left:
                at, left = next(stretches, (-1, 0))
                if at < 0:
                    raise DamagedError("the content is too long", "")
            yield at, rest[:left]
            taken = min(left, len(rest))
            rest, at, left = rest[taken:], at + taken, left - taken
    if left or any(length for _, length in stretches):
        raise DamagedError("the content is too short", "")


def _hash_hole(seen: Any, length: int) -> None:
    while length > 0:
        step = min(length, BLOCK)
        seen.update(bytes(step))
        length -= step


def proved(store: Store, series: str, entries: list[Entry]) -> Iterator[tuple[Entry, str]]:
    """Read the contents of entries from the store, each object once; yield each with what is wrong, empty: nothing."""
    by_object: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.type == "f":
            by_object[entry.object].append(entry)
    for name, same in by_object.items():
        # Equal files are stored once; a large one is read once too.
        told: dict[tuple[int, str], str] = {}
        for entry, blocks in _contents(store, series, name, same):
            key = (entry.offset, entry.sha256)
            if key not in told:
                told[key] = _wrong(entry, blocks)
            yield entry, told[key]


def _wrong(entry: Entry, blocks: Iterable[bytes]) -> str:
    seen, at = hashlib.sha256(), 0
    try:
        for start, block in _placed(entry, blocks):
            _hash_hole(seen, start - at)
            seen.update(block)
            at = start + len(block)
    except DamagedError as error:
        return error.message
    _hash_hole(seen, entry.size - at)
    return "" if seen.hexdigest() == entry.sha256 else "the content differs"


def compare(folder: Path, entries: list[Entry]) -> Comparison:
    """Tell how a folder differs from a list: types, modes, times, contents, link targets; owners only for root.

    Times of links are not compared; not every tool that copies trees keeps them.
    """
    found = {f.name: f for f in tree_scan.scan(FileSet(paths=(str(folder),))).found}
    expected = {entry.name: entry for entry in entries}
    differs = {}
    for name in sorted(found.keys() & expected.keys()):
        seen = _differences(folder, found[name], expected)
        if seen:
            differs[name] = ", ".join(seen)
    return Comparison(
        differs={shown(name): what for name, what in differs.items()},
        missing=tuple(shown(name) for name in sorted(expected.keys() - found.keys())),
        extra=tuple(shown(name) for name in sorted(found.keys() - expected.keys())),
    )


def _differences(folder: Path, found: tree_scan.Found, expected: dict[str, Entry]) -> list[str]:
    entry, seen = expected[found.name], found.stat
    first = expected[entry.target] if entry.type == "h" else entry
    kind = {stat.S_IFDIR: "d", stat.S_IFLNK: "l"}.get(stat.S_IFMT(seen.st_mode), "f")
    if kind != first.type:
        return ["type"]
    wrong = ["owner"] if os.geteuid() == 0 and (seen.st_uid, seen.st_gid) != (first.uid, first.gid) else []
    if kind == "l":
        return wrong + ["target"] * (found.target != first.target)
    wrong += ["mode"] * (stat.S_IMODE(seen.st_mode) != first.mode)
    wrong += ["mtime"] * (seen.st_mtime_ns != first.mtime_ns)
    if kind == "f":
        try:
            content = _sha256(folder, found.name) if seen.st_size == first.size else ""
        except OSError as error:
            return [*wrong, f"content unknown ({error.strerror})"]
        wrong += ["content"] * (content != first.sha256)
        if entry.type == "h" and seen.st_ino != os.lstat(folder / entry.target).st_ino:
            wrong.append("hard link")
    return wrong


def _sha256(folder: Path, name: str) -> str:
    with tree_scan.opened(str(folder), name, os.O_RDONLY) as handle, os.fdopen(os.dup(handle), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
