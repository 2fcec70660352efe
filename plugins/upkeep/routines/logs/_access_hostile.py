"""Judges what an access log says of attacks, guessing, scanners and secrets."""

from __future__ import annotations

from collections.abc import Iterator

from upkeep.core.access_log import AccessReview, Answers
from upkeep.core.model import Finding, Severity
from upkeep.routines.logs._access_say import answered, judged, lines, score, told
from upkeep.routines.logs._access_settings import AccessLimits

_CURE = {
    "sqli": "see that the route passes values as parameters; look into the database's log for errors of syntax",
    "xss": "see that the page escapes what it shows; set a Content-Security-Policy",
    "traversal": "see that names of files are looked up and never joined; the answer's size tells what was sent",
    "command": "see that the program starts no shell and is not an old version; look at its processes",
}


def judge(review: AccessReview, limits: AccessLimits) -> Iterator[Finding]:
    """Yield the findings."""
    yield from _attacks(review, limits)
    yield from _probes(review, limits)
    yield from _guessing(review, limits)
    yield from _foreign(review, limits)
    yield from _leaks(review, limits)
    yield from _suspicious(review, limits)


def _sum(answers: list[Answers]) -> Answers:
    names = Answers.model_fields
    return Answers(**{name: sum(getattr(a, name) for a in answers) for name in names})


def _attacks(review: AccessReview, limits: AccessLimits) -> Iterator[Finding]:
    for kind in dict.fromkeys(a.kind for a in review.attacks):
        found = [a for a in review.attacks if a.kind == kind]
        total = _sum([a.answers for a in found])
        reached = total.passed + total.failed
        rows = [
            f"{a.title} (CRS {a.rule}), first {a.first:%Y-%m-%d %H:%M:%S} UTC, {answered(a.answers)}: {a.sample}"
            for a in found[: limits.top]
        ]
        head = f"{answered(total)} with the signature of {kind}; {reached:,} of them were answered 2xx or 5xx"
        yield told(
            "attack", kind, lines(head, rows), severity=Severity(limits.attack) if reached else Severity.INFO,
            hint=_CURE[kind] if reached else "all were refused; block the client if it goes on",
        )  # fmt: skip


def _probes(review: AccessReview, limits: AccessLimits) -> Iterator[Finding]:
    quiet = []
    for probe in review.probes:
        if probe.answers.passed:
            yield told(
                "probe", probe.name, f"{probe.name}: {answered(probe.answers)}, for example {probe.sample}",
                severity=Severity(limits.probe),
                hint="see what is sent: a file with secrets, or the page that a site gives to every address",
            )  # fmt: skip
        else:
            quiet.append(f"{probe.name}: {answered(probe.answers)}")
    quiet += [f"agent {s.name}: {answered(s.answers)}" for s in review.scanners]
    if quiet:
        yield told("scanners", "requests", lines("scanners were here:", quiet[: 2 * limits.top]))


def _guessing(review: AccessReview, limits: AccessLimits) -> Iterator[Finding]:
    minutes = limits.options.burst_minutes
    for burst in review.bursts[: limits.top]:
        yield from judged(
            "burst", burst.client, limits.burst, burst.count,
            message=f"{burst.client} was refused with 401 or 403 {burst.count:,} times within {minutes} minutes,"
            f" from {burst.at:%Y-%m-%d %H:%M} UTC",
            hint="a program with old credentials, or guessing: see its requests, limit its rate or block it", unit="",
        )  # fmt: skip
    worst = sorted(review.clients, key=lambda c: (-c.failed_logins, c.client))
    for client in worst[: limits.top]:
        yield from judged(
            "client_logins", client.client, limits.client_logins, client.failed_logins,
            message=f"{client.client} failed to log in {client.failed_logins:,} times",
            hint="see whether it got in afterwards; lock the accounts that it tried, block it", unit="",
        )  # fmt: skip


def _foreign(review: AccessReview, limits: AccessLimits) -> Iterator[Finding]:
    """Tell of pages elsewhere that send forms here: the sign of CSRF that an access log has."""
    for page in review.referrers[: limits.top]:
        if page.host in limits.own_hosts or (not limits.own_hosts and page.passed):
            continue
        yield from judged(
            "foreign_writes", page.host, limits.foreign_writes, page.refused,
            message=f"{page.refused:,} writing requests came from pages of {page.host} and were refused with 403;"
            f" {page.passed:,} were accepted",
            hint="one of your own hosts: name it in `own_hosts`; else somebody tries to act for your users", unit="",
        )  # fmt: skip


def _leaks(review: AccessReview, limits: AccessLimits) -> Iterator[Finding]:
    for leak in review.leaks[: limits.top]:
        yield told(
            "leak", f"{leak.kind} in {leak.route}", f"{leak.count:,} addresses hold a {leak.kind}: {leak.sample}",
            severity=Severity(limits.leak),
            hint="send it in a header or a body, replace it, and clean logs and backups",
        )  # fmt: skip


def _suspicious(review: AccessReview, limits: AccessLimits) -> Iterator[Finding]:
    """Name clients that did several such things; what each was is judged by itself, so this only informs."""
    ranked = sorted(review.clients, key=lambda c: (-score(c), c.client))
    named = [c for c in ranked if score(c) >= limits.suspicious][: limits.top]
    if named:
        rows = [
            f"{c.client}: score {score(c):,}; {c.requests:,} requests, {c.attacks:,} attacks, {c.probes:,} probes,"
            f" {c.failed_logins:,} failed logins, {c.denied:,} refused (401, 403), {c.not_found:,} not found"
            for c in named
        ]
        yield told("suspicious", "clients", lines("suspicious clients:", rows), hint="block those that go on")
