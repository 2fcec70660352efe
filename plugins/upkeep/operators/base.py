"""`RoutineOperator`: runs one routine on one target, by the one lifecycle."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from upkeep.core.cadence import Covers
from upkeep.core.routine import Routine, routine_name
from upkeep.operators.policy import RETRY_POLICY, Stopped

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    from upkeep.ledger.events import RoutineKey
    from upkeep.ledger.store import Ledger
    from upkeep.operators.lifecycle import Lifecycle
    from upkeep.operators.run import Run


class RoutineOperator(BaseOperator):
    """Run one routine on one target.

    A subclass names its routine by dotted path in `routine`; the module is imported when the task runs, not when a
    DAG file is parsed. Holds only strings and plain values, so that it maps, serialises and can be used in any DAG.

    :param target: what to work on, `{"id": "claims/db", ...}`, as `SelectTargetsOperator` hands it out, or the id.
    :param settings: settings of the routine for this DAG; they stand above the system file and below the run's params.
    """

    routine: ClassVar[str]
    ui_color = "#e8f1f8"
    template_fields: Sequence[str] = ()
    _working = False

    def __init__(self, *, target: dict[str, Any] | str, settings: dict[str, Any] | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("retry_policy", RETRY_POLICY)
        super().__init__(**kwargs)
        self.target = target
        self.settings = settings or {}

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """Prepare for `expand(target=...)`; the mapped tasks are labelled with their target."""
        kwargs.setdefault("map_index_template", "{{ task.target_id }}")
        prepared: OperatorPartial = super().partial(**kwargs)
        return prepared

    @property
    def target_id(self) -> str:
        """The id of the target, such as `claims/db`."""
        target = self.target
        return str(target["id"]) if isinstance(target, dict) else str(target)

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the routine; the return value is a summary, the evidence goes to the ledger."""
        self._working = True
        try:
            return self._execute(context)
        finally:
            self._working = False

    def on_kill(self) -> None:
        """End the work in hand, so that its programs end and its row is closed.

        Airflow calls this from the handler of SIGTERM, in the main thread, and kills the process 5 s later: when a
        person has marked the task, or its worker shuts down.
        """
        if self._working:
            self._working = False
            raise Stopped("the task was ended from outside: marked by a person, or its worker was shut down")

    def _execute(self, context: Context) -> dict[str, Any]:
        from airflow.sdk.exceptions import AirflowSkipException

        from upkeep.core.model import Severity
        from upkeep.ledger.events import RoutineKey
        from upkeep.operators import wiring
        from upkeep.operators.lifecycle import Row
        from upkeep.operators.run import Run

        run, name = Run.of(context, wiring.now()), routine_name(self.routine)
        if run.routines is not None and name not in run.routines:
            raise AirflowSkipException(f"{name} was not selected in the run's params")
        key = RoutineKey(**run.key.model_dump(), routine=name, target=self.target_id, try_number=run.try_number)
        with wiring.open_ledger() as ledger:
            row = Row(ledger, key, wiring.now)
            try:
                routine = Routine.load(self.routine)
                reason = self._why_not(run, routine)
                lifecycle = None if reason else self._lifecycle(run, routine, key, ledger)
            except BaseException as error:
                row.open()
                row.close_failed(error, run.last_try)
                raise
            if lifecycle is None:
                row.open(routine)
                row.close("skipped", Severity.OK, reason)
                raise AirflowSkipException(reason)
            return lifecycle.run().model_dump(mode="json")

    def _why_not(self, run: Run, routine: Routine) -> str:
        """Return why this routine has nothing to do in this run, empty when it has."""
        if routine.covers is Covers.NOW and not run.window.newest:
            return (
                f"{routine.name} reports the state of now, and the window {run.window.start:%Y-%m-%d %H:%M} to"
                f" {run.window.end:%Y-%m-%d %H:%M} is past: the run of {run.key.dag_id} for the newest window covers it"
            )
        skips = self.target.get("skip", {}) if isinstance(self.target, dict) else {}
        return f"excluded by the system file: {skips[routine.name]}" if routine.name in skips else ""

    def _lifecycle(self, run: Run, routine: Routine, key: RoutineKey, ledger: Ledger) -> Lifecycle:
        from upkeep.core.job import Job
        from upkeep.ledger.store import LedgerHistory
        from upkeep.operators import wiring
        from upkeep.operators.lifecycle import Lifecycle
        from upkeep.systems.load import load_system

        system = load_system(self.target_id.split("/", 1)[0])
        target = system.target(self.target_id)
        settings = routine.resolve_settings(
            (f"{system.name}.yaml settings", system.settings.get(routine.name, {})),
            (f"{system.name}.yaml target {target.id}", target.settings.get(routine.name, {})),
            (f"DAG {run.key.dag_id}", self.settings),
            ("params of this run", run.settings(routine.name)),
        )
        job: Job[Any, Any] = Job(
            routine=routine.name,
            target=target,
            system=system,
            settings=settings,
            window=run.window,
            run_id=run.key.run_id,
            try_number=run.try_number,
            tools=wiring.make_tools(LedgerHistory(ledger, key), logging.getLogger(f"upkeep.{routine.name}")),
        )
        return Lifecycle(
            routine,
            job,
            key,
            ledger,
            dry_run=run.dry_run,
            last_try=run.last_try,
            alone=wiring.alone_on(routine, target, run.dry_run),
        )
