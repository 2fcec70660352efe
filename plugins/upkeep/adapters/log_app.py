"""Entries of application logs: Django's and Python's usual formats, and lines of any other kind."""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol

from upkeep.adapters.log_app_sift import sift
from upkeep.adapters.log_app_time import Clock

LEVELS = {
    **dict.fromkeys((b"CRITICAL", b"CRIT", b"FATAL", b"ALERT", b"EMERG", b"EMERGENCY", b"PANIC"), "critical"),
    **dict.fromkeys((b"ERROR", b"ERR", b"SEVERE"), "error"),
    **dict.fromkeys((b"WARNING", b"WARN"), "warning"),
    **dict.fromkeys((b"INFO", b"NOTICE", b"SUCCESS", b"LOG", b"INFORMATION"), "info"),
    **dict.fromkeys((b"DEBUG", b"TRACE", b"VERBOSE"), "debug"),
}
_LEVEL = (
    rb"(?:TRACE|DEBUG|INFO|NOTICE|SUCCESS|WARN(?:ING)?|ERROR|ERR|CRIT(?:ICAL)?|FATAL|SEVERE|ALERT|EMERG(?:ENCY)?|PANIC)"
)
# As nginx and many programs of one's own write them: `[error]`, `level=error`.
_SMALL = rb"(trace|debug|info|notice|warn(?:ing)?|error|crit(?:ical)?|fatal|alert|emerg|panic)"
# What may stand before the first character of a line: a hole that copytruncate left, a byte order mark, a colour.
_BEFORE = rb"\n\0*+(?:\xef\xbb\xbf)?(?:\x1b\[[\d;]*m)*"
_TIMED = (
    rb"[\[(<]?(?:(" + _LEVEL + rb")[\])>]?(?:\x1b\[[\d;]*m)*[ \t:|-]+[\[(]?)?(?:(?:asctime|time|ts|timestamp)=\"?)?"
    rb"(?:(\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d)|(\d\d/[A-Z][a-z]{2}/\d{4}[: ]\d\d:\d\d:\d\d))"
    rb"(?:[.,]\d{1,9})?(?: ?(Z|UTC|GMT|[+-]\d\d:?\d\d)(?!\w))?\"?"
    rb"(?:[^\n\"']{0,80}?[^\w\n\"'](?:(" + _LEVEL + rb")(?!\w)|level=\"?" + _SMALL + rb"|(?<=\[)" + _SMALL + rb"\]))?"
)
_LEVELLED = rb"(" + _LEVEL + rb")(?=[ :\t\]|])"
_SYSLOG = rb"([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) "
# A traceback, the exception at its end and what joins two of them belong to the line before.
_ANY = (
    rb"(?=[^\s\0])(?!Traceback \(most|During handling of|The above exc|"
    rb"[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning)(?:: |\n))"
)
HEAD = re.compile(_BEFORE + rb"(?:" + _TIMED + rb"|" + _LEVELLED + rb")")
HEAD_PLAIN = re.compile(_BEFORE + rb"(?:" + _TIMED + rb"|" + _LEVELLED + rb"|" + _SYSLOG + rb"|" + _ANY + rb")")
_REQUEST = re.compile(rb'[\])]? "[A-Z]+ [^"\n]*" (\d)\d\d\b')
_BAD = r"(?i)(?:error|exception|fatal|panic|traceback)\b"
"""For RE2: what makes a plain line without a level an error (CM-D03 looks for these words)."""
_GOOD = re.compile(
    rb"(?i)\b(?:no|0|without(?: any| an)?|zero)[ -](?:error|exception)\b"
    rb"|\b(?:last[_ -])?(?:error|exception)(?:[\"']? ?: ?(?:none|null|nil)|(?:[\"'] ?: ?|=)[\"']?"
    rb"(?:none|null|nil|false|no|0|ok|(?=[\"'])))(?![\w.])"
)
"""What only says that there was none; such words are taken out before others are looked for."""
_WORSE = re.compile(rb"(?i)(?:error|exception|fatal|panic|traceback)\b")
_SEPARATORS = b" \t-:|]),"


class Entry(NamedTuple):
    """One entry of a log, by its bytes in the block; `time` as the log says it, None: it does not.

    `level` None: lines before the first entry of a block, which belong to the one before it.
    """

    start: int
    end: int
    time: int | None
    level: str | None
    message: int | bytes
    """Where in the block its message begins, or the message itself."""
    code: str = ""
    """SQLSTATE."""


