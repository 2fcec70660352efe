"""Whether a resolver finds versions of everything that fit together, asked of uv without installing or building.

Nothing of the packages runs: where only a source archive could tell what a package needs, the answer is "unchecked".
"""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Literal

from upkeep.adapters._package_run import ask
from upkeep.adapters._package_text import UnreadableError, shown
from upkeep.adapters.outdated_config import Registries
from upkeep.adapters.process import environment

_INCLUDE = re.compile(r"^(\s*(?:-r|--requirement|-c|--constraint)[ =]+)(?!\S+://)(\S+)", re.M)

type Answer = tuple[Literal["yes", "conflict", "unchecked"], str]


def uv_program() -> Path | None:
    """Return uv: the one that is installed beside us, else the machine's."""
    beside = Path(sysconfig.get_path("scripts")) / "uv"
    found = beside if beside.is_file() else shutil.which("uv")
    return Path(found) if found else None


def resolve(text: str, folder: Path, registries: Registries, *, python: str | None, timeout: float) -> Answer:
    """Ask whether the requirements of a file that lies in `folder` can be met together."""
    uv = uv_program()
    if uv is None:
        return "unchecked", "uv is not installed"
    command: list[str | Path] = [
        uv, "pip", "compile", "", "--quiet", "--no-config", "--no-build", "--no-header", "--color", "never",
        "--no-progress", "--python", python or sys.executable,
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="upkeep-resolve-") as scratch:
        manifest = Path(scratch) / "requirements.txt"
        manifest.write_text(_anchored(text, folder), newline="")
        command[3] = manifest
        try:
            said = ask(command, timeout=timeout, env=_environment(registries, scratch), cwd=Path(scratch))
        except UnreadableError as error:
            return "unchecked", str(error)
    if said.code == 0:
        return "yes", ""
    words = shown(" ".join(" ".join(said.errors).split()), 900)
    return ("conflict" if "No solution found" in words and not _away(words) else "unchecked"), words


def _away(words: str) -> bool:
    """Tell whether there was no solution only because versions could not be looked at."""
    return any(
        reason in words
        for reason in ("network was disabled", "wasn't found in the cache", "was not found in the package registry",
                       "building from source is disabled", "has no usable wheels", "Failed to fetch")
    )  # fmt: skip


def _environment(registries: Registries, scratch: str) -> dict[str, str]:
    # In the environment and not on the command line, which everybody on the machine can read.
    *extra, main = registries.python_urls
    return environment(
        UV_DEFAULT_INDEX=main, UV_INDEX=" ".join(extra), UV_CACHE_DIR=f"{scratch}/cache", UV_PYTHON_DOWNLOADS="never",
        UV_HTTP_TIMEOUT="15", UV_HTTP_RETRIES="1",
    )  # fmt: skip


def _anchored(text: str, folder: Path) -> str:
    """Return requirements whose included files are found from anywhere."""
    return _INCLUDE.sub(lambda found: f"{found[1]}{folder / found[2]}", text)
