"""Bring a database, files or configuration back from a backup, beside what is there, and swap the two by renaming.

**What it does.** It looks first: is the backup whole, is its key here, is it the right server, is there room for a
second copy, may the role do it, who is connected, and what would be lost. A person agrees to exactly that. Then the
backup is fetched and restored *beside* the present one, every table, sequence and large object is compared with the
backup's manifest (files: every name and content with its list), the system's smoke questions are asked; privileges and
settings are carried over. Only then the present one is closed, its sessions are ended, and both are renamed in one
transaction. The application's own connection must find the restored database, or everything is renamed back.

**What was there before is never dropped.** It stays as `<name>__before_<time>` (folders: `<name>.before-<time>`),
closed for connections; the report has the SQL that brings it back. Drop it by hand when nobody misses anything.

**When it is red.**

- `missing`, `manifest`, `integrity`: choose another backup; `backup.verify` tells which are whole.
- `identity`: the connection leads to another server than the backup's. Correct it, or tick `another_server`.
- `privilege`, `owner`: name a connection whose role owns the database and has CREATEDB in the setting `conn_id`.
- `space`, `roles`, `extensions`, `version`, `programs`: the message says what the server or the worker lacks.
- `safety`: there is nothing to back up any more; trigger again with `without_safety_backup`.
- `half`: an earlier restore was interrupted and could not be undone; run it again, it goes back first.
- *sessions do not end*: the swap was not made. Stop the application, or let the role be in `pg_signal_backend`.
- *pg_restore*, *not as backed up*: nothing was swapped, the present database is untouched and open.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from upkeep.core import recovery
from upkeep.core.backup import Database, Kind
from upkeep.core.cadence import Covers
from upkeep.core.errors import ConfigurationError
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Judgement, Measurement, Model, Outcome, OutcomeStatus, Plan, Severity
from upkeep.core.recovery import DatabaseOrder, Preflight, Restored, TreeOrder
from upkeep.core.routine import RoutineSettings
from upkeep.core.targets import FileSetTarget, ModelTarget, PostgresTarget
from upkeep.routines.backup import _common
from upkeep.routines.backup._common import duration, size
from upkeep.routines.backup.files import file_set

TITLE = "Emergency restore"
TARGETS = ("postgres", "files", "model")
COVERS = Covers.NOW
ROLE = "dba"
_SESSIONS_SHOWN = 12

AnyTarget = PostgresTarget | FileSetTarget | ModelTarget


class Settings(RoutineSettings):
    """What is restored from which backup. The form of the emergency DAG fills these in."""

    backup: str = Field(recovery.LATEST, description="id of a backup, or `latest`")
    reason: str = Field("", description="why; stands in the request, the ledger and the report")
    another_server: bool = Field(
        False, description="the server (or folder) is not the one that was backed up, on purpose"
    )
    without_safety_backup: bool = Field(False, description="no backup of the present state is made before")
    mend_only: bool = Field(False, description="only go back from what an interrupted restore left half done")
    conn_id: str = Field("", description="connection that may create and rename databases; default: for maintenance")
    admin_database: str = Field("postgres", description="database of that server from which the work is done")
    jobs: int = Field(2, ge=1, le=32, description="tables that are restored and compared at a time")
    patience: float = Field(600, ge=0, le=86400, description="seconds to wait for other maintenance of the database")
    drain: float = Field(20, ge=1, le=600, description="seconds in which ended sessions must have gone")
    programs: str = Field("", description="folder with pg_restore; default: UPKEEP_PG_BIN, PATH, usual places")


class Seen(Model):
    """What was seen before, and when the backup was last found whole."""

    preflight: Preflight
    proof: str
    looked: datetime


def observe(job: Job[Any, Settings]) -> Seen:
    """Look at backup, server and target; nothing is changed.

    :raises ConfigurationError: no reason is given.
    """
    if not job.settings.reason.strip():
        raise ConfigurationError(
            f"{job.target.id}: a restore needs a reason", "trigger the DAG emergency_restore and say why in its form"
        )
    found = _recoverer(job).look(_order(job, job.settings.backup))
    return Seen(preflight=found, proof=_proof_of(job, found), looked=job.tools.now())


def judge(job: Job[Any, Settings], seen: Seen) -> Judgement:
    """Say what stands in the way, and measure what is at stake."""
    flight = seen.preflight
    if job.settings.mend_only:
        return Judgement()
    measured = []
    if flight.present.size_bytes is not None:
        measured.append(Measurement(name="present.size", value=flight.present.size_bytes, unit="bytes"))
    if flight.present.changed is not None:
        measured.append(Measurement(name="present.changed", value=flight.present.changed, unit="count"))
    if flight.chosen is not None:
        age = (seen.looked - flight.chosen.finished).total_seconds()
        measured.append(Measurement(name="backup.age", value=age / 3600, unit="h"))
    findings = [Finding(**obstacle.model_dump()) for obstacle in flight.obstacles]
    if flight.possible and not (flight.present.exists or flight.halves or job.settings.without_safety_backup):
        findings.append(_nothing_to_save(job, flight))
    findings += [
        Finding(
            check="half",
            subject=job.target.id,
            severity=Severity.WARNING,
            message=f"an earlier restore was interrupted: {half}",
            hint="nothing to do: this restore does that before anything else",
        )
        for half in flight.halves
    ]
    return Judgement(measurements=tuple(measured), findings=tuple(findings))


def plan(job: Job[Any, Settings], seen: Seen) -> Plan:
    """Restore, when a person agrees and nothing stands in the way."""
    flight = seen.preflight
    if job.settings.mend_only:
        mend = Action(name="mend", subject=job.target.id, reason="; ".join(flight.halves))
        return Plan(actions=(mend.model_copy(update={"details": _pinned(flight)}),) if flight.halves else ())
    blind = not (flight.present.exists or flight.halves or job.settings.without_safety_backup)
    if not flight.possible or flight.chosen is None or blind:
        return Plan()
    kept = "kept under another name" if flight.present.exists else "not there any more"
    action = Action(
        name="restore",
        subject=job.target.id,
        reason=job.settings.reason.strip(),
        approval=f"it replaces {flight.present.name}: {_lost(seen)}; everybody connected is cut off; the present one is"
        f" {kept}",
        undo="rename the old one back; the report says how" if flight.present.exists else "",
        details=_details(job, seen),
    )
    return Plan(actions=(action,))


def act(job: Job[Any, Settings], action: Action) -> Outcome:
    """Restore beside, compare, swap, verify; on any failure what was there before is there again."""
    if action.name == "mend":
        mended = _recoverer(job).mend(_order(job, action.details["backup"]), job.tools.log.info)
        status = OutcomeStatus.DONE if mended else OutcomeStatus.UNCHANGED
        return Outcome(status=status, detail="; ".join(mended) or "there was nothing to mend any more")
    done = _recoverer(job).restore(_order(job, action.details["backup"]), job.tools.log.info)
    seconds = {step.name.split()[0]: step.seconds for step in done.steps}
    measured = [Measurement(name=f"restore.{name}_seconds", value=value, unit="s") for name, value in seconds.items()]
    measured += [
        Measurement(name="restore.seconds", value=done.seconds, unit="s"),
        Measurement(name="restore.closed_seconds", value=done.closed_seconds, unit="s"),
    ]
    return Outcome(
        status=OutcomeStatus.DONE,
        detail=(
            f"{done.name} is back from backup {done.backup} after {duration(done.seconds)}, closed for"
            f" {duration(done.closed_seconds)}: {done.proof}." + _kept(done)
        ),
        measurements=tuple(measured),
        findings=_warnings(job, done) + _rto(job, done),
        evidence={"recovery": _evidence(job, done)},
    )


def verify(job: Job[Any, Settings], seen: Seen, outcomes: tuple[Outcome, ...]) -> Judgement:
    """Look again: nothing is half done, and something else stands under the name than before."""
    if not any(outcome.status is OutcomeStatus.DONE for outcome in outcomes):
        return Judgement()
    now = _recoverer(job).look(_order(job, job.settings.backup))
    wrong = list(now.halves)
    # What stood there half done is gone, and a file system gives the number of what is gone to something new.
    whole = not job.settings.mend_only and not seen.preflight.halves
    if whole and now.present.identity == seen.preflight.present.identity:
        wrong.append(f"{now.present.name} is still the one that was there before")
    findings = tuple(
        Finding(
            check="half",
            subject=job.target.id,
            severity=Severity.CRITICAL,
            message=message,
            hint="run the restore again: it goes back first; look at the databases (folders) of that name by hand",
        )
        for message in wrong
    )
    return Judgement(findings=findings)


def _pinned(flight: Preflight) -> dict[str, Any]:
    return {"backup": flight.chosen.id if flight.chosen else recovery.LATEST}


def _nothing_to_save(job: Job[Any, Settings], flight: Preflight) -> Finding:
    return Finding(
        check="safety",
        subject=job.target.id,
        severity=Severity.CRITICAL,
        message=f"there is no {flight.present.name} now, so that no safety backup can be made",
        hint="trigger again and tick `Proceed without safety backup`",
    )


def _recoverer(job: Job[Any, Settings]) -> recovery.Recoverer:
    found: recovery.Recoverer = job.tools.recovery
    return found


def _order(job: Job[Any, Settings], backup: str) -> DatabaseOrder | TreeOrder:
    wanted, target = job.settings, job.target
    common: dict[str, Any] = {
        "backup": backup,
        "run_id": job.run_id,
        "foreign": wanted.another_server,
        "jobs": wanted.jobs,
        "programs": wanted.programs,
        "patience": wanted.patience,
    }
    if isinstance(target, PostgresTarget):
        return DatabaseOrder(
            place=_common.place(job),
            server=Database(conn_id=_conn_id(job), database=wanted.admin_database),
            application=Database(conn_id=target.conn_id, database=target.database),
            smoke=target.smoke,
            volume=target.volume,
            drain=wanted.drain,
            **common,
        )
    return TreeOrder(place=_common.place(job, "files"), **file_set(target).model_dump(), **common)


def _conn_id(job: Job[PostgresTarget, Settings]) -> str:
    return job.settings.conn_id or job.target.maintenance_conn_id or job.target.conn_id


def _proof_of(job: Job[Any, Settings], found: Preflight) -> str:
    """Say when the backup was last found whole, as the ledger knows it."""
    if found.chosen is None:
        return ""
    if not job.tools.catalogue.reachable:
        return "unknown: the ledger does not answer"
    kind: Kind = "dump" if isinstance(job.target, PostgresTarget) else "files"
    entries = job.tools.catalogue.entries(job.target.id, kind)
    known = next((e for e in entries if e.id == found.chosen.id), None)
    if known is None or (known.verified_at is None and known.tested_at is None):
        return "never verified and never restored in a test"
    said = [
        f"{what} {at:%Y-%m-%d %H:%M} UTC: {'whole' if well else 'NOT WHOLE'}"
        for what, at, well in (
            ("verified", known.verified_at, known.verified_ok),
            ("restored in a test", known.tested_at, known.tested_ok),
        )
        if at is not None
    ]
    return ", ".join(said)


def _lost(seen: Seen) -> str:
    """Say in words what came after the backup."""
    chosen, present = seen.preflight.chosen, seen.preflight.present
    assert chosen is not None
    age = duration((seen.looked - chosen.finished).total_seconds())
    if not present.exists:
        return f"there is nothing under this name now; the backup is {age} old"
    what = "rows written" if chosen.rows is not None else "files changed"
    # Counters go with the tables they belong to, and removed files are not seen.
    known = f"at least {present.changed} {what}" if present.changed is not None else f"an unknown number of {what}"
    return f"the work of the last {age} is not in the backup ({known} since)"


def _details(job: Job[Any, Settings], seen: Seen) -> dict[str, Any]:
    """Return what a person sees before agreeing; `oid` also ties the answer to this very object."""
    chosen, present = seen.preflight.chosen, seen.preflight.present
    assert chosen is not None
    rows = f"about {present.rows} rows" if present.rows is not None else "an unknown number of rows"
    tree = chosen.rows is None
    what = f"{present.items} files" if tree else f"{present.items} tables, {rows}"
    whole = f"{chosen.files} files" if tree else f"{chosen.tables} tables, {chosen.rows} rows"
    return {
        "backup": chosen.id,
        "backup_taken": chosen.finished.isoformat(),
        "backup_age_seconds": (seen.looked - chosen.finished).total_seconds(),
        "backup_holds": f"{whole}, {size(chosen.source_bytes)}",
        "backup_proof": seen.proof,
        "backup_location": chosen.location,
        "replaced": present.name,
        "replaced_holds": what if present.exists and not present.trouble else present.trouble,
        "replaced_size_bytes": present.size_bytes,
        "newest_data": _newest(present, tree),
        "would_be_lost": _lost(seen),
        "connected": _connected(present),
        "safety_backup": "NONE: ticked in the form"
        if job.settings.without_safety_backup
        else "made before the restore",
        "another_server": "yes: ticked in the form" if job.settings.another_server else "",
        "maintenance_window": _window(job),
        "to_know": [f"{o.check}: {o.message}" for o in seen.preflight.obstacles] + list(seen.preflight.halves),
        "oid": present.identity,
    }


def _newest(present: recovery.Present, tree: bool) -> str:
    if present.newest is None:
        return "" if tree or present.trouble else "unknown: no index tells a time"
    return f"{present.newest:%Y-%m-%d %H:%M:%S} UTC" + (f" in {present.newest_in}" if present.newest_in else "")


def _connected(present: recovery.Present) -> str:
    who = [f"{s.count} x {s.role} {s.application} from {s.address} ({s.state})" for s in present.sessions]
    more = f"; and {len(who) - _SESSIONS_SHOWN} more" if len(who) > _SESSIONS_SHOWN else ""
    return "; ".join(who[:_SESSIONS_SHOWN]) + more or "nobody"


def _window(job: Job[Any, Settings]) -> str:
    """Say how it stands with the maintenance window, which does not hold a restore up."""
    window, now = job.system.maintenance_window, job.tools.now()
    if window.contains(now, job.system.zone):
        return "open"
    return f"closed until {window.opens(now, job.system.zone):%Y-%m-%d %H:%M} UTC; a restore does not wait for it"


def _kept(done: Restored) -> str:
    return f" What was there before is {done.kept}" if done.kept else ""


def _warnings(job: Job[Any, Settings], done: Restored) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            check="restored",
            subject=job.target.id,
            severity=Severity.WARNING,
            message=warning,
            hint="the data are as backed up; look at this by hand",
        )
        for warning in done.warnings
    )


def _rto(job: Job[Any, Settings], done: Restored) -> tuple[Finding, ...]:
    limit = job.system.rto
    if limit is None or done.seconds <= limit.total_seconds():
        return ()
    late = Finding(
        check="rto",
        subject=job.target.id,
        severity=Severity.WARNING,
        message=f"the restore took {duration(done.seconds)}, more than the system's RTO",
        observed=duration(done.seconds),
        limit=duration(limit.total_seconds()),
        hint="more jobs, a faster store, or another promise",
    )
    return (late,)


def _evidence(job: Job[Any, Settings], done: Restored) -> dict[str, Any]:
    return {
        "backup": done.backup,
        "target": job.target.id,
        "name": done.name,
        "reason": job.settings.reason,
        "without_safety_backup": job.settings.without_safety_backup,
        "another_server": job.settings.another_server,
        "kept": done.kept,
        "undo": list(done.undo),
        "proof": done.proof,
        "seconds": round(done.seconds, 3),
        "closed_seconds": done.closed_seconds,
        "steps": [step.model_dump(mode="json") for step in done.steps],
    }
