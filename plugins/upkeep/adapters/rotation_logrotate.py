"""The system's `logrotate`: whether it suits a log, the configuration rendered for it, and what it complains about.

What it is trusted with is the renaming and the making of the new file: see docs/decisions/0013. Its exit code is not
trusted: with a directive it does not know, or a configuration file that others may write to, it ends with 0.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from upkeep.adapters import process
from upkeep.core.logs import Rotation
from upkeep.core.rotation import Order

if TYPE_CHECKING:
    from upkeep.adapters.rotation_turn import Place

_LEAST = (3, 15)
_KNOWS_WAITING = (3, 21)
# Its configuration is a language of its own, with globs, quotes and escapes; state files have one line a log.
_PLAIN = re.compile(r"[A-Za-z0-9_./@+,=:-][A-Za-z0-9_./@+,=: -]*")


@dataclass(frozen=True)
class Logrotate:
    """The program that was found."""

    path: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"logrotate {'.'.join(map(str, self.version))}"


@functools.cache
def find() -> Logrotate | None:
    """Return the machine's logrotate, None when there is none that can say its version."""
    path = shutil.which("logrotate", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None:
        return None
    done, out = process.run([path, "--version"])
    found = re.search(r"logrotate (\d+(?:\.\d+)+)", out.decode(errors="replace") + "\n".join(done.errors))
    return Logrotate(path, tuple(map(int, found[1].split(".")))) if found else None


def choose(place: Place, rotation: Rotation, order: Order) -> tuple[Logrotate | None, str]:
    """Return logrotate where it is to do it, else None; and what to say about that when it was asked for."""
    if order.program == "builtin":
        return None, ""
    found = find()
    reason = _unsuited(place, rotation, found)
    if not reason:
        return found, ""
    return None, f"logrotate was asked for and not used: {reason}" if order.program == "logrotate" else ""


def _unsuited(place: Place, rotation: Rotation, found: Logrotate | None) -> str:
    if found is None:
        return "it is not installed"
    if found.version < _LEAST:
        return f"{found} is older than 3.15"
    if not (rotation.reopen.signal or rotation.reopen.command):
        return "a writer that makes its file anew by itself may be quicker, and logrotate would rename that file, too"
    if not _PLAIN.fullmatch(place.folder.absolute(place.name)):
        return "the path has characters that mean something in its configuration"
    parent = os.fstat(place.fd)
    if os.geteuid() == 0 and parent.st_mode & stat.S_IWGRP and parent.st_gid != 0:
        return "it refuses folders that a group may write to"
    return ""


def render(path: str, order: Order) -> str:
    """Return the configuration for one log that is due. It keeps every file: deleting is not its affair."""
    return "\n".join(
        [
            "# Rendered from the system file for each rotation; changes are lost.",
            f'"{path}" {{',
            *(
                f"    {line}"
                for line in (
                    _when(order), "rotate -1", "dateext", "dateformat -%Y%m%d-%s", "create", "nocompress",
                    "notifempty", "missingok", "nomail",
                )
            ),
            "}",
            "",
        ]
    )  # fmt: skip


def _when(order: Order) -> str:
    if order.due == "age" and order.since is not None:
        age = datetime.now(UTC) - order.since
        if age > timedelta(hours=2):
            return "daily" if age > timedelta(days=2) else "hourly"
    return "size 1"


def seed(path: str, order: Order) -> str:
    """Return the state in which the log was last rotated when it began: without one, a first run rotates nothing."""
    since = order.since or datetime(2000, 1, 1, tzinfo=UTC)
    moment = f"{since.year}-{since.month}-{since.day}-{since.hour}:{since.minute}:{since.second}"
    return f'logrotate state -- version 2\n"{path}" {moment}\n'


def run(program: Logrotate, place: Place, order: Order, work: Path) -> tuple[str, ...]:
    """Let logrotate rotate one log; return what it complained about. Whether it did it, is seen at the files."""
    path = place.folder.absolute(place.name)
    configuration, state = work / "logrotate.conf", work / "logrotate.state"
    try:
        work.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(configuration, render(path, order), 0o644)
        _write(state, seed(path, order), 0o600)
    except OSError as error:
        return (f"{work}: the configuration for logrotate could not be written: {error.strerror}",)
    wait = ["--wait-for-state-lock"] if program.version >= _KNOWS_WAITING else []
    done, _ = process.run([program.path, *wait, "--state", state, configuration])
    if done.code and not done.errors:
        return (f"{program} ended with exit code {done.code}",)
    return tuple(f"{program}: {line.strip()}" for line in done.errors)


def _write(path: Path, text: str, mode: int) -> None:
    """Write a file with exactly this mode: a configuration that a group may write to is passed over in silence."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w") as file:
        os.fchmod(handle, mode)
        file.write(text)
