"""Which backups of a series are kept, each with its reasons, and which may go: grandfather, father, son.

Counted are the newest days, weeks, months, quarters and years *that have a good backup*, in the system's time zone. So
an outage thins nothing out, and no clock decides on an age. Of each such period one backup is kept, and choosing again
every day converges: the choice is the greatest by an order that new backups do not change, so whatever a period will
end with is never removed on the way.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from upkeep.core.catalogue import Entry
from upkeep.core.model import Model
from upkeep.core.system import Hold, Retention

SlotTier = Literal["daily", "weekly", "monthly", "quarterly", "yearly"]
TIERS: tuple[SlotTier, ...] = ("daily", "weekly", "monthly", "quarterly", "yearly")
# Two machines' clocks may differ by so much; what is dated later than that was dated by a wrong clock.
TOLERANCE = timedelta(hours=1)
_LOCKED = "locked by the store"


class Rules(Model):
    """What decides on a series, beside its backups.

    `holds` are those that concern this target. `lock` is for how long the store refuses to delete what was written.
    """

    retention: Retention = Retention()
    timezone: str = "UTC"
    holds: tuple[Hold, ...] = ()
    young: timedelta = Field(timedelta(hours=48), description="nothing younger goes, wanted or not")
    evidence: timedelta = Field(timedelta(days=30), description="for how long a suspicious backup is kept")
    lock: timedelta = timedelta(0)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone in which a day begins."""
        return ZoneInfo(self.timezone)


class Slot(Model):
    """A period of a tier (`month 2026-03`), and the backup that is kept for it."""

    tier: SlotTier
    period: str
    id: str


class Verdict(Model):
    """What is to become of one backup, and why."""

    id: str
    keep: bool
    reasons: tuple[str, ...]


class Decision(Model):
    """What is to become of the backups of a series, newest first.

    `frozen` says why nothing at all may go; empty: that which no reason keeps may. `future` are dated by a clock that
    was wrong, `broken` are incremental to what is not in the store, `tainted` were found damaged, or what they are
    incremental to.
    """

    verdicts: tuple[Verdict, ...] = ()
    slots: tuple[Slot, ...] = ()
    frozen: str = ""
    future: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    tainted: tuple[str, ...] = ()
    locked: tuple[str, ...] = Field((), description="those that only the store's lock keeps")
    removal_order: tuple[str, ...] = Field((), description="those that may go; what needs another one goes before it")

    def reasons(self, backup_id: str) -> tuple[str, ...]:
        """Return why a backup stays or goes."""
        return next(v.reasons for v in self.verdicts if v.id == backup_id)


class Going(Model):
    """A backup that is the next to go, on the day (UTC) on which it does if every day until then has a good one."""

    id: str
    day: date


@functools.lru_cache(maxsize=10_000)
def taken(backup_id: str) -> datetime:
    """Return when a backup was begun, which its id tells.

    >>> taken("20261121T013000Z-0123abcd").isoformat()
    '2026-11-21T01:30:00+00:00'
    """
    return datetime.fromisoformat(backup_id[:16])


def decide(
    entries: Iterable[Entry],
    rules: Rules,
    now: datetime,
    unreadable: frozenset[str] = frozenset(),
    frozen: str = "",
) -> Decision:
    """Decide on the backups of one series.

    :param entries: all that lie whole in the store, with what is known of them; not those that were removed.
    :param unreadable: the ids of those among them whose manifest cannot be read: nobody knows what they are or need.
    :param frozen: why nothing may go, where somebody else has a reason.
    """
    return _Series(entries, rules, now, unreadable).decide(frozen)


def forecast(entries: Sequence[Entry], rules: Rules, now: datetime, days: int = 31) -> tuple[Going, ...]:
    """Tell what is the next to go, if a good full backup is made every day from now on; none within `days`: ()."""
    known = [e for e in entries if taken(e.id) <= now + TOLERANCE]
    if not known:
        return ()
    there = {e.id for e in known}
    newest = max(known, key=lambda e: e.id)
    for number in range(1, days + 1):
        moment = now + timedelta(days=number)
        fresh = {"id": f"{moment:%Y%m%dT%H%M%SZ}-00000000", "finished": moment, "parent": None, "tier": "daily"}
        known.append(newest.model_copy(update={**fresh, "verified_ok": True, "tested_ok": None}))
        gone = [i for i in decide(known, rules, moment).removal_order if i in there]
        if gone:
            return tuple(Going(id=i, day=moment.date()) for i in sorted(gone))
    return ()


