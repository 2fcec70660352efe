"""Rows of Parquet and CSV files, local or in S3, filtered by the time at which they were made."""

from __future__ import annotations

import glob
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from upkeep.adapters import scoring_data_csv, scoring_data_parquet
from upkeep.core.drift import Unread
from upkeep.core.errors import DamagedError
from upkeep.core.ml import DataSource

if TYPE_CHECKING:
    import pyarrow as pa

    from upkeep.adapters.scoring_data import Rows, Wanted

_KINDS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".csv.gz": "csv", ".tsv.gz": "csv"}


class _File(NamedTuple):
    """A file that can be opened for reading anywhere in it."""

    place: str
    open: Callable[[], AbstractContextManager[BinaryIO]]


def batches(
    source: DataSource, wanted: Wanted, rows: Rows, connection: Callable[[str], Any]
) -> Generator[pa.RecordBatch]:
    """Give the rows of all files in the order of their names; what cannot be read is noted in `rows`.

    :raises ConfigurationError: the object store does not let us in.
    :raises TransientError: it is away.
    """
    for file in _files(source, rows, connection):
        try:
            yield from _read(file, source.time_column or "", wanted, rows)
        # Arrow's errors are of the usual kinds, and an object may be gone since it was listed.
        except (ValueError, KeyError, OSError, NotImplementedError, DamagedError) as error:
            said = " ".join(str(error).split())[:300] or type(error).__name__
            rows.unread.append(Unread(place=file.place, reason=said))


def _read(file: _File, time_column: str, wanted: Wanted, rows: Rows) -> Iterator[pa.RecordBatch]:
    with file.open() as opened:
        if _kind(file.place) == "csv":
            yield from scoring_data_csv.batches(opened, file.place, time_column, wanted, rows)
        else:
            yield from scoring_data_parquet.batches(opened, time_column, wanted, rows)


def _kind(name: str) -> str | None:
    lower = name.lower()
    return next((kind for ending, kind in _KINDS.items() if lower.endswith(ending)), None)


def _files(source: DataSource, rows: Rows, connection: Callable[[str], Any]) -> Iterator[_File]:
    seen = set[str]()
    for pattern in source.files:
        if pattern.startswith("s3://"):
            from upkeep.adapters import scoring_data_s3

            found = [_File(*pair) for pair in scoring_data_s3.files(pattern, connection(source.conn_id or ""))]
        else:
            found = [_File(path, _opener(path)) for path in sorted(_matching(pattern))]
        usable = [f for f in found if _kind(f.place) and not f.place.rsplit("/", 1)[-1].startswith((".", "_"))]
        if not usable:
            rows.unread.append(
                Unread(place=pattern, reason="no Parquet or CSV file (.parquet, .pq, .csv, .tsv) is there")
            )
        yield from (f for f in usable if f.place not in seen)
        seen |= {f.place for f in usable}


def _matching(pattern: str) -> list[str]:
    # Not `Path.glob`, which wants a folder to begin at: a pattern may be absolute.
    return glob.glob(pattern, recursive=True)  # noqa: PTH207


def _opener(path: str) -> Callable[[], AbstractContextManager[BinaryIO]]:
    return lambda: cast("AbstractContextManager[BinaryIO]", Path(path).open("rb"))
