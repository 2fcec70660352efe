"""What an audit could not look at, and who must know."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from upkeep.core.audit import Audited, CrossChecked, Unlisted, Verdict
from upkeep.core.job import History
from upkeep.core.model import Finding, Measurement, Severity

# What follows the file's name: a line, or an entry in it.
_INSIDE = re.compile(r":\s?\d+$|: .*$|, entry.*$")
_TOLD = 5
_HELD = "source.advisories"
_RUNS = 4
# Ours: the published databases have not lost one in a hundred at once.
_KEPT = 0.9


def troubles(audited: Audited) -> list[Finding]:
    """Return a finding for each manifest and source with trouble; a verdict that is not clear never has none."""
    found = [
        *_grouped("unlisted", audited.listed.unlisted, "packages that are not known"),
        *_grouped("source", audited.problems, "the source of advisories"),
    ]
    unclear = audited.verdict in (Verdict.PARTIAL, Verdict.UNKNOWN)
    if audited.unanswered or (unclear and not found):
        found.append(_unclear(audited))
    return found


def remarks(audited: Audited, whole: bool) -> list[Finding]:
    """Return what somebody should know about the answer, though nothing is wrong.

    :param whole: an environment or lock is audited too, in which all that comes with a package is named.
    """
    found = []
    if audited.listed.open_ended and not whole:
        named = ", ".join(audited.listed.open_ended)
        found.append(
            Finding(
                check="open_ended",
                subject=audited.listed.open_ended[0],
                severity=Severity.INFO,
                message=f"{named}: what these packages bring along is audited only where it is named there too",
                hint="audit the environment (`environment`) or a lock as well, or pin with hashes",
            )
        )
    if audited.undecided:
        found.append(
            Finding(
                check="commits",
                subject="advisories",
                severity=Severity.INFO,
                message=f"{audited.undecided} advisories on these packages name commits only (GIT ranges); versions"
                " cannot be compared with those, so they were left out",
                hint="nothing to do; a second source may know the versions",
            )
        )
    return found


def shrunk(audited: Audited, history: History) -> Iterable[Finding]:
    """Yield a finding for each folder that holds far fewer advisories than lately: a copy that was cut off looks so.

    Mirrors only grow, but for the few that are withdrawn. Compared with the last few runs, so that it ends by itself.
    """
    for state in audited.sources:
        past = [point.value for point in history.series(_HELD, state.place, _RUNS)]
        if state.advisories is not None and past and state.advisories < _KEPT * max(past):
            yield Finding(
                check="mirror",
                subject=state.place,
                severity=Severity.UNKNOWN,
                message=f"{state.place} holds {state.advisories} advisories and held {max(past):.0f} lately: what is"
                " missing cannot be found, whatever the verdict says",
                observed=str(state.advisories),
                limit=f"{_KEPT * max(past):.0f}",
                hint="let the mirror run again to its end, and see why it stopped or removed so many",
            )


def crossed(checked: CrossChecked | None, wanted: bool) -> list[Finding]:
    """Return what a second program sees otherwise, or that it saw nothing."""
    if not wanted:
        return []
    if checked is None:
        return [_not_crossed("no source is a service that pip-audit could ask (`url`), or there is nothing to ask")]
    if checked.failed:
        return [_not_crossed(f"{checked.program}: {checked.failed}")]
    if not checked.differences:
        return []
    return [
        Finding(
            check="cross_check",
            subject=checked.program,
            severity=Severity.WARNING,
            message=f"{checked.program} and this audit differ on the same advisories: {'; '.join(checked.differences)}",
            hint="look these advisories up by hand; one of the two is wrong",
        )
    ]


def ages(audited: Audited, now: datetime) -> Iterable[Measurement]:
    """Yield how old each folder of advisories is, and how many it holds."""
    for state in audited.sources:
        yield Measurement(name="source.answered", value=state.answered, unit="count", subject=state.place)
        yield Measurement(name="source.seconds", value=round(state.seconds, 4), unit="s", subject=state.place)
        if state.advisories is not None:
            yield Measurement(name=_HELD, value=state.advisories, unit="count", subject=state.place)
        if state.newest is not None:
            age = (now - state.newest).total_seconds() / 86400
            yield Measurement(name="source.age", value=round(age, 3), unit="days", subject=state.place)


def _grouped(check: str, troubles: Sequence[Unlisted], what: str) -> Iterable[Finding]:
    places: dict[str, list[Unlisted]] = {}
    for trouble in troubles:
        places.setdefault(_INSIDE.sub("", trouble.where) or trouble.where, []).append(trouble)
    for place, group in places.items():
        told = "; ".join(f"{t.where}: {t.reason}" if t.where != place else t.reason for t in group[:_TOLD])
        more = f"; and {len(group) - _TOLD} more" if len(group) > _TOLD else ""
        yield Finding(
            check=check,
            subject=place,
            severity=Severity.UNKNOWN,
            message=f"{place}: {what}: {told}{more}",
            observed=f"{len(group)}",
            limit="0",
            hint=group[0].hint,
        )


def _unclear(audited: Audited) -> Finding:
    silent = audited.unanswered
    names = ", ".join(f"{p.name} {p.version}" for p in silent[:_TOLD])
    more = f" and {len(silent) - _TOLD} more" if len(silent) > _TOLD else ""
    nothing = "there is nothing to look up" if not audited.listed.packages else "no source answered"
    told = f"no source answered for {len(silent)} of {len(audited.listed.packages)} packages: {names}{more}"
    return Finding(
        check="verdict",
        subject="audit",
        severity=Severity.UNKNOWN,
        message=f"{audited.verdict.upper()}: {told if silent else nothing}",
        observed=audited.verdict,
        limit=f"{Verdict.CLEAN} or {Verdict.VULNERABLE}",
        hint="cure what stands beside this (sources, manifests); until then these packages count as not audited",
    )


def _not_crossed(reason: str) -> Finding:
    return Finding(
        check="cross_check",
        subject="pip-audit",
        severity=Severity.UNKNOWN,
        message=f"the cross-check that is asked for was not done: {reason}",
        hint="install pip-audit beside Airflow, name a source by `url`, or set `cross_check: false`",
    )
