"""What a lock file of npm holds: `package-lock.json` and `npm-shrinkwrap.json` of versions 1, 2 and 3.

The format is npm's (https://docs.npmjs.com/cli/configuring-npm/package-lock-json). The file is read and nothing else:
npm itself would run what a project's configuration says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import normpath
from typing import Any

from upkeep.adapters._package_text import UnreadableError, bounded, json_object, read_bytes, shown
from upkeep.adapters.versions import is_version
from upkeep.core.audit import Listed, Package, Unlisted

_MAX_DEPTH = 200
# npm's own rules (validate-npm-package-name), old names with capitals included.
_NAME = re.compile(r"(?:@[A-Za-z0-9_~-][A-Za-z0-9._~-]*/)?[A-Za-z0-9_~-][A-Za-z0-9._~-]*", re.ASCII)
_NOT_A_LOCK = "expected a package-lock.json or npm-shrinkwrap.json as npm writes it: `npm install --package-lock-only`"
_FROM_ELSEWHERE = "its version is not known: pin it to a version of the registry, or audit its source by hand"


def read_lock(path: Path) -> Listed:
    """Return the packages of a lock file; what cannot be read of it is unlisted, with its place."""
    try:
        content = read_bytes(path)
    except UnreadableError as error:
        return _nothing(path.name, str(error))
    return parse_lock(content, path.name, _wanted_beside(path))


def parse_lock(content: bytes, where: str, wanted: frozenset[str] | None = None) -> Listed:
    """Return the packages of a lock file's content.

    :param where: how its place is told.
    :param wanted: names that the project asks for itself, needed for version 1, which does not hold them.
    """
    try:
        lock = json_object(content)
        version = lock.get("lockfileVersion", 1)
        if version not in (1, 2, 3) or isinstance(version, bool):
            raise UnreadableError(f"lockfileVersion is {shown(version, 40)}; expected 1, 2 or 3")
        if version > 1 and "packages" in lock:
            found = _Tree(where, _mapping(lock, "packages")).listed()
            return (
                found
                if version > 2
                else found + _also(found, _version_1(where, _mapping(lock, "dependencies"), wanted))
            )
        if version == 3 or not {"dependencies", "lockfileVersion"} & set(lock):
            raise UnreadableError("it holds neither `packages` nor `dependencies`")
        return _version_1(where, _mapping(lock, "dependencies"), wanted)
    except UnreadableError as error:
        return _nothing(where, str(error))


def _also(found: Listed, other: Listed) -> Listed:
    """Return what only the other half of a lock of version 2 names: npm 6 installs what that half says."""
    known = {(one.name, one.version) for one in found.packages}
    return Listed(packages=tuple(one for one in other.packages if (one.name, one.version) not in known))


def is_name(name: str) -> bool:
    """Tell whether npm could have published a package of that name."""
    return len(name) <= 214 and _NAME.fullmatch(name) is not None


def _nothing(where: str, reason: str) -> Listed:
    return Listed(unlisted=(Unlisted(where=where, reason=reason, hint=_NOT_A_LOCK),))


def _mapping(entry: dict[str, Any], key: str) -> dict[str, Any]:
    found = entry.get(key, {})
    if not isinstance(found, dict):
        raise UnreadableError(f"`{key}` is a {type(found).__name__}, expected an object")
    return found


def _wanted_beside(lock: Path) -> frozenset[str] | None:
    """Return the names that the `package.json` beside a lock asks for, None when it cannot be read."""
    try:
        manifest = json_object(read_bytes(lock.with_name("package.json")))
        return frozenset(name for name, _ in _asked(manifest))
    except UnreadableError:
        return None


def _asked(entry: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield what a project asks for, and whether it cannot do without (what is optional may be missing from a lock)."""
    for kind, needed in (
        ("dependencies", True),
        ("devDependencies", True),
        ("optionalDependencies", False),
        ("peerDependencies", False),
    ):
        optional = entry.get("optionalDependencies")
        for name in _mapping(entry, kind):
            yield name, needed and not (isinstance(optional, dict) and name in optional)


def _package(where: str, name: Any, version: Any, direct: bool | None) -> Package | Unlisted:
    if not isinstance(name, str) or not is_name(name):
        reason = f"{shown(name, 80)!r} is no name of an npm package"
        return Unlisted(where=where, reason=reason, hint=_NOT_A_LOCK)
    if not isinstance(version, str) or not is_version("npm", version):
        seen = "no version" if version is None else f"version {shown(version, 80)!r}"
        return Unlisted(where=where, reason=f"{name} has {seen}", hint=_FROM_ELSEWHERE)
    return Package(ecosystem="npm", name=name, version=version.removeprefix("v"), where=where, direct=direct)


