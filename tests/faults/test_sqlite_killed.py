"""SQLite care killed at any moment loses nothing, leaves no copy that is not whole, and is cleaned up after."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.integration.sqlite_bench import TARGET, Care, content, make, opened, somebody
from upkeep.adapters import sqlite_work
from upkeep.core.model import Severity

KILLS = int(os.environ.get("UPKEEP_TEST_KILLS", "8"))
WORKER = """
import sys
from pathlib import Path
from tests.integration.sqlite_bench import Care
care = Care(Path(sys.argv[1]), Path(sys.argv[2]))
print("ready", flush=True)
print(care.bare(busy_timeout=5)[0], flush=True)
"""


def half_empty(path: Path, mode: str = "delete") -> Path:
    """Make a database of 4 MB, two thirds of it free pages."""
    make(path, rows=9000, mode=mode)
    with opened(path) as db:
        db.execute("DELETE FROM pupil WHERE id > 3000")
    return path


@contextlib.contextmanager
def worker(care: Care) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    order = [sys.executable, "-c", WORKER, str(care.path), str(care.root)]
    process = subprocess.Popen(order, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def renew(care: Care, template: Path) -> None:
    """Put the database back as it was, with all its free pages."""
    for end in ("-wal", "-shm", "-journal"):
        Path(f"{care.path}{end}").unlink(missing_ok=True)
    shutil.copyfile(template, care.path)


def wait_for(process: subprocess.Popen[str], care: Care, what: str) -> None:
    """Wait until a worker writes a copy, or a change of the database; it may be at its end before that is seen."""

    def seen() -> bool:
        if what == "copy":
            return care.folder.exists() and any(care.folder.glob("*.partial"))
        return any(Path(f"{care.path}-{end}").exists() for end in ("journal", "wal"))

    deadline = time.monotonic() + 20
    while process.poll() is None and not seen() and time.monotonic() < deadline:
        time.sleep(0.0005)


def test_killed_at_random_points_nothing_is_lost(tmp_path: Path):
    """After each SIGKILL all rows are there, each copy is whole, and the next run leaves no trace of the killed one."""
    (tmp_path / "data").mkdir()
    care = Care(tmp_path / "data" / "a.db", tmp_path / "keep")
    templates = [half_empty(tmp_path / f"{mode}.db", mode) for mode in ("delete", "wal")]
    before, size = content(templates[0]), templates[0].stat().st_size
    renew(care, templates[0])
    with worker(care) as undisturbed:
        begun = time.monotonic()
        out, _ = undisturbed.communicate(timeout=60)
        usual = time.monotonic() - begun
    assert "'vacuum': 'done'" in out
    keep = sqlite_work.Workshop(care.root).keep(TARGET)
    dice = random.Random(2026)
    leftovers = 0
    for number in range(KILLS):
        shutil.rmtree(care.root)
        renew(care, templates[number % 2])
        with worker(care) as process:
            if number % 3:
                wait_for(process, care, "copy" if number % 3 == 1 else "change")
                time.sleep(0.02 * dice.random() * number / KILLS)
            else:  # a stratified choice: one moment from each part of its work
                time.sleep(usual * (number + dice.random()) / KILLS)
            process.kill()
            process.wait()
        for copy in keep.copies():
            assert keep.is_good(copy) and content(care.folder / copy.name) == before
        leftovers += len(keep.leftovers())
        # What a recovery leaves for later is done in the run after it.
        for _ in range(2):
            did, findings = care.bare()
            assert set(did.values()) <= {"unchanged", "done"}
            assert {f.check for f in findings} <= {"journal"}
        assert content(care.path) == before
        assert keep.leftovers() == ()
        assert care.path.stat().st_size < size / 2
    assert leftovers > 0, "no kill fell into the making of a copy"


def test_a_killed_writer_is_rolled_back(tmp_path: Path):
    """A journal left by a killed program is told and rolled back, and the file copied; the next run does the rest."""
    care = Care(make(tmp_path / "a.db"), tmp_path / "keep")
    before = content(care.path)
    begun = "db.execute('PRAGMA cache_size = 5'); db.execute('BEGIN'); db.execute('DELETE FROM pupil')"
    with somebody(care.path, f"{begun}; ready(); time.sleep(60)") as writer:
        writer.kill()
        writer.wait()
    assert Path(f"{care.path}-journal").stat().st_size > 0
    planned = care.run(dry_run=True)
    assert planned.did == {"recover": "planned", "copy": "planned"}
    assert Path(f"{care.path}-journal").exists(), "a dry run has rolled it back"
    result = care.run()
    assert result.did == {"recover": "done", "copy": "done"}
    assert [(f.check, f.severity) for f in result.findings] == [("journal", Severity.WARNING)]
    assert not Path(f"{care.path}-journal").exists()
    assert content(care.path) == before
    assert care.run().did == {"copy": "unchanged", "analyze": "done"}


def test_vacuum_killed_while_it_writes(tmp_path: Path):
    """VACUUM killed in its very last step, while the new pages go into the file, is rolled back by the next run."""
    care = Care(half_empty(tmp_path / "a.db"), tmp_path / "keep")
    before, size = content(care.path), care.path.stat().st_size
    journal = Path(f"{care.path}-journal")
    for _ in range(10):
        with somebody(care.path, "db.execute('PRAGMA cache_size = 10'); ready(); db.execute('VACUUM')") as process:
            deadline = time.monotonic() + 10
            while process.poll() is None and time.monotonic() < deadline:
                if journal.exists() and journal.stat().st_size > 200_000:
                    break
            process.kill()
            process.wait()
        if journal.exists():
            break
        with opened(care.path) as db:  # it was quicker: make free pages once more
            db.execute("INSERT INTO pupil (name) SELECT a.name FROM pupil a, (SELECT 1 FROM pupil LIMIT 3)")
            db.execute("DELETE FROM pupil WHERE id > 3000")
        size = care.path.stat().st_size
    assert journal.exists(), "VACUUM was never caught at work"
    result = care.run()
    assert result.did["recover"] == "done"
    assert (content(care.path), care.path.stat().st_size) == (before, size)
    assert care.run().did["vacuum"] == "done"
    assert content(care.path) == before
