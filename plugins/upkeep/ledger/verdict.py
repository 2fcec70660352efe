"""What a run amounts to: the worst of what was found, what failed and what is missing."""

from __future__ import annotations

from upkeep.core.model import Model, Severity, worst
from upkeep.ledger.record import RoutineRecord, RunRecord


class Verdict(Model):
    """The severity of a run, and the reasons why it cannot be better."""

    severity: Severity
    reasons: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the run may end green: nothing critical, nothing failed, nothing missing."""
        return self.severity is not Severity.CRITICAL


def judge_run(record: RunRecord) -> Verdict:
    """Judge a run: critical when a critical finding is open, a routine failed, or an expected result is missing."""
    reasons = [
        *(reason for routine in record.routines for reason in _critical(routine)),
        *(f"{item.target}: no result of {item.routine} (its worker may have died)" for item in record.missing),
    ]
    if not record.expected:
        reasons.append("nothing was selected: the run looked at no target at all")
    found = worst(f.severity for routine in record.routines for f in routine.findings)
    return Verdict(severity=Severity.CRITICAL if reasons else found, reasons=tuple(reasons))


def _critical(routine: RoutineRecord) -> list[str]:
    """Return why one routine makes the run critical; its findings say more than that it failed."""
    findings = [f"{routine.key.target}: {f.message}" for f in routine.findings if f.severity is Severity.CRITICAL]
    if findings or routine.state != "failed":
        return findings
    return [f"{routine.key.target}: {routine.key.routine} failed: {routine.reason}"]
