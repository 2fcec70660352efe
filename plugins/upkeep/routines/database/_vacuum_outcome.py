"""What became of a table: the outcome of its action, with the evidence of before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from upkeep.core.job import Failed, Ran
from upkeep.core.model import Finding, Measurement, Outcome, OutcomeStatus, Severity
from upkeep.core.sql_text import without_literals
from upkeep.routines.database import _vacuum_report
from upkeep.routines.database._need import Row
from upkeep.routines.database._text import byte_size, quoted, span
from upkeep.routines.database._vacuum_lane import Done, is_damage
from upkeep.routines.database._vacuum_look import CareJob
from upkeep.routines.database._vacuum_work import Work

# What took less is estimated well enough by what others took, and needs no memory of its own.
_REMEMBERED_SECONDS = 0.5
_STATE = ("heap", "toast", "indexes", "dead", "xid_age", "mxid_age")
_REPORT = ("removed", "unremovable", "pages_removed", "wal_bytes")
# Of each of many small tables that are put on record together.
COLUMNS = (
    *("table", "oid", "seconds", "bytes", "waited", "limit"),
    *(f"{key}_{when}" for key in _STATE for when in ("before", "after")),
    *_REPORT,
)
CARRIED = "carried over"
# Tables, functions, operators, types, schemas that a name does not lead to.
_UNFOUND = ("42P01", "42883", "42704", "3F000")
_UNFOUND_HINT = (
    "a function in an index or in statistics of it relies on a search_path, and autovacuum fails there as well: let its"
    " body name schemas, or ALTER FUNCTION ... SET search_path = ..."
)


def outcome(done: Done, job: CareJob) -> Outcome:
    """Return the outcome of a table that a lane has done, or could not do."""
    if isinstance(done.answer, Ran):
        if not _vacuum_report.was_done(done.answer.notices):
            return _refused(done, job)
        return _done(done, done.answer, job)
    if done.answer is None or done.answer.reason == "locked":
        return _locked(done, job)
    return _failed(done, done.answer, job)


def passed_over(work: Work, why: str) -> Outcome:
    """Return the outcome of a table that was not begun. One that is carried over has waited for one run more."""
    carried = why.startswith(CARRIED)
    evidence = {"table": work.name, "carried": carried, "waited": work.waited + 1} if carried else {"table": work.name}
    return Outcome(status=OutcomeStatus.SKIPPED, detail=why, evidence=evidence)


def together(parts: Sequence[Outcome]) -> Outcome:
    """Return one outcome for several small tables; its evidence tells of each."""
    states = [part.status for part in parts]
    status = OutcomeStatus.SKIPPED
    if OutcomeStatus.FAILED in states:
        status = OutcomeStatus.FAILED
    elif OutcomeStatus.DONE in states:
        status = OutcomeStatus.DONE
    counts = ", ".join(f"{states.count(s)} {s}" for s in OutcomeStatus if s in states)
    return Outcome(
        status=status,
        detail=f"{len(parts)} small tables: {counts}{_removed(parts)}",
        measurements=tuple(m for part in parts for m in part.measurements),
        findings=tuple(f for part in parts for f in part.findings),
        evidence={
            "columns": COLUMNS,
            "tables": [_short(p.evidence) for p in parts if p.status is OutcomeStatus.DONE],
            "others": [
                {"status": p.status, "detail": p.detail, **p.evidence}
                for p in parts
                if p.status is not OutcomeStatus.DONE
            ],
        },
    )


def _removed(parts: Sequence[Outcome]) -> str:
    """Return how many rows went, as far as the server has said so; a report that cannot be read is no 0."""
    reports = [part.evidence.get("report", {}) for part in parts if part.status is OutcomeStatus.DONE]
    known = [report["removed"] for report in reports if "removed" in report]
    if not known:
        return ""
    return f"; {sum(known):,.0f} rows removed" + (f" from {len(known)} of them" if len(known) < len(reports) else "")


def each(outcomes: Sequence[Outcome]) -> list[tuple[OutcomeStatus, dict[str, Any]]]:
    """Return, table by table, what became of it and the evidence."""
    found: list[tuple[OutcomeStatus, dict[str, Any]]] = []
    for one in outcomes:
        if "table" in one.evidence:
            found.append((one.status, one.evidence))
        found += [(OutcomeStatus.DONE, _long(row)) for row in one.evidence.get("tables", ())]
        found += [(OutcomeStatus(evidence["status"]), evidence) for evidence in one.evidence.get("others", ())]
    return found


def _short(evidence: Mapping[str, Any]) -> list[Any]:
    """Return the evidence of one of many tables as a row of `COLUMNS`: what totals and a look at it need."""
    flat = {**evidence, **evidence["report"]}
    for when in ("before", "after"):
        flat |= {f"{key}_{when}": value for key, value in evidence[when].items()}
    return [flat.get(column) for column in COLUMNS]


def _long(row: Sequence[Any]) -> dict[str, Any]:
    known = {column: value for column, value in zip(COLUMNS, row, strict=True) if value is not None}
    return {**known, "report": {key: known[key] for key in _REPORT if key in known}}


def _done(done: Done, ran: Ran, job: CareJob) -> Outcome:
    work, report = done.work, _vacuum_report.parse(ran.notices)
    before, after = _state(done.before), _state(done.after)
    if report["unremovable"] is not None:
        after["dead"] = int(report["unremovable"])  # the counters may lag behind
    evidence: dict[str, Any] = {
        "table": work.name,
        "oid": work.oid,
        "seconds": round(done.seconds, 3),
        "estimate": work.seconds,
        "bytes": work.bytes,
        "before": before,
        "after": after,
        "report": {name: value for name, value in report.items() if value is not None},
        "limit": work.dead_limit,
        "waited": work.waited,
    }
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=_told(done, report, before, after),
        evidence=evidence,
        measurements=_memory(work, done.seconds, job) if done.seconds >= _REMEMBERED_SECONDS else (),
    )


def _told(done: Done, report: _vacuum_report.Report, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return one line about a table that was done."""
    what = "written anew" if done.work.full else "vacuumed" if done.work.vacuum else "analyzed"
    parts = [f"{what} in {done.seconds:.2f} s"]
    if report["removed"] is not None:
        parts.append(f"{report['removed']:,.0f} rows removed")
    if report["unremovable"]:
        parts.append(f"{report['unremovable']:,.0f} dead rows had to stay")
    if done.work.freeze and before.get("xid_age") is not None and after.get("xid_age") is not None:
        parts.append(f"oldest id {before['xid_age']:,} -> {after['xid_age']:,}")
    if before.get("heap") and after.get("heap") is not None and before["heap"] != after["heap"]:
        parts.append(f"{byte_size(before['heap'])} -> {byte_size(after['heap'])}")
    return ", ".join(parts)


