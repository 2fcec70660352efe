"""What database health makes of numbers that no quick test can provoke on a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.core.model import Finding, Judgement, Severity, Threshold
from upkeep.routines.database import _blocked, _replication, _storage
from upkeep.routines.database._seen import Seen, judged, lowest, worst_by_key
from upkeep.routines.database._settings import Settings

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SERVER = {"database": "claims", "role": "upkeep", "sees_sessions": True, "data_checksums": "on"}
FREEZE = {"freeze_max_age": 200_000_000, "multixact_freeze_max_age": 400_000_000}


class Past:
    """A history of given values, a day old."""

    def __init__(self, **values: float) -> None:
        self.values = {name.replace("_", "."): value for name, value in values.items()}

    def last(self, name: str, subject: str = "") -> Any:
        value = self.values.get(name)
        return None if value is None else SimpleNamespace(at=NOW - timedelta(days=1), value=value)

    def latest(self, name: str) -> dict[str, Any]:
        point = self.last(name)
        return {"claims": point} if point else {}

    def series(self, name: str, subject: str = "", limit: int = 90) -> list[Any]:
        return []


def seen(**rows: list[dict[str, Any]]) -> Seen:
    return Seen("place", 1.0, (1.0,), {f"database/{name}": answer for name, answer in rows.items()})


def storage(past: Past, **rows: list[dict[str, Any]]) -> Judgement:
    return _storage.judge(seen(**rows), Settings(), past)


def severities(judgement: Judgement) -> dict[str, Severity]:
    return {f.check: f.severity for f in judgement.findings}


@pytest.mark.parametrize(
    ("age", "freeze", "severity"),
    [
        (199_000_000, 200_000_000, None),  # a healthy sawtooth
        (390_000_000, 200_000_000, None),
        (401_000_000, 200_000_000, Severity.WARNING),  # autovacuum has not managed
        (1_100_000_000, 200_000_000, Severity.WARNING),
        (1_800_000_000, 200_000_000, Severity.CRITICAL),
        (1_500_000_000, 1_500_000_000, None),  # a site that freezes late on purpose
        (1_990_000_000, 2_000_000_000, None),
        (2_050_000_000, 2_000_000_000, Severity.CRITICAL),
    ],
)
def test_wraparound_is_judged_by_ceiling_and_freeze_age(age: int, freeze: int, severity: Severity | None):
    """A database that autovacuum is about to freeze is healthy, however that setting stands."""
    row = {"database": "claims", "xid_age": age, "mxid_age": 0}
    judgement = storage(Past(), server=[SERVER | FREEZE | {"freeze_max_age": freeze}], wraparound=[row])
    assert severities(judgement) == ({"wraparound": severity} if severity else {})


def test_an_age_that_falls_is_no_warning_and_stays_critical():
    """While vacuum works it off nobody needs to act, unless the end is near."""
    for age, severity in ((1_200_000_000, Severity.INFO), (1_900_000_000, Severity.CRITICAL)):
        row = {"database": "claims", "xid_age": age, "mxid_age": 0}
        judgement = storage(Past(xid_age=2_000_000_000), server=[SERVER | FREEZE], wraparound=[row])
        assert severities(judgement) == {"wraparound": severity}


@given(st.floats(1, 99), st.floats(1, 99), st.integers(100_000, 2_000_000_000))
def test_limits_stay_in_order(one: float, other: float, freeze: int):
    """However settings and freeze age stand, critical is never crossed before warning, nor beyond the ceiling."""
    limits = _storage.ceiling_limits(Threshold(warning=min(one, other), critical=max(one, other)), freeze)
    assert limits.warning is not None and limits.critical is not None
    assert limits.warning <= limits.critical < 2**31


@pytest.mark.parametrize(
    ("hit", "read", "reset", "expected"),
    [
        (1_900_000, 100_000, None, 0.9),  # 900,000 hits and 100,000 reads since
        (1_900_000, 100_000, NOW - timedelta(hours=1), None),  # reset since the last run
        (900_000, 100_000, None, None),  # fewer than before: a crash reset them
        (1_000_500, 500, None, None),  # too little happened
    ],
)
def test_the_cache_hit_ratio_is_that_since_the_last_run(hit: int, read: int, reset: Any, expected: float | None):
    """Counters that were reset, or hardly moved, give no verdict; and no ratio is ever more than info."""
    row = {"blks_hit": hit, "blks_read": read, "checksum_failures": 0, "shared_failures": 0, "reset_at": reset}
    judgement = storage(Past(cache_hit=1_000_000, cache_read=0), server=[SERVER], statistics=[row])
    ratios = [m.value for m in judgement.measurements if m.name == "cache.hit_ratio"]
    assert ratios == ([expected] if expected is not None else [])
    low = _storage._cache({**row, "reset_at": None}, Settings(cache_blocks=1), Past(cache_hit=0, cache_read=-9e7))
    assert severities(low) == {"cache_hit": Severity.INFO}


def test_checksums_that_are_off_are_info():
    """Nobody would notice damage; that is worth knowing and no alarm."""
    off = storage(Past(), server=[SERVER | {"data_checksums": "off"}], statistics=[])
    assert [(f.subject, f.severity) for f in off.findings] == [("disabled", Severity.INFO)]


def test_damage_in_shared_objects_is_found_from_every_database():
    """Blocks that all databases share belong to none of them."""
    row = {"blks_hit": 0, "blks_read": 0, "checksum_failures": None, "shared_failures": 2, "reset_at": None}
    judgement = storage(Past(), server=[SERVER], statistics=[row])
    assert [(f.subject, f.severity) for f in judgement.findings] == [("shared objects", Severity.CRITICAL)]


@pytest.mark.parametrize(
    ("row", "delay"),
    [
        ({"receiving": True, "lag_bytes": 0, "replayed_seconds_ago": 9999.0}, 0.0),  # an idle primary
        ({"receiving": False, "lag_bytes": 0, "replayed_seconds_ago": 9999.0}, 9999.0),  # a dead receiver
        ({"receiving": True, "lag_bytes": 5.0, "replayed_seconds_ago": 7.0}, 7.0),
        ({"receiving": True, "lag_bytes": None, "replayed_seconds_ago": None}, None),  # nothing replayed yet
    ],
)
def test_the_delay_of_a_standby(row: dict[str, Any], delay: float | None):
    """Time since the last commit is a delay only where something is left to replay, or nothing arrives."""
    assert _replication.standby_delay(row) == delay
    _replication.judge(seen(recovery=[row | {"paused": None}]), Settings())


def test_a_slot_that_was_given_up_says_why():
    """From 17 on the server tells the reason and the time."""
    row = {
        "name": "s",
        "type": "logical",
        "active": False,
        "wal_status": "lost",
        "retained_bytes": None,
        "invalidation_reason": "idle_timeout",
        "inactive_seconds": 7200.0,
    }
    [lost] = _replication.judge(seen(slots=[row]), Settings()).findings
    assert lost.severity is Severity.CRITICAL
    assert "idle_timeout" in lost.message and "2 h" in lost.message


def session(pid: int, *blocked_by: int, **facts: Any) -> dict[str, Any]:
    base = {
        "role": "app",
        "application": "web",
        "state": "active",
        "backend_type": "client backend",
        "query": "select 1",
    }
    waits = {"wait_seconds": 99.0 if blocked_by else 0.0, "state_seconds": 99.0, "transaction_seconds": 99.0}
    return {"pid": pid, "blocked_by": list(blocked_by), "database": "claims", **base, **waits, **facts}


def test_a_wraparound_vacuum_that_blocks_is_left_alone():
    """The autovacuum that prevents wraparound is named, and nobody is told to cancel it."""
    vacuum = {
        "role": None,
        "backend_type": "autovacuum worker",
        "query": "autovacuum: VACUUM t (to prevent wraparound)",
    }
    rows = [session(1, **vacuum), session(2, 1)]
    [blocked] = _blocked.judge(seen(blocked=rows), Settings()).findings
    assert blocked.subject == "autovacuum worker"
    assert "let this vacuum finish" in blocked.hint


def test_two_trees_of_one_role_are_one_finding_and_a_ring_has_a_root():
    """The key holds no process id, so the worst tree of a role speaks; a deadlock still shows."""
    rows = [session(1), session(2, 1), session(3), session(4, 3, wait_seconds=700.0), session(5, 6), session(6, 5)]
    [blocked] = _blocked.judge(seen(blocked=rows), Settings()).findings
    assert blocked.severity is Severity.CRITICAL and "pid 3" in blocked.message
    [ring] = _blocked.judge(seen(blocked=rows[4:]), Settings()).findings
    assert "pid 5" in ring.message and "pid 6" in ring.message


@given(st.dictionaries(st.integers(1, 12), st.lists(st.integers(1, 12), max_size=3), max_size=12))
def test_every_session_hangs_below_a_root(waits: dict[int, list[int]]):
    """Whatever waits for whom, each session is in a tree and no tree runs for ever."""
    pids = set(waits) | {pid for by in waits.values() for pid in by}
    sessions = {pid: session(pid, *waits.get(pid, ())) for pid in sorted(pids)}
    below = [_blocked.below(root, sessions) for root in _blocked.roots(sessions)]
    assert {pid for tree in below for pid in tree} == pids


def test_many_waiters_are_counted_and_not_all_drawn():
    """A message stays readable."""
    rows = [session(1), *(session(pid, 1) for pid in range(2, 102))]
    [blocked] = _blocked.judge(seen(blocked=rows), Settings()).findings
    assert blocked.message.startswith("100 sessions wait")
    assert len(blocked.message.splitlines()) < 20


def test_a_threshold_without_limits_is_never_crossed():
    """Statements that filter by the lowest limit then return nothing."""
    assert lowest(Threshold()) > 1e8 and lowest(Threshold(direction="below")) < 0
    assert lowest(Threshold(info=3, warning=5)) == 3
    assert judged("c", "", Threshold(), 1e300, message="", hint="") == ()


def test_of_two_findings_with_one_key_the_worse_stays():
    """Keys are unique within a judgement."""
    mild = Finding(check="c", subject="s", severity=Severity.INFO, message="mild")
    bad = mild.model_copy(update={"severity": Severity.WARNING, "message": "bad"})
    assert worst_by_key([mild, bad]) == (bad,)
