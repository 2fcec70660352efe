"""Whether pg_stat_statements can be asked at all, and what it cannot tell."""

from __future__ import annotations

from collections.abc import Sequence

from upkeep.core.job import Failed
from upkeep.core.model import Finding, Severity
from upkeep.routines.database._seen import Row
from upkeep.routines.database._statements_spell import Before
from upkeep.routines.database._text import literal, quoted

_EXTENSION = "pg_stat_statements"


def missing(source: Row) -> tuple[Finding, ...]:
    """Return why there are no statistics of statements, with the cure; none when there are."""
    seen, cure = _gap(source)
    if not seen:
        return ()
    return (_unknown("statistics", f"slow statements are unknown: {seen}", cure),)


def _gap(source: Row) -> tuple[str, str]:
    create = f"in database {source['database']}: CREATE EXTENSION {_EXTENSION};"
    if source["in_recovery"]:
        create = f"on the primary, {create}"
    if source["installed"] is None and source["offered"] is None and not source["loaded"]:
        return f"the server has no extension {_EXTENSION}", (
            f"install PostgreSQL's contrib package, then {_preload(source)}, restart, and {create}"
        )
    if not source["loaded"]:
        then = "" if source["installed"] else f", then {create}"
        return f"the server was started without the library {_EXTENSION}", f"{_preload(source)} and restart{then}"
    if source["installed"] is None:
        return f"the extension {_EXTENSION} is not created in this database", create
    if not source["may_use"]:
        return f"role {source['role']} may not use schema {source['schema']}, where {_EXTENSION} is", (
            f"GRANT USAGE ON SCHEMA {quoted(source['schema'])} TO {quoted(source['role'])};"
        )
    for setting, off, on in (("pg_stat_statements.track", "none", "top"), ("compute_query_id", "off", "auto")):
        if source[setting.rpartition(".")[2]] == off:
            return f"{setting} is {off}: nothing is counted", f"{_set(setting, literal(on))} SELECT pg_reload_conf();"
    return "", ""


def _preload(source: Row) -> str:
    if source["preloaded"] is None:
        return f"add {_EXTENSION} to shared_preload_libraries"
    libraries = [name.strip().strip('"') for name in source["preloaded"].split(",") if name.strip()]
    wanted = dict.fromkeys([*libraries, _EXTENSION])
    return _set("shared_preload_libraries", ", ".join(map(literal, wanted)))


def _set(setting: str, value: str) -> str:
    return f"ALTER SYSTEM SET {setting} = {value};"


def unreadable(source: Row, failed: Failed) -> Finding:
    """Return the finding of a look that failed."""
    role = quoted(source.get("role", "upkeep"))
    cures = {
        "timeout": "the server is slow today: look at its load, or raise `statement_timeout` of database.slow_queries",
        "locked": "somebody changes the extension: run it again later",
    }
    view = f"{quoted(source.get('schema') or 'public')}.{_EXTENSION}"
    granted = f"GRANT EXECUTE ON FUNCTION {view}(boolean) TO {role}; GRANT SELECT ON {view}_info TO {role};"
    hint = granted if failed.reason == "privilege" else cures.get(failed.reason, "read the server's log")
    return _unknown("statistics", f"slow statements are unknown: {failed.message}", hint)


def limits(source: Row, rows: Sequence[Row], before: Before) -> tuple[Finding, ...]:
    """Return what the statistics leave out."""
    first = rows[0] if rows else {}
    return (*_hidden(source, first), *_evicted(source, first, before), *_old(source))


def _hidden(source: Row, first: Row) -> tuple[Finding, ...]:
    if not first.get("hidden"):
        return ()
    message = (
        f"role {source['role']} may not see {first['hidden']} of {first['entries']} statements, those of other roles:"
        " whether they are slow is unknown"
    )
    return (_unknown("privilege", message, f"GRANT pg_read_all_stats TO {quoted(source['role'])};"),)


def _evicted(source: Row, first: Row, before: Before) -> tuple[Finding, ...]:
    now = first.get("dealloc")
    if now is None or before.dealloc is None or now <= before.dealloc:
        return ()
    return (
        Finding(
            check="evicted",
            subject="",
            severity=Severity.INFO,
            message=f"{_EXTENSION} ran out of room {now - before.dealloc:,.0f} times since the last run and dropped the"
            f" least used of its {source['entries_max']} statements: rare slow ones may be missing",
            observed=f"{now - before.dealloc:,.0f}",
            hint=f"{_set('pg_stat_statements.max', str(2 * source['entries_max']))} and restart; many statements that"
            " differ only in the length of a list: let the application pass an array",
        ),
    )


def _old(source: Row) -> tuple[Finding, ...]:
    if source["offered"] is None or _version(source["installed"]) >= _version(source["offered"]):
        return ()
    return (
        Finding(
            check="extension_version",
            subject="",
            severity=Severity.INFO,
            message=f"{_EXTENSION} is at version {source['installed']}, as before an upgrade of the server, which has"
            f" {source['offered']}: newer ones tell more, such as when a statement's counters began",
            observed=source["installed"],
            limit=source["offered"],
            hint=f"in database {source['database']}: ALTER EXTENSION {_EXTENSION} UPDATE;",
        ),
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _unknown(check: str, message: str, hint: str) -> Finding:
    return Finding(check=check, subject="", severity=Severity.UNKNOWN, message=message, hint=hint)
