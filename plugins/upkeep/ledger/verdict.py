"""What a run amounts to: the worst of what was found, what failed and what is missing."""

from __future__ import annotations

from collections.abc import Iterator

from upkeep.core.model import Model, Severity, worst
from upkeep.ledger.record import RoutineRecord, RunRecord

# Of one routine's missing results, each a reason of its own up to here.
SHOWN = 10


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
        *_missing(record),
    ]
    if not record.expected:
        reasons.append("nothing was selected: the run looked at no target at all")
    found = worst(f.severity for routine in record.routines for f in routine.findings)
    return Verdict(severity=Severity.CRITICAL if reasons else found, reasons=tuple(reasons))


def _missing(record: RunRecord) -> Iterator[str]:
    """Yield what has no result: target by target, or by routine where there are many."""
    targets: dict[str, list[str]] = {}
    ended = {(routine.key.routine, routine.key.target): routine.reason for routine in record.waiting}
    for item in record.missing:
        if reason := ended.get((item.routine, item.target)):
            yield f"{item.target}: no result of {item.routine} (it was ended while it still {reason})"
        else:
            targets.setdefault(item.routine, []).append(item.target)
    for routine, missing in targets.items():
        if len(missing) <= SHOWN:
            yield from (f"{target}: no result of {routine} (its worker may have died)" for target in missing)
        else:
            some = ", ".join(missing[:SHOWN])
            yield f"{len(missing)} targets: no result of {routine} (a worker may have died): {some} and others"


def _critical(routine: RoutineRecord) -> list[str]:
    """Return why one routine makes the run critical; its findings say more than that it failed."""
    findings = [f"{routine.key.target}: {f.message}" for f in routine.findings if f.severity is Severity.CRITICAL]
    if findings:
        return findings
    match routine.state:
        case "failed":
            return [f"{routine.key.target}: {routine.key.routine} failed: {routine.reason}"]
        case "retry":
            return [f"{routine.key.target}: {routine.key.routine} was not tried again after: {routine.reason}"]
    return []
