"""Which files a log set's globs mean: each inode once, nothing outside of the tree, whatever cannot be read named."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from upkeep.adapters.log_secrets import visible
from upkeep.adapters.rotation_look import COPIED
from upkeep.core.log_files import Unread

_MAGIC = re.compile(r"[*?\[]")
_COMPRESSED = re.compile(r"\.(?:gz|bz2|xz|zst|Z)$")
_ROTATED = re.compile(r"(?:[-._](?:\d{4}-?\d\d-?\d\d(?:[-T_]?\d+)*|\d{1,4}))+(?=(?:\.[a-z]+)?$)")


@dataclass(frozen=True)
class LogFile:
    """A regular file as it was when the globs were read."""

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int

    @property
    def family(self) -> str:
        """Name of the log that it belongs to, the same after rotation."""
        return family(self.path)

    @property
    def folder(self) -> str:
        """The folder that it lies in."""
        return os.path.dirname(self.path)  # noqa: PTH120 # a name may be no path for pathlib

    @property
    def plain_path(self) -> str:
        """Its path without an ending that tells of compression: a file and what was made of it share it."""
        return _COMPRESSED.sub("", self.path)


@dataclass(frozen=True)
class Found:
    """What the globs gave: files, what was refused or cannot be looked into, and globs that match nothing."""

    files: tuple[LogFile, ...]
    unread: tuple[Unread, ...]
    missing: tuple[str, ...]


def family(path: str) -> str:
    """Return the name of a log without what rotation adds.

    >>> family("/x/app.log.2.gz"), family("/x/postgresql-2026-01-31_000000.log"), family("app.log-20260131-1769817600")
    ('app.log', 'postgresql.log', 'app.log')
    """
    name = Path(path).name
    if name.endswith(COPIED):
        name = name[1 : -len(COPIED)]
    return _ROTATED.sub("", _COMPRESSED.sub("", name))


def discover(patterns: Sequence[str]) -> Found:
    """Return the regular files that some globs match, each inode once, in the order of their names."""
    files: dict[tuple[int, int], LogFile] = {}
    unread: dict[str, Unread] = {}
    missing = []
    for pattern in patterns:
        tree = fixed_part(pattern)
        unread |= {u.path: u for u in _closed_folders(tree, pattern)}
        paths = sorted(p for g in (pattern, _copied(pattern)) for p in glob.glob(g, recursive=True))  # noqa: PTH207
        for path in paths:
            found = _look(path, tree)
            if isinstance(found, Unread):
                unread[path] = found
            elif found is not None:
                files.setdefault((found.device, found.inode), found)
        if not paths and not any(u.startswith(str(tree)) for u in unread):
            missing.append(pattern)
    return Found(tuple(files.values()), tuple(unread.values()), tuple(missing))


def _copied(pattern: str) -> str:
    """Return the glob of what rotation has copied and not named yet: the log is empty by then, or will be at once."""
    above, slash, leaf = pattern.rpartition("/")
    return f"{above}{slash}.{leaf}{COPIED}"


def fixed_part(pattern: str) -> Path:
    """Return the folder of a glob that no wildcard stands in: what it matches must lie below.

    >>> str(fixed_part("/var/log/app/*.log*")), str(fixed_part("/var/log/app/a.log"))
    ('/var/log/app', '/var/log/app')
    """
    parts = Path(pattern).parts
    magic = next((n for n, part in enumerate(parts) if _MAGIC.search(part)), len(parts) - 1)
    return Path(*parts[:magic]) if magic else Path()


def _look(path: str, tree: Path) -> LogFile | Unread | None:
    """Return a file, why it is none of ours, or None for folders and what has vanished."""
    try:
        home, real = os.path.realpath(tree), os.path.realpath(path, strict=True)
        if os.path.commonpath((real, home)) != home:
            hint = f"name the file itself in `paths` if it belongs to this log, or remove the link {visible(path)}"
            return Unread(path=visible(path), reason=f"a symbolic link that leads out of {tree}", hint=hint)
        facts = Path(real).stat()
    except FileNotFoundError:
        if not os.path.islink(path):  # noqa: PTH114 # a name may be no path for pathlib
            return None
        return Unread(path=visible(path), reason="a symbolic link that leads nowhere", hint="remove the link")
    except OSError as error:
        return refused(path, error)
    if stat.S_ISREG(facts.st_mode):
        return LogFile(path, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
    other = Unread(path=visible(path), reason="not a regular file", hint="let `paths` match log files only")
    return None if stat.S_ISDIR(facts.st_mode) else other


def refused(path: str, error: OSError) -> Unread:
    """Say why the system does not let us at a file, and the cure."""
    user = _user()
    if isinstance(error, PermissionError):
        hint = (
            f"as root: usermod -aG adm {user} (Debian's logs), or setfacl -m u:{user}:rX {visible(path)}, or chmod o+r"
        )
    else:
        hint = "look at the file and its volume"
    return Unread(path=visible(path), reason=error.strerror or type(error).__name__, hint=hint)


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _closed_folders(tree: Path, pattern: str) -> Iterator[Unread]:
    """Yield the folders that a glob would pass over in silence because they cannot be listed."""
    if not os.path.lexists(tree):
        return
    errors: list[OSError] = []
    deep = _MAGIC.search(str(Path(pattern).parent)) is not None
    for n, _ in enumerate(os.walk(tree, onerror=errors.append)):
        if not deep or n > 10_000:
            break
    for error in errors:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            yield refused(str(error.filename or tree), error)
