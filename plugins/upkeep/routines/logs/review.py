"""Read the log lines of the run's window: errors, kinds of trouble, slow statements, secrets; access logs too.

**What it does.** It finds the files that the target's globs match, rotated and compressed ones included (each once,
none outside of the globs' folder), and reads exactly the lines whose time lies in the window. Lines without a time
belong to the line above. It counts entries by level, tells errors apart by their pattern (numbers, names, paths and
quoted text masked), remembers the patterns in the ledger, and looks for phrases of trouble and for secrets. Of a
PostgreSQL log it also reads slow statements, failed logins, deadlocks, checkpoints, temporary files and lock waits.
Of an access log it reads instead status classes, response times by route, clients, logins, tokens, uploads, attacks,
probes and scanners, in one pass.
Everything that is shown is redacted, and control characters are written out.

A bookmark of how far each file was read makes the next run quick. It is only a shortcut: without it, after a rotation,
or in a backfill of an old window, the answer is the same. Only of files whose lines carry no time at all it is the
bookmarks that tell the windows; what they cannot tell is said to be unknown.

**When it is red.**

- `new_pattern`: an error that this log never had before. What changed at its first moment: a release, a setting,
  another service? From the next run on it is known, and only counted.
- `critical`, `error_rate`, `spike`: what the program calls critical, too many errors, more than usual. Begin with the
  most frequent pattern in `errors`.
- `hits`: failed logins, token trouble, failed checks, notifications that were not sent, database and integration
  failures. The finding shows some lines; words and limits are settings (`classes`, `class_limits`).
- `secret`: a password, key, token or card number in a log. Stop logging it, replace it, clean files and backups.
- `slow_query`, `event`: see the hints; `database.slow_queries` has the plans.
- `unread`, `missing`, `window`: what the log says is unknown. The hint is the cure.
- `unparsed`: many lines do not have the declared format: what they say was not looked at for levels and patterns.
- `server_errors`, `response_time`, `route_time` ...: access logs; see the hints of each finding.
- `silent`: a log that always had entries has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from upkeep.core.access_log import AccessReview
from upkeep.core.cadence import Covers
from upkeep.core.job import Job
from upkeep.core.log_review import LogReport, ReviewLimits, ReviewOrder
from upkeep.core.model import Judgement
from upkeep.core.targets import LogSetTarget
from upkeep.routines.logs import _access, _review_database, _review_errors, _review_trouble
from upkeep.routines.logs._review_settings import Settings

__all__ = ["COVERS", "ROLE", "TARGETS", "TITLE", "Settings", "judge", "observe"]

TITLE = "Log review"
TARGETS = ("logs",)
COVERS = Covers.WINDOW
ROLE = "sysadmin"
_ACCESS = frozenset(("combined", "combined_time", "access_json"))


@dataclass(frozen=True)
class Seen:
    """What the lines of the window say."""

    report: LogReport
    access: AccessReview | None = None
    """Of an access log."""


def observe(job: Job[LogSetTarget, Settings]) -> Seen:
    """Read the lines of the window.

    :raises TransientError: a rotation kept moving the files while they were read.
    """
    if job.target.format in _ACCESS:
        return Seen(*job.tools.logs.access(order(job), job.settings.access.options))
    return Seen(job.tools.logs.review(order(job)))


def judge(job: Job[LogSetTarget, Settings], seen: Seen) -> Judgement:
    """Judge what was read, and say what could not be."""
    report, settings = seen.report, job.settings
    if seen.access is not None:
        files = Judgement(findings=tuple(_review_trouble.of_files(report)))
        return files + (_access.judge(seen.access, settings.access) if report.files else Judgement())
    judgement = _review_trouble.judge(report, settings)
    if report.files:
        rate = job.target.format != "postgres"
        judgement += _review_errors.judge(report, job.tools.history, job.tools.catalogue, settings, rate=rate)
    if report.database is not None:
        judgement += _review_database.judge(report.database, settings)
    return judgement


def order(job: Job[LogSetTarget, Settings]) -> ReviewOrder:
    """Return which lines are to be read: those of the window; of a run without one, of the hours before it."""
    window, settings = job.window, job.settings
    start = window.start if window.start < window.end else window.end - timedelta(hours=settings.lookback_hours)
    return ReviewOrder(
        target=job.target.id,
        paths=job.target.paths,
        format=job.target.format,
        zone=job.target.time_zone or job.system.timezone,
        start=start,
        end=window.end,
        newest=window.newest,
        limits=ReviewLimits(
            patterns=settings.patterns,
            decoded_bytes=settings.decoded,
            # What a database's server writes of logins and errors is told apart by its own words.
            classes={} if job.target.format == "postgres" else settings.classes,
            mild=settings.mild,
            allow=settings.allow,
        ),
    )
