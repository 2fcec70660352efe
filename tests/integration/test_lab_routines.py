"""Logs, packages and models of the lab: the routines find exactly what is planted, and nothing where nothing is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from lab.embedded import Lab
from lab.faults import planted_faults, set_faults
from lab.process import scratch_folder
from lab.run import compare
from lab.windows import newest
from upkeep.core.cadence import Covers, Window
from upkeep.core.job import Job
from upkeep.core.routine import Routine
from upkeep.ledger.events import RoutineKey
from upkeep.ledger.store import LedgerHistory
from upkeep.operators import wiring
from upkeep.systems.load import load_system

ROUTINES = {
    "daily": ("logs.review", "model.health", "model.latency"),
    "weekly": (
        "logs.rotation", "dependencies.audit", "dependencies.outdated", "model.drift", "model.scores", "model.versions",
    ),
    "monthly": ("dependencies.update", "model.retraining"),
    "quarterly": ("model.profile",),
}  # fmt: skip
CHANGES_FILES = ("logs.rotation",)
SYSTEMS = ("campus", "cardiology", "claims", "molecular", "student")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Give a lab whose addresses are this process's environment, as they are a worker's."""
    with scratch_folder() as folder, pytest.MonkeyPatch.context() as patch:
        made = Lab(folder / "lab", scale=0.05)
        try:
            made.up()
            for name, value in made.environment().items():
                patch.setenv(name, value)
            patch.setenv("UPKEEP_HOME", str(folder / "upkeep"))
            # Which index this machine's user has configured beside the lab's is nobody's concern here.
            patch.setenv("HOME", str(folder))
            (folder / "upkeep").mkdir()
            yield made
        finally:
            made.down()


def found(cadence: str) -> list[dict[str, Any]]:
    """Run the routines of a cadence on every target and return their findings."""
    findings = []
    with wiring.open_ledger() as ledger:
        ledger.replay()
        for name in ROUTINES[cadence]:
            routine = Routine.load(f"upkeep.routines.{name}")
            for system in map(load_system, SYSTEMS):
                for target in system.targets.values():
                    if target.kind in routine.targets and name not in target.skip:
                        findings += run(routine, system, target, cadence, ledger)
    return findings


def run(routine: Routine, system: Any, target: Any, cadence: str, ledger: Any) -> list[dict[str, Any]]:
    span = newest(cadence, datetime.now(UTC))
    key = RoutineKey(
        dag_id=f"maintenance_{cadence}", run_id="now", routine=routine.name, target=target.id, try_number=1
    )
    history = LedgerHistory(ledger, key, span.start if routine.covers is Covers.WINDOW else None)
    catalogue: Any = SimpleNamespace(reachable=True)
    job: Job[Any, Any] = Job(
        routine=routine.name,
        target=target,
        system=system,
        settings=routine.resolve_settings(("system", system.settings.get(routine.name, {}))),
        window=Window(start=span.start, end=span.end),
        run_id="now",
        try_number=1,
        tools=wiring.make_tools(history, catalogue, logging.getLogger("test")),
    )
    seen = routine.observe(job)
    findings = list(routine.judge(job, seen).findings)
    if routine.name in CHANGES_FILES:
        outcomes = tuple(routine.act(job, action) for action in routine.plan(job, seen).actions)
        findings += [f for outcome in outcomes for f in outcome.findings]
        findings += routine.verify(job, seen, outcomes).findings
    return [
        {"target": target.id, "routine": routine.name, "check": f.check, "severity": f.severity.value} for f in findings
    ]


@pytest.mark.parametrize("cadence", ROUTINES)
def test_exactly_the_planted_faults_are_found(lab: Lab, cadence: str):
    """Compared both ways, of the routines that look at logs, packages and models."""
    expected = {
        (f.target, f.routine, f.check, f.severity) for f in planted_faults(cadence) if f.routine in ROUTINES[cadence]
    }
    findings = found(cadence)
    seen = {(f["target"], f["routine"], f["check"], f["severity"]) for f in findings}
    assert sorted(expected - seen) == []
    assert compare(findings, cadence)[1] == []


def test_a_healthy_lab_gives_no_trouble(lab: Lab):
    """With the faults taken away none of them says more than what is worth reading; planted anew, they are back."""
    set_faults(lab, planted=False)
    wrong = [f for cadence in ROUTINES for f in found(cadence) if f["severity"] in ("warning", "critical", "unknown")]
    assert wrong == []
    set_faults(lab, planted=True)
    assert (lab.home / "molecular/logs/api.log").stat().st_size > 4_000_000
    assert (lab.home / "student/scratch/test_import.db").exists()
