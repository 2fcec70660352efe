"""Our log rotation against `logrotate`, under a writer and in a table of cases: `python -m bench.rotation`.

A writer of numbered lines runs at `BENCH_RATE` (250,000) lines a second while its log is rotated `BENCH_ROTATIONS` (20)
times. Afterwards every line is looked for: lost is what is nowhere, doubled what is there twice. Then a table of cases,
each with fresh files, of what logrotate and `logs.rotation` did. Needs logrotate.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.integration.rotation_world import DAY, World, Writer, until, writer
from upkeep.core.rotation import Order, Turned

RATE = float(os.environ.get("BENCH_RATE", "250000"))
ROTATIONS = int(os.environ.get("BENCH_ROTATIONS", "20"))
LINE = 48
WEEKLY = "weekly\nrotate 9\nnotifempty\nmissingok\n"


@contextlib.contextmanager
def place() -> Iterator[World]:
    """Give a folder for logs, with a policy that needs no telling of writers."""
    folder = Path(tempfile.mkdtemp(prefix="upkeep-rotation-"))
    (folder / "logs").mkdir()
    try:
        yield World(folder / "logs", folder / "work", policy={"reopen": {"command": ("true",)}})
    finally:
        shutil.rmtree(folder)


def logrotate(world: World, directives: str, *more: str, live: str = "*.log") -> tuple[int, str]:
    """Run logrotate with a configuration for some logs; return exit code and what it said."""
    world.work.mkdir(exist_ok=True)
    configuration = world.work / "plain.conf"
    if not configuration.exists():
        configuration.write_text(f"{world.folder}/{live} {{\n{directives}\n}}\n")
        configuration.chmod(0o644)
    command = ["logrotate", *more, "--state", str(world.work / "plain.state"), str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.strip()


def seed(world: World, days: float, name: str = "app.log") -> None:
    """Let logrotate know when it last rotated a log."""
    world.work.mkdir(exist_ok=True)
    moment = world.now() - days * DAY
    text = f'logrotate state -- version 2\n"{world.folder}/{name}" {moment:%Y-%m-%d-%H:%M:%S}\n'
    (world.work / "plain.state").write_text(text)
    (world.work / "plain.state").chmod(0o600)


def ours(program: str, **policy: object) -> Callable[[World, Writer], str]:
    """Return a rotation of ours."""

    def rotate(world: World, busy: Writer) -> str:
        reopen = {"signal": "HUP", "pid_file": str(busy.pid_file), "timeout": 20}
        world.policy = {"size": 1, **({"copytruncate": True} if policy.get("copytruncate") else {"reopen": reopen})}
        inode = (world.folder / "app.log").stat().st_ino
        done = world.rotator().rotate("bench", world.rotation(), Order("app.log", inode, program, "size"))  # type: ignore[arg-type]
        assert isinstance(done, Turned) and not done.complaints, done
        return f"{(done.lost_bytes or 0) / LINE:.0f}"

    return rotate


def theirs(directives: str) -> Callable[[World, Writer], str]:
    """Return a rotation of logrotate's."""

    def rotate(world: World, busy: Writer) -> str:
        signal = f"postrotate\nkill -HUP $(cat {busy.pid_file})\nendscript" if "create" in directives else ""
        code, said = logrotate(world, f"size 1\nrotate 99\nnocompress\n{directives}\n{signal}", "-f")
        assert code == 0, said
        return "-"

    return rotate


WAYS: dict[str, tuple[str, Callable[[World, Writer], str]]] = {
    "ours, built-in": ("hup", ours("builtin")),
    "ours, by logrotate": ("hup", ours("logrotate")),
    "logrotate, create and signal": ("hup", theirs("create")),
    "ours, copytruncate": ("keep", ours("builtin", copytruncate=True)),
    "logrotate, copytruncate": ("keep", theirs("copytruncate")),
}


def under_load() -> None:
    """Print the table of lines lost and doubled."""
    print(f"{'way':30} {'lines':>12} {'lines/s':>10} {'lost':>9} {'doubled':>8} {'told':>8} {'s a rotation':>13}")
    for name, (mode, rotate) in WAYS.items():
        with place() as world, writer(world.folder / "app.log", mode, block=1000, rate=RATE) as busy:
            told, seconds = [], 0.0
            for _ in range(ROTATIONS):
                size = (world.folder / "app.log").stat().st_size
                until(lambda size=size: (world.folder / "app.log").stat().st_size > size + 1_000_000)
                begun = time.monotonic()
                told.append(rotate(world, busy))
                seconds += time.monotonic() - begun
            written = busy.end()
            there, doubled = count(world)
            total = "-" if "-" in told else f"{sum(map(int, told))}"
            print(
                f"{name:30} {written:12,} {written / busy.seconds:10,.0f} {written - there:9,} {doubled:8,} {total:>8}"
                f" {seconds / ROTATIONS:13.3f}",
                flush=True,
            )


def count(world: World) -> tuple[int, int]:
    """Return how many different lines are there, and how many twice; read file by file, for they may be large."""
    seen: set[int] = set()
    doubled = 0
    files = [p for p in world.folder.iterdir() if p.name.startswith("app.log") and not p.name.endswith(".pid")]
    for path in files:
        with path.open("rb") as file:
            for line in file:
                number = line[:12]
                if len(line) != LINE or not number.isdigit():
                    continue
                if int(number) in seen:
                    doubled += 1
                seen.add(int(number))
    return len(seen), doubled


def did(world: World, **settings: object) -> str:
    """Run ours and say in a few words what it did."""
    result = world.run(**settings)
    words = [f"{a.action.name} {a.status}" for a in result.actions]
    words += [f"{f.severity} {f.check}" for f in result.findings if f.severity.rank > 0]
    return ", ".join(words) or "nothing"


