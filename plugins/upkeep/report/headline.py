"""The first words of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from upkeep.core.model import Severity, worst
from upkeep.ledger.record import UNFINISHED, RunRecord
from upkeep.ledger.verdict import Verdict
from upkeep.report import human
from upkeep.report.attention import Item, needs_human


class Headline(NamedTuple):
    """How a run went, in words."""

    severity: Severity
    text: str
    counts: tuple[tuple[Severity, str], ...]
    """How many of each kind need a human, in words."""
    scope: str
    """How much was looked at."""


def headline(record: RunRecord, verdict: Verdict, items: Sequence[Item]) -> Headline:
    """Return the headline; what is unknown about the record itself keeps it from being good.

    The verdict alone decides the run's state in Airflow. The headline may be worse, never better.
    """
    severity = worst((verdict.severity, *(item.severity for item in items)))
    count = Counter(item.severity for item in items if needs_human(item))
    words = tuple(
        (s, _counted(s, count[s])) for s in (Severity.CRITICAL, Severity.UNKNOWN, Severity.WARNING) if count[s]
    )
    if severity.rank <= Severity.INFO.rank and not any(routine.state == "success" for routine in record.routines):
        return Headline(Severity.INFO, "Nothing was done: all of it was skipped", words, _scope(record))
    proposed = sum(action.status == "proposed" for routine in record.routines for action in routine.actions)
    return Headline(severity, _text(severity, count, proposed), words, _scope(record))


def _counted(severity: Severity, count: int) -> str:
    return human.plural(count, "warning") if severity is Severity.WARNING else f"{count:,} {severity}"


def is_dry(record: RunRecord) -> bool:
    """Tell whether the run only said what it would do."""
    looked = [routine.dry_run for routine in record.routines if routine.state != "skipped"]
    return bool(record.params.get("dry_run")) or (bool(looked) and all(looked))


def _text(severity: Severity, count: Counter[Severity], proposed: int) -> str:
    match severity:
        case Severity.CRITICAL:
            needs = "needs" if count[severity] == 1 else "need"
            return f"Critical: {human.plural(count[severity], 'thing')} {needs} a human now"
        case Severity.UNKNOWN:
            return f"Unknown: {human.plural(count[severity], 'thing')} could not be determined"
        case Severity.WARNING:
            needs = "needs" if count[severity] == 1 else "need"
            return f"Warning: {human.plural(count[severity], 'thing')} {needs} a look"
        case _:
            if proposed:
                waits = "waits" if proposed == 1 else "wait"
                return f"All well: {human.plural(proposed, 'change')} {waits} for approval"
            return "All well: nothing needs a human"


def _scope(record: RunRecord) -> str:
    """Say how much was looked at: a green page about nothing must not look like a green page."""
    missing = len(record.missing)
    ended = [r for r in record.routines if r.state not in UNFINISHED]
    skipped = sum(r.state == "skipped" for r in ended)
    # What was selected; the selection itself is recorded under a system that does not exist.
    systems = {item.system for item in record.expected}
    said = f"{human.plural(len(ended) - skipped, 'result')} on {human.plural(len(systems), 'system')}"
    return said + (f", {skipped} skipped" if skipped else "") + (f", {missing} missing" if missing else "")
