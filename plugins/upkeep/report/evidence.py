"""What was done: actions with their outcome, backups with what proves them, and those that were removed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from upkeep.core.model import Severity
from upkeep.ledger.record import ActionRecord
from upkeep.report import human, recovered, restored
from upkeep.report.work import outcome_words

EVIDENCE_LIMIT = 4000
_NAMES = {
    "manifest_sha256": "manifest SHA-256",
    "content_sha256": "content SHA-256 (fingerprints of every table)",
    "lsn": "source position (LSN)",
    "snapshot_time": "snapshot taken",
    "decoded": "every row decoded",
    "seconds": "took",
    "bytes": "bytes read",
}
# What the heading and the first lines of a proof say.
_TOLD = ("id", "ok", "size_bytes", "source_bytes", "started")
_TOLD_TEST = ("id", "kind", "ok", "phases", "total_seconds", "rto_seconds", "age_seconds", "rpo_seconds", "differences",
              "smoke", "server_version", "method", "recovery_seconds", "checked", "errors")  # fmt: skip
_REMOVED = 20
_IDENTIFIERS = ("system_identifier", "server_version")


class Fact(NamedTuple):
    """One line of evidence."""

    label: str
    shown: human.Shown
    code: bool = False


class Proof(NamedTuple):
    """A backup, the verification or the restore test of one, or backups that were removed."""

    heading: str
    severity: Severity
    facts: tuple[Fact, ...]


class Deed(NamedTuple):
    """One action and what became of it."""

    name: str
    subject: str
    reason: str
    outcome: str
    severity: Severity
    detail: str
    undo: str
    approval: str
    """Why a person has to agree first; empty when nobody has."""
    took: human.Shown
    proofs: tuple[Proof, ...]
    evidence: str
    """Everything else that was noted, as JSON."""

    @property
    def short(self) -> str:
        """The detail, with what it is about where it does not say so itself."""
        told = self.subject in self.detail
        return self.detail if told or not self.detail else f"{self.name} {self.subject}: {self.detail}"


def deed(record: ActionRecord, zone: ZoneInfo) -> Deed:
    """Return an action as the report shows it, times in the time zone of its system."""
    outcome, severity = outcome_words(record.status)
    took = (record.closed_at - record.opened_at).total_seconds() if record.closed_at else None
    rest = {key: value for key, value in record.evidence.items() if not (key in _BLOCKS and isinstance(value, Mapping))}
    return Deed(
        name=human.label(record.action.name),
        subject=record.action.subject,
        reason=record.action.reason,
        outcome=outcome,
        severity=severity,
        detail=record.detail,
        undo=record.action.undo,
        approval=record.action.approval,
        took=human.duration(took) if took is not None else human.Shown(""),
        proofs=tuple(_proofs(record.evidence, zone)),
        evidence=as_json(rest) if rest else "",
    )


def as_json(value: Any) -> str:
    """Return evidence as readable JSON of limited length."""
    text = json.dumps(value, ensure_ascii=False, indent=1, default=str)
    return text if len(text) <= EVIDENCE_LIMIT else text[:EVIDENCE_LIMIT] + "\n… (all of it is in the ledger)"


def _proofs(evidence: Mapping[str, Any], zone: ZoneInfo) -> Iterator[Proof]:
    for name, block in _BLOCKS.items():
        if isinstance(evidence.get(name), Mapping) and evidence[name] != {"backups": []}:
            yield block(evidence[name], zone)


def _backup(backup: Mapping[str, Any], zone: ZoneInfo) -> Proof:
    known = (*_sizes(backup), *facts(backup, zone, _TOLD))
    return Proof(f"Backup {backup.get('id', '')}", Severity.OK, known)


def _verification(seen: Mapping[str, Any], zone: ZoneInfo) -> Proof:
    whole = seen.get("ok") is True
    said = "read back and found whole" if whole else "read back and NOT whole"
    heading = f"Verification of {seen.get('id', 'a backup')}: {said}"
    return Proof(heading, Severity.OK if whole else Severity.CRITICAL, tuple(facts(seen, zone, _TOLD)))


def _restore_test(seen: Mapping[str, Any], zone: ZoneInfo) -> Proof:
    """Show a restore test, whatever shape it has: a word that is not yes is no proof."""
    test = restored.of_evidence(seen)
    severity, word = restored.word(test)
    told = tuple(Fact(line.label, line.shown) for line in restored.lines(test))
    kind = f" ({seen['kind']})" if seen.get("kind") else ""
    heading = f"Restore test of {seen.get('id', 'a backup')}{kind}: {word}"
    return Proof(heading, severity, (*told, *facts(seen, zone, _TOLD_TEST)))


def _recovery(seen: Mapping[str, Any], zone: ZoneInfo) -> Proof:
    """Tell step by step how something was brought back."""
    severity, word = recovered.heading(seen)
    told = tuple(Fact(line.label, line.shown) for line in recovered.lines(seen, zone))
    return Proof(word, severity, (*told, *facts(seen, zone, recovered.TOLD)))


def _removed(seen: Mapping[str, Any], zone: ZoneInfo) -> Proof:
    """Name every backup that was removed, and why."""
    listed = seen.get("backups")
    gone = [b for b in listed if isinstance(b, Mapping)] if isinstance(listed, list) else []
    told = [Fact(str(b.get("id", "")), human.Shown(_why(b))) for b in gone[:_REMOVED]]
    if len(gone) > _REMOVED:
        told.append(Fact("and", human.Shown(f"{len(gone) - _REMOVED:,} more, see the ledger")))
    return Proof(f"Removed {human.plural(len(gone), 'backup')}", Severity.OK, (*told, *facts(seen, zone, ("backups",))))


def _document(made: Mapping[str, Any], zone: ZoneInfo) -> Proof:
    """Name a document that was made; it is kept in the ledger."""
    known = tuple(facts(made, zone, ("name", "content")))
    return Proof(f"Document {made.get('name', '')}", Severity.OK, known)


def _why(gone: Mapping[str, Any]) -> str:
    reasons = gone.get("reason", gone.get("reasons", ""))
    told = "; ".join(map(str, reasons)) if isinstance(reasons, (list, tuple)) else str(reasons)
    return ": ".join(filter(None, (str(gone.get("kind", "")), told)))


_BLOCKS: Mapping[str, Callable[[Mapping[str, Any], ZoneInfo], Proof]] = {
    "backup": _backup,
    "verification": _verification,
    "verification_of_copy": _verification,
    "restore_test": _restore_test,
    "removed": _removed,
    "recovery": _recovery,
    "artefact": _document,
}


def _sizes(backup: Mapping[str, Any]) -> Iterator[Fact]:
    """Say how big a backup is, how that compares with its source, and how fast it came about."""
    size, source = _number(backup.get("size_bytes")), _number(backup.get("source_bytes"))
    started, finished = _moment(backup.get("started")), _moment(backup.get("finished"))
    seconds = (finished - started).total_seconds() if started and finished else None
    if size is not None:
        yield Fact("size", human.size(size))
    if source is not None:
        yield Fact("source", human.size(source))
    if size is not None and source:
        yield Fact("ratio", human.percent(100 * size / source))
    if seconds is not None:
        yield Fact("took", human.duration(seconds))
    if seconds and source is not None:
        rate = human.size(source / seconds)
        yield Fact("rate", human.Shown(f"{rate.text}/s", f"{rate.exact} of the source a second"))


def facts(evidence: Mapping[str, Any], zone: ZoneInfo, told: Container[str] = ()) -> Iterator[Fact]:
    """Say everything that is not told elsewhere, by what the keys tell of their unit."""
    for key, value in evidence.items():
        if key not in told and value not in (None, "", [], {}):
            yield _fact(str(key), value, zone)


def _fact(key: str, value: Any, zone: ZoneInfo) -> Fact:
    name = _NAMES.get(key) or human.label(key.removesuffix("_bytes").removesuffix("_seconds"))
    if key.endswith("sha256"):
        return Fact(_NAMES.get(key, human.label(key)), human.Shown(str(value)), code=True)
    if at := _moment(value):
        return Fact(name, human.moment(at, zone))
    if isinstance(value, bool):
        return Fact(name, human.Shown("yes" if value else "no"))
    counted = _number(value)
    if counted is not None and key not in _IDENTIFIERS:
        unit = "bytes" if key.endswith("bytes") else "s" if key.endswith("seconds") else "count"
        return Fact(name, human.measured(counted, unit))
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return Fact(name, human.Shown("; ".join(value)))
    text = str(value) if isinstance(value, (str, int, float)) else human.clean(as_json(value), 600)
    return Fact(name, human.Shown(text), code=not isinstance(value, str) or "/" in value)


def _moment(value: Any) -> datetime | None:
    """Return the moment that a text in ISO 8601 with a time zone stands for, None for anything else."""
    if not isinstance(value, str) or "T" not in value:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo else None


def _number(value: Any) -> float | None:
    """Return a finite number, None for anything else."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None
