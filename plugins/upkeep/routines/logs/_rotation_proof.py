"""What a rotation proves of itself, and what it does not."""

from __future__ import annotations

from upkeep.core.model import Action, Finding, Measurement, Outcome, OutcomeStatus, Severity
from upkeep.core.rotation import Reopened, Turned
from upkeep.routines.database._text import byte_size
from upkeep.routines.logs._rotation_judge import CURE_REOPEN


def proved(action: Action, done: Turned) -> Outcome:
    """Return the outcome of a rotation, with whatever of the proof is missing as findings."""
    found = [*_moved(action, done), *reopened(action.subject, done.reopened), *_loss(action, done)]
    if done.complaints:
        found.append(
            Finding(
                check="program",
                subject=action.subject,
                severity=Severity.WARNING,
                message=f"{action.subject}: {'; '.join(done.complaints)[:1000]}",
                hint="correct what it complains about, or set `program: builtin` for logs.rotation",
            )
        )
    lines = "not counted" if done.lines is None else f"{done.lines} lines"
    failed = any(f.severity is Severity.CRITICAL for f in found)
    return Outcome(
        status=OutcomeStatus.FAILED if failed else OutcomeStatus.DONE,
        detail=f"{done.rotated or done.name}: {byte_size(done.size)}, {lines}, by {done.by} in {done.seconds:.2f} s;"
        f" {done.reopened.told or 'nobody was told'}; {done.reopened.proof}",
        measurements=_measured(done),
        findings=tuple(found),
        evidence=done.model_dump(mode="json"),
    )


def _moved(action: Action, done: Turned) -> list[Finding]:
    """Return what is wrong with the files after the deed: the name must mean another file, the old one be there."""
    same = done.new_inode == done.old_inode
    if done.rotated and done.new_inode and same == (done.lost_bytes is not None):
        return []
    seen = "the old file is not there" if not done.rotated else f"the log has inode {done.new_inode or 'none'}"
    return [
        Finding(
            check="proof",
            subject=action.subject,
            severity=Severity.CRITICAL,
            message=f"{action.subject} after its rotation: {seen}, expected another than {done.old_inode}",
            hint="look at the folder at once: another program may rotate or delete the same files",
        )
    ]


def reopened(name: str, said: Reopened, check: str = "reopen") -> tuple[Finding, ...]:
    """Return what is to be said of the writer's reopening; nothing when it is proved and went as the policy says."""
    if said.state == "yes" and not said.trouble:
        return ()
    words = {
        "yes": said.trouble,
        "no": f"its writer has not reopened after {said.seconds:.0f} s: {said.proof}",
        "unknown": f"whether its writer has reopened is unknown: {said.proof}",
    }[said.state]
    hint = (
        "let maintenance run as root or as the writer's user, or name the writer's `pid_file` in the policy"
        if said.state == "unknown"
        else CURE_REOPEN
    )
    return (
        Finding(
            check=check,
            subject=name,
            severity=Severity.UNKNOWN if said.state == "unknown" else Severity.WARNING,
            message=f"{name}: {words}" + (f"; {said.trouble}" if said.trouble and said.state != "yes" else ""),
            hint=hint,
        ),
    )


def _loss(action: Action, done: Turned) -> list[Finding]:
    if not done.lost_bytes:
        return []
    lines = done.lost_bytes * (done.lines or 0) // max(done.size, 1)
    return [
        Finding(
            check="loss",
            subject=action.subject,
            severity=Severity.WARNING,
            message=f"{action.subject}: up to {done.lost_bytes} bytes (about {max(lines, 1)} lines) written between"
            f" copy and emptying were lost, at {byte_size(done.rate)} a second",
            observed=f"{done.lost_bytes} bytes",
            hint="let the writer reopen its file (`reopen`) instead of `copytruncate`: then no line is lost",
        )
    ]


def _measured(done: Turned) -> tuple[Measurement, ...]:
    values: list[tuple[str, float | None, str]] = [
        ("rotate.size", done.size, "bytes"),
        ("rotate.lines", done.lines, "count"),
        ("rotate.seconds", done.seconds, "s"),
        ("reopen.seconds", done.reopened.seconds, "s"),
        ("loss.size", done.lost_bytes, "bytes"),
    ]
    return tuple(Measurement(name=n, value=v, unit=u, subject=done.name) for n, v, u in values if v is not None)
