"""What can be found out about a batch by itself, before it is counted: done by several threads at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np  # noqa: TID253 - imported by log_access inside its function only

from upkeep.adapters.log_access_batch import Batch, encoded
from upkeep.adapters.log_access_routes import Routes, matches, routes
from upkeep.adapters.log_access_rules import LIKELY, SCANNERS, SPECIAL
from upkeep.adapters.log_access_secrets import LIKELY as SECRET
from upkeep.adapters.log_access_words import Array
from upkeep.core.access_log import AccessOptions

_SCANNER = "|".join(map(re.escape, SCANNERS))
_HEADER = r"\$\{|\(\)\s*\{|<\s*(script|img|svg|iframe)|%3c|union.{1,20}select|\.\./|sleep\s*\(|javascript:"
"""Signs of an attack in a browser's name or a referring page; what `LIKELY` looks for is usual there."""


@dataclass(frozen=True)
class Texts:
    """A column of which values repeat: a code for each request, the values, and which of them may carry an attack."""

    code: Array
    values: Any
    odd: Array

    @classmethod
    def of(cls, column: Any) -> Texts:
        """Find the distinct values of a column."""
        code, values = encoded(column)
        return cls(code, values, np.flatnonzero(matches(values, _HEADER)))


@dataclass(frozen=True)
class Look:
    """A batch with its routes and whatever in it deserves a closer look: numbers of requests or of values."""

    batch: Batch
    named: Routes
    agents: Texts
    referers: Texts
    odd: Array
    leaky: Array
    scanners: Array
    leaky_referers: Array


def look(batch: Batch, options: AccessOptions) -> Look | None:
    """Look at a batch; None: there is nothing in it."""
    if not len(batch):
        return None
    # One pass over all addresses, then closer ones over the few that are left.
    special = where(batch.target, f"{SPECIAL}|{SECRET}")
    few = batch.target.take(special)
    agents, referers = Texts.of(batch.agent), Texts.of(batch.referer)
    return Look(
        batch,
        routes(batch, options),
        agents,
        referers,
        odd=special[where(few, LIKELY)],
        leaky=special[where(few, SECRET)],
        scanners=matches(agents.values, _SCANNER),
        leaky_referers=np.flatnonzero(matches(referers.values, SECRET)),
    )


def where(texts: Any, pattern: str) -> Array:
    """Return the numbers of the texts that match a pattern somewhere."""
    import pyarrow.compute as pc

    found: Array = np.flatnonzero(pc.match_substring_regex(texts, pattern=pattern).to_numpy(zero_copy_only=False))
    return found
