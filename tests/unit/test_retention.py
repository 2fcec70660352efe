"""Retention never breaks its safety rules, whatever the history, and daily runs end where one run would."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upkeep.core.catalogue import Entry
from upkeep.core.retention import TOLERANCE, Decision, Rules, decide, forecast, period, taken
from upkeep.core.system import Hold, Retention

HISTORIES = int(os.environ.get("UPKEEP_TEST_HISTORIES", "150"))
START = datetime(2024, 1, 1, 1, 30, tzinfo=UTC)
DAY = timedelta(days=1)
TIERS = ("daily", "weekly", "monthly", "quarterly", "yearly")
OFF = Rules(young=timedelta(0))
PROOFS: dict[str, dict[str, Any]] = {
    "proved": {"verified_ok": True}, "tested": {"verified_ok": True, "tested_ok": True}, "unknown": {},
    "bad": {"verified_ok": False}, "fails test": {"verified_ok": True, "tested_ok": False},
}  # fmt: skip


def entry(moment: datetime, number: int = 0, proof: str = "proved", **more: Any) -> Entry:
    looked = {"verified_at": moment, "tested_at": moment if "test" in proof else None} if proof != "unknown" else {}
    facts = {"target": "shop/db", "kind": "dump", "location": "x", "finished": moment, **looked, **PROOFS[proof]}
    return Entry(id=f"{moment:%Y%m%dT%H%M%SZ}-{number:08x}", **{**facts, **more})


def kept(decision: Decision) -> set[str]:
    return {v.id for v in decision.verdicts if v.keep}


def days_of(ids: set[str]) -> list[date]:
    return sorted(taken(i).date() for i in ids)


def live(entries: Sequence[Entry], rules: Rules, until: datetime | None = None) -> dict[str, Entry]:
    """Live through a history of daily runs: each backup is made, and then retention runs."""
    there: dict[str, Entry] = {}
    for fresh in entries:
        there[fresh.id] = fresh
        for gone in decide(there.values(), rules, taken(fresh.id) + timedelta(hours=1)).removal_order:
            del there[gone]
    return there


# ------------------------------------------------------------------------------------------------ expected sets


def test_three_years_of_daily_runs_end_with_the_expected_backups() -> None:
    """Daily for three years: 7 days, 4 weeks, 12 months, 4 quarters, 2 years, and nothing else, by the calendar."""
    rules = Rules(retention=Retention(daily=7, weekly=4, monthly=12, quarterly=4, yearly=2))
    there = live([entry(START + n * DAY) for n in range(1096)], rules)  # to 2026-12-31, a Thursday
    days = {date(2026, 12, 31) - n * DAY for n in range(7)}
    weeks = {date(2026, 12, 31), date(2026, 12, 27), date(2026, 12, 20), date(2026, 12, 13)}
    months = {date(2026 + m // 12, m % 12 + 1, 1) - DAY for m in range(1, 13)}
    quarters = {date(2026, 12, 31), date(2026, 9, 30), date(2026, 6, 30), date(2026, 3, 31)}
    years = {date(2026, 12, 31), date(2025, 12, 31)}
    assert days_of(set(there)) == sorted(days | weeks | months | quarters | years)
    assert len(there) == 21


def test_counts_stay_within_bounds_on_every_day_of_three_years() -> None:
    """A series never grows beyond the sum of its counts, and never has fewer than its days, months and quarters."""
    retention = Retention(daily=7, weekly=4, monthly=12, quarterly=4)
    there: dict[str, Entry] = {}
    for n in range(1096):
        fresh = entry(START + n * DAY)
        there[fresh.id] = fresh
        gone = decide(there.values(), Rules(retention=retention), taken(fresh.id)).removal_order
        assert len(gone) <= 4
        for backup_id in gone:
            del there[backup_id]
        assert len(there) <= 27
        assert len({period("monthly", taken(i), Rules().zone) for i in there}) >= min(12, (n + 1) // 31)


def test_the_month_keeps_its_last_although_weeks_pass() -> None:
    """The backup that a month ends with is there when the month is counted: nothing removed it before."""
    there = live([entry(START + n * DAY) for n in range(400)], Rules(retention=Retention(daily=1, weekly=0)))
    assert {d for d in days_of(set(there)) if (d + DAY).day == 1} == {
        date(2024, m, 1) - DAY for m in range(4, 13)} | {date(2024, 12, 31), date(2025, 1, 31)}  # fmt: skip


def test_days_begin_in_the_systems_time_zone() -> None:
    """A backup at 01:30 UTC belongs to the day before in New York, and so to the month before on the first."""
    first = entry(datetime(2026, 3, 1, 1, 30, tzinfo=UTC))
    decision = decide([first], Rules(timezone="America/New_York"), taken(first.id))
    assert {s.period for s in decision.slots} >= {"day 2026-02-28", "month 2026-02"}


def test_reasons_are_told() -> None:
    """Each backup says why it stays, and each that goes which backup has its place."""
    backups = [entry(START + n * DAY) for n in range(60)]
    rules = Rules(retention=Retention(daily=2, weekly=1, monthly=1, quarterly=0))
    decision = decide(backups, rules, taken(backups[-1].id))
    newest = decision.verdicts[0]
    assert newest.reasons == (
        "newest of day 2024-02-29", "newest of week 2024-W09", "newest of month 2024-02", "newest proved one",
        "younger than 48 h",
    )  # fmt: skip
    assert decision.reasons(backups[0].id) == (
        "older than the 2 daily ones", "older than the 1 weekly ones", "older than the 1 monthly ones",
    )  # fmt: skip
    assert f"month 2024-02 has {newest.id}" in decision.reasons(backups[-4].id)


# ------------------------------------------------------------------------------------------------ one rule each


def test_nothing_goes_while_the_newest_is_not_proved() -> None:
    """An unverified or a suspicious newest backup keeps everything, with the reason."""
    old = [entry(START + n * DAY) for n in range(40)]
    for proof, word in (("unknown", "is not proved"), ("bad", "is suspicious"), ("fails test", "is suspicious")):
        decision = decide([*old, entry(START + 50 * DAY, proof=proof)], Rules(), START + 51 * DAY)
        assert word in decision.frozen
        assert decision.removal_order == ()
        assert all(any(word in reason for reason in v.reasons) for v in decision.verdicts)


def test_an_outage_thins_nothing_out() -> None:
    """After months without a backup the new one takes the place of the oldest day and week only."""
    before = [entry(START + n * DAY) for n in range(60)]
    there = live(before, Rules())
    fresh = entry(START + 200 * DAY)
    gone = set(decide([*there.values(), fresh], Rules(), taken(fresh.id)).removal_order)
    assert days_of(gone) == [date(2024, 2, 11), taken(before[-7].id).date()]


def test_a_suspicious_backup_takes_no_good_ones_place() -> None:
    """In a month whose last backup is damaged an older one is kept; the damaged one stays as evidence for a time."""
    backups = [entry(START + n * DAY, proof="bad" if n == 30 else "proved") for n in range(32)]
    rules = Rules(retention=Retention(daily=1, weekly=0, monthly=3, quarterly=0))
    decision = decide(backups, rules, START + 31 * DAY)
    assert decision.reasons(backups[29].id) == ("newest of month 2024-01",)
    assert decision.reasons(backups[30].id)[-1].startswith("suspicious: evidence until 2024-03-01")
    later = [*(b for b in backups if b.id in kept(decision)), entry(START + 90 * DAY)]
    assert backups[30].id in decide(later, rules, START + 90 * DAY).removal_order


def test_evidence_does_not_grow_old_while_no_backup_is_made() -> None:
    """Ages end with the newest backup: a clock that runs ahead by years removes no evidence and ends no hold."""
    backups = [entry(START + n * DAY, proof="bad" if n == 1 else "proved") for n in range(5)]
    hold = Hold(reason="court", first=date(2024, 1, 1), last=date(2024, 1, 1), until=date(2024, 6, 1))
    rules = Rules(retention=Retention(daily=1, weekly=0, monthly=0, quarterly=0), holds=(hold,))
    assert {backups[0].id, backups[1].id} <= kept(decide(backups, rules, START + 9000 * DAY))


def test_holds_keep_with_their_reason_until_they_end() -> None:
    """A hold keeps the days it names, up to and including its last day, and not one day longer."""
    hold = Hold(reason="case 7", first=date(2024, 1, 3), last=date(2024, 1, 4), until=date(2024, 3, 1))
    rules = Rules(retention=Retention(daily=1, weekly=0, monthly=0, quarterly=0), holds=(hold,))
    there = live([entry(START + n * DAY) for n in range(61)], rules)  # to 2024-03-01
    assert days_of(set(there))[:2] == [date(2024, 1, 3), date(2024, 1, 4)]
    assert "held: case 7" in decide(there.values(), rules, START + 60 * DAY).reasons(min(there))
    assert days_of(set(live([entry(START + n * DAY) for n in range(62)], rules)))[0] == date(2024, 3, 1)


def test_backups_of_the_future_are_kept_and_told() -> None:
    """What a wrong clock dated takes no place, is no newest, is kept and told."""
    backups = [entry(START + n * DAY) for n in range(10)]
    strange = entry(START + 900 * DAY, proof="unknown")
    decision = decide([*backups, strange], Rules(), START + 9 * DAY)
    assert decision.future == (strange.id,)
    assert decision.frozen == ""
    assert decision.reasons(strange.id) == ("dated in the future: a clock was wrong",)
    assert {s.id for s in decision.slots} <= {b.id for b in backups}


def test_a_whole_chain_stays_and_goes_child_first() -> None:
    """What an incremental needs stays as long as it does; what goes, goes before what it needs."""
    full = entry(START, 1, kind="physical")
    chain = [full]
    for n in range(1, 6):
        chain.append(entry(START + n * DAY, n, kind="physical", parent=chain[-1].id))
    rules = Rules(retention=Retention(daily=1, weekly=0, monthly=0, quarterly=0))
    decision = decide(chain, rules, START + 5 * DAY)
    assert decision.removal_order == ()
    assert decision.reasons(full.id) == tuple(f"needed by incremental {c.id}" for c in (chain[5], chain[4]))
    fresh = entry(START + 9 * DAY, 9, kind="physical")
    assert decide([*chain, fresh], rules, START + 9 * DAY).removal_order == tuple(e.id for e in reversed(chain))


def test_an_incremental_is_no_better_than_what_it_needs() -> None:
    """With a damaged or missing parent an incremental is not good; a full one is preferred for a month."""
    full, bad = entry(START, 1, kind="physical"), entry(START + DAY, 2, kind="physical", proof="bad")
    child = entry(START + 2 * DAY, 3, kind="physical", parent=bad.id)
    decision = decide([full, bad, child], Rules(), START + 2 * DAY)
    assert set(decision.tainted) == {bad.id, child.id}
    assert "suspicious" in decision.frozen
    assert decide([full, child], Rules(), START + 2 * DAY).broken == (child.id,)
    good = entry(START + DAY, 2, kind="physical", parent=full.id)
    months = [s.id for s in decide([full, good], Rules(), START + DAY).slots if s.tier == "monthly"]
    assert months == [full.id]


def test_what_the_store_locks_stays_until_it_lets_go() -> None:
    """Under object lock a backup stays, with the day; then it goes."""
    backups = [entry(START + n * DAY) for n in range(30)]
    rules = Rules(retention=Retention(daily=1, weekly=0, monthly=0, quarterly=0), lock=10 * DAY)
    decision = decide(backups, rules, START + 29 * DAY)
    assert len(kept(decision)) == 10
    assert any("locked by the store until" in r for r in decision.reasons(backups[-9].id))
    assert set(decision.locked) == {b.id for b in backups[-10:-2]}


def test_unreadable_manifests_keep_themselves_and_freeze_chains() -> None:
    """A backup whose manifest cannot be read stays; among physical ones it may need anything, so all stay."""
    backups = [entry(START + n * DAY) for n in range(30)]
    odd = frozenset({backups[3].id})
    decision = decide(backups, Rules(), START + 29 * DAY, odd)
    assert decision.removal_order
    assert backups[3].id in kept(decision)
    physical = [b.model_copy(update={"kind": "physical"}) for b in backups]
    assert "manifest" in decide(physical, Rules(), START + 29 * DAY, odd).frozen


def test_a_circle_of_parents_is_broken_and_ends() -> None:
    """Backups that need each other in a circle are told as broken, kept, and do not keep the decision from ending."""
    a, b = entry(START, 1), entry(START + DAY, 2)
    ring = [a.model_copy(update={"parent": b.id}), b.model_copy(update={"parent": a.id})]
    decision = decide([*ring, entry(START + 40 * DAY)], Rules(), START + 40 * DAY)
    assert set(decision.broken) == {a.id, b.id} <= kept(decision)


def test_forecast_names_what_goes_next() -> None:
    """The forecast names the backup that the run of that day then removes."""
    there = live([entry(START + n * DAY) for n in range(30)], Rules())
    now = START + 29 * DAY + timedelta(hours=1)
    (going,) = forecast(list(there.values()), Rules(), now)
    for n in range(30, 40):
        there[entry(START + n * DAY).id] = entry(START + n * DAY)
        if gone := decide(there.values(), Rules(), START + n * DAY).removal_order:
            assert (gone, (START + n * DAY).date()) == ((going.id,), going.day)
            return
    pytest.fail("nothing went")


# ------------------------------------------------------------------------------------------------ all histories


class Event(NamedTuple):
    """What a day brings."""

    gap: int
    proof: str
    tier: str
    incremental: bool
    skew_hours: int
    damage: int
    ledger_away: bool


EVENTS = st.builds(
    Event,
    gap=st.sampled_from([1] * 8 + [0, 2, 9, 45]),
    proof=st.sampled_from(["proved"] * 5 + ["tested", "unknown", "bad", "fails test"]),
    tier=st.sampled_from(["daily"] * 6 + ["weekly", "monthly", "quarterly"]),
    incremental=st.booleans(),
    skew_hours=st.sampled_from([0] * 12 + [-30, -1, 1, 26, 5000]),
    damage=st.sampled_from([-1] * 6 + [0, 1, 4]),
    ledger_away=st.sampled_from([False] * 9 + [True]),
)
POLICIES = st.builds(
    Retention, daily=st.integers(1, 5), weekly=st.integers(0, 3), monthly=st.integers(0, 4),
    quarterly=st.integers(0, 2), yearly=st.integers(0, 2),
)  # fmt: skip
HOLDS = st.lists(
    st.builds(
        Hold, reason=st.just("court"), first=st.sampled_from([None, date(2024, 1, 4)]),
        last=st.sampled_from([None, date(2024, 1, 9)]), until=st.sampled_from([None, date(2024, 1, 20)]),
    ), max_size=1,
)  # fmt: skip
EVERY = settings(max_examples=HISTORIES, deadline=None, suppress_health_check=list(HealthCheck))


@EVERY
@given(st.lists(EVENTS, min_size=1, max_size=40), POLICIES, HOLDS, st.sampled_from([0, 48]), st.randoms())
def test_no_history_breaks_the_safety_rules(
    events: list[Event], policy: Retention, holds: list[Hold], young: int, dice: Any
) -> None:
    """Whatever happens from day to day, and wherever a removal is cut off, every safety rule holds on every day."""
    rules = Rules(retention=policy, holds=tuple(holds), young=timedelta(hours=young), evidence=5 * DAY)
    there: dict[str, Entry] = {}
    now = START
    for number, event in enumerate(events):
        now += event.gap * DAY + timedelta(hours=2)
        happen(there, event, number, now)
        if event.ledger_away:
            continue  # the routine does not even ask
        decision = decide(there.values(), rules, now)
        expect_safe(there, decision, rules, now)
        order = list(decision.removal_order)
        cut = dice.randint(0, len(order))
        for gone in order[:cut]:
            del there[gone]
        again = decide(there.values(), rules, now)
        assert set(again.removal_order) == set(order[cut:]), "an interrupted removal ends elsewhere"
        for gone in again.removal_order:
            del there[gone]
        assert decide(there.values(), rules, now).removal_order == (), "a second run removes more"


def happen(there: dict[str, Entry], event: Event, number: int, now: datetime) -> None:
    """Make the day's backup, by a clock that may be wrong, and damage an older one."""
    made_at = now + timedelta(hours=event.skew_hours)
    parent = max(there, default=None) if event.incremental else None
    made = entry(made_at, number, event.proof, kind="physical", tier=event.tier, parent=parent)
    if 0 <= event.damage < len(there):
        hurt = sorted(there)[event.damage]
        there[hurt] = there[hurt].model_copy(update={"verified_ok": False, "verified_at": now})
    there[made.id] = made


