"""Differences of counters that may begin anew, and plans without values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.core.job import Failed
from upkeep.core.model import Measurement
from upkeep.routines.database import _slow_judge, _slow_source, _statements_plan, _statements_spell
from upkeep.routines.database._slow_settings import Settings
from upkeep.routines.database._statements_spell import Spell

SOURCE = {"io_timed": True, "role": "dba", "database": "claims", "planted": 0, "in_recovery": False, "offered": "1.12",
          "may_use": True, "track": "top", "compute_query_id": "auto"}  # fmt: skip


@dataclass(frozen=True)
class Kept:
    at: datetime
    value: float


@dataclass
class Ledger:
    """Remembers runs as the ledger does: all measurements of a run at one moment."""

    kept: dict[tuple[str, str], Kept] = field(default_factory=dict)
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def keep(self, measurements: tuple[Measurement, ...]) -> None:
        self.at += timedelta(days=7)
        self.kept |= {(m.name, m.subject): Kept(self.at, m.value) for m in measurements}

    def last(self, name: str, subject: str = "") -> Kept | None:
        return self.kept.get((name, subject))

    def latest(self, name: str) -> dict[str, Kept]:
        return {subject: kept for (n, subject), kept in self.kept.items() if n == name}

    def series(self, name: str, subject: str = "", limit: int = 90) -> list[Kept]:
        return []


@dataclass
class Statements:
    """A server that counts calls, as pg_stat_statements of one version does; and what was truly called."""

    version: float
    clock: float = 1000.0
    reset_at: float = 1000.0
    dealloc: int = 0
    counts: dict[int, list[float]] = field(default_factory=dict)  # calls and since when
    true: dict[int, int] = field(default_factory=dict)

    def do(self, event: str, query: int, times: int) -> None:
        self.clock += 1
        match event:
            case "call":
                self.counts.setdefault(query, [0, self.clock])[0] += times
                self.true[query] = self.true.get(query, 0) + times
            case "reset":
                self.counts.clear()
                self.reset_at = self.clock
            case "reset one":
                self.counts.pop(query, None)
            case "evict":
                self.dealloc += 1 if self.counts.pop(query, None) else 0
            case "promote":
                # A standby takes over, whose own statistics began long ago.
                self.counts = {query: [times * 5, 500.0]}
                self.reset_at, self.dealloc = 500.0, 0

    def rows(self, keep: int) -> list[dict[str, Any]]:
        every = sorted(self.counts.items(), key=lambda item: -item[1][0])
        nothing = [(None, [0, None])]
        return [
            {
                "role": "app", "queryid": query, "toplevel": True, "calls": int(calls), "rows": int(calls), "hidden": 0,
                "time": calls * 2.0, "io_time": calls * 1.0, "query": f"SELECT {query}", "entries": len(every),
                "since_at": since if self.version >= 1.11 else None,
                "reset_at": self.reset_at if self.version >= 1.09 else None,
                "dealloc": self.dealloc if self.version >= 1.09 else None,
            }
            for query, (calls, since) in every[:keep] or nothing
        ]  # fmt: skip


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["call"] * 8 + ["run"] * 4 + ["reset", "reset one", "evict", "evict"]),
        st.integers(1, 4),
        st.integers(1, 9),
    ),
    max_size=40,
)


def runs(server: Statements, events: list[Any], keep: int) -> list[tuple[Spell, int, bool]]:
    """Return of every run each statement's spell, its true calls since the last run, and whether that is the first."""
    ledger, told, first = Ledger(), [], True
    for event, query, times in [*events, ("run", 0, 0)]:
        if event != "run":
            server.do(event, query, times)
            continue
        server.clock += 1
        source, rows = SOURCE | {"taken_at": server.clock}, server.rows(keep)
        spells = _statements_spell.spells(source, rows, _statements_spell.recall(ledger))
        told += [(spell, server.true.get(spell.row["queryid"], 0), first) for spell in spells]
        ledger.keep(_statements_spell.kept(source, rows))
        server.true, first = {}, False
    return told


@pytest.mark.parametrize("version", [1.08, 1.09, 1.12])
@given(EVENTS, st.integers(1, 5))
def test_no_difference_is_negative_or_invented(version: float, events: list[Any], keep: int):
    """What is told since the last run was truly called since; exactly that many, unless it says `at least`."""
    resettable = {event for event, _, _ in events} & {"reset", "reset one", "evict"}
    for spell, true, first in runs(Statements(version), events, keep):
        assert spell.since == "reset" if first else True
        if spell.since == "reset":
            assert spell.calls == spell.row["calls"]
            continue
        assert 0 <= spell.calls <= true
        assert spell.time == spell.calls * 2 and spell.io_time == spell.calls and spell.rows == spell.calls
        if not resettable:
            assert (spell.calls, spell.at_least) == (true, False)


@pytest.mark.parametrize("version", [1.09, 1.12])
@given(EVENTS)
def test_everything_kept_means_everything_told(version: float, events: list[Any]):
    """Where all statements fit into what is kept, a second run never falls back to numbers since the reset."""
    for spell, _, first in runs(Statements(version), events, keep=10):
        assert first or spell.since == "run"


