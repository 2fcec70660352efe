"""The part of the report that goes through every system, area by area."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from upkeep.core.model import Finding, Severity, worst
from upkeep.ledger.events import Expected
from upkeep.ledger.record import RoutineRecord, RunRecord
from upkeep.report import human
from upkeep.report.evidence import Deed, as_json, deed
from upkeep.report.extras import PROOF_AREAS, Extras
from upkeep.report.measures import Measures, fold_size, lay_out
from upkeep.report.shelf import Shelf, shelves
from upkeep.report.work import Work, notable, work

FINDINGS = 10
_FIRST_AREAS = ("database", "backup", "services", "logs", "dependencies", "model")


class Part(NamedTuple):
    """What one routine did on one target."""

    anchor: str
    title: str
    name: str
    target: str
    status: str
    severity: Severity
    reason: str
    hint: str
    facts: tuple[human.Shown, ...]
    dry_run: bool
    findings: tuple[Finding, ...]
    findings_more: tuple[Finding, ...]
    findings_left: int
    """Findings that are only counted here."""
    measures: Measures
    work: Work | None
    """Many actions, in short."""
    deeds: tuple[Deed, ...]
    """Actions with all their evidence: all of a few, some of many."""
    settings: str
    stored: tuple[human.Shown, ...]


class Area(NamedTuple):
    """The routines of one area, those without any result, and those that were left out."""

    name: str
    severity: Severity
    word: str
    """How the area is, in a word; empty when all is well."""
    parts: tuple[Part, ...]
    missing: tuple[Expected.Item, ...]
    skipped: tuple[Expected.Item, ...]
    shelves: tuple[Shelf, ...] = ()
    """The backups of the targets that were worked on, with their proof."""


class Section(NamedTuple):
    """One system."""

    anchor: str
    name: str
    title: str
    severity: Severity
    window: str
    areas: tuple[Area, ...]


def anchors(record: RunRecord) -> dict[tuple[str, str], str]:
    """Return the place of every routine's section on the page, by routine and target."""
    return {(r.key.routine, r.key.target): place for r, place in zip(record.routines, _places(record), strict=True)}


def _places(record: RunRecord) -> list[str]:
    return [f"r{number}" for number in range(1, len(record.routines) + 1)]


def sections(record: RunRecord, extras: Extras) -> tuple[Section, ...]:
    """Return every system of a run, worst first, then by name."""
    by_system: dict[str, list[RoutineRecord]] = {}
    expected: dict[str, list[Expected.Item]] = {}
    for routine in record.routines:
        by_system.setdefault(routine.system, []).append(routine)
    for item in record.expected:
        expected.setdefault(item.system, []).append(item)
    places = dict(zip((r.key for r in record.routines), _places(record), strict=True))
    missing, fold = set(record.missing), fold_size(len(record.routines))
    made = []
    for name in sorted(by_system.keys() | expected.keys()):
        ordered = sorted(by_system.get(name, ()), key=lambda r: (r.key.routine, r.key.target, r.key.task))
        parts = [_part(routine, places[routine.key], extras, fold) for routine in ordered]
        areas = _with_shelves(_areas(parts, expected.get(name, ()), missing), ordered, extras, fold)
        title = extras.titles.get(name, "System files" if name == "site" else name)
        made.append(Section("", name, title, worst(a.severity for a in areas), _window(record, name, extras), areas))
    made.sort(key=lambda section: -section.severity.rank)
    return tuple(section._replace(anchor=f"s{number}") for number, section in enumerate(made, 1))


def _window(record: RunRecord, system: str, extras: Extras) -> str:
    if record.window_end is None:
        return ""
    start, end = (human.moment(at, extras.zone(system)).text for at in (record.window_start, record.window_end))
    return f"{start} to {end}"


def _areas(parts: list[Part], expected: Iterable[Expected.Item], missing: set[Expected.Item]) -> tuple[Area, ...]:
    by_area: dict[str, list[Part]] = {}
    for part in parts:
        by_area.setdefault(part.name.split(".", 1)[0], []).append(part)
    shown = {(part.name, part.target) for part in parts}
    bare: dict[str, list[Expected.Item]] = {}
    for item in expected:
        if (item.routine, item.target) not in shown:
            bare.setdefault(item.routine.split(".", 1)[0], []).append(item)
    return tuple(
        _make_area(name, by_area.get(name, []), bare.get(name, []), missing)
        for name in sorted(by_area.keys() | bare.keys(), key=_area_rank)
    )


