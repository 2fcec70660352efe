"""Dated copies of real model files: made, proved, trusted, brought back; and what goes wrong on the way."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.model_health_bench import Care, make, write
from upkeep.adapters.model_versions import ModelVersions, locked
from upkeep.adapters.retrain import Retrainer
from upkeep.core.model import Severity
from upkeep.core.model_health import ModelVersion, NotKept
from upkeep.core.routine import Routine

ROOT = os.geteuid() == 0


@pytest.fixture
def care(tmp_path: Path) -> Care:
    return make(tmp_path)


def kept(care: Care) -> tuple[ModelVersion, ...]:
    return ModelVersions().kept(str(care.folder))


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def later(care: Care, seed: int) -> None:
    """Put another model into service, a day later."""
    care.now += timedelta(days=1)
    write(care.folder, seed)


def test_a_change_is_copied_once(care: Care):
    """The files of each version are copied, byte for byte, with hashes that sha256sum agrees with; then never again."""
    before = content(care.folder)
    first = care.run("versions")
    assert (first.did, first.troubles) == ({"copy": "done"}, [])
    assert care.run("versions").did == {}
    later(care, 2)
    assert care.run("versions").did == {"copy": "done"}
    new, old = kept(care)
    assert (new.version, old.version, old.approved) == ("2", "1", "the metadata")
    folder = care.folder / "versions" / old.name
    assert {k: v for k, v in content(folder).items() if k != "manifest.json"} == before
    lines = "".join(f"{sha}  {folder / name}\n" for name, sha in old.files.items())
    subprocess.run(["sha256sum", "--check"], input=lines, text=True, check=True, stdout=subprocess.DEVNULL)
    assert oct(folder.stat().st_mode)[-3:] == "700"


def test_a_dry_run_changes_nothing(care: Care):
    """The plan is on record, and no folder appears."""
    assert care.run("versions", dry_run=True).did == {"copy": "planned"}
    assert not (care.folder / "versions").exists()


def test_bringing_a_version_back(care: Care):
    """`stable` is the newest trusted other version; it needs a yes; modes stay; what was in service is kept."""
    (care.folder / "model.pkl").chmod(0o640)
    care.run("versions")
    old = content(care.folder)
    later(care, 2)
    result = care.run("versions", rollback="stable")
    assert result.did == {"copy": "done", "rollback": "proposed"} and content(care.folder) != old
    action = ("rollback", kept(care)[1].name)
    result = care.run("versions", rollback="stable", approved=(action,))
    assert result.did == {"rollback": "done"}
    assert content(care.folder) == old
    assert oct((care.folder / "model.pkl").stat().st_mode)[-3:] == "640"
    assert care.run("health").troubles == []
    again = care.run("versions", rollback=kept(care)[0].name, approved=(("rollback", kept(care)[0].name),))
    assert again.did == {"rollback": "done"} and content(care.folder) != old
    assert care.run("versions", rollback="20200101T000000Z-000000000000").found("rollback").severity == "unknown"


def test_what_is_in_service_is_copied_before_it_is_replaced(care: Care):
    """A change that no run has seen yet is not lost by a rollback."""
    care.run("versions")
    later(care, 2)
    new = (care.folder / "model.pkl").read_bytes()
    care.run("versions", rollback="stable", approved=(("rollback", kept(care)[0].name),))
    copies = [(care.folder / "versions" / v.name / "model.pkl").read_bytes() for v in kept(care)]
    assert new in copies and (care.folder / "model.pkl").read_bytes() != new


def test_trust_is_asked_for_where_nothing_vouches(care: Care):
    """Without a stated hash a person is asked; a yes lets health load the file; a change in between is not approved."""
    write(care.folder, sha256=None)
    proposed = care.run("versions")
    assert proposed.did == {"copy": "done", "trust": "proposed"}
    subject = next(a.action.subject for a in proposed.actions if a.action.name == "trust")
    assert care.run("health").found("trust").severity is Severity.UNKNOWN
    assert care.run("versions", approved=(("trust", subject),)).did == {"trust": "done"}
    assert [v.approved for v in kept(care)] == ["a person"]
    assert care.run("health").troubles == [] and care.run("versions").did == {}
    (care.folder / "model.pkl").write_bytes(b"something else")
    assert care.run("versions", approved=(("trust", subject),)).did == {"trust": "skipped"}
    assert not any(v.approved and v.files["model.pkl"] != kept(care)[-1].files["model.pkl"] for v in kept(care))


def test_only_what_the_setting_says_is_removed_and_never_what_is_in_service(care: Care):
    """By default all stay; with `keep` the oldest go; the one in service stays however old."""
    for seed in (1, 2, 3, 4, 5):
        later(care, seed)
        care.run("versions")
    assert len(kept(care)) == 5
    oldest = kept(care)[-1]
    care.run("versions", rollback=oldest.name, approved=(("rollback", oldest.name),))
    care.run("versions", keep=2)
    assert [v.version for v in kept(care)] == ["5", "4", "1"]
    assert ModelVersions().remove(str(care.folder), [oldest.name]) == ()


def test_a_damaged_copy_is_told_and_never_restored(care: Care):
    """A copy that differs from its manifest is a warning, is no copy of what is in service, and cannot come back."""
    care.run("versions")
    bad = kept(care)[0]
    (care.folder / "versions" / bad.name / "model.pkl").write_bytes(b"x")
    later(care, 2)
    before = content(care.folder)
    result = care.run("versions", rollback=bad.name)
    assert result.found("damaged").severity is Severity.WARNING
    assert result.found("rollback").severity is Severity.UNKNOWN
    assert isinstance(ModelVersions().restore(str(care.folder), bad.name), NotKept)
    assert content(care.folder) == before


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB and some."""
    if not ROOT:
        pytest.skip("mounting needs root")
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], check=False).returncode:
        pytest.skip("no tmpfs here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_leaves_no_half_copy(small: Path, tmp_path: Path):
    """Without room nothing is written; when it runs out in the middle, nothing stays."""
    (tmp_path / "scratch").mkdir()
    care = Care(small / "models", tmp_path / "scratch")
    write(care.folder)
    (care.folder / "big.json").write_text(json.dumps("x" * 900_000))
    result = care.run("versions")
    assert result.did == {"copy": "failed"} and "are free" in result.found("copy").message
    # The room is taken away only after it was looked at: by the sparse file that grows when it is written.
    from upkeep.adapters import model_versions

    model_versions._room, room = lambda folder, size: None, model_versions._room
    try:
        (care.folder / "more.json").write_text(json.dumps("y" * 300_000))
        result = care.run("versions")
    finally:
        model_versions._room = room
    assert result.did == {"copy": "failed"} and "No space left" in result.found("copy").message
    assert all(p.suffix == ".lock" or p.name == ".lock" for p in (care.folder / "versions").iterdir())


def test_links_lead_nowhere(care: Care, tmp_path: Path):
    """A link as model file or as the folder of copies, or a manifest that names a file outside, leads nowhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.pkl").write_bytes(b"secret")
    (care.folder / "link.pkl").symlink_to(outside / "secret.pkl")
    result = care.run("versions")
    assert result.found("copy").severity is Severity.UNKNOWN
    assert "link.pkl" not in kept(care)[0].files
    version = kept(care)[0]
    evil = version.model_copy(update={"files": {"../../outside/secret.pkl": "0" * 64}})
    (care.folder / "versions" / version.name / "manifest.json").write_text(evil.model_dump_json())
    assert kept(care) == ()
    (care.folder / "versions").rename(tmp_path / "moved")
    (care.folder / "versions").symlink_to(outside)
    result = care.run("versions")
    assert result.did == {} and result.found("retraining").severity is Severity.UNKNOWN
    assert [p.name for p in outside.iterdir()] == ["secret.pkl"]


def test_another_worker_at_work_is_left_alone(care: Care):
    """Two copies are not made at once, and half-made copies of one who is at work are no leftovers."""
    (care.folder / "versions" / ".partial-0123456789abcdef").mkdir(parents=True)
    with locked(str(care.folder)):
        result = care.run("versions")
        assert result.did == {"copy": "failed"} and "another worker" in result.found("copy").message
        assert ModelVersions().leftovers(str(care.folder)) == ()
    assert care.run("versions").did == {"copy": "done", "tidy": "done"}
    assert not list((care.folder / "versions").glob(".partial*"))


def test_nothing_is_done_to_a_model_that_is_being_trained(care: Care):
    """A retraining that begins between plan and deed is left alone: neither copied half done, nor rolled back."""
    care.run("versions")
    name = kept(care)[0].name
    later(care, 2)
    routine = Routine.load("upkeep.routines.model.versions")
    job = care.job(routine, {"rollback": name})
    actions = routine.plan(job, routine.observe(job)).actions
    before = content(care.folder)
    with Retrainer().held(str(care.folder)):
        assert {a.name: routine.act(job, a).status for a in actions} == {"copy": "skipped", "rollback": "skipped"}
    assert content(care.folder) == before and [v.name for v in kept(care)] == [name]


def test_a_yes_to_a_rollback_is_for_those_files(care: Care):
    """A copy that was exchanged, manifest and all, since somebody agreed to it does not come into service."""
    care.run("versions")
    old = kept(care)[0]
    later(care, 2)
    action = ("rollback", old.name)
    proposed = care.run("versions", rollback=old.name).actions
    asked = {action: next(a.action.details["oid"] for a in proposed if a.action.name == "rollback")}
    folder = care.folder / "versions" / old.name
    (folder / "model.pkl").write_bytes(b"evil")
    forged = old.model_copy(update={"files": old.files | {"model.pkl": hashlib.sha256(b"evil").hexdigest()}})
    (folder / "manifest.json").write_text(forged.model_dump_json())
    before = content(care.folder)
    care.run("versions", rollback=old.name, approved=(action,), objects=asked)
    assert content(care.folder) == before


def test_a_killed_restore_is_finished(care: Care):
    """The note of a restore whose worker was killed makes the next run finish it before anything else."""
    care.run("versions")
    old = content(care.folder)
    name = kept(care)[0].name
    later(care, 2)
    (care.folder / "versions" / ".restoring").write_text(name)
    assert care.run("versions").did == {"finish": "done"}
    assert content(care.folder) == old
    assert not (care.folder / "versions" / ".restoring").exists()
