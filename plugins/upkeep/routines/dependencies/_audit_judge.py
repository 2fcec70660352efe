"""What an audit's vulnerabilities mean for whoever is on duty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from upkeep.core.audit import Audited, Rating, Verdict
from upkeep.core.dependencies import Ignore
from upkeep.core.model import Finding, Judgement, Measurement, Severity
from upkeep.routines.dependencies._audit_known import Known, concerns, remembered
from upkeep.routines.dependencies._audit_settings import Settings

_RATED = (Rating.CRITICAL, Rating.HIGH, Rating.MEDIUM, Rating.LOW, Rating.UNKNOWN)
_PLACES = 5


def judge_known(known: Sequence[Known], settings: Settings, *, remembers: bool) -> Judgement:
    """Return one finding for each vulnerability, and what the next run must remember.

    :param remembers: whether the ledger answers. Without it nobody can tell what is new: then nothing of it pages by
        itself, and one finding says so.
    """
    findings = [_finding(one, settings, remembers) for one in known]
    if known and not remembers:
        findings.append(_forgotten(known))
    return Judgement(measurements=tuple(remembered(known)) if remembers else (), findings=tuple(findings))


def judge_ignores(ignores: Sequence[Ignore], known: Sequence[Known], audited: Audited, today: str) -> list[Finding]:
    """Return what is wrong with what somebody answers for: over, or about nothing that is there."""
    found = []
    # Of several with one subject the last day counts: somebody has answered for it again.
    newest = {_about(one): one for one in sorted(ignores, key=lambda one: one.until)}
    for subject, ignore in newest.items():
        there = [one for one in known if concerns(ignore, one.places)]
        if ignore.until.isoformat() < today and any(one.ignored is None for one in there):
            found.append(
                Finding(
                    check="ignore",
                    subject=subject,
                    severity=Severity.WARNING,
                    message=f"{ignore.owner} answered for {subject} until {ignore.until}; that is over, and it is still"
                    f" there: {ignore.reason}",
                    observed=today,
                    limit=str(ignore.until),
                    hint="update the package, or have its owner give a new reason and day",
                )
            )
        elif not there and audited.verdict in (Verdict.CLEAN, Verdict.VULNERABLE) and not audited.unanswered:
            found.append(
                Finding(
                    check="ignore",
                    subject=subject,
                    severity=Severity.INFO,
                    message=f"the ignore of {subject} ({ignore.owner}) matches nothing that was found",
                    hint="remove it from the system file",
                )
            )
    return found


def _about(ignore: Ignore) -> str:
    return f"{ignore.package} {ignore.advisory}" if ignore.package else ignore.advisory


def counts(known: Sequence[Known], audited: Audited) -> tuple[Measurement, ...]:
    """Return how many there are of what. The verdict is its position: clean, vulnerable, partial, unknown."""
    rated = Counter(one.worst.rating for one in known)
    values = [(f"vulnerabilities.{rating}", rated[rating]) for rating in _RATED]
    values += [
        ("vulnerabilities.new", sum(one.new for one in known)),
        ("vulnerabilities.overdue", sum(one.overdue for one in known)),
        ("vulnerabilities.ignored", sum(one.ignored is not None for one in known)),
        ("packages.listed", len(audited.listed.packages)),
        ("packages.unlisted", len(audited.listed.unlisted)),
        ("packages.unanswered", len(audited.unanswered)),
    ]
    measured = [Measurement(name=name, value=value, unit="count") for name, value in values]
    verdict = Measurement(name="audit.verdict", value=list(Verdict).index(audited.verdict), unit="state")
    return (*measured, verdict)


def _finding(one: Known, settings: Settings, remembers: bool) -> Finding:
    pages = one.pages and remembers
    fatal = Severity.CRITICAL if one.rating in settings.fatal else Severity.WARNING
    worst = one.worst
    return Finding(
        check="vulnerability",
        subject=one.subject,
        severity=fatal if pages else Severity.INFO,
        message=_message(one, remembers),
        observed=worst.rating.value if worst.score is None else f"{worst.rating.value} {worst.score}",
        limit=f"due {one.due:%Y-%m-%d}" if remembers else "",
        hint=_hint(one),
    )


def _message(one: Known, remembers: bool) -> str:
    worst = one.worst
    state = [word for word, holds in _STATES if holds(one)] if remembers else ["since when is not known"]
    versions = ", ".join(dict.fromkeys(v.package.version for v in one.places))
    names = ", ".join((worst.id, *worst.aliases))
    fixed = f"fixed in {worst.fixed}" if worst.fixed else "no fixed version yet"
    # Who rates it; the vector by which is for machines, and in the bill of materials.
    by = worst.rated_by.partition(" ")[0]
    rated = f"{worst.rating} by {by}" if by else f"no source rates it, treated as {one.rating}"
    parts = [
        f"{_name(one)} {versions}: {worst.summary or 'vulnerable'} ({names})",
        f"{', '.join(state)}; {rated}",
        fixed,
        f"first seen {one.first_seen:%Y-%m-%d}" if remembers else "",
        _where(one),
        worst.note,
    ]
    if one.ignored:
        parts.append(f"{one.ignored.owner} answers for it until {one.ignored.until}: {one.ignored.reason}")
    return "; ".join(part for part in parts if part)


_STATES = (
    ("ignored", lambda one: one.ignored is not None),
    ("overdue", lambda one: one.overdue),
    ("new", lambda one: one.new),
    ("can be fixed since today", lambda one: one.newly_fixable),
    ("known", lambda one: not (one.overdue or one.new or one.newly_fixable)),
)


def _where(one: Known) -> str:
    words = {True: "direct", False: "transitive", None: "direct or transitive is not known"}
    told = list(dict.fromkeys(f"in {v.package.where} ({words[v.package.direct]})" for v in one.places))
    more = f" and {len(told) - _PLACES} more places" if len(told) > _PLACES else ""
    built = list(dict.fromkeys(v.package.name for v in one.places if v.package.source_package))
    as_what = f"as {', '.join(built[:_PLACES])}{' ...' if len(built) > _PLACES else ''} " if built else ""
    return as_what + ", ".join(told[:_PLACES]) + more


def _name(one: Known) -> str:
    return one.worst.package.source_package or one.worst.package.name


def _hint(one: Known) -> str:
    name, fixed = _name(one), one.worst.fixed
    if one.worst.note:
        return "look the advisory up by its id; what could not be found out stands in the message"
    if fixed:
        return f"update {name} to {fixed} or later, or have somebody answer for it (`ignores`: owner, reason, until)"
    return (
        f"there is no fix: see what the advisory advises, do without {name}, or have somebody answer for it (`ignores`)"
    )


def _forgotten(known: Sequence[Known]) -> Finding:
    return Finding(
        check="history",
        subject="ledger",
        severity=Severity.UNKNOWN,
        message=f"the ledger does not answer: which of {len(known)} vulnerabilities are new or overdue is not known",
        hint="bring the ledger back (connection upkeep_ledger) and run the audit again",
    )
