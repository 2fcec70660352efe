"""Settings that one value of their own makes right or wrong, and those that a system states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from upkeep.core.model import Finding, Severity
from upkeep.routines.database._review_seen import Review, Value
from upkeep.routines.database._review_settings import Settings
from upkeep.routines.database._text import quoted


@dataclass(frozen=True)
class Rule:
    """One setting that should have a value. `bad` tells which values are wrong; without it all but `wanted` are."""

    name: str
    wanted: str
    severity: Severity
    why: str
    where: str
    bad: Callable[[Value], bool] | None = None

    def broken(self, value: Value) -> bool:
        """Tell whether the value is wrong."""
        return self.bad(value) if self.bad else not value.equals(self.wanted)


def _above(limit: float) -> Callable[[Value], bool]:
    return lambda value: value.number > limit


_LOSES = "runtime-config-wal.html#RUNTIME-CONFIG-WAL-SETTINGS"
_DAMAGE = "runtime-config-developer.html"
_AUTO = "runtime-config-autovacuum.html"
_WRAP = "routine-vacuuming.html#VACUUM-FOR-WRAPAROUND"
_SWITCHES = (
    *("enable_seqscan", "enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan", "enable_hashjoin"),
    *("enable_mergejoin", "enable_nestloop", "enable_sort", "enable_hashagg"),
)
RULES = (
    Rule("autovacuum", "on", Severity.WARNING, "dead rows and old ids pile up until somebody vacuums by hand", _AUTO),
    Rule(
        "track_counts",
        "on",
        Severity.WARNING,
        "without counters autovacuum does not know what to do, nor do we",
        "runtime-config-statistics.html",
    ),
    Rule("fsync", "on", Severity.WARNING, "a power cut may leave the whole cluster beyond repair", _LOSES),
    Rule(
        "full_page_writes",
        "on",
        Severity.WARNING,
        "a page half written in a crash stays damaged; only storage that never tears a page may do without",
        _LOSES,
    ),
    Rule("zero_damaged_pages", "off", Severity.WARNING, "damaged pages are emptied and their rows lost", _DAMAGE),
    Rule("ignore_checksum_failure", "off", Severity.WARNING, "damaged pages are read as if they were right", _DAMAGE),
    Rule(
        "password_encryption",
        "scram-sha-256",
        Severity.WARNING,
        "new passwords are kept as MD5, which can be replayed and is being removed from PostgreSQL; set such passwords"
        " anew afterwards",
        "auth-password.html",
    ),
    Rule(
        "synchronous_commit",
        "on",
        Severity.INFO,
        "a crash loses the last commits that clients were told of (nothing is damaged)",
        "wal-async-commit.html",
        lambda value: value.setting == "off",
    ),
    Rule(
        "wal_level",
        "replica",
        Severity.INFO,
        "neither base backups nor recovery to a point in time nor standbys are possible",
        _LOSES,
        lambda value: value.setting == "minimal",
    ),
    Rule("track_activities", "on", Severity.INFO, "nobody sees what sessions do", "runtime-config-statistics.html"),
    Rule(
        "idle_in_transaction_session_timeout",
        "1h",
        Severity.INFO,
        "a transaction that its client forgot holds locks and keeps rows from being vacuumed for ever; take longer than"
        " the longest dump rests",
        "runtime-config-client.html",
        lambda value: value.number == 0,
    ),
    Rule(
        "autovacuum_naptime",
        "1min",
        Severity.INFO,
        "a database is looked at only so often, and meanwhile dead rows pile up",
        _AUTO,
        _above(300),
    ),
    Rule(
        "autovacuum_vacuum_scale_factor",
        "0.2",
        Severity.INFO,
        "so large a share of every table may be dead before it is vacuumed",
        _AUTO,
        _above(0.4),
    ),
    Rule(
        "autovacuum_analyze_scale_factor",
        "0.1",
        Severity.INFO,
        "the planner works with old statistics until so much has changed",
        _AUTO,
        _above(0.2),
    ),
    Rule(
        "autovacuum_freeze_max_age",
        "200000000",
        Severity.INFO,
        "little is left of 2^31 ids by the time the forced vacuum begins, and it has the more to do",
        _WRAP,
        _above(1e9),
    ),
    Rule(
        "vacuum_failsafe_age",
        "1600000000",
        Severity.INFO,
        "vacuum drops everything else for freezing only when hardly any of 2^31 ids are left",
        _WRAP,
        _above(1.8e9),
    ),
    Rule(
        "vacuum_defer_cleanup_age",
        "0",
        Severity.INFO,
        "vacuum leaves the rows of so many transactions, for standbys that have slots or feedback for that today",
        "https://www.postgresql.org/docs/15/runtime-config-replication.html",
        _above(0),
    ),
    Rule(
        "checkpoint_completion_target",
        "0.9",
        Severity.INFO,
        "checkpoints write in bursts that statements feel",
        "wal-configuration.html",
        lambda value: value.number < 0.5,
    ),
    *(
        Rule(
            name,
            "on",
            Severity.INFO,
            "a way of execution is taken from every statement of the server, for good plans and bad ones",
            "runtime-config-query.html#RUNTIME-CONFIG-QUERY-ENABLE",
        )
        for name in _SWITCHES
    ),
)
# What a log does not tell with the value on the left, and a value that makes it do so.
LOGS = {
    "log_autovacuum_min_duration": ("-1", "10min", "what autovacuum did, and what it skipped for a lock"),
    "log_lock_waits": ("off", "on", "who waited for whom"),
    "log_temp_files": ("-1", "100MB", "which statements spill to disk"),
    "log_checkpoints": ("off", "on", "what checkpoints write"),
    "log_min_duration_statement": ("-1", "5s", "which statements were slow"),
}
_MORE = ("listen_addresses", "ssl")
_MEMORY = ("work_mem", "maintenance_work_mem", "effective_cache_size")
NAMES = tuple(rule.name for rule in RULES) + tuple(LOGS) + _MORE


def judge(review: Review, settings: Settings) -> list[Finding]:
    """Judge every setting by its own value."""
    found = [*_expected(review, settings), *_logs(review), *_ssl(review), *_hidden(review, settings)]
    for rule in RULES:
        value = review.value(rule.name)
        # What a system states has been decided; only what breaks things is told all the same.
        if value is None or (rule.name in settings.expected and rule.severity is Severity.INFO):
            continue
        if rule.broken(value):
            found.append(review.finding(value, rule.severity, rule.wanted, rule.why, rule.where))
    return found


def _expected(review: Review, settings: Settings) -> list[Finding]:
    if not review.values:
        return []  # the statement failed, and that is a finding already
    found: list[Finding] = []
    for name, wanted in settings.expected.items():
        if name not in review.values:
            found.append(_missing(review, name))
        elif (value := review.value(name)) and not value.equals(wanted):
            why = "the system states so (`expected` of database.settings_review)"
            found.append(review.finding(value, Severity.WARNING, wanted, why, "the file of the system"))
    return found


def _missing(review: Review, name: str) -> Finding:
    """Without privilege some settings are not shown at all, so missing may mean either."""
    if review.server.get("sees_all", True):
        hint = "correct or remove it in `expected` of database.settings_review"
        return _unknown(name, f"{name} is no setting of this server", hint)
    hint = f"GRANT pg_read_all_settings TO {quoted(review.server['role'])};"
    return _unknown(name, f"{name} is hidden from role {review.server['role']}, or no setting of this server", hint)


def _unknown(name: str, message: str, hint: str) -> Finding:
    return Finding(check="setting", subject=name, severity=Severity.UNKNOWN, message=message, hint=hint)


def _hidden(review: Review, settings: Settings) -> list[Finding]:
    """A value that our own role or connection brings says nothing about what others get."""
    role, found = str(review.server.get("role", "upkeep")), list[Finding]()
    for name, value in review.values.items():
        idle = name in _MEMORY and settings.memory_gb is None  # nobody judges it
        if not value.hidden or (idle and name not in settings.expected):
            continue
        where = f" IN DATABASE {quoted(review.database)}" if value.source == "database user" else ""
        hint = (
            f"ALTER ROLE {quoted(role)}{where} RESET {value.name};"
            if value.source.endswith("user")
            else "take it out of the connection's options; time-outs and time zone are ours: do not expect them"
        )
        message = f"{value.name} of the server is not seen: our own session has {value.shown} (from: {value.source})"
        found.append(_unknown(value.name, message, hint))
    return found


def _logs(review: Review) -> list[Finding]:
    """One finding for all: each alone is not worth a line of a report."""
    silent = [v for name, (bad, _, _) in LOGS.items() if (v := review.value(name)) and v.setting == bad]
    if not silent:
        return []
    changes = [v.change(LOGS[v.name][1], review.database).split("\nundo: ") for v in silent]
    what = "; ".join(f"{LOGS[v.name][2]} ({v.name} = {v.shown})" for v in silent)
    reload = " SELECT pg_reload_conf();"
    ways = [" ".join(part[n].removesuffix(reload) for part in changes if len(part) > n) + reload for n in (0, 1)]
    return [
        Finding(
            check="logging",
            subject="",
            severity=Severity.INFO,
            message=f"the server's log does not tell {what}",
            hint=f"{ways[0]}\nundo: {ways[1]}\nwhy: these are what one looks for after trouble, and cost little;"
            " https://www.postgresql.org/docs/current/runtime-config-logging.html",
        )
    ]


def _ssl(review: Review) -> list[Finding]:
    ssl, listens = review.value("ssl"), review.value("listen_addresses")
    if ssl is None or listens is None or ssl.setting == "on":
        return []
    local = {"", "localhost", "127.0.0.1", "::1"}
    if {address.strip() for address in listens.setting.split(",")} <= local:
        return []
    why = f"the server listens on {listens.setting}, and data and passwords cross the network as they are; it needs"
    why += " ssl_cert_file and ssl_key_file"
    return [review.finding(ssl, Severity.INFO, "on", why, "ssl-tcp.html")]
