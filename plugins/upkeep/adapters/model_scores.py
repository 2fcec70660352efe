"""How a model did in a window: its answers beside what turned out to be true, read in batches.

Memory is that of the counts, 8 bytes for each number that quantiles are taken of, and a bounded sample of rows. Values
are defined as scikit-learn defines them, and equal its own (tests: within 1e-12).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from upkeep.core.cadence import Window
from upkeep.core.ml import Labels
from upkeep.core.model_health import ClassScore, LabelledRows, NoScores, Scores
from upkeep.core.system import System
from upkeep.core.targets import ModelTarget

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from upkeep.adapters.scoring_data import Rows, ScoringData

BINS = 10
"""Bins of equal width for the expected calibration error: the sum over bins of (rows in the bin / all rows) times
|share of positives - mean probability| (Naeini, Cooper, Hauskrecht 2015, https://doi.org/10.1609/aaai.v29i1.9602)."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_CLASSES = 1000


class ModelScores:
    """Reads labels and predictions; see `core.model_health.Models`."""

    def __init__(self, data: ScoringData) -> None:
        self._data = data

    def __call__(
        self, labels: Labels, system: System, window: Window, features: Sequence[str], sample: int
    ) -> Scores | NoScores:
        """Return the scores of the rows made in a window, with up to `sample` labelled rows that have `features`.

        :raises ConfigurationError, TransientError: as `ScoringData.open`.
        """
        needed = [labels.label, labels.prediction] + ([labels.probability] if labels.probability else [])
        columns = [*needed, *features]
        tally = _Regression(labels, features, sample) if labels.task == "regression" else _Classes(
            labels, features, sample)  # fmt: skip
        with self._data.open(labels.source, system, window.start, window.end, columns=columns) as rows:
            for batch in rows:
                if missing := [name for name in needed if name not in batch.schema.names]:
                    seen = ", ".join(batch.schema.names) or "none"
                    return NoScores(
                        f"the labels have no column {', '.join(missing)}; of what was asked for there is {seen}",
                        "correct the names under `labels` of the target",
                    )
                if trouble := tally.add(batch):
                    return NoScores(trouble, "is `labels.task` right? numbers without end are `regression`")
        if isinstance(tally, _Classes) and (apart := tally.apart()):
            return NoScores(apart, "write both alike, in the query or in what writes the files")
        return _unread(rows) or tally.scores()

    def scored(self, target: ModelTarget, system: System, window: Window) -> int | NoScores:
        """Return how many rows the model was asked about in a window."""
        if target.scoring is None:
            return 0
        columns = [target.prediction] if target.prediction else None
        with self._data.open(target.scoring, system, window.start, window.end, columns=columns) as rows:
            for _ in rows:
                pass
        return _unread(rows) or rows.read


def _unread(rows: Rows) -> NoScores | None:
    if not rows.unread:
        return None
    first = rows.unread[0]
    return NoScores(
        f"{len(rows.unread)} files could not be read, the first: {first.place}: {first.reason}",
        "repair or remove them, then run this again",
    )


class _Tally:
    """What all tasks count."""

    def __init__(self, labels: Labels, features: Sequence[str], sample: int) -> None:
        import numpy as np

        self.labels, self.features, self.limit = labels, tuple(features), sample
        self.rows = self.labelled = self.odd = 0
        self._dice = np.random.default_rng(0)
        self._sample: list[tuple[float, tuple[Any, ...], Any]] = []
        self._numbers: list[np.ndarray[Any, Any]] = []

    def keep(self, batch: pa.RecordBatch, truth: Sequence[Any]) -> None:
        """Keep a sample of the labelled rows, each with the same chance, the same for the same rows in one order."""
        if not self.limit or not self.features or not set(self.features) <= set(batch.schema.names):
            return
        keys = self._dice.random(len(truth))
        chosen = [at for at in keys.argsort(kind="stable") if truth[at] is not None][: self.limit]
        columns = [batch.column(name) for name in self.features]
        fresh = [(float(keys[at]), tuple(_plain(c[int(at)].as_py()) for c in columns), truth[at]) for at in chosen]
        self._sample = sorted(self._sample + fresh, key=lambda one: one[0])[: self.limit]

    def sample(self) -> LabelledRows | None:
        """Return the rows that were kept."""
        if not self._sample:
            return None
        table = zip(*(values for _, values, _ in self._sample), strict=True)
        columns = {name: list(values) for name, values in zip(self.features, table, strict=True)}
        return LabelledRows(columns, [truth for *_, truth in self._sample], self.labels.task == "classification")

    def quantiles(self) -> dict[str, float]:
        """Return quantiles of all numbers that were kept."""
        import numpy as np

        numbers = np.concatenate(self._numbers) if self._numbers else np.empty(0)
        if not numbers.size:
            return {}
        return dict(
            zip((f"p{100 * q:02.0f}" for q in QUANTILES), np.quantile(numbers, QUANTILES).tolist(), strict=True)
        )


class _Classes(_Tally):
    """Counts pairs of label and prediction, and the calibration of probabilities."""

    def __init__(self, labels: Labels, features: Sequence[str], sample: int) -> None:
        import numpy as np

        super().__init__(labels, features, sample)
        self._pairs: Counter[tuple[Any, Any]] = Counter()
        self._squares: list[float] = []
        self._bins = np.zeros((3, BINS))

    def add(self, batch: pa.RecordBatch) -> str:
        """Count a batch; return why that is impossible."""
        truth = [_plain(value) for value in batch.column(self.labels.label).to_pylist()]
        said = [_plain(value) for value in batch.column(self.labels.prediction).to_pylist()]
        self.rows += len(truth)
        self.labelled += sum(1 for one in truth if one is not None)
        self._pairs.update(zip(truth, said, strict=True))
        if len({one for pair in self._pairs for one in pair}) > _CLASSES:
            return f"more than {_CLASSES} different labels and predictions"
        if self.labels.probability:
            self._calibrate(batch.column(self.labels.probability), truth)
        self.keep(batch, truth)
        return ""

    def apart(self) -> str:
        """Tell that labels are text and predictions are not, or the other way round, and no value is in both."""
        known = {pair: count for pair, count in self._pairs.items() if None not in pair}
        pairs = _one_kind(known)
        labels, said = {label for label, _ in pairs}, {prediction for _, prediction in pairs}
        if not known or not _is_mixed(known) or labels & said:
            return ""
        shown = [", ".join(sorted(f"{one!r:.40}" for one in values)[:3]) for values in (labels, said)]
        return f"no prediction can be right: labels are {shown[0]}, predictions are {shown[1]}"

    def _calibrate(self, column: pa.Array, truth: list[Any]) -> None:
        import numpy as np

        chance = _numbers(column)
        good = np.isfinite(chance) & (chance >= 0) & (chance <= 1)
        self.odd += int((~good).sum())
        self._numbers.append(chance[good])
        known = good & np.array([one is not None for one in truth], dtype=bool)
        hits = np.array([_same(one, self.labels.positive) for one in truth], dtype=float)[known]
        chance = chance[known]
        self._squares.append(float(np.sum((chance - hits) ** 2)))
        bins = np.minimum((chance * BINS).astype(int), BINS - 1)
        for row, weights in enumerate((np.ones_like(chance), chance, hits)):
            self._bins[row] += np.bincount(bins, weights=weights, minlength=BINS)

    def scores(self) -> Scores:
        """Return what was counted."""
        pairs = _one_kind(self._pairs)
        known = {pair: count for pair, count in pairs.items() if None not in pair}
        total = sum(known.values())
        said: Counter[str] = Counter()
        # As they came: under the same names in windows whose labels have not come yet.
        for (_, prediction), count in self._pairs.items():
            said[_name(prediction)] += count
        classes = _classes(known)
        rows, chance, hits = self._bins
        calibrated = float(rows.sum())
        if len({label for label, _ in known}) > 1 and not hits.any():
            # None of the labels is the positive one: then nobody knows what the probability is of.
            calibrated = 0.0
        return Scores(
            rows=self.rows,
            labelled=self.labelled,
            accuracy=sum(c for (a, b), c in known.items() if a == b) / total if total else None,
            classes=classes,
            macro=_macro(classes),
            brier=math.fsum(self._squares) / calibrated if calibrated else None,
            ece=float(abs(chance - hits).sum()) / calibrated if calibrated else None,
            shares={name: count / self.rows for name, count in sorted(said.items())},
            quantiles=self.quantiles(),
            odd=self.odd + sum(count for (_, prediction), count in pairs.items() if prediction is None),
            sample=self.sample(),
        )


class _Regression(_Tally):
    """Sums errors; the spread of the labels is merged batch by batch (Chan, Golub, LeVeque 1979)."""

    def __init__(self, labels: Labels, features: Sequence[str], sample: int) -> None:
        super().__init__(labels, features, sample)
        self._absolute: list[float] = []
        self._squared: list[float] = []
        self._count, self._mean, self._spread = 0, 0.0, 0.0
        # Labels are taken from the first one on: far from zero their spread would drown in rounding.
        self._origin: float | None = None

    def add(self, batch: pa.RecordBatch) -> str:
        """Add a batch; return why that is impossible."""
        import numpy as np

        truth, said = (_numbers(batch.column(name)) for name in (self.labels.label, self.labels.prediction))
        self.rows += len(truth)
        self.odd += int((~np.isfinite(said)).sum() + np.isinf(truth).sum())
        self.labelled += int((~np.isnan(truth)).sum())
        self._numbers.append(said[np.isfinite(said)])
        good = np.isfinite(truth) & np.isfinite(said)
        self._merge(truth[good], truth[good] - said[good])
        self.keep(batch, [float(one) if fine else None for one, fine in zip(truth, good, strict=True)])
        return ""

    def _merge(self, truth: np.ndarray[Any, Any], error: np.ndarray[Any, Any]) -> None:
        if not truth.size:
            return
        if self._origin is None:
            self._origin = float(truth[0])
        truth = truth - self._origin
        self._absolute.append(float(abs(error).sum()))
        self._squared.append(float((error**2).sum()))
        count, mean = truth.size, float(truth.mean())
        both, apart = self._count + count, mean - self._mean
        self._spread += float(((truth - mean) ** 2).sum()) + apart**2 * self._count * count / both
        self._mean += apart * count / both
        self._count = both

    def scores(self) -> Scores:
        """Return what was added up."""
        squared, count = math.fsum(self._squared), self._count
        return Scores(
            rows=self.rows,
            labelled=self.labelled,
            mae=math.fsum(self._absolute) / count if count else None,
            rmse=math.sqrt(squared / count) if count else None,
            r2=1 - squared / self._spread if count > 1 and self._spread else None,
            quantiles=self.quantiles(),
            odd=self.odd,
            sample=self.sample(),
        )


def _numbers(column: pa.Array) -> np.ndarray[Any, Any]:
    """Return a column as floating-point numbers, NaN where it has none."""
    import numpy as np
    import pyarrow as pa

    try:
        return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=float)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return np.array([_number(value) for value in column.to_pylist()], dtype=float)


