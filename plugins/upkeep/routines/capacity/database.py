"""Follow what a PostgreSQL database takes and how it is written, and say when its space will be used up. Read-only.

**What it does.** It asks for the size of this database, of all databases of the server and of WAL; of the largest and
the most updated tables (partitioned ones as a whole) for heap, TOAST and indexes, and for rows inserted, updated and
deleted; and for the free space of the volume. All of it is kept as series. Through a series of at least `min_points`
days it lays a robust trend, and computes when 70, 80 and 90 % of the volume, or of `limit_bytes`, will be reached:
earliest, likely and latest, by a band of `confidence` percent. The volume's own fill counts, whoever fills it; only the
databases' growth is projected. With `review` it recommends how much to provide, by when.

**Why.** A full volume stops PostgreSQL, and disks take weeks to order.

**When it is red.**

- `fill`: so much is in use now. Make room or enlarge the volume.
- `projection`: the highest limit is likely reached within `warn_days` (critical: `critical_days`). The message gives
  growth a day, dates, and the tables that grow. Unknown while the history is too short: nothing to do but to wait.
- `growth`: the database grew (or, as info, shrank) since the last run far beyond its habit. An import? A loop?
- `volume`: nobody has said how large the volume is, or this worker cannot see it. The hint is the YAML to add.
- `hot`: a much updated table whose updates rewrite all its indexes.
- `tables`: large tables that came or went. `review`: the recommendation of a capacity review.
- `privilege`, `size`: something could not be determined; that is never taken for "fine".

What it cannot tell: tables in other tablespaces count to the volume all the same; rows of transactions that were rolled
back count as written; a forecast knows only what has been.
"""

from __future__ import annotations

from upkeep.core.cadence import Covers
from upkeep.core.job import Failed, Job, Server
from upkeep.core.model import Finding, Judgement, Measurement, Severity
from upkeep.core.targets import PostgresTarget
from upkeep.routines._looking import look
from upkeep.routines.capacity import _ceilings, _tables
from upkeep.routines.capacity._seen import Seen, Series, fill_limits, newest, series
from upkeep.routines.capacity._settings import Settings
from upkeep.routines.database._text import byte_size, quoted

TITLE = "Growth and capacity"
TARGETS = ("postgres",)
COVERS = Covers.NOW
ROLE = "dba"

_QUESTIONS = {
    "server": "the size of the database, of the server, and all that follows from it",
    "tables": "the sizes and writes of tables",
    "indexes": "the sizes of indexes",
}
_CURES = {
    "timeout": "the server is slow today: look at its load, or raise `statement_timeout` of capacity.database",
    "locked": "somebody changes tables: run it again later, or raise `lock_timeout` of capacity.database",
    "gone": "read the server's log: it was stopped, it crashed, or somebody ended our session",
}


def observe(job: Job[PostgresTarget, Settings]) -> Seen:
    """Ask the server and the volume.

    :raises TransientError: the server cannot be reached.
    :raises ConfigurationError: the server is there and refuses us.
    """
    settings, volume = job.settings, job.target.volume
    before = job.tools.history.latest("table.size")
    with look(job) as server:
        answers = _ask(server, settings.top, newest(before))
        disk = job.tools.disk(str(volume.path)) if volume and volume.path else None
        return Seen(server.place, job.tools.now(), answers, disk, before, server.round_trips)


def judge(job: Job[PostgresTarget, Settings], seen: Seen) -> Judgement:
    """Keep the series, and judge fill, growth and what is not known."""
    settings, history = job.settings, job.tools.history
    grown = _tables.grown(seen, settings, history)
    judgement = _tables.judge(seen, settings, history, grown)
    judgement += Judgement(findings=tuple(_undetermined(name, failed, seen) for name, failed in seen.failed.items()))
    if not seen.server:
        return judgement
    growing = _tables.growing(grown)
    sizes = _sizes(job, seen)
    bounds = _ceilings.ceilings(job.target, settings, seen, sizes)
    findings = [
        *_ceilings.unknown(job.target, settings, seen),
        *_too_short(sizes, settings, seen),
        *_sudden(sizes[0], growing),
        *_hidden(seen),
    ]
    numbers = tuple(_numbers(seen, sizes)) + _tables.database_writes(seen, history)
    judgement += Judgement(measurements=numbers, findings=tuple(findings))
    return judgement + _ceilings.judge(settings, seen, bounds, fill_limits(job.target, settings), growing)


