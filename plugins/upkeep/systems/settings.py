"""Checking what system files say about routines: names, the kinds they work on, and the bounds of every setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pydantic

from upkeep.core.errors import ConfigurationError
from upkeep.core.routine import Routine
from upkeep.core.system import System
from upkeep.core.targets import Target
from upkeep.systems.explain import Source, explain
from upkeep.systems.places import Lines
from upkeep.systems.problem import Problem, SourceError, suggestion
from upkeep.systems.source import Loc, read_text, systems_dir


def check_settings(system: System, routines: Mapping[str, Routine], file: Path | None = None) -> tuple[Problem, ...]:
    """Return what is wrong with a system's `settings` and `skip`, by the routines that there are.

    `file` is where the system was read from (default: its place in `systems_dir()`), for the lines in messages.
    """
    path = file or systems_dir() / f"{system.name}.yaml"
    lines = _Lines(path)
    problems = list(_system_settings(system, routines, lines, str(path)))
    for key, target in system.targets.items():
        problems += _target_settings(system, key, target, routines, Source(str(path), lines))
    return tuple(problems)


class _Lines(Lines):
    """The lines of a file that is read only when there is something to say about it."""

    def __init__(self, path: Path) -> None:
        super().__init__("")
        self._path = path

    def of(self, place: Loc) -> int | None:
        """Return a place's line; none when the file is gone."""
        try:
            self._text = self._text or read_text(self._path)
        except SourceError:
            return None
        return super().of(place)


def _system_settings(system: System, routines: Mapping[str, Routine], lines: Lines, file: str) -> Iterator[Problem]:
    for name, values in system.settings.items():
        source = Source(file, lines, ("settings", name))
        routine = routines.get(name)
        if routine is None:
            yield _unknown(name, routines, source)
        else:
            yield from _values(routine, (values,), source)


def _target_settings(
    system: System, key: str, target: Target, routines: Mapping[str, Routine], source: Source
) -> Iterator[Problem]:
    for where, names in (("settings", target.settings), ("skip", target.skip)):
        for name in names:
            here = Source(source.file, source.lines, ("targets", key, where, name))
            routine = routines.get(name)
            if routine is None:
                yield _unknown(name, routines, here)
            elif target.kind not in routine.targets:
                yield _does_not_apply(routine, target, here)
            elif where == "settings":
                yield from _values(routine, (system.settings.get(name, {}), target.settings[name]), here)


def _values(routine: Routine, layers: tuple[dict[str, Any], ...], source: Source) -> list[Problem]:
    """Return what is wrong with the last layer; those below it are checked where they stand."""
    try:
        routine.resolve_settings(*(("", layer) for layer in layers))
    except ConfigurationError as error:
        cause = error.__cause__
        if not isinstance(cause, pydantic.ValidationError):
            raise
        own = [e for e in cause.errors(include_url=False) if not e["loc"] or e["loc"][0] in layers[-1]]
        return explain(list(own), routine.settings, layers[-1], source)
    return []


def _unknown(name: str, routines: Mapping[str, Routine], source: Source) -> Problem:
    known = ", ".join(sorted(routines)) or "none"
    return Problem(
        file=source.file,
        line=source.lines.of(source.above),
        key=".".join(map(str, source.above)),
        seen=f"routine {name!r}, which does not exist",
        expected=f"one of {known}",
        hint=suggestion(name, routines),
    )


def _does_not_apply(routine: Routine, target: Target, source: Source) -> Problem:
    return Problem(
        file=source.file,
        line=source.lines.of(source.above),
        key=".".join(map(str, source.above)),
        seen=f"{routine.name} on a target of kind {target.kind}",
        expected=f"a target of kind {' or '.join(routine.targets)}",
        hint="it never runs here; move it to the target it is meant for",
    )
