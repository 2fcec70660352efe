"""Asks every endpoint of a service several times and says whether it is healthy, degraded or down.

Each endpoint is asked over one kept connection, one request after the other, so that the times are the service's own.
A first request that warms up connection and service is measured apart. A try is good when it is answered in time,
with the expected status and with what the body must say. From the tries follow response time (median, p95, slowest)
and error rate; from both the endpoint's state: *healthy*, *degraded* (it answers, but not always, or too slowly, or
says so itself) or *down* (no try was good). Its share of runs in which it was not down is its uptime.

When it is red:

- `reachable`: nothing answers. Is the process running, does it listen on that port, does a firewall or proxy stand
  between? The emergency DAGs for services are the next step.
- `tls`: the certificate has expired, names another host or is signed by an unknown authority.
- `status` or `body`: the service answers and says that something is wrong, usually what it depends on. Read the
  excerpt in the finding, then the service's log of this minute.
- `error_rate`: some tries failed. One of several instances may be bad, or a limit (connections, memory) is reached.
- `response_time`: compare with the history in the report. If the database got slower too, begin there.
"""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from typing import Literal

from pydantic import Field

from upkeep.core.cadence import Covers
from upkeep.core.errors import ConfigurationError
from upkeep.core.http import Request
from upkeep.core.job import Http, Job
from upkeep.core.model import Finding, Judgement, Measurement, Model, Severity, Threshold
from upkeep.core.routine import RoutineSettings
from upkeep.core.targets import Endpoint, HttpTarget
from upkeep.routines.services._tries import Asked, ask, statistics_of

TITLE = "Service health"
TARGETS = ("http",)
COVERS = Covers.NOW
ROLE = "sysadmin"

STATES = ("healthy", "degraded", "down")


class EndpointLimits(Model):
    """Limits that differ for one endpoint. What is left out is as for the other endpoints."""

    response_time: Threshold | None = None
    error_rate: Threshold | None = None
    timeout: float | None = Field(None, gt=0, le=300, description="seconds for a whole answer")
    tries: int | None = Field(None, ge=1, le=200)


class Settings(RoutineSettings):
    """How often to ask, and what is too slow or too often wrong."""

    tries: int = Field(10, ge=1, le=200, description="requests that are judged, for each endpoint")
    post_tries: int = Field(1, ge=1, le=200, description="the same for POST, which may change something each time")
    warm_up: int = Field(1, ge=0, le=10, description="requests before them that are measured apart (never POST)")
    pause: float = Field(0.02, ge=0, le=10, description="seconds between two requests")
    timeout: float = Field(10, gt=0, le=300, description="seconds for a whole answer")
    body_limit: int = Field(1 << 20, ge=1, le=64 << 20, description="bytes of a body that are read")
    follow_redirects: bool = Field(False, description="follow redirects, on the same host only")
    statistic: Literal["median", "p95", "max"] = Field("median", description="what `response_time` is compared with")
    # 500 ms: the student guide's limit (ST-D05), the widest of those that give one; 5 s: campus, critical (CM-T04).
    response_time: Threshold = Field(
        Threshold(warning=500, critical=5000), description="milliseconds, of the good tries"
    )
    # 1 %: claims (CL-D09) and campus (CM-T01); 50 %: student, critical (ST-A01).
    error_rate: Threshold = Field(
        Threshold(warning=1, critical=50), description="percent of the tries that were no good"
    )
    uptime: Threshold = Field(
        Threshold(direction="below"),
        description="percent of the last 90 runs in which it was not down (at least 10 runs)",
    )
    endpoints: dict[str, EndpointLimits] = Field(default_factory=dict, description="limits of single endpoints")


def observe(job: Job[HttpTarget, Settings]) -> tuple[Asked, ...]:
    """Ask every endpoint of the service."""
    _refuse_unknown_endpoints(job)
    with job.tools.http(conn_id=job.target.conn_id, base_url=job.target.base_url) as http:
        return tuple(_ask(job, http, name, endpoint) for name, endpoint in job.target.endpoints.items())


def judge(job: Job[HttpTarget, Settings], seen: tuple[Asked, ...]) -> Judgement:
    """Return each endpoint's state, times and faults, and the state of the service as a whole."""
    judged = [_judge_endpoint(job, asked) for asked in seen]
    states = [state for state, _ in judged]
    # One endpoint down of several: the service still does something, so it is degraded.
    overall = min(states) if min(states) == max(states) else 1
    total = sum((judgement for _, judgement in judged), Judgement())
    return total + Judgement(measurements=(Measurement(name="service.state", value=overall, unit="state"),))


def _refuse_unknown_endpoints(job: Job[HttpTarget, Settings]) -> None:
    """Limits for an endpoint that does not exist would silently judge nothing.

    Settings of the system reach all its services, so a name is known if any of them has it.
    """
    services = [t for t in job.system.targets.values() if isinstance(t, HttpTarget)]
    known = {name for service in (job.target, *services) for name in service.endpoints}
    for name in job.settings.endpoints:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise ConfigurationError(
                f"settings of {job.routine} for {job.target.id}: endpoints.{name}, but there is no endpoint {name!r};"
                f" expected one of {', '.join(sorted(known))}",
                f"did you mean {near[0]!r}?" if near else "correct the name in the system file",
            )


