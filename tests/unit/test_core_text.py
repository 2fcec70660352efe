"""What has the shape of a credential is seen, wherever it stands in a line and however long the line is."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.core.text import looks_random, looks_secret

# The same shapes, written without regard to time.
_PLAIN = re.compile(
    r"[a-z][a-z0-9+.\-]*://[^/\s:@]*:[^/\s@]+@|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"
    r"|(?i:\b(password|passwd|secret|token|api_?key)\s*=\s*\S)"
)
_PIECES = st.sampled_from(
    ["a", "1", "-", "_", ".", "+", "é", " ", "\n", "/", ":", "@", "://", "x://", "1x9://", "u:p@", "eyJ", "b" * 10,
     "eyJhbGciOiJI.eyJzdWIiOiIx", "password", "TOKEN", "=", "Z", "A://"]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=25).map("".join))
def test_nothing_is_missed_for_speed(text: str) -> None:
    """The patterns find exactly what the plain ones find."""
    assert looks_secret(text) is bool(_PLAIN.search(text))


@pytest.mark.parametrize(
    "piece",
    ["a", "a1", "eyJ-", "eyJaaaaaaaaaaaaa-", "a:", "a://", "a://b", "a://b:", "password ", "token\t", "1+.", "-", " ",
     "AKIA", "ghp_", "A", "=", "@", "sk-", "eyJ.", "a.eyJ"],
)  # fmt: skip
def test_time_grows_with_the_length(piece: str) -> None:
    """A line of a million letters, whichever they are, takes well under a second."""
    line = piece * (1_000_000 // len(piece))
    started = time.process_time()
    looks_secret(line), looks_random(line)
    assert time.process_time() - started < 1
