"""What the first task of a run makes of the systems."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from upkeep.core.errors import ConfigurationError
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger
from upkeep.operators import select, wiring
from upkeep.systems.problem import Problem


def test_more_targets_than_airflow_maps_over_is_said_before_anything_fails():
    """Airflow's own error comes from its API server and names neither the setting nor the number."""
    targets = [{"id": f"s{n}/db"} for n in range(1025)]
    [finding] = select._too_many({"postgres": targets, "http": targets[:1024]})
    assert (finding.subject, finding.observed, finding.limit) == ("postgres", "1025", "1024")
    assert "AIRFLOW__CORE__MAX_MAP_LENGTH" in finding.hint
    handing_on = select.TargetsOperator(task_id="t", kinds=("postgres",), select="select")
    context: Any = {"ti": SimpleNamespace(xcom_pull=lambda task_ids, key: targets)}
    with pytest.raises(ConfigurationError, match="1025 targets of kind postgres"):
        handing_on.execute(context)


@pytest.mark.parametrize(
    ("file", "systems", "concerns"),
    [
        ("/etc/systems/bank.yaml", None, True),
        ("/etc/systems/bank.yaml", ["bank"], True),
        ("/etc/systems/bank.yaml", ["shop"], False),
        ("/etc/systems/bank.yml", ["shop"], False),
        ("/etc/systems", ["shop"], True),
    ],
)
def test_a_run_of_one_system_is_not_red_for_anothers_file(file: str, systems: list[str] | None, concerns: bool):
    """Who looks after one system by hand gets the verdict of that system."""
    run: Any = SimpleNamespace(systems=systems)
    assert select._concerns(Problem(file=file, seen="x", expected="y"), run) is concerns


@pytest.mark.parametrize(
    "uri", ["{not json", "postgresql://a:hunter2@h:notaport/x", '{"conn_type": "postgres", "port": "x"}']
)
def test_a_connection_that_cannot_be_read_stops_no_work(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A slip in the ledger's connection is one more way for the ledger to be away."""
    monkeypatch.setenv("AIRFLOW_CONN_UPKEEP_LEDGER", uri)
    ledger = Ledger(lambda: wiring.conninfo("upkeep_ledger"), Spool(tmp_path))
    assert ledger.ask("recent_runs", limit=1) is None
    assert "upkeep_ledger" in ledger.away_reason and "hunter2" not in ledger.away_reason


def test_secrets_are_masked_however_deep_they_stand():
    """Evidence is nested; Airflow's masker stops after five levels unless told otherwise."""
    from airflow.sdk._shared.secrets_masker.secrets_masker import mask_secret

    mask_secret("hunter2hunter2")
    value: Any = "login hunter2hunter2 failed"
    for _ in range(20):
        value = {"deeper": [value]}
    assert "hunter2" not in str(wiring._redact(value))
