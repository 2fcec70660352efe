"""Let the writer of a log know that its file was renamed, and see that it lets go of the old one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from upkeep.adapters import rotation_procs
from upkeep.adapters.process import Program
from upkeep.core.logs import Reopen
from upkeep.core.rotation import Holder, Reopened

_PAUSE_SECONDS = 0.02
_LOOK_SECONDS = 0.5


class OldFile:
    """A file that its writer should let go of. `new` is a handle of what lies in its place, None where nothing does.

    `handle` is one of the old file itself, open for reading only.
    """

    def __init__(self, device: int, inode: int, new: int | None, handle: int | None = None) -> None:
        self.device, self.inode, self.new, self.handle = device, inode, new, handle
        self.new_size = os.fstat(new).st_size if new is not None else 0

    def look(self, only: Collection[int] | None = None) -> tuple[tuple[Holder, ...], list[int]]:
        """Return who writes to it, and which processes cannot be looked into."""
        opened = rotation_procs.scan({(self.device, self.inode)}, only=only)
        return opened.writers(self.device, self.inode), opened.unseen

    @property
    def new_is_written(self) -> bool:
        """Whether somebody has written to what lies in its place since."""
        return self.new is not None and os.fstat(self.new).st_size > self.new_size


def reopen(way: Reopen, old: OldFile) -> Reopened:
    """Ask the writer as the policy says, and wait until it has let go."""
    begun = time.monotonic()
    told, trouble = _ask(way, old)
    said = _wait(way, old, begun + way.timeout, told)
    seconds = time.monotonic() - begun
    return said.model_copy(update={"told": told, "trouble": trouble, "seconds": seconds})


def _ask(way: Reopen, old: OldFile) -> tuple[str, str]:
    """Send the signal or run the command; return what was done and what went wrong."""
    try:
        if way.command:
            return run_for(way.command, way.timeout)
        if way.signal is None or way.pid_file is None:
            return "", ""
        return _signal(_pid(way.pid_file), way, old)
    except (OSError, ValueError) as error:
        # What cannot be done here must not end the rotation: the file is renamed already.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return "", f"{way.pid_file or ' '.join(way.command)}: {reason}: the writer was not told"


def _pid(path: str) -> int:
    words = Path(path).read_text(errors="replace").split()
    if not words or not words[0].isdecimal() or int(words[0]) <= 1:
        raise ValueError(f"expected the id of a process, seen {' '.join(words)[:40]!r}")
    return int(words[0])


def _signal(pid: int, way: Reopen, old: OldFile) -> tuple[str, str]:
    """Send the signal, unless the process has nothing to do with the log.

    An id in a forgotten file may by now be that of another program, which HUP or USR1 would end.
    """
    process = os.pidfd_open(pid)  # it means the process that is looked at, and none that gets its id a moment later
    try:
        holders, unseen = old.look()
        kin = set(rotation_procs.family(pid))
        if not kin & ({h.pid for h in holders} | set(unseen)):
            who = ", ".join(map(str, holders)) or "nobody that can be seen"
            return "", f"process {pid} of {way.pid_file} does not have the log open ({who} has): no signal was sent"
        signal.pidfd_send_signal(process, getattr(signal, f"SIG{way.signal}"))
    finally:
        os.close(process)
    return f"SIG{way.signal} to process {pid}", ""


def run_for(command: Sequence[str], seconds: float) -> tuple[str, str]:
    """Run a program for so long at most; return its line and what went wrong."""
    shown = " ".join(command)
    deadline = time.monotonic() + seconds
    with Program(command) as program:
        while program.running and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
        if program.running:
            program.stop()
            return shown, f"{shown}: had not ended after {seconds:g} s and was stopped"
        code = program.wait()
        said = "; ".join(list(program.tail)[-3:])
    return shown, f"{shown}: ended with exit code {code}: {said}" if code else ""


def _wait(way: Reopen, old: OldFile, deadline: float, told: str) -> Reopened:
    known = _known_writers(way)
    while True:
        holders, unseen = old.look()
        if not holders and (proof := _proof(old, unseen, known)):
            return Reopened(state="yes", proof=proof, unseen=len(unseen))
        if time.monotonic() >= deadline:
            break
        _pause(old, {h.pid for h in holders}, deadline)
    if holders:
        names = ", ".join(map(str, holders))
        return Reopened(state="no", proof=f"still written to by {names}", holders=holders, unseen=len(unseen))
    return Reopened(
        state="unknown",
        proof=f"nobody wrote to the new file, and {len(unseen)} processes cannot be looked into",
        unseen=len(unseen),
    )


def _known_writers(way: Reopen) -> frozenset[int]:
    """Return the ids of the declared writer and its children; empty when none is declared."""
    try:
        return frozenset(rotation_procs.family(_pid(way.pid_file))) if way.pid_file else frozenset()
    except (OSError, ValueError):
        return frozenset()


def _proof(old: OldFile, unseen: Sequence[int], known: frozenset[int]) -> str:
    if not unseen:
        return "no process holds the old file"
    if old.handle is not None and rotation_procs.no_writer(old.handle):
        return "the kernel knows of nobody who has the old file open for writing"
    if old.new_is_written:
        return "the new file is written to"
    if known and not known & set(unseen):
        return "the writer of `pid_file` does not hold the old file"
    return ""


def _pause(old: OldFile, holders: Collection[int], deadline: float) -> None:
    """Wait a moment; as long as the same processes hold the file, only they are looked at."""
    until = min(time.monotonic() + _LOOK_SECONDS, deadline)
    while time.monotonic() < until:
        time.sleep(_PAUSE_SECONDS)
        if old.new_is_written and not holders:
            return
        if holders and not old.look(holders)[0]:
            return
