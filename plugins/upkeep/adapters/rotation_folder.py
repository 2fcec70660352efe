"""A folder in which files are found and changed without ever leaving it: each step goes by a handle of the one before.

A path is a promise of the moment: between a look at `/logs/app/x` and the deed, somebody may put a link in the place of
`app`. So each folder on the way is opened inside the one above it, and never through a symbolic link.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Self

from upkeep.core.rotation import NotDone, quoted

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DEEPEST = 40
_PAUSE_SECONDS = 0.05
LOCK_SECONDS = 20.0


class OutsideError(ValueError):
    """A path does not lie below the folder."""


class Folder:
    """An open folder. `path` is where it really lies; names are relative to it and may hold any bytes."""

    def __init__(self, path: str) -> None:
        self.given = os.path.normpath(path)
        self.path = os.path.realpath(path)
        self.fd = os.open(self.path, _DIRECTORY)
        self.blocked: list[tuple[str, OSError]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self.fd)

    def relative(self, path: str) -> tuple[str, ...]:
        """Return the parts of a path or glob below this folder. :raises OutsideError: it does not lie there."""
        # Not resolved: a link on the way must be seen as one, and globs are no paths.
        given = os.path.normpath(path if os.path.isabs(path) else os.path.join(self.given, path))  # noqa: PTH117, PTH118
        for base in (self.given, self.path):
            if given.startswith(base.rstrip("/") + "/"):
                parts = tuple(given[len(base.rstrip("/")) + 1 :].split("/"))
                if ".." not in parts:
                    return parts
        raise OutsideError(path)

    @contextmanager
    def parent(self, name: str) -> Iterator[tuple[int, str]]:
        """Open the folder that a file lies in; give its handle and the file's own name.

        :raises OSError: it is gone, or a symbolic link has taken its place (ELOOP, ENOTDIR).
        """
        *above, leaf = name.split("/")
        if not leaf or {"", ".", ".."} & {*above, leaf}:
            raise OSError(errno.EINVAL, "no name of a file in this folder")
        fd = os.dup(self.fd)
        try:
            for part in above:
                inner = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd, leaf
        finally:
            os.close(fd)

    def absolute(self, name: str) -> str:
        """Return the path of a file by its name."""
        return f"{self.path.rstrip('/')}/{name}"

    def folders(self, parts: Sequence[str], links: list[str]) -> Iterator[str]:
        """Yield the folders (as prefixes: empty or ending in `/`) that a glob's parts mean; `**` is any depth.

        Symbolic links in the place of a folder are not followed but added to `links`; folders that cannot be listed are
        passed over and added to `blocked`.
        """
        yield from self._expand("", tuple(parts), links, 0)

    def _expand(self, prefix: str, parts: tuple[str, ...], links: list[str], depth: int) -> Iterator[str]:
        if not parts:
            yield prefix
            return
        head, rest = parts[0], parts[1:]
        if head == "**":
            yield from self._expand(prefix, rest, links, depth)
        if depth >= _DEEPEST:
            return
        try:
            entries = self.entries(prefix)
        except OSError as error:
            self.blocked.append((prefix, error))
            return
        for entry in entries:
            if not (fits(entry.name, "*") if head == "**" else fits(entry.name, head)):
                continue
            if entry.is_symlink():
                if self._leads(prefix + entry.name):
                    links.append(prefix + entry.name)
            elif entry.is_dir(follow_symlinks=False):
                yield from self._expand(f"{prefix}{entry.name}/", parts if head == "**" else rest, links, depth + 1)

    def _leads(self, name: str) -> bool:
        """Tell whether a symbolic link leads to a folder outside of this one."""
        target = os.path.realpath(self.absolute(name))
        return os.path.isdir(target) and not target.startswith(self.path.rstrip("/") + "/")  # noqa: PTH112

    def entries(self, prefix: str) -> list[os.DirEntry[str]]:
        """List one folder by its prefix; entries are looked at while it is open. A folder that went lists nothing."""
        try:
            with self.parent(prefix + "x") as (fd, _), os.scandir(fd) as found:
                listed = sorted(found, key=lambda e: e.name)
                for entry in listed:
                    entry.is_symlink()
                    entry.is_dir(follow_symlinks=False)
                return listed
        except (FileNotFoundError, NotADirectoryError):
            return []

    def stat(self, name: str) -> os.stat_result:
        """Look at a file, never through a link. :raises OSError: it is gone, or its folder is not to be entered."""
        with self.parent(name) as (fd, leaf):
            return os.stat(leaf, dir_fd=fd, follow_symlinks=False)

    def open(self, name: str) -> int:
        """Open a regular file for reading, never through a link, and never waiting as for a pipe."""
        with self.parent(name) as (fd, leaf):
            handle = os.open(leaf, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "not a regular file")
        return handle

    @contextmanager
    def alone(self, patience: float = LOCK_SECONDS) -> Iterator[NotDone | None]:
        """Keep other runs out; give why that is not possible. The kernel lets go when this process ends, however.

        The lock lies on the folder itself and not on a file in it: nothing is left behind, and it works read-only.
        """
        handle = os.open(self.path, _DIRECTORY)
        try:
            yield self._lock(handle, patience)
        finally:
            os.close(handle)

    def _lock(self, handle: int, patience: float) -> NotDone | None:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return NotDone("busy", f"{self.path}: another run works in this folder since {patience:g} s")
                time.sleep(_PAUSE_SECONDS)
            except OSError as error:
                return NotDone("other", f"{self.path}: cannot be locked: {error.strerror}")
            else:
                return None


def names_in(fd: int) -> list[str]:
    """List an open folder."""
    with os.scandir(fd) as entries:
        return sorted(entry.name for entry in entries)


def fits(name: str, pattern: str) -> bool:
    """Tell whether a name is the pattern itself or matches it as a glob; hidden files only when that is asked for."""
    if name == pattern:
        return True
    return (not name.startswith(".") or pattern.startswith(".")) and fnmatchcase(name, pattern)


def why(error: OSError, name: str) -> NotDone:
    """Return an error of the operating system as a value."""
    reasons: dict[int | None, str] = {
        errno.ENOSPC: "full", errno.EDQUOT: "full", errno.EFBIG: "full",
        errno.EACCES: "privilege", errno.EPERM: "privilege", errno.EROFS: "privilege",
        errno.ENOENT: "gone", errno.ELOOP: "refused", errno.ENOTDIR: "refused",
    }  # fmt: skip
    reason = reasons.get(error.errno, "other")
    return NotDone(reason, f"{quoted(name)}: {error.strerror or error}")  # type: ignore[arg-type]
