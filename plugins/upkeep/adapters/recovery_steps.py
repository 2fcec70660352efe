"""The steps of a restore: each is told before it begins, timed, and kept with what it showed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from upkeep.core.recovery import Step


class Note:
    """What a step has to say about itself when it ends."""

    detail = ""


class Timeline:
    """Keeps the steps in their order.

    :param tell: told of each step before it begins; what it raises ends the work there.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.steps: list[Step] = []

    @contextmanager
    def step(self, name: str) -> Iterator[Note]:
        """Time a step; one that fails is kept too, as failed."""
        self._tell(name)
        note, began, clock = Note(), datetime.now(UTC), time.monotonic()
        try:
            yield note
        except BaseException as error:
            note.detail = f"failed: {type(error).__name__}: {str(error)[:300]}"
            raise
        finally:
            took = round(time.monotonic() - clock, 3)
            self.steps.append(Step(name=name, began=began, seconds=took, detail=note.detail))
