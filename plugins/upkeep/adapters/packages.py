"""The packages of a target, whatever ecosystem they are of."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from upkeep.adapters import packages_containers, packages_debian, packages_npm, packages_python
from upkeep.core.audit import Limits, Listed, Package, Unlisted
from upkeep.core.targets import DependenciesTarget

type DockerAddress = Callable[[str], str]
_LEFT_BESIDE = re.compile(r"\.\d{8}T\d{6}Z\.before(-\d+)?$|\.upkeep-")


def listed(target: DependenciesTarget, limits: Limits, docker_address: DockerAddress) -> Listed:
    """Return the packages of a target; what cannot be read of it is unlisted.

    :raises ConfigurationError: it names a Docker connection that does not exist.
    """
    if target.ecosystem == "debian":
        return packages_debian.installed()
    if target.ecosystem == "containers":
        address = docker_address(target.docker_conn_id or "")
        return sum((packages_containers.list_image(image, address) for image in target.images), Listed())
    found = _manifests(target, limits)
    if target.ecosystem == "python" and target.environment:
        found += packages_python.read_environment(Path(target.environment))
    return found


def _manifests(target: DependenciesTarget, limits: Limits) -> Listed:
    files = {path: None for pattern in target.manifests for path in paths(pattern)}
    same = Counter(path.name for path in files)
    found = Listed(unlisted=tuple(one for pattern in target.manifests for one in _unmatched(pattern)))
    for path in files:
        one = _manifest(path, target.ecosystem, limits)
        found += _told_apart(one, path) if same[path.name] > 1 else one
    return found


def _unmatched(pattern: str) -> Iterator[Unlisted]:
    if not paths(pattern):
        yield Unlisted(where=pattern, reason="no file matches", hint="correct `manifests` of the target")
    for folder in _closed(pattern):
        reason = f"{folder} cannot be looked into: manifests in it would not be seen"
        yield Unlisted(where=pattern, reason=reason, hint="correct its rights, or name the files one by one")


def _manifest(path: Path, ecosystem: str, limits: Limits) -> Listed:
    if ecosystem == "npm":
        return packages_npm.read_lock(path)
    return packages_python.read_manifest(path, limits.markers)


def paths(pattern: str) -> list[Path]:
    """Return the files that a path or glob stands for; a path stands for itself, whether it exists or not.

    What an update leaves beside a manifest is none.
    """
    if not _is_glob(pattern):
        return [Path(pattern)]
    return sorted(path for path in _glob(pattern) if not _LEFT_BESIDE.search(path.name))


def _closed(pattern: str) -> list[Path]:
    """Return the folders that a glob leads through and that cannot be searched: a glob passes them without a word."""
    parts = Path(pattern).parts
    first = next((n for n, part in enumerate(parts) if _is_glob(part)), len(parts))
    found = {folder: None for end in range(first, len(parts)) for folder in _glob(str(Path(*parts[:end])))}
    return [one for one in found if one.is_dir() and not os.access(one, os.R_OK | os.X_OK, effective_ids=True)]


def _glob(pattern: str) -> list[Path]:
    path = Path(pattern)
    if not _is_glob(pattern):
        return [path]
    root = Path(path.anchor or ".")
    return list(root.glob(str(path.relative_to(path.anchor) if path.anchor else path)))


def _is_glob(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _told_apart(found: Listed, path: Path) -> Listed:
    """Put the folder's name before places in manifests of the same name."""

    def place[T: (Package, Unlisted)](one: T) -> T:
        return one.model_copy(update={"where": f"{path.parent.name}/{one.where}"})

    return Listed(
        packages=tuple(place(p) for p in found.packages),
        unlisted=tuple(place(u) for u in found.unlisted),
        open_ended=tuple(f"{path.parent.name}/{name}" for name in found.open_ended),
    )
