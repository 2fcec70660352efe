"""Bloat: every kind of table and index that estimates are known to get wrong, and the really bloated among them.

The truth is hand-made: everything is rebuilt at the end, and what that gives back was bloat.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from bench import compare_tools
from bench.compare_tools import Opinion
from lab.postgres import PostgresServer

DATABASE = "bloat"
# Bloated, at the scale of this bench: a rebuild gives back at least this share of it, and at least so many bytes.
RATIO, LEAST = 0.30, 2**20
NOTHING = Opinion()
DULL = 0.1
_CASE = re.compile(r"^--: (?P<name>\w+), (?P<what>.*): (?P<relations>.*)$", re.M)


@dataclass(frozen=True)
class Case:
    """Relations, what was done to them, and the statements that do it."""

    name: str
    what: str
    relations: tuple[str, ...]
    statements: tuple[str, ...]

    @property
    def analyzed(self) -> bool:
        return "(never)" not in self.what


def cases() -> list[Case]:
    """Return the cases of compare_bloat.sql."""
    text = Path(__file__).with_suffix(".sql").read_text()
    heads = list(_CASE.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return [
        Case(
            head["name"],
            head["what"],
            tuple(head["relations"].split()),
            tuple(s.strip() for s in re.split(r";\n|(?<=\\gexec)\n", text[head.end() : end]) if s.strip()),
        )
        for head, end in zip(heads, ends, strict=True)
    ]


def compare(pg: PostgresServer) -> None:
    """Make the tables, ask everybody, rebuild, and print who was right."""
    pg.create_database(DATABASE)
    chosen = cases()
    with pg.connect(DATABASE) as db:
        db.execute("CREATE EXTENSION pgstattuple")
        for case in chosen:
            _make(db, case)
        said = _opinions(pg)
        known = _identify(db, chosen)
        truth = _truth(db, known)
    _print(chosen, truth, said)


def _make(db: psycopg.Connection[Any], case: Case) -> None:
    for statement in case.statements:
        answer = db.execute(statement.removesuffix("\\gexec").encode())
        if statement.endswith("\\gexec"):
            [made] = answer.fetchone() or ()
            db.execute(made.encode())
    if case.analyzed:
        db.execute(f"ANALYZE {case.name}".encode())


def _opinions(pg: PostgresServer) -> dict[str, Mapping[str, Opinion]]:
    percent = RATIO * 100
    said: dict[str, Mapping[str, Opinion]] = {
        "measured": compare_tools.our_bloat(pg, DATABASE, LEAST, percent),
        "estimated": compare_tools.our_bloat(pg, DATABASE, LEAST, percent, measure_seconds=0),
    }
    if compare_tools.PROGRAM:
        # It knows a factor with one decimal: 30 % empty is 1.4 times as large as need be.
        limit = f"{LEAST} bytes and {100 / (1 - RATIO):.0f}%"
        said["check_postgres"] = compare_tools.their_bloat(pg, DATABASE, limit, compare_tools.ALL_PAIRS)
        said["as it comes"] = compare_tools.their_bloat(pg, DATABASE, limit)
    return said


@dataclass(frozen=True)
class Truth:
    """Of one relation: its size, what a rebuild gave back, and what pgstattuple or pgstatindex calls empty."""

    size: int
    wasted: int
    empty: float | None

    @property
    def ratio(self) -> float:
        return self.wasted / self.size if self.size else 0.0

    @property
    def bloated(self) -> bool:
        return self.ratio >= RATIO and self.wasted >= LEAST


def _identify(db: psycopg.Connection[Any], chosen: list[Case]) -> dict[str, tuple[int, str]]:
    """Return object id and access method of every relation of the cases."""
    known = {}
    for name in (name for case in chosen for name in case.relations):
        oid = f"'{name.removesuffix(':toast')}'::regclass"
        if name.endswith(":toast"):
            oid = f"(SELECT reltoastrelid FROM pg_class WHERE oid = {oid})"
        asked = f"SELECT c.oid, m.amname FROM pg_class c JOIN pg_am m ON m.oid = c.relam WHERE c.oid = {oid}"
        row = db.execute(asked.encode()).fetchone()
        assert row, name
        known[name] = row
    return known


def _truth(db: psycopg.Connection[Any], known: Mapping[str, tuple[int, str]]) -> dict[str, Truth]:
    """Rebuild everything and return what that gave back."""
    before = {name: (_size(db, oid), _empty(db, oid, kind)) for name, (oid, kind) in known.items()}
    db.execute("VACUUM (FULL)")
    return {
        name: Truth(size, max(0, size - _size(db, known[name][0])), empty) for name, (size, empty) in before.items()
    }


def _size(db: psycopg.Connection[Any], oid: int) -> int:
    row = db.execute("SELECT pg_relation_size(%s::oid::regclass)", [oid]).fetchone()
    return int(row[0]) if row else 0


def _empty(db: psycopg.Connection[Any], oid: int, kind: str) -> float | None:
    asked = {
        "heap": "SELECT (dead_tuple_len + free_space) / nullif(table_len, 0.0) FROM pgstattuple(%s::oid::regclass)",
        "btree": "SELECT 1 - nullif(avg_leaf_density, 'nan') / 100 FROM pgstatindex(%s::oid::regclass)",
    }
    row = db.execute(asked[kind].encode(), [oid]).fetchone() if kind in asked else None
    return row[0] if row else None


def _print(chosen: list[Case], truth: Mapping[str, Truth], said: Mapping[str, Mapping[str, Opinion]]) -> None:
    shown = [way for way in said if way != "as it comes"]
    print(f"{'relation':22} {'MB':>5} {'truth':>6} {'pgstat':>6} " + " ".join(f"{way:>14}" for way in shown))
    dull = 0
    for case in chosen:
        for name in case.relations:
            fact, opinions = truth[name], [said[way].get(name, NOTHING) for way in shown]
            if not fact.bloated and not any(o.called or abs((o.ratio or 0) - fact.ratio) > DULL for o in opinions):
                dull += 1
                continue
            empty = "-" if fact.empty is None else f"{fact.empty:.0%}"
            print(
                f"{name:22} {fact.size / 2**20:5.1f} {fact.ratio:5.0%}{'*' if fact.bloated else ' '} {empty:>6} "
                + " ".join(_cell(opinion, fact) for opinion in opinions)
                + f"  {case.what}"
            )
    print(f"and {dull} that are not bloated, of which all say nothing or what is true within {DULL:.0%}")
    print("* bloated, or called so; ! wrongly so, or missed; - nothing is said of it")
    for way, opinions in said.items():
        _score(way, truth, {name: opinions.get(name, NOTHING) for name in truth})


def _cell(opinion: Opinion, fact: Truth) -> str:
    number = "-" if opinion.ratio is None else f"{opinion.ratio:.0%}"
    return f"{number + ('*' if opinion.called else ' ') + ('!' if opinion.called != fact.bloated else ' '):>14}"


def _score(way: str, truth: Mapping[str, Truth], said: Mapping[str, Opinion]) -> None:
    bloated = {name for name, fact in truth.items() if fact.bloated}
    called = {name for name, opinion in said.items() if opinion.called}
    # What is small is looked at by nobody, and its ratio matters to none.
    errors = [
        abs(opinion.ratio - truth[name].ratio)
        for name, opinion in said.items()
        if opinion.ratio is not None and truth[name].size >= LEAST
    ]
    silent = sum(opinion.ratio is None and truth[name].size >= LEAST for name, opinion in said.items())
    print(
        f"{way:15} found {len(called & bloated)} of {len(bloated)} bloated, {len(called - bloated)} false alarms,"
        f" mean error {sum(errors) / max(1, len(errors)):.3f} over {len(errors)}, silent on {silent}"
    )
