"""Reference profiles of the models, as if somebody had agreed to them: `python -m lab.profiles <day and time>`.

The one part of the lab that uses the package: a profile is worth something only as its own code makes it. It runs as a
process of its own, with the variables of `lab.connections.environment`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from lab.model_rows import KINDS
from lab.process import LabError
from lab.scoring import DAYS
from lab.windows import newest

if TYPE_CHECKING:
    from lab.embedded import Lab

_ROOT = Path(__file__).resolve().parent.parent


def write_profiles(lab: Lab, now: datetime) -> None:
    """Make the profile of the quarter that quarterly runs look at, for each model; one that is there stays."""
    paths = os.pathsep.join([str(_ROOT / "plugins"), str(_ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "lab.profiles", now.isoformat()],
        env={**os.environ, **lab.environment(), "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"making the reference profiles failed:\n{done.stderr[-2000:]}")


def main(now: datetime) -> None:
    """Make them."""
    from upkeep.adapters.drift import Drifts
    from upkeep.adapters.scoring_data import ScoringData
    from upkeep.core.targets import ModelTarget
    from upkeep.systems.load import load_system

    drifts = Drifts(ScoringData(_conninfo, _no_connection), Path(os.environ["UPKEEP_LAB_HOME"]))
    for name in KINDS:
        system = load_system(name)
        for target in system.targets.values():
            if isinstance(target, ModelTarget):
                _make(drifts, system, target, now)


def _make(drifts: Any, system: Any, target: Any, now: datetime) -> None:
    from upkeep.core.cadence import Window
    from upkeep.routines.model import _drift_seen, _profile_seen
    from upkeep.routines.model._profile_settings import Settings

    span = newest("quarterly", now)
    if span.end > now - timedelta(days=DAYS):  # what is planted in the newest week must not become the reference
        span = newest("quarterly", span.start)
    job: Any = SimpleNamespace(
        system=system, target=target, settings=Settings(), window=Window(start=span.start, end=span.end)
    )
    profile = drifts.profiled(_profile_seen.stretch(job), system, target.id).profile
    # It counts from before the oldest week of which there are many rows.
    made_at = min(span.end, now - timedelta(days=DAYS + 7))
    drifts.keep(_drift_seen.folder(target), profile, made_at)


def _conninfo(conn_id: str) -> str:
    from psycopg.conninfo import make_conninfo

    given = json.loads(os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"])
    keys = {"host": "host", "port": "port", "user": "login", "password": "password", "dbname": "schema"}
    return make_conninfo(**{key: str(given[field]) for key, field in keys.items()})


def _no_connection(conn_id: str) -> Any:
    raise LookupError(f"the models' data are in databases; nobody asks for {conn_id}")


if __name__ == "__main__":
    main(datetime.fromisoformat(sys.argv[1]))
