"""Emergency restores of files: swapped in whole, the old ones kept, the way back from every interruption."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from upkeep.adapters import object_store, tree_backup
from upkeep.adapters.recovery import make_recoverer
from upkeep.core.backup import Place
from upkeep.core.cadence import Window
from upkeep.core.job import Job
from upkeep.core.model import OutcomeStatus, Severity
from upkeep.core.routine import Routine
from upkeep.core.system import MaintenanceWindow
from upkeep.core.targets import FileSetTarget, StoreRef
from upkeep.core.tree import FileSet, TreeOptions


class Site:
    """Uploads and a configuration of two parts, backed up into a folder and changed since."""

    def __init__(self, folder: Path, *paths: str) -> None:
        self.folder, self.home, self.scratch = folder, folder / "shop", folder / "scratch"
        for name in ("shop/uploads/2026", "shop/etc", "scratch"):
            (folder / name).mkdir(parents=True)
        for name, text in {"uploads/2026/a": "a", "uploads/b": "b", "etc/app.ini": "x=1", ".env": "KEY=1"}.items():
            (self.home / name).write_text(text)
        self.paths = tuple(f"{self.home}/{path}" for path in paths)
        self.ref = StoreRef(url=f"file://{folder}/store")
        self.open = object_store.opener(lambda _: None)
        self.backup()
        for name in ("uploads/b", "etc/app.ini", ".env"):
            (self.home / name).write_text("broken")
        (self.home / "uploads" / "new").write_text("new")

    @property
    def place(self) -> Place:
        return Place(store=self.ref, target="shop/files", kind="files")

    def backup(self) -> None:
        trees = tree_backup.make_trees(self.open, self.scratch)
        trees.backup(FileSet(paths=self.paths), self.place, TreeOptions(), "run", lambda _: None)

    def job(self, tell: Callable[[str], None] = lambda _: None, **more: Any) -> tuple[Routine, Job[Any, Any]]:
        routine, now = Routine.load("upkeep.routines.recovery.restore"), datetime.now(UTC)
        tools = SimpleNamespace(
            recovery=make_recoverer(lambda _: "", self.open, self.scratch), now=lambda: datetime.now(UTC),
            log=SimpleNamespace(info=lambda text, *_: tell(text), warning=logging.warning), scratch=self.scratch,
            catalogue=SimpleNamespace(reachable=False),
        )  # fmt: skip
        system = SimpleNamespace(
            name="shop", store=self.ref, rto=timedelta(hours=1), zone=UTC, maintenance_window=MaintenanceWindow()
        )
        return routine, Job(
            routine=routine.name, target=FileSetTarget(paths=self.paths, id="shop/files"), system=system, run_id="run",
            settings=routine.settings(reason="somebody deleted uploads", **more), try_number=1, tools=tools,
            window=Window(start=now, end=now),
        )  # type: ignore[arg-type] # fmt: skip

    def flight(self) -> tuple[Any, list[Any], Any]:
        routine, job = self.job()
        seen = routine.observe(job)
        return seen, list(routine.judge(job, seen).findings), routine.plan(job, seen).actions

    def restore(self, tell: Callable[[str], None] = lambda _: None, **more: Any) -> Any:
        routine, job = self.job(tell, **more)
        seen = routine.observe(job)
        [action] = routine.plan(job, seen).actions
        outcome = routine.act(job, action)
        assert routine.verify(job, seen, (outcome,)).findings == ()
        return outcome

    def seen(self) -> dict[str, str]:
        """Return every file below the home with its text."""
        files = sorted(p for p in self.home.rglob("*") if p.is_file())
        return {str(p.relative_to(self.home)): p.read_text() for p in files}


GOOD = {"uploads/2026/a": "a", "uploads/b": "b"}
BAD = {"uploads/2026/a": "a", "uploads/b": "broken", "uploads/new": "new"}


@pytest.fixture
def uploads(tmp_path: Path) -> Site:
    return Site(tmp_path, "uploads/**")


@pytest.fixture
def configuration(tmp_path: Path) -> Iterator[Site]:
    yield Site(tmp_path, "etc/**", ".env")


def part(site: Site, *starts: str) -> dict[str, str]:
    return {name: text for name, text in site.seen().items() if name.startswith(starts)}


def test_uploads_come_back_and_the_old_ones_are_kept(uploads: Site):
    """The whole folder is swapped; what came later lies in the kept folder, and the undo works."""
    seen, findings, [action] = uploads.flight()
    assert findings == [] and seen.preflight.present.changed == 2 and "at least 2 files changed" in action.approval
    outcome = uploads.restore()
    assert outcome.status is OutcomeStatus.DONE and outcome.findings == (), outcome
    assert part(uploads, "uploads/") == GOOD
    kept = Path(outcome.evidence["recovery"]["kept"])
    assert (kept / "new").read_text() == "new" and kept.name.startswith("uploads.before-")
    for line in outcome.evidence["recovery"]["undo"]:
        subprocess.run(line, shell=True, check=True)
    assert part(uploads, "uploads/") == BAD
    assert [p.name for p in uploads.home.iterdir() if "restored" in p.name or "upkeep" in p.name] == []


def test_a_configuration_of_several_parts_comes_back_together(configuration: Site):
    """Folder and single file; what lies beside them is not touched."""
    outcome = configuration.restore()
    assert part(configuration, "etc/", ".env") | BAD == {
        **part(configuration, ".env.before-"), "etc/app.ini": "x=1", ".env": "KEY=1", **BAD,
    }  # fmt: skip
    kept = [Path(p) for p in outcome.evidence["recovery"]["kept"].split(", ")]
    assert [p.name.split(".before-")[0] for p in kept] == ["etc", ".env"] and kept[1].read_text() == "broken"


@pytest.mark.parametrize("step", ["restore", "compare", "rename", "between the two renames", "renamed", "verified"])
def test_a_failure_at_any_step_changes_nothing(configuration: Site, step: str):
    """What was there before is there again, and nothing lies beside it."""
    before = configuration.seen()

    def fail(text: str) -> None:
        if text.startswith(step):
            raise OSError("the power failed")

    with pytest.raises(OSError, match="power"):
        configuration.restore(fail)
    assert configuration.seen() == before
    assert sorted(p.name for p in configuration.folder.iterdir()) == ["scratch", "shop", "store"]


@pytest.mark.parametrize("step", ["restore", "compare", "between the two renames", "renamed", "verified"])
def test_a_killed_restore_is_undone_by_the_next_one(configuration: Site, step: str):
    """SIGKILL at any of the renames: the journal tells what was going on, the next restore goes back first."""
    script = (
        "import json, os, signal, sys\n"
        "from pathlib import Path\n"
        "from upkeep.adapters import object_store\n"
        "from upkeep.adapters.recovery import make_recoverer\n"
        "from upkeep.core.recovery import TreeOrder\n"
        "told = json.loads(sys.argv[1])\n"
        "def tell(text):\n"
        "    if text.startswith(told['at']): os.kill(os.getpid(), signal.SIGKILL)\n"
        "made = make_recoverer(lambda _: '', object_store.opener(lambda _: None), Path(told['scratch']))\n"
        "made.restore(TreeOrder.model_validate(told['order']), tell)\n"
    )
    backup = make_recoverer(lambda _: "", configuration.open, configuration.scratch)._archive.stored(
        configuration.place
    )
    order = {"place": configuration.place.model_dump(mode="json"), "paths": configuration.paths, "run_id": "killed"}
    told = {"at": step, "scratch": str(configuration.scratch), "order": {**order, "backup": backup[0].id}}
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(told)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    _, findings, _ = configuration.flight()
    assert [f.check for f in findings] == ["half"] and findings[0].severity is Severity.WARNING
    outcome = configuration.restore()
    assert (
        part(configuration, "etc/") == {"etc/app.ini": "x=1"} and (configuration.home / ".env").read_text() == "KEY=1"
    )
    kept = [Path(p) for p in outcome.evidence["recovery"]["kept"].split(", ")]
    assert kept[1].read_text() == "broken" and (kept[0] / "app.ini").read_text() == "broken"
    assert sorted(p.name for p in configuration.folder.iterdir()) == ["scratch", "shop", "store"]


def test_a_set_that_is_no_whole_folder_is_not_swapped(tmp_path: Path):
    """Swapping the folder would take files away that the backup does not have."""
    site = Site(tmp_path, "uploads/*.jpg", "etc/**")
    _, findings, actions = site.flight()
    assert actions == () and {f.check for f in findings if f.severity is Severity.CRITICAL} == {"paths"}


def test_a_folder_that_is_gone_comes_back(uploads: Site):
    """Somebody removed all of it."""
    import shutil

    shutil.rmtree(uploads.home / "uploads")
    seen, findings, _ = uploads.flight()
    assert not seen.preflight.present.exists and [f.check for f in findings] == ["safety"]
    outcome = uploads.restore(without_safety_backup=True)
    assert part(uploads, "uploads/") == GOOD and outcome.evidence["recovery"]["kept"] == ""
