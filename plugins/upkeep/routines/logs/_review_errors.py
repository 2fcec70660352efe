"""Errors of a log: their rate, their patterns against what was seen before, spikes and silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from upkeep.core.catalogue import Catalogue
from upkeep.core.job import History
from upkeep.core.log_review import LogReport, Pattern
from upkeep.core.model import Finding, Judgement, Measurement, Severity
from upkeep.routines.logs._review_say import judged, measured, span, told, unknown
from upkeep.routines.logs._review_settings import Settings

_SHOWN = 20
"""Patterns that the list of a log's errors shows."""


def judge(report: LogReport, history: History, catalogue: Catalogue, settings: Settings, *, rate: bool) -> Judgement:
    """Judge the errors of a window.

    :param rate: whether entries are so many that their share of errors says something (a server's log: no).
    """
    known = history.last("entries")
    findings = [
        *(_rate(report, settings) if rate else ()),
        *_critical(report.patterns, settings),
        *_new(report, history, catalogue, settings, first=known is None),
        *_spike(report, history, settings),
        *_silent(report, history, settings),
        *(_nobody_knows() if known is None and not report.entries and not catalogue.reachable else ()),
        *_listed(report),
    ]
    return Judgement(measurements=tuple(_measured(report)), findings=tuple(findings))


def _measured(report: LogReport) -> Iterator[Measurement]:
    yield measured("entries", report.entries)
    yield measured("errors", report.errors)
    for level, count in report.levels.items():
        yield measured("level", count, subject=level)
    if report.entries:
        yield measured("error_rate", 100 * report.errors / report.entries, "%")
    for pattern in report.patterns:
        yield measured("pattern", pattern.count, subject=pattern.text)
    if report.more_patterns:
        yield measured("pattern.others", report.more_patterns)


def _rate(report: LogReport, settings: Settings) -> list[Finding]:
    if report.entries < settings.least_entries:
        return []
    percent = 100 * report.errors / report.entries
    return judged(
        "error_rate",
        "",
        settings.error_rate,
        percent,
        message=f"{report.errors:,} of {report.entries:,} entries are errors; the most frequent:"
        f" {report.patterns[0].text if report.patterns else '?'}",
        hint="begin with the most frequent pattern; see finding `errors` for all of them",
        unit=" %",
    )


def _critical(patterns: Sequence[Pattern], settings: Settings) -> Iterator[Finding]:
    worst = [p for p in patterns if p.level == "critical"]
    for pattern in worst[: settings.top]:
        yield from judged(
            "critical",
            pattern.text,
            settings.critical_entries,
            pattern.count,
            message=_described(pattern),
            hint="read the log around this moment; what the program calls critical it cannot cure by itself",
        )


def _described(pattern: Pattern) -> str:
    times = "once" if pattern.count == 1 else f"{pattern.count:,} times"
    return f"{times}{span(pattern.first, pattern.last)}: {pattern.example}"


def _new(
    report: LogReport, history: History, catalogue: Catalogue, settings: Settings, *, first: bool
) -> Iterator[Finding]:
    """Name the patterns that this log never had before."""
    if not report.patterns:
        return
    if first:
        yield _nothing_known(report, catalogue)
        return
    before = history.latest("pattern")
    if not before and _lost(history):
        yield _unreachable()
        return
    fresh = [p for p in report.patterns if p.text not in before]
    for pattern in fresh[: settings.top]:
        yield from judged(
            "new_pattern",
            pattern.text,
            settings.new_pattern,
            pattern.count,
            message=f"an error that this log never had before, {_described(pattern)}",
            hint="what changed before its first moment: a release, a configuration, a certificate, another service?",
        )
    if rest := fresh[settings.top :]:
        worst = max((settings.new_pattern.judge(p.count) for p in rest), key=lambda s: s.rank)
        if worst is not Severity.OK:
            yield Finding(
                check="new_pattern",
                subject="others",
                severity=worst,
                message=f"{len(rest)} more errors that this log never had before, {sum(p.count for p in rest):,} times",
                observed=str(len(rest)),
                hint="cure those that are named first, or raise `top`",
            )


def _lost(history: History) -> bool:
    """Tell whether no pattern is known though there were errors: the ledger went away between two questions."""
    errors = history.series("errors", "", 28)
    return not errors or any(point.value for point in errors)


def _unreachable() -> Finding:
    message = "whether its errors are new is unknown: the ledger, which remembers them, cannot be reached"
    return unknown("new_pattern", "", message, "bring the ledger's database back (connection upkeep_ledger)")


def _nothing_known(report: LogReport, catalogue: Catalogue) -> Finding:
    if not catalogue.reachable:
        return _unreachable()
    message = f"the first review of this log: none of its {len(report.patterns)} error patterns is called new"
    return told("new_pattern", "", message, "from the next run on, new ones are")


def _spike(report: LogReport, history: History, settings: Settings) -> Iterator[Finding]:
    before = [point.value for point in history.series("errors", "", 28)]
    if len(before) < settings.spike_runs or report.errors < settings.spike_least:
        return
    usual = median(before)
    if report.errors > settings.spike_factor * usual:
        yield Finding(
            check="spike",
            subject="errors",
            severity=Severity.WARNING,
            message=f"{report.errors:,} errors; the median of the last {len(before)} runs is {usual:,.0f}",
            observed=f"{report.errors:,}",
            limit=f"{settings.spike_factor * usual:,.0f}",
            hint="look at the patterns whose count grew, and at what happened at their first moment",
        )


def _silent(report: LogReport, history: History, settings: Settings) -> Iterator[Finding]:
    before = [point.value for point in history.series("entries", "", 28)]
    if report.entries or report.missing or report.untimed or len(before) < settings.spike_runs:
        return
    if (usual := median(before)) >= settings.silent_least:
        yield Finding(
            check="silent",
            subject="",
            severity=Severity.WARNING,
            message=f"not one entry in this window; the median of the last {len(before)} runs is {usual:,.0f}",
            observed="0",
            limit="1",
            hint="does the program run, and does it write to these files (after a rotation: was it told to reopen)?",
        )


def _nobody_knows() -> Iterator[Finding]:
    message = "not one entry in this window; whether that is usual is unknown: the ledger cannot be reached"
    yield unknown("silent", "", message, "bring the ledger's database back (connection upkeep_ledger)")


def _listed(report: LogReport) -> Iterator[Finding]:
    """List the errors of the window: no new trouble, but where to look."""
    if not report.patterns:
        return
    lines = [f"{p.count:,} x {p.text}{span(p.first, p.last)}" for p in report.patterns[:_SHOWN]]
    rest = sum(p.count for p in report.patterns[_SHOWN:]) + report.more_patterns
    lines += [f"{rest:,} x other patterns"] if rest else []
    capped = "; not all could be told apart: raise `patterns`" if report.more_patterns else ""
    yield told(
        "errors",
        "",
        "\n".join([f"{report.errors:,} errors of {len(report.patterns)} patterns{capped}:", *lines]),
        "numbers, names and paths are masked; an example of each is in its own finding when it is new",
        f"{report.errors:,}",
    )