def _memory(work: Work, seconds: float, job: CareJob) -> tuple[Measurement, ...]:
    area = job.routine.rpartition(".")[2]
    subject = f"{work.name} vacuum full" if work.full else work.name
    return (
        Measurement(name=f"{area}.seconds", value=seconds, unit="s", subject=subject),
        Measurement(name=f"{area}.bytes", value=work.bytes, unit="bytes", subject=subject),
    )


def _state(row: Row | None) -> dict[str, Any]:
    return {key: row[key] for key in _STATE if row.get(key) is not None} if row else {}


def _refused(done: Done, job: CareJob) -> Outcome:
    """The server has only warned: nothing was done, whatever the command's success says."""
    said = _vacuum_report.warnings(done.answer.notices) if isinstance(done.answer, Ran) else ""
    finding = Finding(
        check="privilege",
        subject=done.work.name,
        severity=Severity.UNKNOWN,
        message=f"the server skipped {done.work.name}: {said or 'it said nothing about it'}",
        hint="on 17 and newer GRANT MAINTAIN ON the table, or pg_maintain, to the role of the maintenance connection;"
        " before that it must own the table or the database",
    )
    return Outcome(
        status=OutcomeStatus.SKIPPED, detail=finding.message, findings=(finding,), evidence={"table": done.work.name}
    )


def _locked(done: Done, job: CareJob) -> Outcome:
    work = done.work
    at_work = (done.before or {}).get("vacuumed_by")
    if at_work:
        return passed_over(work, f"process {at_work} is vacuuming it")
    if done.way:
        return _gave_way(done)
    who = "; ".join(_locker(row) for row in list(done.lockers)[:3]) or "whoever held it has let it go meanwhile"
    finding = Finding(
        check="locked",
        subject=work.name,
        severity=Severity.WARNING,
        message=f"{work.name} could not be {'vacuumed' if work.vacuum else 'analyzed'}: it was locked, and again at the"
        f" end of the run: {who}",
        observed=f"{done.seconds:.1f} s",
        limit=f"{job.settings.lock_timeout:g} s",
        hint="end what holds the lock, or let it be over before the maintenance window; the next run tries again",
    )
    waited = {"table": work.name, "carried": True, "waited": work.waited + 1, "locked": True}
    return Outcome(status=OutcomeStatus.SKIPPED, detail=finding.message, findings=(finding,), evidence=waited)


