"""Which statements are slow, and what is said of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from upkeep.core.job import Failed
from upkeep.core.model import Finding, Judgement, Severity
from upkeep.core.sql_text import without_literals
from upkeep.routines.database import _slow_source, _statements_plan
from upkeep.routines.database._seen import Row, judged, measured
from upkeep.routines.database._slow_settings import Settings
from upkeep.routines.database._statements_spell import Before, Spell, kept
from upkeep.routines.database._text import span

# A plan (a node of EXPLAIN's JSON), or why there is none.
Plan = Mapping[str, Any] | str


@dataclass(frozen=True)
class Seen:
    """What one look gave. `failed`: the statistics could not be read."""

    source: Row
    before: Before
    rows: Sequence[Row] = ()
    spells: tuple[Spell, ...] = ()
    plans: Mapping[str, Plan] = field(default_factory=dict)
    failed: Failed | None = None
    round_trips: int = 0


def of_application(spells: Sequence[Spell], source: Row, settings: Settings) -> list[Spell]:
    """Return the statements that were called and are the application's, those that took the most time first."""

    def counts(spell: Spell) -> bool:
        role = spell.row["role"]
        others = role in settings.ignore_roles or (role == source["role"] and not settings.own_role)
        return spell.calls > 0 and not others and not _ignored(spell.row["query"] or "", settings)

    return sorted(filter(counts, spells), key=lambda s: -s.time)


def _ignored(text: str, settings: Settings) -> bool:
    return _statements_plan.starts_with(text, settings.ignore)


def slow(spells: Sequence[Spell], settings: Settings) -> list[Spell]:
    """Return those whose average crosses a limit, the worst first."""
    often = [s for s in spells if s.calls >= settings.least_calls]
    late = [s for s in often if settings.mean_time.judge(s.mean) is not Severity.OK]
    return sorted(late, key=lambda s: (-settings.mean_time.judge(s.mean).rank, -s.time))


def judge(seen: Seen, settings: Settings) -> Judgement:
    """Judge statements, and say what of them is not known."""
    if gap := _slow_source.missing(seen.source):
        return Judgement(findings=gap)
    if seen.failed is not None:
        return Judgement(findings=(_slow_source.unreadable(seen.source, seen.failed),))
    ours = of_application(seen.spells, seen.source, settings)
    late = slow(ours, settings)
    findings = [f for spell in late[: settings.top] for f in _slow(spell, seen, settings)]
    findings += [*_others(late, settings), *_own(seen, settings), *_heaviest(ours, seen, settings)]
    measurements = kept(seen.source, seen.rows)
    for spell in _by_mean(ours, settings)[: settings.top]:
        measurements += measured("statement.mean_time", spell.mean, "ms", spell.subject)
    limits = _slow_source.limits(seen.source, seen.rows, seen.before)
    return Judgement(measurements=measurements, findings=(*findings, *limits))


def _by_mean(spells: Sequence[Spell], settings: Settings) -> list[Spell]:
    return sorted((s for s in spells if s.calls >= settings.least_calls), key=lambda s: -s.mean)


def _slow(spell: Spell, seen: Seen, settings: Settings) -> tuple[Finding, ...]:
    plan = seen.plans.get(spell.subject, "")
    text = without_literals(spell.row["query"] or "(the server has not kept its text)", 400)
    return judged(
        "mean_time",
        spell.subject,
        settings.mean_time,
        spell.mean,
        message="\n".join(
            [
                f"a statement of {_who(spell)} takes {_ms(spell.mean)} on average: {_numbers(spell, seen)}",
                text,
                *_explained(plan, settings),
            ]
        ),
        hint=_hint(plan),
        say=_ms,
    )


def _who(spell: Spell) -> str:
    return f"role {spell.row['role']}" + ("" if spell.row["toplevel"] else " (inside a function)")


def _numbers(spell: Spell, seen: Seen) -> str:
    share = spell.time / (sum(s.time for s in seen.spells if s.since == spell.since) or 1)
    least = "at least " if spell.at_least else ""
    io_time = "I/O unknown" if spell.io_time is None else f"{_ms(spell.io_time)} of it I/O"
    return (
        f"{least}{spell.calls:,} calls {_since(spell, seen)}, {_ms(spell.time)} in all ({io_time}), {share:.0%} of the"
        f" time of all statements, {spell.rows / spell.calls:,.1f} rows a call"
    )


