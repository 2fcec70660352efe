"""Remove the backups that the system's retention does not want any more, and only when that is safe.

**What it does.** For each series of the target (dumps, physical backups, file trees and their copies ...) it keeps the
newest backup of as many days, weeks, months, quarters and years as `retention` in the system file says, in the
system's time zone. Days without a good backup do not count, so an outage thins nothing out. Each backup that stays has
its reasons in the evidence, each that goes is on record with its reasons before it is touched; a dry run names them.

Never removed are: the newest proved backup; whatever a kept incremental backup needs; anything at all while the newest
backup is not proved, is suspicious or has vanished, and while the ledger does not answer; what is held (`holds` in the
system file); what is dated in the future. A suspicious backup takes no good one's place and is kept as evidence for a
time. When more than half of a series is due at once, a person is asked: the settings are more likely wrong.

A removal begins with a note in the store and the manifest; cut off at any moment, it leaves a whole backup or none,
and the next run ends it. Contents of file trees that no backup refers to are collected afterwards.

**When it is red.**

- `ledger` (unknown): the ledger does not answer, so nothing is removed. See to the connection `upkeep_ledger`.
- `standstill`: nothing is removed because the newest backup is not proved. Look at `backup.verify` and the restore
  test. It is a warning when it lasts, because the store fills up.
- `future`: backups are dated later than now. Correct the clock of the worker that made them, or of this one.
- `chain`, `unreadable`: a person has to decide what becomes of backups that cannot be restored.
- `contents` (unknown): the list of a tree backup cannot be read, so no content is removed. Verify these backups.
- `vanished`: a backup that was to stay has gone during the run. Look at who else removes from the store.
- `locked` (a note): the store's object lock keeps what is due; it goes later.

**Keeping backups for a court or an auditor.** Add a hold to the system file: `holds: [{reason: "case 2026-17",
target: db, first: 2026-01-01, last: 2026-03-31, until: 2028-12-31}]`. It is in force from the next run on.
"""

from __future__ import annotations

from typing import Any

from upkeep.core.cadence import Covers
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Judgement, Outcome, Plan, Severity
from upkeep.routines.backup import _common, _retention_deeds
from upkeep.routines.backup._retention_judge import judge_series, ledger_away, told
from upkeep.routines.backup._retention_seen import Seen, Series, Settings, look, places

__all__ = ["COVERS", "ROLE", "TARGETS", "TITLE", "Settings", "act", "judge", "observe", "plan", "verify"]

TITLE = "Backup retention"
TARGETS = ("postgres", "files", "sqlite", "redis", "model")
COVERS = Covers.NOW
ROLE = "dba"


def observe(job: Job[Any, Settings]) -> Seen:
    """List every series, ask the record, and decide.

    :raises ConfigurationError, TransientError: a store does not answer or refuses us.
    """
    if not job.tools.catalogue.reachable:
        return Seen(away=True)
    series = tuple(look(job, place) for place in places(job))
    # Asked again: only with an answer now were the records above answers, and not the silence of a ledger that went.
    if not job.tools.catalogue.reachable:
        return Seen(away=True)
    return Seen(away=False, series=series)


def judge(job: Job[Any, Settings], seen: Seen) -> Judgement:
    """Say what stands out, and with `review` what is kept for what and what goes next."""
    if seen.away:
        return Judgement(findings=(ledger_away(job.target.id),))
    return sum((judge_series(job, series) for series in seen.series), Judgement())


def plan(job: Job[Any, Settings], seen: Seen) -> Plan:
    """Plan one removal for each series that has any due."""
    return Plan(actions=tuple(action for series in seen.series for action in _retention_deeds.actions(job, series)))


def act(job: Job[Any, Settings], action: Action) -> Outcome:
    """Remove, collect, or put the review on record."""
    if action.name == "remove":
        return _retention_deeds.remove(job, action)
    return _retention_deeds.collect(job, action) if action.name == "collect" else _retention_deeds.reviewed(action)


def verify(job: Job[Any, Settings], seen: Seen, outcomes: tuple[Outcome, ...]) -> Judgement:
    """See that everything that was to stay is still there as it was, and nothing that was removed."""
    if not any(outcome.evidence.get("removed") for outcome in outcomes):
        return Judgement()
    found = (_vanished(job, series) for series in seen.series)
    return Judgement(findings=tuple(finding for finding in found if finding))


def _vanished(job: Job[Any, Settings], series: Series) -> Finding | None:
    archiver = _common.archiver(job)
    there = {s.id: s.size_bytes for s in archiver.stored(series.place) if s.complete}
    # Somebody else may run retention too; what it removes is noted.
    gone = {note.id for note in archiver.removals(series.place)}
    wrong = tuple(e.id for e in series.entries if e.id not in gone and there.get(e.id) != e.size_bytes)
    if not wrong:
        return None
    return Finding(
        check="vanished",
        subject=series.subject,
        severity=Severity.CRITICAL,
        message=f"{series.name}: was to stay, and is not there as it was: {told(wrong)}",
        hint="look at who or what else removes from the store (lifecycle rules, people); make a new backup",
    )
