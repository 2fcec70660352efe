"""Who keeps dead rows from being removed, and which vacuums that makes useless.

A dead row can be removed once no snapshot, prepared transaction, replication slot or standby might still want it: once
it died before the oldest transaction id that any of them holds (the xmin horizon).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from upkeep.core.job import History
from upkeep.core.model import Finding, Judgement, Measurement, Severity, Threshold
from upkeep.core.sql_text import without_literals
from upkeep.routines.database._need import Need, Part, Row, Table
from upkeep.routines.database._text import literal, span

_NAMED = 5


@dataclass(frozen=True)
class Holder:
    """One who holds the horizon back.

    `since` is a moment from which on it did so for certain, if one is known; `is_new`: the ledger does not know of it.
    """

    kind: str
    name: str
    row: Row
    since: datetime | None
    is_new: bool = True

    @property
    def age(self) -> float:
        """Transactions since the oldest one that is held."""
        return float(self.row["age"])

    @property
    def subject(self) -> str:
        """A name that is the same tomorrow: no process id, no time."""
        return f"{self.kind} {self.name}".strip()

    def story(self) -> str:
        """Return who that is."""
        row = self.row
        if self.kind == "prepared":
            who = f"prepared transaction {self.name!r} of role {row['role']}"
        elif self.kind == "slot":
            who = f"replication slot {self.name} ({row['state']}, {'in use' if row['pid'] else 'nobody reads it'})"
        elif self.kind == "standby":
            who = f"standby {self.name or row['client'] or ''} (pid {row['pid']}), which reports what it still reads"
        else:
            query = without_literals(row["query"] or "", 120)
            who = f"pid {row['pid']} {row['role'] or ''} ({row['application'] or 'no application name'})"
            who += f", {row['state']}: {query}" if row["state"] else ", its state is hidden"
        for_ = f" for {span(row['transaction_seconds'])}" if row["transaction_seconds"] is not None else ""
        return f"{who}{for_}, {self.age:,.0f} transactions back"

    def cure(self) -> str:
        """Return what to do about it."""
        match self.kind:
            case "prepared":
                gid = literal(self.name)
                return f"COMMIT PREPARED {gid}; or ROLLBACK PREPARED {gid}; whichever its owner wants"
            case "slot":
                return (
                    "let its reader catch up, or, when nobody will read it any more,"
                    f" SELECT pg_drop_replication_slot({literal(self.name)});"
                )
            case "standby":
                return "end the long statement on the standby, or set hot_standby_feedback = off there"
        if str(self.row["application"] or "").startswith(("pg_dump", "upkeep", "pg_basebackup")):
            return "a running backup: vacuum when it has ended"
        return f"ask its owner, then SELECT pg_terminate_backend({self.row['pid']});"


def holders(rows: Sequence[Row], history: History, now: datetime) -> tuple[Holder, ...]:
    """Return who holds the horizon, the oldest first.

    Slots and standbys do not say since when. One that held the same id at an earlier look has held it since then.
    """
    before = history.latest("horizon.xmin") if rows else {}
    found = []
    for row in rows:
        kind = f"{row['kind']} catalog" if row["catalog"] else row["kind"]
        since = None if row["seconds"] is None else now - timedelta(seconds=row["seconds"])
        known = before.get(f"{kind} {row['name']}".strip())
        is_new = known is None or known.value != row["xmin"]
        if since is None and known is not None and not is_new:
            since = known.at
        found.append(Holder(row["kind"], row["name"] or "", row, since, is_new))
    return tuple(found)


def remembered(held: Sequence[Holder]) -> tuple[Measurement, ...]:
    """Return what the next runs must know about those that do not say since when they hold: only what is new."""
    return tuple(
        Measurement(
            name="horizon.xmin",
            value=h.row["xmin"],
            unit="xid",
            subject=f"{h.kind} catalog {h.name}" if h.row["catalog"] else h.subject,
        )
        for h in held
        if h.row["seconds"] is None and h.is_new
    )


def is_useless(table: Table, why: Need, held: Sequence[Holder]) -> Holder | None:
    """Return who makes a vacuum of a table useless, None when it is worth its while.

    Rows that died before the horizon went with the last vacuum that came after it. All that died since are held: as
    long as the horizon stands where it stood then, another vacuum reads much and removes nothing. Freezing, new rows
    and statistics are reasons of their own.
    """
    if any(r.code not in ("dead", "changes") for r in why.reasons) or not any(r.code == "dead" for r in why.reasons):
        return None
    dead: list[Part | None] = [table.toast if r.toast else table.main for r in why.reasons if r.code == "dead"]
    for holder in held:
        if (
            holder.since is not None
            and (table.is_system or not holder.row["catalog"])
            and all(p is not None and p.vacuumed_at is not None and p.vacuumed_at > holder.since for p in dead)
        ):
            return holder
    return None


def judge(
    held: Sequence[Holder], waiting: Mapping[str, float], limit: Threshold, freeze_age: float, now: datetime
) -> Judgement:
    """Judge who holds the horizon.

    :param waiting: dead rows of the tables that are to be vacuumed for them.
    :param limit: seconds for which one may hold it while there is something to remove.
    :param freeze_age: the age of ids that must be frozen; held at that age, it is critical whatever else.
    """
    judgement = Judgement(
        measurements=(
            Measurement(name="horizon.age", value=max((h.age for h in held), default=0.0), unit="xids"),
            *remembered(held),
        )
    )
    found: dict[str, Finding] = {}
    for holder in held:
        for finding in _finding(holder, waiting, limit, freeze_age, now):
            found.setdefault(finding.subject, finding)
    return judgement + Judgement(findings=tuple(found.values()))


def _finding(
    holder: Holder, waiting: Mapping[str, float], limit: Threshold, freeze_age: float, now: datetime
) -> tuple[Finding, ...]:
    held_for = _held_for(holder, now)
    severity, crossed = limit.crossed(held_for) if waiting and not holder.row["catalog"] else (Severity.OK, None)
    if waiting and holder.kind == "slot" and not holder.row["pid"] and not holder.row["catalog"]:
        severity = max(severity, Severity.WARNING, key=lambda s: s.rank)
    if holder.age > freeze_age:
        severity = Severity.CRITICAL
    if severity is Severity.OK:
        return ()
    tables = sorted(waiting, key=lambda name: -waiting[name])
    message = f"dead rows cannot be removed: {holder.story()}"
    if tables:
        more = f" and {len(tables) - _NAMED} more" if len(tables) > _NAMED else ""
        named = ", ".join(f"{name} ({waiting[name]:,.0f})" for name in tables[:_NAMED])
        message += f". Tables that need vacuum for their dead rows: {named}{more}"
    return (
        Finding(
            check="horizon",
            subject=holder.subject,
            severity=severity,
            message=message,
            observed=span(held_for) if crossed is not None else f"{holder.age:,.0f} transactions",
            limit=span(crossed) if crossed is not None else "",
            hint=holder.cure(),
        ),
    )


def _held_for(holder: Holder, now: datetime) -> float:
    """Return for how long it holds, in seconds; 0 when nobody knows."""
    seconds = holder.row["transaction_seconds"]
    if seconds is not None:
        return float(seconds)
    return (now - holder.since).total_seconds() if holder.since else 0.0
