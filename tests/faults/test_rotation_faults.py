"""What may go wrong while logs are rotated: killed runs, full disks, missing rights, names and links meant to harm."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.rotation_world import DAY, World, until, writer
from upkeep.core.logs import StrayFiles
from upkeep.core.model import Severity

WORKER = Path(__file__).with_name("rotation_worker.py")
KILLS = int(os.environ.get("UPKEEP_TEST_KILLS", "4"))
TOLD = {"command": ("true",)}
# Before each call (2), or, in a campaign, after each call too (1).
STEP = 1 if KILLS > 20 else 2
NOBODY = 65534
ROOT = os.geteuid() == 0


@dataclass
class Worker:
    """A process that does what it is told, and may be killed while it does."""

    process: subprocess.Popen[str]

    def do(self, world: World, settings: dict[str, Any] | None = None, **more: Any) -> tuple[bool, Any]:
        """Run the routine once; return whether it was killed, and what it said."""
        assert self.process.stdin and self.process.stdout
        order = {"folder": str(world.folder), "work": str(world.work), "policy": world.policy} | more
        self.process.stdin.write(json.dumps(order | {"settings": settings or {}}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["killed"], answer["said"]


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(
        [sys.executable, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as process:
        yield Worker(process)
        assert process.stdin
        process.stdin.close()


@pytest.fixture
def world() -> Iterator[World]:
    # Not `tmp_path`: others than its owner cannot enter that.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "logs").mkdir()
    yield World(folder / "logs", folder / "work", policy={"reopen": TOLD})
    shutil.rmtree(folder)


def said_of(said: Any, check: str) -> list[str]:
    return [severity for name, _, severity, _ in said["findings"] if name == check]


def test_killed_at_every_call_no_line_is_lost_or_doubled(world: World, worker: Worker) -> None:
    """Before and after each call that changes a file: the next run ends what was begun, under a writer at work."""
    path, at, killed = world.folder / "app.log", 0, True
    with writer(path, block=20, rate=20_000) as busy:
        world.policy = {
            "size": 1, "compress_after_days": 0,
            "reopen": {"signal": "HUP", "pid_file": str(busy.pid_file), "timeout": 10},
        }  # fmt: skip
        while killed:
            until(lambda: path.exists() and path.stat().st_size > 1000)
            killed, _ = worker.do(world, {"program": "builtin"}, kill_at=at)
            dead, said = worker.do(world, {"program": "builtin"})
            assert not dead
            assert not [f for f in said["findings"] if f[2] in ("critical", "unknown")], said
            assert world.hidden() == [], f"kill {at}"
            assert all(p.suffix == ".gz" for p in world.rotated()), f"kill {at}"
            put_away(world, at)  # names hold seconds: with the files there, each round would wait for the next one
            at += STEP
        assert at > 12
        written = busy.end()
    put_away(world, at)
    assert away(world).numbers() == (written, 0, 0)


def put_away(world: World, at: int) -> None:
    """Move everything that was rotated to a folder beside, numbered so that it stays in order."""
    (world.folder.parent / "away").mkdir(exist_ok=True)
    for path in world.rotated():
        path.rename(world.folder.parent / "away" / f"app.log-{at:03d}-{path.name}")


def away(world: World) -> World:
    """Return a world of what was put away, with the live log as the last of it."""
    shutil.copy(world.folder / "app.log", world.folder.parent / "away" / "app.log")
    return World(world.folder.parent / "away", world.work)


def test_killed_while_copying_no_line_is_lost_or_doubled(world: World, worker: Worker) -> None:
    """The same for copytruncate: the copy counts exactly when the log was emptied."""
    world.policy = {"size": 1, "copytruncate": True, "compress_after_days": 0}
    path, at, killed, lines = world.folder / "app.log", 0, True, 0
    while killed:
        with path.open("a") as file:
            file.writelines(f"{n:012d} something that an application says\n" for n in range(lines, lines + 500))
        lines += 500
        killed, _ = worker.do(world, kill_at=at)
        worker.do(world)
        assert world.numbers()[1:] == (0, 0) and world.hidden() == [], f"kill {at}"
        put_away(world, at)
        assert away(world).numbers() == (lines, 0, 0), f"kill {at}"
        at += STEP
    assert at > 12


@pytest.mark.parametrize("program", ["builtin", "logrotate"])
def test_killed_at_random_moments(world: World, worker: Worker, program: str) -> None:
    """SIGKILL at any moment, in logrotate too: every line is there once in the end, and nothing is left behind."""
    if program == "logrotate" and not shutil.which("logrotate"):
        pytest.skip("logrotate is not installed")
    path, dice = world.folder / "app.log", random.Random(5)
    with writer(path, block=100, rate=20_000) as busy:
        world.policy = {
            "size": 1, "compress_after_days": 0,
            "reopen": {"signal": "HUP", "pid_file": str(busy.pid_file), "timeout": 10},
        }  # fmt: skip
        _, said = worker.do(world, {"program": program})
        usual = said["seconds"]
        for number in range(KILLS):
            worker.do(world, {"program": program}, kill_after=usual * (number + dice.random()) / KILLS)
        worker.do(world, {"program": program})  # the last one may have been killed when there was no log
        _, said = worker.do(world, {"program": program})
        assert not [f for f in said["findings"] if f[2] in ("critical", "unknown")], said
        written = busy.end()
    worker.do(world, {"program": program})
    assert world.numbers() == (written, 0, 0)
    assert world.hidden() == []


def test_a_full_disk_changes_nothing(world: World, worker: Worker) -> None:
    """Compressing and copying need room: without it both say so (critical), leave nothing behind, and lose nothing."""
    text = os.urandom(20_000)
    stamp = int((world.now() - 8 * DAY).timestamp())
    plain = world.write(f"app.log-{datetime.fromtimestamp(stamp, UTC):%Y%m%d}-{stamp}", text, days=8)
    live = world.write("app.log", text, days=8)
    _, said = worker.do(world, file_bytes=5000)
    assert [d[:3] for d in said["did"]] == [["rotate", "app.log", "done"], ["compress", "app.log", "failed"]]
    assert said_of(said, "compress") == ["critical"]
    assert (plain.read_bytes(), world.rotated()[1].read_bytes(), live.read_bytes()) == (text, text, b"")
    live.write_bytes(text)
    world.policy = {"size": 1, "copytruncate": True}
    _, said = worker.do(world, {"force": True}, file_bytes=5000)
    assert said_of(said, "rotate") == ["critical"]
    assert live.read_bytes() == text and world.hidden() == []


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    if not ROOT or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_volume_without_room_or_inodes(world: World) -> None:
    """On a volume that is full to the last inode nothing is renamed; with room again the next run does it."""
    with mounted(world.folder, "size=256k,nr_inodes=5,mode=755"):
        world.write("app.log", b"x\n" * 1000, days=8)
        for n in range(3):
            world.write(f"filler{n}", b"")
        result = world.run(program="builtin")
        assert result.did == {"rotate": "failed"} and result.found("rotate").severity is Severity.CRITICAL
        assert (world.rotated(), world.hidden()) == ([], [])
        (world.folder / "filler0").unlink()
        assert world.run(program="builtin").did == {"rotate": "done"}


def test_a_read_only_folder_is_named_and_the_rest_goes_on(world: World) -> None:
    """A log on a read-only mount is told, the one beside it is rotated."""
    (world.folder / "ro").mkdir()
    world.policy = {"live": (f"{world.folder}/*.log", f"{world.folder}/ro/*.log"), "reopen": TOLD}
    with mounted(world.folder / "ro", "size=256k,mode=755"):
        world.write("ro/a.log", days=8)
        world.write("b.log", days=8)
        subprocess.run(["mount", "-o", "remount,ro", str(world.folder / "ro")], check=True)
        result = world.run()
        told = {a.action.subject: a.status for a in result.actions}
        assert told == {"b.log": "done", "ro/a.log": "failed"}
        assert "Read-only" in result.found("rotate").message


@pytest.mark.skipif(not ROOT, reason="needs to become somebody else")
def test_without_rights(world: World, worker: Worker) -> None:
    """A folder that may not be written to is a warning, one that may not be read is unknown; nothing is changed."""
    world.write("app.log", days=8)
    _, said = worker.do(world, uid=NOBODY)
    assert said_of(said, "rotate") == ["warning"] and world.hidden() == []
    (world.folder / "deep").mkdir(0o700)
    world.policy = {"live": (f"{world.folder}/**/*.log",), "reopen": TOLD}
    _, said = worker.do(world, uid=NOBODY)
    assert said_of(said, "folder") == ["unknown"] and said_of(said, "rotate") == ["warning"]
    (world.folder / "deep").rmdir()
    (world.folder / "app.log").chmod(0o600)
    _, said = worker.do(world, uid=NOBODY)
    assert said_of(said, "unreadable") == ["unknown"]
    world.folder.chmod(0o700)
    _, said = worker.do(world, uid=NOBODY)
    assert said_of(said, "folder") == ["unknown"]
    assert [p.name for p in world.folder.iterdir()] == ["app.log"]


@pytest.mark.skipif(not ROOT, reason="needs to become somebody else")
def test_processes_that_cannot_be_looked_into_are_unknown(world: World, worker: Worker) -> None:
    """Another user's silent process that has the old file open cannot be seen: unknown, and the file stays plain."""
    world.policy = {"age_days": 7, "compress_after_days": 0, "reopen": {"timeout": 0.3}}
    path = world.write("app.log", days=8)
    for owned in (world.folder, path):
        os.chown(owned, NOBODY, NOBODY)
    with path.open("ab"):
        _, said = worker.do(world, {"program": "builtin"}, uid=NOBODY)
        assert said["did"][0][:3] == ["rotate", "app.log", "done"]
        assert said_of(said, "reopen") == ["unknown"] and world.rotated()[0].suffix != ".gz"


