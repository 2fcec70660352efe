"""Where events wait on disk while the ledger is away."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from upkeep.core.errors import UpkeepError
from upkeep.ledger.events import EVENT, Event, to_json


class SpoolError(UpkeepError):
    """The spool's folder cannot be used."""


class Spool:
    """Events as lines of JSON in one file, in the order in which they happened.

    One lock serialises writers and the replay, so the file's order is the order of events even with several
    processes on the machine. A line is complete when its newline is there: a process killed while writing leaves a
    torn line, which is set aside and never merged with the next one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines = folder / "events.jsonl"
        self._rejected = folder / "rejected.jsonl"

    def append(self, *events: Event) -> None:
        """Add events and wait until they are on disk."""
        with self._locked(), self._lines.open("ab+") as lines:
            if lines.tell() and not _ends_with_newline(lines):
                lines.write(b"\n")
            lines.writelines(to_json(event).encode() + b"\n" for event in events)
            lines.flush()
            os.fsync(lines.fileno())

    def __bool__(self) -> bool:
        """Whether anything waits."""
        try:
            return self._lines.stat().st_size > 0
        except OSError:
            return False

    def events(self) -> Iterator[Event]:
        """Read what waits, in order, without the lines that cannot be read."""
        if self:
            with self._locked():
                lines = self._lines.read_bytes().splitlines()
            yield from (event for line in lines if (event := _parse(line)) is not None)

    def replay(self, write: Callable[[Event], None], refused: tuple[type[Exception], ...]) -> int:
        """Hand every waiting event to `write`, in order, then forget them; return how many.

        An event that `write` refuses with one of `refused` is set aside in `rejected.jsonl` with the reason, as is a
        line that cannot be read. Any other error stops the replay and leaves the file as it was: `write` must
        tolerate an event that it has been given before.
        """
        count = 0
        with self._locked():
            lines = self._lines.read_bytes().splitlines() if self else []
            for line in lines:
                event = _parse(line)
                if event is None:
                    self._set_aside(line, "not a complete event")
                    continue
                try:
                    write(event)
                    count += 1
                except refused as error:
                    self._set_aside(line, str(error))
            self._lines.unlink(missing_ok=True)
        return count

    @property
    def rejected(self) -> int:
        """How many lines had to be set aside; each is a record that the ledger does not hold."""
        return self._rejected.read_bytes().count(b"\n") if self._rejected.exists() else 0

    def _set_aside(self, line: bytes, reason: str) -> None:
        with self._rejected.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"reason": reason, "line": line.decode("utf-8", "replace")}) + "\n")
            out.flush()
            os.fsync(out.fileno())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self.folder / "lock").open("w")
        except OSError as error:
            raise SpoolError(f"spool {self.folder}: {error.strerror}", "mend the folder or UPKEEP_SPOOL_DIR") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _ends_with_newline(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _parse(line: bytes) -> Event | None:
    try:
        return EVENT.validate_json(line)  # type: ignore[no-any-return]
    except ValueError:
        return None
