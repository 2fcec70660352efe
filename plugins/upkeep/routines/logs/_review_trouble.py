"""Kinds of trouble that guides ask for, secrets in logs, and what of the logs is not known."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from upkeep.core.log_files import Unread
from upkeep.core.log_review import Hits, LogReport, Secret
from upkeep.core.model import Finding, Judgement, Severity
from upkeep.routines.logs._review_say import judged, measured, span, told, unknown
from upkeep.routines.logs._review_settings import Settings

# Doors that stay open, and what by law must not be there; tokens usually end by themselves.
_LASTING = frozenset({"private key", "AWS key", "API token", "password in URL", "password", "card number"})
_HINTS = {
    "failed_login": "who tried, from where: one account or address many times is guessing; block it, warn its owner",
    "token": "clients with an old token, a clock that is wrong, a changed signing key, or forged tokens",
    "failed_check": "read what the check says it expected, and run it by hand",
    "notification": "somebody was not told something: check the mail server or webhook, and send them again",
    "database": "see the findings of database.health of this run, and the database's log at this moment",
    "integration": "another service did not answer: see services.health of this run, and its status page",
}


def judge(report: LogReport, settings: Settings) -> Judgement:
    """Judge kinds of trouble, secrets and gaps."""
    measurements = [measured("hits", hits.count, subject=hits.name) for hits in report.hits]
    measurements += [measured("secrets", sum(s.count for s in report.secrets))]
    findings = [f for hits in report.hits for f in _hits(hits, settings)]
    findings += [_secret(secret) for secret in report.secrets]
    return Judgement(measurements=tuple(measurements), findings=tuple(findings)) + gaps(report, settings)


def _hits(hits: Hits, settings: Settings) -> list[Finding]:
    limit = settings.class_limits.get(hits.name)
    if limit is None:
        return []
    lines = "line" if hits.count == 1 else "lines"
    return judged(
        "hits",
        hits.name,
        limit,
        hits.count,
        message=f"{hits.count:,} {lines} of this kind{span(hits.first, hits.last)}:\n" + "\n".join(hits.examples),
        hint=_HINTS.get(hits.name, "read the lines around these"),
    )


def _secret(secret: Secret) -> Finding:
    lasting = secret.kind in _LASTING
    return Finding(
        check="secret",
        subject=f"{secret.kind} in {secret.file}",
        severity=Severity.CRITICAL if lasting else Severity.WARNING,
        message=f"{secret.count:,} x {secret.kind} in {secret.file}{span(secret.first, secret.last)}: {secret.example}",
        observed=f"{secret.count:,}",
        limit="0",
        hint="take it out of what the program logs, "
        + ("replace the secret, " if secret.kind != "card number" else "")
        + "and clean the files and their backups; if it is none, add a pattern to `allow` of logs.review",
    )


def gaps(report: LogReport, settings: Settings) -> Judgement:
    """Say what of the log could not be read or understood.

    How many files and bytes were read is no measurement: it differs between a run on time and a backfill.
    """
    lines = report.lines
    inside = lines.in_window + lines.unparsed
    percent = 100 * lines.unparsed / inside if inside else 0
    measurements = [
        measured("lines", inside),
        measured("lines.unparsed", lines.unparsed),
    ]
    findings = [*of_files(report), *_window(report)]
    findings += judged(
        "unparsed",
        "",
        settings.unparsed,
        percent,
        message="\n".join(
            [f"{lines.unparsed:,} of {inside:,} lines do not have the format of this log, such as:"]
            + [f"{sample.path}: {sample.text}" for sample in lines.samples]
        ),
        hint="correct `format` of the target, or let the program log in one format",
        unit=" %",
    )
    return Judgement(measurements=tuple(measurements), findings=tuple(findings))


def of_files(report: LogReport) -> Iterator[Finding]:
    """Name the files that could not be read, those that are not there, and those that were left out."""
    yield from _unread(report.lines.unread)
    yield from _missing(report)
    for path in report.copies:
        yield told("copies", Path(path).name, f"{path} repeats another file of the same log and was left out")


def _unread(unread: tuple[Unread, ...]) -> Iterator[Finding]:
    """Name files that were not read, by their reason: names of rotated files change, and the trouble is one."""
    by_reason = defaultdict[str, list[Unread]](list)
    for one in unread:
        by_reason[_kind(one.reason)].append(one)
    for kind, ones in sorted(by_reason.items()):
        names = "; ".join(f"{u.path}: {u.reason}" for u in ones[:5])
        more = f"; and {len(ones) - 5} more" if len(ones) > 5 else ""
        yield unknown("unread", kind, f"what these files say is unknown: {names}{more}", ones[0].hint)


def _kind(reason: str) -> str:
    """Return a reason without what differs from day to day."""
    return re.split(r" after | from |:", reason, maxsplit=1)[0] if any(c.isdigit() for c in reason) else reason


def _missing(report: LogReport) -> Iterator[Finding]:
    for pattern in report.missing:
        yield unknown(
            "missing",
            pattern,
            f"no file matches {pattern}: what this log says is unknown",
            "correct `paths` of the target, or see why nothing was written",
        )


def _window(report: LogReport) -> Iterator[Finding]:
    for name in report.untimed:
        yield unknown(
            "window",
            name,
            f"lines of {name} carry no time, and no run noted where this window began or ended in the file",
            "nothing can be done for a window that is past; let the program log times",
        )
    for name in report.first_look:
        yield told(
            "window",
            name,
            f"lines of {name} carry no time: as nothing earlier is known of it, all of them were counted",
            "let the program log times",
        )
