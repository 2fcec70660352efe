"""Rows of one Parquet file: only the row groups that may hold some of the window, and of them a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, BinaryIO

from upkeep.adapters import scoring_data_types

if TYPE_CHECKING:
    import pyarrow as pa

    from upkeep.adapters.scoring_data import Rows, Wanted


def batches(file: BinaryIO, time_column: str, wanted: Wanted, rows: Rows) -> Iterator[pa.RecordBatch]:
    """Give the rows of the window.

    :raises ValueError: it is no Parquet file, is damaged, or has no time column.
    """
    from pyarrow import parquet

    from upkeep.adapters.scoring_data import BATCH

    # Without buffering ahead a row group is read page by page: large ones do not end up in memory as a whole.
    opened = parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
    names = opened.schema_arrow.names
    dated = wanted.start is not None
    if dated and time_column not in names:
        raise ValueError(f"it has no column {time_column!r} (`time_column`); its columns: {', '.join(names)[:200]}")
    if len(set(names)) < len(names):
        raise ValueError("two of its columns have the same name")
    columns = [n for n in names if wanted.wants(n) or (dated and n == time_column)]
    groups = [n for n in range(opened.num_row_groups) if _may_hold(opened.metadata.row_group(n), time_column, wanted)]
    for batch in opened.iter_batches(BATCH, row_groups=groups, columns=columns, use_threads=False):
        if not dated:
            yield batch
            continue
        inside, undated = scoring_data_types.within(batch.column(time_column), wanted)
        rows.undated += undated
        kept = batch if inside.true_count == len(inside) else batch.filter(inside)
        yield kept if wanted.wants(time_column) else kept.drop_columns([time_column])


def _may_hold(group: Any, time_column: str, wanted: Wanted) -> bool:
    """Tell from a row group's statistics whether rows of the window, or rows without a time, may be in it."""
    if wanted.start is None:
        return True
    found = next((c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == time_column), None)
    said = found.statistics if found is not None else None
    if said is None or not said.has_min_max or not said.has_null_count or said.null_count:
        return True
    low, high = _moment(said.min), _moment(said.max)
    if low is None or high is None:
        return True
    start, end = scoring_data_types.bounds(wanted, low.tzinfo is not None)
    return low < end and high >= start


def _moment(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value
    return datetime.combine(value, time()) if isinstance(value, date) else None
