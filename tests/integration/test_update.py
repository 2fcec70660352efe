"""Updates: the smallest safe versions, shown whole before anything is written, applied as shown or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_outdated import Index, serve, wheel
from tests.integration.update_bench import NOW, ROUTINE, Bench, publish
from upkeep.adapters.update_file import _HIDDEN as HIDDEN
from upkeep.adapters.update_file import tail
from upkeep.core.model import Action, OutcomeStatus, Severity
from upkeep.core.outdated import Outdated, Pending


@pytest.fixture
def index() -> Iterator[Index]:
    """An index with wheels of our own."""
    with serve() as running:
        publish(running, "django", v3_2_0="", v3_2_5="", v3_2_9="", v4_0_0="")
        publish(running, "six", v1_16_0="")
        yield running


@pytest.fixture
def bench(tmp_path: Path, index: Index) -> Bench:
    """A requirements file with one vulnerable pin."""
    text = "# ours\r\n-r other.txt\r\ndjango==3.2.0  # web\r\nsix==1.16.0\r\n"
    made = Bench(tmp_path / "app", index, text).advise("CVE-2021-1", "django", "0", "3.2.5")
    (made.folder / "other.txt").write_text("")
    return made


PASS = (sys.executable, "-c", "import os; print(open(os.environ['UPKEEP_MANIFEST'], newline='').read())")
FAIL = (sys.executable, "-c", "print('password=hunter2'); raise SystemExit('one test failed')")


def only(actions: tuple[Action, ...]) -> Action:
    """Return the one action that there is."""
    (one,) = actions
    return one


def digest(path: Path) -> str:
    """Return a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_smallest_safe_version_is_proposed_with_the_change(bench: Bench) -> None:
    """Approval, change, hash of the file and the reason for each line are there; nothing is written yet."""
    before = {path: path.read_bytes() for path in bench.folder.iterdir()}
    found, actions = bench.plan()
    action = only(actions)
    assert (action.name, action.subject, action.reason) == (
        "update_manifest",
        str(bench.manifest),
        "django 3.2.0 -> 3.2.5",
    )
    assert "-django==3.2.0  # web\n+django==3.2.5  # web\n" in action.details["diff"]
    assert action.details["base_sha256"] == digest(bench.manifest)
    assert action.details["why"] == {"django": "3.2.0 -> 3.2.5: critical: CVE-2021-1"}
    assert action.details["resolved"] == "yes" and "fit together" in action.approval and action.undo
    assert not found
    assert {path: path.read_bytes() for path in bench.folder.iterdir()} == before
    assert only(bench.plan()[1]).details["oid"] == action.details["oid"]


def test_a_version_with_faults_of_its_own_is_passed_over(bench: Bench) -> None:
    """What the first fix brings along counts, too; what has no fix is told and holds nothing up."""
    bench.advise("CVE-2021-2", "django", "3.2.3", "3.2.9").advise("CVE-2021-3", "django", "3.2.6", None)
    bench.advise("CVE-2021-4", "six", "0", None)
    found, actions = bench.plan()
    assert only(actions).reason == "django 3.2.0 -> 3.2.9"
    # Whoever agrees must know of what the new version brings along.
    assert only(actions).details["why"]["django"].endswith("; 3.2.9 itself has CVE-2021-3, of which no version is free")
    assert found["no_fix"].severity is Severity.INFO and found["no_fix"].subject == "six"


def test_a_yes_changes_the_file_and_keeps_the_old_one(bench: Bench) -> None:
    """Every other byte, the mode and the line endings stay; the tests see the new file; a second time finds nothing."""
    bench.target["tests"] = PASS
    bench.manifest.chmod(0o640)
    old = bench.manifest.read_bytes()
    outcome = bench.act(only(bench.plan()[1]))
    assert outcome.status is OutcomeStatus.DONE, outcome
    assert bench.manifest.read_bytes() == old.replace(b"3.2.0", b"3.2.5")
    assert stat.S_IMODE(bench.manifest.stat().st_mode) == 0o640
    kept = Path(outcome.evidence["kept"])
    assert kept.name == "requirements.txt.20261121T030000Z.before" and kept.read_bytes() == old
    assert "django==3.2.5" in outcome.evidence["tests"]
    assert {path.name for path in bench.folder.iterdir()} == {"requirements.txt", "other.txt", kept.name}
    assert bench.plan() == ({}, ())


