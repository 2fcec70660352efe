"""What is kept of a model's reference data, and how the data of a window differ from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

from pydantic import Field

from upkeep.core.ml import DataSource
from upkeep.core.model import Model
from upkeep.core.system import System

Kind = Literal["number", "category", "time", "identifier", "other", "empty"]
"""What a column holds. `identifier`: nearly every row has a value of its own; `other`: binary or nested values;
`empty`: nothing but missing values. Distributions are compared of numbers and categories only."""


class Unread(Model):
    """A file that could not be read, wholly or in part, and why: its rows are unknown."""

    place: str
    reason: str


class ColumnProfile(Model):
    """What is kept of one column of the reference data.

    Numbers are kept as counts: `at[i]` values equal `edges[i]`, `between[i]` lie strictly between `edges[i - 1]` and it
    (`between[0]`: below the first edge, the last one: above the last edge), and `sums` are the sums of those. The edges
    are quantiles, so that no more than about one value in a thousand lies between two of them.
    """

    kind: Kind
    type: str
    rows: int
    missing: int = 0
    """Rows with NULL or NaN."""
    infinite: int = 0
    mismatched: int = 0
    """Values that are not of the column's kind; they are in none of the other numbers but `rows`."""
    edges: tuple[float, ...] = ()
    at: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    sums: tuple[float, ...] = ()
    std: float = 0.0
    """Standard deviation of the finite numbers (divided by their count)."""
    fences: tuple[float, float] | None = None
    """Tukey's outer fences: three interquartile ranges outside the quartiles. None: half of all values are equal."""
    counts: dict[str, int] = {}
    """Rows of each category."""

    @property
    def values(self) -> int:
        """How many values can be compared."""
        return sum(self.at) + sum(self.between) + sum(self.counts.values())


class Profile(Model):
    """Reference data of a model, column by column. The same data always give the same profile and the same hash."""

    format: int = 1
    target: str
    start: datetime | None = None
    """The data were made from then on; None: all that were there."""
    end: datetime | None = None
    rows: int
    columns: dict[str, ColumnProfile]

    def canonical(self) -> bytes:
        """Return it as the JSON that is hashed and kept: keys in order, no blanks, numbers that read back the same."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return text.encode()

    @property
    def sha256(self) -> str:
        """The hash by which it is named."""
        return hashlib.sha256(self.canonical()).hexdigest()


class ProfileEntry(Model):
    """One line of the index of a profile folder."""

    version: int = Field(ge=1)
    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.json$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    made_at: datetime
    rows: int


class ProfileIndex(Model):
    """The versions that a profile folder holds, oldest first. The highest one is current."""

    format: int = 1
    versions: tuple[ProfileEntry, ...] = ()

    def at(self, moment: datetime) -> ProfileEntry | None:
        """Return the version that was current just before a moment, None when there was none yet."""
        return max((e for e in self.versions if e.made_at < moment), key=lambda e: e.version, default=None)

    @property
    def current(self) -> ProfileEntry | None:
        """The highest version."""
        return max(self.versions, key=lambda e: e.version, default=None)


class Effect(Model):
    """How much two distributions differ, by one measure.

    `floor` is what chance alone may bring about with so few rows or so many classes: below it nothing is said.
    """

    method: Literal["PSI", "KS", "Wasserstein", "Jensen-Shannon"]
    value: float
    floor: float = 0.0


class Distribution(Model):
    """How the values of a column are distributed now and in the profile."""

    effects: tuple[Effect, ...]
    test: Literal["KS", "chi-square"]
    statistic: float
    p: float
    said: str
    """In which direction it went, in words."""


class Aspect(Model):
    """A share of a column's rows (0 to 1) that has changed in a way that is told apart from the distribution.

    `p` is how likely chance alone brings such a change about; None: chance has no part in it.
    """

    name: Literal["missing", "infinite", "outliers", "new_categories", "vanished_categories", "constant", "type"]
    before: float
    now: float
    p: float | None = None
    said: str = ""


class ColumnDrift(Model):
    """How one column of the window differs from its profile. `values` are those that could be compared."""

    column: str
    kind: Kind
    rows: int
    values: int
    distribution: Distribution | None = None
    aspects: tuple[Aspect, ...] = ()


class ReadState(Model):
    """What became of the rows of a source while they were read; see `adapters.scoring_data.Rows`."""

    rows: int = 0
    broken: int = 0
    undated: int = 0
    unread: tuple[Unread, ...] = ()


class Drifted(Model):
    """How the data of a window differ from a profile."""

    read: ReadState
    columns: tuple[ColumnDrift, ...] = ()
    absent: tuple[str, ...] = ()
    """Columns of the profile that the data do not have."""
    added: tuple[str, ...] = ()
    """Columns of the data that the profile does not have."""


class Profiled(Model):
    """A profile that was built, and what became of the rows it was built from."""

    read: ReadState
    profile: Profile


class Stretch(Model):
    """Rows to read: of a source, made in [start, end), the only columns that count (None: all), and how patiently.

    Without start and end: all rows of files, which then need no time.
    """

    source: DataSource
    start: datetime | None
    end: datetime | None
    columns: tuple[str, ...] | None = None
    statement_timeout: float = 300.0


class Drifts(Protocol):
    """Compares data with profiles, builds profiles and keeps them; see `adapters.drift`."""

    def drifted(self, stretch: Stretch, system: System, profile: Profile, columns: Sequence[str]) -> Drifted:
        """Compare `columns` of a stretch of data with a profile, in one pass and with a fixed amount of memory.

        :raises ConfigurationError: the source is described wrongly, or we may not read it.
        :raises TransientError: it is away.
        """
        ...

    def profiled(self, stretch: Stretch, system: System, target: str) -> Profiled:
        """Build a profile of a stretch of data. :raises UpkeepError: as `drifted` does."""
        ...

    def features(self, path: str) -> tuple[str, ...] | None:
        """Return the features that a metadata file (JSON) names, None where it names none or is not there.

        :raises ConfigurationError: it cannot be read.
        """
        ...

    def index(self, folder: str) -> ProfileIndex:
        """Return what a profile folder holds; nothing where there is no folder.

        :raises DamagedError: its index cannot be read.
        """
        ...

    def load(self, folder: str, entry: ProfileEntry) -> Profile:
        """Return a version. :raises DamagedError: its file is not the one that was kept."""
        ...

    def keep(self, folder: str, profile: Profile, made_at: datetime) -> ProfileEntry:
        """Add a profile as the next version, or return the current one when it is the same.

        :raises ConfigurationError: we may not write there.
        """
        ...
