"""Need, table by table, against truth made by hand from autovacuum's own rules; and who gets a turn when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.database_bench import Kept, Memory
from upkeep.routines.database._need import (
    Need,
    Part,
    Reason,
    Table,
    is_lost,
    is_switched_off,
    limits,
    need,
    parent_need,
    parsed,
)
from upkeep.routines.database._vacuum_look import Wanted
from upkeep.routines.database._vacuum_settings import AnalyzeSettings, VacuumSettings
from upkeep.routines.database._vacuum_work import Times, Work, bundled, work_for, works_of

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SERVER: dict[str, Any] = {
    "version": 180_000, "block_size": 8192, "statistics_target": 100, "track_counts": True,
    "vacuum_threshold": 50.0, "vacuum_scale": 0.2, "insert_threshold": 1000.0, "insert_scale": 0.2,
    "analyze_threshold": 50.0, "analyze_scale": 0.1, "freeze_max_age": 2e8, "multixact_freeze_max_age": 4e8,
    "max_threshold": None,
}  # fmt: skip
PART = Part(
    oid=1, pages=100, tuples=1000, all_visible=100, all_frozen=None, live=1000, dead=0, inserted=0, vacuumed_at=NOW,
    xid_age=0, mxid_age=0,
)  # fmt: skip
TABLE = Table(
    schema="s", table="t", name="s.t", is_system=False, is_shared=False, main=PART, toast=None, options={},
    toast_options={}, modified=0, analyzed_at=NOW, index_pages=10,
)  # fmt: skip
AS_AUTOVACUUM = VacuumSettings(share=1, freeze_share=1)


def main(options: dict[str, str] | None = None, **parts: Any) -> Table:
    return replace(TABLE, main=replace(PART, **parts), options=options or {}, toast_options=options or {})


def codes(table: Table, chosen: VacuumSettings = AS_AUTOVACUUM, **server: Any) -> set[str]:
    return {("TOAST " if r.toast else "") + r.code for r in need(table, SERVER | server, chosen).reasons}


# 1000 rows: vacuum past 50 + 0.2 * 1000 = 250 dead, past 1000 + 0.2 * 1000 = 1200 inserted; analyze past 150 changed.
@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (TABLE, set()),
        (main(dead=250), set()),
        (main(dead=251), {"dead"}),
        (main(inserted=1200), set()),
        (main(inserted=1201), {"inserts"}),
        (replace(TABLE, modified=150), set()),
        (replace(TABLE, modified=151), {"changes"}),
        (main(tuples=-1, dead=51), {"dead"}),
        (main({"autovacuum_vacuum_scale_factor": "0.5"}, dead=550), set()),
        (main({"autovacuum_vacuum_scale_factor": "0.5"}, dead=551), {"dead"}),
        (main({"autovacuum_vacuum_threshold": "0", "autovacuum_vacuum_scale_factor": "0"}, dead=1), {"dead"}),
        (main({"autovacuum_vacuum_insert_threshold": "-1"}, inserted=10**9), set()),
        (main({"autovacuum_vacuum_scale_factor": "-1"}, dead=251), {"dead"}),
        (main({"autovacuum_enabled": "off"}, dead=251), {"dead"}),
        (main(xid_age=2e8), set()),
        (main(xid_age=2e8 + 1), {"age"}),
        (main(mxid_age=4e8 + 1), {"age"}),
        (main({"autovacuum_freeze_max_age": "100000"}, xid_age=100_001), {"age"}),
        (main({"autovacuum_freeze_max_age": "1000000000"}, xid_age=2e8 + 1), {"age"}),
        (main({"autovacuum_multixact_freeze_max_age": "10000"}, mxid_age=10_001), {"age"}),
        (replace(main(oid=2619), modified=10**6), set()),
    ],
)  # fmt: skip
def test_the_limits_are_autovacuums(table: Table, expected: set[str]):
    """At the limit nothing is done, one past it something is; parameters of a table go before the server's."""
    assert codes(table) == expected