def holding(holds: Iterable[Hold], backup_id: str, today: date) -> Iterator[str]:
    """Yield the reasons of the holds that keep a backup; `today` in UTC. A hold lasts to the end of its last day."""
    day = taken(backup_id).date()
    for hold in holds:
        if (hold.first or day) <= day <= (hold.last or day) and today <= (hold.until or today):
            yield hold.reason


def period(tier: SlotTier, moment: datetime, zone: ZoneInfo) -> str:
    """Name the period of a tier in which a moment lies; of one tier, names sort by time.

    >>> period("weekly", taken("20270101T120000Z-00000000"), ZoneInfo("UTC"))
    'week 2026-W53'
    """
    return _names(moment.astimezone(zone).date())[tier]


@functools.lru_cache(maxsize=10_000)
def _names(day: date) -> Mapping[SlotTier, str]:
    year, week, _ = day.isocalendar()
    return {
        "daily": f"day {day}",
        "weekly": f"week {year}-W{week:02}",
        "monthly": f"month {day:%Y-%m}",
        "quarterly": f"quarter {day.year}-Q{(day.month + 2) // 3}",
        "yearly": f"year {day.year}",
    }


class _Series:
    """One decision on one series."""

    def __init__(self, entries: Iterable[Entry], rules: Rules, now: datetime, unreadable: frozenset[str]) -> None:
        self.rules, self.now, self.unreadable = rules, now, unreadable
        self.entries = {e.id: e for e in sorted(entries, key=lambda e: e.id, reverse=True)}
        self.future = [i for i in self.entries if taken(i) > now + TOLERANCE]
        self.present = [i for i in self.entries if i not in self.future]
        # Ages end with the newest backup: while none is made, and where the clock runs ahead, nothing grows old.
        self.today = min(now, taken(self.present[0])) if self.present else now
        self.chains = {i: list(self._chain(i)) for i in self.entries}
        self.broken = [i for i in self.entries if self._is_broken(i)]
        self.tainted = [i for i in self.entries if i not in self.broken and any(map(self._is_bad, self.chains[i]))]
        bad = {*self.broken, *self.tainted}
        self.good = [i for i in self.present if i not in bad]
        self.proved = [i for i in self.good if self._is_proved(i)]
        self.is_proved = frozenset(self.proved)
        self.reasons: dict[str, list[str]] = {i: [] for i in self.entries}
        zone = rules.zone
        days = {i: _names(taken(i).astimezone(zone).date()) for i in self.entries}
        self.periods = {(tier, i): names[tier] for i, names in days.items() for tier in TIERS}

    def decide(self, frozen: str) -> Decision:
        slots = self._slots()
        frozen = frozen or self._frozen()
        self._keep(slots, frozen)
        kept = {i for i, why in self.reasons.items() if why}
        gone = sorted(self.entries.keys() - kept, key=lambda i: (-len(self.chains[i]), i))
        return Decision(
            verdicts=tuple(
                Verdict(id=i, keep=i in kept, reasons=tuple(self.reasons[i] or self._why_gone(i, slots)))
                for i in self.entries
            ),
            slots=tuple(slots),
            frozen=frozen,
            future=tuple(self.future),
            broken=tuple(self.broken),
            tainted=tuple(self.tainted),
            locked=tuple(i for i, why in self.reasons.items() if len(why) == 1 and why[0].startswith(_LOCKED)),
            removal_order=tuple(gone),
        )

    def _chain(self, backup_id: str) -> Iterator[str]:
        """Yield a backup and, as far as they are there, all that it needs; each once, also in a circle."""
        seen: set[str] = set()
        following: str | None = backup_id
        while following in self.entries and following not in seen:
            seen.add(following)
            yield following
            following = self.entries[following].parent

    def _is_broken(self, backup_id: str) -> bool:
        """Tell whether it needs a backup that is not there, or itself."""
        return self.entries[self.chains[backup_id][-1]].parent is not None

    def _is_bad(self, backup_id: str) -> bool:
        return self.entries[backup_id].suspicious or backup_id in self.unreadable

    def _is_proved(self, backup_id: str) -> bool:
        """Tell whether it is proved with all that it needs: a restore test reads these, verification each by itself."""
        entry, needed = self.entries[backup_id], self.chains[backup_id][1:]
        return entry.proved and (entry.tested_ok is True or all(self.entries[i].proved for i in needed))

    def _frozen(self) -> str:
        if not self.present:
            return "no backup but from the future" if self.future else ""
        newest = self.present[0]
        if newest in self.tainted or newest in self.broken:
            return f"the newest backup, {newest}, is suspicious"
        if newest not in self.is_proved:
            return f"the newest backup, {newest}, is not proved"
        unknown = sorted(i for i in self.unreadable if i in self.entries and self.entries[i].kind == "physical")
        return f"nobody knows what {unknown[0]} needs: its manifest cannot be read" if unknown else ""

    def _slots(self) -> list[Slot]:
        found = []
        for tier in TIERS:
            periods: dict[str, list[str]] = {}
            for i in self.good:
                periods.setdefault(self.periods[tier, i], []).append(i)
            newest = sorted(periods, reverse=True)[: getattr(self.rules.retention, tier)]
            found += [Slot(tier=tier, period=p, id=max(periods[p], key=lambda i: self._order(tier, i))) for p in newest]
        return found

    def _order(self, tier: SlotTier, backup_id: str) -> Any:
        """Return what a period's backup is chosen by: proved, made for the tier, needing no other, tested, newest.

        Of a day it is the newest proved one.
        """
        entry = self.entries[backup_id]
        fit = (entry.tier == tier, entry.parent is None, entry.tested_ok is True) if tier != "daily" else ()
        return (backup_id in self.is_proved, *fit, backup_id)

    def _keep(self, slots: Sequence[Slot], frozen: str) -> None:
        """Note every reason for which a backup stays, and last that kept ones need it."""
        for slot in slots:
            self.reasons[slot.id].append(self._chosen_for(slot))
        if self.proved:
            self.reasons[self.proved[0]].append("newest proved one" if len(self.proved) > 1 else "only proved one")
        for i, why in self.reasons.items():
            why += [*self._for_its_time(i), *self._for_its_state(i), *([frozen] if frozen else [])]
        for i in [i for i, why in self.reasons.items() if why]:
            for needed in self.chains[i][1:]:
                self.reasons[needed].append(f"needed by incremental {i}")

    def _for_its_time(self, backup_id: str) -> Iterator[str]:
        """Yield the reasons that follow from when it was taken."""
        rules = self.rules
        for hold in holding(rules.holds, backup_id, self.today.date()):
            yield f"held: {hold}"
        if backup_id in self.future:
            yield "dated in the future: a clock was wrong"
        elif taken(backup_id) > self.today - rules.young:
            yield f"younger than {rules.young.total_seconds() / 3600:g} h"
        opens = self.entries[backup_id].finished + rules.lock
        if rules.lock and self.now < opens:
            yield f"{_LOCKED} until {opens.date()}"

    def _for_its_state(self, backup_id: str) -> Iterator[str]:
        """Yield the reasons that follow from what was found wrong with it."""
        if backup_id in self.unreadable:
            yield "its manifest cannot be read: a person has to look at it"
        elif backup_id in self.broken:
            yield "needs a backup that is not there: a person has to look at it"
        elif backup_id in self.tainted and self.today < self._evidence_ends(backup_id):
            yield f"suspicious: evidence until {self._evidence_ends(backup_id).date()}"

    def _chosen_for(self, slot: Slot) -> str:
        rivals = [i for i in self.good if self.periods[slot.tier, i] == slot.period]
        if slot.id == rivals[0]:
            return f"newest of {slot.period}"
        if slot.id == next((i for i in rivals if i in self.is_proved), None):
            return f"newest proved of {slot.period}"
        return f"best of {slot.period}"

    def _evidence_ends(self, backup_id: str) -> datetime:
        """Return until when a suspicious backup is kept: counted from when it, or what it needs, was found so."""
        ends = [taken(backup_id)]
        for entry in (self.entries[i] for i in self.chains[backup_id] if self._is_bad(i)):
            looks = ((entry.verified_ok, entry.verified_at), (entry.tested_ok, entry.tested_at))
            ends += [at for ok, at in looks if ok is False and at is not None]
        return max(ends) + self.rules.evidence

    def _why_gone(self, backup_id: str, slots: Sequence[Slot]) -> list[str]:
        if backup_id in self.tainted:
            return [f"suspicious, and kept as evidence until {self._evidence_ends(backup_id).date()}"]
        chosen: Mapping[tuple[str, str], str] = {(s.tier, s.period): s.id for s in slots}
        said = []
        for tier in TIERS:
            count = getattr(self.rules.retention, tier)
            name = self.periods[tier, backup_id]
            other = chosen.get((tier, name))
            if other:
                said.append(f"{name} has {other}")
            elif count:
                said.append(f"older than the {count} {tier} ones")
        return said
