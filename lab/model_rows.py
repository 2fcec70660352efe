"""What the sample systems' models are asked about, and what then turned out to be true; the same for the same day.

The truth follows from the features with a little noise, so that a logistic regression that was trained on such rows is
right about 97 times in 100.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Columns = dict[str, "np.ndarray[Any, Any]"]


@dataclass(frozen=True)
class Kind:
    """A model's features: numeric ones first, then one with categories."""

    name: str
    numeric: tuple[str, ...]
    category: str
    values: tuple[str, ...]
    shares: tuple[float, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """All features, in the order in which the model wants them."""
        return (*self.numeric, self.category)


CLAIMS = Kind(
    "claims", ("amount", "age", "incidents", "days_to_report", "amount_ratio"), "policy_kind",
    ("motor", "home", "health", "travel"), (0.5, 0.25, 0.15, 0.1),
)  # fmt: skip
STUDENT = Kind(
    "student", ("early_avg_score", "early_total_clicks", "studied_credits", "absent_days"), "grade_band",
    ("elementary", "middle", "high"), (0.4, 0.25, 0.35),
)  # fmt: skip
KINDS = {one.name: one for one in (CLAIMS, STUDENT)}
# Standard deviation of what the features do not say, as part of that of what they say.
_NOISE = 0.07


def dice(*seed: object) -> np.random.Generator:
    """Return a generator that follows from what is given."""
    import numpy as np

    digest = hashlib.sha256(" ".join(map(str, seed)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def rows(kind: Kind, generator: np.random.Generator, count: int) -> Columns:
    """Return features by name, and `label`, the truth."""
    import numpy as np

    columns: Columns = dict(_claims(generator, count) if kind is CLAIMS else _students(generator, count))
    columns[kind.category] = generator.choice(np.array(kind.values), count, p=kind.shares)
    score = _truth(kind, columns)
    columns["label"] = score + generator.normal(0, _NOISE, count) * 2 > 0
    return columns


def _claims(generator: np.random.Generator, count: int) -> Columns:
    return {
        "amount": np_round(generator.lognormal(7.6, 0.9, count), 2),
        "age": generator.integers(18, 88, count),
        "incidents": generator.poisson(1.2, count),
        "days_to_report": generator.geometric(0.2, count),
        "amount_ratio": np_round(generator.beta(2, 5, count), 4),
    }


def _students(generator: np.random.Generator, count: int) -> Columns:
    return {
        "early_avg_score": np_round(generator.normal(72, 13, count).clip(0, 100), 1),
        "early_total_clicks": generator.poisson(generator.gamma(4, 35, count)),
        "studied_credits": generator.choice([30, 45, 60, 75, 90], count, p=[0.15, 0.2, 0.4, 0.15, 0.1]),
        "absent_days": generator.poisson(1.5, count),
    }


def np_round(values: Any, digits: int) -> Any:
    """Round as the database keeps it."""
    import numpy as np

    return np.round(values, digits)


def _truth(kind: Kind, columns: Columns) -> Any:
    if kind is CLAIMS:
        return (
            (columns["amount"] - 2000) / 1500 + 0.9 * (columns["incidents"] - 1.2) - 0.004 * (columns["age"] - 50)
            + 0.01 * columns["days_to_report"] + 0.1 * columns["amount_ratio"] - 0.9
        )  # fmt: skip
    return (
        (68 - columns["early_avg_score"]) / 7 + (110 - columns["early_total_clicks"]) / 60
        + 0.05 * columns["absent_days"] + (columns["studied_credits"] - 60) / 300 - 0.6
    )  # fmt: skip
