"""What fills up, wears out or breaks: ids, sequences, checksums, sizes, the buffer cache."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from upkeep.core.job import History, Point
from upkeep.core.model import Finding, Judgement, Severity, Threshold
from upkeep.routines.database._seen import Row, Seen, judged, measured, percent, worst_by_key
from upkeep.routines.database._settings import Settings
from upkeep.routines.database._text import byte_size, quoted

# Ids are 32 bits wide and compared in a circle: half of them lie in the past.
# https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-WRAPAROUND
CEILING = 2.0**31


def judge(seen: Seen, settings: Settings, history: History) -> Judgement:
    """Judge ids, sequences, checksums, sizes and the cache."""
    return (
        _ids(seen, settings, history)
        + _sequences(seen, settings.sequence)
        + _checksums(seen)
        + _sizes(seen, settings.database_size)
        + _cache(seen.row("statistics"), settings, history)
    )


def _ids(seen: Seen, settings: Settings, history: History) -> Judgement:
    server = seen.row("server")
    judgement = Judgement()
    for check, name, age_column, freeze in (
        ("wraparound", "xid.age", "xid_age", server.get("freeze_max_age", 200_000_000)),
        ("multixact", "multixact.age", "mxid_age", server.get("multixact_freeze_max_age", 400_000_000)),
    ):
        before = history.latest(name) if seen.rows("wraparound") else {}
        for row in seen.rows("wraparound"):
            age = float(row[age_column])
            unit = "xids" if check == "wraparound" else "multixacts"
            found = _aged(check, row["database"], age, float(freeze), settings=settings, before=before)
            judgement += Judgement(measurements=measured(name, age, unit, row["database"]), findings=found)
    return judgement


def _aged(
    check: str, database: str, age: float, freeze: float, *, settings: Settings, before: Mapping[str, Point]
) -> tuple[Finding, ...]:
    """Judge an age against the ceiling and against the age at which autovacuum steps in; the worse one counts.

    Age is a sawtooth: while it falls, vacuum is at work, and a warning says no more than that.
    """
    falling = database in before and age < before[database].value
    message = (
        f"database {database}: the oldest {'transaction' if check == 'wraparound' else 'multixact'} id is {age:,.0f}"
        f" old, {age / CEILING:.1%} of what there is, {age / freeze:.0%} of the age at which autovacuum freezes"
        + (", and falling" if falling else "")
    )
    found: list[Finding] = []
    for threshold in (ceiling_limits(settings.wraparound, freeze), _share_of(settings.freeze_overdue, freeze)):
        found += judged(
            check,
            database,
            threshold,
            age,
            message=message,
            hint="end what holds rows back (old transactions, prepared ones, replication slots), then freeze:"
            f" vacuumdb --freeze --dbname={shlex.quote(database)}; at 2^31 the server refuses to write",
            say=lambda value: f"{value:,.0f}",
        )
    return tuple(_softened(finding) if falling else finding for finding in worst_by_key(found))


def ceiling_limits(percents: Threshold, freeze: float) -> Threshold:
    """Return limits in ids for limits in percent of 2^31.

    None lies below 105 % of autovacuum_freeze_max_age (an age that a healthy database reaches before every vacuum),
    and none above 95 % of the ceiling, however high that setting is.
    """

    def ids(limit: float | None) -> float | None:
        return None if limit is None else min(max(limit / 100 * CEILING, 1.05 * freeze), 0.95 * CEILING)

    return Threshold(info=ids(percents.info), warning=ids(percents.warning), critical=ids(percents.critical))


def _share_of(percents: Threshold, whole: float) -> Threshold:
    def share(limit: float | None) -> float | None:
        return None if limit is None else limit / 100 * whole

    return Threshold(info=share(percents.info), warning=share(percents.warning), critical=share(percents.critical))


def _softened(finding: Finding) -> Finding:
    return finding.model_copy(update={"severity": Severity.INFO}) if finding.severity is Severity.WARNING else finding


def _sequences(seen: Seen, threshold: Threshold) -> Judgement:
    rows = seen.rows("sequences")
    judgement = Judgement(findings=_unreadable(rows, seen.row("server").get("role", "upkeep")))
    named = 0
    for row in rows:
        found = judged(
            "sequence",
            row["name"],
            threshold,
            row["ratio"] * 100,
            message=f"sequence {row['name']} stands at {_whole(row['value'])} and ends at {_whole(row['last'])}",
            hint="after the last value every insert fails: make the column bigint (it rewrites the table, plan it), and"
            f" ALTER SEQUENCE {row['name']} AS bigint;",
            say=percent,
        )
        named += bool(found)
        judgement += Judgement(
            measurements=measured("sequence.used_ratio", row["ratio"], "1", row["name"]), findings=found
        )
    left = rows[0]["crossed"] - named if rows else 0
    return judgement + Judgement(findings=_others(left, judgement.findings) if left > 0 else ())


def _unreadable(rows: list[dict[str, Any]], role: str) -> tuple[Finding, ...]:
    if not rows or not rows[0]["hidden"]:
        return ()
    schemas = rows[0]["hidden_schemas"]
    grant = f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA {', '.join(schemas)} TO {quoted(role)};"
    message = f"role {role} may not read {rows[0]['hidden']} of {rows[0]['total']} sequences: their fill is unknown"
    found = Finding(check="privilege", subject="sequences", severity=Severity.UNKNOWN, message=message, hint=grant)
    return (found,)


def _others(count: int, named: tuple[Finding, ...]) -> tuple[Finding, ...]:
    mildest = min((f for f in named if f.check == "sequence"), key=lambda f: f.severity.rank)
    message = f"{count} more sequences are near their end"
    return (mildest.model_copy(update={"subject": "others", "message": message, "observed": str(count), "limit": ""}),)


def _whole(value: float | None) -> str:
    return "its start" if value is None else f"{value:,.0f}"


def _checksums(seen: Seen) -> Judgement:
    row, server = seen.row("statistics"), seen.row("server")
    if server.get("data_checksums") == "off":
        off = Finding(
            check="checksum",
            subject="disabled",
            severity=Severity.INFO,
            message="data checksums are off: damage by disks or memory goes unnoticed",
            hint="in a planned stop: pg_checksums --enable",
        )
        return Judgement(findings=(off,))
    judgement = Judgement()
    for subject, failures in (
        (server.get("database", "database"), row.get("checksum_failures")),
        ("shared objects", row.get("shared_failures")),
    ):
        found = (_damage(subject, failures),) if failures else ()
        judgement += Judgement(measurements=measured("checksum.failures", failures, "blocks", subject), findings=found)
    return judgement


def _damage(subject: str, failures: int) -> Finding:
    return Finding(
        check="checksum",
        subject=subject,
        severity=Severity.CRITICAL,
        message=f"{subject}: {failures} reads of blocks whose checksum is wrong: data on disk are damaged",
        observed=str(failures),
        limit="0",
        hint="change nothing and keep every backup; the server's log names file and block (`invalid page`, `page"
        " verification failed`); check disks and memory, restore from a backup older than the damage, and only then"
        " SELECT pg_stat_reset(); the count stays until then",
    )


def _sizes(seen: Seen, threshold: Threshold) -> Judgement:
    judgement = Judgement()
    for row in seen.rows("size"):
        found = judged(
            "size",
            "",
            threshold,
            row["bytes"],
            message=f"the database takes {byte_size(row['bytes'])} on disk",
            hint="the largest tables are among the measurements",
            say=byte_size,
        )
        judgement += Judgement(measurements=measured("database.size", row["bytes"], "bytes"), findings=found)
    tables = seen.rows("tables")
    numbers = tuple(m for row in tables for m in measured("table.size", row["bytes"], "bytes", row["name"]))
    return judgement + Judgement(measurements=numbers + measured("database.tables", *_count(tables)))


def _count(tables: list[dict[str, int]]) -> tuple[int | None, str]:
    return (tables[0]["total"] if tables else None), "tables"


def _cache(row: Row, settings: Settings, history: History) -> Judgement:
    """Judge the hit ratio since the last run. The counters are kept as measurements for the next one."""
    if not row:
        return Judgement()
    hit, read = row["blks_hit"], row["blks_read"]
    kept = Judgement(measurements=measured("cache.hit", hit, "blocks") + measured("cache.read", read, "blocks"))
    last_hit, last_read = history.last("cache.hit"), history.last("cache.read")
    if last_hit is None or last_read is None or (row["reset_at"] is not None and row["reset_at"] > last_hit.at):
        return kept
    hits, reads = hit - last_hit.value, read - last_read.value
    # A crash resets statistics as well, and before 15 it does not say so.
    if hits < 0 or reads < 0 or hits + reads < settings.cache_blocks:
        return kept
    ratio = hits / (hits + reads)
    found = judged(
        "cache_hit",
        "",
        settings.cache_hit,
        ratio * 100,
        message=f"{ratio:.1%} of {hits + reads:,.0f} block reads since the last run were found in shared buffers",
        hint="see whether slow statements read whole tables; then whether shared_buffers fits the working set",
        say=percent,
    )
    return kept + Judgement(measurements=measured("cache.hit_ratio", ratio, "1"), findings=found)
