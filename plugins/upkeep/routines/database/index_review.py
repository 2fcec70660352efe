"""Review the indexes of a PostgreSQL database (14 to 18): what is broken, needless, missing or bloated. Read-only.

**What it does.** It asks the server's catalogue and counters in one round trip and for details in a second one, and
every standby named in `replica_conn_ids` for its own scans. Nothing is changed: each finding carries the exact
statement and, behind `undo:`, the one that takes it back.

**Why.** An index that nobody uses costs every write, memory and backup time; one that is missing costs every read; an
invalid one costs writes and serves nothing.

**When it is red.** Nothing here is urgent. Read the hint, ask the owner of the application, run the statement outside
a transaction (CONCURRENTLY demands it) with `SET lock_timeout = '2s'`, and keep the undo.

- `invalid`: left by a build that did not finish. For a partitioned index that waits for its parts: info.
- `duplicate`, `redundant`: another index of the table holds the same, or begins with the same columns.
- `unused`: not scanned on any server for `unused_days`. Counters do not know when an index was made, so the ledger
  watches it for as long; before that it is info. With a standby that was not asked nothing is proposed.
- `foreign_key`: deletes of referenced rows read the whole table.
- `sequential_scans`: a large table was read as a whole more often than through indexes since the last run.
- `bloat_index`, `bloat_table`: mostly empty. Measured where pgstattuple may be used and the limits allow.
- `replica`: a standby could not be asked.

What it cannot tell: whether an index is for the one report of the year (mind the quarter's end before dropping), and
which statements would need an index that is missing.
"""

from __future__ import annotations

from typing import Any

from upkeep.core.cadence import Covers
from upkeep.core.errors import TransientError, UpkeepError
from upkeep.core.job import Failed, Job, Server
from upkeep.core.model import Finding, Judgement, Severity
from upkeep.core.targets import PostgresTarget
from upkeep.routines._looking import look
from upkeep.routines.database import _bloat, _index_bloat, _index_missing, _index_overlap, _index_unused
from upkeep.routines.database._index_ddl import Definition
from upkeep.routines.database._index_seen import Replica, Review, undetermined
from upkeep.routines.database._index_settings import Settings
from upkeep.routines.database._seen import Row, Seen, measured

TITLE = "Index review"
TARGETS = ("postgres",)
COVERS = Covers.NOW
ROLE = "dba"


def observe(job: Job[PostgresTarget, Settings]) -> Review:
    """Ask the server, then the standbys.

    :raises TransientError: the server cannot be reached, or was lost on the way.
    :raises ConfigurationError: it is there and refuses us.
    """
    settings = job.settings
    with look(job, job.target.conn_id) as server:
        answers = _asked(server, _questions(settings))
        plan = _bloat.Plan.of(answers, settings)
        oids = sorted({row["oid"] for name in _NAMING for row in _rows(answers, name)})
        details = {"database/index_definitions": {"oids": oids}} if oids else {}
        answers |= _asked(server, details | plan.questions())
        seen = Seen(server.place, server.connect_ms, (), answers, "", server.round_trips)
    return Review(
        seen=seen,
        definitions={row["oid"]: Definition.of(row) for row in seen.rows("index_definitions")},
        replicas=_replicas(job, seen),
        bloats=tuple(plan.merge(answers)),
        tool=plan.tool,
    )


def judge(job: Job[PostgresTarget, Settings], review: Review) -> Judgement:
    """Judge what was seen; an index gets one finding, for the reason that is plainest."""
    settings, history = job.settings, job.tools.history
    twins = [row["oid"] for row in _index_overlap.duplicates(review)]
    unused, gone = _index_unused.judge(review, settings, history, twins)
    return (
        Judgement(measurements=_totals(review), findings=undetermined(review.seen) + _locked(review))
        + _index_overlap.judge_invalid(review, settings)
        + _index_overlap.judge(review, settings, gone)
        + unused
        + _index_missing.judge(review, settings, history)
        + _index_bloat.judge(review, settings)
    )


