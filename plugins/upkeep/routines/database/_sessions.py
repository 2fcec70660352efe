"""Connections, long-running statements, idle and prepared transactions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from upkeep.core.model import Finding, Judgement, Measurement, Severity, Threshold
from upkeep.core.sql_text import without_literals
from upkeep.routines.database._seen import Row, Seen, judged, measured, percent, worst_by_key
from upkeep.routines.database._settings import Settings
from upkeep.routines.database._text import literal, span


def judge(seen: Seen, settings: Settings) -> Judgement:
    """Judge who is connected and what they leave open."""
    limits = {"query": settings.long_query, "idle": settings.idle_in_transaction}
    late = [f for row in seen.rows("sessions") for f in _late(row, limits[row["kind"]])]
    findings = [*_by_role(late), *_prepared(seen.rows("prepared"), settings.prepared)]
    counted = Judgement(measurements=_activity(seen), findings=tuple(findings))
    return _connections(seen.rows("connections"), settings.connections) + counted


def _activity(seen: Seen) -> tuple[Measurement, ...]:
    """Return how many clients of the server are at work or idle in a transaction; hidden ones cannot be counted."""
    server = next((row for row in seen.rows("connections") if row["scope"] == "server"), None)
    if server is None or not seen.row("server").get("sees_sessions"):
        return ()
    numbers = measured("sessions.active", server["active"], "sessions")
    return numbers + measured("sessions.idle_in_transaction", server["idle_in_transaction"], "sessions")


def _connections(rows: Sequence[Row], threshold: Threshold) -> Judgement:
    judgement = Judgement()
    for row in rows:
        used, usable = float(row["used"]), float(row["usable"])
        subject = "" if row["scope"] == "server" else f"{row['scope']} {row['name']}"
        share = used / usable if usable > 0 else 1.0
        found = judged(
            "connections",
            subject,
            threshold,
            share * 100,
            message=f"{used:.0f} of {usable:.0f} usable connections{f' of {subject}' if subject else ''} are taken",
            hint="find who keeps them: SELECT usename, application_name, state, count(*) FROM pg_stat_activity GROUP BY"
            " 1, 2, 3 ORDER BY 4 DESC; then pool connections, or raise the limit",
            say=percent,
        )
        numbers = measured("connections.used_ratio", share, "1", subject)
        if not subject:
            numbers += measured("connections.used", used, "connections")
            numbers += measured("connections.usable", usable, "connections")
        judgement += Judgement(measurements=numbers, findings=found)
    return judgement


def _late(row: Row, threshold: Threshold) -> tuple[Finding, ...]:
    who = f"pid {row['pid']} of role {row['role']} ({row['application'] or 'no application name'})"
    text = without_literals(row["query"] or "")
    if row["kind"] == "query":
        waits = f", waits for {row['wait_event_type']}/{row['wait_event']}" if row["wait_event"] else ""
        return judged(
            "long_query",
            row["role"],
            threshold,
            row["seconds"],
            message=f"{who} has run one statement for {span(row['seconds'])}{waits}: {text}",
            hint=f"if nobody needs it: SELECT pg_cancel_backend({row['pid']}); then look at its plan",
            say=span,
        )
    keeps = (
        f"keeps rows of the last {row['xmin_age']} transactions from being vacuumed, and" if row["holds"] else "keeps"
    )
    return judged(
        "idle_in_transaction",
        row["role"],
        threshold,
        row["seconds"],
        message=f"{who} has been {row['state']} for {span(row['seconds'])}; it {keeps} its locks."
        f" Last statement: {text}",
        hint=f"end it: SELECT pg_terminate_backend({row['pid']}); and let the application end its transactions, or set"
        " idle_in_transaction_session_timeout for the role",
        say=span,
        at_most=Severity.CRITICAL if row["holds"] else Severity.INFO,
    )


def _by_role(late: list[Finding]) -> tuple[Finding, ...]:
    """Make one finding of each role's sessions: the worst speaks, the others are counted."""

    def key(finding: Finding) -> tuple[str, str]:
        return finding.check, finding.subject

    found = []
    for _, group in groupby(sorted(late, key=key), key):
        sessions = list(group)
        worst = worst_by_key(sessions)[0]
        more = f" (and {len(sessions) - 1} more of this role)" if len(sessions) > 1 else ""
        found.append(worst.model_copy(update={"message": worst.message + more}))
    return tuple(found)


def _prepared(rows: Sequence[Row], threshold: Threshold) -> tuple[Finding, ...]:
    found: list[Finding] = []
    for row in rows:
        found += judged(
            "prepared",
            row["role"],
            threshold,
            row["seconds"],
            message=f"transaction {row['gid']} of role {row['role']} was prepared {span(row['seconds'])} ago and not"
            f" ended ({row['total']} such in all): it keeps its locks and the rows of {row['xid_age']} transactions",
            hint=f"ask its transaction manager; then COMMIT PREPARED {literal(row['gid'])}; or ROLLBACK PREPARED",
            say=span,
        )
    return worst_by_key(found)