def _with_shelves(
    areas: tuple[Area, ...], routines: Iterable[RoutineRecord], extras: Extras, fold: int
) -> tuple[Area, ...]:
    """Put the backups of the targets that backup routines worked on below the first area that is about backups."""
    targets = dict.fromkeys(r.key.target for r in routines if r.area in PROOF_AREAS)
    backups = [backup for target in targets for backup in extras.proofs.get(target, ())]
    place = next((area.name for area in areas if area.name in PROOF_AREAS), "")
    if not backups:
        return areas
    found = shelves(backups, extras.now, extras.zone(backups[0].target.split("/", 1)[0]), fold)
    return tuple(area._replace(shelves=found) if area.name == place else area for area in areas)


def _area_rank(name: str) -> tuple[int, str]:
    return (_FIRST_AREAS.index(name) if name in _FIRST_AREAS else len(_FIRST_AREAS), name)


def _make_area(name: str, parts: list[Part], bare: list[Expected.Item], missing: set[Expected.Item]) -> Area:
    gone = tuple(item for item in bare if item in missing)
    left_out = tuple(item for item in bare if item.skip)
    also = [*([Severity.CRITICAL] if gone else []), *([Severity.INFO] if left_out else [])]
    severity = worst([*(part.severity for part in parts), *also])
    skipped = bool(left_out) or any(part.status == "skipped" for part in parts)
    return Area(
        name=name,
        severity=severity,
        word="" if severity is Severity.OK else "skipped" if severity is Severity.INFO and skipped else severity.value,
        parts=tuple(parts),
        missing=gone,
        skipped=left_out,
    )


def status(routine: RoutineRecord) -> tuple[str, Severity]:
    """Return what became of a routine, in a word, and how bad that is. A try without an end is never good."""
    match routine.state:
        case "running" | "died":
            return "no result", Severity.CRITICAL
        case "waiting":
            # A report is made when all work has ended: this was ended while it waited.
            return "ended while waiting", Severity.CRITICAL
        case "failed":
            return "failed" if routine.reason else "critical", Severity.CRITICAL
        case "retry":
            return "not repeated", worst((routine.severity, Severity.UNKNOWN))
        case "skipped":
            return "skipped", worst((routine.severity, Severity.INFO))
        case _:
            return routine.severity.value, routine.severity


def _part(routine: RoutineRecord, place: str, extras: Extras, fold: int) -> Part:
    word, severity = status(routine)
    zone = extras.zone(routine.system)
    began = human.moment(routine.opened_at, zone)
    facts = [human.Shown(f"{routine.opened_at.astimezone(zone):%H:%M:%S %Z}", began.exact)]
    if routine.seconds is not None:
        facts.insert(0, human.duration(routine.seconds))
    facts.append(human.Shown(f"try {routine.key.try_number}"))
    ranked = tuple(sorted(routine.findings, key=lambda finding: -finding.severity.rank))
    return Part(
        anchor=place,
        title=routine.title,
        name=routine.key.routine,
        target=routine.key.target,
        status=word,
        severity=severity,
        reason=routine.reason,
        hint=routine.hint,
        facts=tuple(facts),
        dry_run=routine.dry_run,
        findings=ranked[:FINDINGS],
        findings_more=ranked[FINDINGS : FINDINGS + fold],
        findings_left=max(len(ranked) - FINDINGS - fold, 0),
        measures=lay_out(routine, extras, fold),
        work=work(routine.actions, fold),
        deeds=tuple(deed(action, zone) for action in notable(routine.actions)),
        settings=as_json(routine.settings) if routine.settings else "",
        stored=_stored(routine, extras) if routine.area == "backup" and routine.key.target not in extras.proofs else (),
    )


def _stored(routine: RoutineRecord, extras: Extras) -> tuple[human.Shown, ...]:
    """Say what the catalogue holds for the target of a backup routine."""
    known, zone = extras.stored.get(routine.key.target), extras.zone(routine.system)
    if known is None:
        return (human.Shown("what is in the catalogue is unknown (no ledger)"),) if extras.ledger_away else ()
    newest = human.moment(known.newest_at, zone)
    said = [human.Shown(f"{human.plural(known.kept, 'backup')} on record, the newest of {newest.text}", newest.exact)]
    if known.proven_at:
        proven = human.moment(known.proven_at, zone)
        whole = f"The newest one read back and found whole: {known.proven_id}, {proven.text}"
        said.append(human.Shown(whole, proven.exact))
    else:
        said.append(human.Shown("None of them has been read back yet"))
    return tuple(said)
