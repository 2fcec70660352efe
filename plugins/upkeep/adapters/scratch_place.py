"""Folders of scratch servers below the scratch folder, found and removed also when their worker was killed.

A folder holds `.owner` (locked by the worker for as long as it lives), `data` (the cluster), `socket` and whatever the
test needs beside it. Nothing outside such a folder is ever removed, and no process is ended whose working directory is
not the `data` of one.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from upkeep.adapters import process
from upkeep.core.backup import Leftover
from upkeep.core.errors import ConfigurationError, UnsafeError

PREFIX = "restore-"
_LOCK = ".owner"
_SOCKETS = "socket-folder"  # a file that names the socket's folder when that lies elsewhere
_SOCKET_PREFIX = "upkeep-socket-"
_LONGEST = 90  # of the 107 bytes that a socket's path may have
_GONE_SECONDS = 20.0


class User(NamedTuple):
    """Who a scratch server runs as; uid -1: who we are."""

    uid: int
    gid: int
    name: str


def server_user() -> User:
    """Return who a scratch server runs as: PostgreSQL refuses root, for whom it is UPKEEP_SCRATCH_USER or `nobody`.

    Not `postgres`: whoever restores runs code that is in the backup, and that user may own the source's files here.
    """
    if os.geteuid() != 0:
        return User(-1, -1, pwd.getpwuid(os.geteuid()).pw_name)
    name = os.environ.get("UPKEEP_SCRATCH_USER", "nobody")
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ConfigurationError(f"there is no user {name!r} on this machine", "correct UPKEEP_SCRATCH_USER") from None
    if found.pw_uid == 0:
        raise ConfigurationError("UPKEEP_SCRATCH_USER is root, as whom PostgreSQL does not run", "name another user")
    return User(found.pw_uid, found.pw_gid, name)


def prefix(target: str) -> str:
    """Return what the names of all folders for a target begin with."""
    return f"{PREFIX}{target.replace('/', '~')}-"


def check_reachable(path: Path, user: User) -> None:
    """Refuse what the server's user cannot reach, before initdb says it less clearly.

    :raises ConfigurationError: naming the first folder in the way.
    """
    for folder in reversed((path / "x").parents) if user.uid >= 0 else ():
        if not folder.stat().st_mode & stat.S_IXOTH:
            raise ConfigurationError(
                f"a scratch server, started by root, runs as user {user.name}, who cannot enter {folder}",
                "set UPKEEP_SCRATCH_DIR (for data) or UPKEEP_PG_BIN (for programs) to a folder that others may enter",
            )


@contextmanager
def scratch_place(scratch: Path, target: str, name: str) -> Iterator[Path]:
    """Make the folder of one scratch server; afterwards end what runs on it and remove it, whatever happens."""
    user = server_user()
    if user.uid >= 0 and scratch.stat().st_uid == os.geteuid():
        scratch.chmod(stat.S_IMODE(scratch.stat().st_mode) | stat.S_IXOTH)  # others may pass, not look or write
    check_reachable(scratch, user)
    folder = scratch.resolve() / f"{prefix(target)}{name}-{os.getpid()}-{secrets.token_hex(2)}"
    folder.mkdir(mode=0o700, parents=True)
    try:
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if user.uid >= 0:
                folder.chmod(0o711)
            yield folder
    finally:
        clear(folder)


def private(folder: Path, user: User) -> Path:
    """Make a folder that only the server's user (and root) may enter."""
    folder.mkdir(mode=0o700)
    if user.uid >= 0:
        os.chown(folder, user.uid, user.gid)
    return folder


def socket_folder(folder: Path, user: User) -> Path:
    """Make the folder of the server's socket: in `folder`, or in the temporary folder when the path gets too long."""
    near = folder / "socket"
    if len(os.fsencode(near)) <= _LONGEST:
        return private(near, user)
    far = Path(tempfile.gettempdir()) / f"{_SOCKET_PREFIX}{secrets.token_hex(8)}"
    (folder / _SOCKETS).write_text(str(far))  # first the note, so that none is left behind
    return private(far, user)


def abandoned(scratch: Path, target: str) -> list[Leftover]:
    """List the scratch servers of this target whose worker is gone, running or not."""
    found = []
    for folder in sorted(scratch.glob(f"{prefix(target)}*")):
        if folder.is_dir() and not folder.is_symlink() and not owned(folder):
            running = len(processes(folder / "data"))
            reason = f"the worker that made it is gone, {running} of its processes are not"
            found.append(Leftover(kind="staging", name=folder.name, bytes=_size(folder), reason=reason))
    return found


def remove(scratch: Path, leftover: Leftover) -> None:
    """End and remove an abandoned scratch server."""
    if not leftover.name.startswith(PREFIX) or "/" in leftover.name:
        raise UnsafeError(f"{leftover.name!r} is not the name of a scratch server's folder", "this is a bug: report it")
    clear(scratch / leftover.name)


def clear(folder: Path) -> None:
    """End whatever still runs on a scratch server's data and remove its folder."""
    data = folder / "data"
    shared = _shared_memory(data)
    _end(data)
    _forget_shared_memory(shared)
    with contextlib.suppress(OSError):
        far = Path((folder / _SOCKETS).read_text())
        if far.name.startswith(_SOCKET_PREFIX) and far.parent == Path(tempfile.gettempdir()):
            shutil.rmtree(far, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def processes(data: Path) -> list[int]:
    """Return the processes whose working directory is `data`, which PostgreSQL's processes keep all their life.

    Where there is no /proc: the postmaster that the cluster's own lock file names, when its command line names `data`.
    """
    if not sys.platform.startswith("linux"):
        return _by_lock_file(data)
    found, place = [], os.path.realpath(data)
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            # A folder that was removed under a process is shown with this ending.
            if str(link.readlink()).removesuffix(" (deleted)") == place:
                found.append(int(link.parent.name))
    return found


def _by_lock_file(data: Path) -> list[int]:
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        _, out = process.run(["ps", "-o", "command=", "-p", str(pid)])
        return [pid] if str(data) in out.decode(errors="replace") else []
    return []


def _end(data: Path) -> None:
    """End the processes on `data`: the postmaster in good order, whoever is left by force."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        head = int((data / "postmaster.pid").read_text().splitlines()[0])
        if head in processes(data):
            os.kill(head, signal.SIGQUIT)
            _await_none(data, _GONE_SECONDS)
    for pid in processes(data):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _await_none(data, _GONE_SECONDS)


def _await_none(data: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while processes(data) and time.monotonic() < deadline:
        time.sleep(0.05)


def _shared_memory(data: Path) -> int | None:
    """Return the id of the System V segment that a killed postmaster has left, None when there is none of its own."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = (data / "postmaster.pid").read_text().splitlines()
        key, number = (int(part) for part in lines[6].split())
        for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]:
            fields = line.split()
            if (int(fields[0]), int(fields[1]), int(fields[4])) == (key, number, int(lines[0])):
                return number
    return None


def _forget_shared_memory(number: int | None) -> None:
    if number is not None:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).shmctl(number, 0, None)  # 0 is IPC_RMID; one that is gone is an error that nobody minds


def owned(folder: Path) -> bool:
    """Whether the worker that made a scratch server's folder lives."""
    try:
        with (folder / _LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        # Between its making and its lock a folder is empty, for a moment; one that is not was half removed.
        with contextlib.suppress(OSError):
            return not any(folder.iterdir()) and time.time() - folder.stat().st_mtime < _GONE_SECONDS
    return False


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total
