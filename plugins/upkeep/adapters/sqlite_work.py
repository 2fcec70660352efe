"""SQLite database files, opened to be cared for: the writing side of `adapters.sqlite`."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from upkeep.adapters import sqlite
from upkeep.adapters._sqlite_errors import not_done
from upkeep.adapters._sqlite_fingerprint import quoted, rowid
from upkeep.adapters.sqlite_keep import Keep
from upkeep.core.errors import ConfigurationError
from upkeep.core.sqlite import NotDone, SqlitePlace, SqliteTable


class Bench:
    """One open database; see `core.sqlite.SqliteBench`."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self.connection = connection
        self.path = path

    def ask(self, statement: str, /, *, seconds: float, **values: Any) -> list[dict[str, Any]] | NotDone:
        """Run the statement named `<area>/<name>`; give up after `seconds`."""
        return self._try(seconds, lambda: sqlite.rows(self.connection, statement, values))

    def tables(self, seconds: float) -> list[SqliteTable] | NotDone:
        """Count the rows of every table; a count reads its smallest index."""
        return self._try(seconds, self._tables)

    def analyze(self, tables: tuple[str, ...], limit: int, seconds: float) -> NotDone | None:
        """Collect statistics. Each table is a transaction of its own: writers may go on between them.

        Not `PRAGMA optimize`: before SQLite 3.46 it looks only at tables that this very connection has queried.
        """
        self.connection.execute(f"pragma analysis_limit = {int(limit)}").fetchall()
        for name in tables:
            failed = self._run(seconds, f"analyze main.{quoted(name)}")
            if failed:
                return failed
        return None

    def vacuum(self, seconds: float) -> NotDone | None:
        """Build the file anew, unless somebody uses it: found out first, for at its end the work would be lost."""
        return self._probe() or self._run(seconds, "vacuum")

    def release(self, pages: int, seconds: float) -> NotDone | None:
        """Give some free pages back."""
        return self._run(seconds, f"pragma incremental_vacuum({int(pages)})")

    def checkpoint(self, seconds: float) -> NotDone | None:
        """Bring the write-ahead log into the file and make it empty."""
        done = self._try(seconds, lambda: self.connection.execute("pragma wal_checkpoint(truncate)").fetchone())
        if isinstance(done, NotDone):
            return done
        busy, frames, moved = done
        if busy:
            return NotDone("locked", f"a reader holds an old snapshot ({moved} of {frames} pages moved)", "SQLITE_BUSY")
        return None

    def recover(self) -> NotDone | None:
        """Roll back what a killed writer had begun; opening for writing did it, and this proves it."""
        return self._run(60, "select count(*) from sqlite_schema")

    def _probe(self) -> NotDone | None:
        mode = str(self.connection.execute("pragma journal_mode").fetchone()[0])
        if mode == "wal":
            # Behind a reader's snapshot the log would grow by the whole file, and the file not shrink.
            return self.checkpoint(60)
        failed = self._run(60, "begin exclusive")
        return failed or self._run(60, "commit")

    def _run(self, seconds: float, text: str) -> NotDone | None:
        # Some statements work only as far as their rows are fetched.
        done = self._try(seconds, lambda: self.connection.execute(text).fetchall())
        return done if isinstance(done, NotDone) else None

    def _try[T](self, seconds: float, work: Callable[[], T]) -> T | NotDone:
        try:
            with sqlite.limited(self.connection, seconds):
                return work()
        except sqlite3.Error as error:
            return not_done(error)

    def _tables(self) -> list[SqliteTable]:
        known = self.connection.execute("select 1 from sqlite_schema where name = 'sqlite_stat1'").fetchone()
        listed = sqlite.rows(self.connection, "sqlite/tables" if known else "sqlite/tables_unanalyzed", {})
        return [
            SqliteTable(
                name=row["name"],
                rows=self.connection.execute(f"select count(*) from main.{quoted(row['name'])}").fetchone()[0],
                indexes=row["indexes"],
                analyzed=row["analyzed"],
                keeps_rowids=self._keeps_rowids(row["name"]),
            )
            for row in listed
        ]

    def _keeps_rowids(self, table: str) -> bool:
        """Tell whether a column holds the rowids: only then has the primary key's column no index of its own."""
        if not rowid(self.connection, table):
            return True
        columns = self.connection.execute(f"pragma table_info({quoted(table)})").fetchall()
        key = [str(column[2]).upper() for column in columns if column[5]]
        indexes = self.connection.execute(f"pragma index_list({quoted(table)})").fetchall()
        return key == ["INTEGER"] and all(index[3] != "pk" for index in indexes)


class Workshop:
    """What can be done with SQLite files; see `core.sqlite.SqliteWorkshop`.

    :param root: where copies are kept, unless a routine is told another folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, path: str) -> SqlitePlace:
        """Look at a file from outside; SQLite too follows links, and puts its journals beside the real file."""
        sqlite.look_at(path)
        real = Path(os.path.realpath(path))
        found = real.stat()
        return SqlitePlace(
            path=str(real),
            folder=str(real.parent),
            temporary=_temporary_folder(),
            file_bytes=found.st_size,
            wal_bytes=_bytes(f"{real}-wal"),
            names=found.st_nlink,
            writable=os.access(real, os.W_OK) and os.access(real.parent, os.W_OK),
            hot=_is_hot(real),
        )

    @contextmanager
    def open(self, path: str, *, busy_timeout: float, write: bool = False) -> Iterator[Bench]:
        """Open a database, read-only unless told otherwise."""
        with sqlite.connected(path, busy_timeout=busy_timeout, mode="rw" if write else "ro") as connection:
            yield Bench(connection, path)

    def keep(self, target_id: str, folder: str = "") -> Keep:
        """Return the keep of a target; nothing is made yet."""
        return Keep(Path(folder) if folder else self.root, target_id)


def _bytes(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _temporary_folder() -> str:
    """Return where SQLite puts temporary files (https://www.sqlite.org/tempfiles.html#tempdir)."""
    candidates = [os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp"]  # noqa: S108
    fitting = (c for c in candidates if c and Path(c).is_dir() and os.access(c, os.W_OK | os.X_OK))
    return next(fitting, str(Path.cwd()))


def _is_hot(real: Path) -> bool:
    """Tell whether only a writer could open the file: then a journal waits to be rolled back."""
    if not _bytes(f"{real}-journal"):
        return False
    try:
        with sqlite.connected(str(real), busy_timeout=0):
            return False
    except ConfigurationError as error:
        cause = error.__cause__
        return getattr(cause, "sqlite_errorname", "") == "SQLITE_READONLY_ROLLBACK"
    except Exception:
        return False  # whatever else is wrong is told by who opens it to work with it
