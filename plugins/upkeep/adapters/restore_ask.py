"""What is asked of a restored database besides its rows: is it sound, does it answer, how new is its content."""

from __future__ import annotations

import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upkeep.adapters import statements
from upkeep.adapters.process import Done, Program, environment
from upkeep.adapters.scratch_cluster import Cluster
from upkeep.core.errors import TransientError
from upkeep.core.restore import Canary, Missing, SmokeResult
from upkeep.core.targets import Smoke

if TYPE_CHECKING:
    import psycopg

CANARY = "upkeep_canary"
_SHOWN = 20
_LONGEST = 300


def amcheck(cluster: Cluster, database: str | None, jobs: int) -> tuple[list[str], Missing | None]:
    """Run pg_amcheck over a database (None: over all); return what it found, and why it was not run.

    It reads every page of every table and B-tree index. Where the indexes came with the backup (a whole cluster), every
    row is looked for in every index as well; those of a dump were built a moment ago, from rows that are compared.
    """
    program = cluster.programs.path("pg_amcheck")
    if not program.exists() or not _available(cluster):
        hint = f"install postgresql-contrib for {cluster.programs.major}, or set `amcheck: false`"
        return [], _unchecked(f"pg_amcheck or amcheck is not in {cluster.programs.folder}", hint)
    # Limits that a restored database sets for its application are not for us.
    own = "-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0"
    env = environment(PGHOST=str(cluster.socket), PGPORT="5432", PGUSER=cluster.superuser, PGOPTIONS=own)
    what = ["--all"] if database is None else [f"--database={database}"]
    command: list[str | Path] = [program, *what, "--install-missing", f"--jobs={jobs}"]
    command += ["--heapallindexed"] if database is None else []
    with Program([*command, "--no-password"], env=env, stdout=subprocess.PIPE) as running:
        out = running.stdout.read().decode(errors="replace")
        done = Done(running)
    found = [" ".join(part.split())[:_LONGEST] for part in _reports(out)]
    if done.code in (0, 2) or found:
        return found[:_SHOWN], None
    said = f"pg_amcheck ended with code {done.code}: {' | '.join(done.errors[-3:])}"[:_LONGEST]
    if not cluster.running:
        raise TransientError(f"the scratch server ended: {cluster.log_tail()}", "it is tried again")
    if any("closed the connection" in line for line in done.errors):  # a page on which the server itself fell down
        return [said], None
    return [], _unchecked(said, "run pg_amcheck by hand on a restored copy, or set `amcheck: false`")


def _unchecked(why: str, hint: str) -> Missing:
    message = f"neither pages nor indexes of the restored database were checked: {why}"
    return Missing(what="amcheck", name="amcheck", message=message, hint=hint)


def _reports(out: str) -> list[str]:
    """Join each report with its indented lines."""
    reports: list[str] = []
    for line in out.splitlines():
        if line.startswith((" ", "\t")) and reports:
            reports[-1] += " " + line.strip()
        elif line.strip():
            reports.append(line)
    return reports


def _available(cluster: Cluster) -> bool:
    with cluster.connect() as connection:
        found = connection.execute("select from pg_catalog.pg_available_extensions where name = 'amcheck'").fetchone()
    return found is not None


def smoke(cluster: Cluster, database: str, questions: dict[str, Smoke], timeout: float) -> dict[str, SmokeResult]:
    """Ask the system's own questions, each read-only and with a time limit."""
    return {name: _ask(cluster, database, question, timeout) for name, question in questions.items()}


def _ask(cluster: Cluster, database: str, question: Smoke, timeout: float) -> SmokeResult:
    import psycopg

    begun = time.monotonic()
    expected = f"at least {question.least:g}" if question.least is not None else str(question.equals)
    try:
        with cluster.connect(database) as connection:
            connection.execute("set default_transaction_read_only = on")
            connection.execute(f"set statement_timeout = {round(timeout * 1000)}".encode())
            rows = connection.execute(question.sql.encode()).fetchmany(2)
    except psycopg.Error as error:
        if not cluster.running:
            raise TransientError(f"the scratch server ended: {cluster.log_tail()}", "it is tried again") from error
        said = str(error.diag.message_primary or error)[:_LONGEST]
        return SmokeResult(ok=False, seen=said, expected=expected, seconds=time.monotonic() - begun)
    seconds = time.monotonic() - begun
    if len(rows) != 1 or len(rows[0]) != 1:
        return SmokeResult(ok=False, seen=f"{len(rows)} rows", expected=expected + " (one value)", seconds=seconds)
    value = rows[0][0]
    return SmokeResult(ok=_fits(value, question), seen=str(value)[:_LONGEST], expected=expected, seconds=seconds)


def _fits(value: Any, question: Smoke) -> bool:
    if question.least is None:
        return bool(value == question.equals or str(value) == str(question.equals))
    try:
        return value is not None and float(value) >= question.least
    except (TypeError, ValueError):
        return False


def canary(cluster: Cluster, database: str, snapshot_time: datetime) -> Canary | None:
    """Return the newest row that the canary wrote before the backup; None where there is no canary."""
    from psycopg import sql

    with cluster.connect(database) as connection:
        found = _canary_table(connection)
        if found is None:
            return None
        text = sql.SQL("select pg_catalog.max(written_at)::timestamptz from {}").format(sql.Identifier(*found))
        row = connection.execute(text).fetchone()
    if row is None or row[0] is None:
        return None
    return Canary(written_at=row[0], age_seconds=(snapshot_time - row[0]).total_seconds())


def _canary_table(connection: psycopg.Connection[Any]) -> tuple[str, str] | None:
    row = connection.execute(statements.load("restore", "canary").encode(), {"name": CANARY}).fetchone()
    return (row[0], row[1]) if row else None
