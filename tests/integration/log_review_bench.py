"""What tests of log review share: the routine on real files, and a writer whose log is rotated day by day."""

from __future__ import annotations

import gzip
import json
import logging
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.integration.database_bench import Memory
from upkeep.adapters.log_review import Reader
from upkeep.core.cadence import Window
from upkeep.core.job import Job
from upkeep.core.log_review import LogReport
from upkeep.core.model import Finding, Judgement, Severity
from upkeep.core.routine import Routine
from upkeep.core.targets import LogSetTarget

DAY = datetime(2026, 3, 2, tzinfo=UTC)


@dataclass
class Result:
    """What one run gave."""

    judgement: Judgement
    report: LogReport

    @property
    def numbers(self) -> dict[tuple[str, str], float]:
        return {(m.name, m.subject): m.value for m in self.judgement.measurements}

    @property
    def troubles(self) -> list[Finding]:
        return [f for f in self.judgement.findings if f.severity.rank >= Severity.WARNING.rank]

    def found(self, check: str, subject: str | None = None) -> Finding:
        """Return the finding of a check; there must be exactly one."""
        hits = [f for f in self.judgement.findings if f.check == check and subject in (None, f.subject)]
        assert len(hits) == 1, f"expected one finding {check} {subject}, seen {self.judgement.findings}"
        return hits[0]

    def checks(self, check: str) -> list[str]:
        return [f.subject for f in self.judgement.findings if f.check == check]


@dataclass
class LogBench:
    """`logs.review` on the files of a folder; what it keeps lies in `home`."""

    folder: Path
    home: Path
    format: str = "python"
    zone: str | None = None
    globs: tuple[str, ...] = ("*.log*",)
    history: Memory = field(default_factory=Memory)
    ledger: bool = True

    def run(
        self, start: datetime = DAY, end: datetime | None = None, *, newest: bool = True, **settings: Any
    ) -> Result:
        """Review one window; what was measured is remembered."""
        routine = Routine.load("upkeep.routines.logs.review")
        end = end or start + timedelta(days=1)
        paths = tuple(glob if glob.startswith("/") else str(self.folder / glob) for glob in self.globs)
        target = LogSetTarget.model_validate(
            {"id": "x/app-log", "paths": paths, "format": self.format, "time_zone": self.zone}
        )
        tools: Any = SimpleNamespace(
            logs=Reader(self.home),
            history=self.history,
            catalogue=SimpleNamespace(reachable=self.ledger),
            log=logging.getLogger("test"),
        )
        system: Any = SimpleNamespace(name="x", timezone="UTC")
        job: Job[Any, Any] = Job(
            routine=routine.name,
            target=target,
            system=system,
            settings=routine.resolve_settings(("test", settings)),
            window=Window(start=start, end=end, newest=newest),
            run_id="r",
            try_number=1,
            tools=tools,
        )
        seen = routine.observe(job)
        judgement = routine.judge(job, seen)
        keys = [f.key("t", "r") for f in judgement.findings]
        assert len(keys) == len(set(keys)), f"two findings have one key: {keys}"
        names = [(m.name, m.subject) for m in judgement.measurements]
        assert len(names) == len(set(names)), f"two measurements have one name: {names}"
        lines = seen.report.lines
        assert lines.read == lines.in_window + lines.outside + lines.unparsed
        self.history.keep(judgement.measurements, end)
        return Result(judgement, seen.report)

    def write(self, text: str | bytes, name: str = "app.log") -> Path:
        """Append to a log."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(text.encode() if isinstance(text, str) else text)
        return path


def answers(result: Result) -> dict[str, Any]:
    """Return what a window's lines say, without what depends on where they were read."""
    report = result.report
    told = report.model_dump(mode="json", exclude={"files", "lines"})
    lines = (report.lines.in_window, report.lines.unparsed, [s.model_dump() for s in report.lines.samples])
    return {"report": told, "lines": lines, "judgement": result.judgement.model_dump(mode="json")}


def entry(kind: str, at: datetime, level: str, text: str, more: str = "") -> str:
    """Return an entry as a program of some format writes it, with its newline."""
    stamp = f"{at:%Y-%m-%d %H:%M:%S}"
    if kind == "json":
        said = {"time": at.isoformat(), "level": level.lower(), "message": text} | ({"exc_info": more} if more else {})
        return json.dumps(said) + "\n"
    tail = more and more.rstrip("\n") + "\n"
    if kind == "django":
        return f"{level} {stamp},123 views 1 2 {text}\n{tail}"
    if kind == "plain":
        return f"{stamp} {level} {text}\n{tail}"
    if kind == "postgres":
        severity = {"CRITICAL": "PANIC", "INFO": "LOG"}.get(level, level)
        detail = f"{stamp}.123 UTC [7] app@db STATEMENT:  select '{text}'\n\tfrom t\n" if level == "ERROR" else ""
        return f"{stamp}.123 UTC [7] app@db {severity}:  {text}\n{detail}"
    return f"{stamp},123 - app.core - {level} - {text}\n{tail}"


TRACEBACK = "Traceback (most recent call last):\n  File \"x.py\", line 3, in f\n    g(1)\nKeyError: 'name'\n"


def day_of(kind: str, day: datetime, seed: int, count: int = 120) -> Iterator[tuple[datetime, str]]:
    """Yield the entries of a day, each with the moment at which it is written (not always that which it tells)."""
    dice = random.Random(f"{kind}{seed}")
    for n in range(count):
        at = day + timedelta(seconds=int(86_400 * n / count) + dice.randrange(300))
        number = dice.randrange(10_000)
        choice = dice.random()
        if choice < 0.1:
            text = entry(kind, at, "ERROR", f"could not save claim {number} for 'p{number}'", TRACEBACK)
        elif choice < 0.15:
            text = entry(kind, at, "ERROR", f"trouble number {chr(97 + seed)} at /srv/{number}/x")
        elif choice < 0.2:
            text = entry(kind, at, "WARNING", f"login failed for user u{number} from 10.0.0.{number % 250}")
        elif choice < 0.23:
            text = entry(kind, at, "INFO", f"connect postgres://app:pw{number}x@db/x")
        elif choice < 0.3:
            text = entry(
                kind, at, "INFO", f"duration: {number}.25 ms  statement: select * from t{seed} where id = {number}"
            )
        elif choice < 0.33:
            text = "something else entirely\n"
        else:
            text = entry(kind, at, "INFO", f"request {number} took {number % 90} ms")
        yield at + timedelta(seconds=dice.randrange(30)), text


def rotate(folder: Path, day: int) -> None:
    """Rotate as logrotate does, by turns: create with delayed compression, with dates, copytruncate."""
    live = folder / "app.log"
    if day % 4 == 3:
        return  # not every day
    for n in range(30, 0, -1):
        for suffix in ("", ".gz"):
            if (old := folder / f"app.log.{n}{suffix}").exists():
                old.rename(folder / f"app.log.{n + 1}{suffix}")
    if day % 4 == 2:
        shutil.copy2(live, folder / "app.log.1")
        with live.open("r+b") as file:
            file.truncate(0)
    else:
        live.rename(folder / ("app.log.1" if day % 4 == 0 else f"app.log-202603{day:02d}"))
    for old in folder.glob("app.log.[2-9]"):
        packed = old.with_name(old.name + ".gz")
        packed.write_bytes(gzip.compress(old.read_bytes()))
        shutil.copystat(old, packed)
        old.unlink()
