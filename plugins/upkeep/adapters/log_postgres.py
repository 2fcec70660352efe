"""Entries of PostgreSQL's logs: stderr with any usual log_line_prefix, csvlog, jsonlog. Messages are English ones."""

from __future__ import annotations

import csv
import io
import re

from upkeep.adapters.log_app import Entry, Parser
from upkeep.adapters.log_app_json import loads, moment
from upkeep.adapters.log_app_time import Clock

_LEVELS = {
    b"PANIC": "critical",
    # Ends one session only: a wrong password, too many connections.
    b"FATAL": "error",
    b"ERROR": "error",
    b"WARNING": "warning",
    b"LOG": "info",
    b"INFO": "info",
    b"NOTICE": "info",
}
# What a restart says to those that were, or would be, connected: the server itself calls it FATAL.
_RESTART = re.compile(
    rb"terminating connection due to administrator command|the database system is (?:starting up|shutting down)"
)
# What says more about the message above it, in lines of their own.
_MORE = frozenset((b"DETAIL", b"HINT", b"QUERY", b"CONTEXT", b"LOCATION", b"STATEMENT", b"BACKTRACE"))
_TIME = rb"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.\d{1,6})? ?([A-Z]{1,5}(?![a-z])|[+-]\d\d(?::?\d\d)?)?"
# `[^\S\n]` refuses lines that begin with a tab: they go on with a message of several lines.
_HEAD = re.compile(
    rb"\n\0*+(?![^\S\n])(?:[\w.-]{1,60} +\| )?(?:" + _TIME + rb"|(\d{10})\.\d{3})?([^\n]{0,300}?)(?<![A-Za-z])"
    rb"(DEBUG[1-5]?|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC|"
    rb"DETAIL|HINT|QUERY|CONTEXT|LOCATION|STATEMENT|BACKTRACE):  "
)
_CSV_HEAD = re.compile(rb"\n\0*+" + _TIME + rb",")
_STATE = re.compile(
    rb"(?<![\w\[(])(?=[0-9A-Z]*\d)((?:0[0-9A-Z]|2[0-8BD-F]|3[489BDF]|4[0-4]|5[3-58]|57|72|F0|HV|P0|XX)[0-9A-Z]{3})(?![\w\])])"
)
_QUOTES_OF_ONE = 1 << 20
"""Bytes of one csvlog entry beyond which its quotes are taken for unbalanced."""


def parser_for(head: bytes, clock: Clock) -> Parser:
    """Return the parser for the kind of log that a file begins with."""
    first = head.lstrip(b"\0\r\n \xef\xbb\xbf")
    if first.startswith(b"{"):
        return PostgresJson(clock)
    return PostgresCsv(clock) if _CSV_HEAD.match(b"\n" + first) else PostgresStderr(clock)


class PostgresStderr:
    """Lines as the server writes them to stderr; DETAIL, STATEMENT and the like belong to the message above."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def parse(self, data: bytes, before: int | None, done: bool) -> tuple[list[Entry], int]:
        found, entry = list[Entry](), Entry(0, 0, None, None, 0)
        for head in _HEAD.finditer(b"\n" + data):
            stamp, zone, epoch, prefix, severity = head.groups()
            if severity in _MORE:
                continue
            at = head.start()
            if at > entry.start or entry.level is not None:
                found.append(entry._replace(end=at))
            time = int(epoch) if epoch else self._clock.moment(stamp, zone, before) if stamp else None
            before = before if time is None else time
            state = _STATE.search(prefix) if prefix and severity in (b"ERROR", b"FATAL", b"PANIC") else None
            level = _level(severity, data[head.end() - 1 : head.end() + 60])
            entry = Entry(at, 0, time, level, head.end() - 1, state[1].decode() if state else "")
        if done and (len(data) > entry.start or entry.level is not None):
            found.append(entry._replace(end=len(data)))
            return found, len(data)
        return found, entry.start

    def strange(self, line: bytes, alone: bool) -> bool:  # noqa: ARG002
        return line[:1] not in (b"\t", b"", b"\r", b"\n") and _HEAD.match(b"\n" + line) is None


class PostgresCsv:
    """csvlog: entries may have several lines, inside of quotes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def parse(self, data: bytes, before: int | None, done: bool) -> tuple[list[Entry], int]:
        found, starts = list[Entry](), [m.start() for m in _CSV_HEAD.finditer(b"\n" + data)]
        if not starts or starts[0] > 0:
            first = starts[0] if starts else len(data) if done else 0
            found += [Entry(0, first, None, None, 0)] if first else []
        at = 0
        while at < len(starts):
            begin, at = starts[at], at + 1
            end = starts[at] if at < len(starts) else len(data)
            # What looks like a beginning inside of quotes is none.
            quotes = data.count(b'"', begin, end)
            while quotes % 2 and at < len(starts) and end - begin < _QUOTES_OF_ONE:
                at, counted = at + 1, end
                end = starts[at] if at < len(starts) else len(data)
                quotes += data.count(b'"', counted, end)
            if end == len(data) and not done:
                return found, begin
            entry = self._entry(data, begin, end, before)
            before = before if entry.time is None else entry.time
            found.append(entry)
        return found, len(data) if done or not starts else starts[-1]

    def _entry(self, data: bytes, begin: int, end: int, before: int | None) -> Entry:
        text = data[begin : min(end, begin + _QUOTES_OF_ONE)].replace(b"\0", b"").decode("utf-8", "backslashreplace")
        try:
            row = next(csv.reader(io.StringIO(text, newline=""), strict=True))
        except (csv.Error, StopIteration):
            row = []
        if len(row) < 22:
            return Entry(begin, end, None, None, begin)
        head = _CSV_HEAD.match(b"\n" + data[begin : begin + 200])
        time = self._clock.moment(head[1], head[2], before) if head else None
        # 13: message, 14: detail (parameters), 19: the statement that an error is about.
        message = row[13].encode("utf-8", "replace")
        return Entry(begin, end, time, _level(row[11].encode(), message), message, _told(row[12]))

    def strange(self, line: bytes, alone: bool) -> bool:
        return alone and bool(line.strip())  # else it stands inside of quotes


class PostgresJson:
    """jsonlog (PostgreSQL 15 and later): one object a line."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def parse(self, data: bytes, before: int | None, done: bool) -> tuple[list[Entry], int]:  # noqa: ARG002
        found, start = list[Entry](), 0
        while start < len(data):
            end = data.find(b"\n", start) + 1 or len(data)
            said = loads(data[start:end])
            if said is None:
                found.append(Entry(start, end, None, None, start))
            else:
                time = self._time(str(said.get("timestamp", "")), before)
                before = before if time is None else time
                text = str(said.get("message", "")).encode("utf-8", "replace")
                level = _level(str(said.get("error_severity", "")).encode("utf-8", "replace"), text)
                found.append(Entry(start, end, time, level, text, _told(str(said.get("state_code", "")))))
            start = end
        return found, start

    def _time(self, text: str, before: int | None) -> int | None:
        match = re.match(_TIME, text.encode("utf-8", "replace"))
        return self._clock.moment(match[1], match[2], before) if match else moment(text, self._clock, before)

    def strange(self, line: bytes, alone: bool) -> bool:  # noqa: ARG002
        return bool(line.strip())


def _level(severity: bytes, text: bytes) -> str:
    if severity == b"FATAL" and _RESTART.match(text):
        return "warning"
    return _LEVELS.get(severity, "debug")


def _told(state: str) -> str:
    return state if re.fullmatch(r"[0-9A-Z]{5}", state) and state != "00000" else ""
