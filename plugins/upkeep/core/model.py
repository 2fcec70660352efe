"""What maintenance sees and does: measurements, thresholds, findings, actions and outcomes."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import pydantic


class Model(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Base of every value: frozen, and closed to keys it does not know."""


class Severity(StrEnum):
    """How bad a finding is. `unknown` is never ok: it ranks above a warning."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    UNKNOWN = "unknown"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Position from harmless (0) to worst."""
        return list(Severity).index(self)


def worst(severities: Any) -> Severity:
    """Return the worst of some severities, `ok` when there are none."""
    return max(severities, key=lambda s: s.rank, default=Severity.OK)


class Measurement(Model):
    """A number observed. `name` is dotted and stable (`connections.used_ratio`), `subject` the part it belongs to."""

    name: str
    value: pydantic.FiniteFloat
    unit: str
    subject: str = ""


class Threshold(Model):
    """Limits that turn a number into a severity.

    With direction `above` a value *greater than* a limit crosses it, with `below` a value *less than* it.
    """

    info: float | None = None
    warning: float | None = None
    critical: float | None = None
    direction: Literal["above", "below"] = "above"

    @pydantic.model_validator(mode="after")
    def _limits_in_order(self) -> Threshold:
        limits = [limit for limit in (self.info, self.warning, self.critical) if limit is not None]
        if limits != sorted(limits, reverse=self.direction == "below"):
            raise ValueError(f"limits must get stricter from info to critical, seen {limits} ({self.direction})")
        return self

    def judge(self, value: float) -> Severity:
        """Return the severity of `value`, `ok` when it crosses no limit."""
        return self.crossed(value)[0]

    def crossed(self, value: float) -> tuple[Severity, float | None]:
        """Return the severity of `value` and the limit that it crossed."""
        for severity, limit in (
            (Severity.CRITICAL, self.critical),
            (Severity.WARNING, self.warning),
            (Severity.INFO, self.info),
        ):
            if limit is not None and (value > limit if self.direction == "above" else value < limit):
                return severity, limit
        return Severity.OK, None


class Finding(Model):
    """What crossed a threshold or could not be determined.

    `check` names the rule (`sequence`), `subject` what it was applied to (`public.claims_claim_id_seq`). Neither may
    hold anything that changes from run to run (a process id, a time): together with target and routine they are the
    finding's key, and the same trouble must be the same finding tomorrow.
    """

    check: str
    subject: str
    severity: Severity
    message: str
    observed: str = ""
    limit: str = ""
    hint: str = ""

    def key(self, target: str, routine: str) -> str:
        """Return the stable key of this finding on a target."""
        return "|".join((target, routine, self.check, self.subject))


class Judgement(Model):
    """What a routine made of its observation."""

    measurements: tuple[Measurement, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def severity(self) -> Severity:
        """The worst severity among the findings."""
        return worst(f.severity for f in self.findings)

    def __add__(self, other: Judgement) -> Judgement:
        return Judgement(measurements=self.measurements + other.measurements, findings=self.findings + other.findings)


class Action(Model):
    """One intended change, with its reason and, where one exists, its undo.

    `approval` says why a person must agree first (what it blocks, what it cannot take back); such an action is only
    proposed, until somebody has. Empty: it needs nobody.
    """

    name: str
    subject: str
    reason: str
    undo: str = ""
    approval: str = ""
    details: dict[str, Any] = {}


class OutcomeStatus(StrEnum):
    """What became of an action. `unchanged` means that nothing needed doing."""

    DONE = "done"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILED = "failed"


class Outcome(Model):
    """What became of an action, in words, with whatever was measured while doing it."""

    status: OutcomeStatus
    detail: str
    measurements: tuple[Measurement, ...] = ()
    findings: tuple[Finding, ...] = ()
    evidence: dict[str, Any] = {}


class Plan(Model):
    """The actions of a routine in the order in which they are to be done."""

    actions: tuple[Action, ...] = ()


class Begun(Model):
    """An action of the plan (its number, from 1) is about to be done."""

    number: int


class Ended(Model):
    """What became of an action of the plan. One that was never begun may end too: skipped, for want of time."""

    number: int
    outcome: Outcome
