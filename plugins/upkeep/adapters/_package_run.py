"""Programs that tell about packages: run with a time limit, their output bounded."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from upkeep.adapters._package_text import UnreadableError, shown
from upkeep.adapters.process import Done, Program, environment

_MAX_OUTPUT = 64 << 20


class Answer:
    """What a program wrote, and how it ended."""

    def __init__(self, code: int, out: bytes, errors: Sequence[str]) -> None:
        self.code, self.out, self.errors = code, out, list(errors)

    @property
    def complaint(self) -> str:
        """The end of what it wrote to standard error, in one line."""
        return shown(" ".join(self.errors[-4:]) or "it wrote nothing to standard error", 400)


def ask(
    command: Sequence[str | Path],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Answer:
    """Run a program to its end and return what it said.

    :raises UnreadableError: it is not there, took longer than `timeout` seconds, or wrote too much.
    """
    late = threading.Event()
    try:
        program = Program(command, env=env or environment(), stdout=subprocess.PIPE, cwd=cwd)
    except OSError as error:
        raise UnreadableError(f"{Path(command[0]).name} cannot be run: {error.strerror}") from None
    with program:

        def end() -> None:
            late.set()
            program.stop()

        timer = threading.Timer(timeout, end)
        timer.start()
        try:
            out = program.stdout.read(_MAX_OUTPUT + 1)
            if len(out) > _MAX_OUTPUT:
                raise UnreadableError(f"{program.name} wrote more than {_MAX_OUTPUT >> 20} MiB")
            done = Done(program)
        finally:
            timer.cancel()
    if late.is_set():
        raise UnreadableError(f"{program.name} took longer than {timeout:g} s")
    return Answer(done.code, out, done.errors)
