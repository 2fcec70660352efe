"""Judges what an access log says: errors, times, logins, uploads; `_access_hostile` has the rest."""

from __future__ import annotations

from collections.abc import Iterator

from upkeep.core.access_log import AccessReview, RouteUse
from upkeep.core.model import Finding, Judgement, Measurement, Severity
from upkeep.routines.logs import _access_hostile
from upkeep.routines.logs._access_say import answered, judged, lines, share, told
from upkeep.routines.logs._access_settings import AccessLimits


def judge(review: AccessReview, limits: AccessLimits) -> Judgement:
    """Return numbers and findings. Rates and percentiles of fewer than `least_requests` requests are not judged."""
    findings = [
        *_lines(review, limits),
        *_errors(review, limits),
        *_times(review, limits),
        *_routes(review, limits),
        *_uses(review, limits),
        *_access_hostile.judge(review, limits),
        *_bounds(review),
    ]
    return Judgement(measurements=tuple(_measured(review)), findings=tuple(findings))


def _measured(review: AccessReview) -> Iterator[Measurement]:
    def of(name: str, value: float, unit: str = "count", subject: str = "") -> Measurement:
        return Measurement(name=name, value=value, unit=unit, subject=subject)

    yield of("access.requests", review.requests)
    yield of("access.unparsed", review.lines.unparsed)
    yield of("access.bytes", review.bytes, "bytes")
    yield of("access.clients", review.distinct_clients)
    for hundred in (2, 3, 4, 5):
        count = sum(n for status, n in review.statuses.items() if status // 100 == hundred)
        yield of("access.status", count, subject=f"{hundred}xx")
    for name, hundred in (("client_errors", 400), ("server_errors", 500)):
        if (rate := review.share(hundred)) is not None:
            yield of(f"access.{name}", rate, "%")
    if review.times is not None:
        for name in ("p50", "p95", "p99", "max"):
            yield of("access.response_time", getattr(review.times, name), "s", name)
    for route in review.routes:
        if route.times is not None:
            yield of("access.route_p95", route.times.p95, "s", route.route)
        yield of("access.route_requests", route.requests, subject=route.route)
    kinds = {"sqli": 0, "xss": 0, "traversal": 0, "command": 0}
    for attack in review.attacks:
        kinds[attack.kind] += attack.answers.requests
    for kind, count in kinds.items():
        yield of("access.attacks", count, subject=kind)
    totals = {
        "denied": review.denied, "failed_logins": review.failed_logins, "logins": review.logins.requests,
        "tokens": review.tokens.requests, "uploads": review.uploads.requests, "refused_writes": review.refused_writes,
        "failed_writes": review.writes.refused + review.writes.failed,
        "probes": sum(p.answers.requests for p in review.probes),
        "scanners": sum(s.answers.requests for s in review.scanners), "leaks": sum(k.count for k in review.leaks),
    }  # fmt: skip
    for name, count in totals.items():
        yield of(f"access.{name}", count)


def _lines(review: AccessReview, limits: AccessLimits) -> Iterator[Finding]:
    """Tell of files and lines of which it is not known what they say."""
    for unread in review.lines.unread:
        yield told(
            "unread", unread.path, f"{unread.path} was not read to its end: {unread.reason}", hint=unread.hint,
            severity=Severity.UNKNOWN,
        )  # fmt: skip
    seen = review.lines
    if seen.unparsed:
        samples = [f"{s.path} at {s.offset:,}: {s.text}" for s in seen.samples]
        window = seen.unparsed + seen.in_window
        head = f"{seen.unparsed:,} of {window:,} lines do not have the declared format; the first of them:"
        yield from judged(
            "unparsed", "lines", limits.unparsed, share(seen.unparsed, window), message=lines(head, samples),
            hint="correct `format` of the log set, or see what writes such lines", unit=" %",
        )  # fmt: skip
    if review.times is not None and review.untimed:
        yield told(
            "untimed", "lines", f"of {review.untimed:,} of {review.requests:,} requests no response time is logged",
            hint="with combined_time the request time stands behind the agent: '$request_time' of nginx",
        )  # fmt: skip


def _errors(review: AccessReview, limits: AccessLimits) -> Iterator[Finding]:
    if review.requests < limits.least_requests:
        return
    for check, hundred, limit in (
        ("server_errors", 500, limits.server_errors),
        ("client_errors", 400, limits.client_errors),
    ):
        rate = review.share(hundred) or 0.0
        codes = {s: n for s, n in review.statuses.items() if s // 100 * 100 == hundred}
        told_codes = ", ".join(f"{n:,} x {status}" for status, n in sorted(codes.items(), key=lambda i: -i[1])[:5])
        column = f"errors_{hundred // 100}xx"
        worst = sorted((r for r in review.routes if getattr(r, column)), key=lambda r: -getattr(r, column))
        rows = [f"{getattr(r, column):,} of {r.requests:,}: {r.route}" for r in worst[: limits.top]]
        yield from judged(
            check, "requests", limit, rate,
            message=lines(f"{rate:.2f} % of {review.requests:,} requests were answered {hundred}: {told_codes}", rows),
            hint="begin with the route at the top; the application's log of the same minutes says why", unit=" %",
        )  # fmt: skip


def _times(review: AccessReview, limits: AccessLimits) -> Iterator[Finding]:
    times = review.times
    if times is None or times.count < limits.least_requests:
        return
    over = ", ".join(f"{n:,} over {s} s" for s, n in review.slow_over.items() if n)
    yield from judged(
        "response_time", "p95", limits.response_time, times.p95,
        message=f"of {times.count:,} requests one in twenty took longer than {times.p95:.3f} s"
        f" (p50 {times.p50:.3f}, p99 {times.p99:.3f}, slowest {times.max:.3f} s; {over or 'none over 1 s'})",
        hint="see `route_time` and `slowest`; compare with database.slow_queries of the same day", unit=" s",
    )  # fmt: skip
    late = [s for s in review.slowest if limits.response_time.judge(s.seconds) is not Severity.OK]
    if late:
        rows = [
            f"{s.seconds:.3f} s: {s.at:%Y-%m-%d %H:%M:%S} UTC {s.client} {s.method} {s.target} -> {s.status}"
            for s in late[: limits.top]
        ]
        yield told("slowest", "requests", lines(f"the slowest of {times.count:,} requests:", rows))


def _routes(review: AccessReview, limits: AccessLimits) -> Iterator[Finding]:
    for route in review.routes:
        if route.requests >= limits.least_requests:
            yield from _route(route, limits)


def _route(route: RouteUse, limits: AccessLimits) -> Iterator[Finding]:
    if route.times is not None and route.times.count >= limits.least_requests:
        yield from judged(
            "route_time", route.route, limits.route_time, route.times.p95,
            message=f"{route.route}: one in twenty of {route.times.count:,} requests took longer than"
            f" {route.times.p95:.3f} s (p50 {route.times.p50:.3f}, slowest {route.times.max:.3f} s)",
            hint="profile it, or let it answer at once and work in the background", unit=" s",
        )  # fmt: skip
    yield from judged(
        "route_errors", route.route, limits.route_errors, share(route.errors_5xx, route.requests),
        message=f"{route.route}: {route.errors_5xx:,} of {route.requests:,} requests were answered 5xx",
        hint="the application's log of the same minutes says why", unit=" %",
    )  # fmt: skip


def _uses(review: AccessReview, limits: AccessLimits) -> Iterator[Finding]:
    """Judge logins, tokens, uploads and writing requests by the share that went wrong."""
    tried = max(review.logins.requests, review.failed_logins)
    if tried >= limits.least_requests:
        yield from judged(
            "failed_logins", "logins", limits.failed_logins, share(review.failed_logins, tried),
            message=f"{review.failed_logins:,} of {tried:,} logins failed",
            hint="many clients: a wrong release or a stolen list of passwords; few: see `client_logins`", unit=" %",
        )  # fmt: skip
    for check, uses, limit, bad, hint in (
        ("tokens", review.tokens, limits.tokens, 0, "expired keys, a wrong clock, or guessing"),
        ("uploads", review.uploads, limits.uploads, review.uploads.failed, "limits of size (413), a full disk, rights"),
        ("writes", review.writes, limits.writes, review.writes.failed, "see which routes and clients"),
    ):
        if uses.requests < limits.least_requests:
            continue
        rows = [f"{w.count:,} x {w.status}: {w.method} {w.route}" for w in review.failed_writes[: limits.top]]
        text = f"{check}: {answered(uses)}"
        yield from judged(
            check, check, limit, share(uses.refused + bad, uses.requests),
            message=lines(text, rows if check == "writes" else ()), hint=hint, unit=" %",
        )  # fmt: skip


def _bounds(review: AccessReview) -> Iterator[Finding]:
    for capped in review.capped:
        yield told(
            "capped", capped.what, f"there were too many {capped.what} to tell all apart: {capped.folded:,} requests"
            f" are counted together, and numbers of single {capped.what} may be too low by up to {capped.at_most:,}",
            hint="totals are exact; for more detail raise max_clients or max_routes in the options",
        )  # fmt: skip
