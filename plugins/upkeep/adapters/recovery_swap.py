"""Replacing a database by another through renaming, and finding the way back from wherever that was interrupted.

Both renames are one transaction: whoever dies between them, the server undoes the first. Around it stand steps that
are not undone by the server, so the new database carries a mark (JSON) in its comment that says how far it is; the
next restore reads the marks and goes back before it does anything else. The old database is never dropped.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from upkeep.adapters.workbench import Workbench
from upkeep.core.errors import ConfigurationError, TransientError, UnsafeError, UpkeepError
from upkeep.core.model import Model

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

# PostgreSQL cuts longer names off: NAMEDATALEN - 1 bytes.
_LONGEST = 63
_BEGIN = '{"upkeep": "restore/1"'
_POLL_SECONDS = 0.1
# Settings whose value is a list of names, each quoted by itself; PostgreSQL's GUC_LIST_QUOTE, as in pg_dump's
# variable_is_guc_list_quote: https://github.com/postgres/postgres/blob/REL_18_STABLE/src/fe_utils/string_utils.c
_LISTS = (
    "local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
    "temp_tablespaces", "unix_socket_directories",
)  # fmt: skip
_ELEMENT = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",\s][^",]*?))\s*(?:,|$)')


class Mark(Model):
    """How far the restore is that made this database. `was_open` is whether `of` took connections before; `broken` that
    it is what an interrupted DROP DATABASE left: nobody can connect, and nothing but its name can be altered."""

    upkeep: Literal["restore/1"] = "restore/1"
    of: str
    backup: str
    run_id: str
    step: Literal["filling", "closing", "swapped", "failed"] = "filling"
    restored: str
    before: str = ""
    was_open: bool = True
    broken: bool = False

    def text(self) -> str:
        """Return the comment that carries it."""
        return json.dumps(self.model_dump())


# What PostgreSQL notes of a database before it begins to drop it; DATCONNLIMIT_INVALID_DB in pg_database.h.
BROKEN = -2


def beside(name: str, kind: str, tag: str) -> str:
    """Return a name beside another that the server does not cut off: `claims__restored_1a2b3c4d`."""
    suffix = f"__{kind}_{tag}"
    return name.encode()[: _LONGEST - len(suffix)].decode(errors="ignore") + suffix


def stamp(moment: datetime) -> str:
    """Return a moment as it stands in names: `20261121T0305_07`."""
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%S}"


@contextmanager
def told(place: str) -> Iterator[None]:
    """Turn errors of the driver into errors that say what to do."""
    import psycopg

    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        hint = "let the role of the restore's connection own the database (or be a member of its owner), with CREATEDB"
        raise ConfigurationError(f"{place}: {_said(error)}", hint) from error
    except psycopg.errors.ObjectInUse as error:
        hint = "somebody is still connected, or a prepared transaction stands open: end them, then run it again"
        raise TransientError(f"{place}: {_said(error)}", hint) from error
    except (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory) as error:
        raise TransientError(f"{place}: {_said(error)}", "free space or memory on the server; run it again") from error
    except psycopg.OperationalError as error:
        raise TransientError(f"{place}: {_said(error)}", "look at the server's log; run it again") from error
    except psycopg.Error as error:
        raise ConfigurationError(
            f"{place}: {_said(error)}", "the message of the server says what it refused"
        ) from error


def _said(error: psycopg.Error) -> str:
    said = " ".join(filter(None, (error.diag.message_primary, error.diag.message_detail))) or str(error)
    return f"{' '.join(said.split())} (SQLSTATE {error.sqlstate})"


class Swap:
    """The databases of one server around one name, over a session on another database of it.

    :param tell: called before each step with what comes; what it raises ends the work there.
    """

    def __init__(self, session: Workbench, name: str, tell: Callable[[str], None]) -> None:
        self.session, self.name, self._tell = session, name, tell
        self.place = session.place

    def find(self, name: str | None = None) -> dict[str, Any] | None:
        """Return what there is under a name, None when there is nothing."""
        found = self.session.rows("recovery/database", name=name or self.name)
        return found[0] if found else None

    def others(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the sessions on the database."""
        return self.session.rows("recovery/sessions", name=name or self.name)

    # What an earlier restore left behind.

    def marks(self) -> list[tuple[str, Mark]]:
        """Return the databases that a restore of this name has made or moved, with their marks."""
        found = []
        for row in self.session.rows("recovery/marked", like=f"{_BEGIN}%"):
            with contextlib.suppress(ValueError):
                mark = Mark.model_validate_json(row["mark"])
                if mark.of == self.name:
                    found.append((str(row["name"]), mark))
        return found

    def halves(self) -> tuple[str, ...]:
        """Say what earlier restores have left half done, and what `mend` will do about it."""
        return tuple(
            f"{name} was swapped in for backup {mark.backup} and never verified: {mark.before} is renamed back to it"
            if name == self.name
            else f"{name}, from backup {mark.backup}, was never swapped in (step {mark.step}): it is dropped, and"
            f" {self.name} takes connections again"
            for name, mark in self.marks()
        )

    def mend(self) -> tuple[str, ...]:
        """Undo what earlier restores have left half done; return what was done. Only who holds the lock may call it."""
        done = self.halves()
        for name, mark in self.marks():
            if name == self.name:
                self.back(mark)
            elif self.find() is None and mark.before and self.find(mark.before) is not None:
                self._rename_back(mark, there=False)
            elif mark.step == "closing" and mark.was_open:
                self._execute("alter database {name} allow_connections true", name=self.name)
        for name, _ in self.marks():
            self.drop(name)
        for said in done:
            self._tell(f"mended: {said}")
        return done

    # The way forward.

    def create(self, like: dict[str, Any], mark: Mark) -> None:
        """Make the new, empty database: encoding, locale, owner and tablespace like the old one's."""
        from psycopg import sql

        options = {"encoding": like["encoding"], "lc_collate": like["collate"], "lc_ctype": like["ctype"]}
        words = {"c": "libc", "i": "icu", "b": "builtin"}
        if self.session.version >= 150_000:
            options["locale_provider"] = words[like["provider"]]
        if like["locale"]:
            options["icu_locale" if like["provider"] == "i" else "builtin_locale"] = like["locale"]
        parts = [sql.SQL("{} = {}").format(sql.SQL(key), sql.Literal(value)) for key, value in options.items()]
        parts += [
            sql.SQL("{} = {}").format(sql.SQL(key), sql.Identifier(like[key]))
            for key in ("owner", "tablespace")
            # The usual tablespace may be used by everybody, as long as nobody names it.
            if like[key] != "pg_default"
        ]
        text = sql.SQL("create database {} template = template0 {}").format(
            sql.Identifier(mark.restored), sql.SQL(" ").join(parts)
        )
        with told(self.place):
            self.session.connection.execute("select set_config('statement_timeout', '0', false)")
            self.session.connection.execute(text)
        self.mark(mark.restored, mark)

    def mark(self, name: str, mark: Mark) -> None:
        """Write the mark into the comment of a database."""
        self._comment(name, mark.text())

    def drop(self, name: str) -> None:
        """Drop a database that a restore has made and nobody has used. :raises UnsafeError: it has no mark of ours."""
        found = self.find(name)
        if found is None:
            return
        if not str(found["comment"] or "").startswith(_BEGIN) or name == self.name:
            raise UnsafeError(f"{self.place}: database {name} has no mark of a restore", "it is not ours to drop")
        self._execute("drop database {name} with (force)", name=name)

    def carry(self, like: dict[str, Any], to: str) -> tuple[str, ...]:
        """Give the new database privileges, settings and limits of the old one, and compare what came of it.

        :return: what differs all the same, in words.
        """
        from psycopg import sql

        for row in self.session.rows("recovery/settings", name=like["name"]):
            for setting in row["settings"]:
                key, _, value = setting.partition("=")
                of = sql.SQL("role {} in database {}") if row["role"] else sql.SQL("database {}")
                names = [sql.Identifier(n) for n in (row["role"], to) if n]
                text = sql.SQL("alter {} set {} to {}").format(
                    of.format(*names), sql.Identifier(key), _value(key, value)
                )
                # What this role may not set does not hold a restore up: the comparison below tells of it.
                with contextlib.suppress(ConfigurationError):
                    self._run(text)
        self._carry_privileges(like["name"], to)
        limit = max(int(like["connection_limit"]), -1)
        self._execute(f"alter database {{name}} with connection limit {limit}", name=to)
        if like["template"]:
            self._execute("alter database {name} with is_template true", name=to)
        return tuple(
            f"{what} of the restored database differ from those before"
            for what in ("settings", "privileges")
            if self.session.rows(f"recovery/{what}", name=to)
            != self.session.rows(f"recovery/{what}", name=like["name"])
        )

    def close(self, mark: Mark, drain: float) -> None:
        """Let nobody in any more and end the sessions on the database, and on no other one.

        :raises TransientError: some are still there after `drain` seconds.
        """
        self.mark(mark.restored, mark.model_copy(update={"step": "closing"}))
        self._tell(f"close {self.name}")
        if not mark.broken:
            self._execute("alter database {name} with allow_connections false", name=self.name)
        self._end_sessions(self.name, drain)

    def swap(self, mark: Mark) -> None:
        """Exchange the names, in one transaction. Without an old database there is only one name to give."""
        self._tell(f"rename {self.name} to {mark.before}, {mark.restored} to {self.name}")
        swapped = mark.model_copy(update={"step": "swapped"})
        with told(self.place), self.session.connection.transaction():
            if mark.before:
                self._rename(self.name, mark.before)
                self._tell("between the two renames")
            self._rename(mark.restored, self.name)
            self._comment(self.name, swapped.text())
        self._tell("renamed")

    def finish(self, like: dict[str, Any] | None) -> None:
        """Take the mark away: from here on, what was swapped in stays."""
        self._comment(self.name, like["comment"] if like else None)

    # The way back.

    def back(self, mark: Mark, drain: float = 20) -> None:
        """Go back from a swap: the old database has its name again and takes connections, the new one is dropped."""
        if mark.before and self.find(mark.before) is None:
            raise UnsafeError(
                f"{self.place}: {self.name} was swapped in and never verified, and {mark.before} is gone",
                f'look into {self.name}; to keep it: COMMENT ON DATABASE "{self.name}" IS NULL',
            )
        self._tell(f"roll back: {mark.before or 'nothing'} becomes {self.name} again")
        self._execute("alter database {name} with allow_connections false", name=self.name)
        self._end_sessions(self.name, drain)
        self._rename_back(mark, there=True)
        self.drop(mark.restored)

    def open(self, mark: Mark) -> None:
        """Let everybody in again, after a `close` that came to nothing."""
        if mark.was_open:
            self._execute("alter database {name} with allow_connections true", name=self.name)

    def _rename_back(self, mark: Mark, *, there: bool) -> None:
        with told(self.place), self.session.connection.transaction():
            if there:
                self._rename(self.name, mark.restored)
                self._comment(mark.restored, mark.model_copy(update={"step": "failed"}).text())
            if mark.before:
                self._rename(mark.before, self.name)
                opened = "true" if mark.was_open else "false"
                if not mark.broken:
                    self._execute(f"alter database {{name}} with allow_connections {opened}", name=self.name)

    def _carry_privileges(self, name: str, to: str) -> None:
        from psycopg import sql

        rows = self.session.rows("recovery/privileges", name=name)
        if not any(row["stated"] for row in rows):
            return
        theirs = self.session.rows("recovery/privileges", name=to)
        for who in dict.fromkeys(row["grantee"] for row in theirs):
            self._run(sql.SQL("revoke all on database {} from {}").format(sql.Identifier(to), _who(who)))
        for row in rows:
            text = "grant {} on database {} to {}" + (
                " with grant option" if row["grantable"] and row["grantee"] else ""
            )
            self._run(sql.SQL(text).format(sql.SQL(row["privilege"]), sql.Identifier(to), _who(row["grantee"])))

    def _end_sessions(self, name: str, drain: float) -> None:
        deadline = time.monotonic() + drain
        while left := self.others(name):
            if time.monotonic() > deadline:
                who = ", ".join(f"{s['role']} {s['application']} ({s['pid']})" for s in left[:5])
                raise TransientError(
                    f"{self.place}: {len(left)} sessions on {name} do not end: {who}",
                    "let the restore's role be a member of pg_signal_backend, or end these by hand and run it again",
                )
            for one in left:
                with told(self.place):
                    self.session.connection.execute("select pg_terminate_backend(%s)", [one["pid"]])
            time.sleep(_POLL_SECONDS)

    def _rename(self, name: str, to: str) -> None:
        self._execute("alter database {name} rename to {to}", name=name, to=to)

    def _comment(self, name: str, comment: str | None) -> None:
        from psycopg import sql

        self._run(sql.SQL("comment on database {} is {}").format(sql.Identifier(name), sql.Literal(comment)))

    def _execute(self, command: str, **names: str) -> None:
        from psycopg import sql

        self._run(sql.SQL(command).format(**{key: sql.Identifier(name) for key, name in names.items()}))

    def _run(self, text: sql.Composed) -> None:
        with told(self.place):
            self.session.connection.execute(text)


