"""What verification makes of the backups there are."""

from __future__ import annotations

import logging
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from upkeep.core.backup import Check, Fault, Leftover, Place, Stored
from upkeep.core.cadence import Window
from upkeep.core.catalogue import Entry
from upkeep.core.job import Job
from upkeep.core.model import OutcomeStatus, Severity
from upkeep.core.targets import PostgresTarget, StoreRef
from upkeep.routines.backup import _common, _verify_choice, verify
from upkeep.routines.backup._verify_choice import Candidate
from upkeep.routines.backup._verify_seen import Known, Series
from upkeep.routines.backup.verify import Seen, Settings

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
STORE = StoreRef(url="file:///backups")
PLACE = Place(store=STORE, target="shop/db")


def job(history: tuple[float, ...] = (), archive: Any = None, **settings: Any) -> Job[Any, Any]:
    points = [SimpleNamespace(at=NOW, value=value) for value in history]
    tools = SimpleNamespace(
        history=SimpleNamespace(series=lambda *_, **__: points), now=lambda: NOW, log=logging.getLogger("test"),
        archive=archive, scratch=Path("/"),
    )  # fmt: skip
    return Job(
        routine="backup.verify", target=PostgresTarget(kind="postgres", conn_id="db", id="shop/db", store=STORE),
        system=SimpleNamespace(name="shop", store=None), settings=Settings(**settings),  # type: ignore[arg-type]
        window=Window(start=NOW - timedelta(days=1), end=NOW), run_id="run", try_number=1, tools=tools,  # type: ignore[arg-type]
    )  # fmt: skip


def seen(*sizes: int, hours: float = 5, same: bool = False, writes: bool = True, damage: str = "") -> Seen:
    """Backups of these sizes, newest first, a day apart."""
    backups, known = [], []
    for number, size in enumerate(sizes):
        backup_id = f"202611{21 - number:02}T010000Z-0000000{number}"
        backups.append(Stored(id=backup_id, complete=True, objects=3, size_bytes=size, modified=NOW))
        finished = NOW - timedelta(hours=hours, days=number)
        content = "same" if same else str(number)
        known.append(Known(id=backup_id, finished=finished, content_sha256=content, writes=100 - number * writes))
    if damage:
        known[1] = Known(id=known[1].id, damage=damage)
    return of(Series(place=PLACE, backups=tuple(backups), known=tuple(known[:3])))


def of(*series: Series) -> Seen:
    """What is seen of some series, of which the newest are to be read."""
    found = _verify_choice.candidates(series)
    return Seen(series=series, found=tuple(found), chosen=tuple(c for c in found if c.newest))


def told(judged: Any) -> list[tuple[str, str]]:
    return [(f.check, str(f.severity)) for f in judged.findings]


def test_sound_backups_give_no_finding() -> None:
    """A fresh backup of the usual size with changing content is fine, and age and size are measured."""
    judged = verify.judge(job(), seen(100, 101, 99, 100))
    assert told(judged) == []
    assert {m.name for m in judged.measurements} >= {"backup.age", "backup.size", "backup.size_ratio", "backups.count"}


def test_no_backup_is_critical() -> None:
    """A target without any backup is a critical finding, not an empty success."""
    assert told(verify.judge(job(), seen())) == [("missing", "critical")]
    assert verify.plan(job(), seen()).actions == ()


def test_old_backup_is_critical() -> None:
    """The newest backup's age is judged by when it was finished."""
    assert told(verify.judge(job(), seen(100, hours=26.1))) == [("age", "critical")]
    assert told(verify.judge(job(), seen(100, hours=25.9))) == []


def test_age_is_that_of_the_newest_backup_that_can_be_read() -> None:
    """A damaged manifest is told of, and does not count for the age."""
    state = seen(100, 100, 100, damage="flipped")
    assert told(verify.judge(job(), state)) == [("manifest", "critical")]


