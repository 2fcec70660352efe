"""Images with nothing but PostgreSQL and a shell, made from this machine's own files: no registry is needed.

with import_server(api, 18, "upkeep-lab/postgres", "18", 'ENV PATH="/opt/pg/bin:/bin"'): ...
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab import wheels
from lab.process import LabError

HOME = "opt/pg"  # in the image
PROGRAMS = ("initdb", "postgres", "pg_checksums", "pg_controldata")
_ZONES = Path("/usr/share/zoneinfo")  # the wheels' servers have no time zones of their own
_LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x", re.M)


@contextlib.contextmanager
def import_server(api: Any, major: int, repository: str, tag: str, *changes: str) -> Iterator[str]:
    """Give a Docker daemon an image with the server of a major version; it is removed afterwards.

    :param api: a `docker.APIClient`.
    :param changes: lines of a Dockerfile (ENV, ENTRYPOINT, VOLUME).
    :raises LabError: the daemon does not take it.
    """
    name = f"{repository}:{tag}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.tar"
        _pack(major, path)
        said = api.import_image(src=str(path), repository=repository, tag=tag, changes=list(changes))
    if '"error"' in said:
        raise LabError(f"image {name}: {said[-500:]}")
    try:
        yield name
    finally:
        api.remove_image(name, force=True)


def _pack(major: int, path: Path) -> None:
    """Write the root of the image: programs, what they need, the libraries of both, a shell, and no user file."""
    home = wheels.bin(major).parent
    shell = Path("/bin/sh").resolve()
    programs = [home / "bin" / name for name in PROGRAMS]
    modules = sorted((home / "lib").rglob("*.so"))
    libraries = sorted({found for one in (*programs, *modules, shell) for found in _libraries(one)})
    foreign = [one for one in libraries if not one.is_relative_to(home)]
    with tarfile.open(path, "w") as tar:
        # Folders that an archive does not tell of become such as only root may enter.
        inside = [
            Path(HOME, "bin", "x"),
            Path("bin/x"),
            Path(str(_ZONES).lstrip("/")),
            *(Path(str(one).lstrip("/")) for one in foreign),
        ]
        for folder in sorted({str(folder) for one in inside for folder in one.parents} - {"."}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for part in (*programs, home / "lib", home / "share"):
            tar.add(part, f"{HOME}/{part.relative_to(home)}")
        tar.add(shell, "bin/sh")
        tar.add(_ZONES, str(_ZONES).lstrip("/"))
        for library in foreign:
            tar.add(library.resolve(), str(library).lstrip("/"))


def _libraries(program: Path) -> list[Path]:
    done = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return [Path(found) for found in _LIBRARY.findall(done.stdout)]
