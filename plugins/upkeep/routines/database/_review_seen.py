"""What `database.settings_review` observes, and how a setting is changed and changed back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from upkeep.core.job import Failed
from upkeep.core.model import Finding, Severity
from upkeep.routines.database._seen import Row, Seen
from upkeep.routines.database._text import literal, quoted

DOCS = "https://www.postgresql.org/docs/current/"
# Of a setting from one of these our session does not see what the server gives to others.
_OURS = ("client", "session", "interactive", "user", "database user")
_FIXED = ("command line", "environment variable", "override")
_KB = 1024
_UNITS = {"B": 1, "kB": _KB, "MB": _KB**2, "GB": _KB**3, "TB": _KB**4}
_TIMES = {"us": 0.001, "ms": 1.0, "s": 1e3, "min": 6e4, "h": 3.6e6, "d": 8.64e7}
_QUANTITY = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-z]*)")
_TRUE, _FALSE = ("on", "true", "yes", "1", "t", "y"), ("off", "false", "no", "0", "f", "n")


@dataclass(frozen=True)
class Value:
    """One setting of the server; `setting` is in `unit`, `shown` as people read it."""

    name: str
    setting: str
    unit: str | None
    vartype: str
    context: str
    source: str
    sourcefile: str | None
    boot_val: str | None
    pending_restart: bool
    shown: str

    @classmethod
    def of(cls, row: Row) -> Value:
        return cls(**{key: row[key] for key in cls.__annotations__})

    @property
    def hidden(self) -> bool:
        """Whether our session has a value of its own, behind which the server's is not seen."""
        return self.source in _OURS

    @property
    def number(self) -> float:
        """The value in `unit`; nan when it is no number."""
        try:
            return float(self.setting)
        except ValueError:
            return math.nan

    @property
    def bytes(self) -> float:
        """The value of a setting that is an amount of memory."""
        found = _QUANTITY.fullmatch(self.unit or "B")
        times, unit = (float(found[1]), found[2]) if found else (1.0, self.unit or "B")
        return self.number * times * _UNITS[unit]

    def equals(self, wanted: str) -> bool:
        """Tell whether a value, written as in a configuration file, is the one that is set.

        Written with a unit it is compared in that unit: 0.5GB is 512MB.
        """
        if self.vartype == "bool":
            return wanted.lower() in (_TRUE if self.setting == "on" else _FALSE)
        if self.vartype in ("integer", "real"):
            number = self._in_unit(wanted)
            # Integers are rounded by the server, reals are floats there too.
            return number is not None and math.isclose(number, self.number, rel_tol=1e-6, abs_tol=1e-9)
        return self.setting == wanted or (self.vartype == "enum" and self.setting == wanted.lower())

    def _in_unit(self, wanted: str) -> float | None:
        found = _QUANTITY.fullmatch(wanted.strip())
        if not found:
            return None
        number, unit = float(found[1]), found[2]
        if not unit:
            return number
        base = _QUANTITY.fullmatch(self.unit or "")
        times, own = (float(base[1]), base[2]) if base else (1.0, self.unit or "")
        for scale in (_UNITS, _TIMES):
            if unit in scale and own in scale:
                return number * scale[unit] / (times * scale[own])
        return None

    def change(self, wanted: str, database: str) -> str:
        """Return how to set a value, and behind `undo:` how to take that back."""
        if self.source == "database":
            do = f"ALTER DATABASE {quoted(database)} SET {self.name} = {literal(wanted)};"
            undo = f"ALTER DATABASE {quoted(database)} SET {self.name} = {literal(self.shown)};"
            return f"{do} -- new sessions have it\nundo: {undo}"
        if self.source in _FIXED or self.context == "internal":
            return f"it comes from the {self.source} of the server: change it there and restart"
        if self.context == "postmaster":
            return f"{self._system(wanted)} -- then restart the server\nundo: {self._undo()} -- then restart the server"
        return f"{self._system(wanted)} SELECT pg_reload_conf();\nundo: {self._undo()} SELECT pg_reload_conf();"

    def _system(self, wanted: str) -> str:
        return f"ALTER SYSTEM SET {self.name} = {literal(wanted)};"

    def _undo(self) -> str:
        """RESET takes a line out of postgresql.auto.conf, so it brings back only what stands somewhere else."""
        elsewhere = self.sourcefile is not None and not self.sourcefile.endswith("postgresql.auto.conf")
        if self.source == "default" or elsewhere:
            return f"ALTER SYSTEM RESET {self.name};"
        return self._system(self.shown)


@dataclass(frozen=True)
class Review:
    """Everything that one review of a server's settings saw."""

    seen: Seen
    values: Mapping[str, Value]

    @classmethod
    def of(cls, seen: Seen) -> Review:
        values = (Value.of(row) for row in seen.rows("settings_values"))
        return cls(seen, {value.name.lower(): value for value in values})

    @property
    def server(self) -> Row:
        """Who asks, where, and how large the database is."""
        return self.seen.row("settings_server")

    @property
    def database(self) -> str:
        """The name of the database."""
        return str(self.server.get("database", ""))

    def value(self, name: str) -> Value | None:
        """Return a setting as the server gives it to everybody; None when this version or our role has none."""
        value = self.values.get(name)
        return None if value is None or value.hidden else value

    def finding(self, value: Value, severity: Severity, wanted: str, why: str, where: str) -> Finding:
        """Return the finding about one setting. :param where: the page of PostgreSQL's documentation."""
        return Finding(
            check="setting",
            subject=value.name,
            severity=severity,
            message=f"{value.name} is {value.shown or 'empty'}, expected {wanted}: {why}",
            observed=value.shown,
            limit=wanted,
            hint=f"{value.change(wanted, self.database)}\nwhy: {source(where)}",
        )


def source(where: str) -> str:
    """Return where a reason can be read; what is no page of it is named as it is."""
    return f"{DOCS}{where}" if ".html" in where else where


# Which check a statement that fails leaves open, and what it would have shown.
QUESTIONS = {
    "settings_server": ("setting", "the size of the database and our role's privileges"),
    "settings_values": ("setting", "the settings of the server"),
    "settings_files": ("file", "errors in the configuration files"),
    "settings_tables": ("table", "autovacuum settings of tables"),
    "settings_overrides": ("override", "settings of roles and databases"),
    "settings_checkpoints": ("checkpoints", "the number of checkpoints"),
}


def undetermined(seen: Seen) -> tuple[Finding, ...]:
    """Return a finding for every statement that gave no rows."""
    return tuple(_undetermined(name, failed, seen) for name, failed in seen.failed.items())


def _undetermined(name: str, failed: Failed, seen: Seen) -> Finding:
    check, what = QUESTIONS[name]
    cures = {
        "timeout": "the server is slow: look at its load, or raise `statement_timeout` of database.settings_review",
        "locked": "somebody changes tables: run it again later",
        "privilege": f"GRANT pg_monitor TO {quoted(seen.row('settings_server').get('role', 'upkeep'))};",
    }
    return Finding(
        check=check,
        subject=name,
        severity=Severity.UNKNOWN,
        message=f"could not be determined: {what}: {failed.message}",
        hint=cures.get(failed.reason, f"read the server's log; the statement is include/sql/database/{name}.sql"),
    )
