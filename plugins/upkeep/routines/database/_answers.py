"""Is the database reachable, does it answer quickly, and what could not be seen."""

from __future__ import annotations

import statistics

from upkeep.core.job import Failed
from upkeep.core.model import Finding, Judgement, Severity
from upkeep.routines.database._seen import Seen, judged, measured
from upkeep.routines.database._settings import Settings
from upkeep.routines.database._text import quoted

# Which check a statement that fails leaves open, and what it would have shown.
QUESTIONS = {
    "ping": ("query_time", "the time of SELECT 1"),
    "server": ("reachable", "the server's settings"),
    "connections": ("connections", "connections in use"),
    "sessions": ("long_query", "long-running statements and idle transactions"),
    "blocked": ("blocked", "who waits for whom"),
    "prepared": ("prepared", "prepared transactions"),
    "wraparound": ("wraparound", "the age of transaction ids"),
    "size": ("size", "the size of the database"),
    "tables": ("size", "the sizes of tables"),
    "statistics": ("checksum", "checksum failures and the cache hit ratio"),
    "replicas": ("replication", "connected standbys"),
    "recovery": ("replication", "the state of recovery"),
    "slots": ("slot", "replication slots"),
    "sequences": ("sequence", "the fill of sequences"),
}


def judge(seen: Seen, settings: Settings) -> Judgement:
    """Judge reachability, response time and privileges."""
    findings = [*_reachable(seen), *_slow(seen, settings), *_hidden(seen)]
    findings += [_undetermined(name, failed, seen) for name, failed in seen.failed.items()]
    measurements = measured("connect.time", seen.connect_ms, "ms")
    if seen.pings:
        measurements += measured("query_time.median", statistics.median(seen.pings), "ms")
        measurements += measured("query_time.p95", percentile(seen.pings, 95), "ms")
    return Judgement(measurements=measurements, findings=tuple(findings))


def percentile(values: tuple[float, ...], p: float) -> float:
    """Return the nearest-rank percentile: the least value that at least `p` percent do not exceed.

    >>> percentile((1, 2, 3, 4), 50), percentile((1, 2, 3), 95)
    (2, 3)
    """
    rank = -(-len(values) * p // 100)
    return sorted(values)[max(int(rank), 1) - 1]


def _reachable(seen: Seen) -> list[Finding]:
    if not seen.lost:
        return []
    if seen.connect_ms is None:
        message, hint = seen.lost, "start the server, or find what keeps this machine from it (network, firewall, DNS)"
    else:
        open_ = [what for name, (_, what) in QUESTIONS.items() if not _answered(seen, name)]
        message = f"{seen.place}: connected, then lost: {seen.lost}. Not seen: {', '.join(open_) or 'nothing'}"
        hint = "read the server's log: it was stopped, it crashed, or somebody ended our session"
    return [Finding(check="reachable", subject="", severity=Severity.CRITICAL, message=message, hint=hint)]


def _answered(seen: Seen, name: str) -> bool:
    return isinstance(seen.answers.get(f"database/{name}"), list)


def _slow(seen: Seen, settings: Settings) -> tuple[Finding, ...]:
    if not seen.pings:
        return ()
    middle, tail = statistics.median(seen.pings), percentile(seen.pings, 95)
    return judged(
        "query_time",
        "",
        settings.query_time,
        middle,
        message=f"SELECT 1 takes {middle:.1f} ms (median of {len(seen.pings)}, 95 % within {tail:.1f} ms)",
        hint="look at the load of server and network; such a statement reads no table",
        say="{:.1f} ms".format,
    )


def _hidden(seen: Seen) -> list[Finding]:
    """Without pg_monitor the server hides other roles' sessions: no rows then means nothing."""
    server = seen.row("server")
    if not server or server["sees_sessions"]:
        return []
    return [
        Finding(
            check="privilege",
            subject="sessions",
            severity=Severity.UNKNOWN,
            message=f"role {server['role']} may not see what other roles' sessions do: long-running statements, idle"
            " transactions, the lag of standbys, and the state and text of those who block others are unknown",
            hint=f"GRANT pg_monitor TO {quoted(server['role'])};",
        )
    ]


def _undetermined(name: str, failed: Failed, seen: Seen) -> Finding:
    check, what = QUESTIONS[name]
    if failed.reason == "privilege":
        role = seen.row("server").get("role", "upkeep")
        check, subject, hint = "privilege", name, f"GRANT pg_monitor TO {quoted(role)};"
    else:
        subject, hint = name, _CURES.get(failed.reason, "read the server's log; this statement works on 14 to 18")
    message = f"could not be determined: {what}: {failed.message}"
    return Finding(check=check, subject=subject, severity=Severity.UNKNOWN, message=message, hint=hint)


_CURES = {
    "timeout": "the server is slow today: look at its load, or raise `statement_timeout` of database.health",
    "locked": "somebody changes tables: run it again later, or raise `lock_timeout` of database.health",
}
