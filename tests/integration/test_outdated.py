"""How far packages are behind, asked of real HTTP servers that speak as an index and as an npm registry do."""

from __future__ import annotations

import json
import logging
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest

from upkeep.adapters.outdated import make_lister
from upkeep.adapters.outdated_config import Registries, configured
from upkeep.core.audit import Limits, Listed, Package, Unlisted
from upkeep.core.cadence import Window
from upkeep.core.job import Job, Tools
from upkeep.core.model import Judgement, Severity
from upkeep.core.outdated import Lookup, Newer, Outdated
from upkeep.core.system import System
from upkeep.core.targets import DependenciesTarget
from upkeep.routines.dependencies import outdated

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@dataclass
class Index:
    """A running server: what it answers by path (bytes, a status, or a function of the handler), and who asked."""

    url: str = ""
    pages: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    kind: str = "application/vnd.pypi.simple.v1+json"

    @property
    def registries(self) -> Registries:
        """The configuration of a machine that knows this one place."""
        return configured({"PIP_INDEX_URL": f"{self.url}/simple", "npm_config_registry": self.url}, Path("/nowhere"))

    def python(self, name: str, *files: dict[str, Any]) -> None:
        """Add a package of Python."""
        self.pages[f"/simple/{name}/"] = json.dumps(
            {"meta": {"api-version": "1.1"}, "name": name, "files": files}
        ).encode()

    def npm(self, name: str, versions: Mapping[str, Any], **others: Any) -> None:
        """Add a package of npm."""
        self.pages[f"/{name}"] = json.dumps({"name": name, "versions": versions, **others}).encode()


def wheel(name: str, version: str, day: str = "2020-01-01", **others: Any) -> dict[str, Any]:
    """Return a file as an index tells it."""
    filename = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    at = f"{day}T00:00:00.000000Z"
    return {
        "filename": filename,
        "url": f"/files/{filename}",
        "hashes": {"sha256": "0" * 64},
        "upload-time": at,
        **others,
    }


