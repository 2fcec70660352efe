"""The actions of one try: each is on record before it begins, and closed however it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from types import GeneratorType, MappingProxyType
from typing import Any

from upkeep.core.errors import ConfigurationError
from upkeep.core.job import Job
from upkeep.core.model import Action, Begun, Ended, Outcome, OutcomeStatus
from upkeep.core.routine import Routine
from upkeep.ledger import events as ev
from upkeep.ledger.store import Ledger
from upkeep.operators.policy import explain

GONE = "not in the new plan: it is no longer needed, or has changed since it was approved"


class Deeds:
    """Does the actions of a plan, and records of those that are not done that they are planned or proposed.

    :param approved: name and subject of the actions that a person has agreed to: only these are done then, and the
        rest of the plan is passed over, for the run that proposed it has it on record. None in a run that nobody was
        asked about: what needs approval is proposed, everything else is done.
    :param objects: the ids (`details["oid"]`) of what those actions were about. A name can pass to something else
        between question and answer, and what a person has agreed to does not pass with it.
    """

    def __init__(
        self,
        routine: Routine,
        job: Job[Any, Any],
        key: ev.RoutineKey,
        ledger: Ledger,
        *,
        dry_run: bool,
        approved: frozenset[tuple[str, str]] | None,
        objects: Mapping[tuple[str, str], Any] = MappingProxyType({}),
    ) -> None:
        self.routine, self.job, self.key, self.ledger = routine, job, key, ledger
        self.dry_run, self.approved, self.objects = dry_run, approved, objects
        self.count = 0
        self._open: dict[int, Action] = {}
        self._outcomes: dict[int, Outcome] = {}

    def do(self, actions: Sequence[Action]) -> list[tuple[Action, Outcome]]:
        """Do what is to be done now; return what became of it, in the order of the plan.

        :raises Exception: whatever ended the work early; what was begun is then closed as failed.
        """
        numbered = {
            number: action
            for number, action in enumerate(actions, 1)
            if self.approved is None or self._is_approved(action)
        }
        self.count = len(numbered)
        waiting = {n: a for n, a in numbered.items() if self.dry_run or self._is_proposed(a)}
        self._record_opened(waiting)
        todo = {n: a for n, a in numbered.items() if n not in waiting}
        if todo:
            self._work(todo)
        self._record_gone(actions, numbered.values())
        return [(todo[number], self._outcomes[number]) for number in todo]

    def _work(self, todo: dict[int, Action]) -> None:
        actions = tuple(todo.values())
        act_all = self.routine.act_all
        given = act_all(self.job, actions) if act_all else self._one_by_one(actions)
        try:
            with closing(checked(self.routine, "act_all", GeneratorType, given)) as steps:
                for batch in steps:
                    self._take(batch, todo)
            if left := sorted(set(todo) - set(self._outcomes)):
                raise ConfigurationError(
                    f"{self.routine.name}: act_all() ended without a word on actions {left}",
                    "correct the routine's module: every action of the plan must end",
                )
        except BaseException as error:
            self._record_closed(
                {n: Outcome(status=OutcomeStatus.FAILED, detail=explain(error)[0]) for n in sorted(self._open)}
            )
            raise

    def _one_by_one(self, actions: Sequence[Action]) -> Iterator[Sequence[Begun | Ended]]:
        for position, action in enumerate(actions, 1):
            yield (Begun(number=position),)
            outcome = checked(self.routine, "act", Outcome, self.routine.act(self.job, action))
            yield (Ended(number=position, outcome=outcome),)

    def _take(self, batch: Sequence[Begun | Ended], todo: dict[int, Action]) -> None:
        """Record one batch of an `act_all`, whose numbers are positions among the actions it was given."""
        begun = [self._number(step, todo) for step in batch if isinstance(step, Begun)]
        ended = {self._number(step, todo): step.outcome for step in batch if isinstance(step, Ended)}
        if begun:
            self.job.still_alone()
        # What ends without having begun was passed over: its row says why.
        opened = {n: todo[n] for n in [*begun, *ended] if n not in self._open}
        self._record_opened(opened)
        self._open |= opened
        self._record_closed(ended)
        for number in ended:
            del self._open[number]
        self._outcomes |= ended

    def _number(self, step: Begun | Ended, todo: dict[int, Action]) -> int:
        """Return the number in the plan of the action that a step speaks of.

        :raises ConfigurationError: there is no such action, or it has ended before.
        """
        number = list(todo)[step.number - 1] if 0 < step.number <= len(todo) else 0
        if not number or number in self._outcomes:
            raise ConfigurationError(
                f"{self.routine.name}: act_all() spoke of action {step.number}, which"
                f" {'had ended' if number else f'is none of the {len(todo)} it was given'}",
                "correct the routine's module: actions are numbered from 1, and each ends once",
            )
        return number

    def _is_proposed(self, action: Action) -> bool:
        return not self.dry_run and bool(action.approval) and self.approved is None

    def _is_approved(self, action: Action) -> bool:
        """Tell whether a person has agreed to an action, and to its being done to this very object."""
        named = (action.name, action.subject)
        agreed = self.objects.get(named)
        return named in (self.approved or ()) and agreed in (None, action.details.get("oid"))

    def _record_gone(self, actions: Sequence[Action], kept: Iterable[Action]) -> None:
        """Record what was approved and is not in the plan: whoever agreed to it reads that it was not done."""
        gone = sorted((self.approved or frozenset()) - {(action.name, action.subject) for action in kept})
        reason = "a person agreed to it"
        rows = {
            number: Action(name=name, subject=subject, reason=reason)
            for number, (name, subject) in enumerate(gone, len(actions) + 1)
        }
        self._record_opened(rows)
        self._record_closed(dict.fromkeys(rows, Outcome(status=OutcomeStatus.SKIPPED, detail=GONE)))

    def _record_opened(self, actions: Mapping[int, Action]) -> None:
        if not actions:
            return
        for action in actions.values():
            word = "would" if self.dry_run else "proposes" if self._is_proposed(action) else "action"
            self.job.tools.log.info("%s %s %s: %s", word, action.name, action.subject, action.reason)
        at = self.job.tools.now()
        self.ledger.write(
            *(
                ev.ActionOpened(
                    at=at,
                    routine=self.key,
                    number=number,
                    action=action,
                    dry_run=self.dry_run,
                    proposed=self._is_proposed(action),
                )
                for number, action in actions.items()
            )
        )

    def _record_closed(self, outcomes: Mapping[int, Outcome]) -> None:
        if not outcomes:
            return
        for number, outcome in outcomes.items():
            action = self._open.get(number)
            what = f"{action.name} {action.subject}" if action else f"action {number}"
            self.job.tools.log.info("%s %s: %s", outcome.status, what, outcome.detail)
        at, system = self.job.tools.now(), self.job.system.name
        self.ledger.write(
            *(
                ev.ActionClosed(
                    at=at,
                    routine=self.key,
                    system=system,
                    number=number,
                    status=outcome.status,
                    detail=outcome.detail,
                    evidence=outcome.evidence,
                )
                for number, outcome in outcomes.items()
            )
        )


def checked[T](routine: Routine, step: str, expected: type[T], given: Any) -> T:
    """Return what a step of a routine gave.

    :raises ConfigurationError: it is not what the step must give.
    """
    if not isinstance(given, expected):
        raise ConfigurationError(
            f"{routine.name}: {step}() returned {type(given).__name__}, expected {expected.__name__}",
            "correct the routine's module",
        )
    return given
