"""Rotate, compress and delete log files by the system's policy, prove it, and clear away stray files.

**What it does.** A live log over the policy's size or age is renamed to `<name>-<date>-<seconds since 1970>`, a new
file with its mode, owner and ACL takes its place, and the writer is told (`reopen`). Rotated files are compressed and
deleted when they are old or many enough; the age of a file counts from its last line. Everything happens below
`folder`, no symbolic link is followed, and one run at a time works there. A repeat in the same window rotates nothing.

**What is proved.** The name means another file now; no process writes to the old one, or the new one is written to; a
compressed file decodes to the same lines and SHA-256 before the plain one goes; no deleted file is kept open. What
could not be seen is unknown. Lines, sums and times stand in the evidence of each action.

**When it is red.**

- `reopen`, `finish`: the writer still writes to the rotated file. No line is lost: the file stays as it is until it
  lets go. See `reopen` in the system file, and whether the pid file names the writer. *Unknown*: run maintenance as the
  writer's user or root, or name its `pid_file`. `still_written`: it still does so in the next run, asked again or not.
- `late_lines`: the same, by a process that is not seen from here (another container).
- `rotate`, `compress`, `delete`: not done; the message tells why. *Critical*: no room, or a compressed file that does
  not decode to the plain one (both stay).
- `proof`: after the rotation the files are not as they should be; another program works on them, too.
- `loss`: copytruncate may have lost so many bytes. Let the writer reopen instead.
- `growth`: the log was far over the policy: rotation comes too rarely, or did not run for long.
- `deleted_open`: a program holds deleted files open; restart it, or let it reopen.
- `symlink`, `outside`, `parent`, `file`: not touched, because somebody could turn the deed on another file.
- `program`: logrotate complained; it ends with 0 even when it passes over what it does not understand.
- `age`, `folder`, `unreadable` (unknown): something could not be looked at; the hint is the cure.

**By hand.** Run the weekly cadence with `routines: [logs.rotation]` and `force: true` in its settings. To undo a
rotation, rename the file back while it is not compressed, and let the writer reopen.

Stray files (`stray`) are found by pattern and age. One that a program has open, or a SQLite database whose journal was
written to lately, is left and named.
"""

from __future__ import annotations

from collections.abc import Iterator

from upkeep.core.cadence import Covers
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Judgement, Outcome, OutcomeStatus, Plan, Severity
from upkeep.core.rotation import LogFolder
from upkeep.core.targets import LogSetTarget
from upkeep.routines.logs import _rotation_deeds, _rotation_judge, _rotation_need, _rotation_seen
from upkeep.routines.logs._rotation_need import Policy
from upkeep.routines.logs._rotation_seen import Seen
from upkeep.routines.logs._rotation_settings import Settings

__all__ = ["COVERS", "ROLE", "TARGETS", "TITLE", "Settings", "act", "judge", "observe", "plan", "verify"]

TITLE = "Log rotation"
TARGETS = ("logs",)
COVERS = Covers.NOW
ROLE = "sysadmin"


def observe(job: Job[LogSetTarget, Settings]) -> Seen:
    """List logs, rotated and stray files, and who has them open."""
    return _rotation_seen.look(job)


def judge(job: Job[LogSetTarget, Settings], seen: Seen) -> Judgement:
    """Say what is refused, missing, over the policy, or not let go of."""
    return _rotation_judge.judge(seen, _policy(job))


def plan(job: Job[LogSetTarget, Settings], seen: Seen) -> Plan:
    """Plan what is due."""
    policy = _policy(job)
    return Plan(actions=tuple(_rotation_deeds.actions(policy, seen) if policy else _rotation_deeds.stray_actions(seen)))


def act(job: Job[LogSetTarget, Settings], action: Action) -> Outcome:
    """Do one action, and prove it."""
    return _rotation_deeds.do(job, action)


def verify(job: Job[LogSetTarget, Settings], seen: Seen, outcomes: tuple[Outcome, ...]) -> Judgement:
    """Look again: every log is there and within the policy, and no deleted file is kept open since."""
    policy = _policy(job)
    if policy is None or not any(outcome.status is OutcomeStatus.DONE for outcome in outcomes):
        return Judgement()
    now = _rotation_seen.look(job)
    known = {file.holder.name for file in seen.logs.deleted} if isinstance(seen.logs, LogFolder) else set()
    kept = tuple(f for f in now.logs.deleted if f.holder.name not in known) if isinstance(now.logs, LogFolder) else ()
    said = {finding.subject for outcome in outcomes for finding in outcome.findings}
    return Judgement(findings=(*_rotation_judge.deleted(kept), *_left(policy, seen, now, said)))


def _left(policy: Policy, before: Seen, now: Seen, said: set[str]) -> Iterator[Finding]:
    """Yield the logs that were due, are it still, and of which nothing was said."""
    there = {log.name: log for log in now.live}
    for log in before.live:
        after = there.get(log.name)
        if log.name in said or not _rotation_need.due(log, policy):
            continue
        if after is None or not after.there:
            yield _wrong(log.name, "is not there after its rotation")
        elif after.inode == log.inode and not policy.rotation.copytruncate:
            yield _wrong(log.name, "is the same file as before its rotation")


def _wrong(name: str, words: str) -> Finding:
    return Finding(
        check="overdue",
        subject=name,
        severity=Severity.WARNING,
        message=f"{name}: {words}",
        hint="another run or program may be at work there: look at the folder, and run log rotation again",
    )


def _policy(job: Job[LogSetTarget, Settings]) -> Policy | None:
    return _rotation_seen.policy(job, job.target.rotation) if job.target.rotation else None
