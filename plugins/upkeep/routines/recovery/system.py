"""Bring a whole system back from its backups alone, in a place of its own, and see whether it works.

**What it does.** Every part that the target names (database, uploads, configuration, models, cache, SQLite) is fetched
from its store and brought back in a scratch place on the worker: a dump into a PostgreSQL server of its own, compared
row by row, trees compared with their list, a Redis dump loaded, a SQLite file checked. Nothing of the running system is
used, only the stores and the keys. Then `services` of the target is started on what came back, and the endpoints of
`check` are asked at its address, with the same expectations as `services.health` has. The time from the beginning to
the last good answer is compared with the system's RTO, the age of each backup with its RPO. Only when everything is
removed again, the sources are asked what they hold that these backups do not: **what would we have lost**.

**When it is red.**

- `part`: this part does not come back. The message says why; run its backup now, then `backup.verify` and
  `backup.restore_test` for it. Without it the services are not started.
- `part` unknown: the worker lacks something (a PostgreSQL server of that major, redis-server, a key). Install it: as
  long as it is missing, nobody knows whether the system could be brought back.
- `health`: the system is back and does not work. What it needs is not among the parts, or its backups do not fit
  together (a database newer than the files it names).
- `rto`: it takes longer than promised. The timeline in the evidence shows which step takes the time.
- `rpo`: a backup is older than promised. Look at the runs of its backup.
- `leftover`: what a killed test left behind was removed; nothing to do.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import Field

from upkeep.core.backup import Database, Kind, Leftover, Place
from upkeep.core.cadence import Covers
from upkeep.core.errors import ConfigurationError
from upkeep.core.http import NoReply, Request
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Judgement, Measurement, Model, Outcome, OutcomeStatus, Plan, Severity
from upkeep.core.recovery import Answered, Part, PartBack, Rebuild, Rebuilt
from upkeep.core.routine import RoutineSettings
from upkeep.core.system import System
from upkeep.core.targets import HttpTarget, PostgresTarget, RecoveryTarget, SqliteTarget, Target
from upkeep.routines.backup._common import duration, size
from upkeep.routines.backup.files import file_set
from upkeep.routines.services._answers import fault_of

TITLE = "Disaster-recovery test"
TARGETS = ("recovery",)
COVERS = Covers.NOW
ROLE = "sysadmin"
_KINDS: dict[str, Kind] = {"postgres": "dump", "files": "files", "model": "files", "sqlite": "sqlite", "redis": "redis"}


class Settings(RoutineSettings):
    """How the system is brought back, and how long its services may take to be well."""

    jobs: int = Field(2, ge=1, le=32, description="processes of pg_restore and of the comparison")
    start_seconds: float = Field(60, ge=1, le=3600, description="seconds in which Redis and the services must be well")
    timeout: float = Field(10, gt=0, le=300, description="seconds for a whole answer of an endpoint")
    programs: str = Field("", description="folders with PostgreSQL and Redis; default: UPKEEP_PG_BIN, UPKEEP_REDIS_BIN")


class Seen(Model):
    """What is to be brought back, and what killed tests left behind."""

    order: Rebuild
    leftovers: tuple[Leftover, ...]


def observe(job: Job[RecoveryTarget, Settings]) -> Seen:
    """Read from the system file what is to be brought back.

    :raises ConfigurationError: a part has no backups by nature, or no store; or there is nothing to ask.
    """
    target = job.target
    if target.services and not target.check:
        raise ConfigurationError(
            f"{target.id} starts services and names nothing to ask", "add `check: <http target>` to the system file"
        )
    return Seen(order=_order(job), leftovers=job.tools.recovery.leftovers(target.id))


def judge(job: Job[RecoveryTarget, Settings], seen: Seen) -> Judgement:
    """Measure what is known before."""
    counted = Measurement(name="recovery.parts", value=len(seen.order.parts), unit="parts")
    return Judgement(measurements=(counted,))


def plan(job: Job[RecoveryTarget, Settings], seen: Seen) -> Plan:
    """Remove what killed tests left, then bring the system back."""
    names = ", ".join(left.name for left in seen.leftovers[:5])
    sweep = Action(name="sweep", subject=job.target.id, reason=f"end and remove what killed tests left: {names}")
    parts = ", ".join(part.name for part in seen.order.parts)
    test = Action(
        name="recovery_test",
        subject=job.target.id,
        reason=f"bring {parts} back from their newest backups alone",
        undo="the scratch place is removed",
        details={"parts": [part.place.series for part in seen.order.parts], "command": " ".join(seen.order.services)},
    )
    return Plan(actions=(sweep, test) if seen.leftovers else (test,))


def act(job: Job[RecoveryTarget, Settings], action: Action) -> Outcome:
    """Sweep or test."""
    if action.name == "sweep":
        removed = job.tools.recovery.sweep(job.target.id)
        freed = size(sum(left.bytes for left in removed))
        return Outcome(status=OutcomeStatus.DONE, detail=f"removed {len(removed)} scratch places, {freed}")
    done = job.tools.recovery.rebuild(_order(job), job.tools.log.info, lambda address: _ask(job, address))
    findings = _findings(job, done)
    bad = any(f.severity.rank >= Severity.UNKNOWN.rank for f in findings)
    return Outcome(
        status=OutcomeStatus.FAILED if bad else OutcomeStatus.DONE,
        detail=_told(job, done),
        measurements=_measurements(job, done),
        findings=findings,
        evidence={"recovery": _evidence(job, done)},
    )


def verify(job: Job[RecoveryTarget, Settings], seen: Seen, outcomes: tuple[Outcome, ...]) -> Judgement:
    """See that nothing is left of the test."""
    left = job.tools.recovery.leftovers(job.target.id)
    findings = tuple(
        Finding(
            check="leftover",
            subject=job.target.id,
            severity=Severity.WARNING,
            message=f"{one.name} is still there ({size(one.bytes)}): {one.reason}",
            hint="the next test removes it; if it stays, remove it by hand",
        )
        for one in left
    )
    return Judgement(findings=findings)


def _order(job: Job[RecoveryTarget, Settings]) -> Rebuild:
    return Rebuild(
        target=job.target.id,
        run_id=job.run_id,
        parts=tuple(_part(job.system, name) for name in job.target.parts),
        services=job.target.services,
        start_seconds=job.settings.start_seconds,
        jobs=job.settings.jobs,
        programs=job.settings.programs,
    )


def _part(system: System, name: str) -> Part:
    target: Target = system.targets[name]
    kind = _KINDS.get(target.kind)
    store = getattr(target, "store", None) or system.store
    if kind is None or store is None:
        what = "no store for backups" if kind else f"of kind {target.kind}, which has no backups"
        raise ConfigurationError(f"recovery part {target.id} has {what}", "correct `parts`, or add a `store`")
    said: dict[str, Any] = {}
    if isinstance(target, PostgresTarget):
        source = Database(conn_id=target.backup_conn_id or target.conn_id, database=target.database)
        said = {"smoke": target.smoke, "source": source}
    elif isinstance(target, SqliteTarget):
        said = {"paths": (target.path,)}
    elif kind == "files":
        said = {"paths": file_set(target).paths}  # type: ignore[arg-type] # FileSetTarget or ModelTarget
    return Part(name=name, place=Place(store=store, target=target.id, kind=kind), **said)


def _check(job: Job[RecoveryTarget, Settings]) -> HttpTarget:
    found = job.system.targets[str(job.target.check)]
    if not isinstance(found, HttpTarget):
        raise ConfigurationError(f"{found.id} is of kind {found.kind}, expected http", "correct `check`")
    return found


def _ask(job: Job[RecoveryTarget, Settings], address: str) -> tuple[Answered, ...]:
    """Ask every endpoint at an address, as `services.health` would ask the real service."""
    answers = []
    with job.tools.http(base_url=address) as http:
        for name, endpoint in _check(job).endpoints.items():
            request = Request(
                path=endpoint.path,
                method=endpoint.method,
                json_body=endpoint.json_body,
                timeout=job.settings.timeout,
            )
            reply = http.ask(request)
            fault = fault_of(endpoint, reply)
            status = reply.detail if isinstance(reply, NoReply) else f"status {reply.status}"
            said = fault.reason if fault else f"{status}, as expected"
            answers.append(Answered(endpoint=name, well=fault is None, said=said, seconds=round(reply.seconds, 4)))
    return tuple(answers)


def _findings(job: Job[RecoveryTarget, Settings], done: Rebuilt) -> tuple[Finding, ...]:
    parts = [
        Finding(
            check="part",
            subject=part.name,
            severity=Severity.UNKNOWN if part.unknown else Severity.CRITICAL,
            message=f"{part.name} does not come back ({part.backup or 'no backup'}): {part.trouble}",
            hint=part.hint or "run its backup now, then the restore test",
        )
        for part in done.parts
        if part.trouble
    ]
    health = [
        Finding(
            check="health",
            subject=answer.endpoint,
            severity=Severity.CRITICAL,
            message=f"the system is back and {answer.endpoint} is not well: {answer.said}",
            hint="what does it need that is not among the parts? do the backups fit together?",
        )
        for answer in done.answers
        if not answer.well
    ]
    if done.trouble:
        health.append(
            Finding(
                check="health",
                subject=job.target.id,
                # Where the worker lacks something, nothing is known of the system either.
                severity=Severity.UNKNOWN if any(p.unknown for p in done.parts) else Severity.CRITICAL,
                message=done.trouble,
                hint="mend the parts first; else look at the command in `services`",
            )
        )
    return (*parts, *health, *_rto(job, done), *_rpo(job, done))


def _rto(job: Job[RecoveryTarget, Settings], done: Rebuilt) -> tuple[Finding, ...]:
    limit = job.system.rto
    if limit is None or done.seconds <= limit.total_seconds():
        return ()
    slowest = max(done.steps, key=lambda step: step.seconds)
    late = Finding(
        check="rto",
        subject=job.target.id,
        severity=Severity.WARNING,
        message=f"bringing everything back took {duration(done.seconds)}; most of it: {slowest.name}",
        observed=duration(done.seconds),
        limit=duration(limit.total_seconds()),
        hint="more jobs, a faster store, physical backups, or another promise",
    )
    return (late,)


def _rpo(job: Job[RecoveryTarget, Settings], done: Rebuilt) -> tuple[Finding, ...]:
    limit = job.system.rpo
    ages = {part.name: _age(job, part) for part in done.parts}
    return tuple(
        Finding(
            check="rpo",
            subject=name,
            severity=Severity.WARNING,
            message=f"the newest backup of {name} is {duration(age.total_seconds())} old",
            observed=duration(age.total_seconds()),
            limit=duration(limit.total_seconds()),
            hint="look at the last runs of its backup; run it now",
        )
        for name, age in ages.items()
        if limit is not None and age is not None and age > limit
    )


def _age(job: Job[RecoveryTarget, Settings], part: PartBack) -> timedelta | None:
    return job.tools.now() - part.taken if part.taken else None


def _told(job: Job[RecoveryTarget, Settings], done: Rebuilt) -> str:
    back = sum(not part.trouble for part in done.parts)
    well = sum(answer.well for answer in done.answers)
    served = {
        "answered": f"{well} of {len(done.answers)} endpoints well",
        "not started": done.trouble,
        "none": "whether the system works on them was not tried (no `services`)",
    }[done.services]
    lost = "; ".join(_lost(job, part) for part in done.parts)
    took = f"{back} of {len(done.parts)} parts back in {duration(done.seconds)}"
    return f"{took}; {served}. What would have been lost: {lost}"


def _lost(job: Job[RecoveryTarget, Settings], part: PartBack) -> str:
    age = _age(job, part)
    if age is None:
        return f"{part.name}: everything, for there is no backup that can be read"
    return f"{part.name}: the last {duration(age.total_seconds())}, {part.lost}"


def _measurements(job: Job[RecoveryTarget, Settings], done: Rebuilt) -> tuple[Measurement, ...]:
    values = [
        Measurement(name="recovery.seconds", value=done.seconds, unit="s"),
        Measurement(name="recovery.parts_back", value=sum(not p.trouble for p in done.parts), unit="parts"),
    ]
    for part in done.parts:
        values.append(Measurement(name="recovery.part_seconds", subject=part.name, value=part.seconds, unit="s"))
        if (age := _age(job, part)) is not None:
            hours = age.total_seconds() / 3600
            values.append(Measurement(name="recovery.age", subject=part.name, value=hours, unit="h"))
        if part.changed is not None:
            values.append(Measurement(name="recovery.lost", subject=part.name, value=part.changed, unit="count"))
    return tuple(values)


def _evidence(job: Job[RecoveryTarget, Settings], done: Rebuilt) -> dict[str, Any]:
    limits = {
        "rto_seconds": job.system.rto.total_seconds() if job.system.rto else None,
        "rpo_seconds": job.system.rpo.total_seconds() if job.system.rpo else None,
    }
    return {
        **done.model_dump(mode="json"),
        **limits,
        "would_have_been_lost": [_lost(job, part) for part in done.parts],
    }
