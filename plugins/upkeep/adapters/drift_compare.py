"""Compares the columns of a window with those of a profile, batch by batch, with a fixed amount of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from upkeep.adapters import drift_cells, drift_columns, drift_tests
from upkeep.adapters.drift_cells import Cells
from upkeep.core.drift import Aspect, ColumnDrift, ColumnProfile, Distribution, Effect, Kind

if TYPE_CHECKING:
    import pyarrow as pa

LEAST = 30
"""Fewer values than that say nothing of a distribution, whatever a test makes of them."""
_NEW = 10_000
"""So many categories that the profile does not know are told apart; more are only counted."""
_SHOWN = 5


class Column:
    """One column of the window beside its profile."""

    def __init__(self, name: str, profile: ColumnProfile) -> None:
        self.name, self.profile = name, profile
        self.rows = self.missing = self.infinite = self.foreign = self.lost = 0
        self._types: set[str] = set()
        self._odd = 0
        self.example = ""
        self._cells = Cells(profile.edges)
        self._known = dict.fromkeys(profile.counts, 0)
        self._new: dict[str, int] = {}
        self._uncounted = 0

    def add(self, array: Any, inferred: bool) -> None:
        """Take a batch's values in."""
        if array.null_count < len(array):
            self._types.add(str(array.type))
            expected = "category" if self.kind == "identifier" else self.kind
            odd = drift_columns.kind_of(array.type) != expected and not inferred
            self._odd += len(array) - array.null_count if odd else 0
        seen = drift_columns.read(array, self.kind, inferred)
        self.rows += len(array)
        self.missing += seen.missing
        self.infinite += seen.infinite
        # Text that is no number counts; text that is one, in a file without types, does not.
        self.foreign += seen.lost if inferred else seen.foreign
        self.lost += seen.lost
        self.example = self.example or seen.example
        if self.kind == "number" and seen.values is not None and self.profile.edges:
            self._cells.add(seen.values)
        elif self.kind == "category":
            self._count(seen.values or {})

    def _count(self, values: dict[str, int]) -> None:
        for value, count in values.items():
            if value in self._known:
                self._known[value] += count
            elif value in self._new or len(self._new) < _NEW:
                self._new[value] = self._new.get(value, 0) + count
            else:
                self._uncounted += count

    @property
    def kind(self) -> Kind:
        """What the column is compared as, which is what it was in the profile."""
        return self.profile.kind

    @property
    def values(self) -> int:
        """How many values could be compared."""
        return self._cells.total + sum(self._known.values()) + self._fresh

    @property
    def _fresh(self) -> int:
        return sum(self._new.values()) + self._uncounted

    def drift(self, rows: int) -> ColumnDrift:
        """Return how it differs.

        :param rows: how many there were in all; in files without the column, its values are missing.
        """
        self.missing, self.rows = self.missing + rows - self.rows, rows
        found = [self._missing(), self._type(), *(self._of_numbers() if self.kind == "number" else self._of_classes())]
        return ColumnDrift(
            column=self.name,
            kind=self.kind,
            rows=self.rows,
            values=self.values,
            distribution=self._distribution(),
            aspects=tuple(a for a in found if a is not None),
        )

    def _distribution(self) -> Distribution | None:
        if min(self.values, self.profile.values) < LEAST:
            return None
        if self.kind == "number":
            return drift_cells.compare(self.profile, self._cells)
        return self._of_counts() if self.kind == "category" else None

    def _of_counts(self) -> Distribution:
        import numpy as np

        known = list(self._known)
        keys = [*known, *self._new, "\0uncounted"]
        old = np.array([*(self.profile.counts[k] for k in known), *[0] * (len(self._new) + 1)], dtype=np.float64)
        new = np.array([*self._known.values(), *self._new.values(), self._uncounted], dtype=np.float64)
        before, now = drift_tests.pooled(old, new, keys)
        statistic, p = drift_tests.classes_p(before, now)
        floor = drift_tests.psi_floor(len(before), old.sum(), new.sum())
        effects = (
            Effect(method="PSI", value=drift_tests.psi(before, now), floor=floor),
            Effect(method="Jensen-Shannon", value=drift_tests.jensen_shannon(before, now), floor=(floor / 8) ** 0.5),
        )
        moved = new / new.sum() - old / old.sum()
        most = int(np.abs(moved).argmax())
        name = f"{keys[most]!r:.60}" if keys[most] != "\0uncounted" else "categories that were not there"
        said = f"most moved {name}, {old[most] / old.sum():.1%} -> {new[most] / new.sum():.1%}"
        return Distribution(effects=effects, test="chi-square", statistic=statistic, p=p, said=said)

    def _missing(self) -> Aspect | None:
        return self._share("missing", self.profile.missing, self.missing)

    def _share(self, name: Any, before: int, now: int) -> Aspect | None:
        if not self.rows or not self.profile.rows or not before + now:
            return None
        p = drift_tests.share_p(before, self.profile.rows, now, self.rows)
        return Aspect(name=name, before=before / self.profile.rows, now=now / self.rows, p=p)

    def _type(self) -> Aspect | None:
        foreign = self.foreign if self.kind in ("number", "category") else self._odd
        if not foreign or self.kind == "empty":
            return None
        lost = f"; {self.lost:,} values cannot be read, such as {self.example!r:.60}" if self.lost else ""
        said = f"{self.profile.type} -> {' and '.join(sorted(self._types))}{lost}"
        return Aspect(name="type", before=0.0, now=foreign / self.rows, said=said)

    def _of_numbers(self) -> Sequence[Aspect | None]:
        infinite = self._share("infinite", self.profile.infinite, self.infinite)
        if not self.profile.edges:
            return (infinite,)
        enough = self._cells.total >= LEAST
        far, constant = drift_cells.outliers, drift_cells.constant
        return (infinite, *((far(self.profile, self._cells), constant(self.profile, self._cells)) if enough else ()))

    def _of_classes(self) -> Sequence[Aspect | None]:
        if self.kind != "category" or min(self.values, self.profile.values) < LEAST:
            return ()
        return (self._new_categories(), self._vanished(), self._constant())

    def _new_categories(self) -> Aspect | None:
        """Return the share of categories that the profile does not know.

        Rare ones are never all in a sample: what of a next one is new is, by chance alone, about the share of those
        that were seen once (Good 1953, The population frequencies of species and the estimation of parameters).
        """
        if not self._fresh:
            return None
        once, kept, values = sum(1 for c in self.profile.counts.values() if c == 1), self.profile.values, self.values
        p = drift_tests.share_p(once, kept, self._fresh, values)
        shown = sorted(self._new.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
        said = ", ".join(f"{name!r:.40} {count / values:.1%}" for name, count in shown)
        more = f" and {len(self._new) - len(shown):,} more" if len(self._new) > len(shown) else ""
        p = p if self._fresh / values > once / kept else 1.0
        return Aspect(name="new_categories", before=0.0, now=self._fresh / values, p=p, said=said + more)

    def _vanished(self) -> Aspect | None:
        """Return the largest categories that are not there any more; `before` is the share of them together."""
        gone = {name: self.profile.counts[name] for name, count in self._known.items() if not count}
        if not gone:
            return None
        kept, values = self.profile.values, self.values
        one = {
            name: drift_tests.vanished_p(count, kept, values) for name, count in gone.items() if count >= kept * 1e-4
        }
        tried = len(self.profile.counts)
        sure = sorted((n for n in one if one[n] * tried < 0.05), key=lambda n: (-gone[n], n)) or sorted(
            one, key=lambda n: (one[n], n))[:1]  # fmt: skip
        if not sure:
            return None
        said = ", ".join(f"{name!r:.40} {gone[name] / kept:.1%}" for name in sure[:_SHOWN])
        p = min(1.0, min(one[n] for n in sure) * tried)
        return Aspect(name="vanished_categories", before=sum(gone[n] for n in sure) / kept, now=0.0, p=p, said=said)

    def _constant(self) -> Aspect | None:
        counts = {k: c for k, c in (self._known | self._new).items() if c}
        if len(counts) != 1 or self._uncounted or len(self.profile.counts) < 2:
            return None
        share = max(self.profile.counts.values()) / self.profile.values
        return Aspect(name="constant", before=share, now=1.0, p=share**self.values, said=f"{next(iter(counts))!r:.60}")


class Comparison:
    """All columns of a window beside a profile."""

    def __init__(self, profiles: dict[str, ColumnProfile]) -> None:
        self._columns = {name: Column(name, profile) for name, profile in profiles.items()}
        self._others: set[str] = set()
        self._rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take a batch in."""
        inferred = drift_columns.inferred(batch)
        self._rows += batch.num_rows
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            if name in self._columns:
                self._columns[name].add(array, inferred)
            else:
                self._others.add(name)

    def drifts(self) -> tuple[ColumnDrift, ...]:
        """Return how each column differs that was there."""
        return tuple(c.drift(self._rows) for c in self._columns.values() if c.rows)

    @property
    def absent(self) -> tuple[str, ...]:
        """Columns that were not there."""
        return tuple(name for name, column in self._columns.items() if not column.rows)

    @property
    def added(self) -> tuple[str, ...]:
        """Columns that nobody asked for."""
        return tuple(sorted(self._others))
