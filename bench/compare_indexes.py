"""Indexes: what was planted, look-alikes that nobody may call out, and what our review says.

check_postgres has no check for any of it; its `index_size` and `bloat` tell sizes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg

from bench.compare_tools import review
from lab.postgres import PostgresServer
from tests.integration.database_bench import until

DATABASE = "indexes"
CHECKS = ("duplicate", "redundant", "invalid", "unused", "foreign_key")
_MARK = re.compile(r"^--(?P<mark>:| called:| used:) (?P<rest>.*)$", re.M)
_USED = re.compile(r"(\w+): (.*)")


def compare(pg: PostgresServer) -> None:
    """Plant, review, and print what was found for each check."""
    pg.create_database(DATABASE)
    text = Path(__file__).with_suffix(".sql").read_text()
    marks = [(m["mark"].strip(": "), m["rest"]) for m in _MARK.finditer(text)]
    with pg.connect(DATABASE) as db:
        for statement in re.sub(r"^--.*$", "", text, flags=re.M).split(";\n"):
            _execute(db, statement.strip())
        db.execute("ANALYZE")
        used = dict(_USED.fullmatch(rest).groups() for mark, rest in marks if mark == "used")  # type: ignore[union-attr]
        for index, query in used.items():
            _scan(db, index, query)
        until(lambda: _scanned(db) >= set(used), "the scans are counted")
    planted = {tuple(rest.split()) for mark, rest in marks if mark == "called"}
    judgement = review(pg, DATABASE).run(
        unused_days=0, unused_min_bytes=0, foreign_key_bytes={"info": 0}, top=100, needless_bytes={"info": 0}
    )
    said = {(f.check, f.subject.removeprefix("public.")) for f in judgement.findings if f.check in CHECKS}
    cases = sum(mark == "" for mark, _ in marks)
    print(f"{cases} tables, {len(planted)} troubles planted; check_postgres has no check for them")
    print(f"{'check':12} {'planted':>7} {'found':>6} {'false':>6} {'precision':>9} {'recall':>7}")
    for check in CHECKS:
        _print(check, {i for c, i in planted if c == check}, {i for c, i in said if c == check})


def _print(check: str, planted: set[str], said: set[str]) -> None:
    right = planted & said
    precision, recall = len(right) / max(1, len(said)), len(right) / max(1, len(planted))
    print(
        f"{check:12} {len(planted):7} {len(right):6} {len(said - planted):6} {precision:9.2f} {recall:7.2f}"
        + "".join(f"  false: {name}" for name in sorted(said - planted))
        + "".join(f"  missed: {name}" for name in sorted(planted - said))
    )


def _execute(db: psycopg.Connection[Any], statement: str) -> None:
    if statement.startswith("\\fails "):
        try:
            db.execute(statement.removeprefix("\\fails ").encode())
        except psycopg.Error:
            return
        raise AssertionError(f"it did not fail: {statement}")
    if statement:
        db.execute(statement.encode())


def _scan(db: psycopg.Connection[Any], index: str, query: str) -> None:
    """Scan exactly this index: for a moment, in a transaction that is rolled back, its table has no other."""
    with db.transaction(force_rollback=True):
        db.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        db.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid <> %(name)s::regclass AND indrelid ="
            " (SELECT indrelid FROM pg_index WHERE indexrelid = %(name)s::regclass)",
            {"name": index},
        )
        [table] = (
            db.execute(
                "SELECT indrelid::regclass::text FROM pg_index WHERE indexrelid = %s::regclass", [index]
            ).fetchone()
            or ()
        )
        db.execute(f"SELECT FROM {table} {query}".encode())


def _scanned(db: psycopg.Connection[Any]) -> set[str]:
    """Return the indexes that were scanned; a partitioned one when one of its parts was."""
    rows = db.execute(
        "SELECT coalesce(inhparent, indexrelid)::regclass::text FROM pg_stat_user_indexes"
        " LEFT JOIN pg_inherits ON inhrelid = indexrelid WHERE idx_scan > 0"
    ).fetchall()
    return {name for (name,) in rows}