def test_tests_that_fail_put_the_old_file_back(bench: Bench) -> None:
    """The end of what they said is evidence, without its secrets."""
    bench.target["tests"] = FAIL
    old = bench.manifest.read_bytes()
    outcome = bench.act(only(bench.plan()[1]))
    assert outcome.status is OutcomeStatus.FAILED and outcome.findings[0].severity is Severity.WARNING
    assert bench.manifest.read_bytes() == old and "old requirements.txt is back" in outcome.detail
    assert "one test failed" in outcome.evidence["tests"] and "hunter2" not in outcome.evidence["tests"]


@pytest.mark.parametrize("tests", [("/nowhere/pytest",), (sys.executable, "-c", "import time; time.sleep(60)")])
def test_tests_that_cannot_run_or_do_not_end_have_failed(bench: Bench, tests: tuple[str, ...]) -> None:
    """Nothing that was not tested stays."""
    bench.target["tests"] = tests
    bench.settings["test_seconds"] = 1
    old = bench.manifest.read_bytes()
    assert bench.act(only(bench.plan()[1])).status is OutcomeStatus.FAILED
    assert bench.manifest.read_bytes() == old


def test_a_file_that_has_changed_since_is_left_alone(bench: Bench) -> None:
    """What a person agreed to is that change of that file."""
    action = only(bench.plan()[1])
    bench.manifest.write_text("django==3.2.0\nflask==1.0\n")
    outcome = bench.act(action)
    assert outcome.status is OutcomeStatus.FAILED and "changed since" in outcome.detail
    assert bench.manifest.read_text() == "django==3.2.0\nflask==1.0\n" and len(list(bench.folder.iterdir())) == 2
    assert only(bench.plan()[1]).details["oid"] != action.details["oid"]


def test_versions_that_do_not_fit_together_are_not_proposed(bench: Bench, index: Index) -> None:
    """The resolver's words are the finding; where the present file did not fit either, a person may still agree."""
    publish(index, "plugin", v1_0_0="django<3.2.4")
    bench.manifest.write_text("django==3.2.0\nplugin==1.0.0\n")
    found, actions = bench.plan()
    assert not actions and found["conflict"].severity is Severity.WARNING
    assert "plugin" in found["conflict"].message and "django 3.2.0 -> 3.2.5" in found["conflict"].message
    bench.manifest.write_text("django==3.2.0\nplugin==1.0.0\nsix==99\n")
    found, actions = bench.plan()
    assert not found and only(actions).details["resolved"] == "conflict before"


def test_without_an_index_the_proposal_is_unchecked(bench: Bench, index: Index) -> None:
    """It says so to whoever is asked; nothing is built to find out."""
    index.url = "http://127.0.0.1:9"
    action = only(bench.plan()[1])
    assert action.details["resolved"] == "unchecked" and "could not be checked" in action.approval


def test_what_cannot_be_moved_is_told(bench: Bench, index: Index) -> None:
    """Ranges, hashes that nobody gives, files of other kinds, and packages that no manifest names."""
    bench.manifest.write_text("django==3.2.0 \\\n  --hash=sha256:00\n")
    index.pages["/simple/django/"] = b'{"files": []}'
    found, actions = bench.plan()
    assert not actions and "hashes" in found["refused"].message and found["refused"].severity is Severity.WARNING


