"""Restoring a dump: database and roles made, pg_restore run, and what it complained of put into order."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from upkeep.adapters import process
from upkeep.adapters.pg_tools import Programs
from upkeep.adapters.process import Done, Program
from upkeep.core.errors import ConfigurationError, DamagedError

if TYPE_CHECKING:
    import psycopg

_KEPT_LINES = 20_000
_FROM = re.compile(r"pg_restore: from TOC entry (\d+); (\d+) (\d+) (.*)")
_ERROR = re.compile(r"pg_restore: (?:error|fatal): (.*)")
_COMMAND = "Command was: "
_WORDS = 400
EventTriggers = Literal["with", "without", "only"]
# In the list of contents, by the number of the catalogue pg_event_trigger; with what is said of them.
_EVENT_TRIGGER = re.compile(r"\d+; (?:3466 \d+ EVENT TRIGGER|0 0 (?:COMMENT|SECURITY LABEL) - EVENT TRIGGER) ")
_TICK_SECONDS = 0.05
# One statement of SQL as pg_dumpall writes it: up to a semicolon that is in no literal, name or comment.
_TOKEN = re.compile(
    r"E'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|\\[^\n]*|;|\w+|[^;'\"\\\w-]+|.", re.S
)
# Nothing else of what pg_dumpall writes is carried out: CREATE TABLESPACE would write to folders of the source.
_ROLE_STATEMENT = re.compile(r"\s*(CREATE ROLE|ALTER ROLE|COMMENT ON ROLE|GRANT|SECURITY LABEL .*ON ROLE)\b", re.S)
_NAME = r'("(?:[^"]|"")+"|[^\s",;()]+)'
_NAMED = (
    re.compile(rf"^ALTER .* OWNER TO {_NAME};", re.M),
    re.compile(rf"^GRANT .* TO {_NAME}(?: WITH GRANT OPTION)?;", re.M),
    re.compile(rf"^REVOKE .* FROM {_NAME};", re.M),
    re.compile(rf"^SET SESSION AUTHORIZATION {_NAME};", re.M),
    re.compile(rf"^ALTER DEFAULT PRIVILEGES FOR ROLE {_NAME} ", re.M),
)
# `CREATE POLICY p ON t FOR SELECT TO one, two USING ...`
_POLICY = re.compile(rf"^CREATE POLICY .* TO ({_NAME}(?:, {_NAME})*)(?: USING | WITH CHECK |;)", re.M)
_NO_ROLE = {"PUBLIC", "CURRENT_USER", "SESSION_USER", "CURRENT_ROLE"}


class Complaint(NamedTuple):
    """One error of pg_restore. `entry` is what it was about (`TABLE DATA claim app`), `oid` of a table's data.

    `why` is empty when the error means that the restore failed; else it says why it does not mean that.
    """

    message: str
    entry: str = ""
    oid: int | None = None
    why: str = ""


_GRANTOR = re.compile(r' GRANTED BY (?:"(?:[^"]|"")*"|[^\s";]+)$')
# Errors that say nothing about the backup. Newer programs set what older servers do not know.
_HARMLESS = (
    (re.compile(r'unrecognized configuration parameter "(transaction_timeout|\w+_timeout)"'), "the server is older"),
    (re.compile(r"could not connect to server|could not establish connection"), "other servers are not reached"),
    (re.compile(r"event trigger .* already exists|schema \"public\" already exists"), "it is there"),
)


def restore(
    programs: Programs,
    conninfo: str,
    archive: Path,
    *,
    jobs: int = 2,
    events: EventTriggers = "with",
    on_tick: Callable[[], None] = lambda: None,
) -> list[Complaint]:
    """Restore an archive in the directory format into a fresh database, and return every error.

    Tablespaces are left out, and subscriptions, which would go to other servers.

    :param events: restore everything, leave the event triggers out, or restore only them. They write rows and refuse
        statements as soon as they are there, even while pg_restore refreshes the last materialised views.
    :param on_tick: called many times a second; what it raises ends pg_restore.
    """
    command: list[str | Path] = [
        programs.path("pg_restore"), f"--dbname={conninfo}", f"--jobs={jobs}", "--no-tablespaces", "--no-subscriptions",
        "--no-password", archive,
    ]  # fmt: skip
    if events == "with":
        return _restore(command, on_tick)
    lines = _listed(programs, archive)
    chosen = [line for line in lines if bool(_EVENT_TRIGGER.match(line)) == (events == "only")]
    if not chosen:
        return []
    with tempfile.NamedTemporaryFile("w", dir=archive.parent, suffix=".list") as file:
        file.write("\n".join(chosen) + "\n")
        file.flush()
        return _restore([*command, f"--use-list={file.name}"], on_tick)


def _listed(programs: Programs, archive: Path) -> list[str]:
    """Return the lines of an archive's contents. :raises DamagedError: they cannot be read."""
    done, out = process.run([programs.path("pg_restore"), "--list", archive])
    if done.code:
        raise DamagedError(f"pg_restore --list: {' | '.join(done.errors[-3:])}", "its table of contents is damaged")
    return [line for line in out.decode(errors="replace").splitlines() if not line.startswith(";")]


def _restore(command: list[str | Path], on_tick: Callable[[], None]) -> list[Complaint]:
    lines: list[str] = []
    with Program(command, on_line=lambda line: lines.append(line) if len(lines) < _KEPT_LINES else None) as program:
        while program.running:
            on_tick()
            time.sleep(_TICK_SECONDS)
        done = Done(program)
    found = list(complaints(lines))
    if done.code and not found:
        found = [Complaint(f"pg_restore ended with code {done.code}: {' | '.join(done.errors[-3:])}"[:_WORDS])]
    return found


