"""What verification makes of the backups there are."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from upkeep.core.backup import Check, Fault, Place, Stored
from upkeep.core.cadence import Window
from upkeep.core.job import Job
from upkeep.core.model import OutcomeStatus, Severity
from upkeep.core.system import PostgresTarget, StoreRef
from upkeep.routines.backup import _common, verify
from upkeep.routines.backup.verify import Known, Seen, Settings

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
STORE = StoreRef(url="file:///backups")


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
    place = Place(store=STORE, target="shop/db")
    return Seen(place=place, backups=tuple(backups), known=tuple(known[:3]), chosen=(backups[0].id,) if backups else ())


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


@pytest.mark.parametrize("count", [1, 2, 3])
def test_older_backups_take_turns(count: int) -> None:
    """Week by week every older backup is read, none twice before all have been; a week repeated chooses the same."""
    ids = [str(n) for n in range(8)]
    weeks = -(-7 // count)
    chosen = [verify.choose(ids, "older", count, window(n)) for n in range(weeks)]
    assert {i for week in chosen for i in week} == set(ids[1:])
    assert verify.choose(ids, "older", count, window(3)) == verify.choose(ids, "older", count, window(3))


def test_choices_are_bounded_by_what_there_is() -> None:
    """With one backup, "older" reads that one; more than there are is all of them, each once."""
    assert verify.choose(["a"], "older", 5, window(0)) == ("a",)
    assert sorted(verify.choose(["c", "b", "a"], "older", 5, window(1))) == ["a", "b"]
    assert verify.choose([], "older", 1, window(0)) == ()
    assert verify.choose(["b", "a"], "latest", 1, window(0)) == ("b",)
    assert verify.choose(["b", "a"], "all", 1, window(0)) == ("b", "a")


def test_faults_become_one_finding_of_each_kind() -> None:
    """A thousand damaged files do not make a thousand findings, and the ledger keeps the first of them."""
    faults = tuple(Fault(check="integrity", subject=f"{n}.dat", message="the content differs") for n in range(1000))
    backup_id = "20261121T010000Z-00000000"
    result = Check(id=backup_id, faults=faults, files=1000, bytes=5, rows=0, tables=9, decoded=False, seconds=1.0)
    archive = SimpleNamespace(check=lambda *_: result)
    action = SimpleNamespace(subject=backup_id)
    outcome = verify.act(job(archive=archive), action)  # type: ignore[arg-type]
    assert outcome.status is OutcomeStatus.FAILED
    assert [(f.check, f.subject, f.severity) for f in outcome.findings] == [("integrity", backup_id, Severity.CRITICAL)]
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
