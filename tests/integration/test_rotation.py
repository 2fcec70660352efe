"""`logs.rotation` in the real lifecycle, on real files with real writers."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.rotation_world import DAY, World, until, writer
from upkeep.core.cadence import Window
from upkeep.core.logs import StrayFiles
from upkeep.core.model import Severity
from upkeep.core.rotation import Order, Turned

PROGRAMS = ["builtin", pytest.param("logrotate", marks=pytest.mark.skipif(not shutil.which("logrotate"), reason="no"))]
ROTATIONS = int(os.environ.get("UPKEEP_TEST_ROTATIONS", "3"))
TOLD = {"command": ("true",)}


@pytest.fixture
def world(tmp_path: Path) -> World:
    folder = tmp_path / "logs"
    folder.mkdir()
    return World(folder, tmp_path / "work", policy={"age_days": 7, "reopen": TOLD})


def test_without_a_policy_there_is_nothing_to_do(world: World) -> None:
    """A log set without `rotation` and `stray` gives no finding, no action and no measurement."""
    world.policy = None
    world.write("app.log", days=100)
    result = world.run()
    assert (result.state, result.findings, result.actions, result.measurements) == ("success", (), [], {})


def test_a_healthy_log_is_left_alone(world: World) -> None:
    """A log within the policy gives measurements, and nothing else."""
    world.write("app.log", days=1)
    result = world.run()
    assert (result.findings, result.actions) == ((), [])
    assert result.measurements["log.age", "app.log"] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("program", PROGRAMS)
def test_rotates_by_age_and_proves_it(world: World, program: str) -> None:
    """A log older than the policy gets a new inode with its mode; lines and SHA-256 of the old one are on record."""
    path = world.write("app.log", days=8)
    path.chmod(0o640)
    old, text = path.stat(), path.read_bytes()
    result = world.run(program=program)
    assert result.troubles == []
    assert result.did == {"rotate": "done"}
    (rotated,) = world.rotated()
    assert (rotated.stat().st_ino, rotated.read_bytes()) == (old.st_ino, text)
    assert path.stat().st_ino != old.st_ino
    assert (path.stat().st_size, stat.S_IMODE(path.stat().st_mode)) == (0, 0o640)
    evidence = result.evidence("rotate")
    assert evidence["lines"] == 3 and evidence["sha256"] == hashlib.sha256(text).hexdigest()
    assert evidence["by"].startswith("logrotate 3" if program == "logrotate" else "built-in")
    assert evidence["reopened"]["state"] == "yes"
    assert world.hidden() == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_rotates_by_size(world: World, program: str) -> None:
    """A log larger than the policy is rotated, one of just its size is not."""
    world.policy = {"size": 100, "age_days": None, "reopen": TOLD}
    world.write("big.log", b"x" * 101)
    world.write("just.log", b"x" * 100)
    assert [a.action.subject for a in world.run(program=program).actions] == ["big.log"]


def test_a_repeat_in_the_same_window_rotates_nothing(world: World) -> None:
    """The log is over the policy again when the run is repeated: it stays, until the next window or `force`."""
    world.policy = {"size": 10, "reopen": TOLD}
    world.window = Window(start=world.now() - DAY, end=world.now() - timedelta(seconds=2))
    path = world.write("app.log")
    assert world.run().did == {"rotate": "done"}
    path.write_text("more than ten bytes\n")
    assert world.run().did == {}
    world.window = Window(start=world.now() - DAY, end=world.now() + timedelta(seconds=1))
    assert world.run(dry_run=True).actions[0].action.name == "rotate"
    world.window = Window(start=world.now() - DAY, end=world.now() - timedelta(seconds=5))
    assert world.run(force=True).did == {"rotate": "done"}
    assert len(world.rotated()) == 2


def test_a_weekly_run_that_begins_earlier_is_not_put_off(world: World) -> None:
    """A log that lacks some minutes to seven days is rotated, one that lacks two hours is not."""
    world.write("a.log", days=7 - 30 / 1440)
    world.write("b.log", days=7 - 2 / 24)
    assert [a.action.subject for a in world.run().actions] == ["a.log"]


def test_empty_and_missing_logs(world: World) -> None:
    """An empty log is never rotated; one that is missing is worth a word and no more."""
    world.policy = {"live": tuple(f"{world.folder}/{n}" for n in ("app.log", "*.log", "gone.log")), "reopen": TOLD}
    world.write("app.log", b"", days=90)
    result = world.run()
    assert result.actions == []
    assert [(f.check, f.subject, f.severity) for f in result.findings] == [("missing", "gone.log", Severity.INFO)]


def test_compresses_and_deletes_by_age_and_count(world: World) -> None:
    """After 7 days compressed and equal, after 30 days deleted, also when the log itself is idle; the newest stay."""
    world.policy = {"keep": 3, "reopen": TOLD}
    for days in (1, 8, 9, 10, 40):
        stamp = int((world.now() - days * DAY).timestamp())
        world.write(f"app.log-{datetime.fromtimestamp(stamp, UTC):%Y%m%d}-{stamp}", f"{days}\n" * 1000, days=days)
    world.write("app.log", b"", days=50)
    kept = [p for p in world.rotated() if p.stat().st_mtime > (world.now() - 9.5 * DAY).timestamp()]
    texts = [p.read_bytes() for p in kept]
    result = world.run()
    assert result.did == {"compress": "done", "delete": "done"} and result.troubles == []
    assert [p.name for p in world.rotated()] == [kept[0].name + ".gz", kept[1].name + ".gz", kept[2].name]
    assert [gzip.decompress(p.read_bytes()) for p in world.rotated()[:2]] == texts[:2]
    assert world.rotated()[0].stat().st_mtime == pytest.approx((world.now() - 9 * DAY).timestamp(), abs=5)
    assert [f["lines"] for f in result.evidence("compress")["files"]] == [1001, 1001]
    assert world.run().did == {}


def test_compresses_at_once_when_the_policy_says_so(world: World) -> None:
    """With `compress_after_days: 0` the file that is rotated now is compressed in the same run."""
    world.policy = {"compress_after_days": 0, "reopen": TOLD}
    text = world.write("app.log", days=8).read_bytes()
    assert world.run().did == {"rotate": "done", "compress": "done"}
    (packed,) = world.rotated()
    assert packed.suffix == ".gz" and gzip.decompress(packed.read_bytes()) == text


def test_adopts_what_others_rotated(world: World) -> None:
    """Dated files of another rotation are compressed and deleted; numbered ones are only deleted; strangers stay."""
    world.write("app.log")
    world.write("app.log-20261101", days=8)
    world.write("app.log.1", days=8)
    world.write("app.log.2.gz", b"x", days=31)
    world.write("worker.3", days=90)
    world.write("other.log.bak", days=90)
    world.policy = {"live": (str(world.folder / "*"),), "age_days": 300, "reopen": TOLD}
    assert world.run().did == {"compress": "done", "delete": "done"}
    names = sorted(p.name for p in world.folder.iterdir())
    assert names == ["app.log", "app.log-20261101.gz", "app.log.1", "other.log.bak", "worker.3"]


def test_a_dry_run_changes_nothing(world: World) -> None:
    """Planned is what would be done, and the folder is as before."""
    world.write("app.log", days=8)
    before = sorted(p.name for p in world.folder.iterdir())
    result = world.run(dry_run=True)
    assert [a.action.name for a in result.actions] == ["rotate"] and "rename the newest" in result.actions[
        0
    ].action.undo
    assert sorted(p.name for p in world.folder.iterdir()) == before


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_line_is_lost_under_a_writer_at_full_speed(world: World, program: str) -> None:
    """A writer that reopens at SIGHUP, some rotations (20 in bench/rotation.py): every line is there once."""
    path = world.folder / "app.log"
    with writer(path, rate=250_000) as busy:
        world.policy = {"size": 1, "reopen": {"signal": "HUP", "pid_file": str(busy.pid_file), "timeout": 10}}
        rotator = world.rotator()
        for _ in range(ROTATIONS):
            until(lambda: path.stat().st_size > 50_000)
            done = rotator.rotate("t", world.rotation(), Order("app.log", path.stat().st_ino, program, "size"))
            assert isinstance(done, Turned) and done.reopened.state == "yes" and not done.complaints, done
        written = busy.end()
    assert len(world.rotated()) == ROTATIONS
    assert world.numbers() == (written, 0, 0)


def test_no_line_is_lost_when_the_writer_opens_for_each_block(world: World) -> None:
    """A writer without any way to be told makes its file anew by itself; it may be quicker than we are."""
    path = world.folder / "app.log"
    with writer(path, "each", block=50, rate=250_000) as busy:
        world.policy = {"reopen": {"timeout": 5}}
        for _ in range(ROTATIONS):
            result = world.run(force=True)
            assert result.did == {"rotate": "done"} and result.troubles == []
            until(lambda: path.exists() and path.stat().st_size > 0)
        written = busy.end()
    assert world.numbers() == (written, 0, 0)


def test_copytruncate_tells_what_it_lost(world: World) -> None:
    """Lines lost between copy and emptying are reported as a warning, and are no more than what is reported."""
    path = world.folder / "app.log"
    with writer(path, "keep", block=200, rate=250_000) as busy:
        world.policy = {"copytruncate": True}
        told = 0.0
        for _ in range(ROTATIONS):
            until(lambda: path.stat().st_size > 50_000)
            result = world.run(force=True)
            assert result.did == {"rotate": "done"}
            told += result.measurements["loss.size", "app.log"]
            if result.measurements["loss.size", "app.log"]:
                assert result.found("loss").severity is Severity.WARNING
        written = busy.end()
    there, doubled, _ = world.numbers()
    assert doubled == 0
    print(f"lost {written - there} lines, told {told / 48:.0f}")
    assert (written - there) * 48 <= told + ROTATIONS * 48 * 200


def test_a_writer_that_does_not_reopen_is_named_and_its_file_kept(world: World) -> None:
    """Its rotated file is neither compressed nor deleted while it writes; when it is gone, the next run goes on."""
    path = world.folder / "app.log"
    with writer(path, "keep", block=10, rate=1000) as deaf:
        world.policy = {
            "size": 1, "compress_after_days": 0,
            "reopen": {"signal": "HUP", "pid_file": str(deaf.pid_file), "timeout": 0.3},
        }  # fmt: skip
        result = world.run()
        assert result.found("reopen").severity is Severity.WARNING
        assert f"process {deaf.process.pid}" in result.found("reopen").message
        assert world.rotated()[0].suffix != ".gz"
        again = world.run()
        assert again.did["reopen"] == "failed" and again.found("still_written").severity is Severity.WARNING
        written = deaf.end()
    assert world.run().did["compress"] == "done"
    assert world.numbers() == (written, 0, 0)


def test_a_foreign_process_in_the_pid_file_is_not_signalled(world: World) -> None:
    """A forgotten pid file names another program, which SIGHUP would end: it lives, and the finding tells."""
    path = world.write("app.log", days=8)
    innocent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        pid_file = world.folder / "app.pid"
        pid_file.write_text(str(innocent.pid))
        world.policy = {"reopen": {"signal": "HUP", "pid_file": str(pid_file), "timeout": 0.5}}
        result = world.run()
        assert innocent.poll() is None
        assert "does not have the log open" in result.found("reopen").message
        assert path.stat().st_size == 0
    finally:
        innocent.kill()
        innocent.wait()


def test_a_failing_command_is_told(world: World) -> None:
    """The log is rotated, and the words of the command are in the finding."""
    world.policy = {"reopen": {"command": ("sh", "-c", "echo no such service >&2; exit 3"), "timeout": 5}}
    world.write("app.log", days=8)
    result = world.run()
    assert result.did == {"rotate": "done"}
    assert "exit code 3: no such service" in result.found("reopen").message


def test_two_runs_at_once(world: World) -> None:
    """Both end well; the log is rotated once."""
    for number in range(5):
        world.write(f"app{number}.log", days=8)
    results = []
    threads = [threading.Thread(target=lambda: results.append(run_bare(world))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [status for statuses in results for status in statuses]
    assert done.count("done") == 5 and set(done) <= {"done", "unchanged", "skipped"}
    assert all(len(world.rotated(f"app{n}.log")) == 1 for n in range(5))


def run_bare(world: World) -> list[str]:
    from upkeep.core.routine import Routine

    routine = Routine.load("upkeep.routines.logs.rotation")
    job = world.job(routine, {"program": "builtin"})
    plan = routine.plan(job, routine.observe(job))
    return [str(routine.act(job, action).status) for action in plan.actions]


def test_stray_files_go_when_they_are_old_and_nobody_needs_them(world: World) -> None:
    """Forgotten test databases go with their journals; one that is open, young, or has a young journal stays."""
    world.policy = None
    world.stray = (StrayFiles(folder=str(world.folder), patterns=("**/test_*.db",), older_than_days=7),)
    for name in ("test_old.db", "deep/er/test_older.db", "test_open.db", "test_wal.db", "test_young.db", "real.db"):
        (world.folder / name).parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(world.folder / name) as made:
            made.execute("create table t (a)")
        made.close()
        age(world.folder / name, 0 if "young" in name else 8)
    age(world.write("test_old.db-wal", b""), 8)
    world.write("test_wal.db-wal", b"x")
    (world.folder / "deep/test_link.db").symlink_to(world.folder / "real.db")
    with (world.folder / "test_open.db").open():
        reader = subprocess.Popen(
            [sys.executable, "-c", "import sys; f = open(sys.argv[1]); print(1, flush=True); sys.stdin.read()",
             str(world.folder / "test_open.db")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert reader.stdout and reader.stdout.readline()
            result = world.run()
        finally:
            reader.communicate()
    assert sorted(a.action.subject for a in result.actions) == ["deep/er/test_older.db", "test_old.db"]
    left = sorted(p.name for p in world.folder.rglob("*") if not p.is_dir())
    assert left == ["real.db", "test_link.db", "test_open.db", "test_wal.db", "test_wal.db-wal", "test_young.db"]
    kept = {f.subject: f.message for f in result.findings if f.check == "stray" and f.subject}
    assert "is open in" in kept["test_open.db"] and "-wal was written to" in kept["test_wal.db"]
    assert result.troubles == []


def age(path: Path, days: float) -> None:
    moment = (datetime.now(UTC) - days * DAY).timestamp()
    os.utime(path, (moment, moment))
