"""A question over HTTP and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request, and how much time and space its answer may take."""

    path: str
    method: str = "GET"
    json_body: Any = None
    timeout: float = 10.0
    """Seconds from the first byte sent to the last byte received, however slowly they drip."""
    limit_bytes: int = 1 << 20
    follow_redirects: bool = False


@dataclass(frozen=True)
class Reply:
    """A complete answer, or its first `limit_bytes` bytes."""

    status: int
    body: bytes
    seconds: float
    truncated: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""


class Cause(StrEnum):
    """Why there was no answer."""

    NAME = "name"
    """The host's name could not be resolved."""
    CONNECT = "connect"
    """Nobody accepts connections there, or not in time."""
    TLS = "tls"
    """No encrypted connection that can be trusted."""
    TIMEOUT = "timeout"
    """Connected, but not answered in time."""
    CUT = "cut"
    """The connection ended before the answer did."""
    PROTOCOL = "protocol"
    """What came is not HTTP."""
    REDIRECT = "redirect"
    """Sent on in circles, or to another host."""


@dataclass(frozen=True)
class NoReply:
    """No answer, and why. `detail` holds no credentials."""

    cause: Cause
    detail: str
    seconds: float
