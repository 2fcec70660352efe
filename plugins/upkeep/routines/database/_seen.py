"""What `database.health` observes, and how a number becomes a finding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from upkeep.core.job import Failed
from upkeep.core.model import Finding, Measurement, Severity, Threshold

Row = Mapping[str, Any]
# Seconds or percent that nothing reaches (31 years): a threshold without limits is never crossed.
NEVER = 1e9


@dataclass(frozen=True)
class Seen:
    """Everything that one look at a database gave. `lost` says why the look ended before its end, if it did."""

    place: str
    connect_ms: float | None = None
    pings: tuple[float, ...] = ()
    answers: Mapping[str, list[dict[str, Any]] | Failed] = field(default_factory=dict)
    lost: str = ""
    round_trips: int = 0

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """Return the rows of a statement of this area; none when it failed or was never asked."""
        answer = self.answers.get(f"database/{statement}")
        return answer if isinstance(answer, list) else []

    def row(self, statement: str) -> Row:
        """Return the only row of a statement, an empty one when there is none."""
        return next(iter(self.rows(statement)), {})

    @property
    def failed(self) -> dict[str, Failed]:
        """The statements of this area that gave no rows, but for those that a lost connection took with it."""
        failed = {name.split("/")[1]: a for name, a in self.answers.items() if isinstance(a, Failed)}
        return {name: a for name, a in failed.items() if a.reason != "gone"}


def lowest(threshold: Threshold) -> float:
    """Return the limit that is crossed first."""
    limits = [limit for limit in (threshold.info, threshold.warning, threshold.critical) if limit is not None]
    if not limits:
        return -NEVER if threshold.direction == "below" else NEVER
    return max(limits) if threshold.direction == "below" else min(limits)


def judged(
    check: str,
    subject: str,
    threshold: Threshold,
    value: float,
    *,
    message: str,
    hint: str,
    say: Callable[[float], str] = "{:g}".format,
    at_most: Severity = Severity.CRITICAL,
) -> tuple[Finding, ...]:
    """Return the finding of a value that crosses a threshold, none when it does not.

    :param say: writes value and limit with their unit.
    :param at_most: the severity that this value can reach, whatever the limits.
    """
    severity, limit = threshold.crossed(value)
    if limit is None:
        return ()
    severity = min(severity, at_most, key=lambda s: s.rank)
    finding = Finding(
        check=check,
        subject=subject,
        severity=severity,
        message=message,
        hint=hint,
        observed=say(value),
        limit=say(limit),
    )
    return (finding,)


def worst_by_key(findings: list[Finding]) -> tuple[Finding, ...]:
    """Keep the worst finding of each key, the first of equals."""
    kept: dict[tuple[str, str], Finding] = {}
    for finding in sorted(findings, key=lambda f: -f.severity.rank):
        kept.setdefault((finding.check, finding.subject), finding)
    return tuple(kept.values())


def measured(name: str, value: float | None, unit: str, subject: str = "") -> tuple[Measurement, ...]:
    """Return a measurement, none when there is no value."""
    return () if value is None else (Measurement(name=name, value=float(value), unit=unit, subject=subject),)


def percent(value: float) -> str:
    """Write a percentage."""
    return f"{value:.1f} %"
