"""A loopback service that speaks OSV's API over a folder of OSV files, with faults that can be switched on.

It decides with `SpecifierSet`s of the `packaging` library and not with our matching, so that comparing the two says
something. For npm and others it knows only ranges whose versions are plain numbers.

    python -m tests.integration.advisory_server FOLDER [PORT]
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

DATA = Path(__file__).parents[1] / "data" / "advisories"


@dataclass
class Faults:
    """What goes wrong. `status`: path prefix -> HTTP status; `body`: path prefix -> what is sent instead."""

    status: dict[str, int] = field(default_factory=dict)
    body: dict[str, bytes] = field(default_factory=dict)
    change: Callable[[str, Any], Any] | None = None
    """Called with path and answer; returns what is answered instead."""
    failing_first: int = 0
    """So many requests are answered 503 before the first good answer."""
    seconds: float = 0
    cut: bool = False
    """Announces more bytes than it sends."""
    page: int = 0
    """Advisories in a page of querybatch; 0: all."""


@dataclass
class Service:
    """A running service: where it is, what it was asked, and its faults."""

    url: str
    documents: dict[str, dict[str, Any]]
    faults: Faults = field(default_factory=Faults)
    requests: list[str] = field(default_factory=list)


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the advisories of a folder by id."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("**/*.json"))]
    return {document["id"]: document for document in found}


def matching(documents: dict[str, dict[str, Any]], query: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the advisories that apply to what a query names."""
    package, version = query["package"], query["version"]
    return [d for d in documents.values() if any(_applies(part, package, version) for part in d["affected"])]


def _applies(part: dict[str, Any], package: dict[str, str], version: str) -> bool:
    about = part["package"]
    if about["ecosystem"] != package["ecosystem"] or canonicalize_name(about["name"]) != canonicalize_name(
        package["name"]
    ):
        return False
    spans = [span for r in part.get("ranges", ()) if r["type"] != "GIT" for span in _spans(r["events"])]
    ours = Version(version)
    return any(Version(v) == ours for v in part.get("versions", ())) or any(ours in span for span in spans)


def _spans(events: list[dict[str, str]]) -> Iterator[SpecifierSet]:
    for begin, end in zip(events[::2], events[1::2], strict=True):
        upper = f"<{end['fixed']}" if "fixed" in end else f"<={end['last_affected']}"
        yield SpecifierSet(f">={begin['introduced']},{upper}", prereleases=True)


@contextmanager
def serve(folder: Path = DATA, port: int = 0) -> Iterator[Service]:
    """Serve a folder until the block ends."""
    service = Service("", load(folder))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer(lambda: service.documents.get(self.path.removeprefix("/v1/vulns/")))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answers = {"/v1/query": _query, "/v1/querybatch": _batch}
            self._answer(lambda: answers[self.path](service, body) if self.path in answers else None)

        def _answer(self, found: Callable[[], Any]) -> None:
            service.requests.append(self.path)
            faults = service.faults
            time.sleep(faults.seconds)
            status = next((s for prefix, s in faults.status.items() if self.path.startswith(prefix)), 0)
            if faults.failing_first >= len(service.requests):
                status = 503
            answer = None if status else found()
            if faults.change and answer is not None:
                answer = faults.change(self.path, answer)
            content = json.dumps(answer if answer is not None else {"code": 5, "message": "not found"}).encode()
            content = next((b for prefix, b in faults.body.items() if self.path.startswith(prefix)), content)
            self.send_response(status or (200 if answer is not None else 404))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content) + (100 if faults.cut else 0)))
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = self.close_connection or faults.cut

        def log_message(self, *_: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None: ...

    server = Server(("127.0.0.1", port), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _query(service: Service, query: dict[str, Any]) -> dict[str, Any]:
    found = matching(service.documents, query)
    return {"vulns": found} if found else {}


def _batch(service: Service, body: dict[str, Any]) -> dict[str, Any]:
    return {"results": [_page(service, query) for query in body["queries"]]}


def _page(service: Service, query: dict[str, Any]) -> dict[str, Any]:
    found = [{"id": d["id"], "modified": d["modified"]} for d in matching(service.documents, query)]
    start, size = int(query.get("page_token") or 0), service.faults.page
    if not found:
        return {}
    if not size or start + size >= len(found):
        return {"vulns": found[start:]}
    return {"vulns": found[start : start + size], "next_page_token": str(start + size)}


if __name__ == "__main__":
    with serve(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0) as running:
        print(running.url, flush=True)
        threading.Event().wait()
