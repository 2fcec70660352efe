"""Sources of advisories that are away, lie, stop half-way or are old: never CLEAN, and always named."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.integration.advisory_server import DATA, Faults, serve
from tests.integration.audit_bench import Bench, of, pins, unknown
from upkeep.core.audit import Verdict
from upkeep.core.model import Severity

SAFE = "django==4.2.16\nrequests==2.32.3\n"
MANY = {"max_age_days": 36500}


def troubled(bench: Bench, *verdicts: Verdict, **settings: Any) -> str:
    """Run an audit that cannot be clean; return what it says of its sources."""
    judgement = bench.run(**settings)
    assert bench.verdict in verdicts
    assert unknown(judgement), "trouble without a finding"
    assert all(f.hint for f in unknown(judgement))
    return " | ".join(f.message for f in of(judgement, "source").values())


def batch(change: Callable[[list[Any]], Any]) -> Callable[[str, Any], Any]:
    """Return a fault that changes the results of querybatch."""

    def changed(path: str, answer: Any) -> Any:
        return {"results": change(answer["results"])} if path == "/v1/querybatch" else answer

    return changed


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        (Faults(status={"/": 404}), "HTTP 404"),
        (Faults(status={"/": 500}), "HTTP 500"),
        (Faults(status={"/": 401}), "HTTP 401"),
        (Faults(status={"/": 301}), "HTTP 301"),
        (Faults(body={"/v1/querybatch": b"<html>Sign in</html>"}), "is no JSON"),
        (Faults(body={"/v1/querybatch": b'{"results": [{}, {}'}), "is no JSON"),
        (Faults(body={"/v1/querybatch": b""}), "is no JSON"),
        (Faults(body={"/v1/querybatch": b"[]"}), "holds a JSON list"),
        (Faults(body={"/v1/querybatch": b"{}"}), "no list of `results`"),
        (Faults(body={"/v1/querybatch": b"\xff\xfe\x00"}), "no UTF-8"),
        (Faults(body={"/v1/querybatch": b'{"results":' + b"[" * 100_000}), "nested too deeply"),
        (Faults(cut=True), "ended before the answer"),
        (Faults(change=batch(lambda results: results[:-1])), "gave 2 results, expected 3"),
        (Faults(change=batch(lambda results: [*results, {}])), "gave 4 results, expected 3"),
        (Faults(change=batch(lambda results: [{} for _ in results])), "knows of nothing wrong with django 3.2"),
        (Faults(change=batch(lambda results: [None for _ in results])), "unusable"),
        (Faults(change=batch(lambda results: [{"vulns": [{"name": "x"}]} for _ in results])), "without a usable id"),
        (Faults(change=batch(lambda results: [{"error": "busy"} for _ in results])), "expected an object with `vulns`"),
        (Faults(change=batch(lambda results: [{"next_page_token": "0"} for _ in results])), "do not end"),
    ],
)
def test_a_service_that_gives_no_answer(tmp_path: Path, faults: Faults, reason: str) -> None:
    """Whatever a service says instead of an answer, nothing is known, even of packages without any vulnerability."""
    with serve() as service:
        service.faults = faults
        said = troubled(pins(tmp_path, [{"url": service.url}], SAFE), Verdict.UNKNOWN)
    assert reason in said


def test_service_away_and_silent(tmp_path: Path) -> None:
    """Nobody listens, or somebody listens and never answers: UNKNOWN, within the time that it may take."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert "refused" in troubled(pins(tmp_path, [{"url": url}]), Verdict.UNKNOWN)
    with serve() as service:
        service.faults.seconds = 5
        began = time.monotonic()
        said = troubled(
            pins(tmp_path, [{"url": service.url}]), Verdict.UNKNOWN, request_seconds=0.3, source_seconds=1.5
        )
        assert time.monotonic() - began < 4
    assert "no complete answer within 0.3 s" in said or "given up after 1.5 s" in said


def test_an_unfriendly_moment_passes(tmp_path: Path) -> None:
    """Two answers of 503 before the first good one are tried again and leave no trace."""
    with serve() as service:
        service.faults.failing_first = 2
        bench = pins(tmp_path, [{"url": service.url}], SAFE)
        bench.run()
    assert bench.verdict is Verdict.CLEAN


