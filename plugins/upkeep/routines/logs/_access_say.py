"""How findings about access logs are put."""

from __future__ import annotations

from collections.abc import Iterable

from upkeep.core.access_log import Answers, ClientUse
from upkeep.core.model import Finding, Severity, Threshold

WEIGHTS = {"attacks": 20, "probes": 5, "scanner": 5, "failed_logins": 3, "denied": 1, "writes_failed": 1}
"""What a request of each kind adds to a client's score (ours: an attack weighs more than a mistyped password)."""


def score(client: ClientUse) -> int:
    """Return how suspicious a client is."""
    return sum(weight * int(getattr(client, name)) for name, weight in WEIGHTS.items())


def judged(
    check: str, subject: str, limit: Threshold, value: float, *, message: str, hint: str, unit: str
) -> list[Finding]:
    """Return the finding of a number that crosses a limit, none when it does not."""
    severity, crossed = limit.crossed(value)
    if crossed is None:
        return []
    number = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"
    return [
        Finding(
            check=check, subject=subject, severity=severity, message=message, observed=number + unit,
            limit=f"{crossed:g}{unit}", hint=hint,
        )
    ]  # fmt: skip


def told(check: str, subject: str, message: str, *, severity: Severity = Severity.INFO, hint: str = "") -> Finding:
    """Return a finding without a limit."""
    return Finding(check=check, subject=subject, severity=severity, message=message, hint=hint)


def answered(answers: Answers) -> str:
    """Say how requests were answered."""
    parts = ((answers.passed, "2xx"), (answers.redirected, "3xx"), (answers.refused, "4xx"), (answers.failed, "5xx"))
    return f"{answers.requests:,} requests ({', '.join(f'{n:,} {what}' for n, what in parts if n)})"


def share(part: int, whole: int) -> float:
    """Return a part as percent."""
    return 100 * part / whole if whole else 0.0


def lines(head: str, rows: Iterable[str]) -> str:
    """Return a head and its rows."""
    return "\n".join([head, *rows])
