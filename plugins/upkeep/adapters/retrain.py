"""Running the programs of a retraining, and the note by which one that was killed is seen.

Programs get no shell, little of the environment, and end with this worker in whatever way it ends (`process_guard`),
together with the children in their process group.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pydantic

from upkeep.adapters.model_files import VERSIONS
from upkeep.adapters.process import Program, environment
from upkeep.adapters.tree_scan import opened
from upkeep.core.errors import UpkeepError
from upkeep.core.model_health import Finished, NotKept, Trial
from upkeep.core.model_secrets import names_secret
from upkeep.core.text import looks_random, looks_secret

NOTE = ".retraining.json"
_LOCK = ".retraining.lock"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]+")
_TAIL_LINES, _LINE = 40, 300


class Retrainer:
    """See `core.model_health.Retrainer`."""

    def run(self, command: Sequence[str], *, folder: str, seconds: float, still_alone: Callable[[], None]) -> Finished:
        """Run a program in the model's folder to its end; `{folder}` in its arguments is that folder."""
        filled = [part.replace("{folder}", folder) for part in command]
        tail: deque[str] = deque(maxlen=_TAIL_LINES)
        begun = time.monotonic()
        with Program(
            filled, env=environment(), on_line=tail.append, stdout=subprocess.PIPE, cwd=Path(folder)
        ) as program:
            reader = threading.Thread(target=_read, args=(program.stdout, tail), daemon=True)
            reader.start()
            while program.running and time.monotonic() - begun < seconds:
                still_alone()
                time.sleep(min(0.1, seconds / 10))
            late = program.running
            if late:
                program.stop()
            code = program.wait()
            # What its children keep open must not hold the worker.
            reader.join(5)
        return Finished(code, time.monotonic() - begun, tuple(map(clean, list(tail))), late)

    def note(self, folder: str) -> Trial | NotKept | None:
        """Return the note of a retraining that has not ended; NotKept: there is one that cannot be read."""
        try:
            with opened(folder, f"{VERSIONS}/{NOTE}", os.O_RDONLY) as handle:
                return Trial.model_validate_json(os.read(handle, 1 << 16))
        except FileNotFoundError:
            return None
        except (OSError, pydantic.ValidationError) as error:
            said = error.strerror if isinstance(error, OSError) else "it is no note of ours"
            return NotKept(f"{folder}/{VERSIONS}/{NOTE}: {said}", "see which copy is in service, then remove the note")

    def write(self, folder: str, trial: Trial | None) -> None:
        """Write the note, or remove it. :raises UpkeepError: that is not possible."""
        from upkeep.adapters.model_versions import replace

        try:
            with opened(folder, VERSIONS, _FOLDER) as place:
                if trial:
                    replace(place, NOTE, trial.model_dump_json().encode())
                else:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(NOTE, dir_fd=place)
        except OSError as error:
            raise UpkeepError(
                f"{folder}/{VERSIONS}/{NOTE}: {error.strerror}", "correct owner, mode or free space of the folder"
            ) from error

    @contextmanager
    def held(self, folder: str) -> Iterator[bool]:
        """Hold the model for a retraining; False when another worker does."""
        with opened(folder, "", _FOLDER) as place, contextlib.suppress(FileExistsError):
            os.mkdir(VERSIONS, 0o700, dir_fd=place)
        with opened(folder, f"{VERSIONS}/{_LOCK}", os.O_RDWR | os.O_CREAT) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True


def _read(stream: IO[bytes], tail: deque[str]) -> None:
    """Read a program's output line by line, none of which may fill the memory."""
    with contextlib.suppress(ValueError, OSError):
        while line := stream.readline(1 << 16):
            tail.append(line.decode(errors="replace"))


def clean(line: str) -> str:
    """Return a line as it may be shown: printable, not endless, and without what looks like a secret."""
    text = _CONTROL.sub(" ", line).strip()
    if (
        looks_secret(text)
        or names_secret(text[: 2 * _LINE])
        or any(looks_random(word) for word in re.split(r"[\s=:,;'\"]+", text))
    ):
        return "(a line that looks as if it held a secret)"
    return text if len(text) <= _LINE else text[: _LINE - 1] + "…"
