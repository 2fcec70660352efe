"""The approval DAG's tasks: what is asked, the answer, and the work that was agreed to."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator  # noqa: TID253 # only the approval DAG does

from upkeep.operators.base import RoutineOperator
from upkeep.operators.policy import RETRY_POLICY

if TYPE_CHECKING:
    from airflow.sdk import Context

    from upkeep.core.model import Action
    from upkeep.ledger.events import RunKey
    from upkeep.ledger.store import Ledger
    from upkeep.operators.lifecycle import Lifecycle
    from upkeep.operators.run import Run

REQUEST, ASK, DO = "request", "ask", "do"
# Shorter than a week: what is proposed again by the next weekly run is asked again by it.
ANSWER_WITHIN = timedelta(days=6)


class _ChosenRoutineOperator(RoutineOperator):
    """Runs the routine that the run's params name, on the target that they name."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(target="", **kwargs)
        self._chosen = ""

    def _begin(self, context: Context) -> Run:
        from upkeep.operators import params

        run = super()._begin(context)
        self.target, name = params.one_name(run.params, "target"), params.one_name(run.params, "routine")
        self._chosen = _routines()[name]
        return run

    @property
    def _path(self) -> str:
        return self._chosen


class RequestOperator(_ChosenRoutineOperator):
    """Open the run and say what a person is to be asked: what was proposed or, in a run by hand, what would be.

    By hand the routine looks and plans, and does nothing; when it has nothing that needs a person, the run ends here.
    """

    ui_color = "#f6f0e2"

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
            super().execute(context)
            actions = self._planned
            if not actions:
                raise AirflowSkipException(f"{self.target}: nothing that needs an approval")
            with wiring.open_ledger() as ledger:
                ledger.write(_asked(run.key, run.params, actions))
        return _question(run.params, actions, self.window_wait)

    def _begin(self, context: Context) -> Run:
        run = super()._begin(context)
        return run.model_copy(update={"params": run.params | {"dry_run": True}})

    def _done(self, work: Lifecycle) -> dict[str, Any]:
        summary = super()._done(work)
        self._planned = tuple(action for action in work.planned if action.approval)
        return summary

    def _open(self, run: Run, ledger: Ledger) -> None:
        """Note the run, and that it must produce a result.

        :raises ConfigurationError: target and routine do not go together.
        """
        from upkeep.ledger.events import Expected, RunOpened
        from upkeep.operators import params, wiring

        item = Expected.Item(routine=run.params["routine"], target=self.target_id, system=_check(run.params))
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
            Expected(at=wiring.now(), run=run.key, items=(item,)),
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
        decided = ApprovalDecided(
            at=_moment(event.get("responded_at")) or wiring.now(),
            run=run.key,
            routine=name,
            target=target,
            system=target.split("/", 1)[0],
            decision="approved" if yes else "rejected" if user else "expired",
            by=str(user.get("name") or user.get("id") or ""),
            by_id=str(user.get("id") or ""),
            actions=tuple(Action.model_validate(one) for one in asked),
        )
        with wiring.open_ledger() as ledger:
            ledger.write(decided)
            if not yes:
                key = RoutineKey(**run.key.model_dump(), routine=name, target=target, try_number=1, task=DO)
                row = Row(ledger, key, wiring.now)
                row.open(Routine.load(_routines()[name]))
                by = f"rejected by {decided.by}" if user else f"nobody answered within {self.response_timeout}"
                row.close("skipped", Severity.OK, f"{by}: nothing was done")
        self.log.info("%s by %s: %d actions", decided.decision, decided.by or "nobody", len(decided.actions))


class ApprovedChangesOperator(_ChosenRoutineOperator):
    """Do what was agreed to: the routine observes and plans anew, and does only the actions that were approved.

    What is no longer in its plan is recorded and not done.
    """

    ui_color = "#f6e4e0"

    def _begin(self, context: Context) -> Run:
        """Read what was approved.

        :raises UnsafeError: nobody has approved anything: the task that asks was marked as done by hand.
        """
        from upkeep.core.errors import UnsafeError

        run, ti = super()._begin(context), context["ti"]
        answer, asked = ti.xcom_pull(task_ids=ASK), ti.xcom_pull(task_ids=REQUEST)
        if not answer or answer.get("chosen_options") != [ApprovalOperator.APPROVE] or not asked:
            raise UnsafeError(
                f"{self.target}: nobody has approved this; the task {ASK!r} has no answer",
                f"clear the task {ASK!r} and answer it under Required Actions",
            )
        self._approved = frozenset((action["name"], action["subject"]) for action in asked["actions"])
        return run


def _routines() -> dict[str, str]:
    """Return the dotted path of every routine by its name."""
    from upkeep.core.routine import discover_paths, routine_name

    return {routine_name(path): path for path in discover_paths()}


def _check(given: dict[str, Any]) -> str:
    """Return the system of the target that the params name.

    :raises ConfigurationError: there is no such target or routine, or they do not go together.
    """
    from upkeep.core.errors import ConfigurationError
    from upkeep.core.routine import Routine
    from upkeep.operators import params
    from upkeep.systems.load import load_system

    paths = _routines()
    params.check_names("routine", [given["routine"]], paths)
    system = load_system(given["target"].split("/", 1)[0])
    kind, routine = system.target(given["target"]).kind, Routine.load(paths[given["routine"]])
    params.check_settings(given, {routine.name: routine})
    if kind not in routine.targets:
        raise ConfigurationError(
            f"params of this run: {routine.name} works on {', '.join(routine.targets)}; {given['target']} is {kind}",
            "correct the params and trigger again",
        )
    return system.name


def _asked(run: RunKey, given: dict[str, Any], actions: tuple[Action, ...]) -> Any:
    """Return the event of a request that a person has opened by hand."""
    from upkeep.ledger.events import ApprovalAsked
    from upkeep.operators import wiring

    target = given["target"]
    return ApprovalAsked(
        at=wiring.now(),
        run=run,
        request=run,
        routine=given["routine"],
        target=target,
        system=target.split("/", 1)[0],
        actions=actions,
    )


def _question(given: dict[str, Any], actions: tuple[Action, ...], longest: timedelta) -> dict[str, Any]:
    """Return subject and body of the request as people read them, and its actions."""
    from upkeep.core.routine import Routine
    from upkeep.operators import wiring
    from upkeep.report.question import Question
    from upkeep.systems.load import load_system

    system, now = load_system(given["target"].split("/", 1)[0]), wiring.now()
    origin = given.get("proposed_by") or {}
    asked = Question(
        system=system,
        target=given["target"],
        routine=Routine.load(_routines()[given["routine"]]),
        actions=actions,
        proposed_by=" ".join(filter(None, (origin.get("dag_id"), origin.get("run_id")))),
        answer_by=now + ANSWER_WITHIN,
        now=now,
        longest=longest,
    )
    return {
        "subject": asked.subject,
        "body": asked.body,
        "actions": [action.model_dump(mode="json") for action in actions],
    }


def _moment(value: Any) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
