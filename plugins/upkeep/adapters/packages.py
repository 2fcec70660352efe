"""The packages of a target, whatever ecosystem they are of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from upkeep.adapters import packages_containers, packages_debian, packages_npm, packages_python
from upkeep.core.audit import Limits, Listed, Package, Unlisted
from upkeep.core.system import DependenciesTarget

type DockerAddress = Callable[[str], str]


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
    paths = {path: None for pattern in target.manifests for path in _paths(pattern)}
    same = Counter(path.name for path in paths)
    found = Listed()
    for path in paths:
        one = _manifest(path, target.ecosystem, limits)
        found += _told_apart(one, path) if same[path.name] > 1 else one
    missing = [pattern for pattern in target.manifests if not _paths(pattern)]
    unlisted = tuple(
        Unlisted(where=pattern, reason="no file matches", hint="correct `manifests` of the target")
        for pattern in missing
    )
    return found + Listed(unlisted=unlisted)


def _manifest(path: Path, ecosystem: str, limits: Limits) -> Listed:
    if ecosystem == "npm":
        return packages_npm.read_lock(path)
    return packages_python.read_manifest(path, limits.markers)


def _paths(pattern: str) -> list[Path]:
    """Return the files that a path or glob stands for; a path stands for itself, whether it exists or not."""
    path = Path(pattern)
    if not any(sign in pattern for sign in "*?["):
        return [path]
    root = Path(path.anchor or ".")
    return sorted(root.glob(str(path.relative_to(path.anchor) if path.anchor else path)))


def _told_apart(found: Listed, path: Path) -> Listed:
    """Put the folder's name before places in manifests of the same name."""

    def place[T: (Package, Unlisted)](one: T) -> T:
        return one.model_copy(update={"where": f"{path.parent.name}/{one.where}"})

    return Listed(
        packages=tuple(place(p) for p in found.packages),
        unlisted=tuple(place(u) for u in found.unlisted),
        open_ended=tuple(f"{path.parent.name}/{name}" for name in found.open_ended),
    )
