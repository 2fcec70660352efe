"""Unused indexes: nobody scanned them on any server for long enough, and that is proved.

The server's counters know neither when an index was made nor what happened before they were last reset. So every run
keeps, for each index without a scan, for how many days that is proved (`index.unused_days`), and the next one adds the
days since. A reset in between costs the days that nobody counted; an index made anew begins again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from upkeep.core.job import History, Point
from upkeep.core.model import Finding, Judgement, Severity
from upkeep.routines.database._index_seen import Review, counted, labelled, limited
from upkeep.routines.database._index_settings import Settings
from upkeep.routines.database._seen import Row, judged, measured
from upkeep.routines.database._text import byte_size

_DAY = 86_400.0
# All measurements of a run carry one time; clocks of two tries do not matter at this size.
_SAME_RUN = timedelta(minutes=1)


@dataclass(frozen=True)
class Idle:
    """An index that no server has scanned, for `proved` days; `told` is what the statistics say of themselves."""

    row: Row
    proved: float
    told: float
    last_scan: datetime | None


@dataclass(frozen=True)
class Clock:
    """What is known about time: now, the start of the youngest statistics, and the run before this one."""

    now: datetime
    since: datetime
    last_run: Point | None
    unused: Mapping[str, Point]

    def proved(self, row: Row) -> float:
        """Return for how many days it is proved that an index was there and not scanned."""
        if self.last_run is None or self._made_since(row):
            return 0.0
        counted_days = _days(self.now - self.since)
        kept = self.unused.get(labelled(row))
        if kept is None or abs(kept.at - self.last_run.at) > _SAME_RUN:
            return min(counted_days, _days(self.now - self.last_run.at))
        if self.since <= kept.at:
            return kept.value + _days(self.now - kept.at)
        return kept.value + counted_days

    def _made_since(self, row: Row) -> bool:
        return self.last_run is not None and row["made"] >= self.last_run.value


def judge(
    review: Review, settings: Settings, history: History, needless: Iterable[int]
) -> tuple[Judgement, frozenset[int]]:
    """Judge the indexes without scans; return also the object ids of those that nobody needs.

    :param needless: object ids of those that are reported already, as duplicates.
    """
    server = review.seen.row("index_server")
    troubles = Judgement(findings=tuple(_troubled(review)))
    if not server or not server["counting"]:
        return troubles + Judgement(findings=_uncounted() if server else ()), frozenset()
    troubles += Judgement(measurements=measured("index.xid", server["xid"], "xids"))
    gone = set(needless)
    rows = [row for row in review.seen.rows("index_unused") if row["oid"] not in gone]
    rows = [row for row in rows if not _scanned(row, review, settings, server["now"])]
    if reason := _unsettled(review):
        return troubles + Judgement(findings=_undecided(rows, reason)), frozenset()
    clock = _clock(review, history)
    idle = [_idle(row, clock, review) for row in rows]
    told = [i for i in idle if max(i.proved, i.told) >= settings.unused_days]
    numbers = tuple(m for i in idle for m in measured("index.unused_days", i.proved, "days", labelled(i.row)))
    findings = limited([f for i in told for f in _found(i, review, settings)], settings.top)
    early = _early([i for i in idle if i not in told], settings.unused_days)
    judgement = Judgement(measurements=numbers, findings=findings + early)
    return troubles + counted("unused", [i.row for i in told]) + judgement, frozenset(i.row["oid"] for i in told)


def _clock(review: Review, history: History) -> Clock:
    return Clock(
        review.seen.row("index_server")["now"],
        max(_starts(review)),
        history.last("index.xid"),
        history.latest("index.unused_days"),
    )


def _starts(review: Review) -> list[datetime]:
    """Return when the statistics of every server asked began; of one that does not say there is none."""
    seen = [review.seen, *(r.seen for r in review.replicas if not r.trouble)]
    starts = [s.row("index_server")["since"] for s in seen]
    return [] if None in starts else starts


def _found(idle: Idle, review: Review, settings: Settings) -> tuple[Finding, ...]:
    row, proved = idle.row, idle.proved >= settings.unused_days
    expressions = "; the planner's statistics on its expression would go with it" if row["expressions"] else ""
    if idle.last_scan is not None:
        how = f"was last scanned {idle.proved:.0f} days ago"
    elif proved:
        how = f"was not scanned in {idle.proved:.0f} days in which it was watched"
    else:
        how = (
            f"was not scanned since the statistics began {idle.told:.0f} days ago; a younger index would look the same,"
            f" and this one is watched for {idle.proved:.0f} of {settings.unused_days:.0f} days so far"
        )
    return judged(
        "unused",
        labelled(row),
        settings.needless_bytes,
        row["bytes"],
        message=f"index {labelled(row)} on {row['table']} ({byte_size(row['bytes'])}) {how}{expressions}",
        hint=review.drop_hint(row["oid"]),
        say=byte_size,
        at_most=Severity.CRITICAL if proved else Severity.INFO,
    )


def _early(idle: Sequence[Idle], days: float) -> tuple[Finding, ...]:
    if not idle:
        return ()
    age = max(max(i.proved, i.told) for i in idle)
    message = (
        f"too early to tell: {_some(i.row for i in idle)} not scanned so far, but that is known for"
        f" {age:.0f} days only, and it takes {days:.0f}"
    )
    hint = "wait: every run adds to what is known; `unused_days` of database.index_review is the time it takes"
    return (Finding(check="unused", subject="too early", severity=Severity.INFO, message=message, hint=hint),)


def _undecided(rows: Sequence[Row], reason: str) -> tuple[Finding, ...]:
    if not rows:
        return ()
    message = f"{reason}, so nobody can tell whether they are used: {_some(rows)} not scanned here"
    hint = "list a connection to every standby in `replica_conn_ids` of database.index_review; drop none of them before"
    return (Finding(check="unused", subject="undecided", severity=Severity.INFO, message=message, hint=hint),)


def _some(rows: Iterable[Row], most: int = 5) -> str:
    names = [labelled(row) for row in rows]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more} {'was' if len(names) == 1 else 'were'}"


def _unsettled(review: Review) -> str:
    """Return why scans may have been counted where nobody asked, empty when all were asked."""
    if any(replica.trouble for replica in review.replicas):
        return "not every standby could be asked"
    if review.seen.row("index_server")["in_recovery"]:
        return "this is a standby, and its primary counts scans of its own"
    asked = [r.seen for r in review.replicas if not r.trouble]
    connected = sum(s.row("index_server")["standbys"] for s in (review.seen, *asked))
    if connected > len(asked):
        return f"{connected} standbys are connected and {len(asked)} of them were asked"
    if not _starts(review):
        return "a server does not say when its statistics began"
    return ""


def _troubled(review: Review) -> Iterable[Finding]:
    for replica in review.replicas:
        if replica.trouble:
            yield Finding(
                check="replica",
                subject=replica.conn_id,
                severity=Severity.UNKNOWN,
                message=f"standby {replica.conn_id}: {replica.trouble}; what is scanned there is unknown",
                hint=f"bring it back, or correct the Airflow connection {replica.conn_id}, or take it out of"
                " `replica_conn_ids` of database.index_review",
            )


def _uncounted() -> tuple[Finding, ...]:
    message = "track_counts is off: no scan is counted, and autovacuum sees nothing to do"
    hint = "ALTER SYSTEM SET track_counts = on; SELECT pg_reload_conf();"
    return (Finding(check="unused", subject="track_counts", severity=Severity.UNKNOWN, message=message, hint=hint),)


def _scanned(row: Row, review: Review, settings: Settings, now: datetime) -> bool:
    """Tell whether a standby scanned the index (lately, where the time of the last scan is known)."""
    for part in _elsewhere(row, review):
        known = part["last_scan"] is not None and settings.unused_days > 0
        if part["scans"] and not (known and _days(now - part["last_scan"]) >= settings.unused_days):
            return True
    return False


def _elsewhere(row: Row, review: Review) -> list[Row]:
    parts = set(row["parts"])
    return [part for r in review.replicas for part in r.seen.rows("index_scans") if part["oid"] in parts]


def _idle(row: Row, clock: Clock, review: Review) -> Idle:
    scans = [row["last_scan"], *(part["last_scan"] for part in _elsewhere(row, review))]
    last = max((scan for scan in scans if scan is not None), default=None)
    if last is not None:
        days = _days(clock.now - last)
        return Idle(row, days, days, last)
    return Idle(row, clock.proved(row), _days(clock.now - clock.since), None)


def _days(span: timedelta) -> float:
    return max(0.0, span.total_seconds() / _DAY)
