"""Moments and numbers of a log review as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

from upkeep.core.model import Finding, Measurement, Severity, Threshold


def span(first: datetime | None, last: datetime | None) -> str:
    """Return from when to when, nothing where the log has no times."""
    if first is None or last is None:
        return ""
    begin, end = first.astimezone(UTC), last.astimezone(UTC)
    if begin == end:
        return f" at {begin:%Y-%m-%d %H:%M:%S} UTC"
    return f" from {begin:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S} UTC"


def judged(
    check: str, subject: str, limit: Threshold, value: float, *, message: str, hint: str, unit: str = ""
) -> list[Finding]:
    """Return the finding of a number that crosses a limit, none when it does not."""
    severity, crossed = limit.crossed(value)
    if severity is Severity.OK:
        return []
    return [
        Finding(
            check=check,
            subject=subject,
            severity=severity,
            message=message,
            observed=f"{value:,.4g}{unit}" if value % 1 else f"{value:,.0f}{unit}",
            limit=f"{crossed:g}{unit}",
            hint=hint,
        )
    ]


def unknown(check: str, subject: str, message: str, hint: str) -> Finding:
    """Return the finding of something that could not be determined."""
    return Finding(check=check, subject=subject, severity=Severity.UNKNOWN, message=message, hint=hint)


def told(check: str, subject: str, message: str, hint: str = "", observed: str = "") -> Finding:
    """Return a finding that only informs."""
    return Finding(check=check, subject=subject, severity=Severity.INFO, message=message, hint=hint, observed=observed)


def measured(name: str, value: float, unit: str = "count", subject: str = "") -> Measurement:
    """Return a measurement."""
    return Measurement(name=name, value=value, unit=unit, subject=subject)
