"""Server processes: started once, found again by a later command, ended by exactly the id that was started."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_SECONDS = 60.0
_POLL_SECONDS = 0.02
_ATTEMPTS = 3
_PORTS = (12000, 32000)
_HANDING_OUT = threading.Lock()
_handed_out: set[int] = set()


class LabError(RuntimeError):
    """The lab could not do what it was asked; the message says what was seen and what to do."""


def birth(pid: int) -> str | None:
    """Return what tells this process from any other that ever has its id; None when it is gone or a zombie."""
    if not sys.platform.startswith("linux"):
        ps = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
        out = subprocess.run(ps, capture_output=True, text=True, check=False).stdout
        return None if not out.strip() or out.lstrip().startswith("Z") else out.split(maxsplit=1)[1].strip()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    # proc(5): field 3 is the state, field 22 the start in clock ticks since boot.
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def children(pid: int) -> list[int]:
    """Return the ids of the direct children of a process."""
    if not sys.platform.startswith("linux"):
        out = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        return [int(line.split()[0]) for line in out.splitlines() if line.split()[1] == str(pid)]
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(stat.parent.name))
    return found


def end(pid: int, born: str, steps: Sequence[tuple[signal.Signals, float]]) -> None:
    """Signal the process that has this id *and* this birth, each signal followed by at most so many seconds.

    :raises LabError: it lives on after the last signal.
    """
    for number, seconds in steps:
        if birth(pid) != born:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if wait_gone({pid: born}, seconds):
            return
    raise LabError(f"process {pid} still runs after {', '.join(number.name for number, _ in steps)}")


def wait_gone(processes: Mapping[int, str], seconds: float) -> bool:
    """Wait until none of the processes (id: birth) lives; tell whether that came about in time."""
    deadline = time.monotonic() + seconds
    while any(birth(pid) == born for pid, born in processes.items()):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def free_ports(count: int) -> list[int]:
    """Return different ports of 127.0.0.1 on which nothing listens at the moment.

    They lie below the range from which systems choose the near ends of outgoing connections, so that none is lost to
    such a connection between here and the server's start; within this process none is given out twice.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(*_PORTS)
        with _HANDING_OUT:
            if port not in _handed_out and is_free(port):
                _handed_out.add(port)
                found.append(port)
    return found