def _place(where: str, key: str, entry: dict[str, Any]) -> str:
    """Return file, place in the tree, and what is special about it: a package for development alone weighs less."""
    marks = [kind for kind in ("dev", "devOptional", "optional", "peer") if entry.get(kind) is True]
    return f"{where}:{shown(key, 300)}" + (f" ({', '.join(marks)})" if marks else "")


@dataclass
class _Found:
    """What has been read so far."""

    where: str
    packages: list[Package] = field(default_factory=list)
    unlisted: list[Unlisted] = field(default_factory=list)

    def add(self, one: Package | Unlisted) -> None:
        if isinstance(one, Package):
            self.packages.append(one)
        else:
            self.unlisted.append(one)

    def done(self) -> Listed:
        return Listed(packages=tuple(self.packages), unlisted=bounded(self.unlisted, self.where))


class _Tree:
    """The `packages` of versions 2 and 3: place in the tree -> what lies there; "" is the project itself."""

    def __init__(self, where: str, entries: dict[str, Any]) -> None:
        self.found = _Found(where)
        self.entries = {key: entry for key, entry in entries.items() if isinstance(entry, dict)}
        for key in entries.keys() - self.entries.keys():
            self._refuse(key, f"a {type(entries[key]).__name__}, expected an object")

    def listed(self) -> Listed:
        direct = self._direct()
        for key, entry in self.entries.items():
            _, inside, folder = key.rpartition("node_modules/")
            if entry.get("link"):
                self._check_link(key, entry)
            # What does not lie in a node_modules folder is the project itself, or a folder of it.
            elif inside:
                place = _place(self.found.where, key, entry)
                self.found.add(_package(place, entry.get("name", folder), entry.get("version"), key in direct))
        return self.found.done()

    def _refuse(self, key: str, seen: str) -> None:
        where = f"{self.found.where}:{shown(key, 300)}"
        self.found.add(Unlisted(where=where, reason=f"its entry is {seen}", hint=_NOT_A_LOCK))

    def _check_link(self, key: str, entry: dict[str, Any]) -> None:
        target = entry.get("resolved")
        if not isinstance(target, str) or target not in self.entries:
            self._refuse(key, f"a link to {shown(target, 100)!r}, which the lock does not describe")

    def _direct(self) -> set[str]:
        """Return where that lies which the project and its workspaces ask for themselves."""
        found = set[str]()
        for key in [k for k in self.entries if "node_modules/" not in k]:
            try:
                asked = list(_asked(self.entries[key]))
            except UnreadableError as error:
                self._refuse(key, f"wrong: {error}")
                continue
            for name, needed in asked:
                place = self._resolved(key, name)
                if place is not None:
                    found.add(place)
                elif needed and not key:
                    self._refuse(key, f"incomplete: it asks for {shown(name, 80)!r}, which the lock does not hold")
        return found

    def _resolved(self, folder: str, name: str) -> str | None:
        """Return where node would find a package: in the nearest node_modules folder, from here upwards."""
        for _ in range(_MAX_DEPTH):
            place = normpath(f"{folder}/node_modules/{name}").lstrip("/")
            if place in self.entries:
                return place
            if folder in ("", ".", ".."):
                return None
            folder = folder.rpartition("/")[0]
        return None


def _version_1(where: str, dependencies: dict[str, Any], wanted: frozenset[str] | None) -> Listed:
    """Read a tree of `dependencies` within `dependencies`."""
    found = _Found(where)
    waiting = [("", dependencies)]
    while waiting:
        above, level = waiting.pop()
        for name, entry in level.items():
            key = f"{above}node_modules/{name}"
            if not isinstance(entry, dict) or not isinstance(entry.get("dependencies", {}), dict):
                found.add(Unlisted(where=f"{where}:{shown(key, 300)}", reason="its entry is wrong", hint=_NOT_A_LOCK))
                continue
            direct = None if wanted is None else not above and name in wanted
            found.add(_package(_place(where, key, entry), *_meant(name, entry.get("version")), direct))
            waiting.append((f"{key}/", entry.get("dependencies", {})))
    return found.done()


def _meant(name: str, version: Any) -> tuple[str, Any]:
    """Return what an alias (`npm:lodash@4.17.21`) stands for, anything else as it is."""
    if isinstance(version, str) and version.startswith("npm:"):
        real, _, exact = version.removeprefix("npm:").rpartition("@")
        return real, exact
    return name, version
