"""Who does which table when: several lanes, one clock.

The need decides who is in: tables are taken in the order of the plan, and none is begun that would not be done in time.
When there is time for all, the largest begin, so that the lanes end together. Small tables are handed out in groups: a
record in the ledger for every one of two thousand tables must not cost more than the vacuum.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from upkeep.core.errors import TransientError
from upkeep.core.job import Failed, Ran
from upkeep.core.model import Action, Begun, Ended, Outcome, OutcomeStatus
from upkeep.routines.database import _vacuum_full
from upkeep.routines.database import _vacuum_outcome as outcomes
from upkeep.routines.database._vacuum_lane import Broken, Done, Group, Lane, open_bench
from upkeep.routines.database._vacuum_look import CareJob
from upkeep.routines.database._vacuum_plan import STATS
from upkeep.routines.database._vacuum_watch import Watch
from upkeep.routines.database._vacuum_work import Work, works_of

_GROUP_SECONDS = 0.25
_GROUP_TABLES = 50
# A lane always has the next group at hand, and no more: what is handed out counts as begun.
_AHEAD = 2
# With so much of the time taken by estimates, order matters more than even lanes.
_AMPLE = 0.5
_END_SECONDS = 4.0
_WAKE_SECONDS = 0.5
# Seconds of work after which the first estimates count less than what was seen in this run.
_PRIOR_SECONDS = 2.0

Step = Begun | Ended


class Crew:
    """Does the tables of a plan with several lanes; `steps` is the `act_all` of the routines."""

    def __init__(self, job: CareJob, actions: Sequence[Action]) -> None:
        self.job = job
        self._stats = next((n for n, a in enumerate(actions, 1) if a.name == STATS), None)
        self._parts = {n: works_of(action) for n, action in enumerate(actions, 1) if n != self._stats}
        self.works = {work.key: work for works in self._parts.values() for work in works}
        self._number = {work.key: number for number, works in self._parts.items() for work in works}
        self._open = {number: len(works) for number, works in self._parts.items()}
        self._outcomes: dict[int, Outcome] = {}
        self._begun_at = time.monotonic()
        self._deadline = self._begun_at + _budget(job)
        self._results: queue.SimpleQueue[list[Done] | Broken] = queue.SimpleQueue()
        self._watch = Watch(job)
        self._lanes: dict[Lane, list[Group]] = {}
        self._all: tuple[Lane, ...] = ()
        self._largest_first = True
        self._waiting = self._ordered()
        self._locked: dict[int, float] = {}
        self._begun: set[int] = set()
        self._stopped = ""
        self._estimated = self._taken = _PRIOR_SECONDS

    def steps(self) -> Iterator[Sequence[Step]]:
        """Do the work; yield what begins and what has ended.

        :raises TransientError: the server is lost.
        """
        ended = [*self._pass_over((oid, work.skip) for oid, work in self.works.items() if work.skip)]
        ended += self._pass_over(self._too_large())
        try:
            self._start()
            while True:
                orders = self._orders()
                begun = [Begun(number=n) for n in self._new(orders)]
                if ended or begun:
                    yield [*ended, *begun]
                for lane, group in orders:
                    lane.orders.put(group)
                if not any(self._lanes.values()) and not self._to_come():
                    break
                ended = self._wait()
            if ended := [*self._pass_over(self._left())]:
                yield ended
            if self._stats is not None:
                yield from self._update_stats(self._stats)
        finally:
            self._dismiss()

    def _too_large(self) -> Iterator[tuple[int, str]]:
        for oid, work in self.works.items():
            if work.full and not work.skip and (why := _vacuum_full.no_room(self.job, work.bytes)):
                self._waiting.remove(oid)
                yield oid, why

    # Who is next.

    def _ordered(self) -> list[int]:
        """Return the tables to do: in the plan's order, or the largest first when there is time for all.

        Those that look at other tables' rows come after them, unless that might cost them their turn.
        """
        oids = [oid for oid, work in self.works.items() if not work.skip]
        total = sum(self.works[oid].seconds for oid in oids) / self.job.settings.parallel
        self._largest_first = total <= _AMPLE * (self._deadline - self._begun_at)
        if not self._largest_first:
            return oids
        oids.sort(key=lambda oid: (self.works[oid].last, -self.works[oid].seconds))
        own = [oid for oid in oids if self.works[oid].schema == "pg_catalog"]
        others = [oid for oid in oids if self.works[oid].schema != "pg_catalog"]
        # ANALYZE leaves dead rows in the server's own tables, so these come late; but then not all on one lane while
        # the others have nothing left to do.
        tail = min(len(others) // 10, _AHEAD * _GROUP_TABLES * self.job.settings.parallel)
        late = len(others) - tail
        return [*others[:late], *own, *others[late:]]

    def _orders(self) -> list[tuple[Lane, Group]]:
        """Return a group for every lane that has room for one, and note it as handed out."""
        orders = []
        while room := [lane for lane, groups in self._lanes.items() if len(groups) < _AHEAD]:
            lane = min(room, key=lambda one: self._busy(self._lanes[one]))
            group = self._group(self._busy(self._lanes[lane]))
            if group is None:
                break
            self._lanes[lane].append(group)
            orders.append((lane, group))
        return orders

    def _group(self, busy: float) -> Group | None:
        """Return the next tables for a lane that is busy for some seconds, None when there is none for it."""
        left = self._deadline - time.monotonic() - busy
        taken: list[int] = []
        seconds = 0.0
        parents_wait = self._others_at_work()
        for oid in self._waiting:
            work = self.works[oid]
            more = self._estimate(work)
            if seconds + more > left or (work.last and parents_wait):
                continue
            if taken and (seconds + more > _GROUP_SECONDS or len(taken) >= _GROUP_TABLES):
                break
            taken.append(oid)
            seconds += more
        if not taken:
            return self._again(left)
        gone = set(taken)
        self._waiting = [oid for oid in self._waiting if oid not in gone]
        return Group(tuple(self.works[oid] for oid in taken))

    def _others_at_work(self) -> bool:
        """Tell whether tables are at work, or come before, whose rows the next parent of tables would look at."""
        if not self._waiting or not self.works[self._waiting[0]].last:
            return bool(self._waiting) and self._largest_first
        return any(not w.last for groups in self._lanes.values() for g in groups for w in g.works)

    def _again(self, left: float) -> Group | None:
        """Return a locked table to try again: when all others are through, and it had its time."""
        if any(not group.again for groups in self._lanes.values() for group in groups):
            return None
        for oid, since in self._locked.items():
            waited = time.monotonic() - since
            if waited >= self.job.settings.again_seconds and self._estimate(self.works[oid]) <= left:
                del self._locked[oid]
                return Group((self.works[oid],), again=True)
        return None

    def _to_come(self) -> bool:
        """Tell whether a locked table will be tried again in time, though not yet."""
        pause, now = self.job.settings.again_seconds, time.monotonic()
        return not self._stopped and any(
            max(now, since + pause) + self._estimate(self.works[oid]) <= self._deadline
            for oid, since in self._locked.items()
        )

    def _estimate(self, work: Work) -> float:
        """Return the seconds that a table takes: by its own past, or as far off as the others were in this run."""
        return work.seconds if work.known else work.seconds * min(max(self._taken / self._estimated, 0.1), 10)

    def _busy(self, groups: Sequence[Group]) -> float:
        return sum(self._estimate(work) for group in groups for work in group.works)

    def _new(self, orders: Sequence[tuple[Lane, Group]]) -> list[int]:
        """Return the actions of which the first table is handed out now."""
        numbers = dict.fromkeys(self._number[work.key] for _, group in orders for work in group.works)
        fresh = [n for n in numbers if n not in self._begun]
        self._begun |= set(fresh)
        return fresh

    # What has become of it.

    def _wait(self) -> list[Step]:
        """Wait for results and return what has ended by them."""
        found: list[list[Done] | Broken] = []
        self.job.still_alone()
        self._watch.look(self._lanes)
        try:
            found.append(self._results.get(timeout=_WAKE_SECONDS))
            while True:
                found.append(self._results.get_nowait())
        except queue.Empty:
            pass
        ended: list[Step] = []
        for result in found:
            ended += self._broken(result) if isinstance(result, Broken) else self._take(result)
        return ended

    def _take(self, results: Sequence[Done]) -> list[Step]:
        again = False
        for groups in self._lanes.values():
            if groups and results and results[0].work in groups[0].works:
                again = groups.pop(0).again
                break
        return [step for done in results for step in self._end(done, again)]

    def _end(self, done: Done, again: bool) -> Iterator[Step]:
        oid, failed = done.work.key, done.answer if isinstance(done.answer, Failed) else None
        if isinstance(done.answer, Ran) and not done.work.known:
            self._estimated += done.work.seconds
            self._taken += done.seconds
        untouched = done.answer is None or (failed is not None and failed.reason == "locked")
        if untouched and not again and not self._stopped:
            self._locked[oid] = time.monotonic()
            return
        if failed is not None and failed.sqlstate == "53100":
            self._stopped = "the server's disk is full"
            self._waiting = []
        yield from self._settle(oid, outcomes.outcome(done, self.job))

    def _settle(self, oid: int, outcome: Outcome) -> Iterator[Step]:
        """Keep the outcome of a table; yield the end of its action when that was the last one in it."""
        self._outcomes[oid] = outcome
        number = self._number[oid]
        works = self._parts[number]
        self._open[number] -= 1
        if not self._open[number]:
            parts = [self._outcomes[work.key] for work in works]
            yield Ended(number=number, outcome=parts[0] if len(parts) == 1 else outcomes.together(parts))

    def _broken(self, broken: Broken) -> list[Step]:
        """Do without a lane; raise when it was the last one, or cannot be helped by another."""
        groups = self._lanes.pop(broken.lane)
        works = [*broken.left, *(work for group in groups for work in group.works)]
        left = dict.fromkeys(work.key for work in works)
        self.job.tools.log.warning("%s: a lane ended: %s", self.job.target.id, broken.error)
        if not self._lanes or not isinstance(broken.error, TransientError):
            raise broken.error
        self._waiting = [*(o for o in left if o not in self._outcomes and o not in self._locked), *self._waiting]
        return []

    def _left(self) -> Iterator[tuple[int, str]]:
        """Yield all that did not get their turn, and why."""
        for oid in self.works:
            if oid not in self._outcomes:
                why = self._stopped or "no time was left for it"
                if oid in self._locked:
                    why = "locked, and no time was left to try it again"
                yield oid, f"carried over: {why}"

    def _pass_over(self, which: Iterable[tuple[int, str]]) -> Iterator[Step]:
        for oid, why in [*which]:
            yield from self._settle(oid, outcomes.passed_over(self.works[oid], why))

    def _update_stats(self, number: int) -> Iterator[Sequence[Step]]:
        yield [Begun(number=number)]
        with open_bench(self.job) as bench:
            answer = bench.run("VACUUM (ONLY_DATABASE_STATS)")
        if isinstance(answer, Failed):
            outcome = Outcome(status=OutcomeStatus.SKIPPED, detail=answer.message)
        else:
            outcome = Outcome(status=OutcomeStatus.DONE, detail=f"in {answer.seconds:.2f} s")
        yield [Ended(number=number, outcome=outcome)]

    # The lanes.

    def _start(self) -> None:
        wanted = sum(not work.skip for work in self.works.values())
        for number in range(min(self.job.settings.parallel, wanted)):
            lane = Lane(number + 1, self.job, self._results, self._deadline)
            self._lanes[lane] = []
            lane.start()
        self._all = tuple(self._lanes)

    def _dismiss(self) -> None:
        """End all lanes, whatever they do: they have ended when this returns, or are given up after 4 s."""
        deadline = time.monotonic() + _END_SECONDS
        lanes = self._all
        for lane in lanes:
            lane.orders.put(None)
        self._watch.close()
        idle = not any(self._lanes.values())
        for lane in lanes:
            lane.join(1.0 if idle else 0.0)
        while (alive := [lane for lane in lanes if lane.is_alive()]) and time.monotonic() < deadline:
            # A lane may be between two commands, where there is nothing to cancel: ask again. A server that stands
            # still does not answer either, and must not keep us here.
            askers = [threading.Thread(target=lane.cancel, daemon=True) for lane in alive]
            for asker in askers:
                asker.start()
            for asker in askers:
                asker.join(max(0.0, min(0.5, deadline - time.monotonic())))
            for lane in alive:
                lane.join(0.1)


def _budget(job: CareJob) -> float:
    """Return the seconds that there are: the time budget, or less when the maintenance window closes before."""
    budget = timedelta(minutes=job.settings.time_budget)
    if job.until is not None:
        budget = min(budget, job.until - job.tools.now())
    return max(budget.total_seconds(), 0.0)


def act_all(job: Any, actions: Sequence[Action]) -> Iterator[Sequence[Step]]:
    """Do the actions of a plan, several at a time."""
    return Crew(job, actions).steps()
