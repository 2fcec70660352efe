"""Pydantic's errors in the words of somebody who wrote a YAML file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from zoneinfo import available_timezones

from upkeep.core.text import looks_secret
from upkeep.systems.places import Lines, fields_at, written
from upkeep.systems.problem import Problem, holds_credentials, show, suggestion
from upkeep.systems.source import Loc

_PATTERNS = {
    r"^[a-z][a-z0-9_-]{0,62}$": "a name of a-z, 0-9, _ and -, beginning with a letter, at most 63 long",
    r"^[A-Za-z0-9_.\-]{1,250}$": "the id of an Airflow connection, of letters, digits, _ . and -",
}
CREDENTIALS_HINT = "keep credentials in an Airflow connection and write its id as `conn_id`"


@dataclass(frozen=True)
class Source:
    """Where validated data came from."""

    file: str
    lines: Lines
    above: Loc = ()
    """The place in the file of the data's root."""


def explain(errors: list[Any], model: Any, data: Any, source: Source) -> list[Problem]:
    """Return a problem for each error of a pydantic validation of `data` against `model`."""
    inner = {error["loc"][:length] for error in errors for length in range(len(error["loc"]))}
    # A list whose items are bad is then also "too short": that says nothing new.
    own = [error for error in errors if not (error["type"] == "too_short" and error["loc"] in inner)]
    return _once_per_variable([_explain_one(error, model, data, source) for error in own])


def _once_per_variable(problems: list[Problem]) -> list[Problem]:
    """A variable that is not set is one problem of the file, however many paths use it."""
    kept: dict[tuple[str, ...], Problem] = {}
    for problem in problems:
        unset = problem.expected.startswith("environment variable")
        kept.setdefault((problem.expected,) if unset else (problem.key, problem.seen, problem.expected), problem)
    return list(kept.values())


def _explain_one(error: Any, model: Any, data: Any, source: Source) -> Problem:
    place = (*source.above, *written(error["loc"], data))
    wording = _WORDINGS.get(error["type"], _other)
    key, seen, expected, hint = wording(error, place, model)
    name = ".".join(map(str, key))
    return Problem(file=source.file, line=source.lines.of(place), key=name, seen=seen, expected=expected, hint=hint)


Wording = tuple[Loc, str, str, str]


def _unknown_key(error: Any, place: Loc, model: Any) -> Wording:
    fields = [name for name in fields_at(model, error["loc"][:-1]) if name != "id"]
    hint = CREDENTIALS_HINT if holds_credentials(place[-1]) else suggestion(place[-1], fields)
    return (
        place,
        f"unknown key {show(str(place[-1]))}",
        f"one of {', '.join(fields)}" if fields else "no such key",
        hint,
    )


def _missing(error: Any, place: Loc, model: Any) -> Wording:
    field = fields_at(model, error["loc"][:-1]).get(str(error["loc"][-1]))
    meaning = f" ({field.description})" if field is not None and field.description else ""
    return place, "nothing", f"the required key {place[-1]!r}{meaning}", ""


def _choice(error: Any, place: Loc, model: Any) -> Wording:
    choices = re.findall(r"'([^']*)'", str(error["ctx"]["expected"]))
    return place, show(error["input"], place[-1]), f"one of {', '.join(choices)}", suggestion(error["input"], choices)


def _kind(error: Any, place: Loc, model: Any) -> Wording:
    kinds = re.findall(r"'([^']*)'", str(error["ctx"]["expected_tags"]))
    hint = suggestion(error["ctx"]["tag"], kinds)
    return (*place, "kind"), show(error["ctx"]["tag"]), f"one of {', '.join(kinds)}", hint


def _no_kind(error: Any, place: Loc, model: Any) -> Wording:
    return (*place, "kind"), "nothing", "the kind of the target, such as postgres, http or logs", ""


def _pattern(error: Any, place: Loc, model: Any) -> Wording:
    pattern = error["ctx"]["pattern"]
    secret = str(place[-1]).endswith("conn_id") or looks_secret(error["input"])
    hint = CREDENTIALS_HINT if secret else ""
    return place, show(error["input"], place[-1]), _PATTERNS.get(pattern, f"text of the form {pattern}"), hint


def _rule(error: Any, place: Loc, model: Any) -> Wording:
    """A rule of ours: its message says what was expected, and often what was seen."""
    said = str(error["ctx"]["error"])
    key = place[-1] if place else ""
    hint = suggestion(error["input"], available_timezones()) if key == "timezone" else ""
    if str(key).endswith("conn_id"):
        hint = CREDENTIALS_HINT
    return place, show(error["input"], key), said.removeprefix("expected "), hint


def _other(error: Any, place: Loc, model: Any) -> Wording:
    expected = str(error["msg"]).removeprefix("Input should be ").removeprefix("Input should ")
    return place, show(error["input"], place[-1] if place else ""), expected, ""


_WORDINGS = {
    "extra_forbidden": _unknown_key,
    "missing": _missing,
    "literal_error": _choice,
    "enum": _choice,
    "union_tag_invalid": _kind,
    "union_tag_not_found": _no_kind,
    "string_pattern_mismatch": _pattern,
    "value_error": _rule,
}
