"""Programs of the machine, run so that none outlives the worker that needed it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

_GUARD = Path(__file__).with_name("process_guard.py")
# What programs may need of the worker's environment. Not all of it: Airflow keeps secrets there.
_INHERITED = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "KRB5CCNAME", "KRB5_CONFIG")
_TAIL_LINES = 40


def environment(**extra: str) -> dict[str, str]:
    """Return a program's environment: a few inherited variables, English messages, UTC, and `extra`."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**inherited, "LC_ALL": "C", "TZ": "UTC", **extra}


class Program:
    """A running program, ended together with its children when the `with` block ends or this process dies.

    :param on_line: called, in a thread of its own, with every line that the program writes to standard error.
    :param stdout: `subprocess.PIPE` gives `stdout` to read from; by default output is thrown away.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        cwd: Path | None = None,
    ) -> None:
        self.name = Path(command[0]).name
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._on_line = on_line
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARD), *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=dict(env if env is not None else environment()),
            cwd=cwd,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read_errors, name=f"{self.name}-stderr", daemon=True)
        self._reader.start()

    @property
    def stdout(self) -> IO[bytes]:
        """The program's output; only with `stdout=subprocess.PIPE`."""
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def wait(self) -> int:
        """Wait for the end and return the exit code; 128 + n when signal n ended it."""
        code = self._process.wait()
        self._reader.join()
        return code

    def stop(self) -> None:
        """End the program and its children at once; do nothing when it has ended."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait()
        self._reader.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            line = raw.decode(errors="replace").rstrip("\n")
            self.tail.append(line)
            if self._on_line:
                self._on_line(line)


class Done:
    """How a program ended: exit code, and the last lines it wrote to standard error."""

    def __init__(self, program: Program) -> None:
        self.code = program.wait()
        self.errors = [line for line in program.tail if line.strip()]


def run(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> tuple[Done, bytes]:
    """Run a program to its end; return how it ended and its output, which must fit into memory."""
    with Program(command, env=env, stdout=subprocess.PIPE) as program:
        out = program.stdout.read()
        return Done(program), out