def test_pages_are_all_read(tmp_path: Path) -> None:
    """An answer in pages of three gives what a whole one gives; an unreadable second page is not silently left out."""
    with serve() as service:
        whole, paged = (pins(tmp_path / name, [{"url": service.url}]) for name in "ab")
        whole.run()
        service.faults.page = 3
        paged.run()
        assert paged.audited.vulnerabilities == whole.audited.vulnerabilities
        assert paged.verdict is Verdict.VULNERABLE
        turns: list[int] = []

        def second_fails(results: list[Any]) -> list[Any]:
            turns.append(1)
            return results if len(turns) == 1 else ["broken" for _ in results]

        service.faults.change = batch(second_fails)
        half = pins(tmp_path / "c", [{"url": service.url}])
        assert "unusable" in troubled(half, Verdict.VULNERABLE)
    assert len(half.audited.vulnerabilities) < len(whole.audited.vulnerabilities)
    assert len(half.audited.unanswered) == 4  # each has more than one page


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        (Faults(status={"/v1/vulns/": 404}), "HTTP 404"),
        (Faults(status={"/v1/vulns/": 500}), "HTTP 500"),
        (Faults(body={"/v1/vulns/": b'{"id": "PYSEC-2022-10"'}), "is no JSON"),
        (Faults(body={"/v1/vulns/": b"{}"}), "no `affected`"),
        (Faults(body={"/v1/vulns/": (DATA / "PYSEC-2015-17.json").read_bytes()}), "the answer is PYSEC-2015-17"),
    ],
)
def test_details_that_are_missing(tmp_path: Path, faults: Faults, reason: str) -> None:
    """An advisory that is named and cannot be read still counts: severity unknown, treated as high, and told."""
    with serve() as service:
        service.faults = faults
        bench = pins(tmp_path, [{"url": service.url}], "pillow==8.0.0\nrequests==2.32.3\n")
        assert reason in troubled(bench, Verdict.VULNERABLE)
    assert len(bench.audited.vulnerabilities) == 12  # 11, of which two names of one cannot be joined unread
    assert all(v.note for v in bench.audited.vulnerabilities)


def test_answers_in_the_wrong_place(tmp_path: Path) -> None:
    """Results that are shifted by one name advisories about something else: refused, and nothing is called clean."""
    with serve() as service:
        service.faults.change = batch(lambda results: results[1:] + results[:1])
        bench = pins(tmp_path, [{"url": service.url}], "pillow==8.0.0\nrequests==2.32.3\n")
        said = troubled(bench, Verdict.UNKNOWN, Verdict.PARTIAL)
    assert "is about something else" in said
    assert not bench.audited.vulnerabilities


def test_a_second_source_stands_in(tmp_path: Path) -> None:
    """With one source away and one that answers, what is found counts; and nothing found is PARTIAL, not CLEAN."""
    sources = [{"url": "http://127.0.0.1:9"}, {"folder": str(DATA), **MANY}]
    assert troubled(pins(tmp_path / "a", sources), Verdict.VULNERABLE)
    assert troubled(pins(tmp_path / "b", sources, SAFE), Verdict.PARTIAL)


def test_a_service_by_connection(tmp_path: Path) -> None:
    """A service behind a connection is asked with its credentials, which no message and no result repeats."""
    with serve() as service:
        host, _, port = service.url.removeprefix("http://").partition(":")
        connection = SimpleNamespace(
            conn_id="osv",
            host=host,
            port=int(port),
            schema="http",
            login="bob",
            password="hunter2-secret",
            extra_dejson={},
        )
        bench = pins(tmp_path, [{"conn_id": "osv"}], SAFE)
        bench.connection = connection
        bench.run()
        assert bench.verdict is Verdict.CLEAN
        service.faults.status["/"] = 403
        said = troubled(bench, Verdict.UNKNOWN)
    assert said.startswith("connection osv: ")
    assert "HTTP 403" in said
    assert "hunter2" not in repr(bench.seen)


