"""The care of one model from its first profile to its retraining: real lifecycle, ledger, database, files, programs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from lab.process import scratch_folder
from tests.integration.model_health_bench import CONTACTS, write
from tests.integration.retention_world import lifecycle
from upkeep.adapters import models
from upkeep.adapters.drift import Drifts
from upkeep.adapters.scoring_data import ScoringData
from upkeep.core.cadence import Covers, Window
from upkeep.core.errors import ConfigurationError, CriticalFindingError, TransientError, UpkeepError
from upkeep.core.job import Job
from upkeep.core.routine import Routine
from upkeep.core.system import System
from upkeep.ledger import events as ev
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger, LedgerHistory

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
WEEK = Window(start=MONDAY - timedelta(days=7), end=MONDAY)
PASSWORD = "correct-horse-battery"
SELECT = """select clicks, score, said, truth, chance from scored where at >= %(start)s and at < %(end)s"""
ROWS = """
    create table scored as
    select timestamptz '2026-08-01 UTC' + n * interval '10 minutes' as at,
           (hashint4(n) & 1023) / 1024.0 as clicks, (hashint4(n + 7) & 255) / 256.0 as score,
           (hashint4(n) & 1) = 1 as said,
           case when n %% 50 = 0 then 1 - (hashint4(n) & 1) else hashint4(n) & 1 end as truth,
           (hashint4(n) & 1) * 0.9 + 0.05 as chance
      from generate_series(0, 15407) as n
