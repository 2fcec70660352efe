"""A command on an index in a thread of its own, while this one looks after it and after those who wait for it.

`lock_timeout` alone cannot do it: one limit would hold for the lock on the table, where others may queue behind us, and
for the transactions that a concurrent rebuild waits out, where nobody does. And it knows nothing of those who wait for
us: while a rebuild holds its lock for hours, one ALTER TABLE behind it stops every query on the table.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from upkeep.core.job import Failed, Ran, Server, Workbench
from upkeep.core.sql_text import without_literals
from upkeep.routines.database._reindex_settings import Settings
from upkeep.routines.database._text import span

Why = Literal["", "lock", "wait", "way", "overrun", "blind"]
# The application's own deadlock check fires after 1 s of waiting; we must have given way by then.
_PAUSE_SECONDS = 0.2
_CANCEL_AGAIN_SECONDS = 2.0
# A cancel may come before the command; Airflow kills the process after 5 s.
_LAST_WORDS_SECONDS, _LAST_TRIES = 0.5, 6


@dataclass(frozen=True)
class Limits:
    """Seconds for the table's lock, for older transactions, for who waits behind us, and until the command must end."""

    lock: float
    wait: float
    way: float | None
    ends: float

    @classmethod
    def of(cls, settings: Settings, seconds: float, *, blocking: bool = False) -> Limits:
        """Return the limits of a command that may take `seconds`; `blocking`: others were told that they will wait."""
        way = None if blocking else settings.give_way_seconds
        return cls(settings.lock_timeout, settings.wait_seconds, way, time.monotonic() + seconds)


@dataclass(frozen=True)
class Result:
    """What became of a command; `why` we ended it, if we did, and `who` was in its way."""

    answer: Ran | Failed
    seconds: float
    why: Why = ""
    who: str = ""
    phase: str = ""


class _Command(threading.Thread):
    def __init__(self, bench: Workbench, text: str, names: Mapping[str, Sequence[str]], seconds: float) -> None:
        super().__init__(daemon=True, name="upkeep-reindex")
        self._work: Callable[[], Ran | Failed] = functools.partial(bench.run, text, names=names, seconds=seconds)
        self.answer: Ran | Failed = Failed("other", "it never began")
        self.error: BaseException | None = None
        # Not `join` and `is_alive`: an exception raised in a `join` of Python 3.12 marks a thread that runs as ended,
        # and then the connection is closed under it, which ends the whole process.
        self.ended = threading.Event()

    def run(self) -> None:
        try:
            self.answer = self._work()
        except BaseException as error:  # it belongs to the thread that waits for this one
            self.error = error
        finally:
            self.ended.set()


def run(
    bench: Workbench,
    eye: Server,
    text: str,
    names: Mapping[str, Sequence[str]],
    limits: Limits,
    *,
    log: logging.Logger,
    still_alone: Callable[[], None] = lambda: None,
) -> Result:
    """Carry out a command and return what became of it.

    Whatever is raised here meanwhile (the task is being ended, `still_alone` says that the hold on the database is
    lost) cancels the command before it goes on.
    """
    begun = time.monotonic()
    # The server's own limit stands behind ours, should this process stand still.
    command = _Command(bench, text, names, max(limits.ends - begun, 1) + 30)
    why: Why = ""
    seen: Mapping[str, Any] = {}
    cancelled = 0.0
    try:
        command.start()
        while not command.ended.wait(_PAUSE_SECONDS):
            still_alone()
            if not why:
                seen = _look(eye, bench.pid, seen, log)
                why = _why_stop(seen, limits)
            if why and time.monotonic() - cancelled > _CANCEL_AGAIN_SECONDS:
                bench.cancel()
                cancelled = time.monotonic()
    except BaseException:
        _end(bench, command)
        raise
    if command.error is not None:
        raise command.error
    done = isinstance(command.answer, Ran)
    return Result(
        command.answer, time.monotonic() - begun, "" if done else why, _who(seen), str(seen.get("phase") or "")
    )


def _end(bench: Workbench, command: _Command) -> None:
    """Cancel a command until it has ended: its connection must not be closed while it is read from."""
    for _ in range(_LAST_TRIES):
        bench.cancel()
        if command.ended.wait(_LAST_WORDS_SECONDS):
            return


def _look(eye: Server, pid: int, before: Mapping[str, Any], log: logging.Logger) -> Mapping[str, Any]:
    statement = "database/reindex_watch"
    answer = eye.batch({statement: {"pid": pid}})[statement]
    if isinstance(answer, Failed):
        # A look that was slow once is no reason to end hours of work; a line that is cut is.
        return {**before, "blind": answer.reason == "gone"}
    if answer[0]["phase"] != before.get("phase"):
        log.info("%s (%s of %s blocks)", answer[0]["phase"] or "begins", answer[0]["done"], answer[0]["total"])
    return answer[0]


def _why_stop(seen: Mapping[str, Any], limits: Limits) -> Why:
    if seen.get("blind"):
        return "blind"
    if time.monotonic() > limits.ends:
        return "overrun"
    if limits.way is not None and seen.get("waiter") is not None and seen["waiter_seconds"] >= limits.way:
        return "way"
    if seen.get("waits_for") == "relation" and seen["waits_seconds"] > limits.lock:
        return "lock"
    if seen.get("waits_for") and seen["waits_seconds"] > limits.wait:
        return "wait"
    return ""


def _who(seen: Mapping[str, Any]) -> str:
    """Name whom the command waits for, as far as the server says."""
    if not seen.get("locker"):
        return ""
    return person({key.removeprefix("locker_"): value for key, value in seen.items() if key.startswith("locker_")}
                  | {"pid": seen["locker"]})  # fmt: skip


def person(row: Mapping[str, Any]) -> str:
    """Describe a session or prepared transaction.

    >>> person({"pid": 7, "role": "app", "application": "web", "state": "idle", "seconds": 90, "query": "select 'x'"})
    'pid 7 of role app (web), idle, transaction open for 1 min 30 s: select ?'
    """
    if row["pid"] is None:
        return f"prepared transaction {row['application']} of role {row['role']}, {span(row['seconds'])} old"
    if row["seconds"] is None:
        return f"pid {row['pid']} (hidden from this role: GRANT pg_monitor)"
    who = f"pid {row['pid']} of role {row['role']} ({row['application'] or 'no application name'})"
    return (
        f"{who}, {row['state']}, transaction open for {span(row['seconds'])}:"
        f" {without_literals(row['query'] or '', 120)}"
    )
