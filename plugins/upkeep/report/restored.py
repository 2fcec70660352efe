"""Restore tests in words: what was compared, how long each phase took, and whether that is what was promised."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from upkeep.core.model import Model, Severity
from upkeep.report import human

_DIFFERENCES = 10
_FINGERPRINTS = "fingerprints"


class Test(Model):
    """One restore test, as the ledger keeps it. Seconds are None where nobody measured or promised them."""

    __test__ = False  # pytest would take it for a test of ours

    ok: bool | None = None
    at: datetime | None = None
    seconds: dict[str, Any] = {}
    total_seconds: float | None = None
    recovery_seconds: float | None = None
    """Until the database could be worked with: what an RTO is about. The whole test takes longer, for the proof."""
    rto_seconds: float | None = None
    age_seconds: float | None = None
    rpo_seconds: float | None = None
    differences: Any = None
    smoke: Any = None
    server_version: str = ""
    method: str = ""
    checked: tuple[str, ...] = ()
    """What was done to it: `fingerprints` compare every row with the source. Empty where nobody says."""
    errors: tuple[str, ...] = ()


class Said(NamedTuple):
    """One line about a test: `label` names it, `severity` is worse than ok where a promise was not kept."""

    label: str
    shown: human.Shown
    severity: Severity = Severity.OK


def of_evidence(evidence: Mapping[str, Any], at: datetime | None = None) -> Test:
    """Return the test that a routine told of; what is not of the shape it should have is left out."""
    phases = evidence.get("phases")
    seconds = dict(phases) if isinstance(phases, Mapping) else {}
    measured = [number for value in seconds.values() if (number := _number(value)) is not None]
    total = _number(evidence.get("total_seconds"))
    return Test(
        ok=evidence["ok"] if isinstance(evidence.get("ok"), bool) else None,
        at=at,
        seconds={str(name): value for name, value in seconds.items()},
        total_seconds=sum(measured) if total is None and measured else total,
        recovery_seconds=_number(evidence.get("recovery_seconds")),
        rto_seconds=_number(evidence.get("rto_seconds")),
        age_seconds=_number(evidence.get("age_seconds")),
        rpo_seconds=_number(evidence.get("rpo_seconds")),
        differences=evidence.get("differences"),
        smoke=evidence.get("smoke"),
        server_version=str(evidence.get("server_version") or ""),
        method=str(evidence.get("method") or ""),
        checked=_texts(evidence.get("checked")),
        errors=_texts(evidence.get("errors")),
    )


def word(test: Test) -> tuple[Severity, str]:
    """Return what a restore test amounts to; one without an answer is unknown, never good."""
    if test.ok is None:
        return Severity.UNKNOWN, "no result"
    if not test.ok:
        return Severity.CRITICAL, "restore failed"
    return Severity.OK, "restored, identical" if _FINGERPRINTS in test.checked else "restored, well"


def lines(test: Test) -> Iterator[Said]:
    """Yield what a test showed: times against what was promised, phases, differences, the application's questions."""
    if test.recovery_seconds is not None:
        yield _against("back after", test.recovery_seconds, test.rto_seconds, "RTO")
    elif test.total_seconds is not None:
        yield _against("took", test.total_seconds, test.rto_seconds, "RTO")
    if test.age_seconds is not None:
        yield _against("age then", test.age_seconds, test.rpo_seconds, "RPO")
    if phases := phases_of(test.seconds):
        yield Said("phases", phases)
    if test.recovery_seconds is not None and test.total_seconds is not None:
        yield Said("with the proof", human.duration(test.total_seconds))
    if test.errors:
        yield Said("errors", human.Shown(human.one_line("; ".join(test.errors), 600)), Severity.CRITICAL)
    if different := differences(test.differences):
        yield Said("differs", human.Shown(different), Severity.CRITICAL)
    elif test.ok and _FINGERPRINTS in test.checked:
        yield Said("differs", human.Shown("nothing"))
    if test.checked:
        yield Said("checked", human.Shown(", ".join(test.checked)))
    yield from _smoke(test.smoke)
    server = ", ".join(
        filter(None, (test.server_version, {"local": "own scratch server"}.get(test.method, test.method)))
    )
    if server:
        yield Said("restored on", human.Shown(server))


def phases_of(seconds: Mapping[str, Any]) -> human.Shown | None:
    """Return the time of each phase in one line, None when there is none.

    >>> phases_of({"fetch": 1.5, "restore": 200}).text
    'fetch 1.5 s, restore 3 min 20 s'
    """
    known = {name: number for name, value in seconds.items() if (number := _number(value)) is not None}
    if not known:
        return None
    told = ", ".join(f"{human.label(str(name))} {human.duration(value).text}" for name, value in known.items())
    return human.Shown(told, ", ".join(f"{name} {value:.6g} s" for name, value in known.items()))


def differences(found: Any) -> str:
    """Name what differs, table by table, in one text; empty when nothing does."""
    entries = list(found) if isinstance(found, Sequence) and not isinstance(found, str) else [found] if found else []
    told = "; ".join(_difference(entry) for entry in entries[:_DIFFERENCES])
    more = len(entries) - _DIFFERENCES
    return f"{told}; and {more:,} more" if more > 0 else told


def _difference(entry: Any) -> str:
    if not isinstance(entry, Mapping):
        return human.one_line(entry, 300)
    name = entry.get("name") or entry.get("table") or entry.get("subject") or ""
    named = ".".join(map(str, name)) if isinstance(name, (list, tuple)) else str(name)
    rest = {k: v for k, v in entry.items() if k not in ("name", "table", "subject") and v not in (None, "", [], {})}
    return human.one_line(f"{named}: {', '.join(f'{human.label(k)} {v}' for k, v in rest.items())}", 300)


def _smoke(answers: Any) -> Iterator[Said]:
    """Yield the answers to the application's own questions; only a plain yes is good."""
    if not isinstance(answers, Mapping) or not answers:
        return
    bad = [f"{name}: {_answer(value)}" for name, value in answers.items() if not _passed(value)]
    good = [str(name) for name, value in answers.items() if _passed(value)]
    if good:
        yield Said("questions answered", human.Shown(", ".join(good)))
    if bad:
        yield Said("questions failed", human.Shown("; ".join(bad)), Severity.CRITICAL)


def _passed(value: Any) -> bool:
    found = value.get("ok") if isinstance(value, Mapping) else value
    return found is True or found == "ok"


def _answer(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{human.label(str(k))} {v}" for k, v in value.items() if k != "ok") or "not ok"
    return "not ok" if value is False else human.one_line(value, 300)


def _against(label: str, seen: float, promised: float | None, name: str) -> Said:
    shown = human.duration(seen)
    if promised is None:
        return Said(label, human.Shown(f"{shown.text} (no {name} is stated)", shown.exact))
    limit = human.duration(promised).text
    if seen <= promised:
        return Said(label, human.Shown(f"{shown.text} of {limit} ({name})", shown.exact))
    return Said(label, human.Shown(f"{shown.text}, over the {limit} of the {name}", shown.exact), Severity.WARNING)


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None


def _texts(found: Any) -> tuple[str, ...]:
    return tuple(map(str, found)) if isinstance(found, (list, tuple)) else ()
