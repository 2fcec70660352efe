"""The one loop in which every routine runs: open, observe, judge, plan, act, verify, close."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from upkeep.core.errors import CriticalFindingError
from upkeep.core.job import Job
from upkeep.core.model import (
    Action,
    Finding,
    Judgement,
    Measurement,
    Model,
    Outcome,
    OutcomeStatus,
    Plan,
    Severity,
    worst,
)
from upkeep.core.routine import Routine
from upkeep.ledger import events as ev
from upkeep.ledger.store import Ledger
from upkeep.operators.deeds import Deeds, checked
from upkeep.operators.policy import explain, is_tried_again


class Summary(Model):
    """The few facts of a routine that travel through XCom; the evidence is in the ledger."""

    target: str
    routine: str
    severity: Severity
    findings: int
    actions: int
    dry_run: bool
    ledger: bool


class Row:
    """The ledger's row of one try: opened before anything is done, closed with what became of it."""

    def __init__(self, ledger: Ledger, key: ev.RoutineKey, now: Callable[[], datetime]) -> None:
        self.ledger, self.key, self.now = ledger, key, now

    def open(
        self, routine: Routine | None = None, settings: dict[str, Any] | None = None, dry_run: bool = False
    ) -> None:
        """Open the row; without a routine, one that could not even be loaded."""
        self.ledger.write(
            ev.RoutineOpened(
                at=self.now(),
                routine=self.key,
                system=self.key.target.split("/", 1)[0],
                role=routine.role if routine else "",
                title=routine.title if routine else self.key.routine,
                settings=settings or {},
                dry_run=dry_run,
                host=socket.gethostname(),
                pid=os.getpid(),
            )
        )

    def close(self, state: ev.ROUTINE_STATES, severity: Severity, reason: str = "", hint: str = "") -> None:
        """Close the row."""
        self.ledger.write(
            ev.RoutineClosed(at=self.now(), routine=self.key, state=state, severity=severity, reason=reason, hint=hint)
        )

    def wait(self, reason: str, opens: datetime) -> None:
        """Note what the try waits for; it goes on in the same row, which is then opened again."""
        self.ledger.write(
            ev.RoutineClosed(
                at=self.now(), routine=self.key, state="waiting", severity=Severity.OK, reason=reason, opens=opens
            )
        )

    def find(self, finding: Finding) -> None:
        """Record a finding about the routine itself, which has looked at nothing."""
        system = self.key.target.split("/", 1)[0]
        self.ledger.write(
            ev.Observed(at=self.now(), routine=self.key, stage="judge", system=system, findings=(finding,))
        )

    def close_failed(self, error: BaseException, last_try: bool, found: Severity = Severity.OK) -> None:
        """Close the row of a try that an error has ended; `found` is the worst that it had seen by then."""
        again = is_tried_again(error) and not last_try
        self.close("retry" if again else "failed", found if again else Severity.CRITICAL, *explain(error))