def complaints(lines: Iterable[str]) -> Iterator[Complaint]:
    """Read what pg_restore wrote to standard error."""
    entry: tuple[str, int | None] = ("", None)
    text: list[str] = []
    for line in [*lines, "pg_restore: end"]:
        if not line.startswith("pg_restore: "):
            if text:
                text.append(line)
            continue
        if text:
            yield _complaint(text, *entry)
            text = []
        if match := _FROM.match(line):
            entry = (match[4], int(match[3]) if match[4].startswith("TABLE DATA ") else None)
        elif match := _ERROR.match(line):
            text = [match[1]]


def _complaint(text: list[str], entry: str, oid: int | None) -> Complaint:
    message = " ".join(" ".join(part.split()) for part in text if not part.startswith("Command was:"))[:_WORDS]
    why = next((reason for pattern, reason in _HARMLESS if pattern.search(message)), "")
    return Complaint(message, entry, oid, why)


class GlobalsReport(NamedTuple):
    """What became of the roles beside a dump: how many statements were carried out, which were not and why."""

    applied: int
    left_out: list[str]
    failed: list[str]


def apply_globals(connection: psycopg.Connection[Any], text: str) -> GlobalsReport:
    """Make the roles that a dump names: from `pg_dumpall --globals-only`, which holds no passwords here.

    Whatever is not about roles is left out; a role that is there already is no failure.
    """
    import psycopg

    applied, left_out, failed = 0, [], []
    for statement in statements(text):
        if not _ROLE_STATEMENT.match(statement):
            if not statement.lstrip().upper().startswith("SET "):
                left_out.append(statement.strip()[:_WORDS])
            continue
        try:
            # Who has granted it is nobody in a server of its own, or may not grant there.
            connection.execute(_GRANTOR.sub("", statement).encode())
            applied += 1
        except psycopg.errors.DuplicateObject:
            applied += 1
        except psycopg.Error as error:
            failed.append(f"{statement.strip()[:80]}: {error.diag.message_primary or error}"[:_WORDS])
    return GlobalsReport(applied, left_out, failed)


def statements(text: str) -> Iterator[str]:
    """Split what pg_dumpall writes into statements; comments and commands of psql are left out."""
    current: list[str] = []
    for token in _TOKEN.finditer(text):
        part = token[0]
        if part == ";":
            if "".join(current).strip():
                yield "".join(current).strip()
            current = []
        elif not part.startswith(("--", "\\")):
            current.append(part)


def named_roles(programs: Programs, archive: Path) -> set[str]:
    """Return the roles that an archive's definitions name: owners, and who is granted something.

    :raises DamagedError: the archive's contents cannot be read.
    """
    text = _sql(programs, "--schema-only", archive)
    found = {match[1] for pattern in _NAMED for match in pattern.finditer(text)}
    for match in _POLICY.finditer(text):
        found |= set(re.findall(_NAME, match[1]))
    return {_unquoted(name) for name in found if name not in _NO_ROLE}


def make_roles(connection: psycopg.Connection[Any], names: Iterable[str]) -> list[str]:
    """Make those of the roles that are missing, without any right, and return them."""
    from psycopg import sql

    known = {row[0] for row in connection.execute("select rolname from pg_catalog.pg_roles")}
    missing = sorted(set(names) - known)
    for name in missing:
        connection.execute(sql.SQL("create role {} nologin").format(sql.Identifier(name)))
    return missing


class Definition(NamedTuple):
    """How a dump makes its database: the options of CREATE DATABASE, and its settings (`SET search_path TO ...`)."""

    options: str
    settings: list[str]


def definition(programs: Programs, archive: Path) -> Definition:
    """Return how the dump makes its database.

    :raises DamagedError: the archive's contents cannot be read.
    :raises ConfigurationError: PostgreSQL's own programs refuse the name of the database.
    """
    done, out = process.run([programs.path("pg_restore"), "--create", "--list", archive])
    wanted = re.findall(r"^(\d+; \d+ \d+ DATABASE(?: PROPERTIES)? .*)$", out.decode(errors="replace"), re.M)
    if done.code or not wanted:
        raise DamagedError(f"pg_restore --list: {' | '.join(done.errors[-3:])}", "its table of contents is damaged")
    with tempfile.NamedTemporaryFile("w", dir=archive.parent, suffix=".list") as chosen:
        chosen.write("\n".join(wanted) + "\n")
        chosen.flush()
        said = list(statements(_sql(programs, "--create", f"--use-list={chosen.name}", archive)))
    made = next((s for s in said if s.startswith("CREATE DATABASE ")), "")
    options = re.sub(r"^CREATE DATABASE (\"(?:[^\"]|\"\")+\"|\S+) WITH ", "", made)
    options = re.sub(r" TABLESPACE = (\"(?:[^\"]|\"\")+\"|\S+)", "", options)
    name = r"ALTER DATABASE (?:\"(?:[^\"]|\"\")+\"|\S+) (SET .*)"
    return Definition(options, [m[1] for s in said if (m := re.fullmatch(name, s, re.S)) and "TABLESPACE" not in s])


def _sql(programs: Programs, *arguments: str | Path) -> str:
    done, out = process.run([programs.path("pg_restore"), "--file=-", *arguments])
    if any("name contains a newline or carriage return" in line for line in done.errors):
        raise ConfigurationError(
            f"pg_restore refuses line breaks in the name of a database: {' | '.join(done.errors[-3:])[:_WORDS]}",
            "ALTER DATABASE ... RENAME TO a name without, and back up anew; by hand, pg_restore without --create"
            " restores this backup into a database that is there",
        )
    if done.code:
        raise DamagedError(f"pg_restore: {' | '.join(done.errors[-3:])[:_WORDS]}", "the archive cannot be read")
    return out.decode(errors="replace")


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
