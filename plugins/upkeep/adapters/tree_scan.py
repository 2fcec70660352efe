"""Looking for the files of a set, and opening them, without ever following a symbolic link out of the tree.

Folders that a system file names itself may be reached over links (`/srv/current/etc`): that was somebody's decision.
Below them every part of a name is opened by itself and refused when it is a link, so that nobody who may write in the
tree can make the backup read what lies outside, not even by swapping a folder for a link at the right moment.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from upkeep.core.errors import ConfigurationError
from upkeep.core.tree import FileSet

_WILD = re.compile(r"[*?\[]")
_GONE = (FileNotFoundError, NotADirectoryError)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


class Found(NamedTuple):
    """One thing that is chosen: `name` below the base of the scan, `path` below the folder `root`."""

    name: str
    root: str
    path: str
    stat: os.stat_result
    target: str = ""


@dataclass
class Scan:
    """What a look at the tree showed.

    `unmatched` are paths whose part without wildcards leads nowhere, `idle` those that are there and match nothing.
    """

    base: str
    found: list[Found] = field(default_factory=list)
    skipped: int = 0
    vanished: int = 0
    unmatched: int = 0
    idle: int = 0
    unreadable: list[str] = field(default_factory=list)


class _Root(NamedTuple):
    """A folder to walk: what is chosen in it (all, when there is no pattern), and how deep that can lie."""

    path: str
    patterns: list[re.Pattern[str]]
    depth: int | None


def scan(files: FileSet) -> Scan:
    """Look for the files of a set; nothing is read but folders."""
    roots, unmatched = _roots(files.paths)
    excluded = [_regex(part) for path in files.exclude for part in _with_folder(path)]
    result = Scan(base=os.path.commonpath([root.path for root in roots]), unmatched=unmatched)
    chosen: dict[str, Found] = {}
    for root in roots:
        for found in _Walk(root, excluded, result).run():
            # What one path goes through as a folder may be a link to another.
            if found.name not in chosen or not stat.S_ISDIR(chosen[found.name].stat.st_mode):
                chosen[found.name] = found
    result.found = [chosen[name] for name in sorted(chosen)]
    return result


@contextmanager
def opened(root: str, path: str, flags: int) -> Iterator[int]:
    """Open what lies at `path` below the folder `root`; no part of `path` may be a symbolic link.

    :raises OSError: as `open` does; a link is ELOOP or ENOTDIR.
    """
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *folders, last = path.split("/") if path else ["."]
        for folder in folders:
            handle = _step(handle, folder, _FOLDER)
        handle = _step(handle, last, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
        yield handle
    finally:
        os.close(handle)


def _step(handle: int, name: str, flags: int) -> int:
    """Open a name in a folder and close the folder, when that worked."""
    fresh = os.open(name, flags, dir_fd=handle)
    os.close(handle)
    return fresh


def _roots(paths: tuple[str, ...]) -> tuple[list[_Root], int]:
    """Return the folders to walk, and how many paths lead nowhere."""
    wanted: dict[str, list[tuple[str, ...]]] = {}
    unmatched = 0
    for path in paths:
        parts = _parts(path)
        fixed = next((n for n, part in enumerate(parts) if _WILD.search(part)), len(parts))
        root, rest = "/" + "/".join(parts[:fixed]), tuple(parts[fixed:])
        # Also of a path with wildcards: a volume that is not mounted must not pass for one without files.
        unmatched += not os.path.lexists(root)
        if not rest:
            # A folder means all that is in it, a file itself.
            rest = ("**",) if Path(root).is_dir() else (parts[-1],)
            root = root if rest == ("**",) else "/" + "/".join(parts[:-1])
        wanted.setdefault(root, []).append(rest)
    return [_Root(root, [_regex(r) for r in rests], _depth(rests)) for root, rests in wanted.items()], unmatched


def _depth(rests: list[tuple[str, ...]]) -> int | None:
    return None if any("**" in rest for rest in rests) else max(len(rest) for rest in rests)


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not path.startswith("/") or ".." in parts:
        raise ConfigurationError(f"path {path!r} is relative", "write absolute paths without `..` in the system file")
    return parts


def _with_folder(path: str) -> list[tuple[str, ...]]:
    """Return the patterns of an exclusion: `cache/**` leaves out the folder itself too; `*.tmp` holds everywhere."""
    parts = tuple(_parts(path if path.startswith("/") else f"/**/{path}"))
    return [parts, parts[:-1]] if parts[-1] == "**" else [parts]


def _regex(parts: tuple[str, ...]) -> re.Pattern[str]:
    """Translate a glob. The library's own either passes over hidden files or lets `*` cross a slash."""
    text = ""
    for number, part in enumerate(parts, 1):
        last = number == len(parts)
        if part == "**":
            text += ".+" if last else "(?:[^/]+/)*"
        else:
            text += _name(part) + ("" if last else "/")
    return re.compile(text, re.DOTALL)


