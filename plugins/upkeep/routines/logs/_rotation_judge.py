"""What is said of a target's log files before anything is done to them, and of what was left undone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta

from upkeep.core.model import Finding, Judgement, Measurement, Severity
from upkeep.core.rotation import LiveLog, LogFolder, NotDone, RotatedFile, StrayFolder, Unlinked
from upkeep.routines.database._text import byte_size, span
from upkeep.routines.logs import _rotation_need as need
from upkeep.routines.logs._rotation_need import Policy
from upkeep.routines.logs._rotation_seen import Seen

_LISTED = 5
CURE_REOPEN = (
    "correct `reopen` of the policy (signal with pid_file, or command) so that the writer opens its log anew; a writer"
    " that cannot needs `copytruncate`, which may lose lines"
)


def judge(seen: Seen, policy: Policy | None) -> Judgement:
    """Judge everything that was seen."""
    findings: list[Finding] = []
    measurements: list[Measurement] = []
    if policy is not None and isinstance(seen.logs, NotDone):
        findings.append(unlisted("folder", policy.rotation.folder, seen.logs))
    elif policy is not None and isinstance(seen.logs, LogFolder):
        findings += _folder(seen.logs)
        for log in seen.logs.logs:
            findings += _log(log, policy)
            measurements += _measured(log, policy)
    for stray, found in seen.strays:
        if isinstance(found, NotDone):
            findings.append(unlisted("stray_folder", stray.folder, found))
        else:
            findings += _strays(found)
    return Judgement(measurements=tuple(measurements), findings=tuple(once(findings)))


def once(findings: list[Finding]) -> list[Finding]:
    """Keep one finding of each check and subject: the worst, with a word on how many there are."""
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.check, finding.subject].append(finding)
    kept = []
    for group in groups.values():
        worst = max(group, key=lambda f: f.severity.rank)
        more = f" (and {len(group) - 1} more like this)" if len(group) > 1 else ""
        kept.append(worst.model_copy(update={"message": worst.message + more}))
    return kept


def unlisted(check: str, folder: str, why: NotDone) -> Finding:
    """Return the finding of a folder that could not be listed."""
    gone = why.reason == "gone"
    return Finding(
        check=check,
        subject=folder,
        severity=Severity.WARNING if gone else Severity.UNKNOWN,
        message=f"{folder}: {'is not there' if gone else f'could not be looked into: {why.message}'}",
        hint="correct `folder` in the system file" if gone else "let the user that runs maintenance read the folder",
    )


def _folder(seen: LogFolder) -> Iterator[Finding]:
    for name in seen.missing:
        yield Finding(
            check="missing",
            subject=name,
            severity=Severity.INFO,
            message=f"{seen.path}: no log {name} is there: its writer has not begun, or writes elsewhere",
            hint="correct `live` of the policy if the log has moved",
        )
    for refusal in seen.refusals:
        yield Finding(
            check=refusal.check,
            subject=refusal.name,
            severity=refusal.severity,
            message=f"{refusal.name}: {refusal.reason}; it is not touched",
            hint=refusal.hint,
        )
    yield from deleted(seen.deleted)


def deleted(files: tuple[Unlinked, ...]) -> Iterator[Finding]:
    """Yield, for each program, the deleted files that it keeps from giving back their space."""
    by_name: dict[str, list[Unlinked]] = defaultdict(list)
    for file in files:
        by_name[file.holder.name].append(file)
    for name, group in by_name.items():
        listed = ", ".join(f"{f.name} ({byte_size(f.size)}, process {f.holder.pid})" for f in group[:_LISTED])
        yield Finding(
            check="deleted_open",
            subject=name,
            severity=Severity.WARNING,
            message=f"{name} has {len(group)} deleted files open: {listed}; their space is not given back, and what is"
            " written to them is lost",
            observed=byte_size(sum(f.size for f in group)),
            hint=f"let {name} reopen its files, or restart it; look who deletes logs without telling their writer",
        )


def _log(log: LiveLog, policy: Policy) -> Iterator[Finding]:
    if log.unfinished:
        yield Finding(
            check="unfinished",
            subject=log.name,
            severity=Severity.INFO,
            message=f"{log.name}: a run was cut off while it rotated or compressed this log; it is ended now",
            hint="look why the worker was ended (memory, restart); no line is lost by it",
        )
    if log.there and log.size and log.since is None and policy.rotation.age_days is not None:
        yield Finding(
            check="age",
            subject=log.name,
            severity=Severity.UNKNOWN,
            message=f"{log.name}: when it began is unknown: no time in its first lines, and the file system keeps none",
            hint="give the policy a `size` and `age_days: null`, or let the lines begin with their time",
        )
    yield from _written_to(log, policy)
    yield from _growth(log, policy)


def _written_to(log: LiveLog, policy: Policy) -> Iterator[Finding]:
    """Yield what is wrong with the writer's reopening. Where it can be asked again, that outcome tells."""
    held = need.still_written(log)
    way = policy.rotation.reopen
    if held and not (way.signal or way.command):
        yield held_by(log, held)
    late = need.written_late(log, policy)
    if late is not None and late.rotated is not None and not held:
        after = span((late.modified - late.rotated) / timedelta(seconds=1))
        yield Finding(
            check="late_lines",
            subject=log.name,
            severity=Severity.WARNING,
            message=f"{late.name} was written to until {after} after it was rotated, by a process not seen from here",
            hint=f"the writer runs in another container or on another machine: {CURE_REOPEN}",
        )


