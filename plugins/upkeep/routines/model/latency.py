"""Measures how long the model takes for a prediction, where users wait for it.

**What it does.** It asks the endpoint that serves the model (`endpoint`, with the body that the system file gives), one
request after the other over one connection; the first few, which warm up service and connection, do not count. Median,
p95 and slowest of the rest are recorded, and p95 is compared with the guide's limit (`latency_ms` of the target).
Without an endpoint, the model file itself is asked, in the restricted process of `model.health` and only when its hash
is known, with the sample rows of the settings. Whether the service is up at all is for `services.health` to say.

**When it is red.**

- `latency`: compare with its history in the report. Slower since a deployment: a larger model, a lost cache, another
  machine. Slower step by step: load, or the database that features come from. What helps: batches, a cache for equal
  questions, a smaller or quantised model.
- `measured` (unknown): no prediction came back as the system file expects it. `services.health` says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from upkeep.core.cadence import Covers
from upkeep.core.http import Request
from upkeep.core.job import Job
from upkeep.core.model import Finding, Judgement, Measurement, Severity, Threshold
from upkeep.core.targets import HttpTarget, ModelTarget
from upkeep.routines.model._health_trust import ConfinedSettings, trusted
from upkeep.routines.services._tries import ask, statistics_of

TITLE = "Model latency"
TARGETS = ("model",)
COVERS = Covers.NOW
ROLE = "ml"

# 200 ms: the claims guide (CL-D03), the wider of those that give one; the student guide: 100 ms (ST-D07).
LIMIT = Threshold(warning=200)


class Settings(ConfinedSettings):
    """How often to ask, and what is too slow."""

    tries: int = Field(30, ge=3, le=1000, description="predictions that are judged")
    warm_up: int = Field(3, ge=0, le=100, description="predictions before them that do not count")
    pause: float = Field(0.02, ge=0, le=10, description="seconds between two requests")
    timeout: float = Field(10, gt=0, le=300, description="seconds for a whole answer")
    statistic: Literal["median", "p95", "max"] = Field("p95", description="what the limit is compared with")
    latency: Threshold = Field(LIMIT, description="milliseconds; default: `latency_ms` of the target")
    sample: dict[str, tuple[float | str | None, ...]] = Field(
        default_factory=dict, description="without an endpoint: columns with their values, the rows of one prediction"
    )


@dataclass(frozen=True)
class Timed:
    """Milliseconds in ascending order, of how many tries, and what was wrong with the others."""

    place: str
    times: tuple[float, ...] = ()
    tries: int = 0
    trouble: str = ""
    hint: str = ""


def observe(job: Job[ModelTarget, Settings]) -> Timed | None:
    """Ask the endpoint, else the model file; None: there is nothing to ask."""
    if job.target.endpoint:
        return _endpoint(job, job.target.endpoint)
    return _file(job) if job.settings.sample else None


def judge(job: Job[ModelTarget, Settings], seen: Timed | None) -> Judgement:
    """Compare the measured times with the limit."""
    if seen is None:
        return Judgement(findings=(_nothing(),))
    if not seen.times:
        return Judgement(findings=(_unmeasured(seen),))
    measured = statistics_of(list(seen.times))
    taken = tuple(Measurement(name=f"latency.{name}", value=value, unit="ms") for name, value in measured.items())
    # Where half of the tries fail, the other half says little of what those who ask have to wait.
    failing = (_unmeasured(seen),) if 2 * len(seen.times) < seen.tries else ()
    return Judgement(measurements=taken, findings=(*failing, *_slow(job, seen, measured)))


def _endpoint(job: Job[ModelTarget, Settings], named: str) -> Timed:
    service, _, name = named.partition("/")
    target = job.system.targets[service]
    assert isinstance(target, HttpTarget), "the system file's validation has seen to it"
    endpoint, settings = target.endpoints[name], job.settings
    request = Request(
        path=endpoint.path, method=endpoint.method, json_body=endpoint.json_body, timeout=settings.timeout
    )
    with job.tools.http(conn_id=target.conn_id, base_url=target.base_url) as http:
        ask(http, endpoint, request, settings.warm_up, settings.pause)
        tries = ask(http, endpoint, request, settings.tries, settings.pause)
    faults = [t.fault.reason for t in tries if t.fault]
    good = sorted(t.seconds * 1000 for t in tries if t.fault is None)
    hint = "services.health says what is wrong with the service; this measures it again when it is well"
    return Timed(named, tuple(good), len(tries), faults[0] if faults else "", hint)


def _file(job: Job[ModelTarget, Settings]) -> Timed:
    models, settings = job.tools.models, job.settings
    seen = models.files(job.target)
    kept = models.versions.kept(seen.folder)
    files = [file for file in seen.models if file.loadable and trusted(file, seen, kept, None)]
    if len(files) != 1:
        hint = "let `files` name one model file and metadata state its sha256, or name the `endpoint` that serves it"
        return Timed(seen.folder, trouble=f"{len(files)} model files with a known hash, expected 1", hint=hint)
    path, columns = seen.path(files[0]), {name: list(values) for name, values in settings.sample.items()}
    answer = models.sandbox.time(
        path, files[0].sha256, settings.confined(), columns, tries=settings.tries, warm_up=settings.warm_up
    )
    hint = "correct `sample` (columns as in training), or `python`"
    return Timed(files[0].name, tuple(sorted(answer.milliseconds)), settings.tries, answer.detail, hint)


def _nothing() -> Finding:
    return Finding(
        check="measured",
        subject="prediction",
        severity=Severity.INFO,
        message="there is nothing to measure: neither `endpoint` nor a sample for the model file",
        hint="name the endpoint that serves the model in the system file, or give `sample` in the settings",
    )


def _unmeasured(seen: Timed) -> Finding:
    return Finding(
        check="measured",
        subject="prediction",
        severity=Severity.UNKNOWN,
        message=f"{seen.place}: {'most' if seen.times else 'all'} predictions did not come back as expected:"
        f" {seen.trouble or 'no answer'}",
        observed=f"{len(seen.times)} of {seen.tries} tries good",
        limit="every try",
        hint=seen.hint,
    )


def _slow(job: Job[Any, Settings], seen: Timed, measured: dict[str, float]) -> tuple[Finding, ...]:
    settings = job.settings
    limit = settings.latency if settings.latency != LIMIT else job.target.thresholds.get("latency_ms", LIMIT)
    value = measured[settings.statistic]
    severity, crossed = limit.crossed(value)
    if severity is Severity.OK:
        return ()
    spread = ", ".join(f"{name} {one:.1f}" for name, one in measured.items())
    finding = Finding(
        check="latency",
        subject="prediction",
        severity=severity,
        message=f"{seen.place} takes long for a prediction: {spread} ms over {len(seen.times)} of {seen.tries} tries",
        observed=f"{settings.statistic} {value:.1f} ms",
        limit=f"{crossed:g} ms",
        hint="compare with its history in the report; then batches, a cache for equal questions, a smaller model",
    )
    return (finding,)
