"""Settings of routines in system files, and the sample files against the routines that there are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from upkeep.core.cadence import Covers
from upkeep.core.routine import Routine, discover
from upkeep.core.system import System
from upkeep.core.targets import TARGET_KINDS, HttpTarget, ModelTarget
from upkeep.routines.services import health
from upkeep.systems.load import check_settings, load_all, read_system
from upkeep.systems.problem import Problem

HEALTH = {"services.health": Routine.of(health)}
SYSTEM = """\
name: x
title: X
contacts: {sysadmin: {primary: {name: A, channels: [{kind: email, address: a@example.com}]}}}
settings:
  services.health: {SYSTEM}
targets:
  web:
    kind: http
    base_url: http://localhost
    endpoints: {a: {path: /}}
    TARGET
  db: {kind: postgres, conn_id: x, DB}
"""


def check(folder: Path, system: str = "{}", target: str = "skip: {}", db: str = "skip: {}") -> tuple[Problem, ...]:
    """Return what is wrong with the settings of a system."""
    path = folder / "x.yaml"
    path.write_text(SYSTEM.replace("{SYSTEM}", system).replace("TARGET", target).replace("DB", db))
    found, problems = read_system(path, {})
    assert found is not None, problems
    return check_settings(found, HEALTH, path)


def test_good_settings(tmp_path: Path) -> None:
    """Settings within their bounds are no problem; a target's limit is laid over the system's."""
    assert (
        check(
            tmp_path, "{response_time: {warning: 100}}", "settings: {services.health: {response_time: {critical: 200}}}"
        )
        == ()
    )


def test_unknown_setting_gets_a_suggestion(tmp_path: Path) -> None:
    """A mistyped setting is told with file, line, the settings that exist and the probable one."""
    (problem,) = check(tmp_path, "{respnse_time: {warning: 100}}")
    assert (problem.line, problem.key) == (5, "settings.services.health.respnse_time")
    assert problem.hint == "did you mean 'response_time'?"
    assert "error_rate" in problem.expected


def test_value_out_of_bounds(tmp_path: Path) -> None:
    """A value out of bounds is told with what was seen and what is allowed, all of them at once."""
    problems = check(tmp_path, "{tries: 0, statistic: average, endpoints: {a: {timeout: -1}}}")
    assert {(p.key.rpartition("services.health.")[2], p.seen) for p in problems} == {
        ("tries", "0"), ("statistic", "'average'"), ("endpoints.a.timeout", "-1")
    }  # fmt: skip
    assert any("greater than or equal to 1" in p.expected for p in problems)


def test_target_fault_is_told_once(tmp_path: Path) -> None:
    """A fault in the system's settings is not told again for each target, and a target's is told at its line."""
    problems = check(tmp_path, "{tries: 0}", "settings: {services.health: {pause: -1}}")
    assert sorted((p.line, p.key.split(".")[-1]) for p in problems) == [(5, "tries"), (11, "pause")]


def test_limits_out_of_order_through_layers(tmp_path: Path) -> None:
    """A warning above the default's critical limit is refused although each file part looks right alone."""
    (problem,) = check(tmp_path, "{response_time: {warning: 9000}}")
    assert "stricter" in problem.expected


def test_unknown_routine(tmp_path: Path) -> None:
    """Settings or a skip for a routine that does not exist would silently do nothing: they are refused."""
    text = "skip: {services.helth: because}\n    settings: {service.health: {}}"
    problems = check(tmp_path, target=text)
    assert [p.hint for p in problems] == ["did you mean 'services.health'?"] * 2


def test_routine_on_the_wrong_kind(tmp_path: Path) -> None:
    """A skip on a target that the routine never works on is a misunderstanding, and told."""
    (problem,) = check(tmp_path, db="skip: {services.health: because}")
    assert "kind postgres" in problem.seen
    assert problem.expected == "a target of kind http"


@pytest.fixture(scope="module")
def samples() -> Mapping[str, System]:
    """The five sample systems, as loaded on a worker."""
    loaded = load_all(environ={"UPKEEP_LAB_HOME": "/lab"})
    assert loaded.problems == ()
    return loaded.systems


def test_samples_load_and_fit_the_routines(samples: Mapping[str, System]) -> None:
    """Every sample file is good, and so are its settings for every routine of the package."""
    routines = {routine.name: routine for routine in discover()}
    assert sorted(samples) == ["campus", "cardiology", "claims", "molecular", "student"]
    assert [str(p) for system in samples.values() for p in check_settings(system, routines)] == []


def test_samples_have_the_roles_that_routines_name(samples: Mapping[str, System]) -> None:
    """Whoever owns a routine exists in every system on which it runs, or the administrator stands in."""
    for system in samples.values():
        assert "sysadmin" in system.contacts
        for routine in discover():
            if any(target.kind in routine.targets for target in system.targets.values()):
                assert routine.role in system.contacts or len(system.contacts) == 1, (system.name, routine.role)


def test_samples_use_every_kind(samples: Mapping[str, System]) -> None:
    """Together the samples have every kind of target, so that none is without an example."""
    assert {target.kind for system in samples.values() for target in system.targets.values()} == set(TARGET_KINDS)


def test_samples_carry_the_guides_thresholds(samples: Mapping[str, System]) -> None:
    """The limits that guides state stand in the files: a few that matter most, by duty id."""
    claims, student, campus = samples["claims"], samples["student"], samples["campus"]
    assert claims.settings["services.health"]["response_time"] == {"warning": 100}  # CL-D04
    assert student.settings["services.health"]["response_time"] == {"warning": 500}  # ST-D05
    assert campus.settings["services.health"]["response_time"] == {
        "info": 1000,
        "warning": 2000,
        "critical": 5000,
    }  # CM-T04
    assert campus.settings["services.health"]["statistic"] == "p95"  # CM-T01
    assert student.targets["host"].thresholds["disk_percent"].warning == 85  # ST-D02
    storage = samples["molecular"].targets["storage"].thresholds["used_percent"]
    assert (storage.info, storage.warning, storage.critical) == (70, 80, 90)  # MO-B07
    assert list(samples["molecular"].contacts) == ["sysadmin", "dba", "security", "oncall"]  # MO-A01


def test_samples_name_models_that_services_serve(samples: Mapping[str, System]) -> None:
    """A model's endpoint is one that its system's service has."""
    for system in samples.values():
        for target in system.targets.values():
            if isinstance(target, ModelTarget) and target.endpoint:
                service = system.targets[target.endpoint.split("/")[0]]
                assert isinstance(service, HttpTarget)


def test_health_reports_the_state_of_now() -> None:
    """Service health says what is, not what was: a backfill of last week must not ask today's service."""
    assert HEALTH["services.health"].covers is Covers.NOW


def test_samples_ask_what_the_lab_answers(samples: Mapping[str, System]) -> None:
    """Every endpoint of a sample file exists in the lab's service, and every health endpoint there is asked."""
    from lab.services import SERVICES

    for name, system in samples.items():
        asked = {
            (endpoint.method, endpoint.path)
            for target in system.targets.values()
            if isinstance(target, HttpTarget)
            for endpoint in target.endpoints.values()
        }
        served = set(SERVICES[name](None).routes())
        assert asked <= served, name
        assert asked & {place for place in served if "health" in place[1]}, name