@pytest.mark.parametrize(("size", "expected"), [(9, "critical"), (45, "warning"), (290, ""), (310, "warning")])
def test_unusual_sizes_are_told(size: int, expected: str) -> None:
    """Much smaller and much larger than the median of earlier backups is told, with the store's memory alone."""
    judged = verify.judge(job(), seen(size, 100, 102, 98, 5000))
    assert told(judged) == ([("size", expected)] if expected else [])


def test_the_ledgers_history_goes_before_the_stores() -> None:
    """What the ledger remembers covers more time than what retention has left in the store."""
    judged = verify.judge(job(history=(1000.0, 1000.0, 1000.0)), seen(100, 100, 100, 100))
    assert told(judged) == [("size", "warning")]


def test_standing_content_is_suspicious_only_when_rows_were_written() -> None:
    """Equal contents while the server counted writes are told; a database at rest or with a few rollbacks is not."""
    assert told(verify.judge(job(constant_writes=1), seen(100, 100, 100, same=True))) == [("constant", "warning")]
    assert told(verify.judge(job(), seen(100, 100, 100, same=True))) == []
    assert told(verify.judge(job(), seen(100, 100, 100, same=True, writes=False))) == []
    assert told(verify.judge(job(), seen(100, 100, same=True))) == []


def window(number: int) -> Window:
    start = datetime(2026, 1, 4, tzinfo=UTC) + timedelta(weeks=number)
    return Window(start=start, end=start + timedelta(weeks=1))


def candidates(*ages: float | None, size: int = 10) -> list[Candidate]:
    """Backups, newest first, a week apart, each last read so many days ago (None: never)."""
    return [
        Candidate(
            place=PLACE, id=f"{NOW - timedelta(weeks=number):%Y%m%dT%H%M%SZ}-{number:08x}", bytes=size,
            read=None if age is None else NOW - timedelta(days=age), newest=number == 0,
        )
        for number, age in enumerate(ages)
    ]  # fmt: skip


def choose(found: list[Candidate], which: str = "older", weeks: int = 4, most: int = 1000, **more: Any) -> list[str]:
    window = Window(start=NOW - timedelta(weeks=1), end=NOW)
    chosen = _verify_choice.choose(
        found, which, window, coverage=timedelta(weeks=weeks), max_bytes=most, **more
    )  # fmt: skip
    return [c.id[-1] for c in chosen]


def test_what_nobody_has_read_for_longest_is_read_first() -> None:
    """Never read ones first, the oldest of them before others, then by how long ago; the newest is not among them."""
    assert choose(candidates(1, 5, 20, None, 12)) == ["3"]
    assert choose(candidates(1, 5, 20, 13, 12)) == ["2"]
    assert choose(candidates(1, 5, None, 13, None), weeks=3) == ["4", "2"]


def test_a_share_is_read_each_time_and_more_where_it_would_be_late() -> None:
    """A quarter of the bytes for four weeks; whatever would be overdue before the next run, too."""
    assert len(choose(candidates(*[8] * 9))) == 2
    assert len(choose(candidates(0, 25, 25, 25, 1, 1, 1, 1, 1))) == 3
    assert choose(candidates(3)) == ["0"]
    assert choose([]) == []


def test_a_run_costs_no_more_than_is_allowed() -> None:
    """At least one backup is read, however large; beyond it never more bytes than `max_bytes`."""
    found = candidates(0, *[30] * 6)
    assert len(choose(found, most=25)) == 2
    assert len(choose(found, most=1)) == 1


def test_a_run_that_is_tried_again_goes_on_where_it_was() -> None:
    """The same record gives the same choice; what was read since the window ended counts, and is not read twice."""
    found = candidates(0, *[8] * 8)
    first = choose(found)
    assert first == choose(list(found))
    read = [c.model_copy(update={"read": NOW + timedelta(hours=1)}) if c.id[-1] in first else c for c in found]
    assert choose(read) == []
    half = [c.model_copy(update={"read": NOW + timedelta(hours=1)}) if c.id[-1] == first[0] else c for c in found]
    assert choose(half) == first[1:]