@pytest.mark.skipif(not ROOT, reason="needs to become somebody else")
def test_the_kernel_tells_of_all_writers(world: World, worker: Worker) -> None:
    """When nobody has the old file open for writing, its owner learns so at once, whomever else he cannot look into."""
    world.policy = {"age_days": 7, "compress_after_days": 0, "reopen": {"timeout": 30}}
    path = world.write("app.log", days=8)
    for owned in (world.folder, path):
        os.chown(owned, NOBODY, NOBODY)
    with path.open("rb"):  # readers do not count
        _, said = worker.do(world, {"program": "builtin"}, uid=NOBODY)
    assert [d[2] for d in said["did"]] == ["done", "done"] and said["seconds"] < 20
    assert "the kernel knows of nobody" in said["did"][0][3] and said_of(said, "reopen") == []


def test_links_and_hostile_names(world: World) -> None:
    """Links out of the folder are refused with a warning; odd names are rotated like any other, by us."""
    secret = world.folder.parent / "secret"
    secret.mkdir()
    (secret / "x.log").write_text("2020-01-01 00:00:00 keep me\n")
    names = [b"new\nline.log", b"-rf.log", b"100%.log", b"a[b]*?.log", b"caf\xe9.log", b"q\"uo'te.log", b"$(id).log"]
    for name in names:
        (world.folder / os.fsdecode(name)).write_text("2020-01-01 00:00:00 x\n")
    (world.folder / "link.log").symlink_to(secret / "x.log")
    (world.folder / "inner.log").symlink_to("-rf.log")
    (world.folder / "away").symlink_to(secret)
    os.link(secret / "x.log", world.folder / "hard.log")
    world.policy = {"live": (f"{world.folder}/*.log", f"{world.folder}/away/*.log", f"{secret}/*.log"), "reopen": TOLD}
    result = world.run(growth={"info": None, "warning": None})
    assert all(a.status == "done" for a in result.actions) and len(result.actions) == len(names)
    found = {(f.check, f.subject): f.severity for f in result.troubles}
    assert found == {
        ("symlink", "link.log"): Severity.WARNING,
        ("symlink", "away"): Severity.WARNING,
        ("file", "hard.log"): Severity.WARNING,
        ("outside", f"{secret}/*.log"): Severity.CRITICAL,
    }
    for name in names:
        assert (world.folder / os.fsdecode(name)).stat().st_size == 0
    assert (secret / "x.log").read_text() == "2020-01-01 00:00:00 keep me\n"


