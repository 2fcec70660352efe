"""What the lock files of Python's tools name: pylock.toml (PEP 751), uv.lock, poetry.lock, Pipfile.lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from upkeep.adapters._package_text import UnreadableError, bounded, json_object, read_bytes, shown
from upkeep.adapters.packages_python_markers import counts, from_file_name, normal, toml, wanted_beside
from upkeep.adapters.versions import is_version
from upkeep.core.audit import Listed, Package, Unlisted

type _Entry = tuple[str, Any, Any, bool | None]
"""Name, version, marker, and whether it was asked for directly."""
_ANEW = "let the program that wrote it write it anew"
_LOCAL = "audit it where it is built; of code without a version no advisory can tell"


def read_lock(path: Path, environment: Mapping[str, str]) -> Listed:
    """Return the packages of a lock file, whose name says what it is."""
    reader = _READERS["pylock.toml" if path.name.startswith("pylock.") else path.name]
    packages, unlisted = list[Package](), list[Unlisted]()
    try:
        for name, version, marker, direct in reader(path):
            where = f"{path.name}: {shown(name, 60)}"
            if not isinstance(version, str) or not is_version("PyPI", version):
                seen = shown(version, 40) if version else "none"
                unlisted.append(Unlisted(where=where, reason=f"its version is {seen}", hint=_LOCAL))
            elif counts(marker if isinstance(marker, str) else "", environment):
                packages.append(
                    Package(ecosystem="PyPI", name=normal(name), version=version, where=path.name, direct=direct)
                )
    except UnreadableError as error:
        unlisted.append(Unlisted(where=path.name, reason=f"the file cannot be read: {error}", hint=_ANEW))
    return Listed(packages=tuple(dict.fromkeys(packages)), unlisted=bounded(unlisted, path.name))


def _pylock(path: Path) -> Iterator[_Entry]:
    document = toml(path)
    if str(document.get("lock-version", "")).partition(".")[0] != "1":
        raise UnreadableError(f"its lock-version is {shown(document.get('lock-version'), 40)}, expected 1.x")
    wanted = wanted_beside(path.parent)
    for entry in _entries(document, "packages"):
        if isinstance(entry.get("directory"), dict) and "version" not in entry:
            continue  # code of the project itself
        archive = entry.get("archive")
        named = from_file_name(str(archive.get("url") or archive.get("path"))) if isinstance(archive, dict) else None
        version = entry.get("version") or (named[1] if named else None)
        yield entry["name"], version, entry.get("marker"), _direct(entry["name"], wanted)


def _uv(path: Path) -> Iterator[_Entry]:
    """The project's own packages are `virtual`, `editable` or `directory`; what they need is direct."""
    document = toml(path)
    if document.get("version") != 1:
        raise UnreadableError(f"its version is {shown(document.get('version'), 40)}, expected 1")
    entries = list(_entries(document, "package"))
    own = [
        entry
        for entry in entries
        if isinstance(s := entry.get("source"), dict) and {"virtual", "editable", "directory"} & set(s)
    ]
    wanted = frozenset(normal(name) for entry in own for name in _needs(entry))
    for entry in entries:
        if entry not in own:
            yield entry["name"], entry.get("version"), None, _direct(entry["name"], wanted if own else None)


def _needs(entry: dict[str, Any]) -> Iterator[str]:
    groups = [entry.get("dependencies")]
    for key in ("optional-dependencies", "dev-dependencies"):
        table = entry.get(key)
        groups += list(table.values()) if isinstance(table, dict) else []
    for group in groups:
        for one in group if isinstance(group, list) else ():
            if isinstance(one, dict) and isinstance(one.get("name"), str):
                yield one["name"]


def _poetry(path: Path) -> Iterator[_Entry]:
    document = toml(path)
    wanted = wanted_beside(path.parent)
    if "metadata" not in document and "package" not in document:
        raise UnreadableError("it holds neither `package` nor `metadata`")
    for entry in _entries(document, "package"):
        yield entry["name"], entry.get("version"), _poetry_marker(entry), _direct(entry["name"], wanted)


def _poetry_marker(entry: dict[str, Any]) -> Any:
    """Since poetry 2.0 `markers` is a text, or a table by group: in any of them it may be installed."""
    markers = entry.get("markers")
    if isinstance(markers, dict):
        texts = [m for m in markers.values() if isinstance(m, str)]
        return " or ".join(f"({m})" for m in texts) if len(texts) == len(markers) else None
    return markers


def _pipfile(path: Path) -> Iterator[_Entry]:
    document = json_object(read_bytes(path))
    if "default" not in document and "develop" not in document:
        raise UnreadableError("it holds neither `default` nor `develop`")
    wanted = wanted_beside(path.parent)
    for section in (key for key, table in document.items() if key != "_meta" and isinstance(table, dict)):
        for name, entry in document[section].items():
            if not isinstance(entry, dict):
                raise UnreadableError(f"{shown(name, 60)} is {shown(entry, 40)}, expected an object")
            version = str(entry.get("version") or "").removeprefix("==").removeprefix("=")
            yield name, version, entry.get("markers"), _direct(name, wanted)


def _entries(document: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    entries = document.get(key, [])
    if not isinstance(entries, list):
        raise UnreadableError(f"`{key}` is no list of tables")
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise UnreadableError(f"`{key}` holds an entry without a name: {shown(entry, 60)}")
        yield entry


def _direct(name: str, wanted: frozenset[str] | None) -> bool | None:
    return None if wanted is None else normal(name) in wanted


_READERS: dict[str, Callable[[Path], Iterator[_Entry]]] = {
    "pylock.toml": _pylock,
    "uv.lock": _uv,
    "poetry.lock": _poetry,
    "Pipfile.lock": _pipfile,
}
