"""What a restore test showed, as findings."""

from __future__ import annotations

from collections.abc import Sequence

from upkeep.core.model import Finding, Severity
from upkeep.core.restore import Tested
from upkeep.routines.backup._common import duration

_SHOWN = 5


def of(target: str, tested: Tested, rto: float | None, canary_hours: float) -> tuple[Finding, ...]:
    """Return everything that is wrong, worst first. `rto` is in seconds, None where nothing was promised."""
    found = [
        *_listed(
            "restore",
            target,
            f"backup {tested.id} could not be restored",
            tested.failures,
            "make a new backup now, test an older one (which: named), then look at the store",
        ),
        *_listed(
            "different",
            target,
            f"backup {tested.id}, restored, is not what was backed up",
            [d.told() for d in tested.differences],
            "make a new backup now and keep this one; look at who writes to the store, and at the source's indexes",
        ),
        *_listed(
            "amcheck",
            target,
            f"backup {tested.id}, restored, has damaged pages or indexes",
            tested.corruption,
            "run pg_amcheck on the source, look at the worker's disk and memory, make a new backup",
        ),
    ]
    return (
        *found,
        *_smoke(tested),
        *_missing(tested),
        *_rto(target, tested, rto),
        *_canary(target, tested, canary_hours),
    )


def rpo(target: str, age: float, limit: float | None) -> tuple[Finding, ...]:
    """Return a finding when the newest backup's content is older than promised. Both are in seconds."""
    if limit is None or age <= limit:
        return ()
    finding = Finding(
        check="rpo",
        subject=target,
        severity=Severity.WARNING,
        message=f"what was written in the last {duration(age)} is in no backup; the system may lose {duration(limit)}",
        observed=duration(age),
        limit=duration(limit),
        hint="look at the last runs of the backup and run it now; or back up more often",
    )
    return (finding,)


def _listed(check: str, target: str, message: str, said: Sequence[str], hint: str) -> list[Finding]:
    if not said:
        return []
    more = f" and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
    finding = Finding(
        check=check,
        subject=target,
        severity=Severity.CRITICAL,
        message=f"{message}: {'; '.join(said[:_SHOWN])}{more}",
        observed=f"{len(said)}",
        limit="0",
        hint=hint,
    )
    return [finding]


def _smoke(tested: Tested) -> list[Finding]:
    return [
        Finding(
            check="smoke",
            subject=name,
            severity=Severity.CRITICAL,
            message=f"restored from backup {tested.id}, question {name!r} is answered {result.seen}",
            observed=result.seen,
            limit=result.expected,
            hint="does the application's content miss, or is the question (`smoke` of the target) out of date?",
        )
        for name, result in tested.smoke.items()
        if not result.ok
    ]


def _missing(tested: Tested) -> list[Finding]:
    return [
        Finding(
            check="preflight",
            subject=f"{missing.what} {missing.name}",
            severity=Severity.UNKNOWN,
            message=missing.message + ("; the backup was not tested" if missing.stops else ""),
            hint=missing.hint,
        )
        for missing in tested.missing[:20]
    ]


def _rto(target: str, tested: Tested, limit: float | None) -> list[Finding]:
    seen = tested.recovery_seconds
    if limit is None or seen <= limit or tested.stopped or tested.failures:
        return []
    finding = Finding(
        check="rto",
        subject=target,
        severity=Severity.WARNING,
        message=f"bringing backup {tested.id} back took {duration(seen)}, promised are {duration(limit)}",
        observed=duration(seen),
        limit=duration(limit),
        hint="raise `jobs`, look at store and disk, think of physical backups; or promise what can be kept",
    )
    return [finding]


def _canary(target: str, tested: Tested, hours: float) -> list[Finding]:
    if tested.canary is None or tested.canary.age_seconds <= hours * 3600:
        return []
    age = duration(tested.canary.age_seconds)
    finding = Finding(
        check="canary",
        subject=target,
        severity=Severity.WARNING,
        message=f"the newest canary row in backup {tested.id} was {age} old when it was taken: its content is not new",
        observed=age,
        limit=f"{hours:g} h",
        hint="is it the right server and database? does a standby hang? does the canary's routine run?",
    )
    return [finding]