def test_a_folder_that_everybody_may_write_to_is_refused(world: World) -> None:
    """There anybody could put another file in the log's place; the log in a safe folder is rotated."""
    world.write("open/a.log", days=8)
    world.write("b.log", days=8)
    (world.folder / "open").chmod(0o777)
    world.policy = {"live": (f"{world.folder}/**/*.log",), "reopen": TOLD}
    result = world.run()
    assert result.found("parent").severity is Severity.WARNING and result.found("parent").subject == "open/a.log"
    assert [f.check for f in result.findings] == ["parent"]
    assert [(a.action.subject, a.status) for a in result.actions] == [("b.log", "done")]


def test_a_log_that_vanishes_or_changes_between_plan_and_deed(world: World) -> None:
    """What is planned is done to the very file that was seen, or not at all; that is no trouble."""
    from upkeep.core.routine import Routine

    world.write("gone.log", days=8)
    world.write("other.log", days=8)
    routine = Routine.load("upkeep.routines.logs.rotation")
    job = world.job(routine, {})
    plan = routine.plan(job, routine.observe(job)).actions
    (world.folder / "gone.log").unlink()
    (world.folder / "other.log").rename(world.folder / "kept")
    world.write("other.log", "new\n")
    outcomes = [routine.act(job, action) for action in plan]
    assert [o.status for o in outcomes] == ["unchanged", "unchanged"]
    assert all(not o.findings for o in outcomes)
    assert (world.folder / "other.log").stat().st_size > 0


