"""What became of an action of `database.reindex`, in words that tell the next step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upkeep.core.job import Failed, Ran
from upkeep.core.model import Action, Finding, Measurement, Outcome, OutcomeStatus, Severity
from upkeep.routines.database._bloat import Bloat, told
from upkeep.routines.database._reindex_choice import DROPS
from upkeep.routines.database._reindex_seen import Index
from upkeep.routines.database._reindex_watch import Result
from upkeep.routines.database._text import byte_size, span

# A rebuild that saves less than this share had been promised more.
_WORTH_IT = 0.98
# https://www.postgresql.org/docs/current/errcodes-appendix.html: data_corrupted, index_corrupted
_DAMAGE = ("XX001", "XX002")
_DISK_FULL = "53100"
_DEADLOCK = "40P01"
_INTERRUPTED = (
    "interrupted", Severity.WARNING, ", it was interrupted",
    "it is done by the next run; the server's log tells who ended it",
)  # fmt: skip
_OTHER_FAILURE = ("failed", Severity.WARNING, "", "read the server's log")
# Check, severity, what is said, and the next step.
_FAILURES = {
    "damage": (
        "damage", Severity.CRITICAL, ": the server says that data are damaged",
        "keep all backups; check with pg_amcheck and checksums, look at the hardware, and restore",
    ),
    "full": (
        "space", Severity.CRITICAL, ": the disk is full",
        "the new index was dropped again; make room, correct `volume` of the system file",
    ),
    "privilege": (
        "privilege", Severity.UNKNOWN, "",
        "let the role of `maintenance_conn_id` own the table (GRANT its owner TO it), or GRANT MAINTAIN (17+)",
    ),
    "gone": _INTERRUPTED,
    "timeout": _INTERRUPTED,
}  # fmt: skip


@dataclass(frozen=True)
class After:
    """The index after the deed; `kept` are leftovers that could not be dropped, with the reason."""

    index: Index | None
    rebuilt: bool
    measured: Bloat | None = None
    kept: Mapping[str, str] = field(default_factory=dict)

    @property
    def index_is_old(self) -> bool:
        """Nothing has been gained."""
        return self.index is not None and not self.rebuilt


def in_the_way(result: Result) -> str:
    """Return who or what got in the way of a command; empty when it ended for another reason, or well."""
    if not isinstance(result.answer, Failed):
        return ""
    who = f": {result.who}" if result.who else ""
    match result.why:
        case "way":
            return "others began to wait for the lock that it held, and it gave way"
        case "lock":
            return f"the lock on the table was not to be had{who}"
        case "wait":
            return f"an older transaction did not end in {span(result.seconds)}{who}"
    passes = result.answer.reason == "locked" or result.answer.sqlstate == _DEADLOCK
    return f"{result.answer.message}{who}" if passes else ""


def outcome(action: Action, result: Result, after: After) -> Outcome:
    """Return what is kept of an action."""
    left = tuple(_leftover(action, name, why) for name, why in after.kept.items())
    if action.name in DROPS:
        return _dropped(action, result) if isinstance(result.answer, Ran) else _failed(action, result, left)
    if after.rebuilt and after.index is not None:
        return _rebuilt(action, result, after, after.index, left)
    if isinstance(result.answer, Ran):
        return _outcome(action, OutcomeStatus.FAILED, _gone_astray(action), result)
    return _failed(action, result, left)


def _rebuilt(action: Action, result: Result, after: After, index: Index, left: tuple[Finding, ...]) -> Outcome:
    before, seconds = int(action.details["bytes"]), max(result.seconds, 0.001)
    rate = float(action.details["work_bytes"]) / seconds
    wasted = after.measured.wasted_bytes if after.measured else None
    numbers = [("reindex.duration", seconds, "s"), ("reindex.rate", rate, "B/s"), ("index.size", index.bytes, "bytes")]
    if "collation" in action.details:
        numbers.append(("index.collation", action.details["collation"], "crc32"))
    evidence = {
        "bytes_before": before,
        "bytes_after": index.bytes,
        "wasted_before": action.details["wasted_bytes"],
        "wasted_after": wasted,
        "bloat_measured": action.details["bloat"],
        "rate": round(rate),
    }
    said = f"{byte_size(before)} before, {byte_size(index.bytes)} now, in {span(result.seconds)}"
    if after.measured is not None:
        said += f"; {told(after.measured)} is empty now"
    findings = left + ((_no_smaller(action, before, index),) if _is_no_smaller(action, before, index) else ())
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=f"{action.subject} was rebuilt: {said}",
        measurements=tuple(Measurement(name=n, value=v, unit=u, subject=action.subject) for n, v, u in numbers),
        findings=findings,
        evidence=_evidence(action, result) | evidence,
    )


def _is_no_smaller(action: Action, before: int, index: Index) -> bool:
    return bool(action.details["wasted_bytes"]) and action.details["valid"] and index.bytes > before * _WORTH_IT


def _no_smaller(action: Action, before: int, index: Index) -> Finding:
    return Finding(
        check="no_gain",
        subject=action.subject,
        severity=Severity.INFO,
        message=f"{action.subject} is no smaller than before ({byte_size(before)}, now {byte_size(index.bytes)}): its"
        f" bloat was {action.details['bloat']}, and it was not there or is there again",
        hint="let it be measured (pgstattuple, `measure_each_bytes`), or look who writes so much to it",
    )


def _dropped(action: Action, result: Result) -> Outcome:
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=f"{action.subject} was dropped in {span(result.seconds)}; it was: {action.details['definition']}",
        evidence=_evidence(action, result),
    )


def _failed(action: Action, result: Result, left: tuple[Finding, ...]) -> Outcome:
    if why := in_the_way(result):
        detail = f"{action.name} {action.subject} was given up: {why}"
        hint = "find out why it stays open so long, and end it; the next run tries again"
        return _outcome(
            action, OutcomeStatus.SKIPPED, _finding("blocked", action, Severity.WARNING, detail, hint), result, *left
        )
    found = _explain(action, result)
    made = _outcome(action, OutcomeStatus.FAILED, found, result, *left)
    if result.why == "overrun":
        # It is slower than this, so that the next estimate will not be as wrong.
        rate = float(action.details.get("work_bytes", 0)) / result.seconds
        number = Measurement(name="reindex.rate", value=rate, unit="B/s", subject=action.subject)
        return made.model_copy(update={"measurements": (number,) if rate else ()})
    return made


def _explain(action: Action, result: Result) -> Finding:
    """Return the finding of a command that failed, by the server's error code."""
    failed = result.answer
    assert isinstance(failed, Failed)
    if failed.sqlstate == "23505":
        return _duplicates(action)
    said = f"{action.subject} could not be {'dropped' if action.name in DROPS else 'rebuilt'}"
    if result.why == "overrun":
        message = f"{said}: not done after {span(result.seconds)}, beyond window or time budget, and was cancelled"
        hint = "give database.reindex more time for it, or rebuild it by hand"
        return _finding("time", action, Severity.WARNING, f"{message} (while {result.phase or 'at work'})", hint)
    kind = "damage" if failed.sqlstate in _DAMAGE else "full" if failed.sqlstate == _DISK_FULL else failed.reason
    check, severity, what, hint = _FAILURES.get(kind, _OTHER_FAILURE)
    return _finding(check, action, severity, f"{said}{what}: {failed.message} (SQLSTATE {failed.sqlstate})", hint)