@pytest.mark.parametrize("version", [1.09, 1.12])
@given(EVENTS, st.integers(1, 4), st.integers(1, 9))
def test_a_promoted_standby_is_another_server(version: float, events: list[Any], query: int, times: int):
    """Its counters, higher or lower, are no difference to those of the old primary."""
    server = Statements(version)
    calls = [("call", query, times), ("run", 0, 0), ("promote", query, times)]
    last = runs(server, [*events, *calls], keep=10)[-1][0]
    assert last.since == "reset"
    assert last.calls == times * 5


NODE = {
    "Node Type": "Limit", "Total Cost": 120.4, "Plan Rows": 10,
    "Plans": [{
        "Node Type": "Seq Scan", "Relation Name": 'cl"aim', "Total Cost": 1e6, "Plan Rows": 5000,
        "Filter": "((note = 'Jane Doe'::text) AND (id > 4711) AND (amount > $1))",
    }],
}  # fmt: skip


def test_a_plan_is_shown_without_values():
    """Views, policies and checks bring constants of their own."""
    lines = _statements_plan.shown(NODE, 8)
    assert lines == [
        "  Limit (cost 120, 10 rows)",
        '    Seq Scan on "cl""aim" (cost 1,000,000, 5,000 rows),'
        " filter ((note = ?::text) AND (id > ?) AND (amount > $1))",
    ]
    assert _statements_plan.shown(NODE, 1)[1:] == ["  … 1 more nodes"]
    assert _statements_plan.reads_all(NODE) == 'cl"aim'
    [scan] = NODE["Plans"]  # type: ignore[misc]
    assert _statements_plan.reads_all(dict(scan) | {"Total Cost": 900}) == ""


@pytest.mark.parametrize(
    ("text", "is_so"),
    [
        ("-- a comment\nselect 1", True),
        ("/* " + "x" * 5000 + " */ (SELECT 1)", True),
        ("  WITH x AS (SELECT 1) SELECT * FROM x", True),
        ("VACUUM claim", False),
        ("", False),
        ("/* SELECT", False),
    ],
)
def test_how_a_statement_begins(text: str, is_so: bool):
    """Comments and case do not count."""
    row = {"query": text, "cut": False}
    assert (_statements_plan.refusal(row, SOURCE, Settings()) == "") == is_so


def test_a_refusal_shows_no_value():
    """The server quotes what it stumbled over, and that may be a value."""
    failed = Failed("other", 'invalid input syntax for type integer: "4111 1111"', "22P02")
    row = {"role": "app", "search_path": None}
    assert _statements_plan.failure(failed, row, SOURCE, Settings()) == "the server refused (SQLSTATE 22P02)"
    assert _statements_plan.path({"role": 'a"b', "search_path": None}, Settings()) == '"a""b", public, pg_temp'


@pytest.mark.parametrize(
    ("state", "cure"),
    [
        ({"offered": None, "loaded": False, "preloaded": None}, "install PostgreSQL's contrib package, then add"),
        ({"loaded": False, "preloaded": 'auto_explain, "x"'}, "= 'auto_explain', 'x', 'pg_stat_statements'; and"),
        ({"loaded": False, "preloaded": ""}, "CREATE EXTENSION pg_stat_statements;"),
        ({"loaded": True, "in_recovery": True}, "on the primary, in database claims: CREATE EXTENSION"),
    ],
)
def test_the_cure_of_a_missing_extension(state: dict[str, Any], cure: str):
    """Library, restart, extension: each is named only where it is missing."""
    [finding] = _slow_source.missing(SOURCE | {"installed": None} | state)
    assert cure in finding.hint


def test_messages_fit_the_report():
    """The largest finding there can be is shown whole."""
    wide = {"Node Type": "x" * 40, "Relation Name": "r" * 63, "Index Name": "i" * 63, "Total Cost": 1e9, "Plan Rows": 1}
    wide |= {"Filter": "f" * 300, "Plans": [dict(NODE)] * 20}
    row = SOURCE | {"role": "r" * 63, "queryid": -(2**63), "toplevel": False, "query": "SELECT " + "q" * 9000}
    row |= {"calls": 5, "time": 9.0, "rows": 1, "io_time": 1.0, "entries": 1, "hidden": 0}
    row |= dict.fromkeys(("since_at", "reset_at", "dealloc"))
    spell = Spell(row, 500, 1e6, None, 10**9, "reset")
    before = _statements_spell.recall(Ledger())
    source = SOURCE | {"installed": "1.12", "loaded": True, "taken_at": 1.0}
    seen = _slow_judge.Seen(source, before, [row], (spell,), {spell.subject: wide})
    findings = [f for f in _slow_judge.judge(seen, Settings(plan_lines=12)).findings if f.check == "mean_time"]
    assert len(findings) == 1
    assert len(findings[0].message) < 2000