def test_hashes_come_from_the_index(bench: Bench, index: Index) -> None:
    """Those of every file of the new version."""
    bench.manifest.write_text("django==3.2.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    action = only(bench.plan()[1])
    new = hashlib.sha256(index.pages["/files/django-3.2.5-py3-none-any.whl"]).hexdigest()
    assert bench.act(action).status is OutcomeStatus.DONE
    assert bench.manifest.read_text() == f"django==3.2.5 \\\n    --hash=sha256:{new}\n"


def test_hashes_that_have_changed_since(bench: Bench, index: Index) -> None:
    """An index that gives other files by now: what would be written is not what was shown."""
    bench.manifest.write_text("django==3.2.0 --hash=sha256:" + "0" * 64 + "\n")
    action, before = only(bench.plan()[1]), bench.manifest.read_bytes()
    index.python("django", {**wheel("django", "3.2.5"), "hashes": {"sha256": "f" * 64}})
    outcome = bench.act(action)
    assert outcome.status is OutcomeStatus.FAILED and "another file" in outcome.detail
    assert bench.manifest.read_bytes() == before


def test_nothing_of_a_package_runs_for_the_resolver(bench: Bench, index: Index, tmp_path: Path) -> None:
    """Where only a source archive could tell what it needs, the proposal is unchecked."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        system = '[build-system]\nrequires = []\nbuild-backend = "evil"\nbackend-path = ["."]\n'
        code = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
        for name, text in {"pyproject.toml": system, "evil.py": code, "PKG-INFO": "Name: evil\n"}.items():
            info = tarfile.TarInfo(f"evil-1.0/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    index.pages["/files/evil-1.0.tar.gz"] = out.getvalue()
    digest = hashlib.sha256(out.getvalue()).hexdigest()
    archive = {"filename": "evil-1.0.tar.gz", "url": f"{index.url}/files/evil-1.0.tar.gz", "hashes": {"sha256": digest}}
    index.python("evil", archive)
    bench.manifest.write_text("django==3.2.0\nevil==1.0\n")
    assert only(bench.plan()[1]).details["resolved"] == "unchecked"
    assert not (tmp_path / "ran").exists()


def test_credentials_in_a_manifest_stay_there(bench: Bench, index: Index) -> None:
    """Neither the change, nor the resolver's words, nor the end of the tests' output repeats them."""
    index.url = "http://127.0.0.1:9"
    bench.manifest.write_text("--index-url http://me:hunter2@127.0.0.1:9/simple\ndjango==3.2.0\n")
    bench.target["tests"] = (
        sys.executable,
        "-c",
        "raise SystemExit('GET http://me:hunter2@127.0.0.1:9/simple/x failed')",
    )
    found, actions = bench.plan()
    outcome = bench.act(only(actions))
    assert outcome.status is OutcomeStatus.FAILED
    assert "hunter2" not in f"{found} {actions} {outcome}"


def test_what_tests_say_gives_no_secret_away() -> None:
    """Keys of many lines, what a cut would make unrecognisable, and names and values in every spelling."""
    key = (
        "-----BEGIN PRIVATE KEY-----\n"
        + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ\n" * 3
        + "-----END PRIVATE KEY-----\n"
    )
    said = tail(f"one\n{key}two\nDB_PASSWORD=hunter2\n{{'password': 'hunter2'}}\nthree\n")
    assert said.split("\n") == ["one", *[HIDDEN] * 5, "two", HIDDEN, HIDDEN, "three"]
    for cut in range(1, 40):
        words = f"postgres://app:hunter2@db/x {'.' * (16_000 - cut)}\nend\n"
        assert "hunter2" not in tail(words) and tail(words).endswith("end")
    long_key = key.replace("END", "BETWEEN") + "x y\n" * 5000
    assert "x y" not in tail(long_key)


def test_patch_levels_of_security_critical_packages(bench: Bench, index: Index) -> None:
    """No advisory is needed; another minor version is not proposed; an index that is away is unknown."""
    publish(index, "requests", v2_31_0="", v2_31_4="", v2_32_0="")
    bench.settings["security_packages"] = ["Requests"]
    bench.manifest.write_text("requests==2.31.0\n")
    found, actions = bench.plan()
    assert only(actions).reason == "requests 2.31.0 -> 2.31.4" and not found
    index.url = "http://127.0.0.1:9"
    found, actions = bench.plan()
    assert not actions and found["patches"].severity is Severity.UNKNOWN


def test_somebody_answers_for_it(bench: Bench) -> None:
    """What is ignored until a day is not proposed before that day, and is after it."""
    rule = {"advisory": "CVE-2021-1", "owner": "a", "reason": "the view is switched off"}
    bench.target["ignores"] = [{**rule, "until": "2026-12-01"}]
    assert not bench.plan()[1]
    # By whatever letters it is written, as in the audit.
    bench.target["ignores"] = [{**rule, "advisory": "cve-2021-1", "package": "Django", "until": "2026-12-01"}]
    assert not bench.plan()[1]
    bench.target["ignores"] = [{**rule, "until": "2026-11-01"}]
    assert bench.plan()[1]


def test_without_advisories_nothing_is_known(bench: Bench) -> None:
    """That is not the same as nothing to do."""
    shutil.rmtree(bench.folder.parent / "advisories")
    found, actions = bench.plan()
    assert not actions and found["advisories"].severity is Severity.UNKNOWN


def git(folder: Path, *words: str) -> str:
    """Run git."""
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@x.test", *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(bench: Bench) -> Bench:
    """The manifest committed, a hook that would tell, and somebody's work in the index and the tree."""
    if not shutil.which("git"):
        pytest.skip("needs git")
    bench.settings["apply"] = "branch"
    git(bench.folder, "init", "-q", "-b", "main")
    git(bench.folder, "add", ".")
    git(bench.folder, "commit", "-qm", "first")
    for hook in ("reference-transaction", "post-checkout", "pre-commit"):
        (bench.folder / ".git/hooks" / hook).write_text("#!/bin/sh\ntouch ../hook-ran ./hook-ran\n")
        (bench.folder / ".git/hooks" / hook).chmod(0o755)
    (bench.folder / "staged.txt").write_text("x")
    git(bench.folder, "-c", "core.hooksPath=/dev/null", "add", "staged.txt")
    (bench.folder / "other.txt").write_text("unstaged")
    return bench


def test_a_branch_is_made_and_nothing_checked_out_changes(repository: Bench) -> None:
    """One commit on top, of one file; index, tree and branch of whoever works there stay; no hook runs."""
    repository.target["tests"] = PASS
    before = {p: p.read_bytes() for p in repository.folder.rglob("*") if p.is_file() and "objects" not in p.parts}
    outcome = repository.act(only(repository.plan()[1]))
    assert outcome.status is OutcomeStatus.DONE, outcome
    branch = outcome.evidence["kept"]
    assert branch == "upkeep/update-requirements-20261121T030000Z"
    assert (
        git(repository.folder, "log", "--format=%s %an", f"main..{branch}") == "Update django to 3.2.5 airflow-upkeep"
    )
    assert git(repository.folder, "diff", "--stat", f"main..{branch}").startswith("requirements.txt | 2 +-")
    shown = subprocess.run(
        ["git", "show", f"{branch}:requirements.txt"], cwd=repository.folder, capture_output=True, check=True
    )
    assert shown.stdout == repository.manifest.read_bytes().replace(b"3.2.0", b"3.2.5")
    assert {p: p.read_bytes() for p in before} == before
    assert not list(repository.folder.parent.rglob("hook-ran"))
    assert len(git(repository.folder, "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
def test_two_branches_in_one_second(bench: Bench, kind: str) -> None:
    """Manifests of one name in several folders, and the same one again; HEAD detached; either kind of repository."""
    bench.settings["apply"] = "branch"
    git(bench.folder, "init", "-q", "-b", "main", f"--object-format={kind}")
    git(bench.folder, "add", ".")
    git(bench.folder, "commit", "-qm", "first")
    git(bench.folder, "checkout", "-q", "--detach")
    action = only(bench.plan()[1])
    kept = [bench.act(action).evidence["kept"] for _ in range(2)]
    stem = "upkeep/update-requirements-20261121T030000Z"
    assert kept == [stem, f"{stem}-1"]
    assert git(bench.folder, "for-each-ref", "--format=%(refname:short)", "refs/heads/upkeep").split("\n") == kept
    # Nobody is asked again while a branch waits; without it they are.
    found, actions = bench.plan()
    assert not actions and found["branch_waits"].severity is Severity.INFO
    git(bench.folder, "branch", "-D", *kept)
    assert only(bench.plan()[1]).details["oid"] == action.details["oid"]


def test_a_branch_whose_tests_fail_is_not_made(repository: Bench) -> None:
    """Nor is a working tree left behind."""
    repository.target["tests"] = FAIL
    outcome = repository.act(only(repository.plan()[1]))
    assert outcome.status is OutcomeStatus.FAILED and "one test failed" in outcome.evidence["tests"]
    assert git(repository.folder, "branch", "--format=%(refname:short)") == "main"
    assert len(git(repository.folder, "worktree", "list").splitlines()) == 1


def test_a_manifest_with_changes_of_somebodys_is_no_base_for_a_branch(repository: Bench) -> None:
    """Neither uncommitted changes nor a folder that is no repository."""
    repository.manifest.write_text("django==3.2.0\n# mine\n")
    assert "not committed" in repository.act(only(repository.plan()[1])).detail
    shutil.rmtree(repository.folder / ".git")
    assert "git rev-parse failed" in repository.act(only(repository.plan()[1])).detail


def test_npm_is_proposed_as_a_command(tmp_path: Path, index: Index) -> None:
    """For what the project asks for itself; what others bring along is told apart."""
    lock = '{"lockfileVersion": 3, "packages": {"": {"dependencies": {"lodash": "4"}}, "node_modules/lodash": {"version": "4.17.11"}, "node_modules/minimist": {"version": "0.0.8"}}}'  # fmt: skip # noqa: E501
    bench = Bench(tmp_path / "app", index, lock, "package-lock.json", {"ecosystem": "npm"})
    bench.advise("GHSA-1", "lodash", "0", "4.17.12", "npm").advise("GHSA-2", "minimist", "0", "0.2.1", "npm")
    job = bench.job()
    judged = ROUTINE.judge(job, ROUTINE.observe(job))
    hints = {f.subject: f.hint for f in judged.findings}
    assert "npm install --ignore-scripts lodash@^4.17.12" in hints["direct"] and set(hints) == {"direct", "transitive"}


def test_security_updates_of_debian(bench: Bench) -> None:
    """They are listed; they are proposed where a setting says how to install them, and installed on yes."""
    found = Outdated(pending=tuple(
        Pending(name=name, installed="1", candidate="2", origin="Debian-Security", security=name != "vim")
        for name in ("openssl", "bash", "vim")
    ), lists_at=NOW)  # fmt: skip
    bench.target |= {"ecosystem": "debian", "manifests": []}

    def plan() -> tuple[Any, tuple[Action, ...]]:
        job = bench.job()
        job.tools.outdated = lambda *_: found  # type: ignore[misc]
        seen = ROUTINE.observe(job)
        return ROUTINE.judge(job, seen), ROUTINE.plan(job, seen).actions

    judged, actions = plan()
    (told,) = [f for f in judged.findings if f.check == "debian_update"]
    assert not actions and "bash openssl" in told.hint
    bench.settings["debian_command"] = [sys.executable, "-c", "import sys; print(sys.argv[1:])"]
    judged, actions = plan()
    action = only(actions)
    assert action.details["packages"] == {"openssl": "1 -> 2", "bash": "1 -> 2"} and action.approval
    outcome = bench.act(action)
    assert outcome.status is OutcomeStatus.DONE and "['bash', 'openssl']" in outcome.evidence["tests"]


def test_an_environment_alone_has_nothing_to_change(bench: Bench, tmp_path: Path) -> None:
    """It is told which versions would be safe."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    assert uv
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(tmp_path / "venv")], check=True)
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    (site / "django-3.2.0.dist-info").mkdir()
    (site / "django-3.2.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: django\nVersion: 3.2.0\n")
    bench.target |= {"manifests": [], "environment": str(tmp_path / "venv/bin/python")}
    found, actions = bench.plan()
    assert not actions and "django (at least 3.2.5" in found["no_manifest"].message


def test_a_file_that_cannot_be_replaced_stays(bench: Bench) -> None:
    """A folder that may not be written to: the outcome tells it, the file is as it was."""
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    action = only(bench.plan()[1])
    bench.folder.chmod(0o555)
    outcome = bench.act(action)
    bench.folder.chmod(0o755)
    assert outcome.status is OutcomeStatus.FAILED and "3.2.0" in bench.manifest.read_text()
