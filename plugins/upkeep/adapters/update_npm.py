"""Moves packages in `package.json` and its lock, by npm itself, in a folder of its own.

npm sees copies of these two files and nothing else of the project: none of its scripts runs, its `.npmrc` is not read,
nothing is installed. A project that needs more than the two files (workspaces, links, git) is refused.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from upkeep.adapters import update_file
from upkeep.adapters._package_run import ask
from upkeep.adapters._package_text import MAX_BYTES, UnreadableError, json_object, read_bytes, shown
from upkeep.adapters.outdated_config import Registries
from upkeep.adapters.packages_npm import is_name, parse_lock
from upkeep.adapters.process import environment
from upkeep.adapters.update_edit import diff
from upkeep.adapters.versions import compare, is_version
from upkeep.core.audit import Unlisted
from upkeep.core.outdated import Applied, Bump, Change, Wanted

LOCKS = ("package-lock.json", "npm-shrinkwrap.json")
_KINDS = ("dependencies", "devDependencies", "optionalDependencies")
_FLAGS = ("--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--no-progress")


class Pair(NamedTuple):
    """The contents of package.json and of its lock."""

    manifest: bytes
    lock: bytes

    @property
    def digest(self) -> str:
        """One hash of both."""
        return update_file.digest(update_file.digest(self.manifest).encode() + update_file.digest(self.lock).encode())


def propose(path: Path, wanted: Sequence[Wanted], registries: Registries, timeout: float) -> Change:
    """Return what npm would make of a project.

    :param path: its lock.
    :raises UnreadableError: npm is not there or fails, or the project needs more than its two files.
    """
    old = _read(path)
    new = _made(old, path.name, wanted, registries, timeout)
    bumps, refused, missing = _compared(old, new, path.name, wanted)
    text = diff(old.manifest.decode(), new.manifest.decode(), "package.json")
    return Change(
        manifest=str(path),
        sha256=old.digest,
        new_sha256=new.digest,
        diff=text + diff(old.lock.decode(), new.lock.decode(), path.name),
        bumps=tuple(bumps),
        refused=tuple(refused),
        missing=tuple(missing),
        resolved="yes",
    )


def apply(
    change: Change,
    wanted: Sequence[Wanted],
    registries: Registries,
    *,
    now: datetime,
    tests: Sequence[str],
    timeout: float,
) -> Applied:
    """Have npm make the change again, and write both files if it is the same; the lock last, and tested.

    :raises UnreadableError: as above, or something has changed since it was proposed.
    """
    path = Path(change.manifest)
    manifest = path.with_name("package.json")
    old = _read(path)
    if old.digest != change.sha256:
        raise UnreadableError("it has changed since it was proposed")
    new = _made(old, path.name, wanted, registries, timeout)
    if new.digest != change.new_sha256:
        raise UnreadableError("npm would make other files of it than were proposed")
    first = update_file.apply(manifest, update_file.digest(old.manifest), new.manifest, now=now, tests=(), timeout=1)
    if not first.done:
        return first
    done = update_file.apply(path, update_file.digest(old.lock), new.lock, now=now, tests=tests, timeout=timeout)
    if not done.done:
        back = update_file.apply(manifest, update_file.digest(new.manifest), old.manifest, now=now, tests=(), timeout=1)
        detail = done.detail + ("" if back.done else f"; package.json: {back.detail}; its old content is {first.kept}")
        return done.model_copy(update={"detail": detail})
    return done.model_copy(update={"kept": f"{done.kept} and {Path(first.kept).name}"})


def _read(path: Path) -> Pair:
    try:
        return Pair(read_bytes(path.with_name("package.json"), update_file.MAX_BYTES), read_bytes(path, MAX_BYTES))
    except UnreadableError as error:
        raise UnreadableError(f"package.json or its lock cannot be read: {error}") from None


def _made(old: Pair, lock: str, wanted: Sequence[Wanted], registries: Registries, timeout: float) -> Pair:
    npm = shutil.which("npm")
    if npm is None:
        raise UnreadableError("npm is not installed")
    asked = _asked(old)
    for one in wanted:
        if not is_name(one.name) or not is_version("npm", one.version):
            raise UnreadableError(f"{shown(one.name, 60)!r} {shown(one.version, 40)!r} is no package of npm")
    ours = [f"{one.name}@{one.version}" for one in wanted if one.name in asked]
    others = {one.name for one in wanted if one.name not in asked}
    with tempfile.TemporaryDirectory(prefix="upkeep-npm-") as scratch:
        folder = Path(scratch) / "project"
        folder.mkdir()
        (folder / "package.json").write_bytes(old.manifest)
        (folder / lock).write_bytes(_without(old.lock, others))
        env = environment(
            npm_config_registry=registries.for_npm("").base_url,
            npm_config_cache=f"{scratch}/cache",
            npm_config_fetch_retries="1",
        )
        said = ask([npm, "install", *_FLAGS, "--", *ours], timeout=timeout, env=env, cwd=folder)
        if said.code:
            raise UnreadableError(f"npm install failed with code {said.code}: {said.complaint}")
        return Pair(read_bytes(folder / "package.json", update_file.MAX_BYTES), read_bytes(folder / lock))


def _without(lock: bytes, names: set[str]) -> bytes:
    """Return a lock without some packages: npm then looks for the newest that those who ask for them allow.

    `npm update NAME` would leave them as they are (seen with npm 11.19) unless the project itself asks for them.
    """
    if not names:
        return lock
    found = json_object(lock)
    found["packages"] = {
        key: entry for key, entry in found["packages"].items() if key.rpartition("node_modules/")[2] not in names
    }
    # npm goes on writing as the file is written.
    text, indent = lock.decode("utf-8-sig"), re.match(rb"\{\r?\n([ \t]+)", lock)
    written = json.dumps(found, indent=indent[1].decode() if indent else 2, ensure_ascii=False) + "\n"
    return written.replace("\n", "\r\n" if "\r\n" in text else "\n").encode()


def _asked(pair: Pair) -> set[str]:
    """Return what a project asks for itself. :raises UnreadableError: it needs more than its two files."""
    manifest, lock = json_object(pair.manifest), json_object(pair.lock)
    entries = lock.get("packages")
    if manifest.get("workspaces") or not isinstance(entries, dict):
        raise UnreadableError("it has workspaces, or a lock of version 1: npm would need the whole project")
    for key, entry in entries.items():
        resolved = entry.get("resolved", "https:") if isinstance(entry, dict) else None
        if not isinstance(resolved, str) or not resolved.startswith(("https:", "http:")) or entry.get("link"):
            raise UnreadableError(
                f"{shown(key, 100)!r} does not come from a registry: npm would need the whole project"
            )
    kinds = [manifest.get(kind) for kind in _KINDS]
    return {name for kind in kinds if isinstance(kind, dict) for name in kind}


def _compared(
    old: Pair, new: Pair, lock: str, wanted: Sequence[Wanted]
) -> tuple[list[Bump], list[Unlisted], list[str]]:
    """Return which wishes the new lock meets, which it does not, and which are about packages that it does not hold."""
    before, after = (_versions(pair, lock) for pair in (old, new))
    bumps, refused, missing = list[Bump](), list[Unlisted](), list[str]()
    for one in wanted:
        if one.name not in before:
            missing.append(one.name)
            continue
        low = [v for v in after.get(one.name, []) if compare("npm", v, one.version) < 0]
        if low:
            reason = f"{one.name} stays at {', '.join(low)}: what brings it along does not allow {one.version}"
            hint = "update what brings it along (npm ls NAME), or set `overrides` in package.json"
            refused.append(Unlisted(where=lock, reason=reason, hint=hint))
        elif before[one.name] != after.get(one.name):
            moved = ", ".join(after.get(one.name, ["none"]))
            bumps.append(Bump(name=one.name, before=", ".join(before[one.name]), after=moved, why=one.why))
    return bumps, refused, missing


def _versions(pair: Pair, lock: str) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for one in parse_lock(pair.lock, lock).packages:
        found.setdefault(one.name, set()).add(one.version)
    return {name: sorted(versions) for name, versions in found.items()}
