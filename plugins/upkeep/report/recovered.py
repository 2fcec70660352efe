"""What was brought back, step by step: disaster-recovery tests and emergency restores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from upkeep.core.model import Severity
from upkeep.report import human

# What the lines below say; whatever else was noted follows them.
TOLD = ("steps", "parts", "answers", "seconds", "rto_seconds", "would_have_been_lost", "undo", "trouble")


class Line(NamedTuple):
    """One line of the account."""

    label: str
    shown: human.Shown


def heading(seen: Mapping[str, Any]) -> tuple[Severity, str]:
    """Return what it amounts to, and how bad that is. Without steps nothing is known of it."""
    troubled = [p for p in _entries(seen.get("parts")) if p.get("trouble")]
    badly = [a for a in _entries(seen.get("answers")) if a.get("well") is not True]
    if not _entries(seen.get("steps")):
        return Severity.UNKNOWN, "Nothing was noted of what was brought back"
    if troubled or badly or seen.get("trouble"):
        return Severity.CRITICAL, "Not everything came back"
    return Severity.OK, "Brought back"


def lines(seen: Mapping[str, Any], zone: ZoneInfo) -> Iterator[Line]:
    """Yield the timeline, what services answered, what would have been lost, and the way back."""
    yield from _total(seen)
    for step in _entries(seen.get("steps")):
        yield _step(step, zone)
    for answer in _entries(seen.get("answers")):
        word = "well" if answer.get("well") is True else "NOT well"
        yield Line(f"asked {answer.get('endpoint', '')}", _shown(word, answer.get("seconds"), answer.get("said")))
    if trouble := seen.get("trouble"):
        yield Line("trouble", human.Shown(human.one_line(trouble, 600)))
    for lost in _texts(seen.get("would_have_been_lost")):
        yield Line("would be lost", human.Shown(human.one_line(lost, 400)))
    for command in _texts(seen.get("undo")):
        yield Line("undo", human.Shown(human.one_line(command, 400)))


def _total(seen: Mapping[str, Any]) -> Iterator[Line]:
    took, promised = seen.get("seconds"), seen.get("rto_seconds")
    if isinstance(took, (int, float)):
        limit = f"RTO {human.duration(promised).text}" if isinstance(promised, (int, float)) else "no RTO is stated"
        shown = human.duration(took)
        yield Line("in all", human.Shown(f"{shown.text} ({limit})", shown.exact))


def _step(step: Mapping[str, Any], zone: ZoneInfo) -> Line:
    try:
        began = datetime.fromisoformat(str(step.get("began"))).astimezone(zone)
        label = f"{began:%H:%M:%S}"
    except ValueError:
        label = "some time"
    return Line(label, _shown(str(step.get("name", "")), step.get("seconds"), step.get("detail")))


def _shown(name: str, seconds: Any, said: Any) -> human.Shown:
    took = human.duration(seconds) if isinstance(seconds, (int, float)) else human.Shown("time unknown")
    told = human.one_line(f"{name}, {took.text}" + (f": {said}" if said else ""), 600)
    return human.Shown(told, took.exact)


def _entries(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [str(entry) for entry in value] if isinstance(value, list) else []
