"""Compares the data of a window with a reference profile, builds profiles and keeps them. See `core.drift.Drifts`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from upkeep.adapters import profile_store
from upkeep.adapters.scoring_data import Rows, ScoringData
from upkeep.core.drift import Drifted, Profile, Profiled, ProfileEntry, ProfileIndex, ReadState, Stretch
from upkeep.core.errors import ConfigurationError
from upkeep.core.system import System

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_FEATURES = ("features", "feature_names", "feature_columns", "feature_names_in", "columns")


class Drifts:
    """Implements `core.drift.Drifts`.

    :param scratch: where columns lie while a profile is built: eight bytes a number.
    """

    def __init__(self, data: ScoringData, scratch: Path) -> None:
        self._data, self._scratch = data, scratch

    def drifted(self, stretch: Stretch, system: System, profile: Profile, columns: Sequence[str]) -> Drifted:
        """Compare `columns` of a stretch of data with a profile."""
        from upkeep.adapters.drift_compare import Comparison

        known = {name: profile.columns[name] for name in columns if name in profile.columns}
        comparison = Comparison(known)
        with self._open(stretch, system) as rows:
            for batch in rows:
                comparison.add(batch)
        return Drifted(read=_state(rows), columns=comparison.drifts(), absent=comparison.absent, added=comparison.added)

    def profiled(self, stretch: Stretch, system: System, target: str) -> Profiled:
        """Build a profile of a stretch of data."""
        from upkeep.adapters import profile_build

        with profile_build.builder(self._scratch) as builder:
            with self._open(stretch, system) as rows:
                for batch in rows:
                    builder.add(batch)
            columns = builder.profiles()
        start, end = stretch.start, stretch.end
        return Profiled(
            read=_state(rows),
            profile=Profile(target=target, start=start, end=end, rows=builder.rows, columns=columns),
        )

    def features(self, path: str) -> tuple[str, ...] | None:
        """Return the features that a metadata file names."""
        try:
            said = json.loads(Path(path).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{path}: the model's metadata cannot be read: {error}", "name its `features` in the system file"
            ) from error
        named = next((said[key] for key in _FEATURES if key in said), None) if isinstance(said, dict) else None
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            return None
        return tuple(named) or None

    def index(self, folder: str) -> ProfileIndex:
        """Return what a profile folder holds."""
        return profile_store.index(Path(folder))

    def load(self, folder: str, entry: ProfileEntry) -> Profile:
        """Return a version of a profile folder."""
        return profile_store.load(Path(folder), entry)

    def keep(self, folder: str, profile: Profile, made_at: datetime) -> ProfileEntry:
        """Add a profile to a folder as its next version."""
        return profile_store.keep(Path(folder), profile, made_at)

    def _open(self, stretch: Stretch, system: System) -> AbstractContextManager[Rows]:
        return self._data.open(
            stretch.source,
            system,
            stretch.start,
            stretch.end,
            columns=stretch.columns,
            statement_timeout=stretch.statement_timeout,
        )


def _state(rows: Rows) -> ReadState:
    return ReadState(rows=rows.read, broken=rows.broken, undated=rows.undated, unread=tuple(rows.unread))
