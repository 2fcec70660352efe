"""The Python packages of a target: of its manifests, and of the environment that is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from upkeep.adapters.packages_python_installed import read_environment
from upkeep.adapters.packages_python_locks import read_lock
from upkeep.adapters.packages_python_requirements import read_requirements
from upkeep.core.audit import Listed, Unlisted

_LOCKS = {"uv.lock", "poetry.lock", "Pipfile.lock"}
_NO_MANIFEST = {
    "pyproject.toml": "it names what is wanted, not what is installed",
    "setup.py": "it would have to be executed",
    "setup.cfg": "it names what is wanted, not what is installed",
    "Pipfile": "it names what is wanted, not what is installed",
}


def read_manifest(path: Path, environment: Mapping[str, str]) -> Listed:
    """Return the packages of a manifest, whose name says what it is: a lock, else a requirements file."""
    if reason := _NO_MANIFEST.get(path.name):
        hint = "name its lock file (uv.lock, poetry.lock, pylock.toml, requirements.txt) or the environment"
        return Listed(unlisted=(Unlisted(where=path.name, reason=reason, hint=hint),))
    if path.name in _LOCKS or (path.name.startswith("pylock.") and path.suffix == ".toml"):
        return read_lock(path, environment)
    return read_requirements(path, environment)


__all__ = ["read_environment", "read_manifest"]