def held_by(log: LiveLog, files: tuple[RotatedFile, ...]) -> Finding:
    """Return the finding of a writer that has not reopened."""
    who = sorted({str(holder) for file in files for holder in file.holders if holder.writes})
    return Finding(
        check="still_written",
        subject=log.name,
        severity=Severity.WARNING,
        message=f"{log.name}: {', '.join(who)} still writes to {', '.join(f.name for f in files[:_LISTED])}",
        hint=CURE_REOPEN,
    )


def _growth(log: LiveLog, policy: Policy) -> Iterator[Finding]:
    times = need.ratio(log, policy)
    severity, limit = policy.settings.growth.crossed(times)
    reason = need.beyond(log, policy)
    if severity is Severity.OK or reason is None:
        return
    yield Finding(
        check="growth",
        subject=log.name,
        severity=severity,
        message=f"{log.name}: {reason.words}: nobody has rotated it for long",
        observed=f"{times:.1f} times the policy",
        limit=f"{limit:g} times",
        hint="rotate more often (this routine in a daily cadence), or let the policy allow what the writer writes",
    )


def _measured(log: LiveLog, policy: Policy) -> Iterator[Measurement]:
    if log.there:
        yield Measurement(name="log.size", value=log.size, unit="bytes", subject=log.name)
        age = need.age_of(log, policy.now)
        if log.size and age is not None:
            yield Measurement(name="log.age", value=age / timedelta(days=1), unit="days", subject=log.name)
    total = sum(file.size for file in log.rotated)
    yield Measurement(name="rotated.count", value=len(log.rotated), unit="count", subject=log.name)
    yield Measurement(name="rotated.size", value=total, unit="bytes", subject=log.name)


def _strays(found: StrayFolder) -> Iterator[Finding]:
    for refusal in found.refusals:
        yield Finding(
            check=refusal.check,
            subject=refusal.name,
            severity=refusal.severity,
            message=f"{found.path}: {refusal.name}: {refusal.reason}",
            hint=refusal.hint,
        )
    for file in found.files:
        if file.keep:
            yield Finding(
                check="stray",
                subject=file.name,
                severity=Severity.INFO,
                message=f"{found.path}: {file.name} ({byte_size(file.size)}) is left: {file.keep}",
                hint="it goes when nobody needs it any more; end the forgotten program that has it open",
            )
    if going := [file for file in found.files if not file.keep]:
        listed = ", ".join(f"{f.name} ({byte_size(f.size)})" for f in going[:_LISTED])
        yield Finding(
            check="stray",
            subject="",
            severity=Severity.INFO,
            message=f"{found.path}: {len(going)} stray files are deleted: {listed}",
            observed=str(len(going)),
            hint="let tests and tools remove what they make",
        )
