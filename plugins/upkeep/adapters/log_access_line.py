"""Reads one line of an access log strictly: combined lines of unusual shape, and JSON."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

from upkeep.adapters.log_access_batch import METHODS, Request

# No part can be matched in more than one way and the user is short, so that no line takes long to refuse.
_COMBINED = re.compile(
    rb"(?P<client>[0-9A-Za-z.:_%-]{1,253}) [^\s\"]{1,64} (?P<user>.{1,256}?)"
    rb" \[(?P<at>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\]"
    rb' "(?P<request>(?:[^"\\]|\\.)*+)" (?P<status>[1-9]\d\d) (?P<size>\d{1,18}|-)'
    rb' "(?P<referer>(?:[^"\\]|\\.)*+)" "(?P<agent>(?:[^"\\]|\\.)*+)"(?: (?P<rest>.*))?',
    re.DOTALL,
)
_ANOTHER = re.compile(rb"\[\d\d/[A-Z][a-z]{2}/\d{4}:")
_SECONDS = re.compile(rb"\d{1,12}(?:\.\d{1,9})?")
_MONTHS = {m: n for n, m in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}


def combined(line: bytes, *, timed: bool, unit: float) -> Request | None:
    """Read a line of the combined format; None: it is none.

    NULs before it (copytruncate) are no part of it. `timed`: the last word is the request time in units of which one
    is `unit` milliseconds; a line without it is a request whose time is not known.
    """
    found = _COMBINED.fullmatch(line.lstrip(b"\0").rstrip(b"\r"))
    if found is None or (at := _apache_time(found["at"])) is None:
        return None
    took = -1
    if found["rest"] is not None and _ANOTHER.search(found["rest"]):
        return None  # two lines without a newline between them
    if timed and found["rest"] is not None:
        last = found["rest"].rsplit(b" ", 1)[-1]
        if last != b"-" and not _SECONDS.fullmatch(last):
            return None
        took = -1 if last == b"-" else round(float(last) * unit)
    method, target = request_line(found["request"])
    size = 0 if found["size"] == b"-" else int(found["size"])
    return Request(
        at, found["client"], method, target, int(found["status"]), size, took, found["referer"], found["agent"]
    )


def request_line(text: bytes) -> tuple[str, bytes]:
    """Return method and target; where no known method stands, `other` and all but the protocol."""
    head, blank, rest = text.partition(b" ")
    method = next((name for name in METHODS[1:] if blank and name.encode() == head), "other")
    target = text if method == "other" else rest
    return method, target[:-9] if target[-9:-3] == b" HTTP/" else target


def _apache_time(text: bytes) -> int | None:
    """Return seconds since 1970 of `10/Oct/2026:13:55:36 +0000`."""
    try:
        month = _MONTHS[text[3:6]]
        zone = timedelta(hours=int(text[22:24]), minutes=int(text[24:26]))
        if zone >= timedelta(days=1) or int(text[24:26]) > 59:
            return None
        second = min(int(text[18:20]), 59) if int(text[18:20]) <= 60 else 60
        at = datetime(
            int(text[7:11]), month, int(text[:2]), int(text[12:14]), int(text[15:17]), second,
            tzinfo=timezone(-zone if text[21:22] == b"-" else zone),
        )  # fmt: skip
    except (KeyError, ValueError):
        return None
    return int(at.timestamp()) if at.year >= 1970 else None


_TIME = (
    "time",
    "time_iso8601",
    "@timestamp",
    "timestamp",
    "time_local",
    "ts",
    "msec",
    "datetime",
    "date",
    "start_time",
)
_CLIENT = ("remote_addr", "client_ip", "client", "clientip", "remote_ip", "ip", "remote_host", "host_ip")
_METHOD = ("method", "request_method", "verb")
_TARGET = ("request_uri", "uri", "path", "url", "target")
_STATUS = ("status", "status_code", "response", "response_status", "code")
_SIZE = ("body_bytes_sent", "bytes_sent", "bytes", "size", "response_size", "length")
_TOOK = ("request_time", "duration", "response_time", "took", "elapsed", "upstream_response_time")
_TOOK_MS = ("request_time_ms", "duration_ms", "response_time_ms", "took_ms", "elapsed_ms", "latency_ms")
_REFERER = ("http_referer", "referer", "referrer")
_AGENT = ("http_user_agent", "user_agent", "agent", "useragent")


def json_line(line: bytes, *, unit: float, zone: tzinfo) -> Request | None:
    """Read a line that is a JSON object with the fields of a request under one of their usual names; None: it is none.

    It must have a time, a client and a status. A time without an offset is in `zone`.
    """
    try:
        seen = json.loads(line.lstrip(b"\0").decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(seen, dict):
        return None
    try:
        return _from_fields(seen, unit, zone)
    except (ValueError, TypeError, OverflowError):
        return None


def _from_fields(seen: dict[str, Any], unit: float, zone: tzinfo) -> Request | None:
    at, client, status = _moment(_of(seen, _TIME), zone), _of(seen, _CLIENT), _of(seen, _STATUS)
    if at is None or not isinstance(client, str) or not client or status is None:
        return None
    if not 100 <= (code := int(status)) <= 999:
        return None
    method, target = _wanted(seen)
    size = _of(seen, _SIZE)
    return Request(
        at, _bytes(client)[:253], method, _bytes(target), code, 0 if size in (None, "-", "") else max(int(size), 0),
        _took(seen, unit), _bytes(_of(seen, _REFERER) or "-"), _bytes(_of(seen, _AGENT) or "-"),
    )  # fmt: skip


def _of(seen: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((seen[name] for name in names if name in seen), None)


def _bytes(value: Any) -> bytes:
    return str(value).encode("utf-8", "surrogateescape" if str(value).isprintable() else "backslashreplace")


def _wanted(seen: dict[str, Any]) -> tuple[str, str]:
    """Return method and target, from fields of their own or from the request line."""
    target, method, line = _of(seen, _TARGET), _of(seen, _METHOD), seen.get("request")
    if target is None and isinstance(line, str):
        name, rest = request_line(_bytes(line))
        return name, rest.decode("utf-8", "surrogateescape")
    query = seen.get("query_string") or seen.get("args")
    target = str(target or "")
    return str(method or "other"), f"{target}?{query}" if query and "?" not in target else target


def _took(seen: dict[str, Any], unit: float) -> int:
    """Return milliseconds, or -1."""
    in_ms = _of(seen, _TOOK_MS)
    value = _of(seen, _TOOK) if in_ms is None else in_ms
    if value in (None, "-", ""):
        return -1
    took = float(value) * (unit if in_ms is None else 1)
    return round(took) if math.isfinite(took) and 0 <= took < 1e12 else -1


def _moment(value: Any, zone: tzinfo) -> int | None:
    """Return seconds since 1970, from ISO 8601, the time of the combined format, or seconds or milliseconds."""
    if isinstance(value, str):
        if (found := _apache_time(value.encode("ascii", "replace"))) is not None:
            return found
        try:
            value = float(value)
        except ValueError:
            at = datetime.fromisoformat(value)
            at = at if at.tzinfo else at.replace(tzinfo=zone)
            return math.floor(at.astimezone(UTC).timestamp())
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return math.floor(value / 1000 if value > 1e11 else value)
