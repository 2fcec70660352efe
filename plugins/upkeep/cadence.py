"""`cadence_dag`: what every cadence DAG has in common. Imported when DAG files are parsed, so it imports little."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import DAG, CronDataIntervalTimetable, Param

from upkeep.core.cadence import Cadence
from upkeep.core.routine import routine_name
from upkeep.escalation import build_deadlines, routine_failed
from upkeep.operators.policy import RETRY_POLICY
from upkeep.operators.report import ReportOperator, VerdictOperator
from upkeep.operators.select import SelectTargetsOperator, routine_paths
from upkeep.systems.index import read_index

FIRST_DAY = pendulum.datetime(2025, 1, 1, tz="UTC")
# The longest that one routine on one target may take; a hung one must not hold its worker for ever.
ROUTINE_TIMEOUT = {
    Cadence.DAILY: timedelta(hours=6),
    Cadence.WEEKLY: timedelta(hours=12),
    Cadence.MONTHLY: timedelta(hours=24),
    Cadence.QUARTERLY: timedelta(hours=24),
}


@contextmanager
def cadence_dag(cadence: Cadence, *, doc_md: str | None = None, **overrides: Any) -> Iterator[DAG]:
    """Yield the DAG of a cadence; on leaving, add `report` and `verdict` after everything else.

    The schedule's time zone is `UPKEEP_TIMEZONE` (default UTC). `overrides` are passed on to `DAG`.
    """
    index = read_index()
    settings: dict[str, Any] = {
        "dag_id": cadence.dag_id,
        "description": f"{cadence.value.capitalize()} maintenance of every system",
        "schedule": CronDataIntervalTimetable(cadence.cron, timezone=os.environ.get("UPKEEP_TIMEZONE", "UTC")),
        "start_date": FIRST_DAY,
        "catchup": False,
        "max_active_runs": 1,
        "doc_md": doc_md,
        "tags": ["maintenance", cadence.value],
        "default_args": _default_args(cadence),
        "deadline": build_deadlines(cadence, index.deadlines(cadence)) or None,
        "render_template_as_native_obj": False,
    }
    with DAG(**(settings | overrides)) as dag:
        yield dag
        _close(dag, index.names)


def _default_args(cadence: Cadence) -> dict[str, Any]:
    return {
        "owner": "maintenance",
        "retries": 2,
        "retry_delay": timedelta(seconds=float(os.environ.get("UPKEEP_RETRY_SECONDS", "60"))),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=15),
        "retry_policy": RETRY_POLICY,
        "execution_timeout": ROUTINE_TIMEOUT[cadence],
        "on_failure_callback": routine_failed,
        "trigger_rule": "all_done",
    }


def _close(dag: DAG, systems: tuple[str, ...]) -> None:
    """Add the last two tasks and the params, which follow from what has been wired."""
    leaves = [task for task in dag.tasks if not task.downstream_task_ids]
    report = ReportOperator(task_id="report")
    verdict = VerdictOperator(task_id="verdict", retries=0)
    leaves >> report
    # The verdict waits for the work as well as for the report: "clear only failed" leaves a report that succeeded as it
    # is, and a verdict that followed it alone would not wait for what is done again.
    [*leaves, report] >> verdict
    dag.params.update(_params(systems, [routine_name(path) for path in routine_paths(dag)]))


def _params(systems: tuple[str, ...], routines: list[str]) -> dict[str, Param]:
    """Return the form that a manual run shows. Null means "as the system files say"."""
    return {
        "systems": Param(
            None,
            type=["null", "array"],
            items={"type": "string"},
            examples=list(systems),
            title="Systems",
            description="Only these systems; empty for all.",
        ),
        "routines": Param(
            None,
            type=["null", "array"],
            items={"type": "string"},
            examples=routines,
            title="Routines",
            description="Only these routines; empty for all.",
        ),
        "dry_run": Param(False, type="boolean", title="Dry run", description="Look and plan, but change nothing."),
        "escalate": Param(
            False,
            type="boolean",
            title="Escalate",
            description="Tell the contacts also when this manual run is late or finds trouble.",
        ),
        "settings": Param(
            None,
            type=["null", "object"],
            additionalProperties={"type": ["null", "object"]},
            title="Settings",
            description='Settings above those of the system files, for example {"backup.postgres": {"jobs": 4}}.',
        ),
    }


__all__ = ["Cadence", "SelectTargetsOperator", "cadence_dag"]
