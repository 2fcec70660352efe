"""`cadence_dag`: what every cadence DAG has in common. Imported when DAG files are parsed, so it imports little."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import DAG, CronDataIntervalTimetable, Param, TaskGroup

from upkeep.core.cadence import Cadence
from upkeep.core.routine import routine_name
from upkeep.escalation import build_deadlines, routine_failed
from upkeep.operators.policy import RETRY_POLICY
from upkeep.operators.proposals import APPROVALS, AskOperator, ProposalsOperator
from upkeep.operators.report import ReportOperator, VerdictOperator
from upkeep.operators.select import SelectTargetsOperator, routine_paths
from upkeep.systems.index import read_index

OUTSIDE_WINDOW = Param(
    False,
    type="boolean",
    title="Outside the maintenance window",
    description="Work now, also where the maintenance window of a system is closed.",
)
ESCALATE = Param(
    False,
    type="boolean",
    title="Escalate",
    description="Tell the contacts also when this manual run is late or finds trouble.",
)
SETTINGS = Param(
    None,
    type=["null", "object"],
    additionalProperties={"type": ["null", "object"]},
    title="Settings",
    description='Settings above those of the system files, for example {"backup.postgres": {"jobs": 4}}.',
)
FIRST_DAY = pendulum.datetime(2025, 1, 1, tz="UTC")
# The longest that one routine on one target may take; a hung one must not hold its worker for ever.
ROUTINE_TIMEOUT = {
    Cadence.DAILY: timedelta(hours=6),
    Cadence.WEEKLY: timedelta(hours=12),
    Cadence.MONTHLY: timedelta(hours=24),
    Cadence.QUARTERLY: timedelta(hours=24),
}
# The longest that work which belongs into the maintenance window of its system waits for it, without a worker; longer
# than that it would run into the next run of its cadence.
WINDOW_WAIT = {
    Cadence.DAILY: timedelta(hours=12),
    Cadence.WEEKLY: timedelta(hours=24),
    Cadence.MONTHLY: timedelta(days=7),
    Cadence.QUARTERLY: timedelta(days=7),
}
APPROVED_WAIT = timedelta(days=7)


@contextmanager
def cadence_dag(cadence: Cadence, *, doc_md: str | None = None, **overrides: Any) -> Iterator[DAG]:
    """Yield the DAG of a cadence; on leaving, add the requests for approvals, `report` and `verdict` at the end.

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
        "default_args": _default_args(ROUTINE_TIMEOUT[cadence], WINDOW_WAIT[cadence]),
        "deadline": build_deadlines(cadence, index.deadlines(cadence)) or None,
        "render_template_as_native_obj": False,
    }
    with DAG(**(settings | overrides)) as dag:
        yield dag
        _close(dag, index.names)


@contextmanager
def approval_dag(*, doc_md: str | None = None, **overrides: Any) -> Iterator[DAG]:
    """Yield the DAG whose runs each ask a person about one routine's proposals on one target, and then do them."""
    settings: dict[str, Any] = {"dag_id": APPROVALS, "tags": ["maintenance", "approval"], "params": _approval_params()}
    with runbook_dag(
        "Changes that a person must agree to before they are made", doc_md=doc_md, **settings | overrides
    ) as dag:
        yield dag


@contextmanager
def runbook_dag(description: str, *, doc_md: str | None = None, **overrides: Any) -> Iterator[DAG]:
    """Yield a DAG that people start by hand and that asks one of them; on leaving, add `report` and `verdict`.

    It has no schedule and is never paused from the start: a request that waits in a paused DAG asks nobody.
    """
    settings: dict[str, Any] = {
        "description": description,
        "schedule": None,
        "start_date": FIRST_DAY,
        "catchup": False,
        # A request waits for days without a worker; the next one must not queue behind it, where nobody sees it.
        "max_active_runs": 1000,
        "is_paused_upon_creation": False,
        "doc_md": doc_md,
        "tags": ["maintenance", "emergency"],
        "default_args": _default_args(max(ROUTINE_TIMEOUT.values()), APPROVED_WAIT)
        | {
            "trigger_rule": "all_success",
            # The verdict tells the owners of the routine, whose name is known there.
            "on_failure_callback": None,
        },
        "render_template_as_native_obj": False,
    }
    with DAG(**(settings | overrides)) as dag:
        yield dag
        _end(dag, [task for task in dag.tasks if not task.downstream_task_ids])


def _default_args(longest: timedelta, window_wait: timedelta) -> dict[str, Any]:
    return {
        "owner": "maintenance",
        "retries": 2,
        "retry_delay": timedelta(seconds=float(os.environ.get("UPKEEP_RETRY_SECONDS", "60"))),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=15),
        "retry_policy": RETRY_POLICY,
        "execution_timeout": longest,
        "window_wait": window_wait,
        "on_failure_callback": routine_failed,
        "teller": "upkeep.escalation.request_opened",
        "trigger_rule": "all_done",
    }


def _close(dag: DAG, systems: tuple[str, ...]) -> None:
    """Add the last tasks and the params, which follow from what has been wired."""
    leaves = [task for task in dag.tasks if not task.downstream_task_ids]
    with TaskGroup("approvals", dag=dag):
        proposals = ProposalsOperator(task_id="propose")
        # The rule stands here because the scheduler reads it of what is mapped, where the DAG's default would win.
        ask = AskOperator.partial(
            task_id="ask", map_index_template="{{ task.request_id }}", trigger_rule="all_success"
        ).expand(request=proposals.output)
    leaves >> proposals
    _end(dag, [*leaves, ask])
    dag.params.update(_params(systems, [routine_name(path) for path in routine_paths(dag)]))


def _end(dag: DAG, leaves: list[Any]) -> None:
    report = ReportOperator(task_id="report")
    verdict = VerdictOperator(task_id="verdict", retries=0, on_failure_callback=routine_failed)
    leaves >> report
    # The verdict waits for the work as well as for the report: "clear only failed" leaves a report that succeeded as it
    # is, and a verdict that followed it alone would not wait for what is done again.
    [*leaves, report] >> verdict


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
        "outside_window": OUTSIDE_WINDOW,
        "escalate": ESCALATE,
        "settings": SETTINGS,
    }


def _approval_params() -> dict[str, Param]:
    """Return the form of a request by hand; a run of a cadence that asks fills in the last three."""
    return {
        "target": Param(
            None, type=["null", "string"], title="Target", description="What to work on, for example claims/db."
        ),
        "routine": Param(
            None,
            type=["null", "string"],
            title="Routine",
            description="Which routine; it looks and plans, and you are asked about what needs a person.",
        ),
        "outside_window": OUTSIDE_WINDOW,
        "escalate": ESCALATE,
        "settings": SETTINGS,
        "systems": Param(None, type=["null", "array"], title="Systems", description="Filled in by the run that asks."),
        "actions": Param(None, type=["null", "array"], title="Actions", description="Filled in by the run that asks."),
        "proposed_by": Param(
            None, type=["null", "object"], title="Proposed by", description="Filled in by the run that asks."
        ),
    }


__all__ = ["ESCALATE", "SETTINGS", "Cadence", "SelectTargetsOperator", "approval_dag", "cadence_dag", "runbook_dag"]
