"""Back a Redis (or Valkey) server's data up into the store, as the RDB that it would send to a new replica.

**What it does.** It asks for the data as a replica does (`PSYNC`), so nothing of the server's disk need be seen. The
server forks, and its child sends a snapshot: memory for pages that change meanwhile, and one core for a while. The file
is whole when its end mark and its CRC-64 are right; where a `redis-server` (or `valkey-server`) program is found, it is
loaded there at once and the keys of every database are counted. Then it is packed, stored, and its manifest written
last: **without a manifest there is no backup.**

**Restoring by hand.** Fetch `dump.rdb.gz`, `gunzip`, stop the server, put the file where `dir` and `dbfilename` say,
remove the `appendonlydir` (it would win over the file) or set `appendonly no`, start the server, then switch
`appendonly` on again with CONFIG SET.

**When it is red.**

- `privilege`: the connection's user may not replicate. The hint has the ACL; nothing has been backed up.
- `unsupported`: the server lets nobody replicate it, as managed services do. Let its provider make snapshots.
- *ended the connection*: the server was stopped, or its child failed (see its log: memory, disk). It is tried again.
- `checksum`: the server was told to write none (`rdbchecksum no`); damage on its side would not be noticed.
- `not_loaded`: no program on the worker could load the file: its keys are not proved.
- `emptied`: there is not one key any more, and there were some. Did it start without its data? Restore what was.
- `manifest`: the store did not keep what was written. Look at the store, then run this again.
"""

from __future__ import annotations

from pydantic import Field

from upkeep.core.backup import CopyManifest
from upkeep.core.cadence import Covers
from upkeep.core.copies import Refused
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Judgement, Outcome, OutcomeStatus, Plan, Severity
from upkeep.core.targets import RedisTarget
from upkeep.routines.backup import _common, _copies
from upkeep.routines.backup._copies import CopySettings, Seen

TITLE = "Redis backup"
TARGETS = ("redis",)
COVERS = Covers.NOW
ROLE = "sysadmin"


class Settings(CopySettings):
    """How to copy."""

    programs: str = Field("", description="folder with redis-server; default: UPKEEP_REDIS_BIN, then PATH")


def observe(job: Job[RedisTarget, Settings]) -> Seen:
    """Ask the server who it is, and the store what is there."""
    server = job.tools.copies.redis(job.target.conn_id)
    source = f"Redis {server.version}, {sum(server.keys.values())} keys,"
    return _copies.look(job, _common.place(job, "redis"), source, server.used_memory)


def judge(job: Job[RedisTarget, Settings], seen: Seen) -> Judgement:
    """Measure."""
    return _copies.measured(seen)


def plan(job: Job[RedisTarget, Settings], seen: Seen) -> Plan:
    """Sweep leftovers when there are any, then back up."""
    return _copies.planned(job, seen)


def act(job: Job[RedisTarget, Settings], action: Action) -> Outcome:
    """Sweep or back up."""
    place = _common.place(job, "redis")
    if action.name == "sweep":
        return _common.sweep(job, place, _copies.patience(job))
    report = _common.Reporter(job.tools.log.info, job.tools.now, job.settings.progress_seconds)
    options = _copies.options(job, programs=job.settings.programs)
    kept = job.tools.copies.copy_redis(job.target.conn_id, place, options, job.run_id, report)
    if isinstance(kept, Refused):
        return _refused(job, kept)
    proof = kept.manifest.proof
    keys = _keys(kept.manifest)
    made = _copies.outcome(
        kept,
        proof["used_memory"],
        f"{keys} keys, {'loaded by ' + proof['loaded_by'] if proof['loaded_by'] else 'not loaded'}",
        keys=keys,
    )
    emptied = _copies.emptied(job, place, kept.manifest, _keys, Severity.WARNING)
    return made.model_copy(update={"findings": (*_unproved(job, kept.manifest), *emptied)})


def verify(job: Job[RedisTarget, Settings], seen: Seen, outcomes: tuple[Outcome, ...]) -> Judgement:
    """Read the manifest back from the store and see that every object is there with its size."""
    return _common.kept_as_written(job, seen.place, outcomes)


def _keys(manifest: CopyManifest) -> int:
    return sum((manifest.proof["keys"] or manifest.proof["keys_after"]).values())


def _refused(job: Job[RedisTarget, Settings], refused: Refused) -> Outcome:
    finding = Finding(
        check=refused.reason,
        subject=job.target.id,
        severity=Severity.UNKNOWN,
        message=f"{refused.message}: nothing was backed up",
        hint=refused.hint,
    )
    return Outcome(status=OutcomeStatus.FAILED, detail=refused.message, findings=(finding,))


def _unproved(job: Job[RedisTarget, Settings], manifest: CopyManifest) -> tuple[Finding, ...]:
    """Tell what of the proof could not be had: what the file could still be wrong in."""
    findings = []
    if not manifest.proof["checksum"]:
        findings.append(
            Finding(
                check="checksum",
                subject=job.target.id,
                severity=Severity.WARNING,
                message="the server wrote no checksum into the dump: damage on its way here would not be noticed",
                hint="set `rdbchecksum yes` in its configuration",
            )
        )
    if not manifest.proof["loaded_by"]:
        findings.append(
            Finding(
                check="not_loaded",
                subject=job.target.id,
                severity=Severity.UNKNOWN,
                message="no server program on this worker could load the dump: which keys are in it is not proved",
                hint="install a redis-server of the server's version there, or name its folder in UPKEEP_REDIS_BIN",
            )
        )
    return tuple(findings)
