"""pip-audit's answer about the same Python packages, asked of the same service.

It decides with code of its own, so a difference is a fault of one of the two. Its exit code is 1 both when it finds
something and when it fails, so only its document counts. It gets a folder of its own and no more of the worker's
environment than programs need; with `--no-deps --disable-pip` it neither resolves, downloads nor builds anything.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from upkeep.adapters._package_text import shown
from upkeep.adapters.advisories_osv import looked_up_as
from upkeep.adapters.process import Done, Program, environment
from upkeep.core.audit import Audited, CrossChecked, Vulnerability
from upkeep.core.dependencies import AdvisorySource

PROGRAM = "pip-audit"
_MOST = 10


def cross_check(audited: Audited, sources: Sequence[AdvisorySource], seconds: float) -> CrossChecked | None:
    """Compare our findings with pip-audit's, None where no source is a service that it can be pointed at."""
    url = next((source.url.rstrip("/") for source in sources if source.url), None)
    silent = set(audited.unanswered)
    asked = [p for p in audited.listed.packages if p.ecosystem == "PyPI" and p not in silent]
    packages = dict.fromkeys(looked_up_as(p)[1:] for p in asked)
    if url is None or not packages:
        return None
    try:
        theirs = _ask(packages, f"{url}/v1/query", seconds)
    except _NoAnswer as error:
        return CrossChecked(program=PROGRAM, failed=str(error))
    ours = [v for v in audited.vulnerabilities if v.package.ecosystem == "PyPI"]
    differences = list(_differences(ours, theirs))
    if len(differences) > _MOST:
        differences = [*differences[:_MOST], f"and {len(differences) - _MOST} more"]
    return CrossChecked(program=PROGRAM, differences=tuple(differences))


class _NoAnswer(Exception):
    """It gave no document that can be compared."""


def program() -> Path | None:
    """Return where pip-audit is: beside this interpreter, else on the path."""
    beside = Path(sys.executable).with_name(PROGRAM)
    found = str(beside) if beside.is_file() else shutil.which(PROGRAM)
    return Path(found) if found else None


def _ask(packages: Iterable[tuple[str, str]], url: str, seconds: float) -> dict[tuple[str, str], list[set[str]]]:
    """Return the names of every vulnerability that it finds, by name and version of the package."""
    found = program()
    if found is None:
        raise _NoAnswer("it is not installed")
    with tempfile.TemporaryDirectory(prefix="upkeep-cross-") as folder:
        manifest = Path(folder, "requirements.txt")
        # One version of a package a file: it refuses a file that asks for two.
        asked: dict[str, list[str]] = {}
        for name, version in packages:
            asked.setdefault(name, []).append(version)
        answers: dict[tuple[str, str], list[set[str]]] = {}
        for turn in range(max(len(versions) for versions in asked.values())):
            lines = [f"{name}=={versions[turn]}" for name, versions in asked.items() if turn < len(versions)]
            manifest.write_text("\n".join(lines) + "\n")
            command: list[str | Path] = [
                found, "--requirement", manifest, "--no-deps", "--disable-pip", "--strict", "--format", "json",
                "--progress-spinner", "off", "--cache-dir", Path(folder, "cache"), "--vulnerability-service", "osv",
                "--osv-url", url,
            ]  # fmt: skip
            answers |= _read(_run(command, Path(folder), seconds), len(lines))
        return answers


def _run(command: list[str | Path], folder: Path, seconds: float) -> bytes:
    env = environment(HOME=str(folder), TMPDIR=str(folder), PIP_CONFIG_FILE="/dev/null", NO_PROXY="*")
    with Program(command, env=env, stdout=subprocess.PIPE, cwd=folder) as running:
        late = threading.Event()

        def end() -> None:
            late.set()
            running.stop()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            out = running.stdout.read(64 << 20)
            done = Done(running)
        finally:
            timer.cancel()
    if late.is_set():
        raise _NoAnswer(f"it did not end within {seconds:g} s")
    if done.code not in (0, 1):
        raise _NoAnswer(f"it ended with code {done.code}: {shown(' '.join(done.errors[-2:]))}")
    if not out.strip():
        raise _NoAnswer(f"it gave no document: {shown(' '.join(done.errors[-2:]))}")
    return out


def _read(out: bytes, asked: int) -> dict[tuple[str, str], list[set[str]]]:
    from packaging.utils import canonicalize_name, canonicalize_version

    try:
        entries: list[Any] = json.loads(out)["dependencies"]
        if skipped := [entry["name"] for entry in entries if "skip_reason" in entry]:
            raise _NoAnswer(f"it skipped {', '.join(map(shown, skipped[:5]))}")
        if len(entries) != asked:
            raise _NoAnswer(f"it spoke of {len(entries)} packages and was asked about {asked}")
        return {
            (str(canonicalize_name(e["name"])), canonicalize_version(e["version"])): [
                {v["id"], *v["aliases"]} for v in e["vulns"]
            ]
            for e in entries
        }
    except (ValueError, KeyError, TypeError) as error:
        raise _NoAnswer(f"its document is not as expected: {shown(error)}") from None


def _differences(ours: Sequence[Vulnerability], theirs: dict[tuple[str, str], list[set[str]]]) -> Iterable[str]:
    from packaging.utils import canonicalize_version

    mine: dict[tuple[str, str], list[set[str]]] = {}
    for v in ours:
        _, name, version = looked_up_as(v.package)
        mine.setdefault((name, canonicalize_version(version)), []).append(set(v.names))
    for key in sorted({*mine, *theirs}):
        for names in mine.get(key, ()):
            if not any(names & other for other in theirs.get(key, ())):
                yield f"{key[0]} {key[1]}: it does not find {min(names)}"
        for names in theirs.get(key, ()):
            if not any(names & other for other in mine.get(key, ())):
                yield f"{key[0]} {key[1]}: only it finds {min(names)}"
