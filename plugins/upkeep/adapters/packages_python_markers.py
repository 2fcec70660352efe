"""Whether a line with a marker counts, what pins a version, and what may be shown of a line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from upkeep.adapters._package_text import UnreadableError, read_bytes, shown
from upkeep.adapters.versions import is_version
from upkeep.core.text import looks_secret

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def counts(marker: str, environment: Mapping[str, str]) -> bool:
    """Tell whether something under a marker (PEP 508) is meant for an environment.

    :param environment: what is known of it (`python_version` ...); where nothing is, everything counts: a package too
        many is looked up in vain, one too few is never looked up.
    """
    from packaging.markers import InvalidMarker, Marker, UndefinedEnvironmentName, default_environment

    if not marker or not environment:
        return True
    known: dict[str, str] = {**default_environment(), "extra": "", **environment}  # type: ignore[dict-item]
    if "python_version" in environment and "python_full_version" not in environment:
        known["python_full_version"] = f"{environment['python_version']}.0"
    try:
        return Marker(marker).evaluate(known)
    except (InvalidMarker, UndefinedEnvironmentName, ValueError):
        return True


def pinned(specifiers: Iterable[Any]) -> str:
    """Return the version that specifiers (of `packaging`) allow alone, empty when there are several or none."""
    exact = {s.version for s in specifiers if s.operator in ("==", "===") and not s.version.endswith(".*")}
    version = exact.pop() if len(exact) == 1 else ""
    return version if version and is_version("PyPI", version) else ""


def from_file_name(url: str) -> tuple[str, str] | None:
    """Return name and version by the name of a wheel or source archive at the end of a URL or path.

    >>> from_file_name("https://files.example/Pillow-8.0.0-cp38-cp38-linux_x86_64.whl#sha256=00")
    ('pillow', '8.0.0')
    """
    from packaging.utils import (
        InvalidSdistFilename,
        InvalidWheelFilename,
        parse_sdist_filename,
        parse_wheel_filename,
    )

    last = re.split(r"[?#;]", url, maxsplit=1)[0].rstrip("/").rpartition("/")[2].replace("%2B", "+")
    try:
        if last.endswith(".whl"):
            name, version, _, _ = parse_wheel_filename(last)
        else:
            name, version = parse_sdist_filename(last)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
    return str(name), str(version)


def showable(line: str) -> str:
    """Return a line of a manifest as it may be shown: without credentials, control characters and excess length."""
    # Shortened first: the search for credentials takes the square of the length.
    masked = _CREDENTIALS.sub("***@", line.strip()[:1000])
    return "(a line that holds a credential)" if looks_secret(masked) else shown(masked)


def wanted_beside(folder: Path) -> frozenset[str] | None:
    """Return the names that the project in a folder asks for itself (pyproject.toml, Pipfile), None if nothing tells.

    The files are read as TOML; no build backend is asked.
    """
    found = [names for name in ("pyproject.toml", "Pipfile") if (names := _wanted_by(folder / name)) is not None]
    return frozenset().union(*found) if found else None


def _wanted_by(path: Path) -> frozenset[str] | None:
    try:
        document = toml(path)
    except UnreadableError:
        return None
    project, poetry = _table(document, "project"), _table(document, "tool", "poetry")
    lines = [*_texts(project.get("dependencies"))]
    for extra in (*_table(project, "optional-dependencies").values(), *_table(document, "dependency-groups").values()):
        lines += _texts(extra)
    names = [match[0] for line in lines if (match := re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line))]
    for table in (
        _table(poetry, "dependencies"),
        _table(poetry, "dev-dependencies"),
        *(_table(group, "dependencies") for group in _table(poetry, "group").values() if isinstance(group, dict)),
        _table(document, "packages"),
        _table(document, "dev-packages"),
    ):
        names += list(table)
    return frozenset(normal(name) for name in names)


def toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file holds.

    :raises UnreadableError: it cannot be read, or is no TOML.
    """
    import tomllib

    try:
        return tomllib.loads(read_bytes(path).decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError(f"it is no TOML: {shown(error)}") from None


def normal(name: str) -> str:
    """Return a name as PyPI compares names."""
    from packaging.utils import canonicalize_name

    return str(canonicalize_name(name))


def _table(document: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    found: Any = document
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
