"""Service health against real HTTP servers, each with a fault of its own."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from upkeep.adapters import http as adapter
from upkeep.core.cadence import Window
from upkeep.core.errors import ConfigurationError
from upkeep.core.job import Job, Tools
from upkeep.core.model import Judgement, Severity
from upkeep.core.system import System
from upkeep.core.targets import HttpTarget
from upkeep.routines.services import health

HEALTHY = {"status": "healthy", "database": {"status": "up"}, "checks": ["a", "b"]}


class Page:
    """What a server answers at one path: give bytes, or a function that writes to the socket itself."""

    def __init__(self, body: bytes | Callable[[socket.socket], None], status: int = 200, **headers: str) -> None:
        self.body, self.status, self.headers = body, status, headers


@dataclass
class Service:
    """A running server, its address and the requests that reached it."""

    url: str
    pages: dict[str, Any]
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)


@contextmanager
def serve(pages: dict[str, Any], tls: ssl.SSLContext | None = None) -> Iterator[Service]:
    """Serve pages in a thread until the block ends. A page may be a list: one answer after the other."""
    service = Service("", pages)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            service.requests.append((self.path, dict(self.headers), body))
            service.connections.add(self.client_address)
            page = service.pages[self.path]
            page = page.pop(0) if isinstance(page, list) else page
            if callable(page.body):
                self.close_connection = True
                return page.body(self.connection)
            self.send_response(page.status)
            for name, value in page.headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else page.body)
            self.wfile.flush()
            return None

        do_POST = do_HEAD = do_GET

        def log_message(self, *_: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None: ...

    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    service.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Remembered:
    """A history of endpoint states, as the ledger would give it."""

    states: Sequence[float] = ()

    def series(self, name: str, subject: str = "", limit: int = 90) -> list[Any]:
        """Return the states as points."""
        return [SimpleNamespace(value=state) for state in self.states] if name == "endpoint.state" else []


def job(
    asked: dict[str, Any], url: str | None = None, history: Any = None, connection: Any = None, **settings: Any
) -> Job[HttpTarget, health.Settings]:
    """Return a job for a service, with few tries and no pauses unless told otherwise."""
    where = {"base_url": url} if connection is None else {"conn_id": "web"}
    system = System.model_validate(
        {
            "name": "x",
            "title": "X",
            "contacts": {"sysadmin": {"primary": {"name": "A", "channels": [{"kind": "email", "address": "a@b"}]}}},
            "targets": {"web": {"kind": "http", "endpoints": asked, **where}},
        }
    )
    target = system.targets["web"]
    assert isinstance(target, HttpTarget)
    now = datetime.now(UTC)
    fields: dict[str, Any] = dict.fromkeys(Tools.__dataclass_fields__)
    fields |= {
        "http": adapter.opener(lambda conn_id: connection),
        "history": history or Remembered(),
        "now": lambda: now,
        "log": logging.getLogger("test"),
    }
    return Job(
        routine="services.health",
        target=target,
        system=system,
        settings=health.Settings.model_validate({"tries": 5, "pause": 0, "timeout": 5, **settings}),
        window=Window(start=now - timedelta(days=1), end=now),
        run_id="r",
        try_number=1,
        tools=Tools(**fields),
    )


def run(given: Job[HttpTarget, health.Settings]) -> Judgement:
    """Observe and judge."""
    return health.judge(given, health.observe(given))


def numbers(judgement: Judgement, subject: str = "a") -> dict[str, float]:
    """Return the measurements of one endpoint by name."""
    return {m.name: m.value for m in judgement.measurements if m.subject == subject}


def only(judgement: Judgement) -> tuple[str, Severity, str]:
    """Return check, severity and message of the one finding."""
    assert len(judgement.findings) == 1, judgement.findings
    finding = judgement.findings[0]
    assert finding.subject == "a"
    assert finding.hint
    return finding.check, finding.severity, finding.message


def page(document: Any = HEALTHY, status: int = 200, **headers: str) -> Page:
    """Return a page with a JSON document."""
    return Page(json.dumps(document).encode(), status, **headers)


EXPECT = [{"pointer": "/status", "equals": "healthy"}, {"pointer": "/database/status", "equals": "up"}]


def test_healthy() -> None:
    """A service that answers as described is healthy, has times, no error and no finding; one connection serves all."""
    with serve({"/h": page()}) as service:
        judged = run(job({"a": {"path": "/h", "expect": EXPECT}}, service.url))
        assert judged.findings == ()
        seen = numbers(judged)
        assert (seen["endpoint.state"], seen["error_rate"], seen["tries"], seen["endpoint.uptime"]) == (0, 0, 5, 100)
        assert 0 < seen["response_time.median"] <= seen["response_time.p95"] <= seen["response_time.max"]
        assert numbers(judged, "")["service.state"] == 0
        assert len(service.requests) == 6  # five tries and the warm-up
        assert len(service.connections) == 1


def test_warm_up_is_apart() -> None:
    """The slow first request of a cold service is measured and does not make the service slow."""

    def cold(connection: socket.socket) -> None:
        time.sleep(0.8)
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")

    with serve({"/h": [Page(cold), *[page()] * 5]}) as service:
        judged = run(job({"a": {"path": "/h"}}, service.url, response_time={"warning": 600}))
    assert judged.findings == ()
    assert numbers(judged)["response_time.warm_up"] > numbers(judged)["response_time.max"]


def test_unavailable() -> None:
    """A 503 at every try is critical and quotes the answer, printable and without credentials."""
    body = b'{"error":"no database","token":"abc123secret",\x1b[31m\x00"x":1}'
    with serve({"/h": Page(body, 503)}) as service:
        check, severity, message = only(run(job({"a": {"path": "/h"}}, service.url)))
    assert (check, severity) == ("status", Severity.CRITICAL)
    assert "5 x status 503 instead of 200" in message
    assert "no database" in message
    assert "secret" not in message
    assert message.isprintable()


@pytest.mark.parametrize(
    "body, expectation, told",
    [
        (b'{"status": "bad"}', {"pointer": "/status", "equals": "good"}, '/status is "bad", expected to be "good"'),
        (b"{}", {"pointer": "/status", "equals": None}, "/status is missing"),
        (b'{"n": true}', {"pointer": "/n", "equals": 1}, "/n is true, expected to be 1"),
        (b'{"a/b": [{"~": "xyz"}]}', {"pointer": "/a~1b/0/~0", "contains": "q"}, "expected to contain 'q'"),
        (b"[1, 2]", {"pointer": "/-1", "equals": 2}, "/-1 is missing"),
        (b"[1, 2]", {"pointer": "/01", "equals": 2}, "/01 is missing"),
        (b"not json", {"pointer": "", "equals": 1}, "not JSON"),
        (b"[" * 100_000, {"pointer": "", "equals": 1}, "not JSON"),
        (b'{"status": "caf\xe9"}', {"pointer": "/status", "equals": "x"}, "not UTF-8"),
        (b"", {"pointer": "", "equals": 1}, "not JSON"),
    ],
)  # fmt: skip
def test_wrong_body(body: bytes, expectation: dict[str, Any], told: str) -> None:
    """A body that does not say what it must is critical, and the finding says where and what instead."""
    with serve({"/h": Page(body)}) as service:
        check, severity, message = only(run(job({"a": {"path": "/h", "expect": [expectation]}}, service.url)))
    assert (check, severity) == ("body", Severity.CRITICAL)
    assert told in message


def test_right_bodies() -> None:
    """Equality and containment hold for text, lists, keys, numbers and null."""
    document = {"text": "all is well", "list": ["x", "y"], "map": {"k": 1}, "number": 1.0, "nothing": None}
    expect = [
        {"pointer": "/text", "contains": "is"}, {"pointer": "/list", "contains": "y"},
        {"pointer": "/map", "contains": "k"},
        {"pointer": "/number", "equals": 1}, {"pointer": "/nothing", "equals": None},
        {"pointer": "", "equals": document},
    ]  # fmt: skip
    with serve({"/h": page(document)}) as service:
        assert run(job({"a": {"path": "/h", "expect": expect, "body_contains": "well"}}, service.url)).findings == ()
        assert only(run(job({"a": {"path": "/h", "body_contains": "ill"}}, service.url)))[0] == "body"


def test_slow() -> None:
    """Answers slower than the limit degrade the endpoint; the endpoint's own limit goes before the service's."""

    def slow(connection: socket.socket) -> None:
        time.sleep(0.06)
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")

    with serve({"/h": Page(slow)}) as service:
        limit = {"warning": 30, "critical": 60_000}
        judged = run(job({"a": {"path": "/h"}}, service.url, response_time=limit))
        wider = run(
            job(
                {"a": {"path": "/h"}},
                service.url,
                response_time=limit,
                endpoints={"a": {"response_time": {"warning": 60_000}}},
            )
        )
    assert only(judged)[:2] == ("response_time", Severity.WARNING)
    assert numbers(judged)["endpoint.state"] == 1
    assert wider.findings == ()


def test_flaky_is_degraded() -> None:
    """Two bad answers of five degrade a service that still answers, and the finding counts them."""
    good, bad = page(), page(status=503)
    with serve({"/h": [good, good, bad, good, bad, good]}) as service:
        judged = run(job({"a": {"path": "/h"}}, service.url))
    check, severity, message = only(judged)
    assert (check, severity) == ("error_rate", Severity.WARNING)
    assert "2 of 5 tries failed: 2 x status 503" in message
    assert (numbers(judged)["endpoint.state"], numbers(judged)["error_rate"]) == (1, 40)


def hang(connection: socket.socket) -> None:
    """Say nothing until the other side gives up."""
    connection.settimeout(30)
    connection.recv(1)


def drip(connection: socket.socket) -> None:
    """Send a byte now and then, never too late for a timeout of single reads."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(600):
        connection.sendall(b"x")
        time.sleep(0.05)


