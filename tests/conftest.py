"""What all tests share: Airflow with a metadata database of its own, away from any that the machine has."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Machines are noisy: how long an example takes says nothing.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")
# Airflow reads its configuration when it is first imported, which is before any fixture runs.
_HOME = tempfile.TemporaryDirectory(prefix="upkeep-airflow-")
_ROOT = Path(__file__).parent.parent
_BUNDLES = {"cadences": _ROOT / "dags", "site": _ROOT / "tests/contract/site/dags"}
os.environ.update(
    AIRFLOW_HOME=_HOME.name,
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{_HOME.name}/airflow.db",
    AIRFLOW__CORE__DAGS_FOLDER=str(_ROOT / "dags"),
    AIRFLOW__CORE__PLUGINS_FOLDER=str(_ROOT / "plugins"),
    AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST=json.dumps(
        [
            {
                "name": name,
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(path)},
            }
            for name, path in _BUNDLES.items()
        ]
    ),
)
for name in [name for name in os.environ if name.startswith(("AIRFLOW_CONN_", "UPKEEP_", "PG"))]:
    if name != "UPKEEP_LAB_CACHE" and not name.startswith("UPKEEP_TEST_"):
        del os.environ[name]


@pytest.fixture(scope="session")
def metadata_db() -> Iterator[None]:
    """Airflow's metadata database, migrated."""
    from airflow.utils.db import initdb

    initdb()
    yield
