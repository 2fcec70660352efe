"""Trees of files: what is chosen, how its list is written, and what a routine needs of whoever backs trees up.

The list of a backup (`tree.jsonl.gz` in its folder) is JSON lines: a header, then one line for each entry, sorted by
name. Names and link targets that are not UTF-8 stand there as NUL and base64, for no name can hold a NUL.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import Field

from upkeep.core.backup import Kept, Leftover, Place, Say, Tier, TreeManifest
from upkeep.core.errors import DamagedError
from upkeep.core.model import Model

LIST, LIST_FORMAT = "tree.jsonl.gz", "upkeep-tree/1"
OBJECTS = "objects"
_TYPES = {"f": "file", "d": "directory", "l": "symlink", "h": "hardlink"}


class Entry(NamedTuple):
    """One file, directory, symlink, or hard link (a further name of a file of this list).

    `sha256` is that of the whole content, holes read as zeros. The content lies from byte `offset` of the object named
    `object`; of a sparse file only the stretches `data` (offset, length) lie there, one after the other. `ino` and
    `ctime_ns` only tell whether the file was touched since; `ctime_ns` is 0 when that must not be relied on.
    """

    name: str
    type: Literal["f", "d", "l", "h"]
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    sha256: str = ""
    target: str = ""
    object: str = ""
    offset: int = 0
    object_bytes: int = 0
    data: tuple[tuple[int, int], ...] = ()
    ino: int = 0
    ctime_ns: int = 0

    @property
    def stored_bytes(self) -> int:
        """How much of the object this file takes."""
        return sum(length for _, length in self.data) if self.data else self.size

    @property
    def kind(self) -> str:
        """The type in a word."""
        return _TYPES[self.type]

    @property
    def content(self) -> tuple[Any, ...]:
        """What makes two entries equal: all but where the content lies and when it was touched."""
        return (pack(self.name), *self[1:8], pack(self.target))


class Header(Model):
    """The first line of a list: below which folder the names lie."""

    format: Literal["upkeep-tree/1"] = "upkeep-tree/1"
    base: str


def pack(name: str) -> str:
    """Return a name as text that is valid in any JSON; see the module.

    >>> pack("café"), pack("a\\udcff")
    ('café', '\\x00Yf8=')
    """
    raw = name.encode("utf-8", "surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "\0" + base64.b64encode(raw).decode()


def unpack(text: str) -> str:
    """Return the name that `pack` was given."""
    if not text.startswith("\0"):
        return text
    return base64.b64decode(text[1:], validate=True).decode("utf-8", "surrogateescape")


def shown(name: str) -> str:
    """Return a name for people: one line, printable."""
    return ascii(name)[1:-1] if not name.isprintable() else name


def write_list(base: str, entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield the lines of a list."""
    yield _line(Header(base=pack(base)).model_dump())
    for entry in entries:
        yield _line([pack(entry.name), *entry[1:8], pack(entry.target), *entry[9:]])


def read_list(lines: Iterable[bytes], place: str) -> tuple[str, list[Entry]]:
    """Read a list; return its base and its entries.

    :raises DamagedError: it is not what `write_list` wrote, or a name in it leaves the tree.
    """
    try:
        rest = iter(lines)
        base = unpack(Header.model_validate_json(next(rest, b"")).base)
        entries = [_entry(json.loads(line)) for line in rest]
        _expect_a_tree(entries)
    except (ValueError, KeyError, TypeError) as error:
        # No word of the line itself: names may be confidential.
        raise DamagedError(
            f"{place} is no list of files ({type(error).__name__})", "this backup cannot be relied on; make a new one"
        ) from None
    return base, entries


def list_sha256(entries: Iterable[Entry]) -> str:
    """Return one hash over names, attributes and contents, wherever the contents lie."""
    seen = hashlib.sha256()
    for entry in sorted(entries, key=lambda e: e.name):
        seen.update(_line(list(entry.content)))
    return seen.hexdigest()


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def _entry(row: list[Any]) -> Entry:
    entry = Entry(*row)
    if entry.type not in _TYPES or not all(isinstance(n, int) for n in (entry.mode, entry.size, entry.offset)):
        raise ValueError("not an entry")
    return entry._replace(
        name=unpack(entry.name), target=unpack(entry.target), data=tuple((int(a), int(b)) for a, b in entry.data)
    )


