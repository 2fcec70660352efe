"""The approval DAG's tasks: what is asked, the answer, and the work that was agreed to."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator  # noqa: TID253 # only the approval DAG does
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict

from upkeep.operators import request
from upkeep.operators.base import RoutineOperator
from upkeep.operators.policy import RETRY_POLICY
from upkeep.operators.proposals import ANSWER_WITHIN, ASK, tell

if TYPE_CHECKING:
    from airflow.sdk import Context

    from upkeep.core.model import Action
    from upkeep.core.routine import Routine
    from upkeep.ledger.events import RoutineKey
    from upkeep.ledger.store import Ledger
    from upkeep.operators.lifecycle import Lifecycle
    from upkeep.operators.run import Run
    from upkeep.operators.window import Pass, Wait

REQUEST, DO = "request", "do"


class _ChosenRoutineOperator(RoutineOperator):
    """Runs the routine that the run's params name, on the target that they name."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(target="", **kwargs)
        self._chosen = ""

    def _begin(self, context: Context) -> Run:
        from upkeep.operators import params

        run = super()._begin(context)
        self.target, name = params.one_name(run.params, "target"), params.one_name(run.params, "routine")
        paths = request.paths_of_routines()
        params.check_names("routine", [name], paths)
        self._chosen = paths[name]
        return run

    def _why_not(self, run: Run, routine: Routine) -> str:
        from upkeep.systems.load import load_system

        system = load_system(self.target_id.split("/", 1)[0])
        self.target = {"id": self.target_id, "skip": system.target(self.target_id).skip}
        return super()._why_not(run, routine)

    @property
    def _path(self) -> str:
        return self._chosen


