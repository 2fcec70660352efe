"""One table to be done: what is to be done to it, and how long that should take."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from upkeep.core.job import History, Point
from upkeep.core.model import Action
from upkeep.routines.database._need import Need, Part, Row
from upkeep.routines.database._vacuum_look import CareJob, Wanted
from upkeep.routines.database._vacuum_settings import VacuumSettings

# What one more run of waiting counts: after 60 runs a table goes before any other, whatever those need.
_WAIT = 5.0
_NAMED = 1000.0
# What a table costs besides its pages: commands, commits, looking at it before and after.
_FLOOR_SECONDS = 0.01
# ANALYZE reads at most 300 pages for every point of the statistics target.
_SAMPLE = 300
_ROW_BYTES = 200
_PAGE_BYTES = 8192
# What can be done together with others like it, from how many on it is put on record together, and how many at once.
_SMALL_BYTES = 2 * 2**20
_SMALL_SECONDS = 0.15
_MANY = 200
_BUNDLE = 50
# What other tables took says little about this one.
_CAUTION = 0.5


@dataclass(frozen=True)
class Work:
    """One table and what is to be done to it. `bytes` are read, which takes `seconds` (`known`: by the ledger).

    `full`: the table is written anew, as a person has agreed to; `main`, `toast`: which parts are vacuumed; `only`: not
    the partitions below it; `last`: after the others, because it looks at their rows;
    `waited`: runs without a turn; `dead_limit`: rows at which autovacuum would come; `skip`: why it is passed over.
    """

    name: str
    oid: int = 0
    schema: str = ""
    table: str = ""
    vacuum: bool = False
    analyze: bool = False
    freeze: bool = False
    main: bool = True
    toast: bool = True
    only: bool = False
    last: bool = False
    bytes: int = 0
    seconds: float = 0.0
    known: bool = False
    waited: int = 0
    score: float = 0.0
    dead_limit: float = 0.0
    full: bool = False
    skip: str = ""

    @classmethod
    def of(cls, action: Action) -> Work:
        """Return the work that an action of a plan stands for."""
        return cls(name=action.subject, **action.details)

    def action(self, reason: str) -> Action:
        """Return this work as an action; what is as usual is left out of its details."""
        usual = asdict(_USUAL)
        return Action(
            name="vacuum" if self.vacuum or not self.analyze else "analyze",
            subject=self.name,
            reason=reason,
            details={key: value for key, value in asdict(self).items() if key != "name" and value != usual[key]},
        )

    @property
    def key(self) -> int:
        """What tells it from all other work of a run: one table may be both vacuumed and written anew."""
        return -self.oid if self.full else self.oid

    @property
    def is_small(self) -> bool:
        """Whether it is done together with others like it: what it takes is mostly the asking."""
        return (
            self.bytes <= _SMALL_BYTES and self.seconds <= _SMALL_SECONDS and not (self.last or self.skip or self.full)
        )

    @property
    def manner(self) -> tuple[bool, ...]:
        """What tables must have in common to be done by one command."""
        manner: tuple[bool, ...] = _manner(self)
        return manner


_USUAL = Work(name="")
_MANNER = ("vacuum", "analyze", "freeze", "main", "toast", "only")
_manner = operator.attrgetter(*_MANNER)
# What each of the tables of a bundle has of its own.
_OWN = ("name", "oid", "schema", "table", "bytes", "seconds", "known", "waited", "score", "dead_limit")
_own = operator.attrgetter(*_OWN)


def works_of(action: Action) -> tuple[Work, ...]:
    """Return the tables that an action of a plan stands for."""
    if "tables" not in action.details:
        return (Work.of(action),)
    common = {field: action.details[field] for field in _MANNER}
    return tuple(Work(**dict(zip(_OWN, row, strict=True)), **common) for row in action.details["tables"])


def bundled(pairs: Sequence[tuple[str, Work]]) -> Iterator[Action]:
    """Yield actions for tables with the reasons for them, in their order.

    When very many small ones need the same, some dozens of them become one action: a record for each of two thousand
    tables would cost more than the work. The evidence still tells of every table.
    """
    alike: dict[tuple[bool, ...], list[tuple[str, Work]]] = {}
    for pair in pairs:
        if pair[1].is_small:
            alike.setdefault(pair[1].manner, []).append(pair)
    many = {manner for manner, group in alike.items() if len(group) >= _MANY}
    bundles = {manner: [*itertools.batched(alike[manner], _BUNDLE)] for manner in many}
    for reason, work in pairs:
        if not work.is_small or work.manner not in many:
            yield work.action(reason)
            continue
        # A bundle stands where its first table does.
        ahead = bundles[work.manner]
        if ahead and ahead[0][0][1] is work:
            yield _bundle(ahead.pop(0))


def _bundle(pairs: Sequence[tuple[str, Work]]) -> Action:
    works = [work for _, work in pairs]
    common = {field: getattr(works[0], field) for field in _MANNER}
    return Action(
        name="vacuum" if works[0].vacuum else "analyze",
        subject=f"{works[0].name} and {len(works) - 1} more small tables",
        reason=f"{pairs[0][0]}; and so on",
        details={**common, "columns": _OWN, "tables": [list(_own(work)) for work in works]},
    )


class Times:
    """What the ledger knows of the time that tables take."""

    def __init__(self, history: History, routine: str, first_rate: float) -> None:
        area = routine.rpartition(".")[2]
        self._seconds: Mapping[str, Point] = history.latest(f"{area}.seconds")
        self._bytes: Mapping[str, Point] = history.latest(f"{area}.bytes")
        self._waiting: Mapping[str, Point] = history.latest(f"{area}.waiting")
        rate = history.last(f"{area}.rate")
        self._rate = rate.value * _CAUTION if rate is not None and rate.value > 0 else first_rate * 2**20

    def estimate(self, name: str, work: float) -> tuple[float, bool]:
        """Return the seconds that reading `work` bytes of a table takes, and whether its own past says so."""
        before = self._seconds.get(name)
        if before is None:
            return work / self._rate + _FLOOR_SECONDS, False
        then = self._bytes.get(name)
        # Half as much is the least: what was small last time is seldom nothing this time.
        grown = max(work / then.value, 0.5) if then is not None and then.value > 0 else 1.0
        return before.value * grown + _FLOOR_SECONDS, True

    def waited(self, name: str) -> int:
        """Return in how many runs in a row the table did not get its turn."""
        point = self._waiting.get(name)
        return int(point.value) if point is not None else 0


def work_for(wish: Wanted, server: Row, job: CareJob, times: Times, skip: str = "") -> Work:
    """Return the work for a table in need. :param skip: why a vacuum would be useless; it may still be analyzed."""
    settings, why, table = job.settings, wish.need, wish.table
    vacuum = isinstance(settings, VacuumSettings) and table is not None and (why.main or why.toast) and not skip
    analyze = (why.analyze or wish.parent is not None) and (not vacuum or settings.analyze)
    row: Row = wish.parent or {}
    work = _bytes(wish, server, vacuum=vacuum, analyze=analyze)
    seconds, known = times.estimate(wish.name, work)
    waited = times.waited(wish.name)
    return Work(
        name=wish.name,
        oid=wish.oid,
        schema=table.schema if table else row["schema"],
        table=table.table if table else row["table"],
        vacuum=vacuum,
        analyze=analyze,
        freeze=vacuum and why.freeze,
        main=why.main or server["version"] < 160_000,
        toast=why.toast,
        only=bool(row) and row["kind"] == "p" and server["version"] >= 180_000,
        last=wish.parent is not None,
        bytes=round(work),
        seconds=round(seconds, 3),
        known=known,
        waited=waited,
        score=round(why.score + _WAIT * waited + _NAMED * wish.named, 2),
        dead_limit=round(why.dead_limit),
        skip=skip if not vacuum and not analyze else "",
    )


def _bytes(wish: Wanted, server: Row, *, vacuum: bool, analyze: bool) -> float:
    """Return the bytes that have to be read: pages that are not known to be clean, and indexes when rows go."""
    table, why = wish.table, wish.need
    sample = _SAMPLE * server["statistics_target"]
    pages = 0.0
    if analyze:
        pages += min(table.main.pages if table else 0.0, sample)
        # The parts of a parent are sampled together, and up to 17 once more each by itself.
        pages += min(wish.parent["pages"], sample) if wish.parent else 0.0
    if vacuum and table is not None:
        pages += _unclean(table.main, why) if why.main else 0.0
        pages += table.index_pages if table.main.dead or why.freeze else 0.0
        pages += _unclean(table.toast, why) if table.toast and why.toast else 0.0
    return float(pages * server["block_size"])


def _unclean(part: Part, why: Need) -> float:
    clean = part.all_visible if not why.freeze else part.all_frozen or 0.0
    # Pages that nobody has counted yet are guessed from rows, as far as the counters know of them.
    guessed = part.live * _ROW_BYTES / _PAGE_BYTES if part.tuples < 0 else 0.0
    return max(part.pages - clean, guessed)
