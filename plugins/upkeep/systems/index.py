"""What DAG files need to know of the systems while Airflow parses them: names and ladders, and nothing slower.

Parsing happens every half minute in a fresh process. So the ladders are cut out of the files without reading the
rest, and kept in a cache beside each file's times and size. Nothing is validated here: a file that cannot be read
contributes its name, and the run that loads it in full says what is wrong.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from upkeep.core.cadence import Cadence
from upkeep.core.text import duration
from upkeep.systems import cache
from upkeep.systems.problem import SourceError
from upkeep.systems.source import parse, read_text, system_files, systems_dir

FORMAT = 1
"""Raise it whenever an entry's meaning changes: older caches are then read anew."""

_LADDER = re.compile(r"^ladder:[^\n]*\n(?:[ \t]+[^\n]*\n|[ \t]*(?:#[^\n]*)?\n)*", re.MULTILINE)
_TOP_KEYS = re.compile(r"^(?![ \t#\n-])", re.MULTILINE)


class Alert(NamedTuple):
    """One moment at which a late run is told about, and on which rung (counted from 1) of the ladders."""

    after: timedelta
    """Time since the run was queued."""
    rung: int


@dataclass(frozen=True)
class Entry:
    """One system: when a run of each cadence is late, and how long after that each rung is reached."""

    name: str
    late: Mapping[str, timedelta]
    rungs: tuple[timedelta, ...]

    def deadlines(self, cadence: Cadence) -> tuple[Alert, ...]:
        """Return this system's alerts for a cadence; none when its ladder sets no deadline for it."""
        late = self.late.get(str(cadence))
        return () if late is None else tuple(Alert(late + wait, n) for n, wait in enumerate(self.rungs, 1))


@dataclass(frozen=True)
class Index:
    """All systems of the folder."""

    entries: tuple[Entry, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every system's name, those of unreadable files included."""
        return tuple(entry.name for entry in self.entries)

    def deadlines(self, cadence: Cadence) -> tuple[Alert, ...]:
        """Return the union of all systems' alerts for a cadence, soonest first and each once."""
        return tuple(sorted({alert for entry in self.entries for alert in entry.deadlines(cadence)}))


def read_index(folder: Path | None = None) -> Index:
    """Return the index of a folder (default: `systems_dir()`), from the cache where files have not changed.

    It raises nothing: a DAG file that cannot be parsed is not scheduled, and nobody would learn why.
    """
    where = folder or systems_dir()
    files, _ = system_files(where)
    store = f"systems-{hashlib.sha256(str(where.absolute()).encode()).hexdigest()[:16]}.json"
    known = _known(cache.read(store))
    fresh = {path.name: _entry(path, known.get(path.name)) for path in files}
    if fresh != known:
        cache.write(store, json.dumps({"format": FORMAT, "files": fresh}).encode())
    return Index(tuple(_thaw(name, kept[1]) for name, kept in fresh.items()))


Kept = list[Any]
"""A cached file: its stamp, and `[{cadence: seconds}, [seconds of each rung]]`."""


def _known(data: bytes | None) -> dict[str, Kept]:
    """Return the cached entries; anything unexpected means an empty cache."""
    try:
        stored = json.loads(data or b"")
        if stored["format"] != FORMAT:
            return {}
        for _, (late, rungs) in stored["files"].values():
            _thaw("", [late, rungs])
        return dict(stored["files"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}


def _thaw(file: str, kept: Any) -> Entry:
    late, rungs = kept
    return Entry(
        name=file.removesuffix(".yaml"),
        late={cadence: timedelta(seconds=seconds) for cadence, seconds in late.items()},
        rungs=tuple(timedelta(seconds=seconds) for seconds in rungs),
    )


def _entry(path: Path, kept: Kept | None) -> Kept:
    stamp = _stamp(path)
    if kept is not None and kept[0] == stamp and stamp is not None:
        return kept
    try:
        return [stamp, _ladder(read_text(path))]
    except SourceError:
        return [stamp, [{}, []]]


def _stamp(path: Path) -> list[int] | None:
    """Times and size. The change time too: `rsync -t` and `cp -p` bring an older modification time along."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_ctime_ns, found.st_size]


def _ladder(text: str) -> Kept:
    """Return a file's ladder, from its own lines if they stand alone, else from the whole file."""
    text = text.replace("\r\n", "\n").removeprefix("---\n") + "\n"
    cut = _LADDER.findall(text)
    # A key in quotes, a flow mapping at the top or a second `ladder:` are rare: then read everything.
    plain = "{" not in text[:1] and '"ladder"' not in text and "'ladder'" not in text and "---" not in text
    if plain and len(cut) <= 1 and _TOP_KEYS.search(text):
        try:
            return _seconds(cut[0]) if cut else [{}, [0]]
        except SourceError:
            pass  # An alias to another part of the file: the full text has it.
    return _seconds(text)


@lru_cache(maxsize=64)
def _seconds(text: str) -> Kept:
    """Return the ladder of a YAML text in seconds; empty when it is not what a ladder must be.

    Sites with hundreds of systems give most of them the same ladder, in the same words: each is read once.
    """
    value, _ = parse(text)
    ladder = value.get("ladder") if isinstance(value, dict) else None
    if ladder is None:
        return [{}, [0]]
    try:
        late = {Cadence(key).value: duration(wait).total_seconds() for key, wait in ladder.get("deadlines", {}).items()}
        rungs = [duration(rung["after"]).total_seconds() for rung in ladder.get("rungs", [{"after": "0 s"}])]
    except (ValueError, KeyError, TypeError, AttributeError):
        return [{}, []]
    return [late, rungs] if rungs == sorted(set(rungs)) else [{}, []]
