"""What waits for a restart, what is wrong in the files, what roles and databases override, and how checkpoints go."""

from __future__ import annotations

from dataclasses import replace

from upkeep.core.job import History
from upkeep.core.model import Finding, Judgement, Measurement, Severity
from upkeep.routines.database._review_rules import RULES
from upkeep.routines.database._review_seen import Review, Value, source
from upkeep.routines.database._review_settings import Settings
from upkeep.routines.database._seen import Row, judged, measured, percent
from upkeep.routines.database._text import literal, quoted

NAMES = ("max_wal_size",)
# What is important enough to be told when only some sessions have it otherwise, and how it should be.
_ALONE = {
    "default_transaction_read_only": ("off", Severity.INFO, "its sessions cannot write; right for readers only"),
    "session_replication_role": ("origin", Severity.WARNING, "triggers and foreign keys are not enforced"),
}
_GENERAL = ("idle_in_transaction_session_timeout",)  # no limit for one role is what a dump may need


def judge(review: Review, settings: Settings, history: History) -> Judgement:
    """Judge restarts, files, overrides and checkpoints."""
    findings = [*_restarts(review), *_errors(review), *_overrides(review)]
    return Judgement(findings=tuple(findings)) + _checkpoints(review, settings, history)


def _restarts(review: Review) -> list[Finding]:
    lines = {row["name"].lower(): row for row in review.seen.rows("settings_files") if row["name"]}
    waiting = (v for v in review.values.values() if v.pending_restart)
    return [_restart(value, lines.get(value.name.lower()), review) for value in waiting]


def _restart(value: Value, line: Row | None, review: Review) -> Finding:
    if line is not None:
        waits = f"{line['setting']} in {line['sourcefile']}:{line['sourceline']}"
    elif review.server.get("sees_files"):
        waits = f"its default {value.boot_val}: its line was taken out of the files"
    else:
        waits = "another value, which only a superuser may read (SELECT * FROM pg_file_settings)"
    auto = line is not None and str(line["sourcefile"]).endswith("postgresql.auto.conf")
    back = f"ALTER SYSTEM SET {value.name} = {literal(value.shown)}; SELECT pg_reload_conf();"
    return Finding(
        check="pending_restart",
        subject=value.name,
        severity=Severity.WARNING,
        message=f"{value.name} runs with {value.shown} and waits for a restart to become {waits}: whoever restarts the"
        " server next, perhaps in an emergency, gets a changed one",
        observed=value.shown,
        limit=str(line["setting"]) if line else "",
        hint=f"restart the server in the maintenance window, or withdraw the change: {back}"
        + (" (it stands in postgresql.auto.conf)" if auto else "")
        + f"\nwhy: {source('view-pg-settings.html')}",
    )


def _errors(review: Review) -> list[Finding]:
    """A file with an error is not reloaded at all, or lacks the line; at the next start the server may not come up.

    What waits for a restart is reported as an error by the server, too, and told elsewhere.
    """
    found: dict[str, Finding] = {}
    for row in review.seen.rows("settings_files"):
        if row["error"] is None or row["pending"]:
            continue
        subject = row["name"] or row["sourcefile"]
        found[subject] = Finding(
            check="file",
            subject=subject,
            severity=Severity.WARNING,
            message=f"{row['sourcefile']}:{row['sourceline']}: {row['name'] or 'the file'}: {row['error']}; until it is"
            " corrected no change takes effect, and the server may not start again",
            hint="correct the line and run SELECT pg_reload_conf(); what stands in postgresql.auto.conf goes with"
            f" ALTER SYSTEM RESET\nwhy: {source('view-pg-file-settings.html')}",
        )
    return list(found.values())


def _overrides(review: Review) -> list[Finding]:
    rules = {r.name: r for r in RULES if r.name not in _GENERAL}
    found: list[Finding] = []
    for row in review.seen.rows("settings_overrides"):
        name, value = row["name"], review.values.get(row["name"])
        if name in _ALONE and row["setting"].lower() not in (_ALONE[name][0], "false", "no", "0"):
            wanted, severity, why = _ALONE[name]
            found.append(_override(row, severity, wanted, why))
        elif name in rules and value is not None:
            rule, here = rules[name], _with(value, row["setting"])
            # The value that our own session sees may be this one: then it is told here only.
            if rule.broken(here):
                found.append(_override(row, rule.severity, rule.wanted, rule.why))
    return found


def _with(value: Value, setting: str) -> Value:
    """Return a setting as it would be with another value."""
    if value.vartype == "bool":
        setting = "on" if setting.lower() in ("on", "true", "yes", "1", "t", "y") else "off"
    return replace(value, setting=setting, shown=setting)


def _override(row: Row, severity: Severity, wanted: str, why: str) -> Finding:
    role, database = row["role"], row["database"]
    whom = f"ROLE {quoted(role)}" if role else "ROLE ALL" if not database else f"DATABASE {quoted(database)}"
    if role and database:
        whom += f" IN DATABASE {quoted(database)}"
    return Finding(
        check="override",
        subject=f"{role or 'every role'} in {database or 'every database'}: {row['name']}",
        severity=severity,
        message=f"{row['name']} = {row['setting']} is set for {f'role {role}' if role else 'every role'} in"
        f" {f'database {database}' if database else 'every database'}, expected {wanted}: {why}",
        observed=row["setting"],
        limit=wanted,
        hint=f"ALTER {whom} RESET {row['name']};\n"
        f"undo: ALTER {whom} SET {row['name']} = {literal(row['setting'])};\nwhy: {source('sql-alterrole.html')}",
    )


def _checkpoints(review: Review, settings: Settings, history: History) -> Judgement:
    """Judge the checkpoints since the last run; counters since the last reset would tell of another time."""
    row = review.seen.row("settings_checkpoints")
    if not row:
        return Judgement()
    counted = {"timed": float(row["timed"]), "requested": float(row["requested"])}
    kept = Judgement(measurements=tuple(m for n, v in counted.items() for m in _count(n, v)))
    before = {name: history.last(f"checkpoints.{name}") for name in counted}
    grown = {name: v - point.value for name, v in counted.items() if (point := before[name])}
    timed = before["timed"]
    reset = timed is not None and row["since"] is not None and row["since"] > timed.at
    if len(grown) < len(counted) or reset or min(grown.values()) < 0:
        return kept
    total = sum(grown.values())
    if total < settings.checkpoints_least or "max_wal_size" not in review.values:
        return kept
    share = 100 * grown["requested"] / total
    most = review.values["max_wal_size"]
    findings = judged(
        "checkpoints",
        "",
        settings.checkpoints_asked,
        share,
        message=f"{grown['requested']:.0f} of {total:.0f} checkpoints since the last run were not due by time: WAL"
        f" reaches max_wal_size ({most.shown}) first, or commands and backups asked for them; after each, pages go to"
        " WAL as a whole",
        hint=f"{most.change(f'{most.number * 2:.0f}{most.unit}', review.database)}\n"
        f"why: {source('wal-configuration.html')} (the volume of WAL needs room for it)",
        say=percent,
    )
    return kept + Judgement(measurements=measured("checkpoints.requested_share", share, "%"), findings=findings)


def _count(name: str, value: float) -> tuple[Measurement, ...]:
    return measured(f"checkpoints.{name}", value, "checkpoints")
