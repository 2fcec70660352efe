"""What the services write into their logs while they run: a line for every request, and one every few seconds."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from lab import log_lines

BEAT_SECONDS = 3.0


@dataclass(frozen=True)
class Asked:
    """A request that was answered."""

    client: str
    method: str
    path: str
    status: int
    size: int
    seconds: float
    agent: str

    @property
    def ms(self) -> int:
        """Milliseconds, as applications tell them."""
        return round(self.seconds * 1000)


Say = Callable[[datetime, Asked], str]


def _django(when: datetime, asked: Asked) -> str:
    return log_lines.django(when, "INFO", "views", f"{asked.method} {asked.path} {asked.status} {asked.ms} ms")


def _json(when: datetime, asked: Asked) -> str:
    told = {"method": asked.method, "path": asked.path, "status": asked.status, "duration_ms": asked.ms}
    return log_lines.json_line(when, "info", "http", "request", **told, client=asked.client)


def _python(when: datetime, asked: Asked) -> str:
    return log_lines.python(when, "INFO", "web", f"{asked.method} {asked.path} {asked.status} {asked.ms} ms")


def _access(when: datetime, asked: Asked) -> str:
    request = f"{asked.method} {asked.path} HTTP/1.1"
    return log_lines.access(when, asked.client, request, (asked.status, asked.size, asked.seconds), asked.agent)


_SAID: dict[str, Say] = {
    "claims": _django, "cardiology": _json, "molecular": _python, "student": _python, "campus": _access,
}  # fmt: skip


class LiveLog:
    """A log that is appended to; each line is in the file when `write` returns.

    :param held: whether the file stays open, until `reopen`; else it is opened for every line.
    """

    def __init__(self, path: Path, held: bool) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = self._open() if held else None

    def write(self, line: str) -> None:
        """Append a line."""
        data = line.encode() + b"\n"
        with self._lock:
            if self._file is not None:
                os.write(self._file, data)
                return
            opened = self._open()
            os.write(opened, data)
            os.close(opened)

    def reopen(self) -> None:
        """Let go of the file and open what has its name now."""
        with self._lock:
            if self._file is not None:
                old, self._file = self._file, self._open()
                os.close(old)

    def _open(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)


class Journal:
    """A service's log, in its own form and time zone."""

    def __init__(self, name: str, told: dict[str, Any]) -> None:
        self.name = name
        self.log = LiveLog(Path(told["file"]), bool(told.get("pid_file")))
        self._zone, self._say = ZoneInfo(told["zone"]), _SAID[name]
        if told.get("pid_file"):
            file = Path(told["pid_file"])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{os.getpid()}\n")

    def tell(self, asked: Asked) -> None:
        """Write down a request."""
        self.log.write(self._say(datetime.now(UTC).astimezone(self._zone), asked))


class Journals:
    """The logs of all services of this process. HUP and USR1 reopen those that listen; USR2, the lab's own, all.

    :param deaf: names of services that a planted fault keeps from listening, asked for at every signal.
    """

    def __init__(self, deaf: Callable[[], list[str]]) -> None:
        self._deaf = deaf
        self._all: list[Journal] = []
        self._asked, self._everyone = threading.Event(), False

    def open(self, name: str, told: dict[str, Any]) -> Journal:
        """Open a service's log."""
        self._all.append(Journal(name, told))
        return self._all[-1]

    def run(self) -> None:
        """Take signals and write the beat from now on; to be called in the main thread."""
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self._signalled)
        # Not in the handler: a signal may come while this very thread writes a line.
        for work in (self._reopen, self._beat):
            threading.Thread(target=work, daemon=True).start()

    def _signalled(self, number: int, _: Any) -> None:
        self._everyone |= number == signal.SIGUSR2
        self._asked.set()

    def _reopen(self) -> None:
        while self._asked.wait():
            self._asked.clear()
            everyone, self._everyone = self._everyone, False
            deaf = [] if everyone else self._deaf()
            for journal in self._all:
                if journal.name not in deaf:
                    journal.log.reopen()

    def _beat(self) -> None:
        # What stands before a service asks all the time whether it is there.
        asked = Asked("127.0.0.1", "GET", "/health", 200, 64, 0.001, "balancer")
        while True:
            for journal in self._all:
                journal.tell(asked)
            time.sleep(BEAT_SECONDS)
