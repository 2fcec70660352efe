"""Standbys, the state of recovery on a standby, and replication slots."""

from __future__ import annotations

from collections.abc import Callable

from upkeep.core.model import Finding, Judgement, Severity
from upkeep.routines.database._seen import Row, Seen, judged, measured, worst_by_key
from upkeep.routines.database._settings import Settings
from upkeep.routines.database._text import byte_size, literal, span

_DEAD = ("lost", "unreserved")


def judge(seen: Seen, settings: Settings) -> Judgement:
    """Judge replication from both ends."""
    return _replicas(seen, settings) + _standby(seen.row("recovery"), settings) + _slots(seen, settings)


def _replicas(seen: Seen, settings: Settings) -> Judgement:
    rows = seen.rows("replicas")
    behind: list[Finding] = []
    bytes_by_name: dict[str, float] = {}
    for row in rows:
        behind += _behind(f"standby {row['name']}", row["lag_bytes"], row["lag_seconds"], settings)
        if row["lag_bytes"] is not None:
            bytes_by_name[row["name"]] = max(row["lag_bytes"], bytes_by_name.get(row["name"], 0))
    numbers = tuple(m for n, lag in bytes_by_name.items() for m in measured("replication.lag", lag, "bytes", n))
    missing = _missing(len(rows), settings.replicas) if "database/replicas" in seen.answers else ()
    return Judgement(measurements=numbers, findings=(*worst_by_key(behind), *missing))


def _missing(connected: int, expected: int) -> tuple[Finding, ...]:
    if connected >= expected:
        return ()
    found = Finding(
        check="replication",
        subject="connected",
        severity=Severity.WARNING if connected else Severity.CRITICAL,
        message=f"{connected} standbys are connected",
        observed=str(connected),
        limit=str(expected),
        hint="look at the standby: is it up, and what does its log say about its WAL receiver?",
    )
    return (found,)


def _behind(subject: str, lag_bytes: float | None, seconds: float | None, settings: Settings) -> list[Finding]:
    found: list[Finding] = []
    message = f"{subject} is behind by {_known(lag_bytes, byte_size)} of WAL and by {_known(seconds, span)}"
    hint = "look at the network, at the standby's load, and at its queries that hold back replay"
    if lag_bytes is not None:
        limit = settings.replication_bytes
        found += judged("replication", subject, limit, lag_bytes, message=message, hint=hint, say=byte_size)
    if seconds is not None:
        found += judged(
            "replication", subject, settings.replication_delay, seconds, message=message, hint=hint, say=span
        )
    return found


def _known(value: float | None, say: Callable[[float], str]) -> str:
    return "an unknown span" if value is None else say(value)


def _standby(row: Row, settings: Settings) -> Judgement:
    if not row:
        return Judgement()
    found: list[Finding] = []
    if not row["receiving"]:
        found.append(
            Finding(
                check="replication",
                subject="receiver",
                severity=Severity.WARNING,
                message="this standby receives no WAL: its WAL receiver does not run",
                hint="read its log: network, password, or a slot that is gone. One fed from an archive alone has none:"
                " exclude it by `skip`",
            )
        )
    if row["paused"]:
        found.append(
            Finding(
                check="replication",
                subject="paused",
                severity=Severity.WARNING,
                message="replay is paused on this standby: it serves old data and its disk fills with WAL",
                hint="SELECT pg_wal_replay_resume();",
            )
        )
    delay = standby_delay(row)
    found += _behind("replay", row["lag_bytes"], delay, settings)
    numbers = measured("replication.lag", row["lag_bytes"], "bytes", "replay")
    return Judgement(
        measurements=numbers + measured("replication.delay", delay, "s", "replay"), findings=worst_by_key(found)
    )


def standby_delay(row: Row) -> float | None:
    """Return how many seconds a standby is behind, None when it cannot be told.

    Time since the last replayed commit grows on an idle primary as well. With everything replayed that was received
    there is no delay, if something is being received at all: a dead receiver looks the same.
    """
    if row["receiving"] and row["lag_bytes"] == 0:
        return 0.0
    seconds: float | None = row["replayed_seconds_ago"]
    return seconds


def _slots(seen: Seen, settings: Settings) -> Judgement:
    judgement = Judgement()
    for row in seen.rows("slots"):
        numbers = measured("slot.retained", row["retained_bytes"], "bytes", row["name"])
        judgement += Judgement(measurements=numbers, findings=_slot(row, settings))
    return judgement


def _slot(row: Row, settings: Settings) -> tuple[Finding, ...]:
    idle = "" if row["active"] else ", and nobody reads from it"
    if row["inactive_seconds"] is not None and not row["active"]:
        idle += f" for {span(row['inactive_seconds'])}"
    drop = f"SELECT pg_drop_replication_slot({literal(row['name'])});"
    if row["wal_status"] in _DEAD:
        return (_dead(row, idle, drop),)
    retained = row["retained_bytes"]
    found = judged(
        "slot",
        row["name"],
        settings.slot_retained,
        retained or 0.0,
        message=f"{row['type']} slot {row['name']} keeps {byte_size(retained or 0.0)} of WAL from being removed{idle}",
        hint=f"bring its consumer back, or, when there is none any more: {drop}",
        say=byte_size,
    )
    # One that keeps nothing harms nobody; one that nobody reads and that keeps something will fill the volume.
    if found or row["active"] or not retained:
        return found
    message = f"nobody reads from {row['type']} slot {row['name']}; it keeps {byte_size(retained)} of WAL so far"
    return (Finding(check="slot", subject=row["name"], severity=Severity.INFO, message=message, hint=drop),)


def _dead(row: Row, idle: str, drop: str) -> Finding:
    why = f" ({row['invalidation_reason']})" if row["invalidation_reason"] else ""
    lost = row["wal_status"] == "lost"
    return Finding(
        check="slot",
        subject=row["name"],
        severity=Severity.CRITICAL,
        message=f"{row['type']} slot {row['name']} "
        + (f"is lost{why}: WAL it needs is gone" if lost else "is about to be lost at the next checkpoint")
        + idle,
        observed=row["wal_status"],
        limit="reserved",
        hint=f"build its consumer anew; {drop}"
        if lost
        else "bring its consumer back at once, or raise max_slot_wal_keep_size",
    )
