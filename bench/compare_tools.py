"""The two tools that `bench.compare` asks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from lab.postgres import PostgresServer
from tests.integration.database_bench import Bench
from upkeep.core.routine import Routine
from upkeep.core.targets import PostgresTarget

PROGRAM = shutil.which("check_postgres")
BLOCK = 8192
# rows, pages, pages it should take, factor, wasted bytes; the rows of an index stay empty (a misspelt column there).
_BLOAT = re.compile(
    r"(?:table \S+?\.(?P<table>\S+)|index (?P<index>\S+)) rows:\S* pages:(?P<pages>\d+) shouldbe:(?P<needed>\d+) "
    r"\([\d.]+X\) wasted (?:size|bytes):(?P<wasted>\d+)"
)
# Without anything to exclude it looks at ten pairs of table and index only.
ALL_PAIRS = "--exclude=nothing"


@dataclass(frozen=True)
class Opinion:
    """What a tool says of one relation; `ratio` is None when it says that it does not know, or nothing."""

    ratio: float | None = None
    wasted: int = 0
    called: bool = False


def check_postgres_version() -> str:
    """Return its version, empty when it is not there."""
    if PROGRAM is None:
        return ""
    return subprocess.run([PROGRAM, "--version"], check=True, capture_output=True, text=True).stdout.strip()


def check_postgres(pg: PostgresServer, action: str, *options: str, database: str = "postgres") -> tuple[str, str]:
    """Run one action; return the state (OK, WARNING, CRITICAL, UNKNOWN) and all it said."""
    assert PROGRAM is not None
    where = ["-H", "127.0.0.1", "-p", str(pg.port), "-u", "postgres", "--db", database]
    environment = {**os.environ, "PGPASSWORD": pg.password()}
    done = subprocess.run(
        [PROGRAM, f"--action={action}", *where, *options],
        check=False, capture_output=True, text=True, env=environment, timeout=120,
    )  # fmt: skip
    said = done.stdout + done.stderr
    state = re.match(r"POSTGRES_\w+ (OK|WARNING|CRITICAL|UNKNOWN):", said)
    assert state, f"check_postgres {action} said: {said}"
    return state[1], said


def their_bloat(pg: PostgresServer, database: str, limit: str, *options: str) -> dict[str, Opinion]:
    """Return what check_postgres says of tables and indexes, by name; `limit` decides what it calls out."""
    called, numbers = (
        _told(check_postgres(pg, "bloat", *options, f"--warning={least}", database=database)[1])
        for least in (limit, "0 bytes")
    )
    return {
        name: Opinion(int(m["wasted"]) / (int(m["pages"]) * BLOCK or 1), int(m["wasted"]), name in called)
        for name, m in numbers.items()
    }


def _told(said: str) -> dict[str, re.Match[str]]:
    """Return what is said by name; of what takes no page at all nothing is: views, TOAST, indexes taken for tables."""
    lines = _BLOAT.finditer(said.partition(" | ")[0])
    return {m["table"] or m["index"]: m for m in lines if m["needed"] != "0"}


def review(pg: PostgresServer, database: str) -> Bench:
    """Return our index review of a database, which decides about bloat as well."""
    routine = Routine.load("upkeep.routines.database.index_review")
    return Bench(routine, PostgresTarget(conn_id="db", id="compare/db"), pg.dsn(database))


def our_bloat(pg: PostgresServer, database: str, least: int, percent: float, **settings: Any) -> dict[str, Opinion]:
    """Return what the review says of every table and index, by name."""
    bench = review(pg, database)
    judgement = bench.run(bloat_min_bytes=least, bloat={"info": percent}, top=100, **settings)
    named = {
        f.subject.split(".")[-1].replace(" (TOAST)", ":toast")
        for f in judgement.findings
        if f.check in ("bloat_table", "bloat_index")
    }
    return {
        name: Opinion(b.ratio, b.wasted_bytes or 0, name in named and (b.wasted_bytes or 0) >= least)
        for b in bench.seen.bloats
        for name in [b.index or b.table + ":toast" * b.toast]
    }