def test_without_a_record_windows_take_turns() -> None:
    """While the ledger is away, week by week every older backup is read, a week repeated the same."""
    found = candidates(*[None] * 9)
    weeks = [window(n) for n in range(4)]
    most = {"coverage": timedelta(weeks=4), "max_bytes": 1000, "recorded": False}
    chosen = [[c.id for c in _verify_choice.choose(found, "older", week, **most)] for week in weeks]
    assert {i for week in chosen for i in week} == {c.id for c in found[1:]}
    again = [c.id for c in _verify_choice.choose(found, "older", weeks[2], **most)]
    assert again == chosen[2]


def test_latest_and_all() -> None:
    """The newest of each series; one that comes weekly and was found whole is not read every day; all is all."""
    found = candidates(1, 5, 20)
    assert choose(found, "latest") == ["0"]
    assert choose(found, "all") == ["0", "1", "2"]
    assert choose([found[0].model_copy(update={"settled": True})], "latest") == []


@pytest.mark.parametrize("seed", range(5))
def test_within_the_weeks_every_byte_is_read(seed: int) -> None:
    """Three years of daily backups, weekly runs and retention: nothing is overdue, and no run reads very much."""
    dice, coverage = random.Random(seed), timedelta(weeks=6)
    kept: dict[str, Candidate] = {}
    for day in range(3 * 365):
        now = NOW + timedelta(days=day)
        fresh = f"{now:%Y%m%dT%H%M%SZ}-{day:08x}"
        kept[fresh] = Candidate(place=PLACE, id=fresh, bytes=dice.randint(80, 120), read=now)
        ids = sorted(kept, reverse=True)
        keep = {*ids[:7], *[i for i in ids if int(i[-8:], 16) % 7 == 0][:5],
                *[i for i in ids if int(i[-8:], 16) % 28 == 0][:13]}  # fmt: skip
        kept = {i: kept[i] for i in ids if i in keep}
        if day % 7 != 6 or dice.random() < 0.05:  # now and then a run does not come
            continue
        found = [c.model_copy(update={"newest": n == 0}) for n, c in enumerate(kept.values())]
        week = Window(start=now - timedelta(weeks=1), end=now)
        chosen = _verify_choice.choose(found, "older", week, coverage=coverage, max_bytes=1500)
        assert _verify_choice.overdue(found, chosen, now - timedelta(weeks=2), coverage) == []
        assert sum(c.bytes for c in chosen) <= 1500
        for one in chosen:
            kept[one.id] = one.model_copy(update={"read": now, "newest": False})


def entry(backup_id: str, **more: Any) -> Entry:
    return Entry(target="shop/db", kind="dump", id=backup_id, location="x", finished=NOW, **more)


def test_bytes_that_nobody_has_read_for_too_long_are_told() -> None:
    """Overdue backups that are not read now either give one warning; what is being read now does not."""
    state = seen(100, 100, 100)
    series = state.series[0]
    old = series.model_copy(update={"entries": tuple(
        entry(b.id, verified_at=NOW - timedelta(weeks=10 - number), verified_ok=True)
        for number, b in enumerate(series.backups)
    )})  # fmt: skip
    judged = verify.judge(job(), of(old))
    assert told(judged) == [("coverage", "warning")]
    assert judged.findings[0].observed == "100 B overdue"
    everything = of(old).model_copy(update={"chosen": of(old).found})
    assert told(verify.judge(job(), everything)) == []


def test_without_the_ledger_nobody_knows_what_was_read() -> None:
    """The ledger away is unknown, never fine."""
    state = seen(100, 100).series[0].model_copy(update={"entries": None})
    assert told(verify.judge(job(), of(state))) == [("coverage", "unknown")]


