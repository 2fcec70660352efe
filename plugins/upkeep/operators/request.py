"""One request for an approval: what it is about, in which words, and which of its changes an answer means."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from upkeep.operators.proposals import ANSWER_WITHIN

if TYPE_CHECKING:
    from datetime import timedelta

    from upkeep.core.model import Action
    from upkeep.ledger.events import ApprovalAsked, Expected, RunKey
    from upkeep.operators.run import Run

ONLY = "only"
"""The field of the form in which a person may agree to some of the changes only."""


def label(action: dict[str, Any]) -> str:
    """Return how the form names an action."""
    return f"{action['name']} {action['subject']}"


def chosen(asked: list[dict[str, Any]], answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the actions that an approval means."""
    only = (answer.get("params_input") or {}).get(ONLY)
    return [action for action in asked if not only or label(action) in only]


def paths_of_routines() -> dict[str, str]:
    """Return the dotted path of every routine by its name."""
    from upkeep.core.routine import discover_paths, routine_name

    return {routine_name(path): path for path in discover_paths()}


def check(given: dict[str, Any]) -> None:
    """Refuse what cannot be done.

    :raises ConfigurationError: there is no such target or routine, or they do not go together.
    """
    from upkeep.core.errors import ConfigurationError
    from upkeep.core.routine import Routine
    from upkeep.operators import params
    from upkeep.systems.load import load_system

    paths = paths_of_routines()
    params.check_names("routine", [given["routine"]], paths)
    system = load_system(given["target"].split("/", 1)[0])
    kind, routine = system.target(given["target"]).kind, Routine.load(paths[given["routine"]])
    params.check_settings(given, {routine.name: routine})
    if kind not in routine.targets:
        raise ConfigurationError(
            f"params of this run: {routine.name} works on {', '.join(routine.targets)}; {given['target']} is {kind}",
            "correct the params and trigger again",
        )


def expected(run: Run, task: str) -> Expected:
    """Return the event that says which task must come to a result; with nothing to ask, that is the one that looked."""
    from upkeep.ledger.events import Expected
    from upkeep.operators import wiring

    target = run.params["target"]
    system = target.split("/", 1)[0]
    item = Expected.Item(routine=run.params["routine"], target=target, system=system, task=task)
    return Expected(at=wiring.now(), run=run.key, items=(item,))


def asked(run: RunKey, given: dict[str, Any], actions: tuple[Action, ...]) -> ApprovalAsked:
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


def question(given: dict[str, Any], actions: tuple[Action, ...], longest: timedelta) -> dict[str, Any]:
    """Return subject and body of the request as people read them, and its actions."""
    from upkeep.core.routine import Routine
    from upkeep.operators import wiring
    from upkeep.report.question import Question
    from upkeep.systems.load import load_system

    system, now = load_system(given["target"].split("/", 1)[0]), wiring.now()
    origin = given.get("proposed_by") or {}
    made = Question(
        system=system,
        target=given["target"],
        routine=Routine.load(paths_of_routines()[given["routine"]]),
        actions=actions,
        proposed_by=" ".join(filter(None, (origin.get("dag_id"), origin.get("run_id")))),
        answer_by=now + ANSWER_WITHIN,
        now=now,
        longest=longest,
    )
    return {
        "subject": made.subject,
        "body": made.body,
        "actions": [action.model_dump(mode="json") for action in actions],
    }


def moment(value: Any) -> datetime | None:
    """Return a moment that Airflow tells as such or as text."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value
