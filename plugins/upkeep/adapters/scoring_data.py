"""The rows of a stretch of time, from a database or from files, as Arrow batches and with a fixed amount of memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from upkeep.core.drift import Unread
from upkeep.core.errors import ConfigurationError
from upkeep.core.ml import DataSource
from upkeep.core.system import System
from upkeep.core.targets import PostgresTarget

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 65_536
"""Rows of a batch, at most."""


@dataclass(frozen=True)
class Wanted:
    """Which rows and columns are read: those made in [start, end). `zone` is that of times that name none.

    Without start and end all rows of files are read, and need no time: training data have none.
    """

    start: datetime | None
    end: datetime | None
    zone: ZoneInfo
    columns: frozenset[str] | None = None
    """None: all of them."""

    def wants(self, column: str) -> bool:
        """Tell whether a column is read."""
        return self.columns is None or column in self.columns


@dataclass
class Rows:
    """One pass over the rows. What the numbers say is complete when the pass is.

    Schemas of two batches may differ, because two files' may: ask each batch for its own. The columns of CSV files are
    int64, double or, where a batch has anything else in the column, string.
    """

    batches: Generator[pa.RecordBatch] = field(repr=False)
    read: int = 0
    """Rows given."""
    broken: int = 0
    """Lines of CSV files that are no rows: too many fields, or too few."""
    undated: int = 0
    """Rows of files whose time is missing or cannot be understood: they are in no window, and are left out."""
    unread: list[Unread] = field(default_factory=list)
    """Files that could not be read, wholly or in part."""

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self.batches:
            if batch.num_rows:
                self.read += batch.num_rows
                yield batch


class ScoringData:
    """Opens data sources.

    :param conninfo: gives the libpq connection string of an Airflow connection's id.
    :param connection: gives the Airflow connection of an id (aws, for files in S3).
    """

    def __init__(self, conninfo: Callable[[str], str], connection: Callable[[str], Any]) -> None:
        self._conninfo, self._connection = conninfo, connection

    @contextmanager
    def open(
        self,
        source: DataSource,
        system: System,
        start: datetime | None,
        end: datetime | None,
        *,
        columns: Sequence[str] | None = None,
        statement_timeout: float = 300.0,
        connect_timeout: float = 5.0,
    ) -> Iterator[Rows]:
        """Give the rows that were made in [start, end); without both, all rows of files.

        :param columns: the only columns that are read; one that is not there is left out without a word. None: all.
        :param statement_timeout: seconds after which the server ends the query.
        :raises ConfigurationError: the source names what does not exist, or we may not read it.
        :raises TransientError: the server or store is away, or did not answer in time; while rows are read, too.
        """
        wanted = Wanted(start, end, system.zone, None if columns is None else frozenset(columns))
        rows = Rows(_nothing())
        if source.sql is None:
            from upkeep.adapters import scoring_data_files

            rows.batches = scoring_data_files.batches(source, wanted, rows, self._connection)
        else:
            from upkeep.adapters import scoring_data_sql

            target = database_of(source, system)
            times = {"statement_timeout": statement_timeout, "connect_timeout": connect_timeout}
            rows.batches = scoring_data_sql.batches(
                self._conninfo(target.conn_id), target.database, source.sql, wanted, **times
            )
        with closing(rows.batches):
            yield rows


def _nothing() -> Generator[pa.RecordBatch]:
    yield from ()


def database_of(source: DataSource, system: System) -> PostgresTarget:
    """Return the database that a source names.

    :raises ConfigurationError: the system has no such target, or it is no database.
    """
    target = system.targets.get(source.target or "")
    if isinstance(target, PostgresTarget):
        return target
    known = ", ".join(sorted(name for name, t in system.targets.items() if isinstance(t, PostgresTarget))) or "none"
    raise ConfigurationError(
        f"system {system.name}: the data source names target {source.target!r}, which is no postgres target of it",
        f"its postgres targets: {known}",
    )