class Lifecycle:
    """One try of one routine on one target.

    :param approved: name and subject of the actions that a person has agreed to; only these are done then. None in a
        run that nobody was asked about: what needs approval is proposed, the rest is done.
    :param objects: the ids of the objects that those actions were about; see `Deeds`.
    :param alone: keeps other heavy work off the target, and gives a check that it still does, which raises when not.

    `planned` is the plan, as soon as there is one.
    """

    def __init__(
        self,
        routine: Routine,
        job: Job[Any, Any],
        key: ev.RoutineKey,
        ledger: Ledger,
        *,
        dry_run: bool,
        last_try: bool,
        approved: frozenset[tuple[str, str]] | None = None,
        objects: Mapping[tuple[str, str], Any] = MappingProxyType({}),
        alone: Callable[[], AbstractContextManager[Callable[[], None]]] = lambda: nullcontext(lambda: None),
    ) -> None:
        self.routine, self.job, self.key, self.ledger = routine, job, key, ledger
        self.dry_run, self.last_try = dry_run, last_try
        self.approved, self.objects, self.alone = approved, objects, alone
        self._row = Row(ledger, key, job.tools.now)
        self._system = job.system.name
        self._severities: list[Severity] = [Severity.OK]
        self._counts = {"findings": 0, "actions": 0}
        self.planned: tuple[Action, ...] = ()

    def run(self) -> Summary:
        """Do the work and return its summary.

        :raises CriticalFindingError: it was done, and what was found is critical.
        :raises UpkeepError: it could not be done.
        """
        settings = self.job.settings.model_dump(mode="json", exclude_defaults=True)
        self._row.open(self.routine, settings, self.dry_run)
        # What is loaded by now stays: with Airflow in memory, each full collection would go through a million objects.
        gc.freeze()
        try:
            self._work()
        except BaseException as error:
            self._row.close_failed(error, self.last_try, worst(self._severities))
            raise
        finally:
            gc.unfreeze()
        severity = worst(self._severities)
        self._row.close("failed" if severity is Severity.CRITICAL else "success", severity)
        if severity is Severity.CRITICAL:
            raise CriticalFindingError(
                f"{self.key.target}: {self.routine.title} found something critical",
                "the findings stand above in this log and in the run's report",
            )
        return Summary(
            target=self.key.target,
            routine=self.routine.name,
            severity=severity,
            dry_run=self.dry_run,
            ledger=not self.ledger.spool,
            **self._counts,
        )

    def _work(self) -> None:
        routine = self.routine
        with self.alone() as still_alone:
            job = replace(self.job, still_alone=still_alone)
            seen = routine.observe(job)
            self._note("judge", checked(routine, "judge", Judgement, routine.judge(job, seen)))
            plan = checked(routine, "plan", Plan, routine.plan(job, seen))
            self.planned = plan.actions
            asked: Any = {"approved": self.approved, "objects": self.objects}
            deeds = Deeds(routine, job, self.key, self.ledger, dry_run=self.dry_run, **asked)
            done = deeds.do(plan.actions)
            self._counts["actions"] = deeds.count
            if self.dry_run:
                return
            self._note("act", _said_by(done))
            outcomes = tuple(outcome for _, outcome in done)
            self._note("verify", checked(routine, "verify", Judgement, routine.verify(job, seen, outcomes)))

    def _note(self, stage: Any, said: Judgement) -> None:
        self._severities += [f.severity for f in said.findings]
        self._counts["findings"] += len(said.findings)
        for finding in sorted(said.findings, key=lambda f: -f.severity.rank):
            _log_finding(self.job, finding)
        if said.measurements or said.findings:
            self.ledger.write(
                ev.Observed(
                    at=self._now(),
                    routine=self.key,
                    stage=stage,
                    system=self._system,
                    measurements=said.measurements,
                    findings=said.findings,
                )
            )

    def _now(self) -> datetime:
        return self.job.tools.now()


def _said_by(done: Sequence[tuple[Action, Outcome]]) -> Judgement:
    """Gather what the outcomes measured and found; a failed outcome without a finding of its own becomes one."""
    measured: tuple[Measurement, ...] = tuple(m for _, o in done for m in o.measurements)
    failed = tuple(
        Finding(check="action", subject=f"{a.name} {a.subject}", severity=Severity.CRITICAL, message=o.detail)
        for a, o in done
        if o.status is OutcomeStatus.FAILED and not o.findings
    )
    return Judgement(measurements=measured, findings=tuple(f for _, o in done for f in o.findings) + failed)


def _log_finding(job: Job[Any, Any], finding: Finding) -> None:
    limits = f" (seen {finding.observed}, limit {finding.limit})" if finding.limit else ""
    say = job.tools.log.error if finding.severity.rank >= Severity.UNKNOWN.rank else job.tools.log.warning
    say("%s %s: %s%s -> %s", finding.severity.upper(), finding.check, finding.message, limits, finding.hint or "-")
