"""What tests of log rotation share: a folder of logs, the routine in the real lifecycle, and real writers."""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.integration.sqlite_bench import Result, no_ledger
from upkeep.adapters.rotation import LogRotator
from upkeep.core.cadence import Window
from upkeep.core.errors import CriticalFindingError
from upkeep.core.job import Job
from upkeep.core.logs import Rotation, StrayFiles
from upkeep.core.routine import Routine
from upkeep.core.targets import LogSetTarget
from upkeep.ledger import events as ev
from upkeep.ledger.record import fold
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger

RUN = ev.RunKey(dag_id="d", run_id="r")
TARGET = "claims/app-log"
WRITER = Path(__file__).with_name("log_writer.py")
DAY = timedelta(days=1)


@dataclass
class World:
    """A folder of logs and a policy for them; `policy` and `stray` are as in the system file."""

    folder: Path
    work: Path
    policy: dict[str, Any] | None = field(default_factory=dict)
    stray: tuple[StrayFiles, ...] = ()
    ahead: timedelta = timedelta(0)
    window: Window | None = None
    patience: float = 5

    def rotation(self, **more: Any) -> Rotation:
        given: dict[str, Any] = {"live": (str(self.folder / "*.log"),), "folder": str(self.folder)}
        return Rotation(**given | (self.policy or {}) | more)

    def rotator(self) -> LogRotator:
        return LogRotator(self.work, self.patience)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def job(self, routine: Routine, settings: dict[str, Any]) -> Job[Any, Any]:
        tools: Any = SimpleNamespace(rotator=self.rotator(), now=self.now, log=logging.getLogger("test"))
        system: Any = SimpleNamespace(name="claims", timezone="UTC")
        target = LogSetTarget(
            paths=(str(self.folder / "*"),),
            rotation=None if self.policy is None else self.rotation(),
            stray=self.stray,
            id=TARGET,
        )
        return Job(
            routine=routine.name,
            target=target,
            system=system,
            settings=routine.resolve_settings(("test", settings)),
            window=self.window or Window(start=self.now(), end=self.now()),
            run_id="r",
            try_number=1,
            tools=tools,
        )

    def run(self, *, dry_run: bool = False, **settings: Any) -> Result:
        """Run the routine once as Airflow would; a critical finding is part of the result."""
        from upkeep.operators.lifecycle import Lifecycle  # brings Airflow along

        routine = Routine.load("upkeep.routines.logs.rotation")
        with tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(no_ledger, Spool(Path(folder)))
            key = ev.RoutineKey(**RUN.model_dump(), routine=routine.name, target=TARGET, try_number=1)
            with contextlib.suppress(CriticalFindingError):
                Lifecycle(routine, self.job(routine, settings), key, ledger, dry_run=dry_run, last_try=True).run()
            row = fold(RUN, ledger.spool.events()).routines[0]
        keys = [f.key("t", "r") for f in row.findings]
        assert len(keys) == len(set(keys)), f"two findings have one key: {keys}"
        assert all(key.isprintable() for key in keys)
        numbers = {(m.name, m.subject): m.value for m in row.measurements}
        return Result(row.state, row.findings, numbers, list(row.actions))

    def write(self, name: str, text: str | bytes = "one\ntwo\n", days: float = 0) -> Path:
        """Make a file whose first line, and last change, are so many days old."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        moment = self.now() - days * DAY
        data = text if isinstance(text, bytes) else f"{moment:%Y-%m-%d %H:%M:%S} start\n{text}".encode()
        path.write_bytes(data)
        os.utime(path, (moment.timestamp(), moment.timestamp()))
        return path

    def rotated(self, name: str = "app.log") -> list[Path]:
        """Return what a log was rotated to, oldest first."""
        return sorted(self.folder.glob(f"{name}-*"))

    def hidden(self) -> list[str]:
        """Return what a run left behind."""
        return sorted(p.name for p in self.folder.rglob(".*upkeep*"))

    def text(self, name: str = "app.log") -> bytes:
        """Return everything that was ever written to a log and is still there, in order."""
        parts = [*self.rotated(name), self.folder / name]
        return b"".join(gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes() for p in parts)

    def numbers(self, name: str = "app.log") -> tuple[int, int, int]:
        """Return how many different numbered lines are there, how many doubled, and how many are none."""
        lines = self.text(name).split(b"\n")[:-1]
        good = [line for line in lines if len(line) == 47 and line[:12].isdigit()]
        return len(set(good)), len(good) - len(set(good)), len(lines) - len(good)


@dataclass
class Writer:
    """A running writer."""

    process: subprocess.Popen[str]
    pid_file: Path
    written: int = 0
    seconds: float = 0

    def end(self) -> int:
        """End it and return how many lines it wrote."""
        if self.process.poll() is None:
            self.process.terminate()
            out, _ = self.process.communicate(timeout=30)
            count, seconds = out.split()
            self.written, self.seconds = int(count), float(seconds)
        return self.written


@contextlib.contextmanager
def writer(path: Path, mode: str = "hup", *, block: int = 2000, rate: float = 1e9) -> Iterator[Writer]:
    """Run a writer; `rate` is the most lines a second."""
    pid_file = path.with_name(f"{path.name}.pid")
    command = [sys.executable, "-I", "-S", str(WRITER), str(path), str(pid_file), mode, str(block), str(rate)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    started = Writer(process, pid_file)
    try:
        until(lambda: pid_file.exists() and path.exists() and path.stat().st_size > 0)
        yield started
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def until(true: Any, seconds: float = 20) -> None:
    """Wait for something that will happen; fail when it does not."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"it did not happen in {seconds} s"
        time.sleep(0.005)
