"""Rows of one CSV file: with a header, delimited by comma, semicolon, tabulator or bar; plain or gzip."""

from __future__ import annotations

import csv as reader
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from upkeep.adapters import scoring_data_types
from upkeep.core.drift import Unread

if TYPE_CHECKING:
    import pyarrow as pa

    from upkeep.adapters.scoring_data import Rows, Wanted

_HEAD = 1 << 20
_BLOCK = 1 << 20
"""Bytes that become one batch; also the longest row. Some dozen are read ahead."""
# What pandas, R, Spark and COPY write for a value that is missing.
_MISSING = ["", "NULL", "null", "NA", "N/A", "n/a", "NaN", "nan", "None", "\\N", "<NA>", "#N/A"]


def batches(file: BinaryIO, place: str, time_column: str, wanted: Wanted, rows: Rows) -> Iterator[pa.RecordBatch]:
    """Give the rows of the window; lines that are no rows are counted in `rows.broken`.

    :raises ValueError: there is no header, or no time column in it.
    """
    import pyarrow as pa

    text = _text(file, place)
    head = text.read(_HEAD)
    if not head:
        raise ValueError("it is empty: not even a header is there")
    names, delimiter = _header(head)
    dated = wanted.start is not None
    if dated and time_column not in names:
        raise ValueError(f"it has no column {time_column!r} (`time_column`); its columns: {', '.join(names)[:200]}")
    if len(set(names)) < len(names):
        raise ValueError("two of its columns have the same name")
    columns = [n for n in names if wanted.wants(n) or (dated and n == time_column)]
    try:
        for batch in _parsed(_Joined(head, text), names, columns, delimiter, rows):
            yield _kept(batch, time_column, wanted, rows)
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        said = " ".join(str(error).split())[:300]
        rows.unread.append(Unread(place=place, reason=f"what follows row {rows.read:,} of all: {said}"))


def _text(file: BinaryIO, place: str) -> Any:
    import pyarrow as pa

    if place.lower().endswith(".gz"):
        return pa.CompressedInputStream(pa.PythonFile(file, "r"), "gzip")
    return file


def _header(head: bytes) -> tuple[list[str], str]:
    """Return the column names and the delimiter, which is the one that the first line has most of."""
    line = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    first = line.split("\n", 1)[0]
    delimiter = max(",;\t|", key=first.count)
    return [name.strip() for name in next(reader.reader(io.StringIO(line, newline=""), delimiter=delimiter))], delimiter


class _Joined(io.RawIOBase):
    """What was read already, and then the rest."""

    def __init__(self, head: bytes, rest: Any) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._head:
            size = len(self._head) if size < 0 else size
            given, self._head = self._head[:size], self._head[size:]
            return given
        return bytes(self._rest.read(size))


def _parsed(text: Any, names: list[str], columns: list[str], delimiter: str, rows: Rows) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    from pyarrow import csv

    def broken(_: Any) -> str:
        rows.broken += 1
        return "skip"

    with csv.open_csv(
        text,
        # One thread: handlers are called from it alone, and a broken file leaves nothing running behind.
        read_options=csv.ReadOptions(column_names=names, skip_rows=1, block_size=_BLOCK, use_threads=False),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=broken),
        # As bytes: one row that is no UTF-8, or a word in a column of numbers, must not lose the file.
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.binary()), include_columns=columns,
            null_values=_MISSING, strings_can_be_null=True,
        ),
    ) as opened:  # fmt: skip
        for batch in opened:
            arrays = [scoring_data_types.readable(c) for c in batch.columns]
            yield pa.RecordBatch.from_arrays(arrays, names=columns)


def _kept(batch: pa.RecordBatch, time_column: str, wanted: Wanted, rows: Rows) -> pa.RecordBatch:
    import pyarrow as pa

    kept = batch
    if wanted.start is not None:
        times = scoring_data_types.narrowed(batch.column(time_column))
        inside, undated = scoring_data_types.within(times, wanted)
        rows.undated += undated
        kept = batch if inside.true_count == len(inside) else batch.filter(inside)
    names = [n for n in kept.schema.names if wanted.wants(n)]
    arrays = [scoring_data_types.narrowed(kept.column(n)) for n in names]
    schema = pa.schema([(n, a.type) for n, a in zip(names, arrays, strict=True)], {scoring_data_types.INFERRED: b""})
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