def test_toast_has_its_own_counters_and_parameters():
    """TOAST takes its table's parameters, unless it has any of its own: then the server's for all others."""
    toast = replace(PART, oid=2, dead=300)
    generous = {"autovacuum_vacuum_scale_factor": "0.9"}
    assert codes(replace(TABLE, toast=toast)) == {"TOAST dead"}
    assert codes(replace(TABLE, toast=toast, options=generous, toast_options=generous)) == set()
    assert codes(replace(TABLE, toast=toast, options=generous, toast_options={})) == {"TOAST dead"}
    assert codes(replace(TABLE, toast=replace(toast, dead=0, xid_age=3e8))) == {"TOAST age"}


def test_what_18_changed():
    """From 18 on frozen pages do not count for inserts, and a very large table is capped."""
    assert limits(SERVER, {}, replace(PART, all_frozen=75)).insert == 1000 + 0.2 * 1000 * 0.25
    huge = replace(PART, tuples=1e10)
    assert limits(SERVER, {}, huge).dead == 50 + 2e9
    assert limits(SERVER | {"max_threshold": 1e8}, {}, huge).dead == 1e8
    assert limits(SERVER | {"max_threshold": 1e8}, {"autovacuum_vacuum_max_threshold": "-1"}, huge).dead == 50 + 2e9
    assert limits(SERVER | {"max_threshold": -1.0}, {"autovacuum_vacuum_max_threshold": "5"}, huge).dead == 5


def test_quiet_hours_take_less():
    """Half of autovacuum's limits is enough by default, for ages too."""
    assert codes(main(dead=126), VacuumSettings()) == {"dead"}
    assert codes(main(xid_age=1e8 + 1), VacuumSettings()) == {"age"}
    assert codes(main(dead=125, xid_age=1e8), VacuumSettings()) == set()


def test_what_nobody_looks_after():
    """Never vacuumed, never analyzed, and counters that a crash has lost; of the server's own tables none."""
    fresh = main(tuples=-1, pages=0, all_visible=0, vacuumed_at=None)
    assert codes(replace(fresh, analyzed_at=None)) == {"never vacuumed", "never analyzed"}
    assert codes(replace(fresh, main=replace(fresh.main, live=999))) == set()
    lost = replace(main(vacuumed_at=None, live=0), analyzed_at=None)
    assert is_lost(lost) and codes(lost) == {"lost", "never analyzed"}
    assert not is_lost(replace(lost, is_system=True)) and codes(replace(lost, is_system=True)) == set()
    assert codes(replace(main(tuples=0, pages=0, live=0, vacuumed_at=None, all_visible=0), analyzed_at=None)) == set()


PARENT: dict[str, Any] = {
    "oid": 9, "schema": "s", "table": "p", "name": "s.p", "kind": "p", "options": None, "analyzed_at": NOW,
    "ancestors": None,
    "pages": 10.0, "tuples": 1000.0, "modified": 0.0, "later": 0, "later_tuples": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, set()),
        ({"modified": 150.0}, set()),
        ({"modified": 151.0}, {"changes"}),
        ({"later": 2, "later_tuples": 1000.0}, {"changes"}),
        ({"analyzed_at": None}, {"never analyzed"}),
        ({"analyzed_at": None, "tuples": 0.0}, set()),
    ],
)
def test_parents_go_by_their_parts(changes: dict[str, Any], expected: set[str]):
    """Rows changed in any part count; a part that was analyzed since counts with what that took at least."""
    assert {r.code for r in parent_need(PARENT | changes, SERVER, AS_AUTOVACUUM).reasons} == expected


