"""The web services of the five sample systems, one port each, and a package index, in one process."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lab import package_index
from lab.live_logs import Asked, Journal, Journals
from lab.models import RiskModel
from lab.process import Helper
from lab.systems import SYSTEMS

# A status, and either a page (text) or a JSON document.
Answer = tuple[int, Any]
Handle = Callable[[Any], Answer]


class WebServer(Helper):
    """All services. `settings["systems"]` has DSNs and addresses by system; planted faults are in `faults.json`."""

    module = "lab.services"
    ports_needed = (*(one.name for one in SYSTEMS), "index")

    @property
    def faults_file(self) -> Path:
        """Faults by system and path (`{"student": {"/slow": {"delay": 0.7}}}`), read anew at every request."""
        return self.data_dir / "faults.json"

    def url(self, system: str) -> str:
        """The base URL of a system's service."""
        return f"http://127.0.0.1:{self.ports[system]}"

    def check_ready(self) -> None:
        """Pass when every port takes connections; whether a service is healthy is not the lab's to decide."""
        for port in self.ports.values():
            socket.create_connection(("127.0.0.1", port), timeout=2).close()


class Service:
    """What the services have in common: health out of what their parts answer."""

    title = ""

    def __init__(self, backends: Any, model: str = "") -> None:
        self.backends = backends
        self._model_file = Path(model) if model else None
        self.started = time.monotonic()

    def routes(self) -> dict[tuple[str, str], Handle]:
        """Return the handlers by method and path."""
        return {("GET", "/"): self.page, ("GET", "/health"): self.health, ("GET", "/api/health"): self.health}

    def page(self, _: Any) -> Answer:
        """The front page."""
        return (
            200,
            f"<!doctype html><html lang=en><head><title>{self.title}</title></head><body>{self.title}</body></html>",
        )

    def health(self, _: Any) -> Answer:
        """Say healthy when every part is ok, with status 503 otherwise."""
        parts = self.backends.probe()
        well = set(parts.values()) == {"ok"}
        body = {
            "status": "healthy" if well else "down",
            **parts,
            "uptime_seconds": round(time.monotonic() - self.started),
        }
        return (200 if well else 503), body

    def query(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """Ask the database."""
        return list(self.backends.database.query(statement, *parameters))

    @property
    def model(self) -> RiskModel:
        """The model, as its file says it now."""
        if self._model_file is None:
            raise LookupError("this service has no model")
        return RiskModel(self._model_file)


class Claims(Service):
    """Insurance claims: a list of claims and a risk model."""

    title = "Insurance Claims"

    def routes(self) -> dict[tuple[str, str], Handle]:
        """Add the claims and the prediction."""
        more: dict[tuple[str, str], Handle] = {
            ("GET", "/api/claims"): self.claims,
            ("GET", "/api/claims/"): self.claims,
            ("POST", "/api/predict"): self.predict,
        }
        return super().routes() | more

    def claims(self, _: Any) -> Answer:
        """Return the newest page of claims."""
        rows = self.query("SELECT id, status::text, amount::float8 FROM claims_claim ORDER BY id DESC LIMIT 20")
        return 200, {"count": len(rows), "results": rows}

    def predict(self, body: Any) -> Answer:
        """Return the model's risk of a claim; what is not said of it counts as usual."""
        model = self.model
        return 200, {"model": model.name, "probability": round(model.probability(model.effects(body)), 4)}


class Cardiology(Service):
    """Clinical assistant: four parts, each healthy, degraded or down."""

    title = "Cardiology Clinical Assistant"

    def routes(self) -> dict[tuple[str, str], Handle]:
        """Add one health endpoint a part."""
        parts = ("database", "api", "storage", "authentication")
        return super().routes() | {("GET", f"/health/{part}"): partial(self.part, part) for part in parts}

    def part(self, name: str, _: Any) -> Answer:
        """Return one part's health in the guide's shape (SystemHealthCheck)."""
        began = time.perf_counter()
        state = self._state(name)
        metrics = {
            "responseTime": round((time.perf_counter() - began) * 1000, 2),
            "errorRate": 0.0 if state == "healthy" else 1.0,
            "uptime": round(time.monotonic() - self.started),
        }
        checked = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        answer = {"type": name, "status": state, "metrics": metrics, "lastChecked": checked}
        return (503 if state == "down" else 200), answer

    def _state(self, name: str) -> str:
        if name == "api":
            return "healthy"
        if name != "authentication":
            return "healthy" if self.backends.probe()[name] == "ok" else "down"
        logins = "SELECT avg((NOT succeeded)::int)::float8 AS failed FROM (SELECT * FROM clinic.logins LIMIT 1000) AS l"
        return "healthy" if self.query(logins)[0]["failed"] < 0.2 else "degraded"


class Molecular(Service):
    """Molecular data platform: every component up."""

    title = "Molecular Data Management"

    def routes(self) -> dict[tuple[str, str], Handle]:
        """Add the list of components."""
        return super().routes() | {("GET", "/health/components"): self.components}

    def components(self, _: Any) -> Answer:
        """Return up or down for every component that the guide names."""
        seen = {name: "up" if state == "ok" else "down" for name, state in self.backends.probe().items()}
        answer = {"postgres": seen["database"], "redis": seen["cache"], "minio": seen["storage"]}
        return 200, {**answer, "frontend": "up", "api": "up", "nginx": "up"}


class Student(Service):
    """Student success: notifications and predictions for a few students."""

    title = "Student Success Prediction"

    def routes(self) -> dict[tuple[str, str], Handle]:
        """Add notifications and predictions."""
        more: dict[tuple[str, str], Handle] = {
            ("GET", "/api/notifications/health"): self.notifications,
            ("POST", "/api/predict"): self.predict,
        }
        return super().routes() | more

    def notifications(self, _: Any) -> Answer:
        """Return how many notifications wait for delivery."""
        waiting = self.query("SELECT count(*) AS waiting FROM notifications WHERE delivered_at IS NULL")[0]["waiting"]
        return 200, {"status": "healthy", "waiting": waiting}

    def predict(self, body: Any) -> Answer:
        """Return a risk for each student, with what each feature added to it."""
        model = self.model
        return 200, {"predictions": [self._predict(model, student) for student in body["students"]]}

    @staticmethod
    def _predict(model: RiskModel, student: dict[str, Any]) -> dict[str, Any]:
        effects = model.effects(student)
        added = {name: round(effect, 4) for name, effect in effects.items() if name in student}
        risk = round(model.probability(effects), 4)
        return {"id_student": student["id_student"], "risk": risk, "explanation": added}


class Campus(Service):
    """Smart campus: detailed health; Grafana and Prometheus answer on the same port in the lab."""

    title = "Smart Campus Assistant"

    def routes(self) -> dict[tuple[str, str], Handle]:
        """Add detailed health and the two watchers."""
        more: dict[tuple[str, str], Handle] = {
            ("GET", "/health/detailed"): self.detailed,
            ("GET", "/grafana/api/health"): lambda _: (200, {"database": "ok", "version": "lab"}),
            ("GET", "/-/healthy"): lambda _: (200, "Prometheus Server is Healthy.\n"),
        }
        return super().routes() | more

    def detailed(self, _: Any) -> Answer:
        """Return the state of the database with today's numbers."""
        status, body = self.health(None)
        if status != 200:
            return status, {**body, "database": {"status": "down"}}
        counts = self.query("SELECT count(*) AS students FROM students")[0]
        return 200, {**body, "database": {"status": "up", **counts}, "mail": {"status": "up"}}


SERVICES: dict[str, type[Service]] = {
    "claims": Claims, "cardiology": Cardiology, "molecular": Molecular, "student": Student, "campus": Campus,
}  # fmt: skip


def _handler(
    service: Service, faults: Callable[[], dict[str, Any]], journal: Journal | None
) -> type[BaseHTTPRequestHandler]:
    routes = service.routes()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one packet, sent at once: Nagle's algorithm with delayed acknowledgement costs 40 ms.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer("GET")

        def do_HEAD(self) -> None:
            self._answer("GET", with_body=False)

        def do_POST(self) -> None:
            self._answer("POST")

        def _answer(self, method: str, with_body: bool = True) -> None:
            began = time.perf_counter()
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            fault = faults().get(path, {})
            time.sleep(fault.get("delay", 0))
            status, body = self._ask(routes.get((method, path)), sent)
            if isinstance(body, dict):
                body |= fault.get("merge", {})
            size = self._send(status, body, with_body)
            if journal:
                agent = self.headers.get("User-Agent") or "-"
                taken = time.perf_counter() - began
                journal.tell(Asked(self.client_address[0], method, path, status, size, taken, agent))

        def log_request(self, *_: Any) -> None:
            """Leave requests to the journal; errors go to the output, as before."""

        def _ask(self, handle: Handle | None, sent: bytes) -> Answer:
            if handle is None:
                return 404, {"error": "no such page"}
            try:
                return handle(json.loads(sent) if sent else None)
            except (ValueError, KeyError, TypeError) as error:
                return 400, {"error": f"{type(error).__name__}: {error}"}
            except Exception as error:
                self.log_error("%r", error)
                return 503, {"status": "down", "error": type(error).__name__}

        def _send(self, status: int, body: Any, with_body: bool) -> int:
            page = isinstance(body, str)
            data = body.encode() if page else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8" if page else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data if with_body else b"")
            return len(data)

    return Handler


def _faults_of(file: Path, system: str) -> dict[str, Any]:
    return dict(json.loads(file.read_text()).get(system, {})) if file.exists() else {}


def serve(config_file: Path) -> None:
    """Serve until the process ends."""
    from lab.backends import Backends, Database

    config = json.loads(config_file.read_text())
    faults_file = config_file.with_name("faults.json")
    journals = Journals(lambda: [name for name in SERVICES if _faults_of(faults_file, name).get("log", {}).get("deaf")])
    journals.run()  # first: to a signal that nobody takes a process ends
    threads = []
    for name, given in config["systems"].items():
        backends = Backends(Database(given["dsn"], f"{name}-web"), given.get("redis", ""), given.get("store"))
        journal = journals.open(name, given["log"]) if "log" in given else None
        service = SERVICES[name](backends, given.get("model", ""))
        handler = _handler(service, partial(_faults_of, faults_file, name), journal)
        server = ThreadingHTTPServer(("127.0.0.1", config["ports"][name]), handler)
        server.daemon_threads = True
        threads.append(threading.Thread(target=server.serve_forever))
        threads[-1].start()
        # The first answer should not be the one that loads the drivers.
        threading.Thread(target=backends.probe, daemon=True).start()
    if "index" in config["ports"]:
        threads.append(threading.Thread(target=package_index.server(config["ports"]["index"]).serve_forever))
        threads[-1].start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
