"""An index of Python packages (PEP 691) and an npm registry, which know the packages of the sample systems.

The newest version of each is that of the manifests: what is planted is behind it, and the Internet is not asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lab.manifests import npm_versions, python_versions

# When the newest versions came out; true of the ones named, and near enough of the others.
_RELEASED = "2025-02-05T12:00:00Z"
_DATES = {
    "django": {
        "3.2.0": "2021-04-06T09:00:00Z",
        "3.2.20": "2023-07-03T07:00:00Z",
        "4.2.0": "2023-04-03T08:00:00Z",
        "5.1.6": "2025-02-05T14:00:00Z",
    },
    "sqlalchemy": {"1.4.54": "2024-09-05T15:00:00Z", "2.0.0": "2023-01-26T20:00:00Z", "2.0.37": "2025-01-09T22:00:00Z"},
    "lodash": {"4.17.11": "2018-09-12T18:00:00Z", "4.17.21": "2021-02-20T15:00:00Z"},
}


def server(port: int) -> ThreadingHTTPServer:
    """Return the server; `/simple/<name>/` is the Python index, `/npm/<name>` the registry."""
    made = ThreadingHTTPServer(("127.0.0.1", port), _handler(_python(), _npm()))
    made.daemon_threads = True
    return made


def _python() -> dict[str, Any]:
    found = {}
    for package, versions in python_versions().items():
        name = re.sub(r"[-_.]+", "-", package).lower()
        dates = dict.fromkeys(versions, _RELEASED) | _DATES.get(name, {})
        files = [
            {"filename": f"{name.replace('-', '_')}-{version}-py3-none-any.whl", "upload-time": when, "hashes": {},
             "url": f"/files/{name.replace('-', '_')}-{version}-py3-none-any.whl", "core-metadata": True}
            for version, when in dates.items()
        ]  # fmt: skip
        found[name] = {"meta": {"api-version": "1.1"}, "name": name, "versions": list(dates), "files": files}
    return found


def _metadata(file: str) -> bytes:
    """Return what a resolver wants to know of a wheel (PEP 658): nothing here needs anything else."""
    name, version, _ = file.split("-", 2)
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: binary\n".encode()


def _npm() -> dict[str, Any]:
    found = {}
    for name, versions in npm_versions().items():
        dates = dict.fromkeys(versions, _RELEASED) | _DATES.get(name, {})
        latest = max(dates, key=lambda version: [int(part) for part in version.split(".")])
        entries = {version: {"name": name, "version": version} for version in dates}
        found[name] = {"name": name, "dist-tags": {"latest": latest}, "versions": entries, "time": dates}
    return found


def _handler(python: dict[str, Any], npm: dict[str, Any]) -> type[BaseHTTPRequestHandler]:
    from urllib.parse import unquote

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True
        log_request: Callable[..., None] = lambda *_: None

        def do_GET(self) -> None:
            place, _, name = unquote(self.path).strip("/").partition("/")
            if place == "files" and name.endswith(".metadata"):
                self._send(200, "text/plain; charset=utf-8", _metadata(name))
                return
            known = {"simple": python, "npm": npm}.get(place, {}).get(name)
            kind = "application/vnd.pypi.simple.v1+json" if place == "simple" else "application/json"
            self._send(200 if known else 404, kind, json.dumps(known or {"error": "not found"}).encode())

        def _send(self, status: int, kind: str, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