def _duplicates(action: Action) -> Finding:
    table = f"{action.details['table_schema']}.{action.details['table']}"
    if action.details["valid"]:
        severity = Severity.CRITICAL
        message = (
            f"{action.subject} could not be rebuilt: table {table} holds rows with equal keys, which this unique index"
            " did not keep out. The index is damaged (or its collation changed), and so may be what relies on it"
        )
    else:
        severity = Severity.WARNING
        message = f"{action.subject} could not be built: table {table} holds rows with equal keys"
    hint = (
        "keep all backups. Find the rows without the index: SET enable_indexscan = off; SET enable_indexonlyscan = off;"
        " SET enable_bitmapscan = off; SELECT <its columns>, count(*) FROM the table GROUP BY ... HAVING count(*) > 1;"
        f" decide with their owner which to keep, then rebuild. Its definition: {action.details['definition']}"
    )
    return _finding("duplicates", action, severity, message, hint)


def _gone_astray(action: Action) -> Finding:
    return _finding(
        "failed",
        action,
        Severity.WARNING,
        f"{action.subject} was rebuilt, says the server, but there is no such valid index now",
        "look who renamed or dropped it meanwhile",
    )


def _leftover(action: Action, name: str, why: str) -> Finding:
    return Finding(
        check="leftover",
        subject=name,
        severity=Severity.WARNING,
        message=f"{name}, which the broken rebuild of {action.subject} left, could not be dropped: {why}",
        hint="the next run drops it; until then every write pays for it",
    )


def _finding(check: str, action: Action, severity: Severity, message: str, hint: str) -> Finding:
    return Finding(check=check, subject=action.subject, severity=severity, message=message, hint=hint)


def _outcome(action: Action, status: OutcomeStatus, found: Finding, result: Result, *more: Finding) -> Outcome:
    return Outcome(status=status, detail=found.message, findings=(found, *more), evidence=_evidence(action, result))


def _evidence(action: Action, result: Result) -> dict[str, Any]:
    """Return what is kept of every command; `stop` tells why nothing more is begun after it."""
    kept: dict[str, Any] = {"index": action.subject, "seconds": round(result.seconds, 2)}
    answer = result.answer
    if isinstance(answer, Failed):
        kept |= {"error": answer.message, "sqlstate": answer.sqlstate, "phase": result.phase}
        if answer.reason == "gone" or result.why == "blind":
            kept["stop"] = "our session was ended from outside: nothing more is begun in this run"
        elif answer.reason == "timeout" and result.why in ("", "overrun"):
            over = result.why == "overrun"
            kept["stop"] = "the time is over" if over else "somebody cancelled a rebuild: nothing more is begun"
        elif answer.sqlstate == _DISK_FULL:
            kept["stop"] = "the disk was full"
    return kept
