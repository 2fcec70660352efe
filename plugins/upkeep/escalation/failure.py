"""A task has failed for good: who is told, and in which words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from itertools import groupby
from pathlib import Path
from typing import Any

from upkeep.core import ladder
from upkeep.core.cadence import RunType
from upkeep.core.errors import UpkeepError
from upkeep.core.model import Finding, Severity
from upkeep.core.notice import Notice
from upkeep.core.routine import Routine, routine_name
from upkeep.escalation.desk import Desk, links, open_hasty_desk, redact
from upkeep.escalation.duties import duty_of, owners_of_routines
from upkeep.ledger.events import Expected, RunKey
from upkeep.ledger.record import RoutineRecord
from upkeep.systems.index import read_index

FIRST_RUNG = 1
# What `SelectTargetsOperator` records problems of system files under.
SELECT = "systems.select"
log = logging.getLogger(__name__)


def tell_failed(context: Any, desk_of: Callable[[RunKey], AbstractContextManager[Desk]] = open_hasty_desk) -> str:
    """Tell the first rung what has failed; return what was done, in words.

    A routine's failure goes to the system of its target. When the verdict fails, everything critical that nobody has
    been told of goes out: results that are missing because their worker died, and system files that are bad. When
    another task fails, every system of the run is concerned.
    """
    run, params, task = context["dag_run"], dict(context.get("params") or {}), context["task"]
    reason = ladder.quiet(RunType.of(run.run_type), bool(params.get("escalate")))
    if reason:
        return f"quiet: {reason}"
    path = getattr(getattr(task, "operator_class", type(task)), "routine", None)
    target = _target_of(task)
    if path and not target:
        # The DAG processor speaks for a task whose worker died, and knows a mapped one only unmapped.
        return "left to the verdict, which tells of missing results: the target of this task is not known here"
    with desk_of(RunKey(dag_id=run.dag_id, run_id=run.run_id)) as desk:
        told = _Failure(desk, context)
        if path:
            told.routine(path, target)
        elif task.task_id == "verdict":
            told.verdict(params.get("systems"))
        else:
            told.task(params.get("systems"))
        return desk.summary()


def _target_of(task: Any) -> str:
    target = getattr(task, "target", None)
    return (
        str(target["id"]) if isinstance(target, dict) and "id" in target else target if isinstance(target, str) else ""
    )


class _Failure:
    """One failed task, seen from the desk of its run."""

    def __init__(self, desk: Desk, context: Any) -> None:
        self._desk = desk
        self._error = context.get("exception") or context.get("reason") or ""
        self._log_url = str(getattr(context["ti"], "log_url", ""))
        self._task_id = context["task"].task_id

    def routine(self, path: str, target: str) -> None:
        """Tell of one routine on one target."""
        name = routine_name(path)
        record = next((r for r in self._desk.record.routines if (r.key.routine, r.key.target) == (name, target)), None)
        role, title = (record.role, record.title) if record else ("", name)
        if not role:
            role, title = _declared(path, title)
        headline, facts = _described(title, record, self._error)
        self._tell(target, f"{target} {name}", headline, facts, [role])

    def task(self, systems: Iterable[str] | None) -> None:
        """Tell every system of the run of a failed task that works for all of them."""
        headline = f"task {self._task_id} of {self._desk.run.dag_id} failed"
        for system in systems or read_index().names:
            self._tell(system, f"{system} task {self._task_id}", headline, _error_facts(self._error))

    def verdict(self, systems: Iterable[str] | None) -> None:
        """Tell what is critical and has not been told; every system, when the record says of nothing (no selection)."""
        for routine in self._desk.record.routines:
            name, target = routine.key.routine, routine.key.target
            critical = [f for f in routine.findings if f.severity is Severity.CRITICAL]
            if name == SELECT:
                self._bad_files(critical)
            elif critical or routine.state == "failed":
                headline, facts = _described(routine.title, routine, "")
                self._tell(target, f"{target} {name}", headline, facts, [routine.role])
        self._missing()
        if not any(self._desk.counts.values()):
            self.task(systems)

    def _missing(self) -> None:
        """Tell each system what is missing, in one message: a worker that died may have taken many results along."""
        owners = owners_of_routines(self._desk.record) if self._desk.record.missing else {}
        for system, items in groupby(sorted(self._desk.record.missing, key=_system), key=_system):
            lost = [(item.routine, item.target) for item in items]
            shown = [f"{routine} on {target}" for routine, target in lost[:10]]
            facts = {
                "Missing": "\n".join([*shown, *([f"and {len(lost) - 10} more"] if len(lost) > 10 else [])]),
                "What to do": "look for a killed worker or a task that never ran, then clear the task",
            }
            headline = "1 result is missing" if len(lost) == 1 else f"{len(lost)} results are missing"
            self._tell(system, f"{system} missing", headline, facts, [owners.get(routine, "") for routine, _ in lost])

    def _bad_files(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            system = Path(finding.subject.split(" ", 1)[0]).stem
            facts = {"What": finding.message, "What to do": finding.hint}
            self._tell(system, f"{system} {finding.check} {finding.subject}", "its system file is bad", facts)

    def _tell(self, subject: str, topic: str, headline: str, facts: dict[str, str], owners: Iterable[str] = ()) -> None:
        if self._desk.told("failure", topic, FIRST_RUNG):
            self._desk.counts["told before"] += 1
            return
        call = ladder.whom(duty_of(subject.split("/", 1)[0]), FIRST_RUNG, owners)
        notice = Notice(
            label="CRITICAL",
            subject=subject,
            headline=redact(headline),
            facts={name: redact(value) for name, value in facts.items()},
            links=links(self._desk.run, self._log_url),
            dag_id=self._desk.run.dag_id,
            run_id=self._desk.run.run_id,
            topic=topic,
            rung=FIRST_RUNG,
        )
        self._desk.tell("failure", call, notice)


def _described(title: str, record: RoutineRecord | None, error: Any) -> tuple[str, dict[str, str]]:
    """Return headline and facts of a failed routine: its worst finding says more than that it failed."""
    findings = [f for f in record.findings if f.severity is Severity.CRITICAL] if record else []
    if findings:
        first = findings[0]
        facts = {"What": first.message, "Observed": first.observed, "Limit": first.limit, "What to do": first.hint}
        others = [f"{f.message} (observed {f.observed or '-'})" for f in findings[1:6]]
        if len(findings) > 6:
            others.append(f"and {len(findings) - 6} more")
        return f"{title}: {first.message}", facts | {"Also critical": "\n".join(others)}
    if record and record.reason:
        hint = {"What to do": record.hint} if record.hint else {}
        return f"{title} failed: {record.reason}", _error_facts(error) | hint
    return f"{title} failed", _error_facts(error)


def _error_facts(error: Any) -> dict[str, str]:
    """Return what an error says: its first line, and the hint that an error of ours carries."""
    if isinstance(error, UpkeepError):
        return {"Error": _first_line(error.message), "What to do": error.hint}
    name = f"{type(error).__name__}: " if isinstance(error, BaseException) else ""
    return {"Error": f"{name}{_first_line(str(error))}", "What to do": "read the log of its last try"}


def _system(item: Expected.Item) -> str:
    return item.system


def _first_line(text: str) -> str:
    return next((line for line in text.strip().splitlines() if line.strip()), "")


def _declared(path: str, title: str) -> tuple[str, str]:
    """Return role and title as the routine's module declares them."""
    try:
        routine = Routine.load(path)
    except UpkeepError:
        return "", title
    return routine.role, routine.title
