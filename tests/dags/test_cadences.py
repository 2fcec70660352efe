"""The four cadence DAGs as Airflow sees them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from upkeep.core.cadence import Cadence, RunType, Window
from upkeep.operators.run import Run

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "dags").glob("*.py"))


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dag


@pytest.fixture(scope="module", params=list(Cadence), ids=str)
def dag(request: pytest.FixtureRequest):
    return load(ROOT / "dags" / f"{request.param.dag_id}.py")


def test_every_cadence_has_its_file():
    """One file per cadence, named after its DAG."""
    assert {c.dag_id for c in Cadence} <= {path.stem for path in FILES}


def test_it_is_documented_and_bounded(dag):
    """An engineer in the UI finds what it does, and no task can hang for ever."""
    assert dag.doc_md and dag.description and "maintenance" in dag.tags
    assert dag.catchup is False and dag.max_active_runs == 1
    for task in dag.tasks:
        assert task.execution_timeout, task.task_id
        assert task.owner == "maintenance"


def test_report_and_verdict_come_last_and_always(dag):
    """Whatever happened before, the run gets its report and its verdict."""
    report, verdict = dag.get_task("report"), dag.get_task("verdict")
    assert report.trigger_rule == verdict.trigger_rule == "all_done"
    assert report.downstream_task_ids == {"verdict"}
    others = {task.task_id for task in dag.tasks} - {"report", "verdict"}
    assert others <= {task.task_id for task in report.get_flat_relatives(upstream=True)}


def test_what_needs_a_person_is_asked_before_the_report(dag):
    """Every run hands over what it has proposed, also when something failed; requests are named in the grid."""
    propose, ask = dag.get_task("approvals.propose"), dag.get_task("approvals.ask")
    assert (propose.trigger_rule, ask.partial_kwargs["trigger_rule"]) == ("all_done", "all_success")
    assert propose.downstream_task_ids == {"approvals.ask"} and "report" in ask.downstream_task_ids
    before = {task.task_id for task in propose.get_flat_relatives(upstream=True)}
    assert {t.task_id for t in dag.tasks} - before == {"approvals.propose", "approvals.ask", "report", "verdict"}


def test_heavy_work_waits_no_longer_than_until_the_next_run(dag):
    """Hours by cadence; every routine of the DAG has it as its own default."""
    from upkeep.cadence import WINDOW_WAIT

    cadence = Cadence(dag.dag_id.removeprefix("maintenance_"))
    assert WINDOW_WAIT[cadence] <= timedelta(days=7 if cadence in (Cadence.MONTHLY, Cadence.QUARTERLY) else 1)
    routines = [task for task in dag.tasks if getattr(getattr(task, "operator_class", task), "routine", None)]
    assert routines
    assert {task.unmap({"target": "claims/db"}).window_wait for task in routines} == {WINDOW_WAIT[cadence]}


def test_the_approval_dag_asks_before_it_does():
    """Nothing leads to the work but the answer; nobody waits in a queue where no one sees him; it is never paused."""
    dag = load(ROOT / "dags" / "approved_changes.py")
    assert dag.doc_md and dag.schedule is None and dag.is_paused_upon_creation is False
    assert dag.max_active_runs >= 500
    assert dag.get_task("do").upstream_task_ids == {"ask"} and dag.get_task("ask").upstream_task_ids == {"request"}
    assert dag.get_task("do").trigger_rule == dag.get_task("ask").trigger_rule == "all_success"
    # Rejecting skips what follows the question, and that must be the work alone.
    assert dag.get_task("ask").downstream_task_ids == {"do"}
    ask = dag.get_task("ask")
    assert ask.defaults == [ask.REJECT] and ask.response_timeout <= timedelta(days=7)
    assert dag.get_task("report").trigger_rule == dag.get_task("verdict").trigger_rule == "all_done"


def test_retries_follow_the_error_classes(dag):
    """Only what may pass by itself is tried again; the verdict never is."""
    from upkeep.core.errors import ConfigurationError, TransientError

    for task in dag.tasks:
        if task.task_id == "verdict":
            assert task.retries == 0
            continue
        policy = task.retry_policy
        assert policy.evaluate(TransientError("x"), 1, 3).action.value == "retry"
        assert policy.evaluate(ConfigurationError("x"), 1, 3).action.value == "fail"


def test_params_are_a_form_that_leaves_the_yaml_in_charge(dag):
    """Empty params mean "as the system files say"; the names there are for the asking."""
    params = dag.params
    assert {name: params[name] for name in ("systems", "routines", "settings")} == dict.fromkeys(
        ("systems", "routines", "settings")
    )
    assert set(params.get_param("systems").schema["examples"]) >= {"claims", "campus"}
    assert "backup.verify" in params.get_param("routines").schema["examples"]


def test_it_serialises_with_its_deadlines(dag):
    """The scheduler sees only the serialised form: every rung of every ladder must be in it."""
    from airflow.serialization.serialized_objects import DagSerialization

    assert dag.deadline
    data = DagSerialization.to_dict(dag)
    assert len(data["dag"]["deadline"]) == len(dag.deadline)
    assert len(json.dumps(data)) < 200_000


def test_daily_deadlines_are_the_rungs_of_all_ladders():
    """Each distinct moment of the system files' ladders is one alert whose callback knows its rung."""
    from upkeep.systems.index import read_index

    alerts = read_index().deadlines(Cadence.DAILY)
    dag = load(ROOT / "dags" / "maintenance_daily.py")
    assert [d.interval for d in dag.deadline] == [alert.after.total_seconds() for alert in alerts]
    assert [d.callback.kwargs["rung"] for d in dag.deadline] == [alert.rung for alert in alerts]
    assert {d.callback.path for d in dag.deadline} == {"upkeep.escalation.deadline_missed"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_dag_file_is_found_by_safe_mode(path: Path):
    """Airflow silently skips files that do not contain both words."""
    text = path.read_bytes().lower()
    assert b"airflow" in text and b"dag" in text


def test_parsing_imports_no_driver_and_no_routine():
    """Heavy imports in a DAG file cost every parse of it (bench/parse.py has the figures)."""
    heavy = ("psycopg", "boto3", "httpx", "redis", "numpy", "pandas", "docker", "upkeep.routines.", "upkeep.adapters.")
    program = (
        "import sys, importlib.util\n"
        "import airflow.sdk, airflow.sdk.definitions.dag\n"
        "before = set(sys.modules)\n"
        f"for path in {[str(p) for p in FILES]!r}:\n"
        "    spec = importlib.util.spec_from_file_location('parsed', path)\n"
        "    module = importlib.util.module_from_spec(spec)\n"
        "    spec.loader.exec_module(module)\n"
        f"print([name for name in set(sys.modules) - before if name.startswith({heavy!r})])\n"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "plugins"), *sys.path]))}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_airflow_lists_no_import_errors(metadata_db: None):
    """`airflow dags list-import-errors` is empty."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(ROOT / "dags", bundle_name="cadences", safe_mode=True, load_op_links=False)
    assert bag.import_errors == {}
    assert {c.dag_id for c in Cadence} <= set(bag.dags)


def test_plugins_folder_hides_the_package_from_airflow():
    """Without this file Airflow executes every module of the package under its bare name and shadows the library's."""
    assert "upkeep/" in (ROOT / "plugins" / ".airflowignore").read_text().split()


