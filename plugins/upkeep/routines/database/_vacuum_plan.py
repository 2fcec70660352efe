"""What is to be done, in the order of need, and what a look at the database already shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from upkeep.core.model import Action, Finding, Judgement, Measurement, Plan, Severity
from upkeep.routines.database import _horizon
from upkeep.routines.database._need import is_lost
from upkeep.routines.database._text import quoted
from upkeep.routines.database._vacuum_look import CareJob, Seen, Wanted, unknown_names, wanted
from upkeep.routines.database._vacuum_settings import VacuumSettings
from upkeep.routines.database._vacuum_work import Times, Work, bundled, work_for

# From 16 on a vacuum need not count the oldest ids of the whole database anew each time; once at the end is enough.
STATS = "update database ids"
_QUESTIONS = {
    "vacuum_need": "which tables need vacuum or analyze",
    "vacuum_parents": "which parents of partitions need analyze",
    "vacuum_refused": "which tables this role may vacuum",
    "horizon_holders": "who keeps dead rows from being removed",
}


def plan(job: CareJob, seen: Seen) -> Plan:
    """Return what is to be done, the worst first."""
    if seen.server["in_recovery"]:
        return Plan()
    pairs = sorted(works(job, seen), key=lambda pair: (-pair[1].score, pair[1].name))
    reasons = [(_reason(wish, work), _beyond(work, n, job)) for n, (wish, work) in enumerate(pairs, 1)]
    actions = [*bundled(reasons)]
    if seen.server["version"] >= 160_000 and any(a.name == "vacuum" for a in actions):
        reason = "the oldest id of the database, which the tables' ids have to be summed up to"
        actions.append(Action(name=STATS, subject=str(seen.server["database"]), reason=reason))
    return Plan(actions=tuple(actions))


def works(job: CareJob, seen: Seen) -> list[tuple[Wanted, Work]]:
    """Return the tables that are to be done, with the work."""
    times = Times(job.tools.history, job.routine, job.settings.first_rate)
    found = []
    for wish in wanted(seen, job):
        if wish.oid not in seen.refused:
            useless = _useless(wish, seen, job)
            skip = f"no dead row could be removed while {useless.story()}" if useless else ""
            found.append((wish, work_for(wish, seen.server, job, times, skip)))
    return found


def judge(job: CareJob, seen: Seen) -> Judgement:
    """Judge what can be told before anything is done: what may not be, and what would not help."""
    if seen.server["in_recovery"]:
        return Judgement(findings=(_standby(seen),))
    wishes = wanted(seen, job)
    refused = [w for w in wishes if w.oid in seen.refused and _is_ours(w)]
    findings = [*_failed(seen), *_missing(seen, job), *_refused(refused, seen)]
    judgement = Judgement(measurements=_counted(job, wishes, seen), findings=tuple(findings))
    if not isinstance(job.settings, VacuumSettings):
        return judgement
    waiting = {
        w.name: float(w.table.main.dead + (w.table.toast.dead if w.table.toast else 0))
        for w in wishes
        if w.table is not None and any(r.code == "dead" for r in w.need.reasons)
    }
    judgement += Judgement(findings=tuple(_hidden(seen)))
    server = seen.server
    return judgement + _horizon.judge(seen.held, waiting, job.settings.horizon, server["freeze_max_age"], seen.now)


def _beyond(work: Work, number: int, job: CareJob) -> Work:
    """Return the work, passed over when the run has enough with those before it."""
    if number <= job.settings.max_tables or work.skip:
        return work
    return replace(work, skip=f"carried over: a run does {job.settings.max_tables} tables (max_tables)")


def _reason(wish: Wanted, work: Work) -> str:
    text = "; ".join(reason.text for reason in wish.need.reasons)
    return f"{text}; waits for its {work.waited + 1}. run" if work.waited else text


def _useless(wish: Wanted, seen: Seen, job: CareJob) -> _horizon.Holder | None:
    settings = job.settings
    if not isinstance(settings, VacuumSettings) or not settings.skip_useless or wish.table is None or wish.named:
        return None
    return _horizon.is_useless(wish.table, wish.need, seen.held)


def _is_ours(wish: Wanted) -> bool:
    """Tell whether a table that we may not do is missed: the server's own only when autovacuum is long overdue."""
    if wish.table is None or not wish.table.is_system:
        return True
    return any(r.ratio > (1.05 if r.code == "age" else 10) for r in wish.need.reasons)


def _counted(job: CareJob, wishes: Sequence[Wanted], seen: Seen) -> tuple[Measurement, ...]:
    area = job.routine.rpartition(".")[2]
    ages = [max(t.main.xid_age, t.toast.xid_age if t.toast else 0) for t in seen.tables.values()]
    counts = {"needed": len(wishes), "lost": sum(is_lost(t) for t in seen.tables.values())}
    measured = tuple(Measurement(name=f"{area}.{k}", value=v, unit="tables") for k, v in counts.items())
    oldest = Measurement(name="vacuum.oldest_age", value=max(ages, default=0), unit="xids")
    return (*measured, oldest) if area == "vacuum" and ages else measured


def _standby(seen: Seen) -> Finding:
    return Finding(
        check="standby",
        subject="",
        severity=Severity.UNKNOWN,
        message=f"{seen.place} is a standby: nothing can be vacuumed there, and its counters say nothing",
        hint="name the primary in `maintenance_conn_id` of the target",
    )


def _failed(seen: Seen) -> list[Finding]:
    return [
        Finding(
            check="privilege" if failed.reason == "privilege" else "look",
            subject=name,
            severity=Severity.UNKNOWN,
            message=f"could not be determined: {_QUESTIONS.get(name, name)}: {failed.message}",
            hint=f"GRANT pg_monitor TO {quoted(seen.server['role'])};"
            if failed.reason == "privilege"
            else "look at the server's load and log, or raise `statement_timeout`",
        )
        for name, failed in seen.failed.items()
    ]


def _hidden(seen: Seen) -> list[Finding]:
    if seen.server["sees_sessions"]:
        return []
    role = seen.server["role"]
    return [
        Finding(
            check="privilege",
            subject="sessions",
            severity=Severity.UNKNOWN,
            message=f"role {role} may not see other roles' sessions: who keeps dead rows from being removed is unknown",
            hint=f"GRANT pg_monitor TO {quoted(role)};",
        )
    ]


def _missing(seen: Seen, job: CareJob) -> list[Finding]:
    if seen.failed:
        return []
    return [
        Finding(
            check="named",
            subject=name,
            severity=Severity.WARNING,
            message=f"the system file names table {name}, and {seen.place} has no such table",
            hint="correct `tables` of the target: schema and name, as in public.claim",
        )
        for name in unknown_names(seen, job.target)
    ]


def _refused(refused: Sequence[Wanted], seen: Seen) -> list[Finding]:
    if not refused:
        return []
    role = seen.server["role"]
    worst = sorted(refused, key=lambda w: -w.need.score)
    names = ", ".join(w.name for w in worst[:5]) + (f" and {len(worst) - 5} more" if len(worst) > 5 else "")
    if seen.server["version"] >= 170_000:
        hint = f"GRANT pg_maintain TO {quoted(role)}; or GRANT MAINTAIN ON the tables TO it"
    else:
        hint = f"GRANT the role that owns the tables TO {quoted(role)}; (before 17 only an owner may vacuum)"
    return [
        Finding(
            check="privilege",
            subject="tables",
            severity=Severity.UNKNOWN,
            message=f"role {role} may not vacuum or analyze tables that need it: {names}. Nobody looks after them here",
            observed=str(len(refused)),
            limit="0",
            hint=hint,
        )
    ]
