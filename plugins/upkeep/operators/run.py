"""Airflow's context of a running task, as this package's own words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from upkeep.core.cadence import Cadence, RunType, Window
from upkeep.core.model import Model
from upkeep.ledger.events import RunKey
from upkeep.operators import params

if TYPE_CHECKING:
    from airflow.sdk import Context


class Run(Model):
    """The run that a task belongs to: which, of what kind, for which window, with which params."""

    key: RunKey
    type: RunType
    window: Window
    params: dict[str, Any]
    try_number: int
    last_try: bool

    @classmethod
    def of(cls, context: Context, now: datetime) -> Run:
        """Read the run from a task's context."""
        dag_run, ti = context["dag_run"], context["ti"]
        return cls(
            key=RunKey(dag_id=dag_run.dag_id, run_id=dag_run.run_id),
            type=RunType.of(dag_run.run_type),
            window=_window(dag_run, _cron_of(context["dag"]), now),
            params=dict(context["params"]),
            try_number=ti.try_number,
            last_try=ti.try_number > (ti.max_tries or 0),
        )

    @property
    def dry_run(self) -> bool:
        """Whether routines stop after planning."""
        return bool(self.params.get("dry_run"))

    @property
    def outside_window(self) -> bool:
        """Whether a person has decided to work outside the maintenance window; what the scheduler starts never does."""
        return self.type is RunType.MANUAL and bool(self.params.get("outside_window"))

    @property
    def systems(self) -> list[str] | None:
        """The systems asked for, None for all."""
        return params.names(self.params, "systems")

    @property
    def routines(self) -> list[str] | None:
        """The routines asked for, None for all."""
        return params.names(self.params, "routines")

    def settings(self, routine: str) -> dict[str, Any]:
        """Return the settings that the run's params override for a routine."""
        return params.settings(self.params, routine)


def cadence_of(dag_id: str) -> Cadence | None:
    """Return the cadence whose DAG this is, None for a DAG of somebody else."""
    return next((c for c in Cadence if c.dag_id == dag_id), None)


def _cron_of(dag: Any) -> tuple[str, str] | None:
    """Return cron expression and time zone of a DAG's timetable, None when it has none."""
    timetable = getattr(dag, "timetable", None)
    expression = getattr(timetable, "expression", None)
    return (expression, str(getattr(timetable, "timezone", "UTC"))) if expression else None


def _window(dag_run: Any, cron: tuple[str, str] | None, now: datetime) -> Window:
    """Return the window of a run.

    One without a data interval (triggered without a logical date) answers for the newest whole window, as Airflow has
    it for one with; in a DAG that no clock starts, for this moment.
    """
    start, end = dag_run.data_interval_start, dag_run.data_interval_end
    if start is not None and end is not None:
        return Window(start=start, end=end, newest=cron is None or _tick(end, cron, 1) > now)
    if cron is None:
        return Window(start=now, end=now)
    end = _tick(now, cron, -1) if _tick(_tick(now, cron, -1), cron, 1) > now else now
    return Window(start=_tick(end, cron, -1), end=end)


def _tick(moment: datetime, cron: tuple[str, str], step: Literal[1, -1]) -> datetime:
    """Return the next time after a moment at which a DAG is due, or the last one before it.

    As Airflow's timetable does it, in local time: croniter is wrong about clock changes. A time that comes twice is
    meant the second time, one that the clock leaves out an hour later.
    """
    from zoneinfo import ZoneInfo

    from croniter import croniter

    expression, zone = cron
    local = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    ticks = croniter(expression, local)
    found: datetime = ticks.get_next(datetime) if step > 0 else ticks.get_prev(datetime)
    return max(found.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1))
