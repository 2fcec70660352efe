"""A copy of a database in use, and the fingerprint of exactly what was copied.

With a write-ahead log one read transaction spans both: it sees one moment, and nobody waits for it. Without one, a read
transaction would stop every writer, so the copy goes in small steps between which writers may work; SQLite begins it
anew when one does. A database that never holds still so long is copied in one go in the end, for which writers wait,
as long as that takes no more than a stated time.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from upkeep.adapters import sqlite
from upkeep.adapters._sqlite_fingerprint import Fingerprint, fingerprint

_TRIES = 3
# Pages copied under one lock: 4 MB with the usual page size, some milliseconds.
_PAGES = 1000
# Seconds between two tries to get at a source that somebody locks.
_PAUSE = 0.05


class Moved(Exception):
    """The source changed while it was copied."""


def copy_consistently(
    source: sqlite3.Connection, into: Path, deadline: float, hold_seconds: float, known: str
) -> Fingerprint:
    """Copy the source into an empty file, unless its content is the `known` one, and return what it holds.

    :param deadline: monotonic time at which to give up.
    :param hold_seconds: how long writers may wait.
    :raises Moved: it changes too often, and one go would take too long.
    :raises sqlite3.Error: it cannot be read, the copy cannot be written, or time is over.
    """
    if str(source.execute("pragma journal_mode").fetchone()[0]) == "wal":
        return _held(source, into, deadline, known)
    for _ in range(_TRIES):
        with suppress(Moved):
            return _stepwise(source, into, deadline, known)
    try:
        return _held(source, into, min(deadline, time.monotonic() + hold_seconds), known)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        raise Moved(
            f"it changed in each of {_TRIES} tries; copying it while writers wait takes more than {hold_seconds:g} s"
        ) from None


def _stepwise(source: sqlite3.Connection, into: Path, deadline: float, known: str) -> Fingerprint:
    before = _version(source)
    with sqlite.limited(source, deadline - time.monotonic()):
        seen = fingerprint(source)
    if seen.content != known:
        _copy(source, into, deadline, _PAGES)
    if _version(source) != before:
        raise Moved
    return seen


def _held(source: sqlite3.Connection, into: Path, deadline: float, known: str) -> Fingerprint:
    source.execute("begin")
    try:
        with sqlite.limited(source, deadline - time.monotonic()):
            seen = fingerprint(source)
        if seen.content != known:
            _copy(source, into, deadline, _PAGES)
        return seen
    finally:
        source.execute("rollback")


def _version(source: sqlite3.Connection) -> int:
    """Return a number that changes when somebody else changes the database."""
    return int(source.execute("pragma data_version").fetchone()[0])


def _copy(source: sqlite3.Connection, into: Path, deadline: float, pages: int) -> None:
    left = 0

    def look(status: int, remaining: int, total: int) -> None:
        nonlocal left
        if time.monotonic() > deadline:
            raise _error(sqlite3.SQLITE_INTERRUPT, "SQLITE_INTERRUPT", "time is over")
        if status == sqlite3.SQLITE_BUSY:  # the busy time-out has passed by then
            raise _error(status, "SQLITE_BUSY", "database is locked")
        if 0 < left < remaining:
            raise Moved
        left = remaining

    # What an earlier try has written would be taken for pages of the copy.
    into.write_bytes(b"")
    with closing(sqlite3.connect(into, isolation_level=None)) as target:
        # A copy that is not finished is thrown away; a finished one is brought to disk before it gets its name.
        target.execute("pragma journal_mode = off").fetchall()
        target.execute("pragma synchronous = off").fetchall()
        source.backup(target, pages=pages, progress=look, sleep=_PAUSE)


def _error(code: int, name: str, message: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error
