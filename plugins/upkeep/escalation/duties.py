"""Who is on duty for a system, also when its file is wrong elsewhere: then above all somebody must hear of it."""

from __future__ import annotations

import logging
from typing import Any

import pydantic

from upkeep.core.errors import ConfigurationError, UpkeepError
from upkeep.core.ladder import Duty
from upkeep.core.system import Ladder, Role
from upkeep.ledger.record import RunRecord
from upkeep.systems.load import load_system
from upkeep.systems.problem import SourceError
from upkeep.systems.source import parse, read_text, systems_dir

log = logging.getLogger(__name__)


def duty_of(system: str) -> Duty:
    """Return contacts and ladder of a system; those that can be read, when its file is bad.

    Environment variables in paths are left alone: the triggerer need not have the worker's environment.
    """
    try:
        return Duty.of(load_system(system, environ=None))
    except ConfigurationError:
        return _of_bad_file(system)


def owners_of_routines(record: RunRecord) -> dict[str, str]:
    """Return the role that owns each routine, also of those that never began."""
    from upkeep.core.routine import discover

    seen = {routine.key.routine: routine.role for routine in record.routines if routine.role}
    try:
        return {routine.name: routine.role for routine in discover()} | seen
    except UpkeepError as error:
        log.warning("escalation: the roles of some routines are not known: %s", error)
        return seen


def _of_bad_file(system: str) -> Duty:
    try:
        data, _ = parse(read_text(systems_dir() / f"{system}.yaml"))
    except SourceError:
        data = None
    data = data if isinstance(data, dict) else {}
    contacts = data.get("contacts")
    roles = {
        str(name): role
        for name, value in (contacts.items() if isinstance(contacts, dict) else ())
        if (role := _valid(Role, value)) is not None
    }
    return Duty(system=system, contacts=roles, ladder=_valid(Ladder, data.get("ladder")) or Ladder())


def _valid[M: pydantic.BaseModel](model: type[M], value: Any) -> M | None:
    try:
        return model.model_validate(value)
    except pydantic.ValidationError:
        return None