class RequestOperator(_ChosenRoutineOperator):
    """Open the run and say what a person is to be asked: what was proposed or, in a run by hand, what would be.

    By hand the routine looks and plans, and does nothing; when it has nothing that needs a person, the run ends here.

    :param teller: dotted path of the function that tells people of the request; see `proposals.tell`.
    """

    ui_color = "#f6f0e2"
    _planned: tuple[Action, ...] = ()

    def __init__(self, *, teller: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.teller = teller

    def execute(self, context: Context) -> dict[str, Any]:
        """Return subject, body and actions of the request."""
        from airflow.sdk.exceptions import AirflowSkipException

        from upkeep.core.model import Action
        from upkeep.operators import wiring

        run = self._begin(context)
        with wiring.open_ledger() as ledger:
            self._open(run, ledger)
        if given := run.params.get("actions"):
            actions = tuple(Action.model_validate(one) for one in given)
        else:
            actions = self._look(context)
            if not actions:
                with wiring.open_ledger() as ledger:
                    ledger.write(request.expected(run, REQUEST))
                raise AirflowSkipException(f"{self.target_id}: nothing that needs an approval")
            asked = request.asked(run.key, run.params, actions)
            with wiring.open_ledger() as ledger:
                ledger.write(asked)
            tell(self.teller, asked, run)
        return request.question(run.params, actions, self.window_wait)

    def _begin(self, context: Context) -> Run:
        run = super()._begin(context)
        return run.model_copy(update={"params": run.params | {"dry_run": True}})

    def _look(self, context: Context) -> tuple[Action, ...]:
        """Let the routine plan; return what needs a person, which is nothing where the system file excludes it."""
        from airflow.sdk.exceptions import AirflowSkipException

        try:
            super().execute(context)
        except AirflowSkipException as skipped:
            self.log.info("%s", skipped)
        return self._planned

    def _done(self, work: Lifecycle) -> dict[str, Any]:
        summary = super()._done(work)
        self._planned = tuple(action for action in work.planned if action.approval)
        return summary

    def _open(self, run: Run, ledger: Ledger) -> None:
        """Note the run, and that it must produce a result.

        :raises ConfigurationError: target and routine do not go together.
        """
        from upkeep.ledger.events import RunOpened
        from upkeep.operators import params, wiring

        request.check(run.params)
        ledger.write(
            RunOpened(
                at=wiring.now(),
                run=run.key,
                cadence=run.key.dag_id,
                run_type=run.type,
                window_start=None,
                window_end=None,
                params=params.without_secrets({**run.params, "dry_run": False}),
            ),
            request.expected(run, DO),
        )


class AskPersonOperator(ApprovalOperator):
    """Ask under Airflow's Required Actions, park without a worker, and record who answered what.

    No answer in time counts as a rejection, and says so.
    """

    ui_color = "#f6f0e2"

    def __init__(self, **kwargs: Any) -> None:
        said = "{{ ti.xcom_pull(task_ids='" + REQUEST + "')['%s'] }}"
        kwargs.setdefault("subject", said % "subject")
        kwargs.setdefault("body", said % "body")
        kwargs.setdefault("response_timeout", ANSWER_WITHIN)
        kwargs.setdefault("defaults", self.REJECT)
        kwargs.setdefault("retry_policy", RETRY_POLICY)
        super().__init__(**kwargs)
        # Not an argument: Airflow has put the DAG's own params there.
        self.params = ParamsDict({request.ONLY: _only_field([])})

    def execute(self, context: Context) -> Any:
        """Ask, with the changes to choose from."""
        asked = context["ti"].xcom_pull(task_ids=REQUEST)["actions"]
        self.params = ParamsDict({request.ONLY: _only_field([request.label(action) for action in asked])})
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Record the answer and let the work begin, or not."""
        if "error" not in event:
            self._record(context, event)
        return super().execute_complete(context, event)

    def _record(self, context: Context, event: dict[str, Any]) -> None:
        from upkeep.core.model import Action, Severity
        from upkeep.core.routine import Routine
        from upkeep.ledger.events import ApprovalDecided, RoutineKey
        from upkeep.operators import wiring
        from upkeep.operators.lifecycle import Row
        from upkeep.operators.run import Run

        run, user = Run.of(context, wiring.now()), event.get("responded_by_user") or {}
        target, name = run.params["target"], run.params["routine"]
        yes = event["chosen_options"] == [self.APPROVE]
        asked = context["ti"].xcom_pull(task_ids=REQUEST)["actions"]
        actions = request.chosen(asked, event) if yes else asked
        decided = ApprovalDecided(
            at=request.moment(event.get("responded_at")) or wiring.now(),
            run=run.key,
            routine=name,
            target=target,
            system=target.split("/", 1)[0],
            decision="approved" if yes else "rejected" if user else "expired",
            by=str(user.get("name") or user.get("id") or ""),
            by_id=str(user.get("id") or ""),
            actions=tuple(Action.model_validate(one) for one in actions),
        )
        with wiring.open_ledger() as ledger:
            ledger.write(decided)
            if not yes:
                key = RoutineKey(**run.key.model_dump(), routine=name, target=target, try_number=1, task=DO)
                row = Row(ledger, key, wiring.now)
                row.open(Routine.load(request.paths_of_routines()[name]))
                by = f"rejected by {decided.by}" if user else f"nobody answered within {self.response_timeout}"
                row.close("skipped", Severity.OK, f"{by}: nothing was done")
        self.log.info("%s by %s: %d actions", decided.decision, decided.by or "nobody", len(decided.actions))


class ApprovedChangesOperator(_ChosenRoutineOperator):
    """Do what was agreed to: the routine observes and plans anew, and does only the actions that were approved.

    What is no longer in its plan is recorded and not done.
    """

    ui_color = "#f6e4e0"

    _answer: Any = None
    _asked: Any = None

    def _begin(self, context: Context) -> Run:
        run, ti = super()._begin(context), context["ti"]
        self._answer, self._asked = ti.xcom_pull(task_ids=ASK), ti.xcom_pull(task_ids=REQUEST)
        return run

    def _prepare(
        self, run: Run, routine: Routine, key: RoutineKey, ledger: Ledger, since: datetime
    ) -> Lifecycle | Wait | Pass:
        """Prepare what was approved, and nothing else.

        :raises UnsafeError: nobody has approved anything: the task that asks was marked as done by hand.
        """
        from upkeep.core.errors import UnsafeError

        if not self._asked or not self._answer or self._answer.get("chosen_options") != [ApprovalOperator.APPROVE]:
            raise UnsafeError(
                f"{self.target}: nobody has approved this; the task {ASK!r} has no answer",
                f"clear the task {ASK!r} and answer it under Required Actions",
            )
        chosen = request.chosen(self._asked["actions"], self._answer)
        self._objects = {(a["name"], a["subject"]): (a.get("details") or {}).get("oid") for a in chosen}
        self._approved = frozenset(self._objects)
        return super()._prepare(run, routine, key, ledger, since)


def _only_field(labels: list[str]) -> Param:
    """Return the field of the question's form in which a person may agree to some of the changes only."""
    return Param(
        [],
        type=["null", "array"],
        items={"type": "string"},
        examples=labels,
        title="Only these changes",
        description="Approve these and leave the others; empty: all of them.",
    )