"""
TRAIN = """
import hashlib, json, sys
from pathlib import Path
folder = Path(sys.argv[1])
said = json.loads((folder / "model_metadata.json").read_text())
data = b"trained anew"
(folder / "model.pkl").write_bytes(data)
said |= {"version": "2", "sha256": hashlib.sha256(data).hexdigest(), "training_date": "2026-11-16"}
(folder / "model_metadata.json").write_text(json.dumps(said))
"""


@dataclass
class Model:
    """One model, its data in PostgreSQL, and a ledger."""

    root: Path
    dsn: str
    ledger: Ledger
    sql: str = SELECT
    user: str = ""
    window: Window = WEEK
    runs: int = 0

    @property
    def system(self) -> System:
        model = {
            "kind": "model", "path": str(self.root / "model"), "metadata": "model_metadata.json",
            "files": ["*.pkl", "*.json"], "features": ["clicks", "score"], "prediction": "said",
            "scoring": {"target": "db", "sql": self.sql},
            "labels": {"source": {"target": "db", "sql": self.sql}, "label": "truth", "prediction": "said",
                       "probability": "chance"},
            "thresholds": {"accuracy_percent": {"warning": 99, "direction": "below"}},
            "retraining": {"command": [sys.executable, str(self.root / "train.py"), "{folder}"]},
        }  # fmt: skip
        targets = {"risk": model, "db": {"kind": "postgres", "conn_id": "db"}}
        return System.model_validate({"name": "claims", "title": "C", "contacts": CONTACTS, "targets": targets})

    def conninfo(self, _: str) -> str:
        login = {"user": self.user, "password": PASSWORD} if self.user else {}
        return psycopg.conninfo.make_conninfo(self.dsn, **login)

    def run(
        self, name: str, *, agreed: dict[tuple[str, str], Any] | None = None, dry_run: bool = False, **settings: Any
    ) -> tuple[dict[str, str], list[Any], dict[str, Any]]:
        """Run a routine as its operator does; return what was done, what was found, and the plan by name."""
        self.runs += 1
        routine = Routine.load(f"upkeep.routines.model.{name}")
        key = ev.RoutineKey(
            dag_id="d", run_id=f"r{self.runs}", routine=routine.name, target="claims/risk", try_number=1
        )
        run = ev.RunKey(dag_id="d", run_id=key.run_id)
        span = {"window_start": self.window.start, "window_end": self.window.end}
        self.ledger.write(ev.RunOpened(at=MONDAY, run=run, cadence="weekly", run_type="manual", **span))
        data = ScoringData(self.conninfo, str)
        away: Any = SimpleNamespace
        tools: Any = SimpleNamespace(
            models=models.make_models(self.conninfo, str, away, self.root),
            drifts=Drifts(data, self.root),
            history=LedgerHistory(self.ledger, key, self.window.start if routine.covers is Covers.WINDOW else None),
            now=lambda: MONDAY + self.runs * timedelta(seconds=1),
            log=logging.getLogger("test"),
        )
        job: Job[Any, Any] = Job(
            routine=routine.name, target=self.system.targets["risk"], system=self.system,
            settings=routine.resolve_settings(("test", settings)), window=self.window, run_id=key.run_id, try_number=1,
            tools=tools,
        )  # fmt: skip
        approved = None if agreed is None else frozenset(agreed)
        try:
            _, work, findings = lifecycle(routine, job, self.ledger, dry_run, approved)
        except CriticalFindingError:
            return self.done(key), [], {}
        return self.done(key), findings, {a.name: a for a in work.planned}

    def done(self, key: ev.RoutineKey) -> dict[str, str]:
        """Return what the ledger says became of the actions of a run."""
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute(
                "select a.name, a.status from upkeep.action as a"
                " join upkeep.routine_run as r on r.id = a.routine_run_id where r.run_id = %s", [key.run_id],
            ).fetchall()  # fmt: skip
        return dict(rows)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with scratch_folder() as folder, PostgresServer(18, folder / "models") as running:
        yield running


@pytest.fixture
def model(server: PostgresServer, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Model]:
    name = f"model_{abs(hash(request.node.name)) % 10**9}"
    server.create_database(name)
    with psycopg.connect(server.dsn(name), autocommit=True) as connection:
        connection.execute(ROWS.replace("%%", "%"))
    write(tmp_path / "model", features=["clicks", "score"])
    (tmp_path / "train.py").write_text(TRAIN)
    ledger = Ledger(lambda: server.dsn(name), Spool(tmp_path / "spool"))
    yield Model(tmp_path, server.dsn(name), ledger)
    ledger.close()


def test_from_the_first_profile_to_a_new_model(model: Model):
    """Each step asks, does, and is on record; nothing is wrong with a healthy model; a repeat says the same again."""
    span = {"since": "2026-08-01", "until": "2026-10-31"}
    done, _, plan = model.run("profile", **span)
    proposed = plan["keep"] if "keep" in plan else next(iter(plan.values()))
    assert set(done.values()) == {"proposed"} and not (model.root / "model" / "reference").exists()
    action = (proposed.name, proposed.subject)
    assert set(model.run("profile", agreed={action: proposed.details["oid"]}, **span)[0].values()) == {"done"}
    assert "copy" in model.run("versions", dry_run=True)[2] and not (model.root / "model" / "versions").exists()
    assert model.run("versions")[0] == {"copy": "done"} and model.run("versions")[0] == {}
    assert model.run("health")[1] == []
    drift = model.run("drift")
    assert drift[1] == model.run("drift")[1] == []
    scores = [model.run("scores", importance=False) for _ in range(2)]
    assert [f.check for f in scores[0][1]] == ["accuracy_percent"] and scores[0][1] == scores[1][1]
    done, findings, plan = model.run("retraining", min_rows=100_000)
    assert done == {"retrain": "proposed"}
    assert "accuracy_percent of the newest judged window is 97.92" in findings[0].message
    assert plan["retrain"].details["evidence"]["drifted_columns_percent"] == 0
    agreed = {("retrain", "claims/risk"): plan["retrain"].details["oid"]}
    assert model.run("retraining", agreed=agreed, min_rows=100_000)[0] == {"retrain": "done"}
    assert (model.root / "model" / "model.pkl").read_bytes() == b"trained anew"
    again = model.run("retraining", agreed=agreed, min_rows=100_000)[0]
    assert "done" not in again.values(), "one yes is for one model"


def test_a_ledger_that_is_away_changes_no_answer(model: Model):
    """What is found is the same without history, and what was to be recorded waits."""
    model.run("profile", first_without_approval=True, since="2026-08-01", until="2026-10-31")
    here = [model.run(name)[1] for name in ("drift", "health")]
    away = Ledger(lambda: psycopg.conninfo.make_conninfo(model.dsn, port=1), Spool(model.root / "waiting"))
    model.ledger.close()
    model.ledger = away
    assert [model.run(name)[1] for name in ("drift", "health")] == here
    assert away.spool.events()
    model.ledger = Ledger(lambda: model.dsn, Spool(model.root / "waiting"))


@pytest.mark.parametrize(
    ("sql", "user", "kind", "said"),
    [
        (SELECT.replace("scored", "gone"), "", ConfigurationError, "does not exist"),
        (SELECT, "reader", ConfigurationError, "permission denied"),
        (SELECT.replace("where", "cross join pg_sleep(2) where"), "", TransientError, "timeout"),
        (SELECT, "stranger", UpkeepError, ""),
    ],
)
def test_a_database_that_does_not_answer_is_no_good_news(model: Model, sql: str, user: str, kind: Any, said: str):
    """Table missing, no privilege, too slow, no login: the run fails, with the cure, and without the password."""
    model.run("profile", first_without_approval=True, since="2026-08-01", until="2026-10-31")
    with psycopg.connect(model.dsn, autocommit=True) as connection:
        if not connection.execute("select 1 from pg_roles where rolname = 'reader'").fetchone():
            connection.execute(f"create role reader login password '{PASSWORD}'")
    model.sql, model.user = sql, user
    for routine in ("drift", "scores"):
        settings = {"statement_timeout": 1} if routine == "drift" else {}
        if routine == "scores" and kind is TransientError:
            continue
        with pytest.raises(kind) as raised:
            model.run(routine, **settings)
        assert said in raised.value.message and raised.value.hint
        secrets = {PASSWORD, psycopg.conninfo.conninfo_to_dict(model.dsn)["password"]}
        assert not [one for one in secrets if str(one) in f"{raised.value.message} {raised.value.hint}"]
    with psycopg.connect(model.dsn) as connection:
        rows = connection.execute("select * from upkeep.routine_run").fetchall()
    assert PASSWORD not in str(rows) and any("failed" in row for row in rows)