def test_withdrawn_advisories_do_not_count(tmp_path: Path) -> None:
    """An advisory that was withdrawn is left out, by the folder and by the service."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for name in ("PYSEC-2021-109", "PYSEC-2022-10"):
        shutil.copy(DATA / f"{name}.json", mirror)
    document = json.loads((mirror / "PYSEC-2022-10.json").read_text())
    (mirror / "PYSEC-2022-10.json").write_text(json.dumps(document | {"withdrawn": "2026-01-01T00:00:00Z"}))
    with serve(mirror) as service:
        for n, source in enumerate(({"folder": str(mirror), **MANY}, {"url": service.url})):
            bench = pins(tmp_path / str(n), [source], "pillow==8.0.0\n")
            bench.run()
            assert bench.verdict is Verdict.CLEAN


class TestFolder:
    """A folder as a source."""

    def mirror(self, tmp_path: Path) -> Path:
        folder = tmp_path / "mirror"
        shutil.copytree(DATA, folder, copy_function=shutil.copyfile)  # fetched just now, however old the checkout is
        return folder

    def test_missing_empty_and_without_rights(self, tmp_path: Path) -> None:
        """A folder that is not there, holds nothing, or is a file says nothing."""
        empty, file = tmp_path / "empty", tmp_path / "file"
        empty.mkdir()
        file.write_text("{}")
        for folder, reason in ((tmp_path / "none", "no such folder"), (empty, "no advisory"), (file, "no such folder")):
            assert reason in troubled(pins(tmp_path / "m", [{"folder": str(folder)}], SAFE), Verdict.UNKNOWN)

    def test_age(self, tmp_path: Path) -> None:
        """A mirror that stopped is UNKNOWN, though it finds things; so is a fresh copy of an old one."""
        folder = self.mirror(tmp_path)
        bench = pins(tmp_path / "m", [{"folder": str(folder), "max_age_days": 7}], SAFE)
        bench.run()
        assert bench.verdict is Verdict.CLEAN
        assert "was written 8.0 days ago" in troubled(bench.later(days=8), Verdict.UNKNOWN)
        again = pins(tmp_path / "m", [{"folder": str(folder)}], SAFE)
        assert "copy of an old mirror" in troubled(again, Verdict.UNKNOWN, content_age_days=90)

    def test_one_ecosystem_that_has_stopped(self, tmp_path: Path) -> None:
        """A mirror that goes on with npm and has stopped fetching Python says nothing of Python."""
        folder = self.mirror(tmp_path)
        document = json.loads(next(folder.glob("GHSA-*")).read_text())
        part = {"package": {"ecosystem": "npm", "name": "x"}, "versions": ["1.0.0"]}
        new = {**document, "id": "GHSA-new", "modified": datetime.now(UTC).isoformat(), "affected": [part]}
        (folder / "GHSA-new.json").write_text(json.dumps(new))
        bench = pins(tmp_path / "m", [{"folder": str(folder)}], SAFE)
        assert "youngest advisory of PyPI" in troubled(bench, Verdict.UNKNOWN, content_age_days=90)

    def test_half_a_mirror(self, tmp_path: Path) -> None:
        """A folder that has lost many of its files finds nothing in them: unknown, until it is as it was."""
        folder = self.mirror(tmp_path)
        bench = pins(tmp_path / "m", [{"folder": str(folder), **MANY}], SAFE)
        assert not of(bench.run(), "mirror")
        for path in sorted(folder.glob("*.json"))[::2]:
            path.rename(tmp_path / path.name)
        for _ in range(3):
            (told,) = of(bench.later(days=7).run(), "mirror").values()
            assert told.severity is Severity.UNKNOWN and "lately" in told.message
        for path in tmp_path.glob("*.json"):
            path.rename(folder / path.name)
        assert not of(bench.later(days=7).run(), "mirror")

    def test_times_in_the_future_are_not_new(self, tmp_path: Path) -> None:
        """A file or an advisory of next year does not make a mirror that has stopped look fresh for ever."""
        folder = self.mirror(tmp_path)
        first = next(folder.glob("PYSEC-*"))
        document = json.loads(first.read_text()) | {"modified": "2099-01-01T00:00:00Z"}
        first.write_text(json.dumps(document))
        os.utime(first, (4e9, 4e9))
        bench = pins(tmp_path / "m", [{"folder": str(folder)}], SAFE)
        assert "copy of an old mirror" in troubled(bench, Verdict.UNKNOWN, content_age_days=90)
        assert "was written 8.0 days ago" in troubled(bench.later(days=8), Verdict.UNKNOWN)
        for path in folder.iterdir():
            os.utime(path, (4e9, 4e9))
        assert "written in the future" in troubled(bench, Verdict.UNKNOWN)

    def test_a_link_to_a_folder_is_named(self, tmp_path: Path) -> None:
        """What lies behind a link to a folder is not read, and nobody can take its silence for an answer."""
        folder = self.mirror(tmp_path)
        (tmp_path / "elsewhere").mkdir()
        (folder / "more").symlink_to(tmp_path / "elsewhere")
        said = troubled(pins(tmp_path / "m", [{"folder": str(folder), **MANY}], SAFE), Verdict.PARTIAL)
        assert "more: it is a link" in said

    def test_rights_that_were_corrected(self, tmp_path: Path) -> None:
        """A file is looked at again once its rights change, or another of its size and time is there."""
        folder = self.mirror(tmp_path)
        path = folder / "PYSEC-2021-109.json"
        content, status = path.read_bytes(), path.stat()
        path.write_bytes(b" " * len(content))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        bench = pins(tmp_path / "m", [{"folder": str(folder), **MANY}])
        troubled(bench, Verdict.VULNERABLE)
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        bench.run()
        assert "CVE-2021-35042" in {v.id for v in bench.audited.vulnerabilities} and not bench.audited.problems

    def test_what_a_killed_builder_has_left(self, tmp_path: Path) -> None:
        """An index that somebody began long ago and never finished is removed; one that is being built is not."""
        bench = pins(tmp_path / "m", [{"folder": str(self.mirror(tmp_path)), **MANY}])
        indexes = bench.folder / "indexes"
        indexes.mkdir()
        old, new = indexes / ".a-b.sqlite.1.1", indexes / ".a-b.sqlite.2.2"
        for path in (old, new):
            path.write_bytes(b"x")
        os.utime(old, (1e9, 1e9))
        bench.run()
        assert not old.exists() and new.exists()

    def test_malformed_files_are_named(self, tmp_path: Path) -> None:
        """Files that cannot be read as advisories are named, make it PARTIAL, and lose nothing of the others."""
        folder = self.mirror(tmp_path)
        nested = folder / "deep" / "er"
        nested.mkdir(parents=True)
        (nested / "cut.json").write_text('{"id": "X-1", "affec')
        (nested / "other.yaml").write_text("a: [1, 2\n")
        (nested / "draft.yml").write_text("id: X-2\nmodified: 2021-01-01T00:00:00Z\naffects:\n  ranges: []\n")
        (folder / "link.json").symlink_to("/etc/passwd")
        (folder / "twice.json").write_text('{"id": "X-1", "id": "X-2"}')
        said = troubled(pins(tmp_path / "m", [{"folder": str(folder), **MANY}], SAFE), Verdict.PARTIAL)
        for part in ("5 of its files", "cut.json", "other.yaml: line", "draft", "link.json: it is a link", "twice"):
            assert part in said
        bench = pins(tmp_path / "n", [{"folder": str(folder), **MANY}])
        troubled(bench, Verdict.VULNERABLE)
        assert len(bench.audited.vulnerabilities) == 29

    def test_yaml_is_text(self, tmp_path: Path) -> None:
        """Versions of a YAML file stay as written (1.10 is no number), and no tag constructs anything."""
        folder = tmp_path / "mirror"
        folder.mkdir()
        (folder / "a.yaml").write_text(
            "id: PYSEC-2026-1\nmodified: 2026-01-01T00:00:00Z\nwithdrawn: null\nsummary: !!python/name:os.system\n"
            "affected:\n- package: {name: urllib3, ecosystem: PyPI}\n  ranges:\n  - type: ECOSYSTEM\n"
            "    events:\n    - introduced: 0\n    - fixed: 1.10\n  versions:\n  - 1.20\n"
        )
        for version, verdict in (("1.9", Verdict.VULNERABLE), ("1.10", Verdict.CLEAN), ("1.20", Verdict.VULNERABLE)):
            bench = pins(tmp_path / version, [{"folder": str(folder), **MANY}], f"urllib3=={version}\n")
            bench.run()
            assert bench.verdict is verdict, version

    def test_a_bomb_does_not_unfold(self, tmp_path: Path) -> None:
        """YAML aliases that would unfold to gigabytes are refused in a moment."""
        folder = self.mirror(tmp_path)
        levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12))
        (folder / "bomb.yaml").write_text(f"l0: &l0 [x]\n{levels}\nid: X-1\nmodified: 2026-01-01T00:00:00Z\n"
                                          "affected: *l11\naliases: *l11\n")  # fmt: skip
        began = time.monotonic()
        assert "bomb.yaml" in troubled(pins(tmp_path / "m", [{"folder": str(folder), **MANY}], SAFE), Verdict.PARTIAL)
        assert time.monotonic() - began < 5

    def test_an_ecosystem_it_does_not_hold(self, tmp_path: Path) -> None:
        """A folder with Python advisories says nothing about npm packages."""
        folder = self.mirror(tmp_path)
        for path in folder.glob("GHSA-*"):
            path.unlink()
        lock = tmp_path / "package-lock.json"
        lock.write_text(json.dumps({"lockfileVersion": 3, "packages": {"node_modules/a": {"version": "1.0.0"}}}))
        sources = [{"folder": str(folder), **MANY}]
        bench = Bench(tmp_path, {"ecosystem": "npm", "manifests": [str(lock)], "advisories": sources})
        assert "no advisory of ecosystem npm" in troubled(bench, Verdict.UNKNOWN)

    def test_index_follows_the_files(self, tmp_path: Path) -> None:
        """The index is built once, again when a file changes, and by many at once without harm."""
        folder = self.mirror(tmp_path)
        sources = [{"folder": str(folder), **MANY}]
        bench = pins(tmp_path / "m", sources)
        bench.run()
        (index,) = (bench.folder / "indexes").iterdir()
        built = index.stat().st_mtime_ns
        bench.run()
        assert index.stat().st_mtime_ns == built
        (folder / "PYSEC-2021-109.json").unlink()
        runs = [threading.Thread(target=bench.job({}).tools.auditor.audited, args=self._asked(bench)) for _ in range(6)]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        bench.run()
        assert "CVE-2021-35042" not in {v.id for v in bench.audited.vulnerabilities}
        (left,) = (bench.folder / "indexes").iterdir()
        assert left != index

    def _asked(self, bench: Bench) -> Any:
        job = bench.job({})
        return bench.audited.listed, job.target.advisories, job.settings.limits, bench.now

    def test_a_damaged_index(self, tmp_path: Path) -> None:
        """An index that is damaged is built anew; where that cannot be, it is trouble, not silence."""
        bench = pins(tmp_path / "m", [{"folder": str(self.mirror(tmp_path)), **MANY}])
        bench.run()
        found = bench.audited.vulnerabilities
        (index,) = (bench.folder / "indexes").iterdir()
        for content in (b"nothing", b""):
            index.write_bytes(content)
            bench.run()
            assert bench.audited.vulnerabilities == found
        index.unlink()
        index.parent.rmdir()
        index.parent.write_text("in the way")
        assert "cannot be used" in troubled(bench, Verdict.UNKNOWN)


def test_nothing_to_look_up(tmp_path: Path) -> None:
    """An empty manifest and one that is missing are UNKNOWN: nothing was audited."""
    source = {"folder": str(DATA), **MANY}
    judgement = (bench := pins(tmp_path, [source], "# nothing\n")).run()
    assert bench.verdict is Verdict.UNKNOWN
    assert of(judgement, "verdict")["audit"].severity is Severity.UNKNOWN
    bench = Bench(
        tmp_path, {"manifests": [str(tmp_path / "none.txt"), str(tmp_path / "*.lock")], "advisories": [source]}
    )
    assert len(of(bench.run(), "unlisted")) == 2
    assert bench.verdict is Verdict.UNKNOWN
