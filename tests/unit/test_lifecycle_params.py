"""What a person may give in the form of a run, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from upkeep.core.errors import ConfigurationError
from upkeep.core.routine import Routine
from upkeep.operators import params

ROUTINES = {r.name: r for r in (Routine.load(f"upkeep.routines.{n}") for n in ("backup.postgres", "services.health"))}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"backup.postgrs": {"jobs": 4}}, "unknown routine in settings 'backup.postgrs'.*did you mean"),
        ({"database.health": {}}, "unknown routine in settings 'database.health'"),
        ({"backup.postgres": {"jbos": 4}}, "unknown setting of backup.postgres 'jbos'.*did you mean 'jobs'"),
        ({"backup.postgres": 4}, "settings of backup.postgres are of type int"),
        ({"backup.postgres": {"jobs": "postgresql://a:hunter2@b/c"}}, "settings.backup.postgres.jobs looks like"),
        (["backup.postgres"], "of type list"),
        ("backup.postgres", "of type str"),
        ({"x" * 10_000: {}}, "unknown routine in settings 'x{99,100}'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_that_nothing_would_read_are_refused(given: Any, said: str):
    """A typing error must not give a run that silently worked with other settings; no message shows a secret."""
    with pytest.raises(ConfigurationError, match=said) as refused:
        params.check_settings({"settings": given}, ROUTINES)
    assert "hunter2" not in str(refused.value) and len(str(refused.value)) < 1000


@pytest.mark.parametrize("given", [None, {}, {"backup.postgres": None}, {"backup.postgres": {"jobs": 4}}])
def test_settings_that_make_sense_pass(given: Any):
    """Null and empty mean "as the system files say"."""
    params.check_settings({"settings": given}, ROUTINES)


@pytest.mark.parametrize("given", ["claims", {"claims": 1}, [1], [["claims"]], 7])
def test_names_come_as_a_list(given: Any):
    """A DAG of somebody else may lack the form's checks."""
    with pytest.raises(ConfigurationError, match="systems is no list of names"):
        params.names({"systems": given}, "systems")
    assert params.names({"systems": []}, "systems") is None


def test_what_the_ledger_keeps_of_params_holds_no_secret():
    """By the name of the key or by its shape; everything else stays as it was given."""
    given = {
        "systems": ["claims", "postgresql://a:hunter2@b/c"],
        "settings": {"backup.postgres": {"jobs": 4, "password": "hunter2", "deep": [{"token": "hunter2"}]}},
    }
    kept = params.without_secrets(given)
    assert "hunter2" not in str(kept)
    assert kept["settings"]["backup.postgres"]["jobs"] == 4 and kept["systems"][0] == "claims"
