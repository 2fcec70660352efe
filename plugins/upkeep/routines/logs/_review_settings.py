"""Settings of `logs.review`."""

from __future__ import annotations

import pydantic
from pydantic import Field

from upkeep.core.model import Threshold
from upkeep.core.routine import RoutineSettings
from upkeep.routines.logs._access_settings import AccessLimits

_CLASSES: dict[str, tuple[str, ...]] = {
    "failed_login": (
        "failed login", "login failed", "failed password", "authentication failed", "authentication failure",
        "invalid credentials", "bad credentials", "invalid username password", "incorrect password", "wrong password",
        "invalid password", "account locked", "unauthorized login",
    ),
    "token": (
        "token expired", "token invalid", "token revoked", "token rejected", "token not valid", "token blacklisted",
        "jwt expired", "jwt invalid", "jwt error", "signature verification failed", "signature has expired",
        "not enough segments", "csrf failed", "csrf missing",
    ),
    "failed_check": (
        "check failed", "health failed", "health unhealthy", "test failed", "tests failed", "assertion failed",
        "validation failed",
    ),
    "notification": (
        "notification fail", "notification error", "notify fail", "email fail", "email error", "mail fail", "sms fail",
        "smtp error", "smtp refused", "smtpexception", "smtpauthenticationerror", "smtpserverdisconnected",
        "webhook fail", "not delivered",
    ),
    "database": (
        "database error", "database fail", "database unavailable", "database locked", "database refused",
        "operationalerror", "interfaceerror", "programmingerror", "integrityerror", "deadlock detected",
        "too many connections", "too many clients", "could not connect server", "connection server failed",
        "server closed the connection", "statement timeout", "disk image malformed",
    ),
    "integration": (
        "connection refused", "connection reset", "connectionerror", "connecttimeout", "readtimeout", "read timed out",
        "max retries exceeded", "bad gateway", "service unavailable", "gateway timeout", "name resolution",
        "name or service not known", "upstream timed out", "api error", "api failed", "certificate verify failed",
        "integration fail", "integration error", "sync failed", "synchronization failed",
    ),
}  # fmt: skip
_CLASS_LIMITS = {
    "failed_login": Threshold(info=0, warning=20, critical=1000),
    "token": Threshold(info=0, warning=50),
    "failed_check": Threshold(info=0, warning=2),
    "notification": Threshold(info=0, warning=4),
    "database": Threshold(info=0, warning=4),
    "integration": Threshold(info=0, warning=9),
}
_EVENT_LIMITS = {
    "failed_login": Threshold(info=0, warning=20, critical=1000),
    "deadlock": Threshold(info=0, warning=4),
    "checkpoint": Threshold(info=0, warning=4),
    "temp_file": Threshold(info=20, warning=1000),
    "lock_wait": Threshold(info=0, warning=20),
}


class Settings(RoutineSettings):
    """What in a log is trouble, and how much of it is too much. Counts are of one window."""

    lookback_hours: float = Field(24, gt=0, le=24 * 31, description="window of a run that has none (started by hand)")
    error_rate: Threshold = Field(
        Threshold(info=1, warning=5, critical=50),
        description="percent of the entries at level error or worse (CL-D09, CM-T01: 1 %; ST-A01: 50 % is critical)",
    )
    least_entries: int = Field(100, ge=1, description="entries below which a rate says nothing")
    critical_entries: Threshold = Field(
        Threshold(warning=0),
        description="entries of one pattern at level critical (MO-D03, ST-D03: each is to be seen)",
    )
    new_pattern: Threshold = Field(
        Threshold(info=0, warning=4),
        description="errors of one pattern that was never seen before in this log; rare ones turn up new for weeks",
    )
    top: int = Field(10, ge=1, le=100, description="patterns that are named in findings, of each kind")
    patterns: int = Field(200, ge=1, le=2000, description="error patterns that are remembered for the next run")
    spike_factor: float = Field(
        3, gt=1, description="errors are a spike above so many times the median of earlier runs"
    )
    spike_least: int = Field(20, ge=1, description="errors below which nothing is a spike")
    spike_runs: int = Field(5, ge=2, le=90, description="earlier runs without which no median is known")
    silent_least: int = Field(
        100, ge=1, description="median of entries in earlier runs from which on a window without any is suspicious"
    )
    unparsed: Threshold = Field(
        Threshold(warning=5), description="percent of the window's lines that do not have the log's format"
    )
    classes: dict[str, tuple[str, ...]] = Field(
        _CLASSES, description="kind of trouble -> phrases; a line counts that holds all words of one, in any order"
    )
    class_limits: dict[str, Threshold] = Field(_CLASS_LIMITS, description="lines of each kind of trouble")
    mild: tuple[str, ...] = Field(
        ("failed_login", "token"), description="kinds that count at every level; the others from warning on"
    )
    slow_query: Threshold = Field(
        Threshold(warning=1000),
        description="ms that a statement of a PostgreSQL log took on average (CM-M05: 1000 ms)",
    )
    events: dict[str, Threshold] = Field(_EVENT_LIMITS, description="kinds of entries of a PostgreSQL log")
    allow: tuple[str, ...] = Field(
        (), description="regular expressions; a secret is none where one matches its key and value (`password=test1`)"
    )
    decoded: pydantic.ByteSize = Field(
        pydantic.ByteSize(8 << 30), ge=1 << 20, description="bytes that a compressed file may decode to"
    )
    access: AccessLimits = Field(AccessLimits(), description="access logs: how they are read, and what is too much")
