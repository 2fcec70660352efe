"""Latency of predictions at a real endpoint on loopback, and of a model file in the restricted process."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.model_health_bench import Care, make
from tests.integration.test_services_health import Page, serve
from upkeep.core.model import Severity

BODY = b'{"predictions": [1]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\nConnection: close\r\n\r\n" + BODY


@pytest.fixture
def care(tmp_path: Path) -> Care:
    """A model behind an endpoint, with the student guide's limit."""
    care = make(tmp_path)
    care.target |= {"endpoint": "web/predict", "thresholds": {"latency_ms": {"warning": 100}}}
    return care


def served(care: Care, url: str) -> None:
    predict = {"path": "/predict", "method": "POST", "json_body": {"x": [1]}}
    care.others["web"] = {"kind": "http", "base_url": url, "endpoints": {"predict": predict}}


def after(seconds: Callable[[], float]) -> Page:
    """A page that answers after a while."""

    def answer(connection: socket.socket) -> None:
        time.sleep(seconds())
        connection.sendall(ANSWER)

    return Page(answer)


def test_a_quick_model_gives_no_trouble(care: Care):
    """p95, median and slowest are measured over exactly the tries, with the body that the system file gives."""
    with serve({"/predict": Page(BODY)}) as service:
        served(care, service.url)
        result = care.run("latency", tries=20, warm_up=2, pause=0)
    assert result.findings == ()
    times = [result.measurements[f"latency.{name}", ""] for name in ("median", "p95", "max")]
    assert 0 < times[0] <= times[1] <= times[2] < 100
    assert len(service.requests) == 22 and {body.replace(b" ", b"") for *_, body in service.requests} == {b'{"x":[1]}'}
    assert len(service.connections) == 1


def test_a_slow_model_is_told_by_its_p95(care: Care):
    """One in ten answers above the limit: the median hides it, p95 does not."""
    count = iter(range(1000))
    with serve({"/predict": after(lambda: 0.15 if next(count) % 10 == 5 else 0)}) as service:
        served(care, service.url)
        result = care.run("latency", tries=20, warm_up=0, pause=0)
        found = result.found("latency")
        assert care.run("latency", tries=20, warm_up=0, pause=0, statistic="median").findings == ()
    assert (found.severity, found.limit) == (Severity.WARNING, "100 ms")
    assert result.measurements["latency.p95", ""] > 150 and result.measurements["latency.median", ""] < 100


def test_warming_up_does_not_count(care: Care):
    """The first answers, for which the service loads its model, are left out."""
    count = iter(range(1000))
    with serve({"/predict": after(lambda: 0.3 if next(count) < 2 else 0)}) as service:
        served(care, service.url)
        assert care.run("latency", tries=5, warm_up=2, pause=0).findings == ()


@pytest.mark.parametrize("page", [Page(b"no", 500), None])
def test_a_service_that_is_down_is_unknown(care: Care, page: Page | None):
    """Nothing is measured then, and the finding says whose business it is."""
    with serve({"/predict": page} if page else {}) as service:
        served(care, service.url)
        if page:
            result = care.run("latency", tries=3, pause=0)
    if page is None:
        result = care.run("latency", tries=3, pause=0)
    found = result.found("measured")
    assert found.severity is Severity.UNKNOWN and "services.health" in found.hint
    assert not result.measurements


def test_some_bad_answers_are_left_to_service_health(care: Care):
    """Times are those of the good answers."""
    pages = [Page(BODY), Page(b"", 503)] * 5
    with serve({"/predict": pages}) as service:
        served(care, service.url)
        result = care.run("latency", tries=8, warm_up=0, pause=0)
    assert result.findings == () and result.measurements["latency.p95", ""] > 0


def test_a_service_that_mostly_fails_is_not_fast(care: Care):
    """One good answer in four is no measurement of what people wait for, however quick it was."""
    pages = [Page(b"", 503), Page(BODY), Page(b"", 503), Page(b"", 503)] * 3
    with serve({"/predict": pages}) as service:
        served(care, service.url)
        found = care.run("latency", tries=8, warm_up=0, pause=0).found("measured")
    assert (found.severity, found.observed) == (Severity.UNKNOWN, "2 of 8 tries good")


def test_without_an_endpoint_the_file_is_asked(care: Care):
    """With a sample the model file answers in the restricted process, when its hash is known; else it is told."""
    care.target = {}
    assert care.run("latency").found("measured").severity is Severity.INFO
    sample = {"clicks": [0.5], "score": [1.0], "noise": [0.0]}
    result = care.run("latency", sample=sample, tries=10)
    assert result.findings == () and 0 < result.measurements["latency.p95", ""] < 100
    wrong = care.run("latency", sample={"clicks": [1.0]}, tries=3).found("measured")
    assert wrong.severity is Severity.UNKNOWN and "features" in wrong.message
    (care.folder / "model_metadata.json").unlink()
    assert "known hash" in care.run("latency", sample=sample).found("measured").message
