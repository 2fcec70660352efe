"""Which processes have files open: what rotation must know before it compresses or deletes one."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from upkeep.core.rotation import Holder, Unlinked, quoted

_PROC = Path("/proc")
_DELETED = " (deleted)"


@dataclass
class OpenFiles:
    """Who has files open, by device and inode; `unseen`: ids of processes that we may not look into."""

    held: dict[tuple[int, int], list[Holder]] = field(default_factory=dict)
    unlinked: list[tuple[str, int, Holder]] = field(default_factory=list)
    unseen: list[int] = field(default_factory=list)

    def holders(self, device: int, inode: int) -> tuple[Holder, ...]:
        """Return who has a file open."""
        return tuple(dict.fromkeys(self.held.get((device, inode), ())))

    def writers(self, device: int, inode: int) -> tuple[Holder, ...]:
        """Return who has a file open for writing."""
        return tuple(h for h in self.holders(device, inode) if h.writes)

    def below(self, folder: str) -> tuple[Unlinked, ...]:
        """Return the files below a folder that are deleted and open."""
        base = folder.rstrip("/") + "/"
        found = {
            (path, h): Unlinked(name=quoted(path[len(base) :]), size=size, holder=h)
            for path, size, h in self.unlinked
            if path.startswith(base)
        }
        return tuple(found.values())


def scan(wanted: Collection[tuple[int, int]], folder: str = "", only: Collection[int] | None = None) -> OpenFiles:
    """Look into every process (or `only` some) but this one, for files by device and inode.

    :param folder: where deleted files are looked for, too. A machine without /proc has everything unseen.
    """
    found = OpenFiles()
    if not _PROC.joinpath("self", "fd").exists():
        found.unseen.append(0)
        return found
    for pid in processes() if only is None else only:
        if pid == os.getpid():
            continue
        try:
            _look_into(pid, wanted, folder, found)
        except PermissionError:
            found.unseen.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
    return found


def no_writer(handle: int) -> bool:
    """Tell whether the kernel knows that nobody at all has a file open for writing, in whichever container.

    It grants a read lease only then (fcntl(2), F_SETLEASE), to the owner of the file or with CAP_LEASE. False: somebody
    has, or we may not ask, or the file system has no leases.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        # Who opens the file in this very moment waits for us, and its signal must be one that ends nobody.
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True


def processes() -> list[int]:
    """Return the ids of all processes."""
    with os.scandir(_PROC) as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def family(pid: int) -> list[int]:
    """Return a process and all that it started, their children included."""
    children: dict[int, list[int]] = {}
    for other in processes():
        if (mother := _parent(other)) is not None:
            children.setdefault(mother, []).append(other)
    found, ahead = [pid], [pid]
    while ahead:
        for child in children.get(ahead.pop(), ()):
            found.append(child)
            ahead.append(child)
    return found


def _parent(pid: int) -> int | None:
    try:
        # proc(5): the name in parentheses may hold anything, the parent is the second field after it.
        return int(_PROC.joinpath(str(pid), "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None


def _look_into(pid: int, wanted: Collection[tuple[int, int]], folder: str, found: OpenFiles) -> None:
    with os.scandir(f"/proc/{pid}/fd") as handles:
        for handle in handles:
            try:
                seen = handle.stat()
            except OSError:
                continue  # it was closed meanwhile
            key = (seen.st_dev, seen.st_ino)
            if key in wanted:
                found.held.setdefault(key, []).append(_holder(pid, handle.name))
            if folder and not seen.st_nlink and stat.S_ISREG(seen.st_mode):
                _take_deleted(pid, handle, seen, found)


def _take_deleted(pid: int, handle: os.DirEntry[str], seen: os.stat_result, found: OpenFiles) -> None:
    try:
        path = str(Path(handle.path).readlink())
    except OSError:
        return
    found.unlinked.append((path.removesuffix(_DELETED), seen.st_blocks * 512, _holder(pid, handle.name)))


def _holder(pid: int, handle: str) -> Holder:
    return Holder(pid=pid, name=_name(pid), writes=_writes(pid, handle))


def _writes(pid: int, handle: str) -> bool:
    """Tell whether a handle is open for writing; taken for granted when the kernel does not say."""
    try:
        told = _PROC.joinpath(str(pid), "fdinfo", handle).read_text()
        flags = next(int(line.split()[1], 8) for line in told.splitlines() if line.startswith("flags:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return True
    return flags & os.O_ACCMODE != os.O_RDONLY


def _name(pid: int) -> str:
    try:
        return quoted(_PROC.joinpath(str(pid), "comm").read_text(errors="surrogateescape").rstrip("\n"))
    except OSError:
        return "?"
