"""What stays after `database.reindex`: bloat, leftovers, changed collations, and what could not be seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from upkeep.core.model import Action, Finding, Judgement, Measurement, Outcome, OutcomeStatus, Severity
from upkeep.routines.database._reindex_choice import choose, is_unsafe, mark
from upkeep.routines.database._reindex_seen import ReindexJob, Seen, indexes, is_bloated, look
from upkeep.routines.database._reindex_settings import Settings
from upkeep.routines.database._text import byte_size

_UNSEEN = {
    "bloat_indexes": "the bloat of indexes",
    "bloat_measured_indexes": "the bloat of indexes, by measuring",
    "reindex_locked": "which tables were locked and not looked at",
    "reindex_collations": "whether collations have changed under indexes",
}
_CURES = {
    "privilege": "GRANT pg_monitor, pg_stat_scan_tables TO the role of `maintenance_conn_id`",
    "timeout": "lower `measure_each_bytes` or raise `measure_seconds` of database.reindex",
    "locked": "somebody changes tables: the next run asks again",
}


def judge(seen: Seen, settings: Settings) -> Judgement:
    """Judge before anything is done; bloat that is about to be cured is no finding, only a number."""
    bloated = [b for b in seen.bloat.values() if is_bloated(b, settings)]
    wasted = sum(b.wasted_bytes or 0 for b in bloated)
    findings = [c.finding for c in choose(seen, settings) if c.finding]
    return Judgement(
        measurements=(
            Measurement(name="indexes.bloated", value=len(bloated), unit="indexes"),
            Measurement(name="indexes.wasted", value=wasted, unit="bytes"),
        ),
        findings=(
            *findings,
            *_unsafe(seen),
            *_collations(seen),
            *_unmeasured(seen),
            *_locked(seen),
            *_undetermined(seen),
        ),
    )


def verify(job: ReindexJob, seen: Seen, outcomes: tuple[Outcome, ...]) -> Judgement:
    """Look again and judge what is left."""
    with look(job) as server:
        there = indexes(server)
    known = {o.evidence.get("index") for o in outcomes} | {
        f.subject for o in outcomes for f in o.findings if f.check == "leftover"
    }
    left = [i for i in there if i.is_leftover and not i.building and i.may_drop and i.name not in known]
    found = [
        Finding(
            check="leftover",
            subject=i.name,
            severity=Severity.WARNING,
            message=f"{i.name} is the invalid leftover of a rebuild of {i.base}, and is still there",
            hint="the next run drops it; until then every write pays for it",
        )
        for i in left
    ]
    actions = [c.action for c in choose(seen, job.settings) if c.action]
    return Judgement(findings=(*found, *_stays(seen, actions, outcomes)))


def _stays(seen: Seen, actions: Sequence[Action], outcomes: Sequence[Outcome]) -> Iterator[Finding]:
    """Yield what a run leaves bloated: what a person must approve, and what there was no time for.

    In a run that does only what was approved, the rest has no outcome and is none of its business.
    """
    ended = {str(o.evidence.get("index")): o for o in outcomes}
    for action in actions:
        outcome = ended.get(action.subject)
        if action.details.get("wasted_bytes") is None:
            continue
        if outcome is None and action.approval:
            yield _stays_bloated(action, Severity.INFO, f"its rebuild awaits approval: {action.approval}")
        elif outcome is not None and outcome.status is OutcomeStatus.SKIPPED and not outcome.findings:
            yield _stays_bloated(action, Severity.WARNING, outcome.detail)


def _stays_bloated(action: Action, severity: Severity, why: str) -> Finding:
    return Finding(
        check="bloat",
        subject=action.subject,
        severity=severity,
        message=f"{action.subject} stays bloated ({action.reason}): {why}",
        hint="approve it, or give database.reindex a longer window; worst come first in the next run",
    )


def _collations(seen: Seen) -> Iterator[Finding]:
    """Yield one finding for each collation whose rules have changed under indexes."""
    names = {i.oid: i.name for i in seen.indexes}
    for name in sorted({row["collation"] for row in seen.collations}):
        rows = [row for row in seen.collations if row["collation"] == name]
        row, some = rows[0], [names[r["oid"]] for r in rows if r["oid"] in names]
        open_ = [n for n in some if seen.rebuilt_for.get(n) != mark(row["actual"])]
        cure = f"ALTER {row['kind']} {name} REFRESH {'COLLATION ' if row['kind'] == 'DATABASE' else ''}VERSION;"
        yield Finding(
            check="collation",
            subject=name,
            severity=Severity.CRITICAL if open_ else Severity.WARNING,
            message=f"{row['kind'].lower()} {name} sorted by version {row['recorded']}, and sorts by {row['actual']}"
            f" now: {row['total']} indexes depend on it"
            + (f" and may miss rows or hold duplicates ({', '.join(open_[:5])})" if open_ else "; those were rebuilt"),
            observed=row["actual"],
            limit=row["recorded"],
            hint=f"approve the rebuilds that are proposed, then {cure}"
            if open_
            else f"check partition bounds and constraints that compare by it, then {cure}",
        )


def _unsafe(seen: Seen) -> Iterator[Finding]:
    if is_unsafe(seen):
        yield Finding(
            check="version",
            subject="",
            severity=Severity.CRITICAL,
            message=f"{seen.place}: nothing is rebuilt: CREATE INDEX and REINDEX CONCURRENTLY of PostgreSQL 14.0 to"
            f" 14.3 make damaged indexes (this is {seen.version // 10_000}.{seen.version % 10_000})",
            hint="upgrade to the newest 14, then check every index with pg_amcheck --heapallindexed",
        )


def _unmeasured(seen: Seen) -> Iterator[Finding]:
    """Yield one finding for all indexes of whose bloat nothing can be said."""
    unknown = sorted((b for b in seen.bloat.values() if b.how == "unknown"), key=lambda b: (-b.size_bytes, b.name))
    if not unknown:
        return
    some = ", ".join(f"{b.name} ({byte_size(b.size_bytes)}: {b.why})" for b in unknown[:3])
    yield Finding(
        check="unmeasured",
        subject="",
        severity=Severity.UNKNOWN,
        message=f"whether {len(unknown)} indexes of {byte_size(sum(b.size_bytes for b in unknown))} are bloated is"
        f" unknown, and they are not rebuilt: {some}",
        hint=seen.tool.cure or "raise `measure_each_bytes` or `measure_seconds` of database.reindex",
    )


def _locked(seen: Seen) -> Iterator[Finding]:
    for row in seen.locked:
        yield Finding(
            check="locked",
            subject=row["name"],
            severity=Severity.UNKNOWN,
            message=f"whether {row['indexes']} indexes of {row['name']} ({byte_size(row['bytes'])}) are bloated is"
            " unknown: somebody holds, or waits for, an ACCESS EXCLUSIVE lock on it, and we do not queue behind that",
            hint="SELECT * FROM pg_locks WHERE mode = 'AccessExclusiveLock'; the next run looks again",
        )


def _undetermined(seen: Seen) -> Iterator[Finding]:
    for statement, failed in seen.failed.items():
        if statement in _UNSEEN:
            yield Finding(
                check="unseen",
                subject=statement,
                severity=Severity.UNKNOWN,
                message=f"{seen.place}: could not be determined: {_UNSEEN[statement]}: {failed.message}",
                hint=_CURES.get(failed.reason, "read the server's log"),
            )
