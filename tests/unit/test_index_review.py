"""What the index review makes of names, days and numbers that no quick test can provoke on a server."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.core.job import Failed
from upkeep.core.model import Finding, Severity
from upkeep.routines.database import _bloat, _index_missing
from upkeep.routines.database._bloat import Bloat, BloatSettings, Plan, Tool
from upkeep.routines.database._index_ddl import concurrently, new_name, whole
from upkeep.routines.database._index_seen import Review, label, limited, undetermined
from upkeep.routines.database._index_settings import Settings
from upkeep.routines.database._index_unused import Clock
from upkeep.routines.database._seen import Seen
from upkeep.routines.database._text import quoted

NOW = datetime(2026, 11, 21, tzinfo=UTC)
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=63)


def point(days_ago: float, value: float) -> Any:
    return SimpleNamespace(at=NOW - timedelta(days=days_ago), value=value)


def clock(*, since: float, last_run: Any = None, kept: Any = None) -> Clock:
    return Clock(NOW, NOW - timedelta(days=since), last_run, {"public.i": kept} if kept else {})


ROW = {"schema": "public", "index": "i", "made": 500.0}


@pytest.mark.parametrize(
    ("known", "days"),
    [
        (clock(since=400), 0),  # never looked before: it may be made yesterday
        (clock(since=400, last_run=point(7, 1000)), 7),  # older than the last run
        (clock(since=3, last_run=point(7, 1000)), 3),
        (clock(since=400, last_run=point(7, 1000), kept=point(7, 28)), 35),
        (clock(since=3, last_run=point(7, 1000), kept=point(7, 28)), 31),  # four days that nobody counted
        (clock(since=400, last_run=point(7, 1000), kept=point(14, 28)), 7),  # it was in use in between
        (clock(since=400, last_run=point(7, 500), kept=point(7, 28)), 0),  # made anew since
    ],
)
def test_only_days_that_were_counted_prove_disuse(known: Clock, days: float):
    """Statistics that were reset lose what came before; the age of an index is known from transaction ids."""
    assert known.proved(ROW) == pytest.approx(days)


@given(NAMES, NAMES, NAMES)
def test_statements_of_the_server_are_changed_at_their_head_only(index: str, schema: str, table: str):
    """Whatever stands in a name, only the words of the statement itself are changed."""
    tail = f"{quoted(schema)}.{quoted(table)} USING btree (lower({quoted(index)}))"
    for unique in ("", "UNIQUE "):
        plain = f"CREATE {unique}INDEX {quoted(index)} ON {tail}"
        assert concurrently(plain) == f"CREATE {unique}INDEX CONCURRENTLY {quoted(index)} ON {tail}"
        assert whole(f"CREATE {unique}INDEX {quoted(index)} ON ONLY {tail}") == plain


@given(NAMES, st.lists(NAMES, min_size=1, max_size=4))
def test_a_new_name_fits_and_differs(table: str, columns: list[str]):
    """A name has at most 63 bytes, and cutting it short does not make two tables' names one."""
    name = new_name(table, columns)
    assert len(name.encode()) <= 63
    assert re.search(r"fk_idx$", name)
    if len("_".join((table, *columns)).encode()) > 57:
        assert name != new_name(table, [*columns[:-1], columns[-1] + "x"])


@given(NAMES)
def test_labels_are_quoted_unless_plain(name: str):
    """What people read can be pasted into SQL."""
    assert label(name) in (name, quoted(name))
    assert label(name) == quoted(name) or re.fullmatch("[a-z_][a-z0-9_]*", name)


def test_the_worst_are_named_and_the_others_counted():
    """Of many findings the worst stay, and nothing is left out in silence."""
    severities = [Severity.INFO, Severity.WARNING, Severity.INFO, Severity.INFO]
    some = [Finding(check="c", subject=str(n), severity=s, message="m") for n, s in enumerate(severities)]
    kept = limited(some, 2)
    assert [f.subject for f in kept] == ["1", "0", "others"]
    assert kept[2].severity is Severity.INFO and kept[2].message.startswith("2 more")
    assert limited(some, 4) == tuple(sorted(some, key=lambda f: -f.severity.rank))


@pytest.mark.parametrize("reason", ["timeout", "locked", "privilege", "other"])
def test_a_statement_without_rows_is_unknown(reason: Any):
    """Every statement that fails leaves its check open, with the cure."""
    from upkeep.routines.database._index_seen import QUESTIONS

    seen = Seen("place", answers={f"database/{name}": Failed(reason, "no") for name in QUESTIONS})
    findings = undetermined(seen)
    assert len(findings) == len(QUESTIONS) and {f.severity for f in findings} == {Severity.UNKNOWN}
    assert all(f.hint for f in findings)


def bloat(oid: int, size: int, wasted: int | None) -> Bloat:
    how: Any = "unknown" if wasted is None else "estimated"
    return Bloat("index", oid, "s", "t", f"i{oid}", size, wasted, None if wasted is None else wasted / size, how)


