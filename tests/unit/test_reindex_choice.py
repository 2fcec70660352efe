"""What a rebuild needs and takes, and who must be asked: decided from numbers, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from upkeep.core.job import Failed, Ran
from upkeep.routines.database import _reindex_watch
from upkeep.routines.database._bloat import Bloat, Tool
from upkeep.routines.database._reindex_choice import choose, mark, need, no_room
from upkeep.routines.database._reindex_deed import leftovers
from upkeep.routines.database._reindex_judge import judge
from upkeep.routines.database._reindex_outcome import in_the_way
from upkeep.routines.database._reindex_seen import Index, Seen, Space, is_bloated
from upkeep.routines.database._reindex_settings import Settings
from upkeep.routines.database._reindex_watch import Limits, Result, person

GB, MB = 2**30, 2**20
SETTINGS = Settings()


def index(oid: int = 1, **changed: Any) -> Index:
    facts: dict[str, Any] = {
        "oid": oid, "table_oid": 100, "schema": "s", "index": f"i{oid}", "table_schema": "s", "table": "t",
        "name": f"s.i{oid}", "table_name": "s.t", "valid": True, "is_unique": False, "exclusion": False,
        "constrained": False, "building": False, "bytes": GB, "heap_bytes": 4 * GB, "elsewhere": False,
        "definition": "CREATE INDEX i ON s.t (a)", "owner": "app", "may_drop": True, "may_rebuild": True, "stem": None,
        "base": None,
    }  # fmt: skip
    return Index(**(facts | changed))


def bloat(of: Index, ratio: float) -> Bloat:
    return Bloat("index", of.oid, of.schema, of.table, of.index, of.bytes, round(of.bytes * ratio), ratio, "measured")


def seen(*indexes: Index, ratio: float = 0.75, **changed: Any) -> Seen:
    facts: dict[str, Any] = {
        "place": "p", "version": 180_000, "role": "keeper", "indexes": indexes,
        "bloat": {i.oid: bloat(i, ratio) for i in indexes if i.valid}, "tool": Tool("public"),
        "collations": (), "locked": (), "space": Space(100 * GB, 200 * GB),
    }  # fmt: skip
    return Seen(**(facts | changed))


def actions(*given: Any, settings: Settings = SETTINGS, **changed: Any) -> list[tuple[str, str, bool]]:
    chosen = choose(seen(*given, **changed), settings)
    return [(c.action.name, c.action.subject, bool(c.action.approval)) for c in chosen if c.action]


@pytest.mark.parametrize(
    ("ratio", "size", "expected"),
    [(0.41, GB, True), (0.40, GB, False), (0.9, 72 * MB, True), (0.9, 70 * MB, False), (0.0, GB, False)],
)
def test_both_limits_must_be_crossed(ratio: float, size: int, expected: bool):
    """A small index that is nearly empty, and a large one that is a little so, are left alone."""
    assert is_bloated(bloat(index(bytes=size), ratio), SETTINGS) is expected


def test_the_worst_come_first_after_leftovers():
    """Leftovers free space; then by wasted bytes, so that a short night does what matters."""
    left = index(9, valid=False, stem="i1", base="s.i1")
    small, large = index(1, bytes=GB), index(2, bytes=2 * GB)
    assert actions(small, left, large) == [
        ("drop_leftover", "s.i9", False),
        ("reindex", "s.i2", False),
        ("reindex", "s.i1", False),
    ]


def test_who_must_be_asked():
    """Large, of unknown space, in a tablespace of its own, of an exclusion constraint, or an application's business."""
    assert actions(index(bytes=11 * GB)) == [("reindex", "s.i1", True)]
    assert actions(index(bytes=2 * GB), space=Space(None, why="?")) == [("reindex", "s.i1", True)]
    assert actions(index(bytes=100 * MB), space=Space(None, why="?")) == [("reindex", "s.i1", False)]
    assert actions(index(bytes=2 * GB, elsewhere=True)) == [("reindex", "s.i1", True)]
    assert actions(index(exclusion=True)) == [("reindex_blocking", "s.i1", True)]
    assert actions(index(valid=False)) == [("reindex", "s.i1", True), ("drop_invalid", "s.i1", True)]
    assert actions(index(valid=False, constrained=True)) == [("reindex", "s.i1", True)]
    assert actions(index(valid=False, definition=None)) == []
    assert actions(index(valid=False, building=True)) == [] == actions(index(building=True))


def test_servers_whose_concurrent_builds_are_damaged():
    """14.0 to 14.3: nothing is built there, what is left behind still goes, and it is critical."""
    left = index(9, valid=False, stem="i1", base="s.i1")
    assert actions(index(), left, version=140_003) == [("drop_leftover", "s.i9", False)]
    assert [f.check for f in judge(seen(index(), version=140_003), SETTINGS).findings] == ["version"]
    assert len(actions(index(), left, version=140_004)) == 2
    assert judge(seen(index(), version=140_004), SETTINGS).findings == ()


