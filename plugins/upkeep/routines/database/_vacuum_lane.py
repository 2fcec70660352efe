"""One lane: a thread with a connection of its own that does one table after the other."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

from upkeep.core.errors import TransientError
from upkeep.core.job import Failed, Ran, Workbench
from upkeep.routines.database import _vacuum_report
from upkeep.routines.database._need import Row
from upkeep.routines.database._vacuum_look import CareJob, conn_id
from upkeep.routines.database._vacuum_settings import VacuumSettings
from upkeep.routines.database._vacuum_work import Work

_PAUSE_SECONDS = 1.0
# The server's limit for a statement is only sent anew when it changes, so it is kept to round figures.
_ROUND_SECONDS = 600.0
_NO_ROW: Row = {}
# A cancel that comes after its command has ended hits the next one, if that begins so soon.
_CANCEL_SECONDS = 10.0
# Groups of so many tables are of small ones, whose sizes are taken from the catalogue.
_MANY = 10


@dataclass(frozen=True)
class Done:
    """What became of one table. `answer` None: it was not touched, because it was locked or is being vacuumed.

    `way`: the session that waited for us, so that the work was given up.
    """

    work: Work
    answer: Ran | Failed | None
    seconds: float = 0.0
    before: Row | None = None
    after: Row | None = None
    lockers: Sequence[Row] = ()
    way: str = ""


@dataclass(frozen=True)
class Broken:
    """A lane that cannot go on, and the tables that it had still to do."""

    lane: Lane
    error: BaseException
    left: Sequence[Work]


@dataclass(frozen=True)
class Group:
    """Tables that a lane does on one order. `again`: for the second time, now waiting for locks whatever is known."""

    works: tuple[Work, ...]
    again: bool = False


class Lane(threading.Thread):
    """Takes groups from `orders` (None ends it), and gives lists of `Done`, or one `Broken`, to `results`."""

    def __init__(self, number: int, job: CareJob, results: queue.SimpleQueue[Any], deadline: float) -> None:
        super().__init__(name=f"{job.routine} {number}", daemon=True)
        self.orders: queue.SimpleQueue[Group | None] = queue.SimpleQueue()
        self.stopping = threading.Event()
        self._job, self._results = job, results
        self._end: float = deadline + job.settings.overrun * 60
        self._stack = ExitStack()
        self._bench: Workbench | None = None
        self._delay: float = job.settings.cost_delay
        # What the watch needs: the session, and since when it has been at a command (infinite: at none that gives way).
        self.pid = 0
        self.since = math.inf
        self._way, self._way_at = "", -math.inf

    def run(self) -> None:
        """Work until there are no more orders."""
        group: Group | None = Group(())
        done: list[Done] = []
        try:
            while not self.stopping.is_set() and (group := self.orders.get()) is not None:
                done = []
                self._do_group(group, done)
                self._results.put(done)
        except BaseException as error:
            names = {d.work.name for d in done}
            self._results.put(done)
            self._results.put(Broken(self, error, [w for w in group.works if w.name not in names] if group else []))
        finally:
            self._stack.close()

    def cancel(self) -> None:
        """Ask the server to give up what this lane does; from another thread."""
        self.stopping.set()
        if (bench := self._bench) is not None:
            bench.cancel()

    def give_way(self, who: str, since: float) -> None:
        """Give up the command that runs `since` then, for which somebody waits; from another thread."""
        if since == self.since and (bench := self._bench) is not None:
            self._way, self._way_at = who, time.monotonic()
            bench.cancel()

    def _do_group(self, group: Group, done: list[Done]) -> None:
        exact = len(group.works) < _MANY
        before = self._states([work.oid for work in group.works], exact)
        alike = [] if group.again else self._do_together(group.works, before)
        done += alike
        had = {d.work.oid for d in alike}
        for work in group.works:
            if self.stopping.is_set():
                return
            if work.oid in had:
                continue
            done.append(self._do(work, before.get(work.oid, _NO_ROW), group.again))
        after = self._states([d.work.oid for d in done if isinstance(d.answer, Ran)], exact)
        done[:] = [
            Done(d.work, d.answer, d.seconds, d.before, after.get(d.work.oid), d.lockers)
            if isinstance(d.answer, Ran)
            else d
            for d in done
        ]

    def _do_together(self, works: Sequence[Work], before: Mapping[int, Row]) -> list[Done]:
        """Do the small tables among these that want the same by one command.

        It skips what is locked without waiting. Whatever it has not done, or may not have done because it failed
        on the way, is not in the result and is done one by one.
        """
        free = [w for w in works if w.is_small and not _in_use(before.get(w.oid, _NO_ROW))]
        groups: dict[tuple[bool, ...], list[Work]] = {}
        for work in free:
            groups.setdefault(work.manner, []).append(work)
        found = []
        for group in groups.values():
            if len(group) > 1 and not self.stopping.is_set():
                found += self._do_at_once(group, before)
        return found

    def _do_at_once(self, works: Sequence[Work], before: Mapping[int, Row]) -> list[Done]:
        bench = self._opened()
        keys = [f"t{n}" for n in range(len(works))]
        only = "ONLY " if works[0].only else ""
        text = command(works[0], self._job.settings, bench.version, skip_locked=True)
        text = text.replace(f"{only}{{table}}", ", ".join(f"{only}{{{key}}}" for key in keys))
        names = {key: (work.schema, work.table) for key, work in zip(keys, works, strict=True)}
        self._pace(bench, 0)
        answer = self._carry_out(bench, text, names)
        if isinstance(answer, Failed):
            return []
        said = _vacuum_report.by_table(answer.notices, {f"{w.schema}.{w.table}": w.oid for w in works})
        share = answer.seconds / len(works)
        return [
            Done(w, Ran(share, tuple(said[w.oid])), share, before.get(w.oid, _NO_ROW)) for w in works if w.oid in said
        ]

    def _do(self, work: Work, before: Row, again: bool) -> Done:
        if before.get("vacuumed_by") or (_in_use(before) and not again):
            return Done(work, None, before=before, lockers=self._lockers(work) if again else ())
        begun = time.monotonic()
        answer = self._run(work)
        if isinstance(answer, Failed) and answer.reason == "gone" and not is_damage(answer):
            self._reopen()
            answer = self._run(work)
        if way := self._gave_way(answer):
            return Done(work, None, time.monotonic() - begun, before, way=way)
        lockers = self._lockers(work) if isinstance(answer, Failed) and answer.reason == "locked" else ()
        return Done(work, answer, time.monotonic() - begun, before, lockers=lockers)

    def _gave_way(self, answer: Ran | Failed) -> str:
        """Return for whom a command was cancelled, empty when it was not, or by somebody else."""
        if not isinstance(answer, Failed) or answer.sqlstate != "57014":
            return ""
        way, self._way = self._way, ""
        return way if time.monotonic() - self._way_at < _CANCEL_SECONDS else ""

    def _run(self, work: Work) -> Ran | Failed:
        bench = self._opened()
        text = command(work, self._job.settings, bench.version)
        names = {"table": (work.schema, work.table)}
        if self.stopping.is_set():
            return Failed("other", "stopped before it began")
        self._pace(bench, self._job.settings.cost_delay)
        return self._carry_out(bench, text, names, gives_way=not work.full)

    def _carry_out(
        self, bench: Workbench, text: str, names: Mapping[str, Sequence[str]], *, gives_way: bool = True
    ) -> Ran | Failed:
        """Run a command; while it runs the watch may make it give way, unless people were told that they will wait."""
        self.pid = bench.pid
        self.since = time.monotonic() if gives_way else math.inf
        try:
            return bench.run(text, names=names, seconds=self._seconds())
        finally:
            self.since = math.inf

    def _pace(self, bench: Workbench, delay: float) -> None:
        """Let the server sleep so many ms whenever the cost limit is used up.

        Small tables have hardly anything to be gentle with, but a command for dozens of them adds their costs up.
        """
        if delay != self._delay:
            bench.run(f"SET vacuum_cost_delay = {delay:g}")
            self._delay = delay

    def _seconds(self) -> float:
        left = max(self._end - time.monotonic(), _ROUND_SECONDS)
        return float(left // _ROUND_SECONDS * _ROUND_SECONDS)

    def _states(self, oids: Sequence[int], exact: bool) -> Mapping[int, Row]:
        """Return the state of tables; one that cannot be had (a lock, a time-out) is unknown."""
        values = {"oids": list(oids), "exact": exact}
        answer = self._opened().batch({"database/vacuum_tables": values})["database/vacuum_tables"]
        return {} if isinstance(answer, Failed) else {row["oid"]: row for row in answer}

    def _lockers(self, work: Work) -> list[dict[str, Any]]:
        answer = self._opened().batch({"database/vacuum_lockers": {"oids": [work.oid]}})["database/vacuum_lockers"]
        return [] if isinstance(answer, Failed) else answer

    def _opened(self) -> Workbench:
        if self._bench is None:
            self._bench = self._stack.enter_context(open_bench(self._job))
            self._delay = self._job.settings.cost_delay
            # English reports can be read by a program. Only a superuser may ask for them; another one makes do.
            self._bench.run("SET lc_messages TO 'C'")
        return self._bench

    def _reopen(self) -> None:
        """Connect anew. :raises TransientError: that has not been possible for `reach_seconds`."""
        self._stack.close()
        self._bench = None
        deadline = time.monotonic() + self._job.settings.reach_seconds
        while True:
            try:
                self._opened()
                return
            except TransientError:
                if time.monotonic() + _PAUSE_SECONDS > deadline or self.stopping.wait(_PAUSE_SECONDS):
                    raise


def command(work: Work, settings: Any, version: int, *, skip_locked: bool = False) -> str:
    """Return the command for a table, with `{table}` for its name."""
    only = "ONLY " if work.only else ""
    options = ["VERBOSE"] + ["SKIP_LOCKED"] * skip_locked
    if not work.vacuum:
        return f"ANALYZE ({', '.join(options)}) {only}{{table}}"
    if work.full:
        return "VACUUM (FULL, VERBOSE, ANALYZE) {table}"
    options += [f"PROCESS_TOAST {_switch(work.toast)}", f"TRUNCATE {_switch(settings.truncate)}"]
    options += ["ANALYZE"] * work.analyze + ["FREEZE"] * work.freeze
    options.append(f"INDEX_CLEANUP {settings.index_cleanup.upper()}")
    if settings.parallel_workers is not None:
        options.append(f"PARALLEL {settings.parallel_workers}")
    if version >= 160_000:
        options += ["SKIP_DATABASE_STATS"] + ["PROCESS_MAIN FALSE"] * (not work.main)
        options += [f"BUFFER_USAGE_LIMIT '{settings.buffer_usage_limit}MB'"]
    return f"VACUUM ({', '.join(options)}) {{table}}"


def _in_use(state: Row) -> bool:
    return bool(state.get("locked") or state.get("vacuumed_by"))


def is_damage(failed: Failed) -> bool:
    """Tell whether a failure says that data are damaged: corrupted, unreadable, or a file is missing."""
    return failed.reason == "damaged" or failed.sqlstate in ("XX001", "XX002", "58030", "58P01")


def session_settings(settings: Any) -> dict[str, str]:
    """Return the server settings of a lane's session."""
    wanted = {
        "vacuum_cost_delay": f"{settings.cost_delay:g}ms",
        "vacuum_cost_limit": str(settings.cost_limit),
        # A crash may take back the vacuum of the last second, which only is to be done again then. Where the end of a
        # table is cut off or pages change, the server writes in due order whatever is set here.
        "synchronous_commit": "off",
    }
    if isinstance(settings, VacuumSettings) and settings.maintenance_work_mem is not None:
        wanted["maintenance_work_mem"] = f"{settings.maintenance_work_mem}MB"
    return wanted


def open_bench(job: CareJob) -> AbstractContextManager[Workbench]:
    """Return a session for the work, with what it may cost the server."""
    settings = job.settings
    return job.tools.workbench(
        conn_id(job.target),
        database=job.target.database,
        application_name=f"upkeep {job.routine}",
        lock_timeout=settings.lock_timeout,
        statement_timeout=settings.statement_timeout,
        connect_timeout=settings.connect_timeout,
        settings=session_settings(settings),
    )


def _switch(on: bool) -> str:
    return "TRUE" if on else "FALSE"
