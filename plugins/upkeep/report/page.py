"""Builds a report. Pure: what it needs is handed in, the time included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from upkeep.core.model import Severity
from upkeep.ledger.events import Escalated
from upkeep.ledger.record import RunRecord
from upkeep.ledger.verdict import Verdict
from upkeep.report import human, sections
from upkeep.report.approvals import approvals
from upkeep.report.attention import grouped, items, needs_human
from upkeep.report.evidence import as_json
from upkeep.report.extras import Extras, Report
from upkeep.report.headline import headline, is_dry
from upkeep.report.markdown import maintenance_log
from upkeep.report.templating import render

BAR = "<!--bar-->"
"""Where a page that shows a kept report may put its own navigation. No foreign text can forge it: `<` is escaped."""
_ITEMS_SHOWN = 25
_ITEMS_FOLDED = 200
_SYSTEMS_OPEN = 12


class Delivery(NamedTuple):
    """One way in which somebody was told, and what proves it."""

    contact: str
    way: str
    proof: str
    severity: Severity
    detail: str


class Told(NamedTuple):
    """One escalation and its deliveries."""

    at: human.Shown
    cause: str
    subject: str
    rung: int
    message: str
    deliveries: tuple[Delivery, ...]


def build(record: RunRecord, verdict: Verdict, extras: Extras) -> Report:
    """Return the report of a run as one self-contained HTML page and as a maintenance log in Markdown."""
    found = items(record, extras)
    head = headline(record, verdict, found)
    urgent = grouped(item for item in found if needs_human(item))
    notes = grouped(item for item in found if not needs_human(item))
    systems = sections.sections(record, extras)
    html = render(
        "report.html",
        run=record.run,
        head=head,
        reasons=() if urgent else verdict.reasons,
        dry_run=is_dry(record),
        urgent=urgent[:_ITEMS_SHOWN],
        urgent_more=urgent[_ITEMS_SHOWN : _ITEMS_SHOWN + _ITEMS_FOLDED],
        urgent_left=max(len(urgent) - _ITEMS_SHOWN - _ITEMS_FOLDED, 0),
        notes=notes[:_ITEMS_FOLDED],
        notes_left=max(len(notes) - _ITEMS_FOLDED, 0),
        anchors=sections.anchors(record),
        told=[told(escalation, extras) for escalation in record.escalations],
        approvals=list(approvals(record, extras)),
        systems=systems,
        fine=_fine(systems),
        ledger_away=extras.ledger_away,
        facts=facts(record, extras),
        params=as_json(record.params) if record.params else "",
        bar=BAR,
    )
    return Report(run=record.run, html=html, markdown=maintenance_log(record, head, found, extras))


def _fine(systems: Sequence[sections.Section]) -> int:
    """Return how many systems, from the end, the overview folds away: with many, those in good order are one line."""
    good = sum(section.severity.rank <= Severity.INFO.rank for section in systems)
    return good if len(systems) > _SYSTEMS_OPEN else 0


def told(escalation: Escalated, extras: Extras) -> Told:
    """Return who was told what, and what proves it; a channel without proof is unknown."""
    proofs = {
        True: ("delivered", Severity.OK),
        False: ("not delivered", Severity.CRITICAL),
        None: ("no proof", Severity.UNKNOWN),
    }
    made = [
        Delivery(d.contact, " ".join(filter(None, (d.channel, d.address))), *proofs[d.delivered], d.detail)
        for d in escalation.deliveries
    ]
    nobody = Delivery("nobody", "", "stands in this report only", Severity.UNKNOWN, "")
    at = human.moment(escalation.at, extras.zone(escalation.system))
    return Told(at, escalation.cause, escalation.subject, escalation.rung, escalation.message, tuple(made) or (nobody,))


def facts(record: RunRecord, extras: Extras) -> list[tuple[str, human.Shown]]:
    """Return the facts of a run: which, of what kind, for which window, when."""
    zones = _zones(record, extras)
    first = ZoneInfo(zones[0])
    rows: list[tuple[str, Any]] = [
        ("DAG", human.Shown(record.run.dag_id)),
        ("Run", human.Shown(record.run.run_id)),
        ("Type", human.Shown(record.run_type or "unknown")),
        ("Cadence", human.Shown(record.cadence or "unknown")),
    ]
    for name in zones if record.window_end else ():
        zone = ZoneInfo(name)
        start, end = human.moment(record.window_start, zone), human.moment(record.window_end, zone)
        exact = f"{start.exact} to {end.exact}"
        rows.append(
            (f"Window, {name}" if len(zones) > 1 else "Window", human.Shown(f"{start.text} to {end.text}", exact))
        )
    rows.append(("Began", human.moment(record.opened_at, first)))
    rows.append(("Ended" if record.closed else "Reported", human.moment(_end(record, extras), first)))
    if record.opened_at:
        rows.append(("Duration", human.duration((_end(record, extras) - record.opened_at).total_seconds())))
    mode = "dry run: nothing was changed" if is_dry(record) else "for real"
    return [*rows, ("Mode", human.Shown(mode)), ("Ledger", human.Shown(_ledger(extras)))]


def _zones(record: RunRecord, extras: Extras) -> list[str]:
    """Return the time zones of the systems in the run; with more than four, UTC, and each system tells its own."""
    systems = dict.fromkeys([*(i.system for i in record.expected), *(r.system for r in record.routines)])
    zones = sorted({extras.zones.get(system, "UTC") for system in systems})
    return zones if 0 < len(zones) <= 4 else ["UTC"]


def _end(record: RunRecord, extras: Extras) -> Any:
    return record.closed.at if record.closed else extras.now


def _ledger(extras: Extras) -> str:
    if extras.ledger_away:
        return f"away: {extras.ledger_away}"
    return f"{human.plural(extras.rejected, 'record')} set aside" if extras.rejected else "everything is recorded"
