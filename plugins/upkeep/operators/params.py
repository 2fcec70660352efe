"""What a person gave in the form of a run: checked before anything is done with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from upkeep.core.errors import ConfigurationError
from upkeep.core.routine import Routine
from upkeep.core.text import looks_secret
from upkeep.systems.problem import did_you_mean, holds_credentials

HIDDEN = "***"
_CORRECT = "correct the params and trigger again"


def names(params: Mapping[str, Any], what: str) -> list[str] | None:
    """Return the names asked for under a param, None for all.

    :raises ConfigurationError: it is no list of names.
    """
    given = params.get(what)
    if given and (not isinstance(given, list) or not all(isinstance(name, str) for name in given)):
        raise ConfigurationError(f"params of this run: {what} is no list of names", _CORRECT)
    return given or None


def one_name(params: Mapping[str, Any], what: str) -> str:
    """Return the name given under a param.

    :raises ConfigurationError: there is none.
    """
    given = params.get(what)
    if not isinstance(given, str) or not given.strip():
        raise ConfigurationError(f"params of this run: {what} is missing", f"trigger again and name the {what}")
    return given.strip()


def settings(params: Mapping[str, Any], routine: str) -> dict[str, Any]:
    """Return the settings given for a routine.

    :raises ConfigurationError: they are no mapping.
    """
    given = params.get("settings") or {}
    values = given.get(routine) if isinstance(given, dict) else given
    if values is not None and not isinstance(values, dict):
        seen = type(values).__name__
        raise ConfigurationError(
            f"params of this run: settings of {routine} are of type {seen}, expected an object",
            'write them like {"backup.postgres": {"jobs": 4}}',
        )
    return values or {}


def check_names(what: str, asked: Iterable[str] | None, known: Iterable[str]) -> None:
    """Refuse names that nothing has: the run would otherwise be green without having done anything.

    :raises ConfigurationError: a name is not known.
    """
    for name in asked or ():
        if name not in known:
            raise ConfigurationError(
                f"params of this run: unknown {what} {name[:100]!r}, known: {', '.join(sorted(known)) or 'none'}",
                did_you_mean(name, known) or _CORRECT,
            )


def check_settings(params: Mapping[str, Any], routines: Mapping[str, Routine]) -> None:
    """Refuse settings that no routine of this DAG would ever read, and secrets.

    Bounds are left to the tasks: a value may be right only together with what the system's file says.

    :raises ConfigurationError: the settings cannot be meant so.
    """
    given = params.get("settings") or {}
    check_names("routine in settings", given if isinstance(given, dict) else None, routines)
    for name in given if isinstance(given, dict) else [""]:
        known = routines[name].settings.model_fields if name else {}
        check_names(f"setting of {name}", settings(params, name), known)
    if place := next(_secrets(given), ""):
        raise ConfigurationError(
            f"params of this run: settings.{place} looks like a credential",
            "change that credential, Airflow keeps and shows the params; settings take ids of connections",
        )


def without_secrets(value: Any, key: str = "") -> Any:
    """Return params as the ledger may keep them."""
    if isinstance(value, dict):
        return {name: without_secrets(one, str(name)) for name, one in value.items()}
    if isinstance(value, list):
        return [without_secrets(one, key) for one in value]
    return HIDDEN if _is_secret(key, value) else value


def _secrets(value: Any, place: str = "") -> Iterator[str]:
    """Yield the places of what looks like a credential."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _secrets(one, f"{place}.{name}".strip("."))
    elif isinstance(value, list):
        for one in value:
            yield from _secrets(one, place)
    elif _is_secret(place.rsplit(".", 1)[-1], value):
        yield place


def _is_secret(key: str, value: Any) -> bool:
    return isinstance(value, str) and bool(value) and (looks_secret(value) or holds_credentials(key))
