"""Filling an empty database from a dump, and proving that it holds what the manifest says."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from upkeep.adapters import backup_snapshot, fingerprint, pg_restore, process
from upkeep.adapters.pg_tools import Programs
from upkeep.core.backup import Manifest, TableProof, differences
from upkeep.core.errors import DamagedError, UpkeepError
from upkeep.core.targets import Smoke

_SHOWN = 5
_OWNER = re.compile(r'^ALTER .* OWNER TO ("(?:[^"]|"")+"|[^\s";]+);$', re.M)


def fill(
    programs: Programs,
    conninfo: str,
    archive: Path,
    *,
    jobs: int,
    on_tick: Callable[[], None],
    lenient: bool = False,
    events: pg_restore.EventTriggers = "with",
) -> tuple[str, ...]:
    """Restore an archive into an empty database; return the complaints that say nothing about its content.

    :param events: event triggers write rows, so they come after rows were compared; see `pg_restore.restore`.
    :param lenient: definitions that could not be made (a missing extension) are returned as well; rows never are.
    :raises DamagedError: something of the backup did not come back.
    """
    found = pg_restore.restore(
        programs, _without_password(conninfo, archive.parent), archive, jobs=jobs, events=events, on_tick=on_tick
    )
    bad = [c for c in found if not c.why and not (lenient and c.oid is None and c.entry)]
    if bad:
        shown = "; ".join(f"{c.entry}: {c.message}".removeprefix(": ") for c in bad[:_SHOWN])
        raise DamagedError(
            f"pg_restore: {len(bad)} errors: {shown}", "the messages name what did not come back; nothing was swapped"
        )
    return tuple(f"{c.entry}: {c.message}" + (f" ({c.why})" if c.why else "") for c in found)


def _without_password(conninfo: str, folder: Path) -> str:
    """Put the password into a file that only we can read: command lines are readable by every user of the machine."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    parts: dict[str, Any] = dict(conninfo_to_dict(conninfo))
    password = parts.pop("password", None)
    options = f"{parts.pop('options', '')} -c statement_timeout=0 -c idle_in_transaction_session_timeout=0".strip()
    if password:
        file = folder / ".pgpass"
        escaped = str(password).replace("\\", "\\\\").replace(":", "\\:")
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(f"*:*:*:*:{escaped}\n")
        parts["passfile"] = str(file)
    return make_conninfo(**{**parts, "options": options, "application_name": "upkeep restore"})


def owners(programs: Programs, archive: Path) -> list[str]:
    """Return the roles that own what is in an archive. :raises DamagedError: its contents cannot be read."""
    done, out = process.run([programs.path("pg_restore"), "--schema-only", "--file=-", archive])
    if done.code:
        raise DamagedError(f"pg_restore: {' | '.join(done.errors[-3:])}", "the archive's contents cannot be read")
    found = {match[1] for match in _OWNER.finditer(out.decode(errors="replace"))}
    return sorted(name[1:-1].replace('""', '"') if name.startswith('"') else name for name in found)


def prove(conninfo: str, manifest: Manifest, jobs: int) -> str:
    """Compare every table, sequence and large object with the manifest, and say in words what was compared.

    :raises DamagedError: something differs; the message says what.
    """
    seen, wrong = _proofs(conninfo, jobs), []
    wrong += [f"{'.'.join(d.name)}: {d.seen}, expected {d.expected}" for d in differences(manifest.tables, seen)]
    with backup_snapshot.connect(conninfo) as connection, backup_snapshot.told("restored database"):
        large = fingerprint.large_objects(connection)
        if (large.count, large.hash) != (manifest.large_objects.count, manifest.large_objects.hash):
            wrong.append(f"large objects: {large.count}, expected {manifest.large_objects.count}, or other content")
        for one in manifest.sequences:
            row = connection.execute(f"select last_value, is_called from {one.name}".encode()).fetchone()
            if row is None or (row["last_value"], row["is_called"]) != (one.last_value, one.is_called):
                wrong.append(f"sequence {one.name}: {row and row['last_value']}, expected {one.last_value}")
    if wrong:
        raise DamagedError(
            f"{len(wrong)} of {len(manifest.tables)} tables, and sequences, are not as backed up:"
            f" {'; '.join(wrong[:_SHOWN])}",
            "choose another backup; backup.verify tells which are whole",
        )
    return (
        f"{len(manifest.tables)} tables with {manifest.rows} rows, {len(manifest.sequences)} sequences and"
        f" {large.count} large objects are identical to the source in the backup's snapshot"
    )


def _proofs(conninfo: str, jobs: int) -> list[TableProof]:
    with backup_snapshot.connect(conninfo) as connection, backup_snapshot.told("restored database"):
        shares = fingerprint.spread(fingerprint.tables(connection), jobs)

    def work(share: list[fingerprint.Table]) -> list[TableProof]:
        with backup_snapshot.connect(conninfo) as session, backup_snapshot.told("restored database"):
            return [fingerprint.prove(session, table) for table in share]

    with ThreadPoolExecutor(max(1, jobs), thread_name_prefix="prove") as pool:
        return [proof for proofs in pool.map(work, [s for s in shares if s]) for proof in proofs]


def smoke(conninfo: str, questions: dict[str, Smoke]) -> str:
    """Ask a database what the system file wants to know of it, and return the answers in words.

    :raises DamagedError: an answer is not the one expected, or there is none.
    """
    import psycopg

    said = []
    for name, question in questions.items():
        try:
            with psycopg.connect(conninfo, autocommit=True, connect_timeout=10) as connection:
                connection.execute("set default_transaction_read_only = on")
                connection.execute("set statement_timeout = '60s'")
                row = connection.execute(question.sql.encode()).fetchone()
        except psycopg.Error as error:
            raise DamagedError(
                f"smoke {name}: {' '.join(str(error).split())}", "correct the question or the grants"
            ) from None
        value = row[0] if row else None
        if not answers(question, value):
            expected = f"at least {question.least:g}" if question.least is not None else f"{question.equals!r}"
            raise DamagedError(f"smoke {name}: {value!r}, expected {expected}", "is it the right backup?")
        said.append(f"{name} = {value}")
    return ", ".join(said)


def answers(question: Smoke, value: Any) -> bool:
    """Tell whether an answer is the one that was expected."""
    if question.least is not None:
        try:
            return value is not None and float(value) >= question.least
        except (TypeError, ValueError):
            return False
    return bool(value == question.equals or str(value) == str(question.equals))


__all__ = ["UpkeepError", "answers", "fill", "prove", "smoke"]
