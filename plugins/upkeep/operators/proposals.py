"""What a run has proposed goes to people: one request per target and routine, each a run of the approval DAG."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, TriggerRule

from upkeep.core.cadence import RunType
from upkeep.operators.policy import RETRY_POLICY

if TYPE_CHECKING:
    from airflow.sdk import Context

    from upkeep.core.model import Action
    from upkeep.ledger.events import ApprovalAsked, RunKey
    from upkeep.ledger.record import RoutineRecord, RunRecord
    from upkeep.ledger.store import Ledger
    from upkeep.operators.run import Run

APPROVALS = "approved_changes"
ASK = "ask"
"""The task of the approval DAG that waits for the answer."""
# Shorter than a week: what is proposed again by the next weekly run is asked again by it.
ANSWER_WITHIN = timedelta(days=6)
# Failures to ask are recorded like those of a routine, under a target that no system can have.
ROUTINE, TARGET = "approvals.propose", "site/approvals"


class ProposalsOperator(BaseOperator):
    """Gather what this run has proposed and nobody has been asked about yet: one request per target and routine.

    An action that stands in an earlier request which nobody has answered is left out: the older request stays as it is,
    because what is agreed to is planned anew before it is done, and because nobody should have to answer twice.
    """

    ui_color = "#f6f0e2"

    def __init__(self, **kwargs: Any) -> None:
        kwargs["trigger_rule"] = TriggerRule.ALL_DONE
        kwargs.setdefault("retry_policy", RETRY_POLICY)
        super().__init__(**kwargs)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return the requests, which may be none: what maps over them is then skipped."""
        from upkeep.ledger.events import RoutineKey
        from upkeep.operators import wiring
        from upkeep.operators.lifecycle import Row
        from upkeep.operators.run import Run

        run = Run.of(context, wiring.now())
        if run.dry_run or run.type is RunType.BACKFILL:
            return []
        facts = {"routine": ROUTINE, "target": TARGET, "try_number": run.try_number, "task": self.task_id}
        with wiring.open_ledger() as ledger:
            record = ledger.record(run.key)
            try:
                asked = list(self._requests(record, ledger, context["ti"]))
            except BaseException as error:
                row = Row(ledger, RoutineKey(**run.key.model_dump(), **facts), wiring.now)
                row.open()
                row.close_failed(error, run.last_try)
                raise
            ledger.write(*(event for event, _ in asked))
        return [request for _, request in asked]

    def _requests(self, record: RunRecord, ledger: Ledger, ti: Any) -> Iterator[tuple[ApprovalAsked, dict[str, Any]]]:
        for routine in record.routines:
            actions = [done.action for done in routine.actions if done.status == "proposed"]
            open_ones = _open_elsewhere(routine, ledger, ti) if actions else set()
            fresh = tuple(action for action in actions if (action.name, action.subject) not in open_ones)
            if left := len(actions) - len(fresh):
                self.log.info("%s: %d proposals stand in an earlier request already", routine.key.target, left)
            if fresh:
                yield _request(record, routine, fresh)


class AskOperator(BaseOperator):
    """Start one run of the approval DAG; one that is there already is left alone.

    Not `TriggerDagRunOperator`: importing it costs every parse of a DAG file Airflow's whole database model.

    :param request: what `ProposalsOperator` returned.
    :param teller: dotted path of the function that tells people of the request; see `tell`.
    """

    ui_color = "#f6f0e2"

    def __init__(self, *, request: dict[str, Any], teller: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("retry_policy", RETRY_POLICY)
        super().__init__(**kwargs)
        self.request = request
        self.teller = teller

    @property
    def request_id(self) -> str:
        """The id of the run that asks."""
        return str(self.request["run_id"])

    def execute(self, context: Context) -> None:
        """Start it.

        :raises ConfigurationError: the approval DAG is paused, and nobody would ever be asked.
        """
        from airflow.sdk.exceptions import DagRunTriggerException

        from upkeep.core.errors import ConfigurationError
        from upkeep.operators import wiring
        from upkeep.operators.run import Run

        if context["ti"].get_dag(APPROVALS).is_paused:
            raise ConfigurationError(
                f"the DAG {APPROVALS} is paused: nobody can be asked", "unpause it, clear this task"
            )
        # Before it is started, because nothing of ours runs after that; who is told once is not told again.
        run = Run.of(context, wiring.now())
        tell(self.teller, _event(run.key, self.request), run)
        raise DagRunTriggerException(
            trigger_dag_id=APPROVALS,
            dag_run_id=self.request_id,
            conf=self.request["conf"],
            reset_dag_run=False,
            skip_when_already_exists=True,
            wait_for_completion=False,
            allowed_states=[],
            failed_states=[],
            poke_interval=60,
            deferrable=False,
        )


def tell(teller: str, asked: ApprovalAsked, run: Run) -> None:
    """Have people told that they are asked.

    :param teller: dotted path of a function of request, run and the moment by which an answer is wanted. A path and no
        function, as Airflow has it for callbacks: those who tell stand above the operators. Empty: nobody is told.
    """
    if teller:
        module, _, name = teller.rpartition(".")
        getattr(importlib.import_module(module), name)(asked, run=run, answer_by=asked.at + ANSWER_WITHIN)


def _open_elsewhere(routine: RoutineRecord, ledger: Ledger, ti: Any) -> set[tuple[str, str]]:
    """Return name and subject of what stands in requests that are still open.

    The ledger knows what they ask, Airflow whether they still do: somebody may have deleted one, or marked it.
    """
    rows = ledger.ask("open_approvals", target=routine.key.target, routine=routine.key.routine) or []
    return {
        (action["name"], action["subject"])
        for row in rows
        if ti.get_dr_count(dag_id=row["dag_id"], run_ids=[row["run_id"]], states=["queued", "running"])
        for action in row["actions"]
    }


def _request(
    record: RunRecord, routine: RoutineRecord, actions: tuple[Action, ...]
) -> tuple[ApprovalAsked, dict[str, Any]]:
    """Return the event and the run to start: with the settings that led to the proposals, so that the plan compares."""
    conf = {
        "target": routine.key.target,
        "routine": routine.key.routine,
        "actions": [action.model_dump(mode="json") for action in actions],
        "proposed_by": record.run.model_dump(),
        "systems": [routine.system],
        "settings": {routine.key.routine: routine.settings} if routine.settings else None,
    }
    request = {"run_id": _request_id(record, routine, actions), "conf": conf}
    return _event(record.run, request), request


def _event(run: RunKey, request: dict[str, Any]) -> ApprovalAsked:
    """Return the event that says that a run asks."""
    from upkeep.ledger.events import ApprovalAsked, RunKey
    from upkeep.operators import wiring

    conf = request["conf"]
    return ApprovalAsked(
        at=wiring.now(),
        run=run,
        request=RunKey(dag_id=APPROVALS, run_id=request["run_id"]),
        routine=conf["routine"],
        target=conf["target"],
        system=conf["target"].split("/", 1)[0],
        actions=conf["actions"],
    )


def _request_id(record: RunRecord, routine: RoutineRecord, actions: tuple[Action, ...]) -> str:
    """Return a run id that is the same whenever the same run proposes the same."""
    names = sorted(f"{action.name} {action.subject}" for action in actions)
    known = "\x1f".join([record.run.dag_id, record.run.run_id, routine.key.routine, routine.key.target, *names])
    day = f"{record.opened_at:%Y-%m-%d}" if record.opened_at else "unknown"
    digest = hashlib.sha256(known.encode()).hexdigest()[:8]
    return f"{routine.key.target.replace('/', '.')}__{routine.key.routine}__{day}__{digest}"
