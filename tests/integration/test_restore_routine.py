"""The restore test as a routine: which backup it takes, what it says of it, what it leaves in the ledger."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.integration.backup_world import RUN, World, world
from upkeep.adapters import scratch_place
from upkeep.adapters.object_store import FolderStore
from upkeep.adapters.restore_test import Restorer
from upkeep.core import backup as core
from upkeep.core.backup import Kept, Manifest
from upkeep.core.cadence import Window
from upkeep.core.errors import ConfigurationError
from upkeep.core.job import Job
from upkeep.core.model import Finding, Outcome, OutcomeStatus, Severity
from upkeep.core.routine import Routine
from upkeep.core.targets import PostgresTarget, Smoke

ROUTINE = Routine.load("upkeep.routines.backup.restore_test")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world() as made:
        made.store = FolderStore(tmp_path_factory.mktemp("store"))
        made.database("shop", "create table t as select generate_series(1, 1000) as n")
        yield made


@pytest.fixture(scope="module")
def three(lab: World) -> list[Kept[Manifest]]:
    """Three backups, oldest first."""
    return [lab.backup() for _ in range(3)]


def job(
    lab: World,
    *,
    smoke: dict[str, Smoke] | None = None,
    run_id: str = RUN,
    rto: timedelta | None = None,
    rpo: timedelta | None = None,
    **settings: Any,
) -> Job[Any, Any]:
    now = datetime.now(UTC)
    tools = SimpleNamespace(
        archive=lab.archive, restorer=Restorer(lambda _: lab.store, lab.scratch), now=lambda: datetime.now(UTC),
        log=logging.getLogger("test"), scratch=lab.scratch,
    )  # fmt: skip
    target = PostgresTarget(conn_id="db", id=lab.target, store=lab.place.store, smoke=smoke or {})
    system = SimpleNamespace(name="shop", store=None, rto=rto, rpo=rpo)
    chosen = ROUTINE.settings(programs=str(lab.postgres.bin), **{"amcheck": False, **settings})  # type: ignore[call-arg]
    window = Window(start=now - timedelta(days=1), end=now)
    return Job(ROUTINE.name, target, system, chosen, window, run_id, 1, tools)  # type: ignore[arg-type]


def run(lab: World, **given: Any) -> tuple[list[Outcome], list[Finding]]:
    """Run the lifecycle; return outcomes and all findings."""
    one = job(lab, **given)
    seen = ROUTINE.observe(one)
    judged = ROUTINE.judge(one, seen)
    outcomes = [ROUTINE.act(one, action) for action in ROUTINE.plan(one, seen).actions]
    return outcomes, [*judged.findings, *(f for o in outcomes for f in o.findings)]


def test_sound_backup_leaves_evidence_and_no_finding(lab: World, three: list[Kept[Manifest]]) -> None:
    """The latest backup, sound and in time: no finding, and everything that an auditor asks for as plain JSON."""
    questions = {"rows": Smoke(sql="select count(*) from t", equals=1000)}
    outcomes, findings = run(lab, smoke=questions, rto=timedelta(hours=1), rpo=timedelta(hours=1), amcheck=True)
    assert findings == []
    (outcome,) = outcomes
    assert outcome.status is OutcomeStatus.DONE and "identical to its source" in outcome.detail
    proof = json.loads(json.dumps(outcome.evidence))["restore_test"]
    assert (proof["id"], proof["kind"], proof["ok"]) == (three[-1].manifest.id, "dump", True)
    assert (proof["rto_seconds"], proof["rpo_seconds"], proof["method"]) == (3600, 3600, "local")
    assert 0 < proof["age_seconds"] < 600 and proof["server_version"].startswith("18")
    assert set(proof["phases"]) == {
        "preflight", "fetch", "start", "restore", "amcheck", "compare", "smoke", "remove",
    }  # fmt: skip
    assert proof["differences"] == [] and proof["smoke"]["rows"]["ok"] is True
    assert {m.name for m in outcome.measurements} >= {"restore.seconds", "restore.rate", "restore.rows"}


def test_random_choice_is_the_same_in_every_try_of_a_run(lab: World, three: list[Kept[Manifest]]) -> None:
    """A run that is repeated chooses the same backup; other runs come to the others in time; a name goes before."""
    ids = {kept.manifest.id for kept in three}
    chosen = [ROUTINE.observe(job(lab, which="random", run_id=f"run {n}")).chosen for n in range(30)]
    again = [ROUTINE.observe(job(lab, which="random", run_id=f"run {n}")).chosen for n in range(30)]
    assert chosen == again and set(chosen) == ids
    named = three[0].manifest.id
    assert ROUTINE.observe(job(lab, which="named", backup=named)).chosen == named
    with pytest.raises(ConfigurationError, match="no complete backup"):
        ROUTINE.observe(job(lab, which="named", backup="20200101T000000Z-0123abcd"))


def test_slow_and_old_are_warnings(lab: World, three: list[Kept[Manifest]]) -> None:
    """Longer than the RTO, older than the RPO: a warning each, and the backup is good all the same."""
    outcomes, findings = run(lab, rto=timedelta(milliseconds=1), rpo=timedelta(milliseconds=1))
    assert {(f.check, f.severity) for f in findings} == {("rto", Severity.WARNING), ("rpo", Severity.WARNING)}
    assert outcomes[0].evidence["restore_test"]["ok"] is True


def test_failures_are_critical_and_are_told_apart(lab: World, three: list[Kept[Manifest]]) -> None:
    """Other rows, a wrong answer, a file that is gone, an unreadable manifest: each is its own critical finding."""
    kept = three[-1]
    assert isinstance(lab.store, FolderStore)
    folder = lab.store.folder / lab.target / kept.manifest.id
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (table,) = kept.manifest.tables
    other = kept.manifest.model_copy(update={"tables": (table.model_copy(update={"hash": "1"}),)})
    (folder / core.MANIFEST).write_bytes(core.encode(other))
    questions = {"rows": Smoke(sql="select count(*) from t", equals=1)}
    outcomes, findings = run(lab, smoke=questions)
    assert [(f.check, f.subject) for f in findings] == [("different", lab.target), ("smoke", "rows")]
    assert all(f.severity is Severity.CRITICAL for f in findings) and "public.t" in findings[0].message
    assert outcomes[0].status is OutcomeStatus.FAILED and outcomes[0].evidence["restore_test"]["ok"] is False
    (folder / core.MANIFEST).write_bytes(before[core.MANIFEST])
    (folder / core.TOC).unlink()
    assert [f.check for f in run(lab)[1]] == ["restore"]
    (folder / core.TOC).write_bytes(before[core.TOC])
    (folder / core.MANIFEST).write_bytes(b"{}")
    outcomes, findings = run(lab)
    assert [f.check for f in findings] == ["restore"]
    assert outcomes[0].evidence["restore_test"]["ok"] is False
    (folder / core.MANIFEST).write_bytes(before[core.MANIFEST])


def test_no_backup_is_critical_and_lacking_programs_are_unknown(
    lab: World, three: list[Kept[Manifest]], tmp_path: Path
) -> None:
    """Nothing to restore is critical; nothing to restore with says nothing of the backup, and leaves no proof."""
    assert isinstance(lab.store, FolderStore)
    kept, lab.store = lab.store, FolderStore(tmp_path)
    assert [(f.check, f.severity) for f in run(lab)[1]] == [("none", Severity.CRITICAL)]
    lab.store = kept
    outcomes, findings = run_with(lab, str(tmp_path))
    assert [(f.check, f.severity) for f in findings] == [("preflight", Severity.UNKNOWN)]
    assert outcomes[0].status is OutcomeStatus.SKIPPED and outcomes[0].evidence == {}


def run_with(lab: World, programs: str) -> tuple[list[Outcome], list[Finding]]:
    """Run with programs in another folder."""
    one = job(lab)
    one = Job(**{**one.__dict__, "settings": one.settings.model_copy(update={"programs": programs})})
    outcomes = [ROUTINE.act(one, action) for action in ROUTINE.plan(one, ROUTINE.observe(one)).actions]
    return outcomes, [f for o in outcomes for f in o.findings]


def test_leftovers_are_swept_first(lab: World, three: list[Kept[Manifest]]) -> None:
    """What a killed worker has left is planned for removal before anything else, and gone afterwards."""
    left = lab.scratch / f"{scratch_place.PREFIX}{lab.target.replace('/', '~')}-dump-x-1-00"
    (left / "data").mkdir(parents=True)
    outcomes, findings = run(lab)
    assert findings == [] and [o.status for o in outcomes] == [OutcomeStatus.DONE] * 2
    assert list(lab.scratch.iterdir()) == []