def drip_head(connection: socket.socket) -> None:
    """Do the same with the head of the answer."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(600):
        connection.sendall(b"X-%d: x\r\n" % number)
        time.sleep(0.05)


@pytest.mark.parametrize("never", [hang, drip, drip_head])
def test_never_complete(never: Callable[[socket.socket], None]) -> None:
    """An answer that is not complete in time ends the try, however it delays; after three the rest is not made."""
    with serve({"/h": Page(never)}) as service:
        judged = run(job({"a": {"path": "/h"}}, service.url, timeout=0.3, warm_up=0))
        assert len(service.requests) == 3
    check, severity, message = only(judged)
    assert (check, severity) == ("reachable", Severity.CRITICAL)
    assert "no complete answer within 0.3 s" in message
    assert numbers(judged)["endpoint.state"] == 2


def test_refused() -> None:
    """Nobody listening is critical, down, and said in words."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        judged = run(job({"a": {"path": "/h"}}, f"http://127.0.0.1:{taken.getsockname()[1]}"))
    assert only(judged)[0] == "reachable"
    assert "connection refused" in only(judged)[2]
    assert numbers(judged, "")["service.state"] == 2


def test_unknown_host() -> None:
    """A name that does not resolve is told as that."""
    assert "name cannot be resolved" in only(run(job({"a": {"path": "/h"}}, "http://nowhere.invalid")))[2]


