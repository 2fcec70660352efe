"""What a PostgreSQL log tells beside errors: slow statements, deadlocks, checkpoints, temporary files, lock waits."""

from __future__ import annotations

import re
from collections import Counter

from upkeep.adapters.log_secrets import clipped, redact, shown, visible
from upkeep.core.log_review import DatabaseEvents, Statement
from upkeep.core.sql_text import without_literals

_DURATION = re.compile(
    rb"duration: (\d+(?:\.\d+)?) ms  "
    rb"(?:(?:statement|execute [^:\n]{0,200}|execute|fetch [^:\n]{0,200}): |plan:\n\s*Query Text: )",
)
_EVENTS = (
    ("deadlock", re.compile(rb"deadlock detected")),
    ("checkpoint", re.compile(rb"checkpoints are occurring too frequently")),
    ("temp_file", re.compile(rb"temporary file: path .{1,400}?, size (\d+)")),
    ("lock_wait", re.compile(rb"process \d+ (?:still waiting for|acquired) ")),
    (
        "failed_login",
        re.compile(
            rb"(?:password|\w+) authentication failed for user|no pg_hba\.conf entry for|pg_hba\.conf rejects|"
            rb'role ".{0,200}" (?:does not exist|is not permitted to log in)|permission denied for database'
        ),
    ),
)
_MOST = 5000
_CACHED = 1000
_LONGEST = 16 << 10
"""Bytes of a statement beyond which it is cut."""


def normalised(statement: bytes, length: int = 300) -> str:
    """Return a statement without literals, comments and secrets, on one line of at most `length` characters.

    >>> normalised(b"select * from t where name = 'O''Hara' and id in (1, 2, 3) -- for Bob")
    'select * from t where name = ? and id in (?)'
    """
    text = without_literals(statement[:_LONGEST].decode("utf-8", "backslashreplace"), _LONGEST).rstrip("; ")
    return visible(redact(text.encode()), length)


class DatabaseTally:
    """Collects what the entries of a window tell, with bounded memory."""

    def __init__(self) -> None:
        self._statements: dict[str, list[float]] = {}
        self._names: dict[bytes, str] = {}
        self._dropped = 0
        self._states = Counter[str]()
        self._events = Counter[str]()
        self._examples: dict[str, tuple[int, bytes]] = {}
        self._temp_bytes = 0

    def take(self, text: bytes, time: int, level: str, code: str) -> None:
        """Take one entry: its whole text, without the lines that say more about it."""
        if code and level in ("error", "critical"):
            self._states[code] += 1
        if text.startswith(b"duration: "):
            if match := _DURATION.match(text):
                self._slow(float(match[1]), self._named(text[match.end() : match.end() + _LONGEST]))
            return
        for name, shape in _EVENTS:
            match = shape.search(text, 0, 1000)
            if match is not None:
                self._events[name] += 1
                self._temp_bytes += int(match[1]) if name == "temp_file" else 0
                example = time, clipped(text, 2000)
                self._examples[name] = min(self._examples.get(name, example), example)
                return

    def _named(self, statement: bytes) -> str:
        name = self._names.get(statement)
        if name is None:
            if len(self._names) >= _CACHED:
                self._names.clear()
            name = self._names[statement] = normalised(statement)
        return name

    def _slow(self, duration: float, statement: str) -> None:
        found = self._statements.get(statement)
        if found is None:
            if len(self._statements) >= _MOST:
                self._dropped += 1
                return
            found = self._statements[statement] = [0, 0.0, 0.0]
        found[0] += 1
        found[1] += duration
        found[2] = max(found[2], duration)

    def result(self, most: int) -> DatabaseEvents:
        """Return the statements that took the most time in all, and the rest."""
        # The time is rounded: sums of floats depend on the order in which the files were read.
        ordered = sorted(self._statements.items(), key=lambda s: (-round(s[1][1], 3), s[0]))
        return DatabaseEvents(
            statements=tuple(
                Statement(text=text, count=int(count), total_ms=round(total, 3), worst_ms=worst)
                for text, (count, total, worst) in ordered[:most]
            ),
            more_statements=self._dropped + sum(int(s[1][0]) for s in ordered[most:]),
            sqlstates=dict(sorted(self._states.items())),
            events=dict(sorted(self._events.items())),
            temp_bytes=self._temp_bytes,
            examples={name: shown(text.split(b"\n", 1)[0]) for name, (_, text) in sorted(self._examples.items())},
        )
