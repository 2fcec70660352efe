"""What the access log of a web server says about a window of time."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import pydantic
from pydantic import Field

from upkeep.core.log_files import Lines
from upkeep.core.model import Model

AttackKind = Literal["sqli", "xss", "traversal", "command"]


class AccessOptions(Model):
    """How an access log is read. Patterns are searched in paths, in any case (RE2: no look-around, no references)."""

    login_paths: tuple[str, ...] = Field(
        (
            r"/(login|log-in|signin|sign-in|auth|authenticate|sessions?)(/|\.\w+)?$",
            r"/accounts?/login",
            r"/wp-login\.php",
        ),
        description="where people or programs log in",
    )
    token_paths: tuple[str, ...] = Field(
        (r"/(token|tokens|refresh|jwt|oauth2?)(/|$)",), description="where tokens are issued or refreshed"
    )
    upload_paths: tuple[str, ...] = Field(
        (r"/(uploads?|files?|documents?|attachments?|media|import)(/|$)",),
        description="where POST and PUT bring files",
    )
    time_unit: Literal["s", "ms", "us"] = Field("s", description="unit of the request time (nginx: s; Apache's %D: us)")
    burst_minutes: int = Field(5, ge=1, le=60, description="minutes over which 401 and 403 of a client are counted")
    top: int = Field(20, ge=1, le=1000, description="clients, routes and kinds that are named (CM-L02: top 20)")
    slowest: int = Field(100, ge=0, le=1000, description="slowest requests that are kept (CM-L02: 100)")
    max_clients: int = Field(50_000, ge=100, le=2_000_000, description="clients that are told apart at a time")
    max_routes: int = Field(1_000, ge=50, le=20_000, description="normalised routes that are told apart at a time")
    max_line: pydantic.ByteSize = Field(
        pydantic.ByteSize(2 << 20), description="a longer line is counted as unparsed and not looked at"
    )
    max_decoded: pydantic.ByteSize = Field(
        pydantic.ByteSize(64 << 30), description="bytes of text that one compressed file may hold"
    )
    max_ratio: float = Field(300, gt=1, description="times its size to which a compressed file may grow (beyond 64 MB)")


class Times(Model):
    """Response times in seconds, of `count` requests whose time was logged."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float


class RouteUse(Model):
    """Requests of one route: its path with ids, UUIDs and hashes replaced by `{id}`."""

    route: str
    requests: int
    errors_4xx: int
    errors_5xx: int
    bytes: int
    times: Times | None = None


class ClientUse(Model):
    """What one client did. `denied` is 401 and 403, `writes_failed` POST, PUT, PATCH and DELETE answered 4xx or 5xx."""

    client: str
    requests: int
    errors_4xx: int = 0
    errors_5xx: int = 0
    denied: int = 0
    not_found: int = 0
    failed_logins: int = 0
    uploads: int = 0
    tokens: int = 0
    probes: int = 0
    attacks: int = 0
    scanner: int = 0
    writes_failed: int = 0
    bytes: int = 0


class Slow(Model):
    """A request that took long. `target` is redacted."""

    at: datetime
    seconds: float
    client: str
    method: str
    target: str
    status: int


class Burst(Model):
    """The most 401 and 403 that one client got within `burst_minutes`."""

    client: str
    count: int
    at: datetime


class Answers(Model):
    """How requests of one kind were answered. `passed` is 2xx, `failed` 5xx; both mean that it reached something."""

    requests: int = 0
    passed: int = 0
    redirected: int = 0
    refused: int = 0
    failed: int = 0


class Attack(Model):
    """Requests that carry the signature of an attack, by the rule of the OWASP Core Rule Set that it is taken from."""

    kind: AttackKind
    rule: int
    title: str
    answers: Answers
    route: str
    sample: str
    first: datetime


class Probe(Model):
    """Requests for files that only scanners ask for (`/.env`)."""

    name: str
    answers: Answers
    sample: str


class Scanner(Model):
    """Requests of a program that says that it is a scanner."""

    name: str
    answers: Answers


class Referrer(Model):
    """Another page that sent writing requests here: how many were refused with 403, how many were let through."""

    host: str
    refused: int
    passed: int


class FailedWrite(Model):
    """POST, PUT, PATCH or DELETE that were answered 4xx or 5xx."""

    method: str
    route: str
    status: int
    count: int


class Leak(Model):
    """Secrets that were written into the log, as part of an address. `sample` is redacted."""

    kind: str
    route: str
    count: int
    sample: str


class Capped(Model):
    """Something of which there was too much to tell all apart: `folded` requests are counted together.

    What is named is the most frequent; its counts may be too low by at most `at_most`.
    """

    what: Literal["clients", "routes", "bursts", "leaks", "failed_writes", "referrers", "attacks"]
    folded: int
    at_most: int


class AccessReview(Model):
    """Everything that the lines of a window say. All numbers are of lines in the window, but for `lines`.

    `statuses` and `methods` count requests. `clients` are those with the most requests and those that did anything
    suspicious, `routes` those with the most requests, errors or time.
    """

    lines: Lines = Lines()
    untimed: int = 0
    first: datetime | None = None
    last: datetime | None = None
    bytes: int = 0
    statuses: dict[int, int] = {}
    methods: dict[str, int] = {}
    times: Times | None = None
    slow_over: dict[int, int] = {}
    """How many requests took more than so many seconds (1, 2, 5)."""
    routes: tuple[RouteUse, ...] = ()
    clients: tuple[ClientUse, ...] = ()
    distinct_clients: int = 0
    slowest: tuple[Slow, ...] = ()
    bursts: tuple[Burst, ...] = ()
    denied: int = 0
    failed_logins: int = 0
    logins: Answers = Answers()
    tokens: Answers = Answers()
    uploads: Answers = Answers()
    upload_bytes: int = 0
    """Bytes of the answers to uploads: access logs do not tell the size of what was sent."""
    attacks: tuple[Attack, ...] = ()
    probes: tuple[Probe, ...] = ()
    scanners: tuple[Scanner, ...] = ()
    referrers: tuple[Referrer, ...] = ()
    refused_writes: int = 0
    """Writing requests that were answered 403."""
    writes: Answers = Answers()
    """POST, PUT, PATCH and DELETE."""
    failed_writes: tuple[FailedWrite, ...] = ()
    leaks: tuple[Leak, ...] = ()
    capped: tuple[Capped, ...] = ()

    @property
    def requests(self) -> int:
        """Lines in the window."""
        return self.lines.in_window

    def share(self, hundred: int) -> float | None:
        """Return the percentage of requests answered 4xx (400) or 5xx (500); None without requests."""
        count = sum(n for status, n in self.statuses.items() if status // 100 * 100 == hundred)
        return 100 * count / self.requests if self.requests else None
