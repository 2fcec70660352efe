"""Values of files and queries as Arrow arrays of few kinds, and which of them lie in a window."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import pyarrow as pa

    from upkeep.adapters.scoring_data import Wanted

INFERRED = b"upkeep.inferred"
"""Key of a schema's metadata: its types were made out from text."""
# Seconds, milliseconds, microseconds and nanoseconds since 1970 can be told apart until the year 5138.
_EPOCHS = ((1e11, 1), (1e14, 1_000), (1e17, 1_000_000), (math.inf, 1_000_000_000))


def narrowed(array: Any, kind: str = "any") -> pa.Array:
    """Return an array of text as numbers or times when all of it is that, else as text.

    :param kind: `any` tries int64 and double, `time` timestamps; every other kind is left as it is.
    """
    import pyarrow as pa

    tries = {"any": (pa.int64(), pa.float64()), "time": (pa.timestamp("us", "UTC"), pa.timestamp("us"))}.get(kind, ())
    if array.null_count == len(array) or (kind == "any" and _has_leading_zeros(array)):
        return array
    for wanted in tries:
        try:
            return array.cast(wanted)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
    return array


def _has_leading_zeros(array: Any) -> bool:
    """Tell whether some texts begin like 007: those are codes, and as numbers they would be others."""
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring_regex(array, "^[+-]?0[0-9]")).as_py())


def readable(array: Any) -> pa.Array:
    """Return bytes as text. What is no UTF-8 is shown with replacement characters: the row is not lost for it."""
    import pyarrow as pa

    try:
        return array.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([None if v is None else v.decode("utf-8", "replace") for v in array.to_pylist()], pa.string())


def within(times: Any, wanted: Wanted) -> tuple[pa.Array, int]:
    """Return which rows lie in [start, end) and of how many rows nobody knows when they were made.

    Times without a zone are taken as of the system's zone; numbers as seconds, milliseconds, microseconds or
    nanoseconds since 1970.

    :raises ValueError: values of this type are no times.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(times.type):
        times = times.dictionary_decode()
    kind = times.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        times = _parsed(times.cast(pa.string()), wanted)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        times = _since_epoch(times)
    elif pa.types.is_date(kind):
        times = times.cast(pa.timestamp("us"))
    elif not pa.types.is_timestamp(kind) and not pa.types.is_null(kind):
        raise ValueError(f"it is of type {kind}, which tells no time")
    if times.null_count == len(times):
        return pa.array([False] * len(times), pa.bool_()), len(times)
    zoned = times.type.tz is not None
    moments = times.cast(pa.timestamp("us", "UTC" if zoned else None), safe=False)
    low, high = (pa.scalar(m, moments.type) for m in bounds(wanted, zoned))
    inside = pc.and_(pc.greater_equal(moments, low), pc.less(moments, high))
    return pc.fill_null(inside, False), cast(int, times.null_count)


def bounds(wanted: Wanted, zoned: bool) -> tuple[datetime, datetime]:
    """Return start and end as values compare with them: in UTC, or on the clock of the system's zone, without one."""
    assert wanted.start is not None and wanted.end is not None
    start, end = (moment.astimezone(UTC if zoned else wanted.zone) for moment in (wanted.start, wanted.end))
    return (start, end) if zoned else (start.replace(tzinfo=None), end.replace(tzinfo=None))


def _since_epoch(numbers: Any) -> pa.Array:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    values = pc.fill_null(numbers.cast(pa.float64(), safe=False), math.nan).to_numpy(zero_copy_only=False)
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    unit = next(unit for limit, unit in _EPOCHS if largest < limit)
    micros = np.where(np.isfinite(values), values, 0.0) * (1_000_000 / unit)
    return pa.array(micros.astype(np.int64), pa.int64(), mask=~np.isfinite(values)).cast(pa.timestamp("us", "UTC"))


def _parsed(texts: Any, wanted: Wanted) -> pa.Array:
    """Return ISO 8601 texts as moments: all at once where all are of one sort, else one by one."""
    import pyarrow as pa

    found = narrowed(texts, "time")
    return found if pa.types.is_timestamp(found.type) else _one_by_one(texts, wanted)


def _one_by_one(texts: Any, wanted: Wanted) -> pa.Array:
    import pyarrow as pa

    def moment(text: str | None) -> datetime | None:
        try:
            found = datetime.fromisoformat((text or "").strip())
        except ValueError:
            return None
        return (found if found.tzinfo else found.replace(tzinfo=wanted.zone)).astimezone(UTC)

    return pa.array([moment(t) for t in texts.to_pylist()], pa.timestamp("us", "UTC"))
