"""What a review of application and database logs asks for, and what it gives."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from pydantic import Field

from upkeep.core.access_log import AccessOptions, AccessReview
from upkeep.core.log_files import Lines
from upkeep.core.logs import LogFormat
from upkeep.core.model import Model

LEVELS = ("critical", "error", "warning", "info", "debug", "none")
"""Levels, worst first, by whatever name a log calls them; `none`: the line names no level."""


class ReviewLimits(Model):
    """What bounds a review, and the words that it looks for."""

    patterns: int = Field(200, ge=1, description="error patterns that are told apart in the result")
    statements: int = Field(100, ge=1, description="slow statements that are told apart in the result")
    decoded_bytes: int = Field(8 << 30, ge=1, description="bytes that a compressed file may decode to")
    classes: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="kind of trouble -> phrases: a line that holds all words of one counts"
    )
    mild: tuple[str, ...] = Field((), description="classes that count at any level; others from warning on only")
    allow: tuple[str, ...] = Field((), description="regular expressions of texts that look like secrets and are none")


class ReviewOrder(Model):
    """Which lines of which files are to be reviewed: those in [start, end)."""

    target: str
    paths: tuple[str, ...]
    format: LogFormat
    zone: str
    start: datetime
    end: datetime
    newest: bool = True
    limits: ReviewLimits = ReviewLimits()


class Pattern(Model):
    """Errors that differ only in numbers, names and paths. Moments are None where the log has no times."""

    text: str
    """Level and message with everything variable masked: the same tomorrow."""
    level: str
    count: int
    first: datetime | None
    last: datetime | None
    example: str
    """One of them, redacted and shortened."""


class Hits(Model):
    """Lines of one kind of trouble (`failed_login`)."""

    name: str
    count: int
    first: datetime | None
    last: datetime | None
    examples: tuple[str, ...]


class Secret(Model):
    """Something secret that was written to a log. `file` is the log's name without rotation suffixes."""

    kind: str
    file: str
    count: int
    first: datetime | None
    last: datetime | None
    example: str
    """The surroundings, with the secret itself taken out."""


class Statement(Model):
    """A statement that the server found slow, without literals. Times in ms."""

    text: str
    count: int
    total_ms: float
    worst_ms: float


class DatabaseEvents(Model):
    """What a PostgreSQL log tells beside errors."""

    statements: tuple[Statement, ...] = ()
    more_statements: int = 0
    sqlstates: dict[str, int] = {}
    events: dict[str, int] = {}
    """Counts of `deadlock`, `checkpoint`, `temp_file`, `lock_wait`, `failed_login`."""
    temp_bytes: int = 0
    examples: dict[str, str] = {}


class LogReport(Model):
    """What the lines of a window say."""

    lines: Lines = Lines()
    files: int = 0
    """Files that were looked at, those without a line of the window included."""
    missing: tuple[str, ...] = ()
    """Globs that match nothing."""
    untimed: tuple[str, ...] = ()
    """Files whose lines carry no time and of which nobody noted where this window began: unknown."""
    first_look: tuple[str, ...] = ()
    """Files without times that were counted whole, because nothing earlier is known of them."""
    copies: tuple[str, ...] = ()
    """Files that repeat another file of the same log and were left out."""
    entries: int = 0
    levels: dict[str, int] = {}
    patterns: tuple[Pattern, ...] = ()
    more_patterns: int = 0
    """Errors whose patterns were one too many to be told apart."""
    hits: tuple[Hits, ...] = ()
    secrets: tuple[Secret, ...] = ()
    database: DatabaseEvents | None = None

    @property
    def errors(self) -> int:
        """Entries at level error or worse."""
        return self.levels.get("error", 0) + self.levels.get("critical", 0)


class LogReader(Protocol):
    """Reads log files; see `adapters.log_review`."""

    def review(self, order: ReviewOrder) -> LogReport:
        """Read the lines of a window. What cannot be read is part of the report.

        :raises TransientError: the files kept being rotated while they were read.
        :raises ConfigurationError: a pattern of the allow-list is none.
        """
        ...

    def access(self, order: ReviewOrder, options: AccessOptions) -> tuple[LogReport, AccessReview]:
        """Read the lines of a window of an access log; the report tells of files only: what was not read, and why.

        :raises TransientError: as `review`.
        """
        ...