def _number(value: Any) -> float:
    try:
        return math.nan if value is None else float(value)
    except (TypeError, ValueError):
        return math.nan


def _plain(value: Any) -> Any:
    """Return a value as Python has it; what means nothing becomes None, 1.0 becomes 1."""
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _same(one: Any, other: Any) -> bool:
    return one is not None and (one == other or _text(one) == _text(other))


def _one_kind(pairs: Mapping[tuple[Any, Any], int]) -> Counter[tuple[Any, Any]]:
    """Return the pairs with labels and predictions that can be compared: as text where one of them is text."""
    as_text = any(isinstance(one, str) for pair in pairs for one in pair)
    # Where both are text, `t` and `1` are names like others.
    alike = _text if _is_mixed(pairs) else _spelling
    found: Counter[tuple[Any, Any]] = Counter()
    for (label, said), count in pairs.items():
        found[(alike(label), alike(said)) if as_text else (label, said)] += count
    return found


def _is_mixed(pairs: Mapping[tuple[Any, Any], int]) -> bool:
    return len({isinstance(one, str) for pair in pairs for one in pair if one is not None}) > 1


def _spelling(value: Any) -> Any:
    return value.lower() if value in ("True", "TRUE", "False", "FALSE") else value


def _text(value: Any) -> str | None:
    """Return a value as text under which 1, "1.0", True, "true" and PostgreSQL's "t" are the same."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(int(value))
    text = str(value).strip().lower()
    try:
        return str(_plain(float(text)))
    except (ValueError, OverflowError):
        return {"true": "1", "t": "1", "false": "0", "f": "0"}.get(text, text)


def _name(value: Any) -> str:
    return "(none)" if value is None else str(value)[:80]


def _classes(pairs: Mapping[tuple[Any, Any], int]) -> dict[str, ClassScore]:
    """Return precision, recall and F1 of each class, 0 where there is nothing to divide by, as scikit-learn has it."""
    hits, said, real = Counter[Any](), Counter[Any](), Counter[Any]()
    for (label, prediction), count in pairs.items():
        real[label] += count
        said[prediction] += count
        hits[label] += count if label == prediction else 0
    found = {}
    for one in sorted({*real, *said}, key=lambda value: (isinstance(value, str), value)):
        precision = hits[one] / said[one] if said[one] else 0.0
        recall = hits[one] / real[one] if real[one] else 0.0
        f1 = 2 * hits[one] / (said[one] + real[one])
        found[_name(one)] = ClassScore(precision, recall, f1, real[one])
    return found


def _macro(classes: Mapping[str, ClassScore]) -> ClassScore | None:
    if not classes:
        return None
    count = len(classes)
    return ClassScore(
        math.fsum(c.precision for c in classes.values()) / count,
        math.fsum(c.recall for c in classes.values()) / count,
        math.fsum(c.f1 for c in classes.values()) / count,
        sum(c.support for c in classes.values()),
    )