class Parser(Protocol):
    """Finds the entries of a format in blocks of lines."""

    def parse(self, data: bytes, before: int | None, done: bool) -> tuple[list[Entry], int]:
        """Return entries and how many bytes they are; the rest is wanted again with more behind it.

        :param before: moment of the line above, None when there is none.
        :param done: nothing comes behind it.
        """
        ...

    def strange(self, line: bytes, alone: bool) -> bool:
        """Whether a line that begins no entry is not understood; `alone`: it stands below none, either."""
        ...


class HeadParser:
    """A format in which every entry begins with a time or a level, and all other lines belong to the entry above.

    :param every: entries are also all lines that are not indented (`plain`).
    """

    def __init__(self, clock: Clock, every: bool = False) -> None:
        self._clock, self._every = clock, every
        self._bad = set[int]()
        self._heads = (HEAD_PLAIN if every else HEAD).finditer

    def parse(self, data: bytes, before: int | None, done: bool) -> tuple[list[Entry], int]:
        found, moment = list[Entry](), self._clock.moment
        start = 0
        level: str | None = None
        time: int | None = None
        message, known = 0, None
        self._bad = _complaints(data) if self._every and data else set()
        for head in self._heads(b"\n" + data):
            at = head.start()
            if at > start or level is not None:
                found.append(Entry(start, at, time, level, message))
            first, iso, clf, zone, second, lower, boxed, bare, *short = head.groups()
            stamp = iso or clf or (short[0] if short else None)
            if stamp is None:
                time = None
            elif (stamp, zone) != known:  # many lines are of one second
                time, known = moment(stamp, zone, before), (stamp, zone)
            else:
                time = before
            before = before if time is None else time
            start, message = at, head.end() - 1
            named = first or second or bare or (lower or boxed or b"").upper()
            level = LEVELS.get(named, "none") if named else self._unnamed(data, at, message)
            if level == "error" and (NO_FILE.match(data, message) or _RESTART.match(data, message)):
                level = "warning"
        if done and (len(data) > start or level is not None):
            found.append(Entry(start, len(data), time, level, message))
            start = len(data)
        return found, start

    def _unnamed(self, data: bytes, at: int, message: int) -> str:
        """Return the level of a line that names none: by the status of a request, of a plain one by its words."""
        if at in self._bad:
            return "error"
        request = _REQUEST.match(data, message)
        return "none" if request is None else {b"5": "error", b"4": "warning"}.get(request[1], "info")

    def strange(self, line: bytes, alone: bool) -> bool:  # noqa: ARG002
        return not self._every and line[:1] not in _CONTINUED and _JOINED.match(line) is None


def _complaints(data: bytes) -> set[int]:
    """Return where lines begin that hold a word of trouble."""
    found = sift(data, _BAD)
    return {a for a, b in found if _WORSE.search(_GOOD.sub(b"", data[a : min(b, a + _FAR)])) or b > a + _FAR}


_RESTART = re.compile(rb"\W{0,8}Worker \(pid:\d+\) was sent SIGTERM!")
"""What gunicorn's master calls an error each time that it is restarted."""
NO_FILE = re.compile(rb'[^"\n]{0,80}\(\) "[^"\n]{0,2000}" (?:failed \(2: |is not found \(2: )')
"""A 404 as nginx tells it."""
_FAR = 64 << 10
_CONTINUED = (b" ", b"\t", b"", b"\r", b"\n", b"}", b"]", b")", b"^", b"|", b"~")
_JOINED = re.compile(
    rb"Traceback \(most|[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning|Timeout|Refused|Fault)(?:: |\s*$)|"
    rb"During handling of|The above exc|Caused by|Exception |\.\.\. |[+|] "
)


def message_of(data: bytes, entry: Entry) -> bytes:
    """Return what an entry says: its first line, and the exception at the end of its last traceback."""
    if isinstance(entry.message, bytes):
        return entry.message
    limit = min(entry.end, entry.start + (64 << 10))
    end = data.find(b"\n", entry.message, limit)
    if end < 0:
        return data[entry.message : limit].lstrip(_SEPARATORS)
    first = data[entry.message : end].lstrip(_SEPARATORS).rstrip()
    tail = data[end + 1 : limit]
    if tail and (at := tail.rfind(b"Traceback (most recent call last)")) >= 0:
        ends = [line for line in tail[at:].split(b"\n")[1:] if line and line[:1] not in b" \t\r+|"]
        return first + b" | " + ends[0].rstrip() if ends else first
    return first
