"""An emergency restore of files: written beside, compared with the list, swapped in by renaming.

What is swapped are *units*: whole folders (`uploads/**`) and single files (`.env`) that the target names. Each old one
stays as `<name>.before-<time>`. A journal beside the folder tells the next restore what a killed one was doing.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from upkeep.adapters import tree_list
from upkeep.adapters.recovery_look import Means, Obstacles, chosen, pick
from upkeep.adapters.recovery_steps import Timeline
from upkeep.adapters.recovery_swap import stamp
from upkeep.adapters.tree_backup import TreeArchive
from upkeep.core.backup import TreeManifest
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError, UnsafeError
from upkeep.core.model import Model, Severity
from upkeep.core.recovery import Preflight, Present, Restored, Tell, TreeOrder

_WILD = ("*", "?", "[")
_JOURNAL = ".upkeep-restore.json"
_ROOM = 1.05


class Unit(Model):
    """One folder or file that is swapped: where it is, where the restored one waits, where the old one goes."""

    path: str
    restored: str
    before: str


class Journal(Model):
    """What a restore is about to do, written before it does it. `folder` holds what is restored and not yet swapped."""

    upkeep: Literal["restore/1"] = "restore/1"
    target: str
    backup: str
    run_id: str
    folder: str
    units: tuple[Unit, ...]


def units_of(order: TreeOrder) -> list[Path]:
    """Return the folders and files that the target is made of.

    :raises ConfigurationError: a path picks files out of a folder that holds others too; swapping the folder would
        take those away.
    """
    found = []
    for given in order.paths:
        plain, rest = _plain(given)
        if rest not in ("", "**", "**/*") or order.exclude:
            raise ConfigurationError(
                f"{order.place.target}: a path of it picks some files out of a folder, which cannot be swapped whole",
                "restore it by hand beside the folder, and copy what is needed (tree_backup.restore)",
            )
        found.append(plain)
    if len(set(found)) != len(found) or any(a != b and a.is_relative_to(b) for a in found for b in found):
        raise ConfigurationError(f"{order.place.target}: one of its paths lies in another", "name only the outer one")
    return found


def base_of(means: Means, order: TreeOrder, manifest: TreeManifest, units: list[Path]) -> Path:
    """Return the folder that the names in the backup's list are relative to.

    :raises UnsafeError: the target's paths do not lie in it: they have been moved since, or it is another machine's.
    """
    base = Path(tree_list.read(means.store, manifest, f"{order.place.series}/{manifest.id}")[0])
    if not all(unit.is_relative_to(base) for unit in units):
        raise UnsafeError(
            f"{order.place.target}: the backup was taken below another folder than the target's paths name now",
            "correct the paths in the system file, or choose a backup from after they were changed",
        )
    return base


def look(means: Means, order: TreeOrder) -> Preflight:
    """Look at the backup and at what it would replace."""
    notes = Obstacles(order.place.target)
    manifest = pick(means.archive, means.store, order.place, order.backup, notes)
    units: list[Path] = []
    with notes.noting("paths"):
        units = units_of(order)
    if manifest is not None and not isinstance(manifest, TreeManifest):
        notes.add(
            Severity.CRITICAL, "manifest", f"{manifest.id} is of kind {manifest.kind}, expected files", "choose another"
        )
        manifest = None
    for unit in units:
        _judge_place(unit, manifest, notes)
    halves = _halves(means, order, manifest, units, notes) if manifest and units else ()
    location = f"{means.store.location}/{order.place.series}/{manifest.id}" if manifest else ""
    return Preflight(
        chosen=chosen(manifest, location) if manifest else None,
        present=_present(order, units, manifest),
        obstacles=tuple(notes.found),
        halves=halves,
    )


def _halves(
    means: Means, order: TreeOrder, manifest: TreeManifest, units: list[Path], notes: Obstacles
) -> tuple[str, ...]:
    with notes.noting("paths"):
        journals = _read(_journal_file(base_of(means, order, manifest, units)), order.place.target)
        return tuple(f"backup {one.backup} was not swapped in to the end: it is rolled back first" for one in journals)
    return ()


class TreeRestore:
    """One restore of one tree of files."""

    def __init__(self, means: Means, trees: TreeArchive, order: TreeOrder, tell: Tell) -> None:
        self._means, self._trees, self._order, self._tell = means, trees, order, tell
        self._line = Timeline(tell)
        self._mended: tuple[str, ...] = ()

    def run(self) -> Restored:
        """Do it. :raises UpkeepError: it could not be done, and what was there before is there again."""
        with self._working() as (manifest, units, base):
            return self._restore(manifest, units, base)

    def mend(self) -> tuple[str, ...]:
        """Go back from what an earlier restore left half done, and say what was done."""
        with self._working():
            return self._mended

    @contextmanager
    def _working(self) -> Iterator[tuple[TreeManifest, list[Path], Path]]:
        """Hold the lock, mend what an earlier restore left, and give backup, units and the folder they lie in."""
        order = self._order
        manifest = self._means.archive.manifest(order.place, order.backup)
        if not isinstance(manifest, TreeManifest):
            raise ConfigurationError(f"{order.backup} is a backup of kind {manifest.kind}", "choose one of files")
        units = units_of(order)
        base = base_of(self._means, order, manifest, units)
        with _alone(self._means.scratch, order):
            with self._line.step("mend what earlier restores left") as note:
                self._mended = tuple(self._mend(base))
                note.detail = "; ".join(self._mended) or "nothing"
            yield manifest, units, base

    def _restore(self, manifest: TreeManifest, units: list[Path], base: Path) -> Restored:
        order, tag = self._order, f"restored-{manifest.id[-8:]}"
        folder = base.with_name(f"{base.name}.{tag}")
        old = f"before-{stamp(datetime.now(UTC))}"
        planned = tuple(
            Unit(
                path=str(unit),
                restored=str(folder / unit.relative_to(base)),
                before=str(unit.with_name(f"{unit.name}.{old}")) if os.path.lexists(unit) else "",
            )
            for unit in units
        )
        if os.path.lexists(folder) or any(u.before and os.path.lexists(u.before) for u in planned):
            raise UnsafeError(
                f"{folder} is there already, and no restore of ours left it", "rename it, then run this again"
            )
        journal = Journal(
            target=order.place.target, backup=manifest.id, run_id=order.run_id, folder=str(folder), units=planned
        )
        _write(_journal_file(base), journal)
        try:
            with self._line.step("restore") as note:
                folder.mkdir(mode=0o700, parents=True)
                done = self._trees.restore(order.place, manifest.id, folder, (), lambda _: None)
                note.detail = f"{done.bytes} bytes, owners {'set' if done.owners else 'not set: not root'}"
            with self._line.step("compare") as note:
                note.detail = proof = self._compare(manifest, folder)
            began = time.monotonic()
            with self._line.step("swap"):
                self._swap(journal, folder == Path(planned[0].restored))
            closed = time.monotonic() - began
            with self._line.step("verify") as note:
                note.detail = self._verify(journal)
        except BaseException:
            with self._line.step("roll back"):
                self._back(journal, base)
            raise
        _journal_file(base).unlink()
        shutil.rmtree(folder, ignore_errors=True)
        kept = [u.before for u in planned if u.before]
        return Restored(
            backup=manifest.id,
            name=", ".join(map(str, units)),
            kept=", ".join(kept),
            undo=tuple(f"mv -T {u.path} {u.path}.undone && mv -T {u.before} {u.path}" for u in planned if u.before),
            steps=tuple(self._line.steps),
            proof=proof,
            warnings=() if done.owners else ("owners of files could not be set: the worker is not root",),
            closed_seconds=round(closed, 3),
        )

    def _compare(self, manifest: TreeManifest, folder: Path) -> str:
        seen = self._trees.compare(self._order.place, manifest.id, folder)
        if not seen.equal:
            counts = f"{len(seen.differs)} differ, {len(seen.missing)} are missing, {len(seen.extra)} are too many"
            raise DamagedError(f"what was restored is not as the list says: {counts}", "choose another backup")
        files = sum(manifest.entries.values())
        return f"{files} names with {manifest.total_bytes} bytes are identical to the list, contents by SHA-256"

    def _swap(self, journal: Journal, whole: bool) -> None:
        for unit in journal.units:
            self._tell(f"rename {unit.path}")
            if unit.before:
                Path(unit.path).rename(unit.before)
            self._tell("between the two renames")
            if os.path.lexists(unit.restored):
                if not whole:
                    Path(unit.path).parent.mkdir(parents=True, exist_ok=True)
                Path(unit.restored).rename(unit.path)
        self._tell("renamed")

    def _verify(self, journal: Journal) -> str:
        missing = [u.path for u in journal.units if not os.path.lexists(u.path) and u.before]
        if missing:
            raise DamagedError(
                f"{len(missing)} of {len(journal.units)} units are not in the backup and would be gone",
                "the backup was taken when they did not exist yet: choose another one",
            )
        for unit in journal.units:
            path = Path(unit.path)
            if path.is_dir():
                next(path.iterdir(), None)
            elif path.exists():
                path.open("rb").close()
        self._tell("verified")
        return f"{len(journal.units)} units are in their place and can be read"

    def _mend(self, base: Path) -> list[str]:
        done = []
        for journal in _read(_journal_file(base), self._order.place.target):
            self._back(journal, base)
            done.append(f"the restore of {journal.backup} that was not finished is rolled back")
        return done

    def _back(self, journal: Journal, base: Path) -> None:
        """Go back from wherever it was, as the names tell; then remove what was restored."""
        for unit in reversed(journal.units):
            path, before, restored = Path(unit.path), Path(unit.before or "/nonexistent"), Path(unit.restored)
            if unit.before and not os.path.lexists(before):
                continue  # never touched
            if os.path.lexists(path) and (unit.before or not os.path.lexists(restored)):
                with suppress(FileNotFoundError):
                    restored.parent.mkdir(parents=True, exist_ok=True)
                    path.rename(restored)
            if unit.before:
                before.rename(path)
        shutil.rmtree(journal.folder, ignore_errors=True)
        _journal_file(base).unlink(missing_ok=True)


def _plain(given: str) -> tuple[Path, str]:
    parts = Path(given).parts
    wild = next((n for n, part in enumerate(parts) if any(c in part for c in _WILD)), len(parts))
    return Path(*parts[:wild]), "/".join(parts[wild:])


def _judge_place(unit: Path, manifest: TreeManifest | None, notes: Obstacles) -> None:
    critical = Severity.CRITICAL
    parent = next(p for p in unit.parents if p.exists())
    if os.path.ismount(unit):
        notes.add(
            critical, "mount", f"{unit} is a mount point, which cannot be renamed", "restore beside by hand and copy"
        )
    if unit.is_symlink():
        notes.add(
            critical, "link", f"{unit} is a symbolic link; the swap would replace the link", "name where it leads to"
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        notes.add(critical, "privilege", f"the worker may not write to {parent}", "let its user write there")
    free = shutil.disk_usage(parent).free
    if manifest and free < manifest.total_bytes * _ROOM:
        needed = f"{manifest.total_bytes * _ROOM / 1e6:,.0f} MB"
        notes.add(critical, "space", f"{parent} has no room for a second copy", "free space there",
                  observed=f"{free / 1e6:,.0f} MB", limit=needed)  # fmt: skip


def _present(order: TreeOrder, units: list[Path], manifest: TreeManifest | None) -> Present:
    taken = manifest.started.timestamp() if manifest else None
    size = count = changed = 0
    newest: tuple[float, str] = (0.0, "")
    for path in (p for unit in units for p in ([unit] if not unit.is_dir() else unit.rglob("*"))):
        with suppress(OSError):
            seen = path.lstat()
            if stat.S_ISREG(seen.st_mode):
                size, count = size + seen.st_size, count + 1
                changed += taken is not None and seen.st_mtime >= taken
                newest = max(newest, (seen.st_mtime, path.name))
    there = [unit for unit in units if os.path.lexists(unit)]
    said: dict[str, Any] = {}
    if newest[0]:
        said = {"newest": datetime.fromtimestamp(newest[0], UTC), "newest_in": "" if order.secret else newest[1]}
    return Present(
        name=", ".join(map(str, units)),
        exists=bool(there),
        identity=" ".join(str(unit.lstat().st_ino) for unit in there),
        size_bytes=size,
        items=count,
        changed=changed if taken is not None else None,
        **said,
    )


@contextmanager
def _alone(scratch: Path, order: TreeOrder) -> Iterator[None]:
    """Hold a lock on this worker; the kernel gives it up when its owner dies."""
    with (scratch / f"recover-{order.place.target.replace('/', '~')}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TransientError(f"{order.place.target}: another restore is at work here", "wait for it") from None
        yield


def _journal_file(base: Path) -> Path:
    return base.with_name(f".{base.name}{_JOURNAL}")


def _write(file: Path, journal: Journal) -> None:
    fresh = file.with_name(f"{file.name}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(json.dumps(journal.model_dump()))
        out.flush()
        os.fsync(out.fileno())
    fresh.rename(file)


def _read(file: Path, target: str) -> list[Journal]:
    try:
        journal = Journal.model_validate_json(file.read_text())
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise DamagedError(
            f"{file} is no journal of a restore", "look at the folder by hand, then remove it"
        ) from error
    if journal.target != target:
        raise UnsafeError(f"{file} belongs to a restore of {journal.target}", "run that one first")
    return [journal]