def names(world: World) -> set[str]:
    """Return the names in the folder."""
    return {p.name for p in world.folder.iterdir()}


def case_size(world: World) -> tuple[str, str]:
    """A log larger than its size."""
    world.write("app.log", b"x" * 101)
    said = logrotate(world, "size 100\nrotate 9")
    world.write("app.log", b"x" * 101)
    world.policy = {"size": 100, "age_days": None, "reopen": {"command": ("true",)}}
    return told(world, said), did(world)


def case_age_first(world: World) -> tuple[str, str]:
    """A log eight days old, seen for the first time."""
    world.write("app.log", days=8)
    said = logrotate(world, WEEKLY)
    return told(world, said), did(world)


def case_age(world: World) -> tuple[str, str]:
    """The same, last rotated eight days ago."""
    seed(world, 8)
    world.write("app.log", days=8)
    said = logrotate(world, WEEKLY)
    words = told(world, said)
    world.write("app.log", days=8)
    return words, did(world)


def case_missing(world: World) -> tuple[str, str]:
    """A log that is not there (logrotate: without missingok)."""
    said = logrotate(world, "weekly\nrotate 9", live="gone.log")
    world.policy = {"live": (f"{world.folder}/gone.log",)}
    return told(world, said), did(world)


def case_empty(world: World) -> tuple[str, str]:
    """An empty log, long due (logrotate: its default ifempty)."""
    seed(world, 8)
    world.write("app.log", b"", days=40)
    said = logrotate(world, "weekly\nrotate 9\ncreate")
    words = told(world, said)
    shutil.rmtree(world.folder)
    world.write("app.log", b"", days=40)
    return words, did(world)


def case_twice(world: World) -> tuple[str, str]:
    """Twice a day with dateext."""
    world.write("app.log", days=8)
    logrotate(world, "size 1\nrotate 9\ndateext\ncreate")
    world.write("app.log", days=8)
    said = logrotate(world, "")
    words = told(world, said)
    shutil.rmtree(world.folder)
    world.write("app.log", days=8)
    world.run()
    time.sleep(1.1)
    world.write("app.log", days=8)
    return words, did(world, force=True) + f"; {len(world.rotated())} rotated files"


def case_idle(world: World) -> tuple[str, str]:
    """An idle, empty log with a 40 days old file under maxage 30."""
    seed(world, 8)
    world.write("app.log", b"", days=40)
    stamp = int((world.now() - 40 * DAY).timestamp())
    world.write(f"app.log-20261012-{stamp}", days=40)
    said = logrotate(world, f"{WEEKLY}create\nmaxage 30\ndateext\ndateformat -%Y%m%d-%s\n")
    words = told(world, said)
    return words, did(world)


def case_typo(world: World) -> tuple[str, str]:
    """A directive that is misspelt (`comprss`)."""
    world.write("app.log", days=8)
    words = told(world, logrotate(world, "size 1\nrotate 9\ncomprss"))
    return words, "the policy is refused when it is loaded (unknown key)"


def case_group_writable(world: World) -> tuple[str, str]:
    """A configuration file that a group may write to."""
    world.write("app.log", days=8)
    world.work.mkdir()
    configuration = world.work / "plain.conf"
    configuration.write_text(f"{world.folder}/*.log {{\nsize 1\nrotate 9\n}}\n")
    configuration.chmod(0o664)
    return told(world, logrotate(world, "")), did(world) + " (written 0644 each time)"


def case_world_writable(world: World) -> tuple[str, str]:
    """A folder that everybody may write to."""
    world.write("app.log", days=8)
    world.folder.chmod(0o777)
    said = logrotate(world, "size 1\nrotate 9")
    return told(world, said), did(world)


def case_link(world: World) -> tuple[str, str]:
    """A log that is a symbolic link out of the folder."""
    target = world.folder.parent / "elsewhere"
    target.write_text("2020-01-01 00:00:00 x\n")
    (world.folder / "app.log").symlink_to(target)
    said = logrotate(world, "size 1\nrotate 9")
    return told(world, said), did(world)


def case_not_reopened(world: World) -> tuple[str, str]:
    """A writer that does not reopen."""
    with writer(world.folder / "app.log", "keep", block=10, rate=1000) as busy:
        said = logrotate(world, "size 1\nrotate 9\ncreate\npostrotate\ntrue\nendscript")
        words = told(world, said)
        (world.folder / "app.log").write_text("2020-01-01 00:00:00 x\n")
        world.policy = {"reopen": {"command": ("true",), "timeout": 0.5}}
        assert busy.process.poll() is None
        with writer(world.folder / "b.log", "keep", block=10, rate=1000):
            world.policy |= {"live": (f"{world.folder}/b.log",), "size": 1}
            return words, did(world, growth={"info": None, "warning": None})


def told(world: World, said: tuple[int, str]) -> str:
    """Say in a few words what logrotate did: its exit code, whether the log was rotated, and its first words."""
    code, words = said
    rotated = [n for n in names(world) if n.startswith("app.log") and n not in ("app.log", "app.log.pid")]
    first = words.splitlines()[0].split(": ", 1)[-1].replace(str(world.folder), "")[:50] if words else "silent"
    return f"{len(rotated)} rotated files, exit code {code}, {first}"


def table() -> None:
    """Print the table of cases."""
    cases = [value for name, value in globals().items() if name.startswith("case_")]
    for case in cases:
        with place() as world:
            left, right = case(world)
        print(f"- {case.__doc__}\n    logrotate: {left}\n    ours:      {right}", flush=True)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    if not shutil.which("logrotate"):
        sys.exit("logrotate is not installed: nothing to compare with")
    under_load()
    table()
