"""A worker that dies while it updates a manifest leaves the old file or the new one, whole, and a way back."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.integration.test_outdated import serve
from tests.integration.update_bench import Bench
from upkeep.adapters.update_file import apply, digest, put_back, unfinished
from upkeep.core.model import OutcomeStatus, Severity

KILLS = int(os.environ.get("UPKEEP_TEST_KILLS", "6"))
OLD, NEW = b"django==3.2.0\n" * 200, b"django==3.2.5\n" * 200
WORK = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from upkeep.adapters.update_file import apply
path, old, seconds = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
print("begun", flush=True)
new = path.read_bytes().replace(b"3.2.0", b"3.2.5")
tests = (sys.executable, "-S", "-c", f"import time; time.sleep({seconds})")
print(apply(path, old, new, now=datetime.now(UTC), tests=tests, timeout=60), flush=True)
"""


def start(path: Path, seconds: float) -> subprocess.Popen[str]:
    """Apply an update in a process of its own; return when it begins."""
    command = [sys.executable, "-c", WORK, str(path), digest(OLD), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "begun\n"
    return process


def end(process: subprocess.Popen[str], sign: signal.Signals = signal.SIGKILL) -> None:
    """End a process."""
    process.send_signal(sign)
    process.communicate()


def wait_for(path: Path, content: bytes) -> None:
    """Wait until a file has some content."""
    until = time.monotonic() + 10
    while path.read_bytes() != content:
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest."""
    path = tmp_path / "requirements.txt"
    path.write_bytes(OLD)
    return path


def test_killed_at_any_moment(manifest: Path) -> None:
    """The file is never torn or missing; what is untested is known as such, and is put back."""
    for _ in range(KILLS):
        process = start(manifest, 0.1)
        time.sleep(random.uniform(0, 0.25))
        end(process)
        assert manifest.read_bytes() in (OLD, NEW)
        if unfinished(manifest):
            assert put_back(manifest).done and manifest.read_bytes() == OLD
        assert not unfinished(manifest)
        manifest.write_bytes(OLD)
        again = apply(manifest, digest(OLD), NEW, now=datetime.now(UTC), tests=(), timeout=1)
        assert again.done and manifest.read_bytes() == NEW
        left = [path.name for path in manifest.parent.iterdir() if ".before" not in path.name]
        assert left == [manifest.name]
        manifest.write_bytes(OLD)


def test_killed_while_the_tests_run(manifest: Path) -> None:
    """Known as untested only once nobody is at work any more; another update waits until the old file is back."""
    process = start(manifest, 30)
    wait_for(manifest, NEW)
    assert unfinished(manifest) == ""
    busy = apply(manifest, digest(NEW), OLD, now=datetime.now(UTC), tests=(), timeout=1)
    assert not busy.done and "under way" in busy.detail
    end(process)
    assert unfinished(manifest).endswith(".before")
    refused = apply(manifest, digest(NEW), OLD, now=datetime.now(UTC), tests=(), timeout=1)
    assert not refused.done and "put back first" in refused.detail
    assert put_back(manifest).done and manifest.read_bytes() == OLD
    assert not put_back(manifest).done and manifest.read_bytes() == OLD


def test_ended_politely_while_the_tests_run(manifest: Path) -> None:
    """A task that is cleared (an exception in the middle) puts the old file back itself."""
    process = start(manifest, 30)
    wait_for(manifest, NEW)
    end(process, signal.SIGINT)
    assert manifest.read_bytes() == OLD and not unfinished(manifest)
    assert not list(manifest.parent.glob("*pending"))


def test_a_file_that_somebody_corrected_is_not_put_back(manifest: Path) -> None:
    """After a cut-off update the file may have been put right by hand."""
    process = start(manifest, 30)
    wait_for(manifest, NEW)
    end(process)
    manifest.write_bytes(b"mine\n")
    assert unfinished(manifest) == "" and not put_back(manifest).done and manifest.read_bytes() == b"mine\n"


def test_somebody_changes_the_file_while_the_tests_run(manifest: Path) -> None:
    """Tests that fail do not undo the work of others."""
    tests = (sys.executable, "-c", f"open({str(manifest)!r}, 'w').write('mine'); raise SystemExit(1)")
    done = apply(manifest, digest(OLD), NEW, now=datetime.now(UTC), tests=tests, timeout=10)
    assert not done.done and "left alone" in done.detail and manifest.read_text() == "mine"


def test_another_file_than_the_one_meant(manifest: Path) -> None:
    """Looked at once more while nobody else is at work; nothing is written, no copy is kept."""
    done = apply(manifest, digest(NEW), b"x", now=datetime.now(UTC), tests=(), timeout=1)
    assert not done.done and manifest.read_bytes() == OLD and list(manifest.parent.iterdir()) == [manifest]


def test_no_room_for_the_copy(manifest: Path) -> None:
    """A file that cannot be written whole: the manifest stays, and no half copy lies about."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    command = [sys.executable, "-c", limit + WORK, str(manifest), digest(OLD), "0"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "done=False" in said and "old file stands" in said
    assert manifest.read_bytes() == OLD and list(manifest.parent.iterdir()) == [manifest]


def test_two_at_once(manifest: Path) -> None:
    """One is made, the other refused; the copy is that of the old file."""
    results = []
    tests = (sys.executable, "-S", "-c", "import time; time.sleep(0.3)")
    threads = [
        threading.Thread(
            target=lambda: results.append(
                apply(manifest, digest(OLD), NEW, now=datetime.now(UTC), tests=tests, timeout=10)
            )
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.done for one in results].count(True) == 1
    (kept,) = manifest.parent.glob("*.before*")
    assert manifest.read_bytes() == NEW and kept.read_bytes() == OLD


def test_the_routine_puts_back_what_was_cut_off(tmp_path: Path) -> None:
    """It warns, puts the old file back without asking, and proposes the update anew afterwards."""
    with serve() as index:
        bench = Bench(tmp_path / "app", index, OLD.decode()).advise("CVE-2021-1", "django", "0", "3.2.5")
        process = start(bench.manifest, 30)
        wait_for(bench.manifest, NEW)
        end(process)
        found, (action,) = bench.plan()
        assert found["cut_off"].severity is Severity.WARNING and action.name == "put_back" and not action.approval
        assert bench.act(action).status is OutcomeStatus.DONE and bench.manifest.read_bytes() == OLD
        found, (action,) = bench.plan()
        assert "cut_off" not in found and action.name == "update_manifest"