def _ask(job: Job[HttpTarget, Settings], http: Http, name: str, endpoint: Endpoint) -> Asked:
    settings, limits = job.settings, job.settings.endpoints.get(name, EndpointLimits())
    writes = endpoint.method == "POST"
    wanted = limits.tries or (settings.post_tries if writes else settings.tries)
    request = Request(
        path=endpoint.path,
        method=endpoint.method,
        json_body=endpoint.json_body,
        timeout=limits.timeout or settings.timeout,
        limit_bytes=settings.body_limit,
        follow_redirects=settings.follow_redirects,
    )
    warm_up = ask(http, endpoint, request, 0 if writes else settings.warm_up, settings.pause)
    asked = Asked(name, ask(http, endpoint, request, wanted, settings.pause), warm_up)
    job.tools.log.info("%s: %d of %d tries good", name, len(asked.good), len(asked.tries))
    return asked


def _judge_endpoint(job: Job[HttpTarget, Settings], asked: Asked) -> tuple[int, Judgement]:
    limits = job.settings.endpoints.get(asked.name, EndpointLimits())
    findings = [
        finding
        for finding in (
            _faults(asked, limits.error_rate or job.settings.error_rate),
            _slowness(asked, limits.response_time or job.settings.response_time, job.settings.statistic),
        )
        if finding is not None
    ]
    troubled = any(finding.severity.rank >= Severity.WARNING.rank for finding in findings)
    state = max(asked.state, int(troubled))
    uptime, rare = _uptime(job, asked.name, state)
    measured = (
        *_measurements(asked),
        Measurement(name="endpoint.state", value=state, unit="state", subject=asked.name),
    )
    return state, Judgement(measurements=(*measured, uptime), findings=(*findings, *rare))


def _faults(asked: Asked, limit: Threshold) -> Finding | None:
    """Return one finding for the bad tries: what is wrong when none was good, else how many were bad."""
    if not asked.faults:
        return None
    reasons = Counter(fault.reason for fault in asked.faults).most_common(3)
    told = "; ".join(f"{count} x {reason}" for reason, count in reasons)
    if not asked.good:
        return _down(asked, told)
    severity, crossed = limit.crossed(asked.error_rate)
    if severity is Severity.OK:
        return None
    return Finding(
        check="error_rate",
        subject=asked.name,
        severity=severity,
        message=f"{len(asked.faults)} of {len(asked.tries)} tries failed: {told}",
        observed=f"{asked.error_rate:.3g} %",
        limit=f"{crossed:g} %",
        hint="look whether one of several instances is bad, then at the service's log and limits of this minute",
    )


_HINTS = {
    "reachable": "check that the service runs and listens, and the way there; then the emergency DAG for services",
    "tls": "renew the certificate or correct the authority in the connection's extra (`verify`)",
    "status": "read the service's log of this minute; a 401 or 403 may mean that the connection's credentials expired",
    "body": "see which part reports the trouble, and begin with what it depends on (database, store, cache)",
}


def _down(asked: Asked, told: str) -> Finding:
    # The most frequent kind of fault names the finding, so that one odd try does not make it a new one tomorrow.
    check = Counter(fault.check for fault in asked.faults).most_common(1)[0][0]
    detail = next((f.detail for f in asked.faults if f.check == check and f.detail), "")
    severity = Severity.CRITICAL if asked.state == 2 else Severity.WARNING
    return Finding(
        check=check,
        subject=asked.name,
        severity=severity,
        message=f"{STATES[asked.state]}, no try was good: {told}"
        + (f"; the answer begins: {detail}" if detail else ""),
        observed=f"0 of {len(asked.tries)} tries good",
        limit="every try",
        hint=_HINTS[check],
    )


def _slowness(asked: Asked, limit: Threshold, statistic: str) -> Finding | None:
    if not asked.good:
        return None
    value = statistics_of(asked.good)[statistic]
    severity, crossed = limit.crossed(value)
    if severity is Severity.OK:
        return None
    return Finding(
        check="response_time",
        subject=asked.name,
        severity=severity,
        message=f"answers slowly: {statistic} {value:.0f} ms of {len(asked.good)} tries",
        observed=f"{value:.0f} ms",
        limit=f"{crossed:g} ms",
        hint="compare with its history in the report, and with the database's query times of this run",
    )


def _measurements(asked: Asked) -> list[Measurement]:
    values = [("error_rate", asked.error_rate, "%"), ("tries", float(len(asked.tries)), "count")]
    if asked.good:
        values += [(f"response_time.{name}", value, "ms") for name, value in statistics_of(asked.good).items()]
    if asked.warm_up:
        values.append(("response_time.warm_up", asked.warm_up[0].seconds * 1000, "ms"))
    return [Measurement(name=name, value=value, unit=unit, subject=asked.name) for name, value, unit in values]


def _uptime(job: Job[HttpTarget, Settings], endpoint: str, state: int) -> tuple[Measurement, list[Finding]]:
    """Return the share of runs in which an endpoint was not down, this one included."""
    states = [point.value for point in job.tools.history.series("endpoint.state", endpoint)] + [state]
    share = 100 * sum(1 for value in states if value < 2) / len(states)
    measured = Measurement(name="endpoint.uptime", value=share, unit="%", subject=endpoint)
    severity, crossed = job.settings.uptime.crossed(share)
    if severity is Severity.OK or len(states) < 10:
        return measured, []
    finding = Finding(
        check="uptime",
        subject=endpoint,
        severity=severity,
        message=f"was down in {sum(1 for value in states if value >= 2)} of the last {len(states)} runs",
        observed=f"{share:.4g} %",
        limit=f"{crossed:g} %",
        hint="it keeps failing: look for the common cause in the incidents of these runs",
    )
    return measured, [finding]
