"""Finds out what the times of a block's lines say; see `log_access_track.Order`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np  # noqa: TID253 - imported by log_access inside its function only

from upkeep.adapters.log_access_track import NEVER, SAMPLES, Order
from upkeep.adapters.log_access_words import Array


def order_of(when: Array, start: int, end: int) -> Order:
    """Return what the times of lines say of the window [start, end); NEVER stands for lines without one."""
    known = when != NEVER
    timed = when[known]
    if not len(timed):
        return Order(lines=len(when), head=len(when))
    facts = Order(
        lines=len(when),
        timed=len(timed),
        requests=int(np.count_nonzero((timed >= start) & (timed < end))),
        first=int(timed[0]), last=int(timed[-1]), earliest=int(timed.min()), latest=int(timed.max()),
    )  # fmt: skip
    facts = _late(facts, when, known, timed, end)
    return facts if len(timed) == len(when) else _strange(facts, known, timed, start, end)


def _late(facts: Order, when: Array, known: Array, timed: Array, end: int) -> Order:
    """Add what is known of the lines before the first one that is not older than the window's end."""
    late = np.flatnonzero(known & (when >= end))
    before = known[: late[0]] if len(late) else known
    if not (count := np.count_nonzero(before)):
        return replace(facts, late=True)
    older, done = timed[:count], int(np.flatnonzero(before)[-1]) + 1
    return replace(facts, late=bool(len(late)), done=done, above=int(older[-1]), before=int(older.max()))


def _strange(facts: Order, known: Array, timed: Array, start: int, end: int) -> Order:
    """Count the lines without a time by the line above."""
    strange = np.flatnonzero(~known)
    above = np.searchsorted(np.flatnonzero(known), strange) - 1
    led = above >= 0
    strange, above = strange[led], above[led]
    owner = timed[above]
    inside = (owner >= start) & (owner < end)
    last = above == len(timed) - 1
    following = timed[np.minimum(above + 1, len(timed) - 1)]
    gap = np.flatnonzero(~last & (owner < start) & (following >= end))
    return replace(
        facts,
        head=int(np.count_nonzero(~led)),
        tail=int(np.count_nonzero(last)),
        inside=int(np.count_nonzero(inside)),
        outside=int(np.count_nonzero(~inside)),
        gap=len(gap),
        gap_after=int(owner[gap[0]]) if len(gap) else None,
        samples=tuple(strange[inside][:SAMPLES].tolist()),
    )
