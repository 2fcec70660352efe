"""Which faults are planted in what is written as a whole: noted here, so that it is written anew only on a change."""

from __future__ import annotations

import json
from pathlib import Path

from lab.process import write_private


class Planted:
    """Names of faults by what they are planted in, kept in the lab's home."""

    def __init__(self, home: Path) -> None:
        self._file = home / "planted.json"

    def names(self, place: str) -> list[str]:
        """Return the faults of a place."""
        return list(self._all().get(place, []))

    def set(self, place: str, fault: str, planted: bool) -> None:
        """Note that a fault is to be in a place, or not."""
        known = self._all()
        names = {*known.get(place, []), fault} if planted else {*known.get(place, [])} - {fault}
        write_private(self._file, json.dumps(known | {place: sorted(names)}))

    def _all(self) -> dict[str, list[str]]:
        return dict(json.loads(self._file.read_text())) if self._file.exists() else {}
