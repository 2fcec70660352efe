"""`RoutineOperator`: runs one routine on one target, by the one lifecycle."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

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
    from upkeep.operators.window import Pass, Wait

WINDOW_WAIT = timedelta(hours=24)


class RoutineOperator(BaseOperator):
    """Run one routine on one target.

    A subclass names its routine by dotted path in `routine`; the module is imported when the task runs, not when a
    DAG file is parsed. Holds only strings and plain values, so that it maps, serialises and can be used in any DAG.

    :param target: what to work on, `{"id": "claims/db", ...}`, as `SelectTargetsOperator` hands it out, or the id.
    :param settings: settings of the routine for this DAG; they stand above the system file and below the run's params.
    :param window_wait: how long a routine that works only in the maintenance window waits for it, without a worker;
        where it would have to wait longer, it is skipped.
    """

    routine: ClassVar[str]
    ui_color = "#e8f1f8"
    # So that Airflow fills in what a mapped task group hands to its tasks.
    template_fields: Sequence[str] = ("target",)
    _working = False
    _approved: frozenset[tuple[str, str]] | None = None
    """Name and subject of the only actions to do; None in a run that nobody was asked about."""
    _objects: Mapping[tuple[str, str], Any] = MappingProxyType({})
    """By name and subject, the ids of the objects that a person was asked about."""

    def __init__(
        self,
        *,
        target: dict[str, Any] | str,
        settings: dict[str, Any] | None = None,
        window_wait: timedelta = WINDOW_WAIT,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("retry_policy", RETRY_POLICY)
        kwargs.setdefault("map_index_template", "{{ task.target_id }}")
        super().__init__(**kwargs)
        self.target = target
        self.settings = settings or {}
        self.window_wait = window_wait

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

    def render_template(self, content: Any, context: Context, *more: Any, **named: Any) -> Any:
        """Fill in a target that comes from a mapped task group; what stands in it is data and never a template."""
        if content is self.target:
            resolve = getattr(content, "resolve", None)
            return resolve(context) if resolve else content
        return super().render_template(content, context, *more, **named)

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the routine; the return value is a summary, the evidence goes to the ledger."""
        return self._guarded(context, None)

    def resume(self, context: Context, event: Any, since: str) -> dict[str, Any]:  # noqa: ARG002 # Airflow gives it
        """Go on after waiting for the maintenance window: all is decided anew, for much may have changed meanwhile."""
        return self._guarded(context, datetime.fromisoformat(since))

    def on_kill(self) -> None:
        """End the work in hand, so that its programs end and its row is closed.

        Airflow calls this from the handler of SIGTERM, in the main thread, and kills the process 5 s later: when a
        person has marked the task, or its worker shuts down.
        """
        if self._working:
            self._working = False
            raise Stopped("the task was ended from outside: marked by a person, or its worker was shut down")

    def _guarded(self, context: Context, since: datetime | None) -> dict[str, Any]:
        self._working = True
        try:
            return self._execute(context, since)
        finally:
            self._working = False

    def _execute(self, context: Context, since: datetime | None) -> dict[str, Any]:
        from airflow.sdk.exceptions import AirflowSkipException

        from upkeep.core.model import Severity
        from upkeep.ledger.events import RoutineKey
        from upkeep.operators import wiring
        from upkeep.operators.lifecycle import Lifecycle, Row
        from upkeep.operators.window import Wait

        run, path = self._begin(context), self._path
        name = routine_name(path)
        if run.routines is not None and name not in run.routines:
            raise AirflowSkipException(f"{name} was not selected in the run's params")
        facts = {"routine": name, "target": self.target_id, "try_number": run.try_number, "task": self.task_id}
        key = RoutineKey(**run.key.model_dump(), **facts)
        since = since or wiring.now()
        with wiring.open_ledger() as ledger:
            row = Row(ledger, key, wiring.now)
            try:
                routine = Routine.load(path)
                work = self._why_not(run, routine) or self._prepare(run, routine, key, ledger, since)
            except BaseException as error:
                row.open()
                row.close_failed(error, run.last_try)
                raise
            if isinstance(work, Lifecycle):
                return self._done(work)
            row.open(routine)
            if isinstance(work, Wait):
                row.wait(work.reason, work.opens)
                self.log.info("%s", work.reason)
                self._wait(work.opens, since)
            if not isinstance(work, str):
                row.find(work.finding)
                work = work.reason
            row.close("skipped", Severity.OK, work)
            raise AirflowSkipException(work)

    def _begin(self, context: Context) -> Run:
        """Return the run that the task belongs to; a subclass learns here what it is to do."""
        from upkeep.operators import wiring
        from upkeep.operators.run import Run

        return Run.of(context, wiring.now())

    @property
    def _path(self) -> str:
        """The dotted path of the routine."""
        return self.routine

    def _done(self, work: Lifecycle) -> dict[str, Any]:
        """Do the work and return its summary."""
        return work.run().model_dump(mode="json")

    def _wait(self, opens: datetime, since: datetime) -> NoReturn:
        """Give the worker back until a moment; the triggerer wakes the task up then."""
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        self.defer(trigger=DateTimeTrigger(moment=opens), method_name="resume", kwargs={"since": since.isoformat()})
        raise AssertionError("defer() has returned")

    def _why_not(self, run: Run, routine: Routine) -> str:
        """Return why this routine has nothing to do in this run, empty when it has."""
        if routine.covers is Covers.NOW and not run.window.newest:
            return (
                f"{routine.name} reports the state of now, and the window {run.window.start:%Y-%m-%d %H:%M} to"
                f" {run.window.end:%Y-%m-%d %H:%M} is past: the run of {run.key.dag_id} for the newest window covers it"
            )
        skips = self.target.get("skip", {}) if isinstance(self.target, dict) else {}
        return f"excluded by the system file: {skips[routine.name]}" if routine.name in skips else ""

    def _prepare(
        self, run: Run, routine: Routine, key: RoutineKey, ledger: Ledger, since: datetime
    ) -> Lifecycle | Wait | Pass:
        """Return the work, ready to run, or why it does not run now."""
        from upkeep.core.job import Job
        from upkeep.ledger.catalogue import LedgerCatalogue
        from upkeep.ledger.store import LedgerHistory
        from upkeep.operators import wiring
        from upkeep.operators.lifecycle import Lifecycle
        from upkeep.operators.window import Begin, decide
        from upkeep.systems.load import load_system

        system = load_system(self.target_id.split("/", 1)[0])
        target = system.target(self.target_id)
        settings = routine.resolve_settings(
            (f"{system.name}.yaml settings", system.settings.get(routine.name, {})),
            (f"{system.name}.yaml target {target.id}", target.settings.get(routine.name, {})),
            (f"DAG {run.key.dag_id}", self.settings),
            ("params of this run", run.settings(routine.name)),
        )
        free = run.dry_run or run.outside_window
        when = decide(routine, system, wiring.now(), since=since, longest=self.window_wait, free=free)
        if not isinstance(when, Begin):
            return when
        job: Job[Any, Any] = Job(
            routine=routine.name,
            target=target,
            system=system,
            settings=settings,
            window=run.window,
            run_id=run.key.run_id,
            try_number=run.try_number,
            tools=wiring.make_tools(
                LedgerHistory(ledger, key, run.window.start if routine.covers is Covers.WINDOW else None),
                LedgerCatalogue(ledger, run.key),
                logging.getLogger(f"upkeep.{routine.name}"),
            ),
            until=when.until,
        )
        return Lifecycle(
            routine,
            job,
            key,
            ledger,
            dry_run=run.dry_run,
            last_try=run.last_try,
            approved=self._approved,
            objects=self._objects,
            alone=wiring.alone_on(routine, target, run.dry_run, when.until),
        )
