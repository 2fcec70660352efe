"""Arrow columns as plain numbers and texts, whatever type they come in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from upkeep.adapters.scoring_data_types import INFERRED
from upkeep.core.drift import Kind

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST = 1e150
"""Numbers beyond it count as infinite: the square of one overflows, and no column has them on purpose."""


class Values(NamedTuple):
    """The values of one column of one batch, as those of the kind they are compared as."""

    values: Any
    """Numbers: finite doubles. Categories: pairs of text and count."""
    missing: int
    infinite: int = 0
    foreign: int = 0
    """Values of another type than that kind's: they are compared where they can be read as of it."""
    lost: int = 0
    """Those of them that cannot."""
    example: str = ""


def kind_of(kind: Any) -> Kind:
    """Return what an Arrow type holds."""
    import pyarrow as pa

    is_ = pa.types
    if is_.is_dictionary(kind):
        return kind_of(kind.value_type)
    if is_.is_integer(kind) or is_.is_floating(kind) or is_.is_decimal(kind):
        return "number"
    if is_.is_string(kind) or is_.is_large_string(kind) or is_.is_string_view(kind) or is_.is_boolean(kind):
        return "category"
    if is_.is_temporal(kind) and not is_.is_interval(kind):
        return "time"
    return "empty" if is_.is_null(kind) else "other"


def read(array: Any, kind: Kind, inferred: bool) -> Values:
    """Return the values of a column as numbers or categories.

    :param inferred: the types were made out from text: that of numbers only says what they look like.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    found = kind_of(array.type)
    if found == "empty":
        return Values(None, len(array))
    if kind == "number":
        return _numbers(array, found)
    if kind == "category":
        return _texts(array, found, inferred)
    return Values(None, array.null_count)


def _numbers(array: Any, found: Kind) -> Values:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    foreign = lost = 0
    example = ""
    if found == "category" and not pa.types.is_boolean(array.type):
        array, foreign, lost, example = _parsed(array)
    elif found != "number":
        foreign = len(array) - array.null_count
        if not pa.types.is_boolean(array.type):
            return Values(None, array.null_count, 0, foreign, foreign, str(array.type))
        array = array.cast(pa.int8())
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.float64(), safe=False)
    empty = array.null_count
    values = (pc.drop_null(array) if empty else array).to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    finite = np.abs(values) < LARGEST
    kept = int(finite.sum())
    if kept == len(values):
        return Values(values, empty - lost, 0, foreign, lost, example)
    absent = int(np.isnan(values).sum())
    return Values(values[finite], empty + absent - lost, len(values) - kept - absent, foreign, lost, example)


def _parsed(array: Any) -> tuple[pa.Array, int, int, str]:
    """Return texts as numbers: how many there were, how many are none, and one of those."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = array.cast(pa.string())
    trimmed = pc.utf8_trim_whitespace(texts)
    foreign = len(texts) - texts.null_count
    try:
        return trimmed.cast(pa.float64()), foreign, 0, ""
    except pa.ArrowInvalid:
        numbers = [_number(t) for t in trimmed.to_pylist()]
    lost = [t for t, n in zip(texts.to_pylist(), numbers, strict=True) if t is not None and n is None]
    return pa.array(numbers, pa.float64()), foreign, len(lost), lost[0] if lost else ""


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _texts(array: Any, found: Kind, inferred: bool) -> Values:
    import pyarrow as pa
    import pyarrow.compute as pc

    present = len(array) - array.null_count
    if found not in ("category", "number"):
        return Values(None, array.null_count, 0, present, present, str(array.type))
    foreign = 0 if found == "category" or inferred else present
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.float64(), safe=False)
    counted = pc.value_counts(array)
    pairs = zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)
    merged: dict[str, int] = {}
    missing = 0
    for value, count in pairs:
        if value is None or value != value:  # noqa: PLR0124 # only NaN differs from itself
            missing += count
        else:
            text = category(value)
            merged[text] = merged.get(text, 0) + count
    return Values(merged, missing, 0, foreign, 0, str(array.type) if foreign else "")


def category(value: Any) -> str:
    """Return the name of a category: 1, 1.0 and "1" are one, as are True and "true".

    Whole numbers turn into fractions as soon as a value is missing among them, in pandas and thus in many files.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).lower() if value in ("True", "TRUE", "False", "FALSE") else str(value)


def inferred(batch: pa.RecordBatch) -> bool:
    """Tell whether the types of a batch only say what its text looks like (CSV)."""
    return INFERRED in (batch.schema.metadata or {})