def test_the_budget_goes_to_the_worst_estimates_first():
    """What is estimated worst is measured first, then the largest unknown; nothing exceeds either limit."""
    settings = BloatSettings(measure_each_bytes=100, measure_total_bytes=150)
    found = [bloat(1, 60, None), bloat(2, 90, 10), bloat(3, 101, 100), bloat(4, 80, 40)]
    assert _bloat._choose(found, settings) == [4, 1]


def test_measuring_that_fails_leaves_the_estimate():
    """The estimate stays, and says why it is none better."""
    plan = Plan((bloat(1, 100, 50),), Tool("public"), {"index": [1]}, 5)
    answers = {"database/bloat_measured_indexes": Failed("timeout", "canceling statement")}
    [left] = plan.merge(answers)
    assert left == replace(bloat(1, 100, 50), why="measuring failed: canceling statement")


def test_waste_in_an_index():
    """Leaves filled as far as the fillfactor asks waste nothing, empty and deleted pages waste all."""
    fields = {"index_size": 819_200.0, "internal_pages": 4.0, "leaf_pages": 80.0, "empty_pages": 5.0}
    fields |= {"deleted_pages": 10.0, "avg_leaf_density": 45.0}
    assert _bloat.wasted_in_index(fields, 90) == pytest.approx(8192 * (40 + 15))
    assert _bloat.wasted_in_index(fields | {"avg_leaf_density": 95.0}, 90) == pytest.approx(8192 * 15)
    assert _bloat.wasted_in_index(fields | {"avg_leaf_density": float("nan")}, 90) == pytest.approx(8192 * 15)


def test_waste_in_a_table():
    """What a rewrite gives back: of what the fillfactor leaves free as much as rows are gone, dead rows, no page's end
    that is too small for another row."""
    fields = {"table_len": 819_200.0, "block_size": 8192.0, "dead_tuple_len": 40_960.0, "approx_free_space": 368_640.0}
    fields |= {"approx_tuple_count": 5_000.0}  # of 82 bytes each
    assert _bloat.wasted_in_table(fields, 100) == pytest.approx(409_600, rel=0.01)
    assert _bloat.wasted_in_table(fields, 80) == pytest.approx(819_200 - 512_000, rel=0.02)
    assert _bloat.wasted_in_table(fields, 50) == pytest.approx(0, abs=10_000)
    unknown = fields | {"approx_tuple_count": -1.0}
    assert _bloat.wasted_in_table(unknown, 80) == pytest.approx(819_200 - 512_000)
    assert _bloat.wasted_in_table(fields | {"approx_tuple_count": 3.0}, 100) == pytest.approx(409_600)
    wide = {"table_len": 819_200.0, "block_size": 8192.0, "dead_tuple_len": 0.0, "approx_free_space": 330_000.0}
    assert _bloat.wasted_in_table(wide | {"approx_tuple_count": 100.0}, 100) == 0
    half = wide | {"approx_tuple_count": 50.0, "approx_free_space": 570_000.0}
    assert _bloat.wasted_in_table(half, 100) == 409_600
    nothing = wide | {"approx_tuple_count": 0.0, "approx_free_space": 819_200.0}
    assert _bloat.wasted_in_table(nothing, 90) == 819_200


class Past:
    """A history of one table, a day old."""

    def __init__(self, **values: float) -> None:
        self.values = values

    def latest(self, name: str) -> dict[str, Any]:
        return {"public.t": point(1, self.values[name.split(".")[1]])}


@pytest.mark.parametrize(
    ("now", "severity"),
    [
        ({"scans": 150, "read": 150_000_000, "index_scans": 10}, Severity.INFO),
        ({"scans": 1100, "read": 1_100_000_000, "index_scans": 10}, Severity.WARNING),
        ({"scans": 150, "read": 150_000_000, "index_scans": 500}, None),  # indexes serve it as well
        ({"scans": 150, "read": 100_000_500, "index_scans": 10}, None),  # LIMIT 10 reads no table
        ({"scans": 105, "read": 105_000_000, "index_scans": 10}, None),  # a few dumps
        ({"scans": 50, "read": 50_000_000, "index_scans": 0}, None),  # counters of one table were reset
    ],
)
def test_growth_of_sequential_scans(now: dict[str, float], severity: Severity | None):
    """Only what grew since the last run counts, and only real reading of the table."""
    row = {"schema": "public", "table": "t", "live": 1_000_000, **now}
    server = {"now": NOW, "since": NOW - timedelta(days=9), "counting": True}
    seen = Seen("p", answers={"database/index_seq_scans": [row], "database/index_server": [server]})
    past = Past(seq_scans=100, seq_rows=100_000_000, index_scans=10)
    review = Review(seen, {}, (), (), Tool(None))
    judgement = _index_missing._sequential(review, Settings(), past)  # type: ignore[arg-type]
    assert [f.severity for f in judgement.findings] == ([severity] if severity else [])
