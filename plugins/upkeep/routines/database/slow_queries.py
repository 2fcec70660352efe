"""Find the statements that take long, from pg_stat_statements (1.8 to 1.12, on PostgreSQL 14 to 18), read-only.

**What it does.** It reads the counters of this database's statements that took the most (in total, on average, for
I/O), takes away what they were at the last run, and judges what is left: how long each took on average since then.
The ledger keeps the counters for the next run. Of every slow statement it shows the text, without the values that
people put in, and the plan for any parameters, without executing it. Where a difference cannot be told (first run,
statistics reset, another server since) it says since when the numbers count.

**Why.** Averages since last year hide what became slow last week; and a slow statement that is called often makes all
others wait.

**When it is red.**

- `mean_time`: a statement takes longer than the limit. Its plan shows where the time may go; with real values, on a
  copy or at a quiet hour, EXPLAIN (ANALYZE, BUFFERS) shows where it went.
- `statistics`: nothing is known, because pg_stat_statements is missing or hidden. The hint is the cure.
- `privilege`: other roles' statements are hidden from ours. The hint is the GRANT.
- `heaviest`, `own_role`, `evicted`, `extension_version` inform: where the time goes, and what the numbers leave out.

What it cannot tell: how long a single call took, what the application's search_path is (see the setting), and the plan
for one particular value. Statements of the role that maintenance uses are left out unless `own_role` says otherwise. An
entry that was evicted and came back between two runs counts from its return; before version 1.11 this shows only when
its counters are lower than they were.
"""

from __future__ import annotations

from collections.abc import Sequence

from upkeep.core.cadence import Covers
from upkeep.core.errors import TransientError
from upkeep.core.job import Failed, Job, Server
from upkeep.core.model import Judgement
from upkeep.core.targets import PostgresTarget
from upkeep.routines._looking import look
from upkeep.routines.database import _slow_judge, _slow_source, _statements_plan, _statements_spell
from upkeep.routines.database._seen import Row
from upkeep.routines.database._slow_judge import Plan, Seen
from upkeep.routines.database._slow_settings import Settings
from upkeep.routines.database._statements_spell import Spell

TITLE = "Slow queries"
TARGETS = ("postgres",)
COVERS = Covers.NOW
ROLE = "dba"


def observe(job: Job[PostgresTarget, Settings]) -> Seen:
    """Read the statistics of statements, and the plans of those that are slow.

    :raises TransientError: the server cannot be reached, or was lost.
    :raises ConfigurationError: the server is there and refuses us (password, database, role).
    """
    settings = job.settings
    with look(job) as server:
        before = _statements_spell.recall(job.tools.history)
        return _look(server, before, settings)


def judge(job: Job[PostgresTarget, Settings], seen: Seen) -> Judgement:
    """Judge every statement of the application, and say what could not be seen."""
    return _slow_judge.judge(seen, job.settings)


def _look(server: Server, before: _statements_spell.Before, settings: Settings) -> Seen:
    answers = server.batch({"database/statements_source": {}, "database/statements": {"top": settings.keep}})
    sources, rows = answers["database/statements_source"], answers["database/statements"]
    if isinstance(sources, Failed):
        raise TransientError(f"{server.place}: {sources.message}", "the server is busy or went away; it is tried again")
    source = sources[0]
    if isinstance(rows, Failed) or _slow_source.missing(source):
        failed = rows if isinstance(rows, Failed) else None
        return Seen(source, before, failed=failed, round_trips=server.round_trips)
    spells = _statements_spell.spells(source, rows, before)
    ours = _slow_judge.of_application(spells, source, settings)
    plans = _plans(server, source, _slow_judge.slow(ours, settings)[: settings.top], settings)
    return Seen(source, before, rows, spells, plans, round_trips=server.round_trips)


def _plans(server: Server, source: Row, slow: Sequence[Spell], settings: Settings) -> dict[str, Plan]:
    """Return the plan of each slow statement, or why there is none."""
    found: dict[str, Plan] = {s.subject: _statements_plan.refusal(s.row, source, settings) for s in slow}
    asked = [s for s in slow if not found[s.subject]]
    if asked:
        answers = server.plans([(s.row["query"], _statements_plan.path(s.row, settings)) for s in asked])
        for spell, answer in zip(asked, answers, strict=True):
            found[spell.subject] = (
                _statements_plan.failure(answer, spell.row, source, settings) if isinstance(answer, Failed) else answer
            )
    return found