def is_free(port: int) -> bool:
    """Tell whether a port of 127.0.0.1 can be bound now (left-over connections in TIME_WAIT do not count)."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def write_private(path: Path, text: str) -> None:
    """Replace a file by one that only its owner can read; a reader sees the old text or the new, never a part."""
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    fresh = Path(name)
    with os.fdopen(number, "w") as file:
        file.write(text)
    fresh.replace(path)


class Server:
    """A server process with a folder of its own: state, data, `log/`.

    `start` finds a server that still lives and leaves it alone; ports are kept from one start to the next as long as
    nobody else has taken them, so addresses stay valid over a kill and a restart.
    """

    ports_needed: tuple[str, ...] = ("main",)
    stop_steps: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0))

    def __init__(self, data_dir: str | Path, port: int | None = None) -> None:
        self.data_dir = Path(data_dir).absolute()
        self._wanted = port
        self._popen: subprocess.Popen[bytes] | None = None
        self._state: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError):
            self._state = json.loads(self._state_file.read_text())

    # What a kind of server defines.

    def prepare(self) -> None:
        """Make whatever must exist before the program can start. Called before every start."""

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        raise NotImplementedError

    def check_ready(self) -> None:
        """Return when the server does its work, raise any exception while it does not yet."""
        raise NotImplementedError

    def spawn_options(self) -> dict[str, Any]:
        """Return further arguments for `subprocess.Popen`."""
        return {}

    # What they share.

    @property
    def _state_file(self) -> Path:
        return self.data_dir / "process.json"

    @property
    def log_file(self) -> Path:
        """Where the server's output goes."""
        return self.data_dir / "log" / "server.log"

    @property
    def ports(self) -> dict[str, int]:
        """The ports by purpose; empty before the first start."""
        return dict(self._state.get("ports", {}))

    @property
    def port(self) -> int:
        """The main port. :raises LabError: the server was never started."""
        if "main" not in self.ports:
            raise LabError(f"{self.data_dir}: the server has no port yet; call start() first")
        return self.ports["main"]

    @property
    def pid(self) -> int:
        """The process id of the latest start; 0 before the first."""
        return int(self._state.get("pid", 0))

    @property
    def alive(self) -> bool:
        """Whether the process of the latest start still runs."""
        return self.pid > 0 and birth(self.pid) == self._state.get("birth")

    def start(self) -> Self:
        """Start the server and return when it answers; do nothing when it already runs.

        :raises LabError: it ended at once or did not answer within a minute; the message ends with its log.
        """
        if self.alive:
            return self
        (self.data_dir / "log").mkdir(parents=True, exist_ok=True)
        for attempt in range(1, _ATTEMPTS + 1):
            self._state["ports"] = self._choose_ports(fresh=attempt > 1)
            self.prepare()
            self._spawn()
            # The port was free a moment ago; a server that dies at once may have lost it to somebody else.
            if self._await_ready() or attempt == _ATTEMPTS or self._wanted:
                break
        if not self.alive:
            raise LabError(f"{self._name} ended at its start; its log ends with:\n{self._log_tail()}")
        return self

    def stop(self) -> None:
        """End the server in good order; do nothing when it does not run."""
        if self.alive:
            end(self.pid, self._state["birth"], self.stop_steps)
        self._reap()

    def kill(self) -> None:
        """SIGKILL the server and all its children at once, as when a machine loses power."""
        if not self.alive:
            return
        family = {self.pid: str(self._state["birth"])}
        os.kill(self.pid, signal.SIGSTOP)  # so that it neither makes nor reaps children while they are counted
        family |= {pid: born for pid in children(self.pid) if (born := birth(pid))}
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not wait_gone(family, 10):
            raise LabError(f"{self._name}: processes {sorted(family)} outlived SIGKILL for 10 s")
        self._reap()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def _name(self) -> str:
        return f"{type(self).__name__} in {self.data_dir}"

    def _choose_ports(self, fresh: bool) -> dict[str, int]:
        known = {} if fresh else {name: port for name, port in self.ports.items() if is_free(port)}
        if self._wanted:
            known["main"] = self._wanted
        missing = [name for name in self.ports_needed if name not in known]
        return known | dict(zip(missing, free_ports(len(missing)), strict=True))

    def _spawn(self) -> None:
        with self.log_file.open("ab") as log:
            self._popen = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                **self.spawn_options(),
            )  # fmt: skip
        self._state |= {"pid": self._popen.pid, "birth": birth(self._popen.pid)}
        write_private(self._state_file, json.dumps(self._state))

    def _await_ready(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while self.alive:
            try:
                self.check_ready()
            except Exception as error:  # any error means "not yet"; the last one is told when time is up
                if time.monotonic() > deadline:
                    self.kill()
                    raise LabError(f"{self._name} did not answer in {START_SECONDS:.0f} s: {error}") from error
                time.sleep(_POLL_SECONDS)
            else:
                return True
        return False

    def _reap(self) -> None:
        if self._popen is not None:
            self._popen.wait()
            self._popen = None

    def _log_tail(self) -> str:
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-15:])


class Helper(Server):
    """A Python module of this package as a server, told what to do by a file that only its owner can read.

    `start` starts it anew when what it is told has changed.
    """

    module = ""

    def __init__(self, data_dir: str | Path) -> None:
        super().__init__(data_dir)
        self.settings: dict[str, Any] = {}

    def start(self) -> Self:
        """Start it, or start it again when it runs on other settings."""
        if self.alive and self._config.read_text() != self._told():
            self.stop()
        return super().start()

    def prepare(self) -> None:
        """Write what it is told."""
        write_private(self._config, self._told())

    def command(self) -> list[str]:
        """Return its command line."""
        return [sys.executable, "-m", self.module, str(self._config)]

    def spawn_options(self) -> dict[str, Any]:
        """Run where the package `lab` can be imported."""
        return {"cwd": Path(__file__).parent.parent}

    @property
    def _config(self) -> Path:
        return self.data_dir / "config.json"

    def _told(self) -> str:
        return json.dumps({**self.settings, "ports": self.ports})


@contextlib.contextmanager
def exclusive(file: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made when missing; wait while another process holds it."""
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def scratch_folder(prefix: str = "upkeep-lab-test-") -> Iterator[Path]:
    """Give a temporary folder that the unprivileged user of a database server can reach, and remove it afterwards.

    pytest's `tmp_path` lies below a folder that only its owner can enter, which a server started by root cannot use.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
