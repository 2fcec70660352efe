"""What a person is asked to agree to, in Markdown, as Airflow shows it under Required Actions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from upkeep.core.model import Action
from upkeep.core.routine import Routine
from upkeep.core.system import System
from upkeep.report import human
from upkeep.report.evidence import facts
from upkeep.report.markdown import block, code, inline

_CODE = ("command", "ddl", "sql", "statement")
# By which the very object is known again that somebody agreed to; to a reader it says nothing.
_INTERNAL = ("oid",)


@dataclass(frozen=True)
class Question:
    """One request: a routine's proposals on a target. Every action is listed: nobody approves what is not shown."""

    system: System
    target: str
    routine: Routine
    actions: tuple[Action, ...]
    proposed_by: str
    """DAG and run that proposed them, empty for a request by hand."""
    answer_by: datetime
    now: datetime
    longest: timedelta
    """How long the work waits for the maintenance window."""

    @property
    def subject(self) -> str:
        """The headline, such as `claims/db: 2 changes by Reindex`."""
        return f"{self.target}: {human.plural(len(self.actions), 'change')} by {self.routine.title}"

    @property
    def body(self) -> str:
        """What is proposed, why, and what either answer leads to."""
        return "\n".join([*self._head(), *(line for n, a in enumerate(self.actions, 1) for line in self._action(n, a))])

    def _head(self) -> Iterator[str]:
        by = f". Proposed by {code(self.proposed_by)}" if self.proposed_by else ""
        changes = human.plural(len(self.actions), "change")
        yield (
            f"**{inline(self.routine.title)}** on {code(self.target)} ({inline(self.system.title)}) proposes"
            f" {changes} that a person must agree to{by}."
        )
        yield ""
        yield (
            "- **Approve**: exactly these, or those that you choose below, are done, once, and only what is still"
            f" needed then{self._when()}."
        )
        yield "- **Reject**: nothing is done; the next run that finds them needed proposes them again."
        yield f"- No answer by {human.moment(self.answer_by, self.system.zone).text} counts as a rejection."
        yield ""

    def _when(self) -> str:
        if not self.routine.windowed:
            return ", at once"
        opens = self.system.maintenance_window.opens(self.now, self.system.zone)
        if opens <= self.now:
            return f", in the maintenance window of {inline(self.system.name)}, which is open now"
        at = human.moment(opens, self.system.zone).text
        return f", in the maintenance window of {inline(self.system.name)}, which opens {at}"

    def _action(self, number: int, action: Action) -> Iterator[str]:
        yield f"**{number}. {inline(human.label(action.name))}** {code(action.subject)}"
        yield ""
        yield f"- **Why**: {inline(action.reason) or 'no reason was given'}"
        yield f"- **Why a person**: {inline(action.approval)}"
        yield f"- **Undo**: {inline(action.undo) or 'none'}"
        long = {k: v for k, v in action.details.items() if isinstance(v, str) and "\n" in v.strip()}
        for fact in facts(action.details, self.system.zone, (*_INTERNAL, *long)):
            shown = code(fact.shown.text) if fact.code or fact.label in _CODE else inline(fact.shown.text)
            yield f"- **{inline(fact.label[:1].upper() + fact.label[1:])}**: {shown}"
        yield ""
        for name, text in long.items():
            yield f"**{inline(human.label(name).capitalize())}**"
            yield ""
            yield from block(text, "diff" if name == "diff" else "")
            yield ""
