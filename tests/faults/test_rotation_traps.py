"""Traps for log rotation: pipes in the place of files, names that only look like ours, ids that were used again."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.rotation_world import World
from upkeep.adapters import rotation_reopen
from upkeep.adapters.rotation_look import COPIED, rotated_form
from upkeep.core.logs import Reopen


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    folder = tmp_path / "logs"
    folder.mkdir()
    yield World(folder, tmp_path / "work")


def in_time(world: World, seconds: float = 20, **settings: object) -> list[object]:
    """Run the routine in a thread that may hang."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(world.run(**settings)), daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it hangs"
    return results


def test_a_pipe_in_the_place_of_the_compressed_file(world: World) -> None:
    """Nobody waits for somebody to write to it, and the plain file stays."""
    old = world.write("app.log-20260101-1767225600", days=9)
    world.write("app.log")
    os.mkfifo(f"{old}.gz")
    (result,) = in_time(world)
    assert old.exists() and result.findings


def test_a_pipe_in_the_place_of_a_log_whose_copy_was_cut_off(world: World) -> None:
    """Its copy stays: it cannot be told that the log holds it all."""
    os.mkfifo(world.folder / "app.log")
    (world.folder / f".app.log-20260101-1767225600{COPIED}").write_text("a\nb\n")
    in_time(world)
    assert [p.read_text() for p in world.folder.iterdir() if p.is_file()] == ["a\nb\n"]


def test_names_whose_date_is_not_their_second_are_not_ours(world: World) -> None:
    """An upload of that day with nine digits behind it is no rotated log; dates of any time zone are."""
    names = ["app.log-20260101-1767225600", "app.log-20251231-1767225600", "app.log-20260102-1767297600.gz"]
    assert all(rotated_form(name, []) for name in names)
    assert rotated_form("scan-20260101-123456789", []) is None
    world.policy = {"live": (str(world.folder / "scan*"),)}
    strange = world.write("scan-20260101-123456789", days=90)
    world.write("scan")
    world.run()
    assert strange.exists() or world.rotated("scan-20260101-123456789")


def test_twins_of_other_programs_go_when_they_are_old(world: World) -> None:
    """logrotate was killed while it compressed: nobody but the age of both will ever clear them away."""
    world.write("app.log")
    for name in ("app.log.1", "app.log.2"):
        world.write(name, days=40)
    plain = world.folder / "app.log.1"
    packed = world.write("app.log.1.gz", gzip.compress(plain.read_bytes()), days=40)
    world.run()
    assert not packed.exists() and not plain.exists()


def test_a_process_that_only_has_the_id_of_the_writer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at who has the log open and the signal an id may pass on: the signal is for the one seen."""
    sent = []
    monkeypatch.setattr(os, "kill", lambda *_: sent.append("by number"))
    log = world.write("app.log")
    pid_file = world.folder / "pid"
    reading = os.open(log, os.O_WRONLY)
    try:
        pid = os.fork()
        if pid == 0:
            import signal
            import time

            signal.signal(signal.SIGUSR1, lambda *_: os._exit(7))
            time.sleep(30)
            os._exit(1)
    finally:
        os.close(reading)
    pid_file.write_text(str(pid))
    seen = log.stat()
    way = Reopen(signal="USR1", pid_file=str(pid_file), timeout=5)
    said = rotation_reopen.reopen(way, rotation_reopen.OldFile(seen.st_dev, seen.st_ino, None))
    assert said.told and not sent
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