def test_a_switch_is_read_as_the_server_reads_it():
    """Any spelling of false that the server takes."""
    assert [is_switched_off(parsed([f"autovacuum_enabled={v}"])) for v in ("off", "FALSE", "0", "true", "on")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def wish(name: str, *reasons: Reason, named: bool = False, **parts: Any) -> Wanted:
    oid = abs(hash(name)) % 10**9
    return Wanted(oid, name, Need(reasons), replace(main(**parts), name=name), None, named)


def job(memory: Memory | None = None, **chosen: Any) -> Any:
    return SimpleNamespace(
        routine="database.vacuum",
        settings=VacuumSettings(**chosen),
        tools=SimpleNamespace(history=memory or Memory()),
    )


def test_ages_weigh_most_and_named_ones_go_first():
    """Past the age of forced freezing goes before any dead rows; what the system file names before all."""
    times = Times(Memory(), "database.vacuum", 20)
    old = wish("old", Reason("age", 1.01, ""))
    dead = wish("dead", *(Reason(code, 1e9, "") for code in ("dead", "inserts", "changes")))
    named = wish("named", Reason("named", 0, ""), named=True)
    scores = {w.name: work_for(w, SERVER, job(), times).score for w in (old, dead, named)}
    assert sorted(scores, key=lambda name: -scores[name]) == ["named", "old", "dead"]


def test_an_estimate_goes_by_the_tables_own_past():
    """As much slower as it has grown; by the rate of other tables when nothing is known of it; never nothing."""
    memory = Memory()
    at = NOW
    memory.kept = {
        ("vacuum.seconds", "t"): Kept(at, 10.0),
        ("vacuum.bytes", "t"): Kept(at, 1000.0),
        ("vacuum.rate", ""): Kept(at, 2 * 2**20),
    }
    times = Times(memory, "database.vacuum", 20)
    assert times.estimate("t", 3000) == (pytest.approx(30, abs=0.1), True)
    assert times.estimate("t", 1) == (pytest.approx(5, abs=0.1), True)
    assert times.estimate("new", 2**20) == (pytest.approx(1, abs=0.1), False)
    assert Times(Memory(), "database.vacuum", 20).estimate("new", 20 * 2**20)[0] == pytest.approx(1, abs=0.1)


def test_a_work_survives_the_plan():
    """What a lane gets from an action of the plan is what was planned, alone or in a bundle."""
    times = Times(Memory(), "database.vacuum", 20)
    works = [work_for(wish(f"t{n}", Reason("dead", 2, ""), dead=300), SERVER, job(), times) for n in range(450)]
    [alone] = [*bundled([("why", works[0])])]
    assert works_of(alone) == (works[0],)
    actions = [*bundled([("why", w) for w in works])]
    assert len(actions) == 9
    assert [w for action in actions for w in works_of(action)] == works


@settings(max_examples=40, deadline=None)
@given(
    ratios=st.lists(st.floats(0.5, 1e6), min_size=2, max_size=12),
    ages=st.lists(st.floats(0.5, 10), min_size=12, max_size=12),
    room=st.integers(1, 3),
)
def test_nothing_starves(ratios: list[float], ages: list[float], room: int):
    """With room for `room` tables a run, every one that goes on needing it has its turn in a bounded number of runs."""
    wishes = [
        wish(f"t{n}", Reason("dead", ratio, ""), *([Reason("age", ages[n], "")] if n % 2 else []))
        for n, ratio in enumerate(ratios)
    ]
    memory, since = Memory(), dict.fromkeys((w.name for w in wishes), 0)
    # The greatest score of any need over what a run of waiting counts, and one turn for each of the others.
    bound = (200 + 20) / 5 + len(wishes) + 1
    for _ in range(150):
        times = Times(memory, "database.vacuum", 20)
        order = sorted((work_for(w, SERVER, job(memory), times) for w in wishes), key=lambda w: -w.score)
        for place, work in enumerate(order):
            since[work.name] = 0 if place < room else since[work.name] + 1
            memory.kept[("vacuum.waiting", work.name)] = Kept(NOW, since[work.name])
        assert max(since.values()) <= bound


def test_analyze_has_no_settings_of_vacuum():
    """A setting that would do nothing must not be accepted."""
    assert "freeze_share" not in AnalyzeSettings.model_fields
    assert Work(name="t").manner == (False, False, False, True, True, False)