def test_a_packed_file_that_does_not_decode_to_the_plain_one(world: World) -> None:
    """Both stay, and it is critical; when they are equal, the plain one goes (a run was cut off before that)."""
    for number, days in enumerate((8, 9)):
        stamp = int((world.now() - days * DAY).timestamp())
        plain = world.write(f"app{number}.log-{datetime.fromtimestamp(stamp, UTC):%Y%m%d}-{stamp}", days=days)
        packed = gzip.compress(plain.read_bytes() if number else b"something else\n")
        world.write(f"{plain.name}.gz", packed, days=days)
        world.write(f"app{number}.log")
    result = world.run()
    assert {a.action.subject: a.status for a in result.actions} == {"app0.log": "failed", "app1.log": "done"}
    assert result.found("compress").severity is Severity.CRITICAL
    assert (len(world.rotated("app0.log")), [p.suffix for p in world.rotated("app1.log")]) == (2, [".gz"])


def test_deleted_and_still_open(world: World) -> None:
    """A log that somebody deleted under its writer is found, with the process and the space that it keeps."""
    path = world.folder / "app.log"
    with writer(path, "keep", block=10, rate=1000) as busy:
        path.unlink()
        result = world.run()
        found = result.found("deleted_open")
        assert found.severity is Severity.WARNING and "app.log (" in found.message
        assert f"process {busy.process.pid}" in found.message


def test_written_to_long_after_its_rotation(world: World) -> None:
    """A writer that no look at processes shows (another container) is found by the time of the rotated file."""
    stamp = int((world.now() - 2 * DAY).timestamp())
    world.write(f"app.log-{datetime.fromtimestamp(stamp, UTC):%Y%m%d}-{stamp}", days=0.1)
    world.write("app.log", days=1)
    assert world.run().found("late_lines").severity is Severity.WARNING