_NAMING = ("index_invalid", "index_unused", "index_overlaps")


def _questions(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return every statement of the first batch with its values."""
    most = {"most": settings.most}
    limit = settings.foreign_key_bytes
    least = [b for b in (limit.info, limit.warning, limit.critical) if b is not None]
    questions: dict[str, dict[str, Any]] = {
        "database/index_server": {"not_standbys": list(settings.not_standbys)},
        "database/index_totals": {},
        "database/index_invalid": {},
        "database/index_unused": most | {"min_bytes": settings.unused_min_bytes, "days": settings.unused_days},
        "database/index_overlaps": most,
        "database/index_foreign_keys": most | {"min_bytes": int(min(least, default=2**62))},
        "database/index_seq_scans": {"min_rows": settings.seq_scan_rows, "most": settings.seq_scan_tables},
    }
    return questions | _bloat.questions(settings)


def _asked(server: Server, questions: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]] | Failed]:
    """Ask in one round trip. :raises TransientError: the connection was lost."""
    answers = server.batch(questions) if questions else {}
    for answer in answers.values():
        if isinstance(answer, Failed) and answer.reason == "gone":
            raise TransientError(
                f"{server.place}: connected, then lost: {answer.message}", "read the server's log; it is tried again"
            )
    return answers


def _rows(answers: dict[str, list[dict[str, Any]] | Failed], name: str) -> list[dict[str, Any]]:
    answer = answers[f"database/{name}"]
    return answer if isinstance(answer, list) else []


def _replicas(job: Job[PostgresTarget, Settings], seen: Seen) -> tuple[Replica, ...]:
    """Ask every standby for its scans of the indexes that this server did not scan."""
    oids = sorted({oid for row in seen.rows("index_unused") for oid in row["parts"]})
    known = {_instance(seen.row("index_server"))}
    found: list[Replica] = []
    for conn_id in job.settings.replica_conn_ids:
        replica = _replica(job, conn_id, oids, seen.row("index_server"))
        if not replica.trouble and _instance(replica.seen.row("index_server")) in known:
            replica = Replica(conn_id, replica.seen, "it leads to a server that was asked already")
        known.add(_instance(replica.seen.row("index_server")))
        found.append(replica)
    return tuple(found)


def _replica(job: Job[PostgresTarget, Settings], conn_id: str, oids: list[int], primary: Row) -> Replica:
    questions: dict[str, dict[str, Any]] = {
        "database/index_server": {"not_standbys": list(job.settings.not_standbys)},
        "database/index_scans": {"oids": oids},
    }
    try:
        with look(job, conn_id) as server:
            seen = Seen(server.place, server.connect_ms, (), _asked(server, questions), "", server.round_trips)
    except UpkeepError as error:
        return Replica(conn_id, Seen(conn_id), error.message)
    if failed := next(iter(seen.failed.values()), None):
        return Replica(conn_id, seen, f"it did not answer: {failed.message}")
    if seen.row("index_server")["system"] != primary.get("system"):
        return Replica(conn_id, seen, f"{seen.place} is no copy of this server: another system identifier")
    return Replica(conn_id, seen)


def _instance(row: Row) -> Any:
    """Return what tells one running server from its copies."""
    return row.get("started")


def _locked(review: Review) -> tuple[Finding, ...]:
    tables = review.seen.row("index_server").get("locked")
    if not tables:
        return ()
    found = Finding(
        check="locked",
        subject="",
        severity=Severity.UNKNOWN,
        message=f"somebody locks tables exclusively, so their indexes were not reviewed: {', '.join(tables[:5])}"
        + (f" and {len(tables) - 5} more" if len(tables) > 5 else ""),
        hint="run it again when they are free; routine database.health names who blocks whom",
    )
    return (found,)


def _totals(review: Review) -> Any:
    row = review.seen.row("index_totals")
    return measured("index.all", row.get("indexes"), "indexes") + measured("index.all_bytes", row.get("bytes"), "bytes")