def _expect_a_tree(entries: list[Entry]) -> None:
    """Refuse lists by which a restore could write outside: every parent must be a directory of the list."""
    names = {entry.name: entry.type for entry in entries}
    if len(names) != len(entries):
        raise ValueError("a name occurs twice")
    for entry in entries:
        parts = entry.name.split("/")
        if "\0" in entry.name or any(part in ("", ".", "..") for part in parts):
            raise ValueError("a name leaves the tree")
        if len(parts) > 1 and names.get("/".join(parts[:-1])) != "d":
            raise ValueError("a parent is no directory")
        if entry.type == "h" and names.get(entry.target) != "f":
            raise ValueError("a hard link leads nowhere")


class FileSet(Model):
    """Which files: globs with absolute paths. `*` stays within a name, `**` goes over any number of them.

    Names that begin with a dot are matched too. A path without wildcards that is a folder means all that is in it.
    """

    paths: tuple[str, ...] = Field(min_length=1)
    exclude: tuple[str, ...] = ()
    secret: bool = False


class Look(Model):
    """What a look at the tree showed, without reading any file. Names are left out of secret sets."""

    entries: dict[str, int]
    total_bytes: int
    skipped: int = Field(0, description="fifos, sockets and devices")
    unmatched: int = Field(0, description="paths whose part without wildcards leads nowhere")
    idle: int = Field(0, description="other paths that match nothing")
    vanished: int = 0
    unreadable: tuple[str, ...] = ()
    unreadable_count: int = 0

    @property
    def files(self) -> int:
        """Files by any of their names."""
        return self.entries.get("file", 0) + self.entries.get("hardlink", 0)


class TreeOptions(Model):
    """How to back a tree up."""

    tier: Tier = "daily"
    reread: timedelta = timedelta(days=7)
    upload_jobs: int = 4
    distrust: bool = Field(False, description="rely on nothing in the store: read and store everything anew")


class Taken(Model):
    """A backup that was made, and what could not be read for it (names only of sets that are not secret)."""

    kept: Kept[TreeManifest]
    unreadable: tuple[str, ...] = ()


class Restored(Model):
    """What a restore has written."""

    entries: dict[str, int]
    bytes: int
    seconds: float
    owners: bool = Field(description="whether owners could be set")


class Comparison(Model):
    """How a folder differs from a list: names, each with what differs."""

    differs: dict[str, str]
    missing: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not (self.differs or self.missing or self.extra)


class Trees(Protocol):
    """Backs trees of files up and restores them; see `adapters.tree_backup`. Methods raise `UpkeepError`s."""

    def look(self, files: FileSet) -> Look:
        """Count what would be backed up."""
        ...

    def last(self, place: Place) -> TreeManifest | None:
        """Return the newest backup's manifest that can be read; None when there is none."""
        ...

    def leftovers(self, place: Place, patience: timedelta) -> tuple[Leftover, ...]:
        """List uploads of objects that nobody has completed for so long."""
        ...

    def sweep(self, place: Place, patience: timedelta) -> tuple[Leftover, ...]:
        """Remove these uploads."""
        ...

    def backup(self, files: FileSet, place: Place, options: TreeOptions, run_id: str, say: Say) -> Taken:
        """Make a backup. :raises ConfigurationError: the files are secret and the store does not encrypt."""
        ...

    def restore(self, place: Place, backup_id: str, into: Path, paths: tuple[str, ...], say: Say) -> Restored:
        """Restore a backup, or some names of it and what lies below them, into an empty folder."""
        ...

    def compare(self, place: Place, backup_id: str, folder: Path) -> Comparison:
        """Tell how a folder differs from a backup."""
        ...