def _gave_way(done: Done) -> Outcome:
    work = done.work
    finding = Finding(
        check="gave_way",
        subject=work.name,
        severity=Severity.WARNING,
        message=f"{work.name} could not be {'vacuumed' if work.vacuum else 'analyzed'}: it was given up, and again at"
        f" the end of the run, because others waited for its lock: {done.way}",
        hint="let what changes tables run outside the maintenance window; the next run tries again",
    )
    waited = {"table": work.name, "carried": True, "waited": work.waited + 1, "locked": True}
    return Outcome(status=OutcomeStatus.SKIPPED, detail=finding.message, findings=(finding,), evidence=waited)


def _locker(row: Row) -> str:
    mode = row["mode"] + (f" on {row['below']}" if row["below"] else "")
    if row["pid"] is None:
        return f"a prepared transaction holds {mode}"
    verb = "holds" if row["granted"] else "waits for"
    who = f"pid {row['pid']} {row['role'] or row['backend_type'] or ''} ({row['application'] or 'no application name'})"
    since = f", in a transaction for {span(row['seconds'])}" if row["seconds"] is not None else ""
    query = without_literals(row["query"] or "", 120)
    return f"{who} {verb} {mode}{since}, {row['state'] or 'state hidden'}: {query}"


def _failed(done: Done, failed: Failed, job: CareJob) -> Outcome:
    work = done.work
    check, severity, hint = _verdict(failed, work, job)
    detail = f"{work.name}: {failed.message}" + (f" (SQLSTATE {failed.sqlstate})" if failed.sqlstate else "")
    if _is_gone(failed, work):
        return Outcome(status=OutcomeStatus.SKIPPED, detail=f"{work.name} is gone: {failed.message}")
    finding = Finding(check=check, subject=work.name, severity=severity, message=detail, hint=hint)
    return Outcome(
        status=OutcomeStatus.FAILED,
        detail=detail,
        findings=(finding,),
        evidence={"table": work.name, "sqlstate": failed.sqlstate, "seconds": round(done.seconds, 3)},
        # However long it took until it was ended: it takes at least that.
        measurements=_memory(work, done.seconds, job) if failed.reason == "timeout" else (),
    )


def _is_gone(failed: Failed, work: Work) -> bool:
    """Tell whether the table was dropped: it is the one that is missed, not one that a function in an index wants."""
    table, schema = f'"{work.schema}.{work.table}"', f'"{work.schema}"'
    return (failed.sqlstate == "42P01" and table in failed.message) or (
        failed.sqlstate == "3F000" and schema in failed.message
    )


def _verdict(failed: Failed, work: Work, job: CareJob) -> tuple[str, Severity, str]:
    """Return check, severity and cure of a failure."""
    if is_damage(failed):
        return (
            "damaged",
            Severity.CRITICAL,
            "data on disk are damaged: change nothing, keep every backup, check disks and memory; the server's log"
            " names file and block; restore the table from a backup older than the damage",
        )
    if failed.sqlstate == "53100":
        return "disk", Severity.CRITICAL, "free space on the server's volume at once; no further table was begun"
    if failed.reason == "timeout":
        hint = (
            f"somebody cancelled it, or it went {job.settings.overrun:g} min past the budget: give it more time_budget"
        )
        return "timeout", Severity.WARNING, hint
    if failed.reason == "gone":
        return (
            "ended",
            Severity.WARNING,
            "our session was ended twice in this table: read the server's log for who or what",
        )
    if failed.reason == "privilege":
        return "privilege", Severity.UNKNOWN, f"let the role of the maintenance connection vacuum {_sql(work)}"
    hint = _UNFOUND_HINT if failed.sqlstate in _UNFOUND else "read the server's log; the other tables were done"
    return "failed", Severity.WARNING, hint


def _sql(work: Work) -> str:
    return f"{quoted(work.schema)}.{quoted(work.table)}"
