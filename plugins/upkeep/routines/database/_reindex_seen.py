"""What `database.reindex` observes: bloat, invalid leftovers, changed collations, and the space there is."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from upkeep.core.errors import ConfigurationError, TransientError
from upkeep.core.job import Failed, Job, Server
from upkeep.core.targets import PostgresTarget
from upkeep.routines.database import _bloat
from upkeep.routines.database._bloat import Bloat
from upkeep.routines.database._reindex_settings import Settings

ReindexJob = Job[PostgresTarget, Settings]


@dataclass(frozen=True)
class Index:
    """A row of `database/reindex_indexes`, which explains the fields."""

    oid: int
    table_oid: int
    schema: str
    index: str
    table_schema: str
    table: str
    name: str
    table_name: str
    valid: bool
    is_unique: bool
    exclusion: bool
    constrained: bool
    building: bool
    bytes: int
    heap_bytes: int
    elsewhere: bool
    definition: str | None
    owner: str
    may_drop: bool
    may_rebuild: bool
    stem: str | None
    base: str | None

    @property
    def is_leftover(self) -> bool:
        """An invalid twin, by name and definition, of a valid index: what a broken concurrent rebuild leaves."""
        return not self.valid and self.base is not None


@dataclass(frozen=True)
class Space:
    """Bytes of the volume that the indexes lie on; None and why when they are not known."""

    free: int | None
    total: int = 0
    why: str = ""


@dataclass(frozen=True)
class Seen:
    """One look at a database before anything is done."""

    place: str
    version: int
    role: str
    indexes: Sequence[Index]
    bloat: Mapping[int, Bloat]
    tool: _bloat.Tool
    collations: Sequence[Mapping[str, Any]]
    locked: Sequence[Mapping[str, Any]]
    space: Space
    rates: Mapping[str, float] = field(default_factory=dict)
    rebuilt_for: Mapping[str, float] = field(default_factory=dict)
    failed: Mapping[str, Failed] = field(default_factory=dict)
    round_trips: int = 0

    def rate(self, name: str, assumed: float) -> float:
        """Return the bytes per second that an index is rebuilt at: as last time, as others were, or as assumed."""
        known = statistics.median(self.rates.values()) if self.rates else assumed
        return self.rates.get(name) or known or assumed


def conn_id(job: ReindexJob) -> str:
    """Return the connection whose role rebuilds."""
    return job.target.maintenance_conn_id or job.target.conn_id


def look(job: ReindexJob, statement_timeout: float = 30) -> AbstractContextManager[Server]:
    """Open a read-only session beside the one that works."""
    return job.tools.postgres(
        conn_id(job),
        database=job.target.database,
        application_name=f"upkeep {job.routine} look",
        statement_timeout=statement_timeout,
        connect_timeout=job.settings.connect_timeout,
    )


def observe(job: ReindexJob) -> Seen:
    """Measure and ask, in three round trips.

    :raises TransientError: the server is away, busy or locked.
    :raises ConfigurationError: it is a standby, or refuses us.
    """
    settings = job.settings
    with look(job, settings.measure_seconds + 30) as server:
        first = dict(server.batch(_questions(job)))
        about = rows_of(server, "reindex_server", first["database/reindex_server"])[0]
        if about["standby"]:
            raise ConfigurationError(
                f"{server.place} is a standby: indexes are rebuilt on its primary",
                "let `maintenance_conn_id` name the primary",
            )
        plan = _bloat.Plan.of(first, settings)
        measured = server.batch(plan.questions()) if plan.questions() else {}
        bloat = {b.oid: b for b in plan.merge(measured) if b.kind == "index"}
        changed = _rows(first, "reindex_collations")
        wanted = [b.oid for b in bloat.values() if is_bloated(b, settings)] + [row["oid"] for row in changed]
        return Seen(
            place=server.place,
            version=server.version,
            role=about["role"],
            indexes=indexes(server, oids=wanted),
            bloat=bloat,
            tool=plan.tool,
            collations=changed,
            locked=_rows(first, "reindex_locked"),
            space=space(job, first.get("database/reindex_space")),
            rates={subject: kept.value for subject, kept in job.tools.history.latest("reindex.rate").items()},
            rebuilt_for={subject: kept.value for subject, kept in job.tools.history.latest("index.collation").items()},
            failed={name.split("/")[1]: a for name, a in {**first, **measured}.items() if isinstance(a, Failed)},
            round_trips=server.round_trips,
        )


def _rows(answers: Mapping[str, list[dict[str, Any]] | Failed], name: str) -> list[dict[str, Any]]:
    answer = answers[f"database/{name}"]
    return answer if isinstance(answer, list) else []


def _questions(job: ReindexJob) -> dict[str, dict[str, Any]]:
    return {
        "database/reindex_server": {},
        "database/bloat_extension": {},
        "database/bloat_indexes": {"min_bytes": job.settings.bloat_min_bytes},
        "database/reindex_locked": {"min_bytes": job.settings.bloat_min_bytes},
        "database/reindex_collations": {"most": job.settings.most_of_a_collation},
    } | space_question(job)


def is_bloated(bloat: Bloat, settings: Settings) -> bool:
    """Tell whether so much of an index is empty that a rebuild pays; what is not known never is."""
    if bloat.wasted_bytes is None or bloat.ratio is None:
        return False
    return bloat.ratio * 100 > settings.bloat_percent and bloat.wasted_bytes > settings.wasted_bytes


def indexes(server: Server, *, oids: Sequence[int] = (), names: Sequence[str] = ()) -> list[Index]:
    """Return the indexes asked for, and all that are not valid.

    :raises TransientError: the server did not answer.
    """
    statement, values = "database/reindex_indexes", {"oids": list(oids), "names": list(names)}
    return [Index(**row) for row in rows_of(server, "reindex_indexes", server.batch({statement: values})[statement])]


def rows_of(server: Server, name: str, answer: list[dict[str, Any]] | Failed) -> list[dict[str, Any]]:
    """Return the rows of a statement without which nothing can be said. :raises TransientError: there are none."""
    if isinstance(answer, Failed):
        raise TransientError(
            f"{server.place}: {name}: {answer.message}", "the server is busy or away; it is tried again"
        )
    return answer


def space_question(job: ReindexJob) -> dict[str, dict[str, Any]]:
    """Return the statement about used space where that must be taken from a stated size."""
    volume = job.target.volume
    return {"database/reindex_space": {}} if volume is not None and volume.size is not None else {}


def space(job: ReindexJob, answer: list[dict[str, Any]] | Failed | None) -> Space:
    """Return the free space of the target's volume: its stated size less what the server uses, or as a worker sees."""
    volume = job.target.volume
    if volume is None:
        return Space(None, why="the system file states no `volume` for this target")
    if volume.size is not None:
        return _stated(int(volume.size), answer)
    seen = job.tools.disk(str(volume.path))
    if isinstance(seen, Failed):
        return Space(None, why=f"the volume cannot be seen from here: {seen.message}")
    return Space(seen.free, seen.total)


def _stated(size: int, answer: list[dict[str, Any]] | Failed | None) -> Space:
    if not isinstance(answer, list):
        return Space(None, why=f"the size of the databases could not be read: {answer.message if answer else ''}")
    row = answer[0]
    if row["hidden"]:
        return Space(
            None, why=f"this role may not measure {row['hidden']} of the server's databases (GRANT pg_read_all_stats)"
        )
    return Space(size - row["used"] - row["wal"], size)
