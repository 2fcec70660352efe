"""Asking an endpoint several times."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from statistics import median

from upkeep.core.http import Cause, NoReply, Request
from upkeep.core.job import Http
from upkeep.core.targets import Endpoint
from upkeep.routines.services._answers import Fault, fault_of

_GIVE_UP_AFTER = 3
"""Tries in a row without any answer in time after which the rest is not made: a dead service must not hold a worker."""


@dataclass(frozen=True)
class Try:
    """One request: how long it took, and what was wrong with the answer."""

    seconds: float
    fault: Fault | None = None


@dataclass(frozen=True)
class Asked:
    """An endpoint after all its tries."""

    name: str
    tries: tuple[Try, ...]
    warm_up: tuple[Try, ...] = ()

    @property
    def good(self) -> list[float]:
        """Milliseconds of the good tries, in order of length."""
        return sorted(t.seconds * 1000 for t in self.tries if t.fault is None)

    @property
    def faults(self) -> list[Fault]:
        """What was wrong, a fault for each bad try."""
        return [t.fault for t in self.tries if t.fault is not None]

    @property
    def state(self) -> int:
        """0 when any try was good, 1 when at least the service itself called what came back degraded, else 2."""
        if self.good:
            return 0
        return 1 if any(fault.degraded for fault in self.faults) else 2

    @property
    def error_rate(self) -> float:
        """Percent of the tries that were no good."""
        return 100 * len(self.faults) / len(self.tries)


def ask(http: Http, endpoint: Endpoint, request: Request, wanted: int, pause: float) -> tuple[Try, ...]:
    """Ask `wanted` times, one after the other, with a pause between; fewer times when nobody answers."""
    tries: list[Try] = []
    unanswered = 0
    while len(tries) < wanted and unanswered < _GIVE_UP_AFTER:
        if tries:
            time.sleep(pause)
        answer = http.ask(request)
        late = isinstance(answer, NoReply) and answer.cause in {Cause.CONNECT, Cause.TIMEOUT, Cause.NAME}
        unanswered = unanswered + 1 if late else 0
        tries.append(Try(answer.seconds, fault_of(endpoint, answer)))
    return tuple(tries)


def statistics_of(times: list[float]) -> dict[str, float]:
    """Return median, p95 (nearest rank) and slowest of ascending times.

    >>> statistics_of([1.0, 2.0, 3.0])
    {'median': 2.0, 'p95': 3.0, 'max': 3.0}
    """
    return {"median": median(times), "p95": times[math.ceil(0.95 * len(times)) - 1], "max": times[-1]}