def _since(spell: Spell, seen: Seen) -> str:
    if spell.since == "run" and seen.before.at is not None:
        return f"since the last run ({_moment(seen.before.at)})"
    began = spell.row["since_at"] if spell.row["since_at"] is not None else spell.row["reset_at"]
    if began is None:
        return "since the statistics were last reset (nobody knows when: pg_stat_statements tells from 1.9 on)"
    return f"since its statistics began ({_moment(datetime.fromtimestamp(began, UTC))})"


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _explained(plan: Plan, settings: Settings) -> list[str]:
    if isinstance(plan, str):
        return [f"no plan: {plan}"] if plan else []
    return ["plan, for any parameters:", *_statements_plan.shown(plan, settings.plan_lines)]


def _hint(plan: Plan) -> str:
    table = "" if isinstance(plan, str) else _statements_plan.reads_all(plan)
    index = f"most of its cost is reading all of {table}: see whether an index fits its filter; " if table else ""
    return (
        f"{index}look at it with real values where it hurts nobody: EXPLAIN (ANALYZE, BUFFERS); if it is meant to take"
        " long (a report), raise `mean_time` or name its role in `ignore_roles` of database.slow_queries"
    )


def _others(late: Sequence[Spell], settings: Settings) -> tuple[Finding, ...]:
    rest = late[settings.top :]
    if not rest:
        return ()
    total = sum(s.time for s in rest)
    return (
        Finding(
            check="mean_time",
            subject="others",
            severity=settings.mean_time.judge(rest[0].mean),
            message=f"{len(rest)} more statements are slow; together they took {_ms(total)}",
            observed=str(len(rest)),
            hint="cure those that are named first, or raise `top`",
        ),
    )


def _own(seen: Seen, settings: Settings) -> tuple[Finding, ...]:
    """Tell when leaving our own role out leaves most of the load out: the application may use it, too."""
    role = seen.source["role"]
    own = sum(s.time for s in seen.spells if s.row["role"] == role and not _ignored(s.row["query"] or "", settings))
    whole = sum(s.time for s in seen.spells)
    if settings.own_role or own < settings.list_seconds * 1000 or own < whole / 2:
        return ()
    return (
        Finding(
            check="own_role",
            subject=role,
            severity=Severity.INFO,
            message=f"role {role}, which maintenance uses and whose statements are left out, took {own / whole:.0%} of"
            f" the time of all statements ({_ms(own)})",
            hint="if the application uses the same role, give maintenance one of its own, or set `own_role` to true",
        ),
    )


def _heaviest(spells: Sequence[Spell], seen: Seen, settings: Settings) -> tuple[Finding, ...]:
    """List what took the most: no trouble, but where looking pays."""
    total = sum(s.time for s in spells)
    if total < settings.list_seconds * 1000 or not spells:
        return ()
    by_io = sorted((s for s in spells if s.io_time), key=lambda s: -(s.io_time or 0))
    found = (
        _list("total time", spells, lambda s: s.time, seen=seen, settings=settings),
        _list("mean time", _by_mean(spells, settings), lambda s: s.mean, seen=seen, settings=settings),
        _list("I/O time", by_io, lambda s: s.io_time or 0, seen=seen, settings=settings),
    )
    untimed = () if seen.source["io_timed"] else (_untimed(),)
    return tuple(f for f in found if f is not None) + untimed


def _list(
    title: str, spells: Sequence[Spell], value: Callable[[Spell], float], *, seen: Seen, settings: Settings
) -> Finding | None:
    lines = [
        f"{_ms(value(s))}: {s.subject}, {s.calls:,} calls{'' if s.since == 'run' else ' ' + _since(s, seen)}:"
        f" {without_literals(s.row['query'] or '?', 80)}"
        for s in spells[: settings.top]
    ]
    if not lines:
        return None
    return Finding(
        check="heaviest",
        subject=title,
        severity=Severity.INFO,
        message="\n".join([f"the statements with the most {title}:", *lines]),
        hint="making the first ones quicker, or calling them less often, gains the most",
    )


def _untimed() -> Finding:
    return Finding(
        check="heaviest",
        subject="I/O time",
        severity=Severity.INFO,
        message="which statements wait for disks is unknown: track_io_timing is off",
        hint="ALTER SYSTEM SET track_io_timing = on; SELECT pg_reload_conf(); (pg_test_timing tells what it costs)",
    )


def _ms(value: float) -> str:
    """Write milliseconds as people read them."""
    return f"{value:,.1f} ms" if value < 10_000 else span(value / 1000)
