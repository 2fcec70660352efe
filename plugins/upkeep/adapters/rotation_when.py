"""When a log began: the time in its first lines, else the birth of the file."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

_HEAD_BYTES = 16384
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ISO = re.compile(
    r"(?<!\d)(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,]\d+)?\s?(Z\b|UTC\b|GMT\b|[+-]\d\d:?\d\d\b)?"
)
_ACCESS = re.compile(r"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d{4})")
_EPOCH = re.compile(r'"(?:ts|time|timestamp|@timestamp)"\s*:\s*"?(\d{10})(?:\.\d+)?"?[,}]')
_OLDEST = datetime(1990, 1, 1, tzinfo=UTC)
_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800


def began(handle: int, zone: str, now: datetime, newest_rotation: datetime | None) -> datetime | None:
    """Return when the first line of an open log was written, None when nobody can tell.

    Where no line has a time, it is the birth of the file, or the last rotation if that is later (copytruncate keeps the
    file). A time to come is nobody's.
    """
    head = os.pread(handle, _HEAD_BYTES, 0).decode("utf-8", "replace")
    if (first := first_time(head, zone)) and _OLDEST < first <= now + timedelta(hours=1):
        # What a line says may be older than the file: a backlog, a record of the past.
        return max(first, newest_rotation or first)
    known = [moment for moment in (birth(handle), newest_rotation) if moment is not None]
    # A copy that kept its times was born after its last line.
    last = datetime.fromtimestamp(os.fstat(handle).st_mtime, UTC)
    return min(max(known), last) if known else None


def first_time(text: str, zone: str) -> datetime | None:
    """Return the first time in a text: ISO 8601 or nearly so, that of access logs, or seconds since 1970 in JSON.

    >>> first_time("2026-11-14 10:00:00,123 ERROR x", "UTC").isoformat()
    '2026-11-14T10:00:00+00:00'
    """
    for line in text.splitlines():
        for read in (_iso, _access, _epoch):
            try:
                if found := read(line, zone):
                    return found.astimezone(UTC)
            except (ValueError, OverflowError, KeyError):
                continue  # digits that look like a time and are none, or a zone that nobody knows
    return None


def _iso(line: str, zone: str) -> datetime | None:
    if not (found := _ISO.search(line)):
        return None
    *fields, offset = found.groups()
    return datetime(*map(int, fields), tzinfo=_zone(offset, zone))  # type: ignore[misc, arg-type]


def _access(line: str, zone: str) -> datetime | None:
    if not (found := _ACCESS.search(line)):
        return None
    day, month, year, hour, minute, second, offset = found.groups()
    number = _MONTHS.index(month) + 1
    return datetime(int(year), number, int(day), int(hour), int(minute), int(second), tzinfo=_zone(offset, zone))


def _epoch(line: str, zone: str) -> datetime | None:
    found = _EPOCH.search(line)
    return datetime.fromtimestamp(int(found[1]), UTC) if found else None


def _zone(offset: str | None, zone: str) -> timezone | ZoneInfo:
    if offset is None:
        return ZoneInfo(zone)
    if offset[0] not in "+-":
        return UTC
    digits = offset[1:].replace(":", "")
    span = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(span if offset[0] == "+" else -span)


def birth(handle: int) -> datetime | None:
    """Return when a file was made (statx(2), which Python does not offer); None where the file system does not know."""
    if not sys.platform.startswith("linux"):
        return None
    buffer = ctypes.create_string_buffer(256)
    try:
        failed = ctypes.CDLL(None, use_errno=True).statx(handle, b"", _AT_EMPTY_PATH, _STATX_BTIME, buffer)
    except (OSError, AttributeError):
        return None
    # struct statx: stx_mask is the first u32; stx_btime (s64 seconds) follows stx_atime at 64 + 16.
    mask = int.from_bytes(buffer.raw[0:4], sys.byteorder)
    if failed or not mask & _STATX_BTIME:
        return None
    return datetime.fromtimestamp(int.from_bytes(buffer.raw[80:88], sys.byteorder, signed=True), UTC)
