"""SQLite database files as maintenance sees and changes them, and the copies that it keeps of them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from upkeep.core.model import Model


@dataclass(frozen=True)
class NotDone:
    """Why something was not done to a file, as a value. The file is as before: SQLite rolls back.

    `moved`: the source changed faster than it could be copied; `full`: a volume is; `damaged`: the database says that
    it is, or a copy differs from its source. `code` is SQLite's name of the error.
    """

    reason: Literal["locked", "timeout", "full", "privilege", "damaged", "moved", "other"]
    message: str
    code: str = ""


class SqlitePlace(Model):
    """Where a database really lies, links followed, and what of it can be told without opening it.

    `names` counts its hard links; `hot` means that a writer was killed and the next one to open the file for writing
    rolls back what it had begun. `folder` is where journals come to lie, `temporary` where VACUUM builds the new file.
    """

    path: str
    folder: str
    temporary: str
    file_bytes: int
    wal_bytes: int
    names: int
    writable: bool
    hot: bool


class SqliteTable(Model):
    """A table: rows now, rows when ANALYZE last looked (none: it never did), and whether its rowids are its own.

    Where no INTEGER PRIMARY KEY holds them, VACUUM may number the rows anew.
    """

    name: str
    rows: int
    indexes: int
    analyzed: int | None
    keeps_rowids: bool


class SqliteCopy(Model):
    """A verified copy of a database, as the note beside it tells. `content` is a hash over the rows of its tables."""

    name: str
    source: str
    made: datetime
    size_bytes: int
    sha256: str
    content: str
    tables: int
    rows: int


class SqliteBench(Protocol):
    """One open database; what changes it needs `write=True` at opening."""

    path: str

    def ask(self, statement: str, /, *, seconds: float, **values: Any) -> list[dict[str, Any]] | NotDone:
        """Run the statement named `<area>/<name>`; give up after `seconds`."""
        ...

    def tables(self, seconds: float) -> list[SqliteTable] | NotDone:
        """Count the rows of every table."""
        ...

    def analyze(self, tables: tuple[str, ...], limit: int, seconds: float) -> NotDone | None:
        """Collect statistics of some tables, from about `limit` rows of each index (0: from all)."""
        ...

    def vacuum(self, seconds: float) -> NotDone | None:
        """Build the file anew. Writers wait as long as it takes, readers of a rollback journal at its end."""
        ...

    def release(self, pages: int, seconds: float) -> NotDone | None:
        """Give some free pages back (`auto_vacuum = incremental`)."""
        ...

    def checkpoint(self, seconds: float) -> NotDone | None:
        """Bring the write-ahead log into the file and make it empty; `locked` when a reader still needs it."""
        ...

    def recover(self) -> NotDone | None:
        """Roll back what a killed writer had begun."""
        ...


class SqliteKeep(Protocol):
    """The folder with the copies of one database. Only one at a time writes there, on the machine that it lies on."""

    @property
    def folder(self) -> str:
        """Where the copies lie."""
        ...

    @property
    def volume(self) -> str:
        """A folder that exists, on the volume where the copies are to lie."""
        ...

    def copies(self) -> tuple[SqliteCopy, ...]:
        """Return the copies whose size is as noted, newest first; see `is_good` for their content."""
        ...

    def is_good(self, copy: SqliteCopy) -> bool:
        """Read a copy and tell whether it still has the hash that it was noted with."""
        ...

    def spoilt(self) -> tuple[str, ...]:
        """Read every copy and return the names of those that are not as noted; newest first."""
        ...

    def leftovers(self) -> tuple[str, ...]:
        """Return the files that a killed writer has left; none while one is at work."""
        ...

    def sweep(self) -> tuple[str, ...] | NotDone:
        """Remove the leftovers and return their names."""
        ...

    def copy(
        self, path: str, *, busy_timeout: float, seconds: float, hold_seconds: float
    ) -> tuple[SqliteCopy, bool] | NotDone:
        """Copy a database that is in use, and prove that the copy has the rows of the source.

        :param hold_seconds: how long writers of a database without a write-ahead log may be kept waiting, when it
            changes too often for a copy in small steps.
        :return: the copy, and whether it is new: one with the same rows that is still good is not made again.
        """
        ...

    def remove(self, copies: tuple[SqliteCopy, ...], keep: int) -> tuple[SqliteCopy, ...] | NotDone:
        """Remove those of the copies that are not among the newest `keep` good ones; return what was removed."""
        ...


class SqliteWorkshop(Protocol):
    """What can be done with SQLite files; see `adapters.sqlite_work`."""

    def place(self, path: str) -> SqlitePlace:
        """Look at a file from outside.

        :raises ConfigurationError: there is no such file, it may not be read, or it is something else.
        :raises DamagedError: it is not a SQLite database.
        """
        ...

    def open(self, path: str, *, busy_timeout: float, write: bool = False) -> AbstractContextManager[SqliteBench]:
        """Open a database; errors as `tools.sqlite`."""
        ...

    def keep(self, target_id: str, folder: str = "") -> SqliteKeep:
        """Return the keep of a target, below `folder` or the usual place; nothing is made yet."""
        ...
