"""Who is on duty for a system, also when its file is wrong elsewhere: then above all somebody must hear of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pydantic

from upkeep.core.errors import UpkeepError
from upkeep.core.ladder import Duty
from upkeep.core.system import Ladder, Role
from upkeep.ledger.record import RunRecord
from upkeep.systems.problem import SourceError
from upkeep.systems.source import parse, read_text, systems_dir

log = logging.getLogger(__name__)


def duty_of(system: str, folder: Path | None = None) -> Duty:
    """Return contacts and ladder of a system, as far as they can be read.

    Not `load_system`: a wrong target must not hide the contacts, nor an environment variable that only workers have.
    """
    try:
        data, _ = parse(read_text((folder or systems_dir()) / f"{system}.yaml"))
    except SourceError as error:
        log.error("escalation: %s.yaml cannot be read: %s", system, error)
        data = None
    data = data if isinstance(data, dict) else {}
    contacts = data.get("contacts")
    roles = {
        str(name): role
        for name, value in (contacts.items() if isinstance(contacts, dict) else ())
        if (role := _valid(Role, value)) is not None
    }
    return Duty(system=system, contacts=roles, ladder=_valid(Ladder, data.get("ladder")) or Ladder())


def owners_of_routines(record: RunRecord) -> dict[str, str]:
    """Return the role that owns each routine, also of those that never began."""
    from upkeep.core.routine import discover

    seen = {routine.key.routine: routine.role for routine in record.routines if routine.role}
    try:
        return {routine.name: routine.role for routine in discover()} | seen
    except UpkeepError as error:
        log.warning("escalation: the roles of some routines are not known: %s", error)
        return seen


def _valid[M: pydantic.BaseModel](model: type[M], value: Any) -> M | None:
    try:
        return model.model_validate(value)
    except pydantic.ValidationError:
        return None
