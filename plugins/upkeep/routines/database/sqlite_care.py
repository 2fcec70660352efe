"""Care for a SQLite database while it is in use: check, copy, analyze, give free space back.

**What it does.** `PRAGMA integrity_check` and `foreign_key_check`, within a time limit. Then, as far as it is needed:
a *copy* with SQLite's backup interface, proved by an integrity check and by hashes of all rows, equal to those of the
source at the same moment (`copies` are kept, the last good one always); *ANALYZE* of tables whose statistics are
missing or stale; *VACUUM* when free pages are many and there is room for it; an *empty write-ahead log* when it has
grown large. To a damaged file, or one with hard links, nothing is done at all.

**Who waits.** Readers do not. In WAL mode writers wait for ANALYZE of a table and for VACUUM; without a write-ahead log
they wait for the integrity check too, and for the copy at most `hold_seconds`. It runs in the maintenance window.

**Restoring a copy.** Stop the application, remove `<database>-wal`, `-shm` and `-journal`, put the copy in the place of
the file, start the application. The copies usually lie on the same machine: they help against a bad release or a
damaged file, not against the loss of the machine. Its checksum stands in the `.json` beside it.

**When it is red.**

- `integrity`: the file is damaged. Copy it away with its `-wal` and `-journal` before anything else touches it; restore
  the newest good copy; `sqlite3 damaged.db .recover` saves what is newer. *Unknown*: the check was not finished.
- `foreign_key`: rows point to nothing; some connection does not say `PRAGMA foreign_keys = on`.
- `locked`: a program holds a lock; what was left out was tried twice, and is tried again in the next run.
- `room`: there is not enough space for a copy, or for VACUUM (twice the size of the file).
- `moved`: the database changes too often to be copied without a write-ahead log.
- `timeout`: something took too long and was rolled back. `privilege`: the file may not be written to.
- `journal`: a program was killed while it wrote; that was rolled back. Never delete a `-journal` or `-wal`.
- `copy`: a kept copy changed after it was made: look at the disk. *Critical*: it went while this run was at work.
- `links`: the file has several names; SQLite finds the journal only under the right one.
- *proposed VACUUM*: a full-text index knows rows by numbers that VACUUM may change; see the action's words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from upkeep.core.cadence import Covers
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError
from upkeep.core.job import Job
from upkeep.core.model import Action, Begun, Ended, Finding, Judgement, Outcome, OutcomeStatus, Plan, Severity
from upkeep.core.sqlite import NotDone
from upkeep.core.targets import SqliteTarget
from upkeep.routines.database import _sqlite_deeds as deeds
from upkeep.routines.database import _sqlite_judge
from upkeep.routines.database._seen import measured
from upkeep.routines.database._sqlite_need import need
from upkeep.routines.database._sqlite_need import plan as _plan
from upkeep.routines.database._sqlite_seen import Seen, look
from upkeep.routines.database._sqlite_settings import Settings

TITLE = "SQLite care"
TARGETS = ("sqlite",)
COVERS = Covers.NOW
ROLE = "dba"
WINDOWED = True
__all__ = ["Settings"]
_GOOD = (OutcomeStatus.DONE, OutcomeStatus.UNCHANGED)


def observe(job: Job[SqliteTarget, Settings]) -> Seen:
    """Look at the file, its copies and its volumes, without changing any."""
    return look(job)


def judge(job: Job[SqliteTarget, Settings], seen: Seen) -> Judgement:
    """Judge what was seen, and what would be needed and cannot be done."""
    return _sqlite_judge.judge(seen, need(seen, job.settings), job.settings)


def plan(job: Job[SqliteTarget, Settings], seen: Seen) -> Plan:
    """Plan what is needed and possible."""
    folder = job.tools.sqlite_work.keep(job.target.id, job.settings.keep_folder).folder
    return _plan(seen, job.settings, job.target.id, folder)


def act_all(job: Job[SqliteTarget, Settings], actions: Sequence[Action]) -> Iterator[Sequence[Begun | Ended]]:
    """Do one action after the other; what is locked is tried once more when all others are done."""
    outcomes: dict[str, Outcome] = {}
    waiting: list[tuple[int, Action]] = []
    for number, action in enumerate(actions, 1):
        if reason := deeds.late(job, action):
            outcomes[action.name] = deeds.too_late(action, reason)
            yield (Ended(number=number, outcome=outcomes[action.name]),)
            continue
        yield (Begun(number=number),)
        done = _attempt(job, action, outcomes)
        if isinstance(done, NotDone) and done.reason == "locked":
            waiting.append((number, action))
            continue
        yield _ended(job, number, action, done, outcomes)
    for number, action in waiting:
        yield _ended(job, number, action, _attempt(job, action, outcomes), outcomes)


def verify(job: Job[SqliteTarget, Settings], seen: Seen, outcomes: tuple[Outcome, ...]) -> Judgement:
    """Check the file again when it was built anew or recovered, and see that a new copy is where it should be."""
    judgement = Judgement(findings=tuple(_missing_copies(job, outcomes)))
    if not _changed(outcomes):
        return judgement
    try:
        return judgement + _look_again(job)
    except (ConfigurationError, DamagedError, TransientError) as error:
        return judgement + Judgement(findings=(_unproved(job, error.message),))


def _attempt(job: Job[SqliteTarget, Settings], action: Action, outcomes: dict[str, Outcome]) -> Outcome | NotDone:
    """Do an action, unless one that it depends on was not done."""
    if action.details.get("needs_copy"):
        copy = outcomes.get("copy")
        if copy is None:
            return NotDone("locked", "no copy could be made so far")
        if copy.status not in _GOOD:
            return deeds.skipped(action, "without a proved copy the file is not built anew")
    return deeds.do(job, action)


def _ended(
    job: Job[SqliteTarget, Settings], number: int, action: Action, done: Outcome | NotDone, outcomes: dict[str, Outcome]
) -> tuple[Ended]:
    outcome = deeds.given_up(job, action, done) if isinstance(done, NotDone) else done
    outcomes[action.name] = outcome
    return (Ended(number=number, outcome=outcome),)


def _changed(outcomes: tuple[Outcome, ...]) -> bool:
    return any(o.status is OutcomeStatus.DONE and ({"after", "recovered"} & o.evidence.keys()) for o in outcomes)


def _look_again(job: Job[SqliteTarget, Settings]) -> Judgement:
    workshop, settings = job.tools.sqlite_work, job.settings
    place = workshop.place(job.target.path)
    with workshop.open(place.path, busy_timeout=settings.busy_timeout) as file:
        said = file.ask("sqlite/integrity_check", seconds=settings.check_seconds, most=5)
    measurements = (
        *measured("size.after", place.file_bytes, "bytes"),
        *measured("wal.after", place.wal_bytes, "bytes"),
    )
    if isinstance(said, NotDone) and said.reason != "damaged":
        return Judgement(measurements=measurements, findings=(_unproved(job, said.message),))
    words = said.message if isinstance(said, NotDone) else "; ".join(str(row["message"]) for row in said)
    if words == "ok":
        return Judgement(measurements=measurements)
    wrong = _sqlite_judge.damaged(f"{place.path} is damaged after the work on it: {words[:500]}")
    return Judgement(measurements=measurements, findings=(wrong,))


def _unproved(job: Job[SqliteTarget, Settings], why: str) -> Finding:
    return Finding(
        check="integrity",
        subject="afterwards",
        severity=Severity.UNKNOWN,
        message=f"could not be determined: whether {job.target.path} is intact after the work on it: {why}",
        hint="run SQLite care again; raise `check_seconds` if it was too short",
    )


def _missing_copies(job: Job[SqliteTarget, Settings], outcomes: tuple[Outcome, ...]) -> Iterator[Finding]:
    there = {c.name for c in job.tools.sqlite_work.keep(job.target.id, job.settings.keep_folder).copies()}
    for outcome in outcomes:
        copy = outcome.evidence.get("copy")
        if copy and copy["name"] not in there:
            yield Finding(
                check="copy",
                subject="",
                severity=Severity.CRITICAL,
                message=f"{copy['folder']}: copy {copy['name']} was made and is not there as it was made",
                hint="see who else writes to or empties this folder, then run SQLite care again",
            )
