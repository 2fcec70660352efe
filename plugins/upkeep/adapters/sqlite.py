"""SQLite database files, opened read-only."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from upkeep.adapters import statements
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError, UpkeepError
from upkeep.core.job import Failed

_HEADER = b"SQLite format 3\x00"
# Virtual-machine instructions between two looks at the clock: some microseconds of work.
_STEPS = 10_000
_REASONS = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
    sqlite3.SQLITE_INTERRUPT: "timeout",
    sqlite3.SQLITE_AUTH: "privilege",
    sqlite3.SQLITE_PERM: "privilege",
    sqlite3.SQLITE_CANTOPEN: "gone",
    sqlite3.SQLITE_IOERR: "gone",
}


class File:
    """One open database; see `core.job.SqliteFile`."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self.connection = connection
        self.path = path

    def ask(self, statement: str, /, *, seconds: float, **values: Any) -> list[dict[str, Any]] | Failed:
        """Run the statement named `<area>/<name>`; give up after `seconds`."""
        try:
            with limited(self.connection, seconds):
                return rows(self.connection, statement, values)
        except sqlite3.Error as error:
            return failure(error)


def rows(connection: sqlite3.Connection, statement: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Run the statement named `<area>/<name>`. :raises sqlite3.Error: it failed."""
    text = re.sub(r"%\((\w+)\)s", r":\1", statements.named(statement)).replace("%%", "%")
    with closing(connection.execute(text, values)) as cursor:
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]


@contextmanager
def limited(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Let every statement in here end with SQLITE_INTERRUPT once `seconds` have passed."""
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


@contextmanager
def opener(path: str, *, busy_timeout: float = 5.0) -> Iterator[File]:
    """Open the database at `path` read-only, wait up to `busy_timeout` seconds for locks, and close it at the end.

    SQLite itself would make a missing file, and reads nothing when it opens one: both are looked at here.

    :raises ConfigurationError: there is no such file, it may not be read, or it is something else.
    :raises DamagedError: the file is not a SQLite database, or what there is of it cannot be read.
    :raises TransientError: it stays locked.
    """
    with connected(path, busy_timeout=busy_timeout) as connection:
        yield File(connection, path)


@contextmanager
def connected(path: str, *, busy_timeout: float, mode: Literal["ro", "rw"] = "ro") -> Iterator[sqlite3.Connection]:
    """Give a connection, without transactions of its own; errors as `opener`."""
    look_at(path)
    # In the path of a URI, `?`, `#` and `%` mean something else.
    uri = f"file:{quote(str(Path(path).absolute()))}?mode={mode}"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout, isolation_level=None)
    except sqlite3.Error as error:
        raise _error(path, failure(error)) from error
    with closing(connection):
        try:
            connection.execute("select count(*) from sqlite_schema").fetchone()
        except sqlite3.Error as error:
            raise _error(path, failure(error)) from error
        yield connection


def failure(error: sqlite3.Error) -> Failed:
    """Sort an error of SQLite by its primary result code (https://www.sqlite.org/rescode.html)."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return Failed(_REASONS.get(code, "other"), str(error), getattr(error, "sqlite_errorname", ""))  # type: ignore[arg-type]


def look_at(path: str) -> None:
    """See that a file is there, may be read, and begins as a SQLite database does; errors as `opener`."""
    try:
        with Path(path).open("rb") as file:
            header = file.read(len(_HEADER))
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: there is no such file", "correct `path` of the target, or restore the database"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read: {error.strerror}", "let the user that runs maintenance read it"
        ) from None
    # An empty file is an empty database: SQLite writes the first page with the first table.
    if header and header != _HEADER:
        raise DamagedError(
            f"{path}: begins with {header!r}, expected {_HEADER!r}: this is no SQLite database",
            "correct `path`, or restore the file from its latest verified backup; encrypted ones cannot be read",
        )


def _error(path: str, failed: Failed) -> UpkeepError:
    if failed.sqlstate == "SQLITE_READONLY_ROLLBACK":
        return ConfigurationError(
            f"{path}: a program was killed while it wrote, and its journal waits to be rolled back",
            "the next program that opens it for writing does that, SQLite care too; never delete the -journal",
        )
    match failed.reason:
        case "locked":
            return TransientError(f"{path}: {failed.message}", "end the program that holds the lock; it is tried again")
        case "damaged":
            return DamagedError(f"{path}: {failed.message}", "restore the file from its latest verified backup")
        case "gone" | "privilege":
            return ConfigurationError(
                f"{path}: {failed.message}",
                "the folder must be readable; a database in WAL mode without its -shm file needs a writable folder",
            )
    return UpkeepError(f"{path}: {failed.message}", f"SQLite says {failed.sqlstate}")
