"""The spool: nothing is lost, nothing is doubled, order is kept."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from upkeep.core.model import Severity
from upkeep.ledger import events as ev
from upkeep.ledger.spool import Spool

AT = datetime(2026, 11, 21, tzinfo=UTC)


def event(number: int) -> ev.RunClosed:
    return ev.RunClosed(at=AT, run=ev.RunKey(dag_id="d", run_id=str(number)), verdict=Severity.OK)


def append(folder: Path, start: int) -> None:
    for number in range(start, start + 50):
        Spool(folder).append(event(number))


def test_replay_keeps_the_order(tmp_path: Path):
    """Events come back in the order in which they were written, then the spool is empty."""
    spool, seen = Spool(tmp_path), []
    spool.append(event(1), event(2))
    spool.append(event(3))
    assert spool.replay(lambda e: seen.append(e.run.run_id), ()) == 3
    assert seen == ["1", "2", "3"]
    assert not spool


def test_an_interrupted_replay_keeps_everything(tmp_path: Path):
    """When the ledger goes away in the middle, every event is still there for the next time."""
    spool, seen = Spool(tmp_path), []
    spool.append(event(1), event(2), event(3))

    def fail_at_two(e: ev.RunClosed) -> None:
        if e.run.run_id == "2":
            raise ConnectionError("gone")
        seen.append(e.run.run_id)

    with pytest.raises(ConnectionError):
        spool.replay(fail_at_two, ())
    assert [e.run.run_id for e in spool.events()] == ["1", "2", "3"]


def test_a_torn_line_is_set_aside(tmp_path: Path):
    """A process killed while writing leaves half a line; it harms neither its neighbours nor the count."""
    spool, seen = Spool(tmp_path), []
    spool.append(event(1))
    with (tmp_path / "events.jsonl").open("a") as lines:
        lines.write('{"kind": "run_clo')
    spool.append(event(2))
    assert spool.replay(lambda e: seen.append(e.run.run_id), ()) == 2
    assert seen == ["1", "2"]
    assert spool.rejected == 1


def test_a_refused_event_is_set_aside(tmp_path: Path):
    """An event that the ledger will never take does not block those behind it."""
    spool, seen = Spool(tmp_path), []
    spool.append(event(1), event(2))

    def refuse_one(e: ev.RunClosed) -> None:
        if e.run.run_id == "1":
            raise ValueError("out of range")
        seen.append(e.run.run_id)

    assert spool.replay(refuse_one, (ValueError,)) == 1
    assert seen == ["2"]
    assert spool.rejected == 1


def test_writers_in_several_processes_do_not_tear_lines(tmp_path: Path):
    """Tasks on one worker share the spool."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append, args=(tmp_path, start)) for start in (0, 1000)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert {w.exitcode for w in writers} == {0}
    assert len(list(Spool(tmp_path).events())) == 100


def test_the_spool_is_private(tmp_path: Path):
    """Findings are nobody else's business."""
    folder = tmp_path / "spool"
    Spool(folder).append(event(1))
    assert folder.stat().st_mode & 0o077 == 0