def context(start: datetime | None, end: datetime | None, run_type: str = "scheduled", tries: int = 1):
    """Just what `Run.of` reads of Airflow's context."""
    dag_run = SimpleNamespace(
        dag_id="maintenance_daily", run_id="r", run_type=run_type, data_interval_start=start, data_interval_end=end
    )
    timetable = SimpleNamespace(expression="0 1 * * *", timezone="UTC")
    return {
        "dag_run": dag_run,
        "dag": SimpleNamespace(timetable=timetable),
        "ti": SimpleNamespace(try_number=tries, max_tries=2),
        "params": {},
    }


AT = datetime(2026, 11, 21, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("end", "now", "newest"),
    [
        (AT, AT + timedelta(minutes=1), True),
        (AT, AT + timedelta(hours=23), True),
        (AT - DAY, AT + timedelta(minutes=1), False),
        (AT - 10 * DAY, AT, False),
    ],
)
def test_the_newest_window_is_the_last_one_that_ended(end: datetime, now: datetime, newest: bool):
    """A late start of tonight's run still speaks of now; last Tuesday's does not."""
    run = Run.of(context(end - DAY, end), now)
    assert run.window.newest is newest


@pytest.mark.parametrize("now", [AT, AT + timedelta(seconds=1), AT + DAY - timedelta(seconds=1)])
def test_a_run_without_window_answers_for_the_newest_whole_one(now: datetime):
    """Triggered without a logical date it says what the scheduler's run of that window says."""
    run = Run.of(context(None, None, "manual"), now)
    assert run.window == Window(start=AT - DAY, end=AT, newest=True)
    assert run.type is RunType.MANUAL


def test_the_last_try_is_known():
    """Two retries make three tries."""
    assert [Run.of(context(None, None, tries=n), AT).last_try for n in (1, 2, 3)] == [False, False, True]