@contextmanager
def serve() -> Iterator[Index]:
    """Serve pages in a thread until the block ends; what there is no page for is answered with 404."""
    index = Index()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self) -> None:
            path = unquote(self.path)
            index.asked.append((path, dict(self.headers)))
            page = index.pages.get(path, index.pages.get("*", 404))
            if callable(page):
                page(self)
                return
            status, body = (page, b"") if isinstance(page, int) else (200, page)
            self.send_response(status)
            self.send_header("Content-Type", index.kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.wfile.flush()

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None: ...

    server = Server(("127.0.0.1", 0), Handler)
    index.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def index() -> Iterator[Index]:
    """An index of our own."""
    with serve() as running:
        yield running


def package(name: str, version: str, ecosystem: str = "PyPI", direct: bool | None = True) -> Package:
    """Return a package."""
    return Package(ecosystem=ecosystem, name=name, version=version, where="requirements.txt:1", direct=direct)


TARGET = DependenciesTarget(id="x/dependencies", manifests=("requirements.txt",))


def look(index: Index, *packages: Package, target: DependenciesTarget = TARGET, **lookup: Any) -> Outdated:
    """Ask an index about packages."""
    return make_lister(lambda: index.registries)(target, Listed(packages=packages), Lookup(**lookup))


def newer(found: Outdated) -> dict[str, Newer]:
    """Return what is newer by name."""
    return {one.name: one for one in found.newer}


def test_python_packages_and_how_far_behind_they_are(index: Index) -> None:
    """Releases, days, and since when the first release of the same step was out."""
    versions = ("3.2.0", "2021-04-06"), ("3.2.5", "2021-07-01"), ("4.0", "2021-12-07"), ("5.2.1", "2025-05-07")
    index.python("django", *(wheel("django", version, day) for version, day in versions))
    index.python("six", wheel("six", "1.16.0"))
    index.python(
        "b", wheel("b", "1.0.0", "2024-01-01"), wheel("b", "1.0.1", "2024-01-31"), wheel("b", "1.1", "2024-02-01")
    )
    found = look(index, package("django", "3.2"), package("six", "1.16.0"), package("b", "1.0.0"))
    assert (found.looked_up, found.unknown) == (3, ())
    django, b = newer(found)["django"], newer(found)["b"]
    assert (django.latest, django.behind, django.releases, django.days) == ("5.2.1", "major", 3, 1492)
    assert django.since == datetime(2021, 12, 7, tzinfo=UTC)
    assert (b.latest, b.behind, b.releases, b.days) == ("1.1", "minor", 2, 31)
    assert {dict(asked)["Accept"].split(",")[0] for _, asked in index.asked} == {"application/vnd.pypi.simple.v1+json"}


def test_what_could_not_be_installed_is_not_newest(index: Index) -> None:
    """Pre-releases, withdrawn releases and those for another Python are passed over; so are files of other packages."""
    index.python(
        "a",
        wheel("a", "1.0"),
        wheel("a", "1.5", **{"requires-python": ">=3.8"}),
        wheel("a", "2.0", **{"requires-python": ">=3.99"}),
        wheel("a", "3.0", yanked="broken"),
        wheel("a", "4.0rc1"),
        wheel("a-b", "9.0"),
        {"filename": "a-8.0.exe"},
        {"filename": 7},
    )  # fmt: skip
    assert newer(look(index, package("a", "1.0"), python="3.12.1"))["a"].latest == "1.5"
    assert newer(look(index, package("a", "1.0"), python="3.99.0"))["a"].latest == "2.0"
    assert not newer(look(index, package("a", "1.0"), python="3.6")) and not newer(look(index, package("a", "3.0.1")))


def test_a_withdrawn_version_in_use(index: Index) -> None:
    """It is told with its makers' reason, even where nothing is newer; one bad file of several is not enough."""
    index.python("a", wheel("a", "1.0"), wheel("a", "2.0", yanked="eats <b>data</b>\x1b[0m"))
    index.python("b", wheel("b", "2.0", yanked=True), {**wheel("b", "2.0"), "filename": "b-2.0.tar.gz"})
    found = newer(look(index, package("a", "2.0"), package("b", "2.0")))
    assert (found["a"].withdrawn, found["a"].behind) == ("eats <b>data</b>?[0m", None)
    assert "b" not in found


def test_an_index_that_only_speaks_html(index: Index) -> None:
    """As PEP 503 has it: no times, but withdrawn files and what Python is needed."""
    index.kind = "text/html; charset=utf-8"
    index.pages["/simple/a/"] = b"""<!DOCTYPE html><a href="../../f/a-1.0.tar.gz#sha256=00">x</a>
        <a href="a-2.0-py3-none-any.whl" data-requires-python="&gt;=3.8">x</a><a href="a-3.0.zip" data-yanked="">x</a>
        <a href="a-4.0.tar.gz" data-requires-python="&gt;=9">x</a>"""
    found = newer(look(index, package("a", "1.0")))["a"]
    assert (found.latest, found.releases, found.days, found.since) == ("2.0", 1, None, None)


def test_npm_packages(index: Index) -> None:
    """The registry's `latest` counts, not a higher number that is published beside it; deprecation is told."""
    index.npm("lodash", {"4.17.11": {}, "4.17.21": {}, "5.0.0-rc.1": {}}, time={"4.17.21": "2021-02-20T15:42:16.891Z"},
              **{"dist-tags": {"latest": "4.17.21"}})  # fmt: skip
    index.npm("@s/lts", {"1.0.0": {}, "1.2.0": {}, "2.0.0": {}}, **{"dist-tags": {"latest": "1.2.0", "next": "2.0.0"}})
    index.npm("old", {"1.0.0": {"deprecated": "use new"}}, **{"dist-tags": {"latest": "1.0.0"}})
    found = newer(
        look(index, *(package(n, v, "npm") for n, v in (("lodash", "4.17.11"), ("@s/lts", "1.0.0"), ("old", "1.0.0"))))
    )
    assert (found["lodash"].latest, found["lodash"].behind, found["lodash"].releases) == ("4.17.21", "patch", 1)
    assert (found["@s/lts"].latest, found["@s/lts"].behind) == ("1.2.0", "minor")
    assert found["old"].withdrawn == "use new"
    assert "/@s/lts" in {path for path, _ in index.asked}


def test_only_what_is_asked_for_is_looked_up(index: Index) -> None:
    """Not what others brought along, nor packages of one's own, unless one wants that; every version once."""
    index.pages["*"] = 404
    asked = [package("a", "1.0"), package("a", "1.0"), package("b", "1.0", direct=False), package("own", "1.0")]
    look(index, *asked, package("libc6", "1", "Debian:12"), own=("Own",))
    assert [path for path, _ in index.asked] == ["/simple/a/"]
    look(index, *asked, transitive=True)
    assert {path for path, _ in index.asked} == {"/simple/a/", "/simple/b/", "/simple/own/"}


def test_a_package_that_no_index_has_is_unknown(index: Index) -> None:
    """Silence would look like being up to date."""
    (one,) = look(index, package("secret-thing", "1.0")).unknown
    assert one.where == "PyPI secret-thing" and "no index has it" in one.reason and "own" in one.hint


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Answer for ever, a byte at a time."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def cut(handler: BaseHTTPRequestHandler) -> None:
    """End in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.close_connection = True


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (500, "status 500"), (403, "status 403"), (302, "status 302"), (cut, "ended before"),
        (drip, "no (complete|time)"), (b"<html>", "no JSON"), (b"{}", "no list `files`"),
        (b'{"files": []}', "no file"), (b"\xff", "UTF-8"),
        (b'{"files": [{"filename": "x"}]' , "no JSON"), (b'{"files":' + b"[" * 100_000, "nested"),
        (b'{"files": {}}', "no list `files`"),
    ],
)  # fmt: skip
def test_an_index_that_answers_garbage_is_unknown(index: Index, page: Any, reason: str) -> None:
    """Nothing is taken for up to date."""
    import re

    index.pages["*"] = page
    found = look(index, *(package(f"p{n}", "1.0") for n in range(12)), timeout=0.5 if page is drip else 20)
    assert (found.looked_up, found.newer) == (0, ())
    assert found.unknown and all(re.search(reason, one.reason) for one in found.unknown), found.unknown


def test_an_index_that_is_away_is_told_once(index: Index) -> None:
    """Not once for every package, and quickly."""
    index.url = "http://127.0.0.1:9"
    started = time.monotonic()
    (one,) = look(index, *(package(f"p{n}", "1.0") for n in range(300))).unknown
    assert one.where == "http://127.0.0.1:9/simple" and time.monotonic() - started < 2


def test_the_machines_configuration(tmp_path: Path) -> None:
    """Environment before files, credentials apart from the address, npm's tokens only for their own registry."""
    home = tmp_path / "home"
    (home / ".config/pip").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (home / ".config/pip/pip.conf").write_text("[global]\nindex-url = https://me:s3cret%2F!@pip.test/simple/\n")
    (tmp_path / "etc/pip.conf").write_text(
        "[global]\nindex-url = https://other.test/\nextra-index-url = https://more.test/\n"
    )
    (home / ".npmrc").write_text(
        "registry=https://npm.test/\n@s:registry=https://s.test/\n//s.test/:_authToken=${TOKEN}\n"
    )
    env = {"HOME": str(home), "TOKEN": "t0ken-of-npm"}
    found = configured(env, tmp_path)
    assert [place.base_url for place in found.python] == ["https://more.test", "https://pip.test/simple"]
    assert found.python[1].password == "s3cret/!" and found.python[1].headers["Authorization"].startswith("Basic ")
    assert found.for_npm("@s/x").headers["Authorization"] == "Bearer t0ken-of-npm"
    assert "Authorization" not in found.for_npm("x").headers and found.for_npm("x").base_url == "https://npm.test"
    assert "s3cret" not in repr(found) and "t0ken" not in repr(found)
    assert configured({**env, "UV_INDEX_URL": "https://uv.test"}, tmp_path).python[-1].base_url == "https://uv.test"
    [default] = configured({}, tmp_path / "none").python
    assert default.base_url.endswith("/simple")  # pip's own, which is its makers' matter


def test_an_index_that_refuses_is_not_asked_for_every_package(index: Index) -> None:
    """Each thread asks at most once more."""
    index.pages["*"] = 503
    look(index, *(package(f"p{n}", "1.0") for n in range(200)))
    assert len(index.asked) <= 8


class History:
    """A ledger's memory of one measurement."""

    def __init__(self, **points: float) -> None:
        self.points = {name: SimpleNamespace(at=NOW, value=value) for name, value in points.items()}

    def latest(self, name: str) -> dict[str, Any]:
        """Return what was remembered."""
        return self.points


def run(
    find: Callable[..., Outdated], *packages: Package, history: Any = None, unlisted: Sequence[Unlisted] = (),
    target: DependenciesTarget = TARGET, software: dict[str, str] | None = None, **settings: Any,
) -> Judgement:  # fmt: skip
    """Run the routine."""
    person = {"name": "a", "channels": [{"kind": "email", "address": "a@x.test"}]}
    facts = {"name": "x", "title": "X", "software": software or {}, "contacts": {"sysadmin": {"primary": person}},
             "targets": {"dependencies": {"kind": "dependencies", "manifests": ["r"]}}}  # fmt: skip
    listed = Listed(packages=packages, unlisted=tuple(unlisted))
    tools: Any = SimpleNamespace(
        auditor=SimpleNamespace(listed=lambda _target, limits: listed if isinstance(limits, Limits) else None),
        outdated=find, now=lambda: NOW, log=logging.getLogger(__name__), history=history or History(),
    )  # fmt: skip
    tools_typed: Tools = tools
    job = Job(
        routine="dependencies.outdated", target=target, system=System.model_validate(facts),
        settings=outdated.Settings(**settings), window=Window(start=NOW - timedelta(days=7), end=NOW), run_id="r",
        try_number=1, tools=tools_typed,
    )  # fmt: skip
    return outdated.judge(job, outdated.observe(job))


def findings(judged: Judgement) -> dict[tuple[str, str], Severity]:
    """Return check and subject -> severity."""
    return {(f.check, f.subject): f.severity for f in judged.findings}


def test_the_routine_warns_of_an_old_major_and_a_withdrawn_version(index: Index) -> None:
    """What is behind is information; a newer major version that is out for long, or a withdrawn one, is a warning."""
    index.python("old", wheel("old", "1.0"), wheel("old", "2.0", "2024-01-01"))
    index.python("fresh", wheel("fresh", "1.0"), wheel("fresh", "2.0", "2026-10-01"))
    index.python("patient", wheel("patient", "1.0"), wheel("patient", "2.0", "2024-01-01"))
    index.python("minor", wheel("minor", "1.0"), wheel("minor", "1.1", "2021-01-01"))
    index.python("gone", wheel("gone", "1.0", yanked="x"), wheel("gone", "1.1"))
    index.python("good", wheel("good", "1.0"))
    find = make_lister(lambda: index.registries)
    names = ("old", "fresh", "patient", "minor", "gone", "good")
    judged = run(find, *(package(name, "1.0") for name in names), patience={"Patient": 5000})
    assert findings(judged) == {
        ("major_behind", "old"): Severity.WARNING, ("behind", "fresh"): Severity.INFO,
        ("behind", "patient"): Severity.INFO, ("behind", "minor"): Severity.INFO,
        ("withdrawn", "gone"): Severity.WARNING,
    }  # fmt: skip
    measured = {(m.name, m.subject): m.value for m in judged.measurements}
    assert measured["packages.looked_up", ""] == 6 and measured["packages.behind.major", ""] == 3


def test_without_dates_the_ledger_remembers_since_when(index: Index) -> None:
    """An index that tells no times: what we saw first counts."""
    index.python("a", *({**wheel("a", version), "upload-time": None} for version in ("1.0", "2.0")))
    find = make_lister(lambda: index.registries)
    first = run(find, package("a", "1.0"))
    assert findings(first) == {("behind", "a"): Severity.INFO}
    (seen,) = [m for m in first.measurements if m.name == "major.first_seen"]
    assert (seen.subject, seen.value) == ("a", NOW.timestamp())
    later = run(find, package("a", "1.0"), history=History(a=(NOW - timedelta(days=400)).timestamp()))
    assert findings(later) == {("major_behind", "a"): Severity.WARNING}


def test_what_cannot_be_known_is_unknown(index: Index) -> None:
    """An index that is away, and lines of a manifest that nobody could read: one finding for each reason."""
    index.url = "http://127.0.0.1:9"
    odd = Unlisted(where="requirements.txt:3", reason="an address", hint="pin it")
    judged = run(make_lister(lambda: index.registries), package("a", "1"), package("b", "1"), unlisted=(odd,))
    assert findings(judged) == {
        ("lookup", "http://127.0.0.1:9/simple"): Severity.UNKNOWN,
        ("lookup", "requirements.txt:3"): Severity.UNKNOWN,
    }
    nothing = run(make_lister(lambda: index.registries))
    assert findings(nothing) == {("lookup", "packages"): Severity.UNKNOWN}


def test_stated_versions(index: Index) -> None:
    """What the system states and has otherwise is a warning; what cannot be compared is unknown; the rest is silent."""
    for name, version in (("django", "4.2"), ("pandas", "2.2.2"), ("scikit-learn", "1.4.2")):
        index.python(name, wheel(name, version))
    environment = TARGET.model_copy(update={"environment": sys.executable})
    judged = run(
        make_lister(lambda: index.registries),
        package("django", "4.2"), package("pandas", "2.2.2"), package("scikit-learn", "1.4.2"), target=environment,
        software={"django": "==5.1.6", "pandas": "==2.2.2", "scikit_learn": "about 1", "python": ">=3.8", "redis": "6"},
    )  # fmt: skip
    assert findings(judged) == {
        ("stated_version", "django"): Severity.WARNING,
        ("stated_version", "scikit_learn"): Severity.UNKNOWN,
    }
    lister = make_lister(lambda: index.registries)
    wrong = run(lister, package("pandas", "2.2.2"), target=environment, software={"python": "<3"})
    assert wrong.findings[0].observed == platform.python_version()


def test_stated_versions_of_debian_packages() -> None:
    """The makers' version counts, without what the packager added."""
    from upkeep.adapters.outdated_stated import stated

    versions = {"postgresql-15": "15.8-0+deb12u1", "redis-server": "5:7.0.15-1~deb12u2", "python3": "3.11.2-1+b1",
                "postgresql-common": "248"}  # fmt: skip
    listed = [package(name, version, "Debian:12") for name, version in versions.items()]
    found = stated({"postgresql": ">=16", "redis": ">=6", "python": ">=3.12"}, listed, ())
    assert [(one.product, one.installed, one.fits) for one in found] == [
        ("postgresql", "15.8", False), ("redis", "7.0.15", True), ("python", "3.11.2", False),
    ]  # fmt: skip


def test_an_environment_without_a_python_is_unknown(index: Index) -> None:
    """Then nobody knows what could be installed there."""
    gone = TARGET.model_copy(update={"environment": "/nowhere/bin/python"})
    (one,) = look(index, target=gone).unknown
    assert one.where == "/nowhere/bin/python" and "python" in one.hint


def test_a_flood_of_packages_is_bounded(index: Index) -> None:
    """So many findings are shown, the rest is counted, and no warning is lost in it."""
    newer = [
        Newer(ecosystem="PyPI", name=f"p{n:03}", installed="1", latest="2", where="r", behind="minor")
        for n in range(300)
    ]
    late = newer[-1].model_copy(update={"name": "late", "withdrawn": "x"})
    judged = run(lambda *_: Outdated(newer=(*newer, late)), package("a", "1"), shown=10)
    assert len(judged.findings) == 11 and judged.findings[0].check == "withdrawn"
    assert "291 more" in judged.findings[-1].message


def test_debian_updates(tmp_path: Path) -> None:
    """Security updates that wait are a warning with the command; old lists are unknown."""
    from upkeep.core.outdated import Pending

    def pending(name: str, security: bool) -> Pending:
        return Pending(name=name, installed="1", candidate="2", origin="o", security=security)

    debian = DependenciesTarget(id="x/debian", ecosystem="debian")
    found = Outdated(pending=(pending("openssl", True), pending("vim", False)), lists_at=NOW - timedelta(days=1))
    judged = run(lambda *_: found, target=debian)
    assert findings(judged) == {("security_updates", "debian"): Severity.WARNING, ("behind", "debian"): Severity.INFO}
    assert "apt-get install --only-upgrade openssl" in judged.findings[0].hint
    for at in (NOW - timedelta(days=30), None):
        assert ("package_lists", "apt") in findings(run(lambda *_, at=at: Outdated(lists_at=at), target=debian))
    assert not run(lambda *_: Outdated(lists_at=NOW), target=debian).findings
