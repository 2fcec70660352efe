"""Nouns: severities, thresholds, findings, settings."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from upkeep.core import errors
from upkeep.core.cadence import Covers, RunType
from upkeep.core.errors import ConfigurationError
from upkeep.core.model import Finding, Measurement, Severity, Threshold, worst
from upkeep.core.routine import Routine, RoutineSettings, routine_name


class _Settings(RoutineSettings):
    jobs: int = Field(2, ge=1, le=8)
    limit: Threshold = Threshold(warning=50, critical=500)


ROUTINE = Routine(
    name="sample.count",
    title="Count",
    targets=("postgres",),
    covers=Covers.NOW,
    role="dba",
    runbook="Counts.",
    settings=_Settings,
    observe=lambda job: None,
    judge=lambda job, seen: None,
    plan=lambda job, seen: None,
    act=lambda job, action: None,
    verify=lambda job, seen, outcomes: None,
)


def test_unknown_is_never_ok():
    """Unknown ranks above a warning, and nothing at all is ok."""
    assert worst([Severity.WARNING, Severity.UNKNOWN, Severity.INFO]) is Severity.UNKNOWN
    assert worst([]) is Severity.OK


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["above", "below"]))
def test_threshold_never_gets_milder_further_out(value: float, direction: str):
    """The further a value lies beyond its limits, the worse it is judged."""
    limits = {"info": 1.0, "warning": 2.0, "critical": 3.0}
    if direction == "below":
        limits = {name: -limit for name, limit in limits.items()}
    threshold = Threshold(direction=direction, **limits)
    further = value + 1 if direction == "above" else value - 1
    assert threshold.judge(value).rank <= threshold.judge(further).rank


def test_a_value_on_the_limit_does_not_cross_it():
    """A limit is the last value that is still allowed, as in "< 80 %" against a warning at 80 read as "up to"."""
    assert Threshold(warning=80).judge(80) is Severity.OK
    assert Threshold(warning=80, direction="below").judge(79.9) is Severity.WARNING


def test_limits_in_the_wrong_order_are_refused():
    """A warning beyond the critical limit could never be seen."""
    with pytest.raises(ValidationError, match="stricter"):
        Threshold(warning=90, critical=80)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_measurement_is_a_number(value: float):
    """NaN and infinity cannot be kept, compared or drawn."""
    with pytest.raises(ValidationError):
        Measurement(name="x", value=value, unit="1")


def test_the_key_of_a_finding_holds_no_run():
    """The same trouble has the same key, whatever was observed this time."""
    one = Finding(check="sequence", subject="s", severity=Severity.WARNING, message="91 %")
    two = Finding(check="sequence", subject="s", severity=Severity.CRITICAL, message="99 %")
    assert one.key("claims/db", "database.health") == two.key("claims/db", "database.health")


def test_a_nested_override_keeps_the_limits_beneath_it():
    """Overriding the warning limit must not drop the critical one."""
    resolved = ROUTINE.resolve_settings(("yaml", {"limit": {"warning": 20}}), ("params", {"jobs": 4}))
    assert resolved.limit == Threshold(warning=20, critical=500)
    assert resolved.jobs == 4


def test_a_bad_setting_names_its_layer_and_bounds():
    """The message says which layer, which key, what was seen and what is allowed."""
    with pytest.raises(ConfigurationError) as caught:
        ROUTINE.resolve_settings(("claims.yaml settings", {"jobs": 99}))
    assert "claims.yaml settings: jobs = 99" in str(caught.value)
    assert "less than or equal to 8" in str(caught.value)


def test_an_unknown_setting_is_refused():
    """A typing error in a setting's name is an error, not a setting without effect."""
    with pytest.raises(ConfigurationError, match="job = 3"):
        ROUTINE.resolve_settings(("params", {"job": 3}))


@pytest.mark.parametrize("cls", [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)])
def test_errors_survive_pickling(cls: type):
    """Airflow carries exceptions between processes."""
    error = pickle.loads(pickle.dumps(cls("claims/db: seen 1, expected 2", "look")))
    assert (error.message, error.hint) == ("claims/db: seen 1, expected 2", "look")


def test_a_strange_run_type_is_quiet():
    """A kind of run that Airflow may add later must not page anybody by surprise."""
    assert RunType.of("something_new") is RunType.MANUAL


def test_routine_name_is_area_and_module():
    """The name of a routine is where it lives."""
    assert routine_name("site.routines.cache.sweep") == "cache.sweep"
