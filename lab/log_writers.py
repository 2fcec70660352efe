"""Log files of the sample systems: twelve days that are made up, to which the services add (`live_logs`).

The made-up lines end when the lab is started. A log is written anew on another day, or when other faults are planted in
it; what the services have added meanwhile, and what became of it by rotation, goes with the old files.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from lab import log_lines
from lab.log_lines import Maker
from lab.planted import Planted
from lab.process import write_private
from lab.windows import Span, newest

if TYPE_CHECKING:
    from lab.embedded import Lab

DAYS = 12
_VERSION = "1"
# How long ago, in days of the system's own calendar, a file was rotated: live, .1, .2.gz, .3.gz.
_CUTS = (0, 2, 6)
Line = tuple[datetime, str]
# What a fault does to a set's lines: it gets dice, the newest daily window and the lines, and returns other ones.
Change = Callable[[random.Random, Span, ZoneInfo, list[Line]], list[Line]]


@dataclass(frozen=True)
class LogSet:
    """One log: where it lies below the lab's home, who writes it, how much of it there is a day."""

    target: str
    file: str
    zone: str
    daily: int
    maker: Maker
    rotated: bool = True

    @property
    def key(self) -> str:
        """What it is called in the marks: a target may have several."""
        return f"{self.target}/{Path(self.file).name}"


SETS = (
    LogSet("claims/django-log", "claims/logs/django/django.log", "America/New_York", 500, log_lines.claims_django),
    LogSet("cardiology/app-log", "cardiology/logs/app.log", "Europe/Berlin", 400, log_lines.cardiology_app),
    LogSet("molecular/app-log", "molecular/logs/api.log", "America/Los_Angeles", 400, log_lines.molecular_api),
    LogSet(
        "molecular/postgres-log", "molecular/logs/postgresql/postgresql.log", "UTC", 150, log_lines.molecular_postgres
    ),
    LogSet("student/app-log", "student/logs/app.log", "America/Chicago", 300, log_lines.student_app),
    LogSet(
        "student/app-log", "student/logs/health_monitor.log", "America/Chicago", 288, log_lines.student_monitor, False
    ),
    LogSet("campus/nginx-log", "campus/logs/nginx/access.log", "Asia/Kolkata", 1800, log_lines.campus_access),
    LogSet("campus/app-log", "campus/logs/app.log", "Asia/Kolkata", 300, log_lines.campus_app),
)


_PID_FILES = {
    "claims": "claims/run/gunicorn.pid",
    "molecular": "molecular/run/api.pid",
    "campus": "campus/run/nginx.pid",
}


def log_set(key: str) -> LogSet:
    """Return the set of a target (its first), or of a target and file name."""
    return next(one for one in SETS if key in (one.key, one.target))


def live(home: Path, name: str) -> dict[str, str]:
    """Return what a service must know of its log. One with a file for its process id holds it open."""
    one = next(one for one in SETS if one.target.startswith(f"{name}/"))
    told = {"file": str(home / one.file), "zone": one.zone}
    pid_file = {
        "claims": "claims/run/gunicorn.pid",
        "campus": "campus/run/nginx.pid",
        "molecular": "molecular/run/api.pid",
    }
    return {**told, "pid_file": str(home / pid_file[name])} if name in pid_file else told


def write_logs(lab: Lab, faults: dict[str, Change], now: datetime | None = None) -> list[str]:
    """Write every log that is not there as it should be, tell the services to reopen theirs, and return which."""
    now = now or datetime.now(UTC)
    span, planted, written = newest("daily", now), Planted(lab.home), []
    marks = lab.home / "logs-written.json"
    known: dict[str, str] = json.loads(marks.read_text()) if marks.exists() else {}
    for one in SETS:
        names = planted.names(one.key)
        mark = f"{_VERSION} {span.end:%Y-%m-%d} {' '.join(names)}"
        if known.get(one.key) == mark and (lab.home / one.file).exists():
            continue
        lines = list(_healthy(one, now))
        for name in names:
            dice = random.Random(f"{one.key} {name}")
            lines = faults[name](dice, span, ZoneInfo(one.zone), lines)
        _write(lab.home / one.file, one, sorted(lines, key=lambda line: line[0]), now)
        known[one.key] = mark
        written.append(one.key)
    write_private(marks, json.dumps(known))
    if written and lab.web.alive:
        os.kill(lab.web.pid, signal.SIGUSR2)
    return written


def _healthy(one: LogSet, now: datetime) -> Iterator[Line]:
    """Yield the lines of the last days; those of one day are the same whenever they are made."""
    zone, today = ZoneInfo(one.zone), now.replace(hour=0, minute=0, second=0, microsecond=0)
    for day in (today - timedelta(days=n) for n in range(DAYS, -1, -1)):
        dice = random.Random(f"{one.key} {day:%Y-%m-%d}")
        for seconds in sorted(dice.uniform(0, 86_400) for _ in range(one.daily)):
            when = day + timedelta(seconds=seconds)
            if when < now:
                yield when, one.maker(dice, when.astimezone(zone))


def _write(live: Path, one: LogSet, lines: list[Line], now: datetime) -> None:
    """Share the lines out to the live file and the rotated ones, cut at midnight of the system's calendar."""
    live.parent.mkdir(parents=True, exist_ok=True)
    for old in live.parent.glob(f"{live.name}?*"):
        old.unlink()
    midnight = now.astimezone(ZoneInfo(one.zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    starts = [*(midnight - timedelta(days=days) for days in _CUTS if one.rotated), datetime.min.replace(tzinfo=UTC)]
    parts: list[list[str]] = [[] for _ in starts]
    for when, line in lines:
        parts[next(number for number, start in enumerate(starts) if when >= start)].append(line + "\n")
    for part, suffix, rotated in zip(parts, ("", ".1", ".2.gz", ".3.gz"), (now, *starts), strict=False):
        _put(live.with_name(live.name + suffix), "".join(part).encode(errors="surrogateescape"), rotated)


def _put(path: Path, data: bytes, when: datetime) -> None:
    """Write a file beside its place and rename it, with the time at which its last line was written."""
    fresh = path.with_name(f".{path.name}.new")
    # No time in the gzip header: the same lines are the same bytes.
    fresh.write_bytes(gzip.compress(data, 6, mtime=0) if path.suffix == ".gz" else data)
    os.utime(fresh, (when.timestamp(), when.timestamp()))
    fresh.replace(path)