def send(data: bytes) -> Callable[[socket.socket], None]:
    """Return a page that sends these bytes and hangs up."""
    return lambda connection: connection.sendall(data)


@pytest.mark.parametrize(
    "data, told",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{half", "ended before the answer did"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal", "ended before the answer did"),
        (b"", "ended before the answer did"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "not HTTP"),
    ],
)
def test_broken_answers(data: bytes, told: str) -> None:
    """An answer cut off in the middle, or that is not HTTP, is no answer."""
    with serve({"/h": Page(send(data))}) as service:
        check, _, message = only(run(job({"a": {"path": "/h"}}, service.url)))
    assert check == "reachable"
    assert told in message


def test_huge_body() -> None:
    """No more than the limit is read; a body expectation on a longer one is not met, a status alone is."""

    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
        with pytest.raises(OSError):  # the client hangs up
            while True:
                connection.sendall(b"x" * 65536)

    with serve({"/h": Page(endless)}) as service:
        judged = run(job({"a": {"path": "/h", "body_contains": "y"}}, service.url, body_limit=100_000))
        assert "longer than 100000 bytes" in only(judged)[2]
        assert run(job({"a": {"path": "/h"}}, service.url, body_limit=100_000)).findings == ()


def test_compressed_against_our_wish() -> None:
    """A compressed body is not unfolded, where a small one could fill the memory."""
    with serve({"/h": Page(b"\x1f\x8b\x08", Content_Encoding="gzip")}) as service:
        assert "encoded as 'gzip'" in only(run(job({"a": {"path": "/h", "body_contains": "x"}}, service.url)))[2]
        assert service.requests[0][1]["Accept-Encoding"] == "identity"


