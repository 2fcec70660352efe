"""Something counted, with its first and last moment and an example: the same in whatever order it was seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass
class Seen:
    """Count, first and last moment, and the examples that come first by time (and text)."""

    keep: int = 1
    count: int = 0
    first: int | None = None
    last: int | None = None
    examples: list[tuple[int, bytes]] = field(default_factory=list)

    def add(self, time: int | None, text: bytes) -> None:
        """Count one."""
        self.count += 1
        at = 0 if time is None else time
        if time is not None:
            self.first = time if self.first is None else min(self.first, time)
            self.last = time if self.last is None else max(self.last, time)
        if len(self.examples) < self.keep or (at, text) < self.examples[-1]:
            self.examples = sorted([*self.examples, (at, text)])[: self.keep]


def moment(seconds: int | None) -> datetime | None:
    """Return the moment that so many seconds since 1970 mean."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
