"""One action of `database.reindex`: the command, what it left behind when it failed, and what became of the index."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

from upkeep.core.job import Failed, Ran, Workbench
from upkeep.core.model import Action, Outcome
from upkeep.routines.database import _bloat, _reindex_outcome, _reindex_watch
from upkeep.routines.database._bloat import Bloat
from upkeep.routines.database._reindex_choice import DROPS, REBUILD_BLOCKING
from upkeep.routines.database._reindex_outcome import After
from upkeep.routines.database._reindex_seen import Index, ReindexJob, conn_id, indexes, look
from upkeep.routines.database._reindex_watch import Limits, Result
from upkeep.routines.database._text import quoted

# A lock that is waited for longer than this at the end of a task would outlive the task.
_LAST_SECONDS = 1.0
# Whoever stood in the way of a rebuild may stand in the way of the removal of what is left of it.
_DROP_SECONDS = 30.0
# A name of 63 bytes, less at most three so as not to cut a letter in two.
_SHORTENED = 60


@dataclass(frozen=True)
class Ready:
    """Nothing stands in the way; `invalid` are the indexes (object ids) that were invalid before we began."""

    invalid: frozenset[int]


@dataclass(frozen=True)
class Blocked:
    """Somebody stands in the way."""

    why: str


def do(job: ReindexJob, action: Action, ready: Ready, left: float, last: bool) -> Blocked | Outcome:
    """Carry an action out. One that others got in the way of is `Blocked`, unless this is its last try.

    :param left: seconds until the window or the time budget ends.
    :raises TransientError: the server is away; what was left behind is found by the next run.
    """
    try:
        result = _run(job, action, left)
    except BaseException:
        _clean_in_haste(job, action, ready)
        raise
    after = _look_after(job, action, ready, result)
    if not last and after.index_is_old and (why := _reindex_outcome.in_the_way(result)):
        return Blocked(why)
    return _reindex_outcome.outcome(action, result, after)


def command(action: Action) -> str:
    """Return the command with a placeholder for the index."""
    if action.name in DROPS:
        return "drop index concurrently {index}"
    return "reindex index {index}" if action.name == REBUILD_BLOCKING else "reindex index concurrently {index}"


def _run(job: ReindexJob, action: Action, left: float) -> Result:
    settings, blocking = job.settings, action.name == REBUILD_BLOCKING
    limits = Limits.of(settings, max(left, 0) + settings.overrun_minutes * 60, blocking=blocking)
    with look(job) as eye, workbench(job, settings.lock_timeout if blocking else settings.wait_seconds + 30) as bench:
        names = {"index": (action.details["schema"], action.details["index"])}
        given: Any = {"log": job.tools.log, "still_alone": job.still_alone}
        return _reindex_watch.run(bench, eye, command(action), names, limits, **given)


def workbench(job: ReindexJob, lock_timeout: float) -> AbstractContextManager[Workbench]:
    """Open a session that may rebuild; its `lock_timeout` stands behind the limits that the watch keeps."""
    # Functions in the expressions of indexes find theirs there; since 17 the server sees to it by itself.
    settings = {"search_path": '"$user", public'}
    if job.settings.maintenance_work_mem_mb is not None:
        settings["maintenance_work_mem"] = f"{job.settings.maintenance_work_mem_mb}MB"
    return job.tools.workbench(
        conn_id(job),
        database=job.target.database,
        application_name=f"upkeep {job.routine}",
        lock_timeout=lock_timeout,
        connect_timeout=job.settings.connect_timeout,
        settings=settings,
    )


def _look_after(job: ReindexJob, action: Action, ready: Ready, result: Result) -> After:
    """Look at the index as it is now; drop what a broken rebuild left of it."""
    name = f"{quoted(action.details['schema'])}.{quoted(action.details['index'])}"
    with look(job, job.settings.measure_seconds + 30) as server:
        there = indexes(server, names=[name])
        index = next((i for i in there if i.schema == action.details["schema"] and i.index == action.details["index"]),
                     None)  # fmt: skip
        rebuilt = index is not None and index.valid and index.oid != action.details["oid"]
        measured = _measured(server, action, index) if index is not None and rebuilt else None
    kept = {
        leftover.name: said
        for leftover in leftovers(there, action, ready.invalid)
        if (said := _drop(job, leftover, min(job.settings.wait_seconds, _DROP_SECONDS)))
    }
    return After(index, rebuilt or _rebuilt_in_place(action, result), measured, kept)


def _rebuilt_in_place(action: Action, result: Result) -> bool:
    return action.name == REBUILD_BLOCKING and isinstance(result.answer, Ran)


def leftovers(there: Collection[Index], action: Action, before: Collection[int]) -> list[Index]:
    """Return what this rebuild has left behind: invalid twins of its index that were not there before."""
    if action.name in DROPS:
        return []
    return [
        i
        for i in there
        if not (i.valid or i.building)
        and i.oid not in before
        and (i.table_oid, i.schema) == (action.details["table_oid"], action.details["schema"])
        and (i.base == action.subject or (i.base is None and _named_after(i, str(action.details["index"]))))
    ]


def _named_after(twin: Index, name: str) -> bool:
    """Tell whether a name is another's with _ccnew or _ccold, shortened to 63 bytes where need be.

    That alone is asked only of a new twin of an index that is itself invalid, and so is nobody's base.
    """
    if twin.stem is None:
        return False
    return twin.stem == name or (len(twin.index.encode()) >= _SHORTENED and name.startswith(twin.stem))


def _drop(job: ReindexJob, leftover: Index, seconds: float) -> str:
    """Drop a leftover; return why it could not be, empty when it is gone."""
    limits = Limits.of(job.settings, seconds)
    with look(job) as eye, workbench(job, seconds) as bench:
        names = {"index": (leftover.schema, leftover.index)}
        result = _reindex_watch.run(bench, eye, "drop index concurrently {index}", names, limits, log=job.tools.log)
    if isinstance(result.answer, Failed):
        return _reindex_outcome.in_the_way(result) or result.answer.message
    job.tools.log.info("dropped %s, which the broken rebuild left", leftover.name)
    return ""


def _clean_in_haste(job: ReindexJob, action: Action, ready: Ready) -> None:
    """Drop what is left while the task is being ended; what does not work at once is left to the next run."""
    with suppress(Exception):
        with look(job, _LAST_SECONDS) as server:
            mine = leftovers(indexes(server), action, ready.invalid)
        for leftover in mine:
            with workbench(job, _LAST_SECONDS) as bench:
                bench.run(
                    "drop index concurrently {index}",
                    names={"index": (leftover.schema, leftover.index)},
                    seconds=_LAST_SECONDS,
                )


def _measured(server: Any, action: Action, index: Index) -> Bloat | None:
    """Measure a rebuilt index as it was measured before; None when it was not, or cannot be now."""
    schema = action.details["measured_by"]
    if schema is None:
        return None
    fresh = Bloat(
        "index",
        index.oid,
        index.schema,
        index.table,
        index.index,
        index.bytes,
        None,
        None,
        "unknown",
        fillfactor=action.details["fillfactor"],
    )
    plan = _bloat.Plan((fresh,), _bloat.Tool(schema), {"index": (index.oid,)}, seconds=60)
    return plan.merge(server.batch(plan.questions()))[0]
