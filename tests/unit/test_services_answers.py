"""Judging one answer: JSON pointers as RFC 6901 has them, and excerpts that are safe to print."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.core.http import Cause, NoReply, Reply
from upkeep.core.targets import Endpoint
from upkeep.routines.services._answers import _ABSENT, excerpt, fault_of, resolve_pointer
from upkeep.routines.services._tries import statistics_of

# The document and the pointers of RFC 6901, section 5.
DOCUMENT = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7, "m~n": 8}


@pytest.mark.parametrize(
    "pointer, value",
    [("", DOCUMENT), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1), ("/c%d", 2), ("/e^f", 3),
     ("/g|h", 4), ("/i\\j", 5), ('/k"l', 6), ("/ ", 7), ("/m~0n", 8)],
)  # fmt: skip
def test_pointers_of_the_rfc(pointer: str, value: Any) -> None:
    """Every example of RFC 6901 gives the value that the RFC says."""
    assert resolve_pointer(DOCUMENT, pointer) == value


@pytest.mark.parametrize(
    "pointer", ["/nope", "/foo/2", "/foo/-", "/foo/-1", "/foo/00", "/foo/1e0", "/foo/٠", "//x", "/a~01b"]
)
def test_pointers_to_nothing(pointer: str) -> None:
    """What is not there is absent, and differs from null; array indexes are plain decimal digits."""
    assert resolve_pointer(DOCUMENT, pointer) is _ABSENT


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_every_document_equals_itself(document: Any) -> None:
    """A body that is exactly what is expected is never a fault, whatever it is."""
    endpoint = Endpoint.model_validate({"path": "/", "expect": [{"pointer": "", "equals": document}]})
    assert fault_of(endpoint, Reply(200, json.dumps(document).encode(), 0.1)) is None


@given(st.binary(max_size=3000))
def test_excerpts_are_printable_and_short(body: bytes) -> None:
    """Whatever a body holds, its excerpt is one short line without control characters or direction marks."""
    text = excerpt(body)
    assert len(text) <= 160
    assert "\n" not in text
    assert all(ord(character) >= 32 and not "\u202a" <= character <= "\u202e" for character in text)


@pytest.mark.parametrize(
    "body",
    ['{"password":"hidden1"}', '{"db_password" : "hidden1"}', "password=hidden1&x=1", "Authorization: Bearer hidden1",
     "api_key: hidden1", '{"access_token":"hidden1", "x": 2}', "Set-Cookie: hidden1", '{"secret": "hidden1',
     "eyJhbGciOiJIUzI1NiJ9.hidden1.sig"],
)  # fmt: skip
def test_excerpts_mask_credentials(body: str) -> None:
    """A page that prints its configuration or a token does not get it into a finding."""
    assert "hidden1" not in excerpt(body.encode())


def test_a_tls_fault_is_no_reachability_fault() -> None:
    """A certificate is mended by somebody else than a dead process, so it is a check of its own."""
    endpoint = Endpoint(path="/")
    checks = {cause: fault_of(endpoint, NoReply(cause, "x", 0.1)) for cause in Cause}
    assert {cause for cause, fault in checks.items() if fault and fault.check == "tls"} == {Cause.TLS}
    assert all(fault is not None for fault in checks.values())


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_statistics_are_of_the_times(times: list[float]) -> None:
    """The 95th percentile is a time that was measured, with at least 95 % of all times at or below it."""
    ordered = sorted(times)
    seen = statistics_of(ordered)
    assert seen["p95"] in ordered
    assert sum(time <= seen["p95"] for time in ordered) >= 0.95 * len(ordered)
    assert seen["median"] <= seen["p95"] <= seen["max"] == ordered[-1]