def undo(name: str, kept: str, backup: str) -> tuple[str, ...]:
    """Return the SQL that gives the old database its name back, to be run in another database of the server."""
    aside = beside(name, "undone", backup[-8:])
    old, new, away = (_quoted(n) for n in (kept, name, aside))
    return (
        f"ALTER DATABASE {new} WITH ALLOW_CONNECTIONS false",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {_literal(name)}",
        f"BEGIN; ALTER DATABASE {new} RENAME TO {away}; ALTER DATABASE {old} RENAME TO {new}; COMMIT",
        f"ALTER DATABASE {new} WITH ALLOW_CONNECTIONS true",
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _who(grantee: str) -> sql.Composable:
    from psycopg import sql

    return sql.Identifier(grantee) if grantee else sql.SQL("public")


def _value(key: str, value: str) -> sql.Composable:
    """Return a setting's value as ALTER ... SET takes it; lists of names element by element."""
    from psycopg import sql

    if key.lower() not in _LISTS:
        return sql.Literal(value)
    parts = [(m[1].replace('""', '"') if m[1] is not None else m[2]) for m in _ELEMENT.finditer(value)]
    return sql.SQL(", ").join(sql.Literal(part) for part in parts) if parts else sql.Literal("")


__all__ = ["BROKEN", "Mark", "Swap", "UpkeepError", "beside", "stamp", "told", "undo"]
