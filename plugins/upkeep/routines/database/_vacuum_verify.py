"""What a run has come to: totals, what waits for the next one, and what needs it still."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from upkeep.core.model import Finding, Judgement, Measurement, Outcome, OutcomeStatus, Severity
from upkeep.routines.database._horizon import Holder
from upkeep.routines.database._vacuum_look import CareJob, Seen, look, wanted
from upkeep.routines.database._vacuum_outcome import each
from upkeep.routines.database._vacuum_settings import VacuumSettings

_NAMED = 5
# Before 15 counters travel by way of a process that brings them up to date twice a second.
_STATISTICS_SECONDS = 0.6


def verify(job: CareJob, seen: Seen, outcomes: Sequence[Outcome]) -> Judgement:
    """Judge what the outcomes say together, and look again at what was done."""
    told = each(outcomes)
    done = [evidence for status, evidence in told if status is OutcomeStatus.DONE]
    carried = [evidence for _, evidence in told if evidence.get("carried")]
    findings = [*_carried(carried, job), *_unremovable(done, seen, job)]
    findings += _still(job, seen, done) if done else []
    return Judgement(
        measurements=(*_totals(job, done, carried), *_waiting(job, done, carried)), findings=tuple(findings)
    )


def _totals(job: CareJob, done: Sequence[Any], carried: Sequence[Any]) -> Iterator[Measurement]:
    area = job.routine.rpartition(".")[2]
    seconds = sum(e.get("seconds", 0) for e in done)
    numbers: list[tuple[str, float, str]] = [
        ("done", len(done), "tables"),
        ("carried_over", len(carried), "tables"),
        ("time", seconds, "s"),
    ]
    read = sum(e.get("bytes", 0) for e in done)
    if seconds > 1 and read:
        numbers.append(("rate", read / seconds, "bytes/s"))
    for name, unit in (
        ("removed", "rows"),
        ("unremovable", "rows"),
        ("pages_removed", "pages"),
        ("wal_bytes", "bytes"),
    ):
        seen = [e["report"][name] for e in done if name in e["report"]]
        numbers += [(name, sum(seen), unit)] if seen else []
    for name, value, unit in numbers:
        yield Measurement(name=f"{area}.{name}", value=value, unit=unit)


def _waiting(job: CareJob, done: Sequence[Any], carried: Sequence[Any]) -> Iterator[Measurement]:
    """Remember who waits, and that those who had to have had their turn."""
    area = job.routine.rpartition(".")[2]
    waits = {e["table"]: e["waited"] for e in carried} | {e["table"]: 0 for e in done if e.get("waited")}
    for table, runs in waits.items():
        yield Measurement(name=f"{area}.waiting", value=runs, unit="runs", subject=table)


def _carried(carried: Sequence[Any], job: CareJob) -> Iterator[Finding]:
    left = [e for e in carried if not e.get("locked")]
    if not left:
        return
    left.sort(key=lambda e: (-e["waited"], e["table"]))
    severity, limit = job.settings.waiting.crossed(left[0]["waited"])
    late = [e for e in left if job.settings.waiting.crossed(e["waited"])[1] is not None]
    names = _list(f"{e['table']} ({e['waited']})" for e in (late or left))
    yield Finding(
        check="carried_over",
        subject="",
        severity=max(severity, Severity.INFO, key=lambda s: s.rank),
        message=f"{len(left)} tables that need it were carried over to the next run (how many runs in a row): {names}",
        observed=f"{left[0]['waited']} runs",
        limit="" if limit is None else f"{limit:g} runs",
        hint="give the routine more time (`time_budget`, the maintenance window) or more lanes (`parallel`); what waits"
        " longest comes first next time",
    )


def _unremovable(done: Sequence[Any], seen: Seen, job: CareJob) -> Iterator[Finding]:
    if not isinstance(job.settings, VacuumSettings):
        return
    stayed = {}
    for evidence in done:
        rows, limit = evidence["report"].get("unremovable"), evidence.get("limit")
        table = seen.tables.get(evidence["oid"])
        if table is not None and table.is_system:
            continue  # analyzing others at the same time leaves dead rows there, which our own lanes still hold
        severity, _ = job.settings.unremovable.crossed(100 * rows / limit) if rows and limit else (Severity.OK, None)
        if severity is not Severity.OK:
            stayed[evidence["table"]] = (severity, rows)
    if stayed:
        worst = sorted(stayed, key=lambda name: -stayed[name][1])
        names = _list(f"{name} ({stayed[name][1]:,.0f})" for name in worst)
        yield Finding(
            check="unremovable",
            subject="",
            severity=max((s for s, _ in stayed.values()), key=lambda s: s.rank),
            message=f"dead rows had to stay, for somebody might still see them: {names}. {_why(seen.held)}",
            observed=f"{sum(rows for _, rows in stayed.values()):,.0f} rows",
            hint="end what holds them (see `horizon`), then run the vacuum again",
        )


def _why(held: Sequence[Holder]) -> str:
    if not held:
        return "Nobody was seen to hold them before it began: a transaction that started since does"
    return "Held by " + "; ".join(h.story() for h in held[:2])


def _still(job: CareJob, seen: Seen, done: Sequence[Any]) -> list[Finding]:
    """Return a finding when tables that were done need it as before, by what autovacuum itself decides by."""
    if seen.server["version"] < 150_000:
        time.sleep(_STATISTICS_SECONDS)
    again = look(job)
    names = {e["oid"]: e for e in done}
    still = {}
    for wish in wanted(again, job):
        stayed = names.get(wish.oid, {}).get("report", {}).get("unremovable")
        reasons = [r for r in wish.need.reasons if r.ratio >= 1 and (r.code != "dead" or not stayed)]
        # Analyzing others leaves dead rows in the server's own tables.
        if wish.oid in names and reasons and not (wish.table and wish.table.is_system):
            still[wish.name] = "; ".join(r.text for r in reasons)
    if not still:
        return []
    tables = _list(f"{name} ({why})" for name, why in still.items())
    held = f" {_why(again.held)}." if again.held else ""
    return [
        Finding(
            check="still_needed",
            subject="",
            severity=Severity.WARNING,
            message=f"{len(still)} tables need it as much as before: {tables}.{held}",
            observed=str(len(still)),
            hint="either the application changes them faster than this, and autovacuum needs lower limits for them, or"
            " somebody holds their rows (see `horizon`)",
        )
    ]


def _list(items: Iterable[str]) -> str:
    every = list(items)
    return ", ".join(every[:_NAMED]) + (f" and {len(every) - _NAMED} more" if len(every) > _NAMED else "")