def test_damage_that_was_found_before_is_not_forgotten() -> None:
    """A backup that an earlier look found damaged, and that is still there, is told until it is gone."""
    state = seen(100, 100).series[0]
    bad = entry(state.backups[1].id, verified_at=NOW, verified_ok=False)
    assert told(verify.judge(job(), of(state.model_copy(update={"entries": (bad,)})))) == [("damaged", "warning")]
    gone = entry("20200101T000000Z-00000000", verified_ok=False)
    assert told(verify.judge(job(), of(state.model_copy(update={"entries": (gone,)})))) == []


def test_a_series_is_as_old_as_its_own_tier_allows() -> None:
    """A weekly physical backup of five days is fine, a daily series of five days is not, whatever else is in it."""
    state = seen(100, 100, 100, hours=120).series[0]
    weekly = state.model_copy(update={"known": tuple(k.model_copy(update={"tier": "weekly"}) for k in state.known)})
    assert told(verify.judge(job(), of(weekly))) == []
    assert told(verify.judge(job(max_age_hours={"weekly": 100}), of(weekly))) == [("age", "critical")]
    assert told(verify.judge(job(max_age_hours={"daily": 100}), of(weekly))) == []
    # Dailies have stopped, and three weekly ones are the newest: what is on record of it still says daily.
    mixed = weekly.model_copy(update={"entries": (entry(state.backups[0].id, verified_at=NOW, verified_ok=True),)})
    assert told(verify.judge(job(), of(mixed))) == [("age", "critical")]


def test_leftovers_are_told_with_age_and_bytes() -> None:
    """What unfinished tries left is a note with how old it is and what it weighs."""
    left = Leftover(kind="objects", name="20261120T060000Z-0123abcd", bytes=5_000_000, reason="its writer is gone")
    judged = verify.judge(job(), of(seen(100).series[0].model_copy(update={"leftovers": (left,)})))
    assert told(judged) == [("leftover", "info")]
    assert "5.0 MB, begun 24.0 h ago" in judged.findings[0].message


def test_faults_become_one_finding_of_each_kind() -> None:
    """A thousand damaged files do not make a thousand findings, and the ledger keeps the first of them."""
    faults = tuple(Fault(check="integrity", subject=f"{n}.dat", message="the content differs") for n in range(1000))
    backup_id = "20261121T010000Z-00000000"
    result = Check(id=backup_id, faults=faults, files=1000, bytes=5, rows=0, tables=9, decoded=False, seconds=1.0)
    archive = SimpleNamespace(check=lambda *_: result, removals=lambda _: ())
    action = SimpleNamespace(subject=backup_id, details={"place": PLACE.model_dump(mode="json")})
    outcome = verify.act(job(archive=archive), action)  # type: ignore[arg-type]
    assert outcome.status is OutcomeStatus.FAILED
    assert [(f.check, f.subject, f.severity) for f in outcome.findings] == [("integrity", "shop/db", Severity.CRITICAL)]
    assert "and 997 more" in outcome.findings[0].message
    evidence = outcome.evidence["verification"]
    assert (evidence["id"], evidence["ok"], len(evidence["errors"])) == (backup_id, False, 20)


def test_progress_is_told_now_and_then() -> None:
    """The log gets a line at the start of each phase and then at the interval, with rate and time left."""
    from upkeep.core.backup import Progress

    clock, lines = [NOW], []
    report = _common.Reporter(lines.append, lambda: clock[0], 15)
    for second in range(60):
        clock[0] = NOW + timedelta(seconds=second)
        phase = "dump" if second < 40 else "upload"
        done = 1_000_000 * second
        report(Progress(phase=phase, done=second, total=60, bytes_done=done, bytes_total=60_000_000, seconds=second))  # type: ignore[arg-type]
    assert len(lines) == 5
    assert lines[1] == "dump: 15 of 60 tables, 0 fingerprints; 15.0 MB of 60.0 MB; 1.0 MB/s, about 45.0 s left"
