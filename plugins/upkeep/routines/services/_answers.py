"""Judging one answer of a service: its status, and what its body must say."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from upkeep.core.http import Cause, NoReply, Reply
from upkeep.core.targets import Endpoint, Expectation

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\uffff]+")
_CREDENTIAL = re.compile(
    r'(?i)("?[\w-]*(?:pass(?:word|wd)?|secret|token|api_?key|authorization|cookie)[\w-]*"?\s*[:=]\s*)'
    r'(?:"[^"]*"?|(?:(?:bearer|basic)\s+)?[^\s,;}&]+)'
    r"|(\bbearer\s+)[\w.~+/=-]+|\beyJ[\w-]{8,}\.[\w.-]+"
)
_ABSENT = object()


@dataclass(frozen=True)
class Fault:
    """Why one try was no good. `check` is the finding's rule, `reason` the same words for the same fault."""

    check: str
    reason: str
    detail: str = ""
    degraded: bool = False
    """The service itself says that it is degraded, in the words that its description gives for that."""


def fault_of(endpoint: Endpoint, answer: Reply | NoReply) -> Fault | None:
    """Return what is wrong with an answer, none when it is as the endpoint's description wants it."""
    if isinstance(answer, NoReply):
        return Fault("tls" if answer.cause is Cause.TLS else "reachable", answer.detail)
    if answer.status not in endpoint.status:
        wanted = " or ".join(map(str, endpoint.status))
        return Fault("status", f"status {answer.status} instead of {wanted}", excerpt(answer.body))
    unmet = _body_faults(endpoint, answer)
    if not unmet:
        return None
    degraded = all(fault.degraded for fault in unmet)
    return Fault("body", "; ".join(fault.reason for fault in unmet), excerpt(answer.body), degraded)


def excerpt(body: bytes, length: int = 160) -> str:
    """Return the beginning of a body in one printable line, with what looks like a credential masked.

    >>> excerpt(b'{"token": "abc", "x": 1}')
    '{"token": ***, "x": 1}'
    """
    text = _UNPRINTABLE.sub(" ", body[: 8 * length].decode("utf-8", "replace"))
    text = _CREDENTIAL.sub(lambda m: f"{m[1] or m[2] or ''}***", " ".join(text.split()))
    return text if len(text) <= length else text[: length - 1] + "…"


def _body_faults(endpoint: Endpoint, answer: Reply) -> list[Fault]:
    if not endpoint.expect and endpoint.body_contains is None:
        return []
    if answer.truncated:
        return [Fault("body", f"a body longer than {len(answer.body)} bytes")]
    coding = answer.headers.get("content-encoding", "identity")
    if coding != "identity":
        return [Fault("body", f"a body encoded as {coding[:20]!r} although plain text was asked for")]
    if endpoint.body_contains is not None and endpoint.body_contains not in answer.body.decode("utf-8", "replace"):
        return [Fault("body", f"a body without {endpoint.body_contains!r}")]
    return _json_faults(endpoint.expect, answer.body) if endpoint.expect else []


def _json_faults(expectations: tuple[Expectation, ...], body: bytes) -> list[Fault]:
    try:
        document = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError:
        return [Fault("body", "a body that is not UTF-8, expected JSON")]
    except (ValueError, RecursionError):
        return [Fault("body", "a body that is not JSON")]
    faults = (_unmet(expectation, document) for expectation in expectations)
    return [fault for fault in faults if fault is not None]


def _unmet(expectation: Expectation, document: Any) -> Fault | None:
    place = expectation.pointer or "the body"
    seen = resolve_pointer(document, expectation.pointer)
    if seen is _ABSENT:
        return Fault("body", f"{place} is missing")
    if "equals" in expectation.model_fields_set:
        right, wanted = _same(seen, expectation.equals), f"to be {_short(expectation.equals)}"
    else:
        right, wanted = _contains(seen, expectation.contains or ""), f"to contain {expectation.contains!r}"
    degraded = "degraded" in expectation.model_fields_set and _same(seen, expectation.degraded)
    return None if right else Fault("body", f"{place} is {_short(seen)}, expected {wanted}", degraded=degraded)


def resolve_pointer(document: Any, pointer: str) -> Any:
    """Return the value at an RFC 6901 JSON pointer, or `_ABSENT`.

    >>> resolve_pointer({"a/b": [10, {"~": 2}]}, "/a~1b/1/~0")
    2
    """
    here = document
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(here, dict) and key in here:
            here = here[key]
        # RFC 6901: decimal digits without leading zeros; `-1` would be the last element to Python.
        elif isinstance(here, list) and re.fullmatch(r"0|[1-9][0-9]{0,8}", key) and int(key) < len(here):
            here = here[int(key)]
        else:
            return _ABSENT
    return here


def _same(seen: Any, wanted: Any) -> bool:
    """Equality as JSON has it: `true` is not 1, and 1 is 1.0."""
    if isinstance(seen, bool) or isinstance(wanted, bool):
        return seen is wanted
    if isinstance(seen, dict) and isinstance(wanted, dict):
        return seen.keys() == wanted.keys() and all(_same(seen[key], wanted[key]) for key in seen)
    if isinstance(seen, list) and isinstance(wanted, list):
        return len(seen) == len(wanted) and all(map(_same, seen, wanted))
    return bool(seen == wanted)


def _contains(seen: Any, wanted: str) -> bool:
    return wanted in seen if isinstance(seen, str | list | dict) else False


def _short(value: Any) -> str:
    return excerpt(json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace"), 60)
