"""VACUUM FULL: only where measured bloat is worth it, only when a person has agreed, only when there is room.

It writes the table and its indexes anew while nobody else may even read it. The ordinary vacuum of this routine never
does that; here it is proposed, with what it costs and what it gives back.
"""

from __future__ import annotations

import re
from typing import Any

from upkeep.core.job import Server
from upkeep.core.model import Action
from upkeep.routines.database import _bloat, _reindex_seen
from upkeep.routines.database._text import byte_size, span
from upkeep.routines.database._vacuum_look import Answers, CareJob, Seen
from upkeep.routines.database._vacuum_settings import VacuumSettings
from upkeep.routines.database._vacuum_work import Times, Work

NAME = "vacuum full"
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


def questions(job: CareJob) -> dict[str, dict[str, Any]]:
    """Return the statements that tell what is bloated and what room there is."""
    if not isinstance(job.settings, VacuumSettings) or not job.settings.full:
        return {}
    asked = _bloat.questions(job.settings)
    return {k: v for k, v in asked.items() if k != "database/bloat_indexes"} | _reindex_seen.space_question(job)


def measured(job: CareJob, server: Server, answers: Answers) -> tuple[_bloat.Bloat, ...]:
    """Measure the candidates, in one round trip when there are any; return the tables that are worth it."""
    settings = job.settings
    if not isinstance(settings, VacuumSettings) or not settings.full:
        return ()
    plan = _bloat.Plan.of(answers, settings)
    if not plan.questions():
        return ()
    return tuple(
        b
        for b in plan.merge(server.batch(plan.questions()))
        if b.kind == "table" and b.how == "measured" and _is_worth_it(b, settings)
    )


def proposals(job: CareJob, seen: Seen, times: Times) -> list[Action]:
    """Return the rewrites that a person may agree to."""
    space = _space(job, seen.answers)
    return [_proposal(job, bloat, space, times) for bloat in seen.bloated if bloat.oid not in seen.refused]


def no_room(job: CareJob, needed: int) -> str:
    """Return why a rewrite must not begin now, empty when nothing is known that speaks against it.

    A volume of stated size is looked at when it is planned; one that a worker sees, once more right before.
    """
    volume = job.target.volume
    if volume is None or volume.size is not None:
        return ""
    space = _reindex_seen.space(job, None)
    if space.free is not None and space.free < needed:
        return f"it needs {byte_size(needed)} of disk, and {byte_size(space.free)} are free"
    return ""


def _name(bloat: _bloat.Bloat) -> str:
    """Return the name as the server would write it: quoted where it has to be."""
    plain = all(_PLAIN.fullmatch(part) for part in (bloat.schema, bloat.table))
    return f"{bloat.schema}.{bloat.table}" if plain else bloat.name


def _is_worth_it(bloat: _bloat.Bloat, settings: VacuumSettings) -> bool:
    return (bloat.wasted_bytes or 0) >= settings.full_bytes and (bloat.ratio or 0) * 100 >= settings.full_percent


def _proposal(job: CareJob, bloat: _bloat.Bloat, space: _reindex_seen.Space, times: Times) -> Action:
    left = bloat.size_bytes - (bloat.wasted_bytes or 0)
    # The new table, its indexes built anew (their sorts included), and as much WAL again.
    needed = 3 * left
    seconds, known = times.estimate(f"{_name(bloat)} {NAME}", float(bloat.size_bytes + 2 * left))
    approval = (
        f"rewrites {_name(bloat)} under ACCESS EXCLUSIVE: nobody can read or write it meanwhile, for about"
        f" {span(max(seconds, 1))}{'' if known else ' (never measured here)'}; it needs {byte_size(needed)} of disk,"
    )
    skip = ""
    if space.free is None:
        approval += f" and whether that is free is unknown: {space.why}"
    else:
        approval += f" of which {byte_size(space.free)} are free"
        skip = "not enough disk space" if space.free < needed else ""
    work = Work(
        name=_name(bloat),
        oid=bloat.oid,
        schema=bloat.schema,
        table=bloat.table,
        full=True,
        vacuum=True,
        analyze=True,
        bytes=needed,
        seconds=round(seconds, 3),
        known=known,
        skip=skip,
    )
    action = work.action(f"{_bloat.told(bloat)} of it is empty")
    return action.model_copy(update={"name": NAME, "approval": approval})


def _space(job: CareJob, answers: Answers) -> _reindex_seen.Space:
    return _reindex_seen.space(job, answers.get("database/reindex_space"))