def test_redirects() -> None:
    """A redirect is an answer of its own unless it is to be followed; a circle of them is no answer."""
    pages = {"/h": Page(b"", 302, Location="/new"), "/new": page(), "/loop": Page(b"", 302, Location="/loop")}
    with serve(pages) as service:
        assert only(run(job({"a": {"path": "/h"}}, service.url)))[0] == "status"
        assert run(job({"a": {"path": "/h", "expect": EXPECT}}, service.url, follow_redirects=True)).findings == ()
        check, _, message = only(run(job({"a": {"path": "/loop"}}, service.url, follow_redirects=True)))
    assert (check, "more than 5 redirects" in message) == ("reachable", True)


def connection_to(url: str, **fields: Any) -> Any:
    """Return what an Airflow connection to a server looks like."""
    host, _, port = url.partition("://")[2].partition(":")
    given = {"conn_id": "web", "host": host, "port": int(port), "schema": url.partition(":")[0], "login": None}
    return SimpleNamespace(**{**given, "password": None, "extra_dejson": {}, **fields})


def test_credentials_are_sent_and_never_come_back(caplog: pytest.LogCaptureFixture) -> None:
    """Login, password and headers of the connection reach the service, and no finding or log even if it echoes them."""
    caplog.set_level(logging.DEBUG)

    def echo(connection: socket.socket) -> None:
        text = service.requests[-1][1]
        body = json.dumps([text["X-Key"], text["Authorization"], "s3cr3t-pass"]).encode()
        connection.sendall(b"HTTP/1.1 500 Oops\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with serve({"/h": Page(echo)}) as service:
        made = connection_to(service.url, login="me", password="s3cr3t-pass", extra_dejson={"X-Key": "k3y-abcdef"})
        judged = run(job({"a": {"path": "/h"}}, connection=made))
        headers = service.requests[0][1]
    assert headers["Authorization"].startswith("Basic ")
    assert headers["X-Key"] == "k3y-abcdef"
    told = judged.model_dump_json() + caplog.text
    assert "status 500" in told
    assert "s3cr3t" not in told
    assert "k3y" not in told
    assert headers["Authorization"].split()[1] not in told


def test_credentials_do_not_follow_redirects_elsewhere() -> None:
    """A redirect to another server is not followed: it would be shown the connection's credentials."""
    with serve({"/stolen": page()}) as thief, serve({"/h": Page(b"", 302, Location=thief.url + "/stolen")}) as service:
        made = connection_to(service.url, extra_dejson={"X-Key": "k3y-abcdef"})
        judged = run(job({"a": {"path": "/h"}}, connection=made, follow_redirects=True))
        assert thief.requests == []
    assert "another place" in only(judged)[2]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with the key and the self-signed certificate of 127.0.0.1."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_tls(certificate: Path) -> None:
    """A certificate nobody vouches for is critical; with its authority in `verify` the service is healthy."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with serve({"/h": page()}, context) as service:
        check, severity, message = only(run(job({"a": {"path": "/h"}}, service.url)))
        assert (check, severity) == ("tls", Severity.CRITICAL)
        assert "self-signed certificate" in message
        made = connection_to(service.url, extra_dejson={"verify": str(certificate)})
        assert run(job({"a": {"path": "/h"}}, connection=made)).findings == ()


def test_tls_hangs(certificate: Path) -> None:
    """The deadline holds over TLS too."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with serve({"/h": Page(drip)}, context) as service:
        made = connection_to(service.url, extra_dejson={"verify": str(certificate)})
        judged = run(job({"a": {"path": "/h"}}, connection=made, timeout=0.4, warm_up=0))
    assert "no complete answer within 0.4 s" in only(judged)[2]


def test_tls_spoken_to_plain_http() -> None:
    """An https address of a server that speaks plain HTTP is a TLS fault."""
    with serve({"/h": page()}) as service:
        assert only(run(job({"a": {"path": "/h"}}, service.url.replace("http:", "https:"))))[0] == "tls"


def test_one_of_two_down_is_degraded() -> None:
    """A service of which one endpoint is down and one healthy is degraded as a whole."""
    with serve({"/a": page(status=500), "/b": page()}) as service:
        judged = run(job({"a": {"path": "/a"}, "b": {"path": "/b"}}, service.url))
    assert numbers(judged, "a")["endpoint.state"] == 2
    assert numbers(judged, "b")["endpoint.state"] == 0
    assert numbers(judged, "")["service.state"] == 1


def test_what_calls_itself_degraded() -> None:
    """A service that says `degraded` where its description has a word for that is degraded, and not down."""
    expect = [{"pointer": "/status", "equals": "healthy", "degraded": "degraded"}]
    with serve({"/h": page({"status": "degraded"}), "/d": page({"status": "down"})}) as service:
        degraded = run(job({"a": {"path": "/h", "expect": expect}}, service.url))
        down = run(job({"a": {"path": "/d", "expect": expect}}, service.url))
    assert only(degraded)[:2] == ("body", Severity.WARNING)
    assert only(degraded)[2].startswith("degraded, no try was good")
    assert numbers(degraded)["endpoint.state"] == 1
    assert only(down)[:2] == ("body", Severity.CRITICAL)
    assert numbers(down)["endpoint.state"] == 2


def test_uptime_from_history() -> None:
    """Uptime is the share of runs that were not down, this one included; a limit on it is judged from ten runs on."""
    with serve({"/h": page()}) as service:
        endpoints, limit = {"a": {"path": "/h"}}, {"critical": 95, "direction": "below"}
        few = run(job(endpoints, service.url, Remembered([2, 2]), uptime=limit))
        many = run(job(endpoints, service.url, Remembered([0, 1] * 8 + [2, 2, 2]), uptime=limit))
    assert few.findings == ()
    assert numbers(many)["endpoint.uptime"] == 85
    assert only(many)[:2] == ("uptime", Severity.CRITICAL)


def test_post_is_sent_once() -> None:
    """A POST may change something each time: it is sent once, without a warm-up, with the described body."""
    with serve({"/p": page({"ok": True})}) as service:
        endpoint = {
            "path": "/p",
            "method": "POST",
            "json_body": {"x": 1},
            "expect": [{"pointer": "/ok", "equals": True}],
        }
        judged = run(job({"a": endpoint}, service.url))
        assert [json.loads(body) for _, _, body in service.requests] == [{"x": 1}]
    assert judged.findings == ()


def test_finding_key_is_stable() -> None:
    """The same trouble is the same finding tomorrow: nothing of time, port or count is in its key."""
    keys = []
    for _ in range(2):
        with serve({"/h": page(status=503)}) as service:
            judged = run(job({"a": {"path": "/h"}}, service.url))
        keys.append(judged.findings[0].key("x/web", "services.health"))
    assert keys == ["x/web|services.health|status|a"] * 2


def test_limits_for_an_endpoint_that_is_not_there() -> None:
    """Limits for a mistyped endpoint would judge nothing: that is a configuration error with a suggestion."""
    with pytest.raises(ConfigurationError, match="did you mean 'health'"):
        run(job({"health": {"path": "/h"}}, "http://127.0.0.1:1", endpoints={"helth": {"tries": 1}}))


@pytest.mark.parametrize(
    "fields",
    [{"host": ""}, {"host": "ftp://x"}, {"host": "http://me:pw-hidden@x"}, {"schema": "postgres"},
     {"extra_dejson": {"X": "é"}}, {"extra_dejson": {"X": "a\nb-hidden"}}, {"host": "ho st"}],
)  # fmt: skip
def test_connections_that_cannot_be_used(fields: dict[str, Any]) -> None:
    """A connection that is no http address is a configuration error that repeats no credentials."""
    made = connection_to("http://127.0.0.1:1", **fields)
    with pytest.raises(ConfigurationError) as raised:
        run(job({"a": {"path": "/h"}}, connection=made))
    assert "hidden" not in str(raised.value)


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy set for the worker must not answer for the service."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with serve({"/h": page()}) as service:
        assert run(job({"a": {"path": "/h"}}, service.url)).findings == ()
