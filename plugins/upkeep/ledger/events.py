"""What the ledger is told. Each event is one line of the spool and one row of `upkeep.event`."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from upkeep.core.catalogue import Entry
from upkeep.core.model import Action, Finding, Measurement, Model, Severity

NAMESPACE = uuid.UUID("6a3f2c54-5d0c-4b8e-9f39-0e4d8b0f7c11")
ROUTINE_STATES = Literal["running", "waiting", "success", "failed", "retry", "skipped", "died"]
DECISIONS = Literal["approved", "rejected", "expired"]


class RunKey(Model):
    """Which run of which DAG."""

    dag_id: str
    run_id: str


class RoutineKey(RunKey):
    """One try of one routine on one target in one run."""

    routine: str
    target: str
    try_number: int
    task: str = ""
    """The task that it ran in: a DAG may wire a routine more than once. Empty in what older versions wrote."""

    @property
    def id(self) -> uuid.UUID:
        """Identity derived from the key: writing the same try twice hits the same row."""
        parts = [self.dag_id, self.run_id, self.routine, self.target, str(self.try_number)]
        return uuid.uuid5(NAMESPACE, "\x1f".join([*parts, self.task] if self.task else parts))


class _Event(Model):
    id: uuid.UUID = Field(default_factory=uuid.uuid4)
    at: datetime


class RunOpened(_Event):
    """A run has begun and this is what it answers for."""

    kind: Literal["run_opened"] = "run_opened"
    run: RunKey
    cadence: str
    run_type: str
    window_start: datetime | None
    window_end: datetime | None
    params: dict[str, Any] = {}


class Expected(_Event):
    """What the run must produce a result for; `skip` holds the reason where a system file excludes it, `task` the only
    task whose result counts where not any will do."""

    class Item(Model):
        routine: str
        target: str
        system: str
        skip: str = ""
        task: str = ""

    kind: Literal["expected"] = "expected"
    run: RunKey
    items: tuple[Item, ...]


class RoutineOpened(_Event):
    """A routine is about to work on a target."""

    kind: Literal["routine_opened"] = "routine_opened"
    routine: RoutineKey
    system: str
    role: str
    title: str
    settings: dict[str, Any] = {}
    dry_run: bool = False
    host: str = ""
    pid: int = 0


class Observed(_Event):
    """What a routine measured and found so far; replaces what the same try said before at the same stage."""

    kind: Literal["observed"] = "observed"
    routine: RoutineKey
    stage: Literal["judge", "act", "verify", "error"]
    system: str
    measurements: tuple[Measurement, ...] = ()
    findings: tuple[Finding, ...] = ()


class ActionOpened(_Event):
    """An action is about to be done (or, in a dry run, would have been)."""

    kind: Literal["action_opened"] = "action_opened"
    routine: RoutineKey
    number: int
    action: Action
    dry_run: bool = False
    proposed: bool = False
    """It waits for a person to agree; see `core.model.Action.approval`."""


class ActionClosed(_Event):
    """An action has been done, or not."""

    kind: Literal["action_closed"] = "action_closed"
    routine: RoutineKey
    system: str
    number: int
    status: str
    detail: str
    evidence: dict[str, Any] = {}


class RoutineClosed(_Event):
    """A try of a routine has ended, or waits: `opens` says until when, and then it goes on under the same key."""

    kind: Literal["routine_closed"] = "routine_closed"
    routine: RoutineKey
    state: ROUTINE_STATES
    severity: Severity
    reason: str = ""
    hint: str = ""
    opens: datetime | None = None


class ApprovalAsked(_Event):
    """A person is asked to agree to actions that `run` has proposed, in a run of its own, `request`."""

    kind: Literal["approval_asked"] = "approval_asked"
    run: RunKey
    request: RunKey
    routine: str
    target: str
    system: str
    actions: tuple[Action, ...]


class ApprovalDecided(_Event):
    """A request, `run`, has its answer: who agreed or not, to what. `expired`: nobody answered, nothing is done."""

    kind: Literal["approval_decided"] = "approval_decided"
    run: RunKey
    routine: str
    target: str
    system: str
    decision: DECISIONS
    by: str = ""
    by_id: str = ""
    actions: tuple[Action, ...]


class BackupsLearned(_Event):
    """Backups were found in a store that the catalogue may not know: their manifests say what they are."""

    kind: Literal["backups_learned"] = "backups_learned"
    run: RunKey
    backups: tuple[Entry, ...]


class Escalated(_Event):
    """Somebody was told, or should have been: one row per rung and subject of a run."""

    class Delivery(Model):
        contact: str
        channel: str
        address: str
        delivered: bool | None
        detail: str = ""

    kind: Literal["escalated"] = "escalated"
    run: RunKey
    cause: Literal["deadline", "failure", "approval", "digest"]
    subject: str
    system: str
    rung: int
    message: str
    deliveries: tuple[Delivery, ...] = ()


class RunClosed(_Event):
    """A run has its verdict."""

    kind: Literal["run_closed"] = "run_closed"
    run: RunKey
    verdict: Severity
    reasons: tuple[str, ...] = ()


class ReportKept(_Event):
    """The report of a run, in both shapes."""

    kind: Literal["report_kept"] = "report_kept"
    run: RunKey
    html: str
    markdown: str


Event = Annotated[
    RunOpened
    | Expected
    | RoutineOpened
    | Observed
    | ActionOpened
    | ActionClosed
    | RoutineClosed
    | ApprovalAsked
    | ApprovalDecided
    | BackupsLearned
    | Escalated
    | RunClosed
    | ReportKept,
    Field(discriminator="kind"),
]
EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(Event)


def run_of(event: Any) -> RunKey:
    """Return the run that an event belongs to."""
    key = event.run if hasattr(event, "run") else event.routine
    return RunKey(dag_id=key.dag_id, run_id=key.run_id)


FREE_TEXT = {
    "reason",
    "hint",
    "message",
    "detail",
    "observed",
    "evidence",
    "details",
    "settings",
    "params",
    "reasons",
    "undo",
    "approval",
    "limit",
}


def scrub(event: Any, redact: Callable[[Any], Any]) -> Any:
    """Return the event with secrets masked in every field that holds free text, and in no other.

    Keys and names stay as they are: a password that happens to be a word must not tear a routine's name apart.
    """
    return EVENT.validate_python(_scrub(event.model_dump(), redact))


def _scrub(value: Any, redact: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {k: redact(v) if k in FREE_TEXT and v else _scrub(v, redact) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_scrub(v, redact) for v in value]
    return value


def to_json(event: Any) -> str:
    """Return an event as one line of JSON that PostgreSQL's jsonb accepts (it refuses NUL)."""
    line: str = event.model_dump_json()
    return line.replace("\\u0000", "\\u2400")
