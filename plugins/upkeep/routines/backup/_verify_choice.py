"""Which backups a run reads again, so that every stored byte is read within so many weeks at a bounded cost per run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from upkeep.core.backup import Place
from upkeep.core.cadence import Window
from upkeep.core.model import Model
from upkeep.routines.backup._verify_seen import Series, begun

_FREQUENT = timedelta(days=1)


class Candidate(Model):
    """A backup that may be read: what that costs, and when it was last found whole (None: never, or nobody knows)."""

    place: Place
    id: str
    bytes: int
    read: datetime | None = None
    newest: bool = False
    settled: bool = False

    @property
    def since(self) -> datetime:
        """Since when nobody has read it: since it was written, when never again."""
        return self.read or begun(self.id)


def candidates(series: Iterable[Series]) -> list[Candidate]:
    """Return every backup with what is on record of it."""
    found = []
    for one in series:
        entries = {e.id: e for e in one.entries or ()}
        known = {k.id: k.bytes for k in one.known}
        # Trees share contents: what reading an older one reads is about what reading the newest does.
        usual = next((k.bytes for k in one.known if not k.damage), 0) if one.place.kind == "files" else 0
        for number, backup in enumerate(one.backups):
            entry = entries.get(backup.id)
            read = entry.verified_at if entry else None
            found.append(
                Candidate(
                    place=one.place,
                    id=backup.id,
                    bytes=known.get(backup.id) or max(backup.size_bytes, usual),
                    read=read,
                    newest=number == 0,
                    settled=bool(entry and entry.verified_ok) and one.tier != "daily",
                )
            )
    return found


def choose(
    found: Sequence[Candidate],
    which: str,
    window: Window,
    *,
    coverage: timedelta,
    max_bytes: int,
    recorded: bool = True,
) -> list[Candidate]:
    """Choose what to read.

    `latest`: the newest of each series; one that comes weekly or less often is not read every day. `older`: those that
    nobody has read for longest, the never read ones first, until the share is read that brings all round in time, and
    beyond it whatever would be overdue before the next run; at least one, and no more than `max_bytes`. What has been
    read since the window ended counts as this window's: a run that is tried again goes on where it was.

    :param recorded: whether the ledger told when they were read; without it, windows take turns.
    """
    if which == "all":
        return list(found)
    newest = [c for c in found if c.newest]
    if which == "latest":
        return [c for c in newest if not c.settled]
    older = [c for c in found if not c.newest] or newest
    span = max(window.end - window.start, _FREQUENT)
    if not recorded:
        return _in_turn(older, window, span, coverage, max_bytes)
    mine = sum(c.bytes for c in older if c.read is not None and c.read >= window.end)
    begun_already = any(c.read is not None and c.read >= window.end for c in older)
    waiting = sorted(
        (c for c in older if c.read is None or c.read < window.end), key=lambda c: (c.read is not None, c.since, c.id)
    )
    share = sum(c.bytes for c in older) * (span / coverage)
    chosen: list[Candidate] = []
    for one in waiting:
        spent = mine + sum(c.bytes for c in chosen)
        begins = not chosen and not begun_already
        wanted = spent < share or one.since + coverage <= window.end + span
        if begins or (wanted and spent + one.bytes <= max_bytes):
            chosen.append(one)
    return chosen


def overdue(
    found: Iterable[Candidate], chosen: Sequence[Candidate], now: datetime, coverage: timedelta
) -> list[Candidate]:
    """Return what nobody has read for longer than `coverage` and is not read now either, longest first."""
    taken = {(c.place.series, c.place.store.url, c.id) for c in chosen}
    late = [c for c in found if c.since + coverage < now and (c.place.series, c.place.store.url, c.id) not in taken]
    return sorted(late, key=lambda c: c.since)


def _in_turn(
    older: Sequence[Candidate], window: Window, span: timedelta, coverage: timedelta, max_bytes: int
) -> list[Candidate]:
    """Choose by the window alone: the same window the same, the next one goes on where it ended."""
    if not older:
        return []
    ordered = sorted(older, key=lambda c: c.id)
    count = min(-(-len(ordered) * span // coverage), len(ordered))
    begin = int(window.end.timestamp() // span.total_seconds()) * count
    chosen: list[Candidate] = []
    for number in range(count):
        one = ordered[(begin + number) % len(ordered)]
        if chosen and sum(c.bytes for c in chosen) + one.bytes > max_bytes:
            break
        chosen.append(one)
    return chosen
