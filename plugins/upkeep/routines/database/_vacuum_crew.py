"""Who does which table when: several lanes, one clock.

The need decides who is in: tables are taken in the order of the plan, and none is begun that would not be done in time.
When there is time for all, the largest begin, so that the lanes end together. Small tables are handed out in groups: a
record in the ledger for every one of two thousand tables must not cost more than the vacuum.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from upkeep.core.errors import TransientError
from upkeep.core.job import Failed, Ran
from upkeep.core.model import Action, Begun, Ended, Outcome, OutcomeStatus
from upkeep.routines.database import _vacuum_outcome as outcomes
from upkeep.routines.database._vacuum_lane import Broken, Done, Group, Lane, open_bench
from upkeep.routines.database._vacuum_look import CareJob
from upkeep.routines.database._vacuum_plan import STATS
from upkeep.routines.database._vacuum_work import Work

_GROUP_SECONDS = 0.25
_GROUP_TABLES = 40
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
        self.works: dict[int, Work] = {}
        self._stats = next((n for n, a in enumerate(actions, 1) if a.name == STATS), None)
        for number, action in enumerate(actions, 1):
            if number != self._stats:
                self.works[number] = Work.of(action)
        self._number = {work.oid: number for number, work in self.works.items()}
        self._begun_at = time.monotonic()
        self._deadline = self._begun_at + _budget(job)
        self._results: queue.SimpleQueue[list[Done] | Broken] = queue.SimpleQueue()
        self._lanes: dict[Lane, list[Group]] = {}
        self._all: tuple[Lane, ...] = ()
        self._largest_first = True
        self._waiting = self._ordered()
        self._locked: dict[int, float] = {}
        self._begun: set[int] = set()
        self._ended: set[int] = set()
        self._stopped = ""
        self._estimated = self._taken = _PRIOR_SECONDS

    def steps(self) -> Iterator[Sequence[Step]]:
        """Do the work; yield what begins and what has ended.

        :raises TransientError: the server is lost.
        """
        ended: list[Step] = [self._pass_over(n, w.skip) for n, w in self.works.items() if w.skip]
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
            if ended := [*self._left()]:
                yield ended
            if self._stats is not None:
                yield from self._update_stats(self._stats)
        finally:
            self._dismiss()

    # Who is next.

    def _ordered(self) -> list[int]:
        """Return the numbers of the tables to do: in the plan's order, or the largest first when there is time for all.

        Those that look at other tables' rows come after them, unless that might cost them their turn.
        """
        numbers = [n for n, work in self.works.items() if not work.skip]
        total = sum(self.works[n].seconds for n in numbers) / self.job.settings.parallel
        self._largest_first = total <= _AMPLE * (self._deadline - self._begun_at)
        if not self._largest_first:
            return numbers
        return sorted(numbers, key=lambda n: (self.works[n].last, -self.works[n].seconds))

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
        for number in self._waiting:
            work = self.works[number]
            more = self._estimate(work)
            if seconds + more > left or (work.last and parents_wait):
                continue
            if taken and (seconds + more > _GROUP_SECONDS or len(taken) >= _GROUP_TABLES):
                break
            taken.append(number)
            seconds += more
        if not taken:
            return self._again(left)
        gone = set(taken)
        self._waiting = [n for n in self._waiting if n not in gone]
        return Group(tuple(self.works[n] for n in taken))

    def _others_at_work(self) -> bool:
        """Tell whether tables are at work, or come before, whose rows the next parent of tables would look at."""
        if not self._waiting or not self.works[self._waiting[0]].last:
            return bool(self._waiting) and self._largest_first
        return any(not w.last for groups in self._lanes.values() for g in groups for w in g.works)

    def _again(self, left: float) -> Group | None:
        """Return a locked table to try again: when all others are through, and it had its time."""
        if any(not group.again for groups in self._lanes.values() for group in groups):
            return None
        for number, since in self._locked.items():
            waited = time.monotonic() - since
            if waited >= self.job.settings.again_seconds and self._estimate(self.works[number]) <= left:
                del self._locked[number]
                return Group((self.works[number],), again=True)
        return None

    def _to_come(self) -> bool:
        """Tell whether a locked table will be tried again in time, though not yet."""
        pause, now = self.job.settings.again_seconds, time.monotonic()
        return not self._stopped and any(
            max(now, since + pause) + self._estimate(self.works[number]) <= self._deadline
            for number, since in self._locked.items()
        )

    def _estimate(self, work: Work) -> float:
        """Return the seconds that a table takes: by its own past, or as far off as the others were in this run."""
        return work.seconds if work.known else work.seconds * min(max(self._taken / self._estimated, 0.1), 10)

    def _busy(self, groups: Sequence[Group]) -> float:
        return sum(self._estimate(work) for group in groups for work in group.works)

    def _new(self, orders: Sequence[tuple[Lane, Group]]) -> list[int]:
        numbers = [self._number[work.oid] for _, group in orders for work in group.works]
        fresh = [n for n in numbers if n not in self._begun]
        self._begun |= set(fresh)
        return fresh

    # What has become of it.

    def _wait(self) -> list[Step]:
        """Wait for results and return what has ended by them."""
        found: list[list[Done] | Broken] = []
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
        return [step for done in results if (step := self._ending(done, again)) is not None]

    def _ending(self, done: Done, again: bool) -> Step | None:
        number = self._number[done.work.oid]
        if isinstance(done.answer, Ran) and not done.work.known:
            self._estimated += done.work.seconds
            self._taken += done.seconds
        untouched = done.answer is None or (isinstance(done.answer, Failed) and done.answer.reason == "locked")
        if untouched and not again and not self._stopped:
            self._locked[number] = time.monotonic()
            return None
        if isinstance(done.answer, Failed) and done.answer.sqlstate == "53100":
            self._stopped = "the server's disk is full"
            self._waiting = []
        self._ended.add(number)
        return Ended(number=number, outcome=outcomes.outcome(done, self.job))

    def _broken(self, broken: Broken) -> list[Step]:
        """Do without a lane; raise when it was the last one, or cannot be helped by another."""
        groups = self._lanes.pop(broken.lane)
        works = [*broken.left, *(work for group in groups for work in group.works)]
        left = dict.fromkeys(self._number[work.oid] for work in works)
        self.job.tools.log.warning("%s: a lane ended: %s", self.job.target.id, broken.error)
        if not self._lanes or not isinstance(broken.error, TransientError):
            raise broken.error
        self._waiting = [*(n for n in left if n not in self._ended and n not in self._locked), *self._waiting]
        return []

    def _left(self) -> Iterator[Step]:
        """Yield the end of all that did not get its turn."""
        for number in self._number.values():
            if number not in self._ended:
                if number in self._locked:
                    why = "locked, and no time was left to try it again"
                else:
                    why = self._stopped or "no time was left for it"
                yield self._pass_over(number, f"carried over: {why}")

    def _pass_over(self, number: int, why: str) -> Ended:
        self._ended.add(number)
        return Ended(number=number, outcome=outcomes.passed_over(self.works[number], why))

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
