"""Reading all system files: one bad file never takes the others down, and every fault of a file is told at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from upkeep.core import text as words
from upkeep.core.errors import ConfigurationError
from upkeep.core.system import System
from upkeep.systems.explain import CREDENTIALS_HINT, Source, explain
from upkeep.systems.places import Lines
from upkeep.systems.problem import Problem, SourceError, did_you_mean, holds_credentials, suggestion
from upkeep.systems.settings import check_settings
from upkeep.systems.source import Loc, leaves, parse, read_text, system_files, systems_dir

__all__ = ["Loaded", "Problem", "check_settings", "did_you_mean", "load_all", "load_system", "read_system"]


@dataclass(frozen=True)
class Loaded:
    """The systems that could be read, by name, and everything that is wrong with the other files."""

    systems: Mapping[str, System]
    problems: tuple[Problem, ...]


def load_all(folder: Path | None = None, environ: Mapping[str, str] | None = os.environ) -> Loaded:
    """Read every system file of a folder (default: `systems_dir()`).

    Environment variables in paths are filled in from `environ`; one that is not set is a problem of that file.
    This happens here, where work is about to be done, and not when Airflow parses DAG files: those processes need
    not have the worker's environment. `environ=None` leaves `${NAME}` as written, for a check of the files alone.
    """
    files, problems = system_files(folder or systems_dir())
    systems: dict[str, System] = {}
    for path in files:
        system, found = read_system(path, environ)
        problems += found
        if system is not None:
            systems[system.name] = system
    return Loaded(systems, tuple(problems))


def load_system(name: str, folder: Path | None = None, environ: Mapping[str, str] | None = os.environ) -> System:
    """Read one system's file: what a task about one target needs, whatever the number of systems.

    :raises ConfigurationError: there is no such system, or its file is bad.
    """
    files, _ = system_files(folder or systems_dir())
    by_name = {path.stem: path for path in files}
    if name not in by_name:
        raise ConfigurationError(
            f"no system is called {name!r}; there are {', '.join(sorted(by_name)[:20]) or 'none'}",
            suggestion(name, by_name) or "see UPKEEP_SYSTEMS_DIR and the params of the run",
        )
    system, problems = read_system(by_name[name], environ)
    if system is None:
        raise ConfigurationError("; ".join(map(str, problems)), f"mend {by_name[name].name}, then clear this task")
    return system


def read_system(path: Path, environ: Mapping[str, str] | None = os.environ) -> tuple[System | None, list[Problem]]:
    """Read one file: its system, or all that is wrong with it."""
    try:
        text = read_text(path)
        data, duplicates = parse(text)
        secrets = [place for place, value in leaves(data) if _is_secret(place, value)]
        if not isinstance(data, dict):
            raise _not_a_mapping(data)
    except SourceError as error:
        return None, [error.problem(str(path))]
    lines = Lines(text)
    wrong = [*_name_differs(path, data, lines), *_twice(path, duplicates)]
    try:
        system = System.model_validate(data, context={"environ": environ})
    except pydantic.ValidationError as error:
        # Not `include_input=False`: messages show what was seen; `show` keeps secrets out.
        wrong += explain(list(error.errors(include_url=False)), System, data, Source(str(path), lines))
        return None, _by_line(wrong + _secrets(path, secrets, lines, wrong))
    if wrong or secrets:
        return None, _by_line(wrong + _secrets(path, secrets, lines, wrong))
    return system, []


def _not_a_mapping(data: Any) -> SourceError:
    seen = "an empty file" if data is None else "a list" if isinstance(data, list) else "a single value"
    return SourceError(seen, "keys such as `name:`, `title:`, `contacts:` and `targets:`", line=1)


def _name_differs(path: Path, data: dict[Any, Any], lines: Lines) -> list[Problem]:
    """The file's name is the system's: two files can then never claim the same system or target ids."""
    if not isinstance(data.get("name"), str) or data["name"] == path.stem:
        return []
    hint = f"rename the file to {data['name']}.yaml or the system to {path.stem}"
    seen = "a name that differs from the file's"
    line = lines.of(("name",))
    return [Problem(file=str(path), line=line, key="name", seen=seen, expected=repr(path.stem), hint=hint)]


def _twice(path: Path, duplicates: list[tuple[str, int]]) -> list[Problem]:
    return [
        Problem(
            file=str(path),
            line=line,
            key=key,
            seen="a key that stands twice",
            expected="every key once",
            hint="YAML would keep only the last one, without a word",
        )
        for key, line in duplicates
    ]


def _is_secret(place: Loc, value: Any) -> bool:
    if not isinstance(value, str) or not value:
        return False
    return words.looks_secret(value) or any(holds_credentials(part) for part in place[-1:])


def _secrets(path: Path, places: list[Loc], lines: Lines, known: list[Problem]) -> list[Problem]:
    told = {problem.key for problem in known}
    return [
        Problem(
            file=str(path),
            line=lines.of(place),
            key=key,
            seen="what looks like a credential",
            expected="no credentials in system files",
            hint=CREDENTIALS_HINT,
        )
        for place in places
        if (key := ".".join(map(str, place))) not in told
    ]


def _by_line(problems: list[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: problem.line or 0)