def test_space():
    """New index, sort and WAL must fit and leave what is to stay free; a number to the byte."""
    assert need(10) == 30
    free = Space(30 + 20, 200)
    assert no_room("i", 30, free, SETTINGS) is None
    assert no_room("i", 31, free, SETTINGS) is not None
    assert no_room("i", 31, Space(None), SETTINGS) is None


def test_the_ledger_tells_how_long_it_takes():
    """By the index's own rate, else the others', else an assumption; too long for any night is told, not tried."""
    work = (4 * GB + GB // 4) * SETTINGS.estimate_factor
    for rates, rate in (({"s.i1": 1e6, "s.x": 1e9}, 1e6), ({"s.x": 2e6, "s.y": 4e6}, 3e6), ({}, SETTINGS.assumed_rate)):
        [choice] = choose(seen(index(), rates=rates), SETTINGS)
        assert choice.action is not None
        assert choice.action.details["expected_seconds"] == pytest.approx(work / rate, abs=0.1)
    [choice] = choose(seen(index(), rates={"s.i1": 1e5}), SETTINGS)
    assert choice.action is None and choice.finding is not None and choice.finding.check == "time"


def test_a_changed_collation_is_asked_about_once():
    """Whatever its bloat; what was rebuilt for the version of now is not proposed again, for another one it is."""
    row = {"oid": 1, "collation": "de", "recorded": "1", "actual": "2", "kind": "COLLATION", "total": 1}
    assert actions(index(), ratio=0.0, collations=[row]) == [("reindex", "s.i1", True)]
    assert actions(index(), ratio=0.0, collations=[row], rebuilt_for={"s.i1": mark("2")}) == []
    assert len(actions(index(), ratio=0.0, collations=[row], rebuilt_for={"s.i1": mark("1")})) == 1


def test_only_its_own_leftovers_are_dropped_at_once():
    """New, invalid, built by nobody, and a twin of this index: others are left for the next look."""
    [action] = [c.action for c in choose(seen(index()), SETTINGS) if c.action]
    own = {"valid": False, "stem": "i1", "base": "s.i1", "index": "i1_ccnew"}
    there = [
        index(5, **own),
        index(6, **own),  # known before
        index(7, **own | {"building": True}),
        index(8, **own | {"base": "s.i2", "stem": "i2"}),
        index(9, **own | {"base": None, "stem": "i"}),  # a name that merely begins alike
        index(10, **own | {"table_oid": 101}),
        index(11, **own | {"valid": True}),
    ]
    assert [i.oid for i in leftovers(there, action, before=(6,))] == [5]
    assert [i.oid for i in leftovers([index(5, **own | {"base": None})], action, before=())] == [5]


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        ({}, ""),
        ({"waiter": 7, "waiter_seconds": 0.4}, ""),
        ({"waiter": 7, "waiter_seconds": 0.6}, "way"),
        ({"waits_for": "relation", "waits_seconds": 2.1}, "lock"),
        ({"waits_for": "virtualxid", "waits_seconds": 2.1}, ""),
        ({"waits_for": "virtualxid", "waits_seconds": 301}, "wait"),
        ({"blind": True}, "blind"),
    ],
)
def test_when_a_command_is_ended(sight: dict[str, Any], expected: str):
    """Others come first; the table's lock has a short limit and old transactions a long one."""
    limits = Limits.of(SETTINGS, 1000)
    assert _reindex_watch._why_stop(sight, limits) == expected
    assert _reindex_watch._why_stop({}, Limits.of(SETTINGS, -1)) == "overrun"
    if expected == "way":
        assert _reindex_watch._why_stop(sight, Limits.of(SETTINGS, 1000, blocking=True)) == ""


def test_what_was_in_the_way():
    """Only what passes by itself is tried again in the same run."""
    locked, other = Failed("locked", "lock timeout", "55P03"), Failed("other", "x", "23505")
    assert in_the_way(Result(Ran(1.0), 1.0)) == "" == in_the_way(Result(other, 1.0))
    assert in_the_way(Result(locked, 1.0)) == "lock timeout"
    assert in_the_way(Result(Failed("other", "deadlock detected", "40P01"), 1.0)) == "deadlock detected"
    assert "gave way" in in_the_way(Result(Failed("timeout", "cancelled", "57014"), 1.0, "way"))
    assert in_the_way(Result(Failed("timeout", "cancelled", "57014"), 1.0, "overrun")) == ""


def test_people_are_named_without_what_they_wrote():
    """Sessions, prepared transactions, and those we may not see."""
    row = {"pid": 7, "role": "app", "application": "", "state": "active", "seconds": 61, "query": "SELECT 'Jane'"}
    assert person(row) == "pid 7 of role app (no application name), active, transaction open for 1 min 1 s: SELECT ?"
    assert "GRANT pg_monitor" in person(row | {"seconds": None})
    assert "prepared transaction gid" in person(row | {"pid": None, "application": "gid"})
