"""npm itself makes the new lock, from a registry of our own, in a folder of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_outdated import Index, serve
from tests.integration.update_bench import Bench
from upkeep.core.model import OutcomeStatus

pytestmark = pytest.mark.skipif(not shutil.which("npm"), reason="needs npm")
HASH = "sha512-" + "A" * 86 + "=="


def publish(index: Index, name: str, versions: dict[str, dict[str, str]]) -> None:
    """Add a package: version -> what it requires."""
    index.npm(
        name,
        {
            version: {"name": name, "version": version, "dependencies": needs,
                      "dist": {"tarball": f"{index.url}/{name}/-/{name}-{version}.tgz", "integrity": HASH}}
            for version, needs in versions.items()
        },
        **{"dist-tags": {"latest": max(versions)}},
    )  # fmt: skip


@pytest.fixture
def index() -> Iterator[Index]:
    """A registry."""
    with serve() as running:
        running.kind = "application/json"
        publish(running, "lodash", {"4.17.11": {}, "4.17.12": {}, "4.17.21": {}})
        publish(running, "minimist", {"0.0.8": {}, "1.2.6": {}})
        publish(running, "soft", {"1.0.0": {"minimist": ">=0.0.8"}})
        publish(running, "hard", {"1.0.0": {"minimist": "0.0.8"}})
        yield running


def project(tmp_path: Path, index: Index, **needs: str) -> Bench:
    """Return a project whose lock npm has made, with vulnerable versions, and a script that would tell."""
    bench = Bench(tmp_path / "app", index, "{}", "package-lock.json", {"ecosystem": "npm"}, {"npm_apply": True})
    bench.advise("GHSA-1", "lodash", "0", "4.17.12", "npm").advise("GHSA-2", "minimist", "0", "1.2.6", "npm")
    touch = f"touch {tmp_path}/script-ran"
    manifest: dict[str, Any] = {"name": "app", "version": "1.0.0", "dependencies": needs,
                                "scripts": {"preinstall": touch, "prepare": touch, "postinstall": touch}}  # fmt: skip
    (bench.folder / "package.json").write_text(json.dumps(manifest, indent=2) + "\n")
    bench.manifest.unlink()
    flags = ("--package-lock-only", "--ignore-scripts", f"--registry={index.url}", f"--cache={tmp_path}/cache")
    subprocess.run(["npm", "install", *flags], cwd=bench.folder, check=True, capture_output=True)
    # A later release has made the old one avoidable; the lock still holds it.
    text = bench.manifest.read_text().replace("1.2.6", "0.0.8")
    bench.manifest.write_text(text)
    return bench


def test_package_json_and_lock_are_changed_by_npm(tmp_path: Path, index: Index) -> None:
    """What is asked for moves in both files, the rest in the lock; a yes makes exactly that; no script runs."""
    bench = project(tmp_path, index, lodash="4.17.11", soft="1.0.0")
    before = {p.name: p.read_bytes() for p in bench.folder.iterdir()}
    found, (action,) = bench.plan()
    assert not found, found
    assert "lodash 4.17.11 -> 4.17.12" in action.reason and "minimist 0.0.8 -> 1.2.6" in action.reason
    assert '-    "lodash": "4.17.11"\n+    "lodash": "^4.17.12"' in action.details["diff"].replace(",", "")
    assert {p.name: p.read_bytes() for p in bench.folder.iterdir()} == before
    bench.target["tests"] = (
        sys.executable,
        "-c",
        "import os; assert '\"0.0.8' not in open(os.environ['UPKEEP_MANIFEST']).read()",
    )
    outcome = bench.act(action)
    assert outcome.status is OutcomeStatus.DONE, outcome
    assert json.loads((bench.folder / "package.json").read_text())["dependencies"]["lodash"] == "^4.17.12"
    assert not (tmp_path / "script-ran").exists() and not (bench.folder / "node_modules").exists()
    assert not bench.plan()[1]


def test_tests_that_fail_put_both_files_back(tmp_path: Path, index: Index) -> None:
    """Neither alone would do."""
    bench = project(tmp_path, index, lodash="4.17.11")
    bench.target["tests"] = (sys.executable, "-c", "raise SystemExit(1)")
    before = [bench.manifest.read_bytes(), (bench.folder / "package.json").read_bytes()]
    assert bench.act(bench.plan()[1][0]).status is OutcomeStatus.FAILED
    assert [bench.manifest.read_bytes(), (bench.folder / "package.json").read_bytes()] == before


def test_what_npm_cannot_move_is_told(tmp_path: Path, index: Index) -> None:
    """A package that insists on the old version; a registry that is away; a project with links."""
    bench = project(tmp_path, index, hard="1.0.0")
    found, actions = bench.plan()
    assert not actions and "minimist stays at 0.0.8" in found["refused"].message
    index.pages.clear()
    found, actions = bench.plan()
    assert not actions and "npm" in found["refused"].message
    lock = json.loads(bench.manifest.read_text())
    lock["packages"]["node_modules/l"] = {"resolved": "../l", "link": True}
    bench.manifest.write_text(json.dumps(lock))
    assert "registry" in bench.plan()[0]["refused"].message


def test_a_registry_with_newer_versions_since_then(tmp_path: Path, index: Index) -> None:
    """What would be made is not what a person agreed to: nothing is."""
    bench = project(tmp_path, index, soft="1.0.0")
    action = bench.plan()[1][0]
    publish(index, "minimist", {"0.0.8": {}, "1.2.6": {}, "1.2.7": {}})
    before = bench.manifest.read_bytes()
    outcome = bench.act(action)
    assert outcome.status is OutcomeStatus.FAILED and "other files" in outcome.detail
    assert bench.manifest.read_bytes() == before
