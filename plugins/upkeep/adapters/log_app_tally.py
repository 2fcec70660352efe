"""What the entries of a window say, counted with bounded memory, in whatever order the files are read."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from upkeep.adapters.log_app import Entry, message_of
from upkeep.adapters.log_app_classes import Class, Classes
from upkeep.adapters.log_app_seen import Seen, moment
from upkeep.adapters.log_postgres_tally import DatabaseTally
from upkeep.adapters.log_secrets import Scanner, clipped, redact, shown, visible
from upkeep.core.log_files import Lines, Sample, Unread
from upkeep.core.log_review import LogReport, Pattern, ReviewLimits, Secret

_PATTERNS = 5000
"""Patterns that are told apart while reading."""
_CACHE = 50_000
_SAMPLES = 5
_KEPT = 2000
"""Bytes of a line that are kept for an example."""
_LINE = 16 << 10
"""Bytes of a line in which an example of a secret is looked for."""
_TEXT = 120
"""Characters of a pattern: it becomes the subject of findings and measurements."""
_BAD = ("error", "critical")
_GRAVE = ("warning", "error", "critical", "none", None)
_VARIABLE = re.compile(
    rb"(?P<uuid>\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b)"
    rb"|(?P<url>\b[a-z][a-z0-9+.-]{1,20}://[^\s\"'<>]+)"
    rb"|(?P<text>\"[^\"\n]*\"|(?<![A-Za-z0-9])'[^'\n]*'(?![A-Za-z0-9]))"
    rb"|(?P<mail>[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+)"
    rb"|(?P<path>(?<![\w<.])(?:/[\w.@%+~,:=-]+)+/?)"
    rb"|(?P<hex>\b0x[0-9a-fA-F]+|\b(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{8,}\b|\b(?=[A-F]*[0-9])(?=[0-9]*[A-F])[0-9A-F]{8,}\b)"
    rb"|(?P<n>\d+(?:[.,:]\d+)*)"
)  # fmt: skip
_REQUEST = re.compile(rb'"([A-Z]+) ([^ ?"\n]*)[^"\n]*" (\d{3})\b')
_NUMBER = re.compile(rb"(?<=/)[0-9a-fA-F-]*\d[0-9a-fA-F-]*(?=/|$)|\d+")


def masked(message: bytes) -> bytes:
    """Return a message with everything variable in it masked.

    >>> masked(b"user 'bob' 10.0.0.1: no /tmp/x.7 for 0xff after 1.5 s")
    b'user <text> <n>: no <path> for <hex> after <n> s'
    >>> masked(b'"GET /claim/17?page=2 HTTP/1.1" 500 27')
    b'GET /claim/<n> -> 500'
    """
    request = _REQUEST.match(message)
    if request is not None:
        # The route is what matters: which of the many numbers in it was asked for is not.
        return b"%s %s -> %s" % (request[1], _NUMBER.sub(b"<n>", request[2]), request[3])
    return _VARIABLE.sub(lambda m: b"<" + str(m.lastgroup).encode() + b">", message)


class Tally:
    """Counts the entries that lie in the window."""

    def __init__(self, limits: ReviewLimits, database: bool = False) -> None:
        self._limits = limits
        self._scanner = Scanner(limits.allow)
        self._levels = Counter[str]()
        self._patterns: dict[str, Seen] = {}
        self._level_of: dict[str, str] = {}
        self._names: dict[bytes, str] = {}
        self._more = 0
        classes = [Class(name, phrases) for name, phrases in limits.classes.items()]
        self._mild = Classes([c for c in classes if c.name in limits.mild])
        self._grave = Classes([c for c in classes if c.name not in limits.mild])
        self._secrets: dict[tuple[str, str], Seen] = {}
        self._database = DatabaseTally() if database else None
        self._strange = Seen(keep=_SAMPLES)
        self._from: dict[bytes, str] = {}
        self.read = self.inside = self.outside = self.unparsed = self.bytes = 0

    def take(self, data: bytes, entries: Sequence[Entry], family: str) -> None:
        """Take the entries of a block that lie in the window; their times are filled in, None where nobody knows."""
        if not entries:
            return
        for entry in entries:
            level = entry.level
            if level is None:
                continue
            self._levels[level] += 1
            if level in _BAD:
                self._error(data, entry, level)
            if self._database is not None:
                self._tell_database(self._database, data, entry, level)
        low, high = entries[0].start, entries[-1].end
        part = data if high - low == len(data) else data[low:high]
        starts = [entry.start - low for entry in entries]
        self._mild.take(part, starts, entries)
        self._take_grave(part, starts, entries)
        line, text = -1, b""
        for leak in self._scanner.scan(part):
            entry = entries[bisect_right(starts, leak.start) - 1]
            if leak.start < entry.end - low:
                begin = part.rfind(b"\n", 0, leak.start) + 1
                if begin != line:
                    line, text = begin, _redacted_line(part, begin)
                # Redacted here already: what is kept must not depend on the secret, nor hold it for long.
                self._secrets.setdefault((leak.kind, family), Seen()).add(entry.time, _around(text, leak.kind))

    def _take_grave(self, part: bytes, starts: list[int], entries: Sequence[Entry]) -> None:
        """Look for the classes that count from warning on only, in the entries that are."""
        grave = [n for n, entry in enumerate(entries) if entry.level in _GRAVE]
        if len(grave) == len(entries):
            self._grave.take(part, starts, entries)
            return
        texts = [part[starts[n] : entries[n].end - entries[0].start] for n in grave]
        begins = [0, *accumulate(len(text) for text in texts)]
        self._grave.take(b"".join(texts), begins[:-1], [entries[n] for n in grave])

    def _error(self, data: bytes, entry: Entry, level: str) -> None:
        message = message_of(data, entry)
        message = clipped(message, _KEPT)
        key = masked(message.split(b"\n", 1)[0])
        name = self._names.get(key)
        if name is None:
            if len(self._names) > _CACHE:
                self._names.clear()
            name = self._names[key] = _name(message, level)
        seen = self._patterns.get(name)
        if seen is None:
            if len(self._patterns) >= _PATTERNS:
                self._more += 1
                return
            seen = self._patterns[name] = Seen()
            self._level_of[name] = level
        seen.add(entry.time, message)

    def _tell_database(self, database: DatabaseTally, data: bytes, entry: Entry, level: str) -> None:
        if isinstance(entry.message, bytes):
            text = entry.message
        else:
            end = _end_of_message(data, entry.message, min(entry.end, entry.start + (64 << 10)))
            text = data[entry.message : end]
        database.take(text, entry.time or 0, level, entry.code)

    def stranger(self, line: bytes, time: int | None, family: str) -> None:
        """Take a line that nobody understands."""
        line = clipped(line, _KEPT)
        self._strange.add(time, line)
        if any(line == kept for _, kept in self._strange.examples):
            self._from[line] = family

    def result(self, unread: Sequence[Unread]) -> LogReport:
        """Return what was counted."""
        most = self._limits.patterns
        ordered = sorted(self._patterns.items(), key=lambda p: (-p[1].count, p[0]))
        lines = Lines(
            read=self.read,
            in_window=self.inside,
            outside=self.outside,
            unparsed=self.unparsed,
            bytes=self.bytes,
            samples=tuple(
                Sample(path=self._from.get(text, ""), offset=0, text=shown(text, 200))
                for _, text in self._strange.examples
            ),
            unread=tuple(unread),
        )
        return LogReport(
            lines=lines,
            entries=sum(self._levels.values()),
            levels=dict(sorted(self._levels.items())),
            patterns=tuple(
                Pattern(
                    text=name,
                    level=self._level_of[name],
                    count=seen.count,
                    first=moment(seen.first),
                    last=moment(seen.last),
                    example=shown(seen.examples[0][1]),
                )
                for name, seen in ordered[:most]
            ),
            more_patterns=self._more + sum(seen.count for _, seen in ordered[most:]),
            hits=(*self._mild.result(), *self._grave.result()),
            secrets=tuple(
                Secret(
                    kind=kind,
                    file=visible(family, 100),
                    count=seen.count,
                    first=moment(seen.first),
                    last=moment(seen.last),
                    example=shown(seen.examples[0][1]),
                )
                for (kind, family), seen in sorted(self._secrets.items())
            ),
            database=self._database.result(self._limits.statements) if self._database else None,
        )


def _redacted_line(data: bytes, begin: int) -> bytes:
    end = data.find(b"\n", begin, begin + _LINE + 1)
    return redact(clipped(data[begin : begin + _LINE + 1 if end < 0 else end], _LINE))


def _around(line: bytes, kind: str) -> bytes:
    """Return what stands around a secret. Cut after the whole line was redacted: half of another would be shown."""
    at = line.find(f"[{kind}]".encode())
    return f"[{kind}]".encode() if at < 0 else line[max(at - 200, 0) : at + len(kind) + 42]


def _name(message: bytes, level: str) -> str:
    """Return the stable short text of a pattern."""
    text = masked(redact(message)).split(b"\n", 1)[0]
    return visible(level.encode() + b": " + b" ".join(text.split()), _TEXT)


def _end_of_message(data: bytes, at: int, limit: int) -> int:
    """Return where a message ends whose further lines begin with a tab, as the server writes them."""
    while True:
        end = data.find(b"\n", at, limit)
        if end < 0:
            return limit
        if data[end + 1 : end + 2] != b"\t":
            return end
        at = end + 1