def _ask(server: Server, top: int, known: list[str]) -> dict[str, list[dict[str, object]] | Failed]:
    """Ask everything at once, and once more for what a lock kept from us."""
    questions: dict[str, dict[str, object]] = {
        "capacity/server": {},
        "capacity/tables": {"top": top, "known": known},
        "capacity/indexes": {"top": top},
    }
    answers = server.batch(questions)
    locked = {name: questions[name] for name, a in answers.items() if isinstance(a, Failed) and a.reason == "locked"}
    return answers | (server.batch(locked) if locked else {})


def _sizes(job: Job[PostgresTarget, Settings], seen: Seen) -> list[Series]:
    """Return the series of this database and, when all of them are known, of all databases of the server."""
    row, history, settings = seen.server, job.tools.history, job.settings
    sizes = [
        series(history, "database.size", f"database {row['database']}", row["bytes"], at=seen.at, settings=settings)
    ]
    if not row["hidden"]:
        what = f"the server ({row['databases']} databases)"
        sizes.append(series(history, "server.size", what, row["server_bytes"], at=seen.at, settings=settings))
    return sizes


def _numbers(seen: Seen, sizes: list[Series]) -> list[Measurement]:
    numbers = []
    for size in sizes:
        numbers.append(Measurement(name=size.name, value=size.points[-1].value, unit="bytes"))
        if size.trend:
            for name, value in zip(
                ("", "_low", "_high"), (size.trend.slope, size.trend.low, size.trend.high), strict=True
            ):
                numbers.append(Measurement(name=f"growth.per_day{name}", value=value, unit="bytes", subject=size.name))
    if (wal := seen.server["wal_bytes"]) is not None:
        numbers.append(Measurement(name="wal.size", value=wal, unit="bytes"))
    return numbers


def _too_short(sizes: list[Series], settings: Settings, seen: Seen) -> list[Finding]:
    if any(size.trend for size in sizes):
        return []
    size = sizes[0]
    more, wait = max(settings.min_points - len(size.points), 0), max(settings.min_days - size.days, 0.0)
    needs = [f"after {more} more runs on other days"] * (more > 0) + [f"from {seen.day(wait)} on"] * (wait > 0)
    return [
        Finding(
            check="projection",
            subject="",
            severity=Severity.UNKNOWN,
            message=f"too little history to tell when space will be used up: {len(size.points)} points over"
            f" {size.days:.0f} days, expected {settings.min_points} over {settings.min_days:g}",
            observed=f"{len(size.points)} points",
            limit=f"{settings.min_points} points",
            hint=f"nothing to do: a projection is possible {' and '.join(needs)}",
        )
    ]


def _sudden(size: Series, growing: str) -> list[Finding]:
    """Report that the newest point is a step."""
    if not size.steps or size.steps[-1].index != len(size.points) - 1:
        return []
    before, now = size.points[-2], size.points[-1]
    change, days = now.value - before.value, now.day - before.day
    share = f" ({change / before.value:+.0%})" if before.value else ""
    usual = change - size.steps[-1].size
    return [
        Finding(
            check="growth",
            subject="",
            severity=Severity.WARNING if size.steps[-1].size > 0 else Severity.INFO,
            message=f"{size.what} went from {byte_size(before.value)} to {byte_size(now.value)}{share} in {days:.0f}"
            f" days; usual were {byte_size(usual)}{growing}",
            observed=byte_size(change),
            limit=byte_size(usual),
            hint="expected after an import or an archiving; otherwise find who writes (database.slow_queries)",
        )
    ]


def _hidden(seen: Seen) -> list[Finding]:
    row = seen.server
    unseen = [f"the size of {row['hidden']} databases of the server"] * bool(row["hidden"])
    unseen += ["the size of WAL"] * (row["wal_bytes"] is None)
    if not unseen:
        return []
    return [
        Finding(
            check="privilege",
            subject="sizes",
            severity=Severity.UNKNOWN,
            message=f"role {row['role']} may not know {' and '.join(unseen)}: what else fills the volume is unknown",
            hint=f"GRANT pg_monitor TO {quoted(row['role'])};",
        )
    ]


def _undetermined(name: str, failed: Failed, seen: Seen) -> Finding:
    hint = _CURES.get(failed.reason, "read the server's log; this statement works on 14 to 18")
    if failed.reason == "privilege":
        hint = f"GRANT pg_monitor TO {quoted(seen.server.get('role', 'upkeep'))};"
    message = f"could not be determined: {_QUESTIONS[name]}: {failed.message}"
    return Finding(check="size", subject=name, severity=Severity.UNKNOWN, message=message, hint=hint)
