"""What is installed in a Python environment, read from its folders: its interpreter is not started.

Source: https://packaging.python.org/en/latest/specifications/recording-installed-packages/ (`*.dist-info`), and PEP 405
for `pyvenv.cfg`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from upkeep.adapters._package_text import UnreadableError, bounded, read_bytes, shown
from upkeep.adapters.packages_python_markers import normal
from upkeep.adapters.versions import is_version
from upkeep.core.audit import Listed, Package, Unlisted

_BELOW = ("lib/python3*/site-packages", "lib64/python3*/site-packages", "lib/python3*/dist-packages")
_BROKEN = "install it anew: pip and uv leave such a folder behind when they are interrupted"


def read_environment(interpreter: Path) -> Listed:
    """Return the packages of the environment that an interpreter (`.venv/bin/python`) or a folder belongs to."""
    packages, unlisted, seen = dict[Package, None](), list[Unlisted](), set[tuple[str, str]]()
    prefix = interpreter if interpreter.is_dir() else interpreter.parent.parent
    try:
        folders = list(_folders(prefix))
    except OSError as error:
        folders, reason = [], (error.strerror or "it cannot be read").lower()
        unlisted.append(Unlisted(where=str(prefix), reason=reason, hint="correct its rights"))
    if not folders and not unlisted:
        exists = "there is no site-packages below it" if prefix.is_dir() else "there is no such environment"
        unlisted.append(Unlisted(where=str(prefix), reason=exists, hint="correct `environment` of the target"))
    for folder in folders:
        try:
            next(folder.iterdir(), None)
            found = list(distributions(path=[str(place) for place in (folder, *_added(folder))]))
        except OSError as error:
            reason = (error.strerror or "it cannot be listed").lower()
            unlisted.append(Unlisted(where=str(folder), reason=reason, hint="correct its rights"))
            continue
        for distribution in found:
            taken = _taken(distribution, prefix)
            if isinstance(taken, Unlisted):
                unlisted.append(taken)
            elif (taken.name, taken.version) not in seen:
                seen.add((taken.name, taken.version))
                packages.setdefault(taken)
    named = any(package.direct for package in packages)
    # Where nothing at all was asked for by name (a copied environment, a tool's own installer), nobody can tell.
    known = packages if named else dict.fromkeys(one.model_copy(update={"direct": None}) for one in packages)
    return Listed(packages=tuple(known), unlisted=bounded(unlisted, str(prefix)))


def _folders(prefix: Path) -> Iterator[Path]:
    """Yield the folders with packages, each once; those of the system too where the environment shares them."""
    bases = [prefix]
    if prefix.name == "usr" or (prefix / "lib" / "python3").is_dir():
        bases.append(prefix / "local")
    home = _shared_home(prefix / "pyvenv.cfg")
    if home:
        bases += [home.parent, home.parent / "local"]
    seen = set[Path]()
    for base in bases:
        for pattern in (*_BELOW, "lib/python3/dist-packages"):
            for folder in sorted(base.glob(pattern)):
                if folder.is_dir() and folder.resolve() not in seen:
                    seen.add(folder.resolve())
                    yield folder


def _added(folder: Path) -> Iterator[Path]:
    """Yield what `.pth` files add to the path (https://docs.python.org/3/library/site.html), and eggs.

    Lines that are code are not run.
    """
    found = dict.fromkeys(sorted(folder.glob("*.egg")))
    for config in sorted(folder.glob("*.pth")):
        with contextlib.suppress(UnreadableError):
            lines = read_bytes(config, 1 << 20).decode("utf-8", "replace").splitlines()
            named = [line.strip() for line in lines if not line.startswith(("import ", "import\t", "#"))]
            found |= {folder / line: None for line in named if line}
    for place in found:
        with contextlib.suppress(OSError, ValueError):  # no path at all
            place.stat()
            yield place


def _shared_home(config: Path) -> Path | None:
    """Return the folder of the base interpreter when a virtual environment also sees what is installed there."""
    try:
        lines = read_bytes(config, 1 << 16).decode("utf-8", "replace").splitlines()
    except UnreadableError:
        return None
    values = {key.strip().lower(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    shared = values.get("include-system-site-packages", "false").lower() == "true"
    return Path(values["home"]) if shared and values.get("home", "").startswith("/") else None


def _taken(distribution: Distribution, prefix: Path) -> Package | Unlisted:
    folder = Path(str(getattr(distribution, "_path", prefix)))
    where = folder.name
    try:
        metadata = dict(distribution.metadata.items())  # type: ignore[attr-defined]
        name, version = metadata.get("Name"), metadata.get("Version")
        requested = distribution.read_text("REQUESTED") is not None
        installer = (distribution.read_text("INSTALLER") or "").strip()
    except (OSError, UnicodeError, ValueError, AttributeError, TypeError) as error:
        return Unlisted(where=where, reason=f"its metadata cannot be read: {shown(error)}", hint=_BROKEN)
    if not isinstance(name, str) or not isinstance(version, str) or not is_version("PyPI", version):
        seen = f"name {shown(name, 60)}, version {shown(version, 40)}"
        return Unlisted(where=where, reason=f"its metadata is not whole: {seen}", hint=_BROKEN)
    # pip and uv leave REQUESTED in what was asked for by name; other installers tell nothing.
    direct = True if requested else False if installer in ("pip", "uv") else None
    return Package(ecosystem="PyPI", name=normal(name), version=version, where=str(prefix), direct=direct)