def expect_safe(there: dict[str, Entry], decision: Decision, rules: Rules, now: datetime) -> None:
    """Check the rules, each spelled out here a second time and as simply as can be."""
    gone, stays = set(decision.removal_order), kept(decision)
    assert gone | stays == set(there)
    assert not gone & stays
    assert all(v.reasons for v in decision.verdicts)
    past = sorted((i for i in there if taken(i) <= now + TOLERANCE), reverse=True)
    newest = there[past[0]] if past else None
    if newest is None or not newest.proved:
        assert not gone
    assert gone <= set(past)
    if proved := [i for i in past if is_whole(there, i)]:
        assert proved[0] in stays
    for i in stays:
        assert there[i].parent not in gone, "a kept incremental has lost what it needs"
    left = set(there)
    for i in decision.removal_order:
        left.remove(i)
        assert all(there[child].parent != i for child in left), "it went before what needs it"
    for hold in rules.holds:
        for i in gone:
            day = taken(i).date()
            ended = hold.until is not None and now.date() > hold.until
            assert ended or not (hold.first or day) <= day <= (hold.last or day), "a held backup went"
    for i in gone:
        if there[i].suspicious:
            assert now - taken(i) > rules.evidence
    good = {i for i in past if not there[i].suspicious and there[i].parent is None}
    for tier in TIERS:
        had = {period(tier, taken(i), rules.zone) for i in good}
        has = {period(tier, taken(i), rules.zone) for i in good & stays}
        # Incrementals may fill places too, so this is asked of the fulls alone where there are no others.
        if all(there[i].parent is None for i in there):
            wanted = sorted(had, reverse=True)[: getattr(rules.retention, tier)]
            assert set(wanted) <= has, f"a {tier} place has become empty"


def is_whole(there: dict[str, Entry], backup_id: str) -> bool:
    """Tell whether a backup is proved with all that it needs: each by itself, or all of them by a restore test."""
    chain = [there[backup_id]]
    while (parent := chain[-1].parent) is not None:
        if parent not in there:
            return False
        chain.append(there[parent])
    tested = chain[0].tested_ok is True and not any(e.suspicious for e in chain)
    return chain[0].proved and (tested or all(e.proved for e in chain))


@EVERY
@given(st.lists(EVENTS, min_size=5, max_size=60), POLICIES)
def test_daily_runs_end_where_a_single_run_would(events: list[Event], policy: Retention) -> None:
    """With whatever gaps, failures and tiers: running every day keeps just what one run over everything would keep."""
    rules = Rules(retention=policy, young=timedelta(0), evidence=timedelta(0))
    history, moment = [], START
    for number, event in enumerate(events):
        moment += max(event.gap, 1) * DAY
        history.append(entry(moment, number, event.proof, tier=event.tier))
    history.append(entry(moment + DAY, 999))
    assert set(live(history, rules)) == kept(decide(history, rules, moment + DAY))