def _name(glob: str) -> str:
    """Translate a glob for one name."""
    text, at = "", 0
    while at < len(glob):
        letter, at = glob[at], at + 1
        end = glob.find("]", at + 1) if letter == "[" else -1
        if end > 0:
            letters = glob[at:end].replace("\\", r"\\").replace("[", r"\[")
            text += f"(?!/)[{'^' + letters[1:] if letters[0] == '!' else letters.replace('^', r'\^')}]"
            at = end + 1
        else:
            text += {"*": "[^/]*", "?": "[^/]"}.get(letter) or re.escape(letter)
    return text


class _Walk:
    """A walk through one root."""

    def __init__(self, root: _Root, excluded: list[re.Pattern[str]], result: Scan) -> None:
        self._root, self._excluded, self._result = root, excluded, result
        self._above = os.path.relpath(root.path, result.base) if root.path != result.base else ""
        self._folders: dict[str, Found] = {}

    def run(self) -> Iterator[Found]:
        """Yield what is chosen, each after the folders it lies in."""
        told: set[str] = set()
        waiting = list(self._root.patterns)
        for found in self._all():
            if not any(pattern.fullmatch(found.path) for pattern in self._root.patterns):
                continue
            waiting = [pattern for pattern in waiting if not pattern.fullmatch(found.path)]
            if not told:
                yield from self._fixed()
            for above in self._parents(found.path):
                if above not in told:
                    told.add(above)
                    yield self._folders[above]
            if found.path not in told:
                told.add(found.path)
                yield found
        self._result.idle += len(waiting) if os.path.lexists(self._root.path) else 0

    def _all(self) -> Iterator[Found]:
        todo = [""]
        while todo:
            folder = todo.pop()
            for found in self._list(folder):
                if stat.S_ISDIR(found.stat.st_mode):
                    self._folders[found.path] = found
                    if self._root.depth is None or found.path.count("/") + 1 < self._root.depth:
                        todo.append(found.path)
                yield found

    def _list(self, folder: str) -> list[Found]:
        try:
            with opened(self._root.path, folder, os.O_RDONLY | os.O_DIRECTORY) as handle, os.scandir(handle) as items:
                return [found for item in items if (found := self._one(handle, folder, item.name))]
        except _GONE:
            # A root that is not there holds nothing; a folder that was there a moment ago is gone.
            self._result.vanished += bool(folder)
        except OSError:
            self._result.unreadable.append(self._named(folder))
        return []

    def _one(self, handle: int, folder: str, name: str) -> Found | None:
        path = f"{folder}/{name}" if folder else name
        absolute = f"{self._root.path}/{path}".lstrip("/")
        if any(pattern.fullmatch(absolute) for pattern in self._excluded):
            return None
        try:
            seen = os.lstat(name, dir_fd=handle)
            target = os.readlink(name, dir_fd=handle) if stat.S_ISLNK(seen.st_mode) else ""
        except _GONE:
            self._result.vanished += 1
            return None
        except OSError:
            self._result.unreadable.append(self._named(path))
            return None
        if not (stat.S_ISREG(seen.st_mode) or stat.S_ISDIR(seen.st_mode) or stat.S_ISLNK(seen.st_mode)):
            self._result.skipped += any(pattern.fullmatch(path) for pattern in self._root.patterns)
            return None
        return Found(self._named(path), self._root.path, path, seen, target)

    def _parents(self, path: str) -> list[str]:
        parts = path.split("/")
        return ["/".join(parts[:n]) for n in range(1, len(parts))]

    def _fixed(self) -> Iterator[Found]:
        """Yield the folders between the base and this root, which may be links there and are folders here."""
        parts = self._above.split("/") if self._above else []
        for name in ("/".join(parts[:n]) for n in range(1, len(parts) + 1)):
            path = Path(self._result.base) / name
            yield Found(name, self._result.base, name, path.stat())

    def _named(self, path: str) -> str:
        return "/".join(part for part in (self._above, path) if part)
