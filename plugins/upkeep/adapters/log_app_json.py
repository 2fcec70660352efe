"""Entries of logs that hold one JSON object a line (structlog, python-json-logger, pino, Docker, PostgreSQL)."""

from __future__ import annotations

import json
from typing import Any

from upkeep.adapters.log_app import LEVELS, Entry
from upkeep.adapters.log_app_time import TIME, Clock

_TIMES = ("timestamp", "time", "@timestamp", "ts", "asctime", "datetime", "date", "t", "created", "eventTime")
_LEVELS = ("level", "levelname", "severity", "log.level", "lvl", "loglevel", "log_level", "error_severity")
_MESSAGES = ("message", "msg", "event", "text", "log", "error", "detail")
_STACKS = ("exc_info", "exception", "traceback", "stack", "stack_trace", "exc_text", "error.stack_trace")
# bunyan and pino; Python's own numbers come as `levelno`, beside `levelname`.
_NUMBERS = ((60, "critical"), (50, "error"), (40, "warning"), (30, "info"), (0, "debug"))


class JsonParser:
    """One object a line; lines that are none are not understood."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def parse(self, data: bytes, before: int | None, done: bool) -> tuple[list[Entry], int]:  # noqa: ARG002
        found, start = list[Entry](), 0
        for line in data.splitlines(keepends=True) if b"\r" not in data else _lines(data):
            end = start + len(line)
            said = loads(line)
            if said is None:
                found.append(Entry(start, end, None, None, start))
            else:
                time = self._time(said, before)
                before = before if time is None else time
                found.append(Entry(start, end, time, _level(said), message(said)))
            start = end
        return found, start

    def strange(self, line: bytes, alone: bool) -> bool:  # noqa: ARG002
        return bool(line.strip())

    def _time(self, said: dict[str, Any], before: int | None) -> int | None:
        value = next((said[key] for key in _TIMES if said.get(key) not in (None, "")), None)
        return moment(value, self._clock, before)


def moment(value: Any, clock: Clock, before: int | None) -> int | None:
    """Return the moment that a JSON value means: text, or a number of seconds, milli-, micro- or nanoseconds."""
    if isinstance(value, str) and (match := TIME.match(value[:64].encode("utf-8", "replace"))):
        return clock.moment(match["iso"] or match["clf"], match["zone"] or match["offset"], before)
    try:
        number = float(value)
        number = next((n for n in (number, number / 1e3, number / 1e6, number / 1e9) if 1e8 < n < 1e11), 0)
        return int(number) or None
    except (TypeError, ValueError, OverflowError):
        return None


def _lines(data: bytes) -> list[bytes]:
    """Split at newlines only: a lone carriage return is part of a line."""
    return [line + b"\n" for line in data.split(b"\n")[:-1]] + ([rest] if (rest := data.rsplit(b"\n", 1)[-1]) else [])


def loads(line: bytes) -> dict[str, Any] | None:
    """Return the object that a line holds, None when it holds none."""
    try:
        found = json.loads(line.lstrip(b"\0\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _level(said: dict[str, Any]) -> str:
    value = next((said[key] for key in _LEVELS if said.get(key) not in (None, "")), None)
    if value is None and isinstance(said.get("log"), dict):
        value = said["log"].get("level")
    if isinstance(value, bool) or value is None:
        return "none"
    if isinstance(value, int | float):
        return next((level for least, level in _NUMBERS if value >= least), "none")
    return LEVELS.get(str(value).strip().upper().encode("utf-8", "replace"), "none")


def message(said: dict[str, Any]) -> bytes:
    """Return the text of an entry, with the last line of a traceback in it."""
    value = next((said[key] for key in _MESSAGES if isinstance(said.get(key), str) and said[key]), "")
    text = str(value).split("\n", 1)[0]
    stack = next((said[key] for key in _STACKS if isinstance(said.get(key), str) and said[key]), "")
    if stack:
        ends = [line for line in str(stack).split("\n") if line and not line[0].isspace()]
        text = f"{text} | {ends[-1] if ends else ''}"
    return text.encode("utf-8", "backslashreplace")
