"""How each action of `database.sqlite_care` is done, and what becomes of one that could not be."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from upkeep.core.errors import ConfigurationError, DamagedError, TransientError
from upkeep.core.job import Failed, Job
from upkeep.core.model import Action, Finding, Outcome, OutcomeStatus, Severity
from upkeep.core.sqlite import NotDone, SqliteBench, SqliteKeep
from upkeep.core.targets import SqliteTarget
from upkeep.routines.database._seen import measured
from upkeep.routines.database._sqlite_judge import RESTORE
from upkeep.routines.database._sqlite_need import missing_room
from upkeep.routines.database._sqlite_settings import Settings
from upkeep.routines.database._text import byte_size, span

type SqliteJob = Job[SqliteTarget, Settings]
# Bytes a second, where the ledger knows nothing better: a slow disk. On a fast one VACUUM moved 180 MB/s.
_SLOW = 20e6


def do(job: SqliteJob, action: Action) -> Outcome | NotDone:
    """Do an action; `NotDone` leaves the file as it was."""
    deeds: dict[str, Callable[[SqliteJob, Action], Outcome | NotDone]] = {
        "sweep": _sweep,
        "recover": _recover,
        "copy": _copy,
        "remove": _remove,
        "analyze": _analyze,
        "vacuum": _vacuum,
        "release": _release,
        "checkpoint": _checkpoint,
    }
    try:
        return deeds[action.name](job, action)
    except TransientError as error:
        return NotDone("locked", error.message)
    except DamagedError as error:
        return NotDone("damaged", error.message)
    except ConfigurationError as error:
        return NotDone("privilege", error.message)


def given_up(job: SqliteJob, action: Action, why: NotDone) -> Outcome:
    """Return the outcome of an action that was not done, with its finding."""
    passing = why.reason in ("locked", "timeout", "moved")
    severity = Severity.WARNING
    if why.reason == "damaged" or (action.name in ("copy", "recover") and not passing):
        severity = Severity.CRITICAL
    check = {"damaged": "integrity", "full": "room"}.get(why.reason, why.reason if why.reason != "other" else "action")
    message = f"{job.target.path}: {action.name} was not done: {why.message}" + (f" ({why.code})" if why.code else "")
    finding = Finding(check=check, subject=action.name, severity=severity, message=message, hint=_hint(action, why))
    status = OutcomeStatus.SKIPPED if passing else OutcomeStatus.FAILED
    return Outcome(
        status=status, detail=message, findings=(finding,), evidence={"reason": why.reason, "code": why.code}
    )


def skipped(action: Action, reason: str) -> Outcome:
    """Return the outcome of an action that another one had to come before."""
    return Outcome(status=OutcomeStatus.SKIPPED, detail=f"{action.name}: {reason}")


def too_late(action: Action, reason: str) -> Outcome:
    """Return the outcome of an action that there is no time for."""
    finding = Finding(
        check="window",
        subject=action.name,
        severity=Severity.WARNING,
        message=f"{action.name} was not begun: {reason}",
        hint="give the system a longer maintenance window, or let this routine begin earlier in it",
    )
    return skipped(action, reason).model_copy(update={"findings": (finding,)})


def _hint(action: Action, why: NotDone) -> str:
    seconds = {"vacuum": "vacuum_seconds", "copy": "copy_seconds"}.get(action.name, "check_seconds")
    return {
        "locked": "it was tried twice and is tried again in the next run; end the program that holds the lock, or let"
        " maintenance begin when it sleeps",
        "timeout": f"the file is as before; raise `{seconds}`, or make the database smaller",
        "full": "the file is as before; make room on its volume and in the folder for temporary files (SQLITE_TMPDIR)",
        "privilege": "let the user that runs maintenance write to the file and its folder",
        "moved": "give the database a write-ahead log (PRAGMA journal_mode = wal), raise `hold_seconds`, or choose"
        " hours with fewer writers",
        "damaged": RESTORE,
        "other": "read SQLite's words: a collation or function of the application, the disk, the kernel's log",
    }[why.reason]


def late(job: SqliteJob, action: Action) -> str:
    """Say why an action would not be done before the maintenance window closes; empty when it would."""
    size = action.details.get("size_bytes")
    if job.until is None or size is None:
        return ""
    last = job.tools.history.last(f"{action.name}.rate")
    seconds = size / (last.value if last and last.value > 0 else _SLOW)
    left = (job.until - job.tools.now()) / timedelta(seconds=1)
    if seconds <= left:
        return ""
    return f"it would take about {span(seconds)}, the maintenance window closes in {span(max(left, 0))}"


def _keep(job: SqliteJob) -> SqliteKeep:
    return job.tools.sqlite_work.keep(job.target.id, job.settings.keep_folder)


def _sweep(job: SqliteJob, action: Action) -> Outcome | NotDone:
    names = _keep(job).sweep()
    if isinstance(names, NotDone):
        return names
    if not names:
        return Outcome(status=OutcomeStatus.UNCHANGED, detail="nothing was left behind any more")
    return Outcome(
        status=OutcomeStatus.DONE, detail=f"removed {len(names)} unfinished files", evidence={"removed": list(names)}
    )


def _recover(job: SqliteJob, action: Action) -> Outcome | NotDone:
    failed = _work(job, lambda file: file.recover())
    if failed:
        return failed
    return Outcome(
        status=OutcomeStatus.DONE,
        detail="what the killed program had begun is rolled back",
        evidence={"recovered": True},
    )


def _copy(job: SqliteJob, action: Action) -> Outcome | NotDone:
    settings, begun = job.settings, time.monotonic()
    keep, place = _keep(job), job.tools.sqlite_work.place(job.target.path)
    answer = keep.copy(
        place.path,
        busy_timeout=settings.busy_timeout,
        seconds=settings.copy_seconds,
        hold_seconds=settings.hold_seconds,
    )
    if isinstance(answer, NotDone):
        return answer
    copy, new = answer
    seconds = time.monotonic() - begun
    evidence = {"copy": {**copy.model_dump(mode="json"), "folder": keep.folder}}
    if not new:
        return Outcome(
            status=OutcomeStatus.UNCHANGED, detail=f"{copy.name} has the same rows and is still good", evidence=evidence
        )
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=f"{copy.name}: {copy.tables} tables, {copy.rows} rows, {byte_size(copy.size_bytes)} in {span(seconds)},"
        f" intact and equal to its source; {keep.folder}",
        measurements=(
            *measured("copy.size", copy.size_bytes, "bytes"),
            *measured("copy.seconds", seconds, "s"),
            *measured("copy.rate", copy.size_bytes / max(seconds, 0.001), "bytes/s"),
        ),
        evidence=evidence,
    )


def _remove(job: SqliteJob, action: Action) -> Outcome | NotDone:
    keep = _keep(job)
    planned = set(action.details["copies"])
    removed = keep.remove(tuple(c for c in keep.copies() if c.name in planned), job.settings.copies)
    if isinstance(removed, NotDone):
        return removed
    if not removed:
        return Outcome(
            status=OutcomeStatus.UNCHANGED, detail=f"no more than {job.settings.copies} good copies lie there"
        )
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=f"removed {len(removed)} copies, {byte_size(sum(c.size_bytes for c in removed))}",
        evidence={"removed": [c.model_dump(mode="json") for c in removed]},
    )


def _analyze(job: SqliteJob, action: Action) -> Outcome | NotDone:
    tables, begun = tuple(action.details["tables"]), time.monotonic()
    failed = _work(job, lambda file: file.analyze(tables, job.settings.analysis_limit, job.settings.check_seconds))
    if failed:
        return failed
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=f"statistics of {len(tables)} tables",
        measurements=measured("analyze.seconds", time.monotonic() - begun, "s"),
        evidence={"tables": list(tables)},
    )


def _vacuum(job: SqliteJob, action: Action) -> Outcome | NotDone:
    place, size = job.tools.sqlite_work.place(job.target.path), action.details["size_bytes"]
    folders = {"folder": place.folder, "temporary": place.temporary}
    lack = missing_room(size, {name: job.tools.disk(folder) for name, folder in folders.items()})
    if lack:
        words = lack.message if isinstance(lack, Failed) else f"{byte_size(lack.free)} are free in {lack.where}"
        return NotDone("full", f"no room any more: {words}")
    return _shrink(job, "vacuum", lambda file: file.vacuum(job.settings.vacuum_seconds))


def _release(job: SqliteJob, action: Action) -> Outcome | NotDone:
    pages = action.details["pages"]
    return _shrink(job, "release", lambda file: file.release(pages, job.settings.vacuum_seconds))


def _checkpoint(job: SqliteJob, action: Action) -> Outcome | NotDone:
    begun, before = time.monotonic(), job.tools.sqlite_work.place(job.target.path).wal_bytes
    failed = _work(job, lambda file: file.checkpoint(job.settings.check_seconds))
    if failed:
        return failed
    after = job.tools.sqlite_work.place(job.target.path).wal_bytes
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=f"the write-ahead log took {byte_size(before)} and takes {byte_size(after)}",
        measurements=(
            *measured("checkpoint.moved", before - after, "bytes"),
            *measured("checkpoint.seconds", time.monotonic() - begun, "s"),
        ),
        evidence={"before": {"wal_bytes": before}, "after": {"wal_bytes": after}},
    )


def _work(job: SqliteJob, deed: Callable[[SqliteBench], NotDone | None]) -> NotDone | None:
    workshop = job.tools.sqlite_work
    real = workshop.place(job.target.path).path
    with workshop.open(real, busy_timeout=job.settings.busy_timeout, write=True) as file:
        return deed(file)


def _shrink(job: SqliteJob, name: str, deed: Callable[[SqliteBench], NotDone | None]) -> Outcome | NotDone:
    """Do what makes the file smaller, and tell its sizes before and after."""
    begun = time.monotonic()
    sizes: list[dict[str, int]] = []
    behind: list[NotDone] = []

    def measure(file: SqliteBench) -> None:
        facts = file.ask("sqlite/care", seconds=job.settings.check_seconds)
        if not isinstance(facts, NotDone):
            free, page = facts[0]["freelist_count"], facts[0]["page_size"]
            sizes.append({"bytes": facts[0]["page_count"] * page, "free_bytes": free * page})

    def work(file: SqliteBench) -> NotDone | None:
        measure(file)
        failed = deed(file)
        if failed is None:
            # In WAL mode all of it is in the log so far; in the other modes this does nothing.
            kept = file.checkpoint(job.settings.check_seconds)
            behind.extend([kept] if kept else [])
            measure(file)
        return failed

    failed = _work(job, work)
    if failed:
        return failed
    seconds = time.monotonic() - begun
    before, after = sizes[0], sizes[-1]
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=f"{byte_size(before['bytes'])} became {byte_size(after['bytes'])} in {span(seconds)}"
        + (", which readers keep from the file so far" if behind else ""),
        measurements=(
            *measured(f"{name}.before", before["bytes"], "bytes"),
            *measured(f"{name}.after", after["bytes"], "bytes"),
            *measured(f"{name}.seconds", seconds, "s"),
            *measured(f"{name}.rate", before["bytes"] / max(seconds, 0.001), "bytes/s"),
        ),
        findings=given_up(job, Action(name="checkpoint", subject="", reason=""), behind[0]).findings if behind else (),
        evidence={"before": before, "after": after},
    )