@pytest.mark.skipif(not shutil.which("logrotate"), reason="logrotate is not installed")
def test_what_logrotate_complains_about_is_a_finding(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a directive that it does not know it rotates and ends with 0: its words are told all the same."""
    from upkeep.adapters import rotation_logrotate

    real = rotation_logrotate.render
    monkeypatch.setattr(rotation_logrotate, "render", lambda *a: real(*a).replace("nomail", "comprss"))
    world.write("app.log", days=8)
    result = world.run(program="logrotate")
    assert result.did == {"rotate": "done"}
    assert "comprss" in result.found("program").message


def test_logrotate_is_asked_for_and_not_installed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is rotated by us, and that logrotate could not be used is told."""
    from upkeep.adapters import rotation_logrotate

    monkeypatch.setattr(rotation_logrotate, "find", lambda: None)
    world.write("app.log", days=8)
    result = world.run(program="logrotate")
    assert result.did == {"rotate": "done"} and "not installed" in result.found("program").message


def test_stray_files_behind_links_stay(world: World) -> None:
    """Neither a link in the place of a file nor one in the place of a folder leads out of the declared folder."""
    secret = world.folder.parent / "secret"
    secret.mkdir()
    for place in (secret, world.folder):
        path = place / "test_a.db"
        path.write_text("x")
        os.utime(path, (1e9, 1e9))
    (world.folder / "sub").symlink_to(secret)
    (world.folder / "test_b.db").symlink_to(secret / "test_a.db")
    world.policy = None
    patterns = ("**/test_*.db", "sub/test_*.db", "../secret/test_*.db")
    world.stray = (StrayFiles(folder=str(world.folder), patterns=patterns, older_than_days=1),)
    result = world.run()
    assert [a.action.subject for a in result.actions] == ["test_a.db"]
    assert (secret / "test_a.db").exists() and not (world.folder / "test_a.db").exists()
    assert {f.subject for f in result.troubles} == {"sub", "../secret/test_*.db"}


def test_a_stray_file_that_changes_places_with_a_link_stays(world: World) -> None:
    """Between plan and deed the folder is replaced by a link: the deed is refused, and nothing outside is touched."""
    from upkeep.core.routine import Routine

    outside = world.folder.parent / "outside"
    outside.mkdir()
    for folder in (world.folder / "sub", outside):
        folder.mkdir(exist_ok=True)
        (folder / "test_a.db").write_text("x")
        os.utime(folder / "test_a.db", (1e9, 1e9))
    world.policy = None
    world.stray = (StrayFiles(folder=str(world.folder), patterns=("sub/*.db",), older_than_days=1),)
    routine = Routine.load("upkeep.routines.logs.rotation")
    job = world.job(routine, {})
    (action,) = routine.plan(job, routine.observe(job)).actions
    (world.folder / "sub").rename(world.folder / "moved")
    (world.folder / "sub").symlink_to(outside)
    outcome = routine.act(job, action)
    assert outcome.status == "skipped" and outcome.findings[0].severity is Severity.WARNING
    assert (outside / "test_a.db").exists()


def test_a_task_that_is_ended_between_renaming_and_the_new_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person marks the task just then: the log is there all the same, with nothing left behind."""
    from upkeep.adapters import rotation_turn
    from upkeep.core.rotation import Order

    real = rotation_turn.rename

    def rename_and_stop(place: Any) -> str:
        real(place)
        raise KeyboardInterrupt

    monkeypatch.setattr(rotation_turn, "rename", rename_and_stop)
    path = world.write("app.log", days=8)
    with pytest.raises(KeyboardInterrupt):
        world.rotator().rotate("t", world.rotation(), Order("app.log", path.stat().st_ino, "builtin", "age"))
    assert path.stat().st_size == 0 and len(world.rotated()) == 1 and world.hidden() == []


def test_deleted_files_that_are_no_logs_are_nobodys_business(world: World) -> None:
    """Programs keep deleted files open on purpose; only logs of the policy are spoken of."""
    world.write("app.log")
    with writer(world.folder / "cache.tmp", "keep", block=10, rate=1000):
        (world.folder / "cache.tmp").unlink()
        assert world.run().findings == ()


def test_more_came_after_a_cut_off_compression(world: World) -> None:
    """A compressed file that holds the beginning of the plain one is made anew: no line is lost."""
    stamp = int((world.now() - 8 * DAY).timestamp())
    plain = world.write(f"app.log-{datetime.fromtimestamp(stamp, UTC):%Y%m%d}-{stamp}", "one\ntwo\nthree\n", days=8)
    text = plain.read_bytes()
    world.write(f"{plain.name}.gz", gzip.compress(text[:-6]), days=8)
    world.write("app.log")
    assert world.run().did == {"compress": "done"}
    assert [gzip.decompress(p.read_bytes()) for p in world.rotated()] == [text]
