"""What a routine is: one kind of maintenance work, declared by one module."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

import pydantic

from upkeep.core.cadence import Covers
from upkeep.core.errors import ConfigurationError
from upkeep.core.job import Job
from upkeep.core.model import Action, Begun, Ended, Judgement, Model, Outcome, Plan
from upkeep.core.targets import TARGET_KINDS
from upkeep.core.text import looks_secret


class RoutineSettings(Model):
    """Base of every routine's settings: each field has a default, bounds, a unit and a description."""


@dataclass(frozen=True)
class Routine:
    """A module of `routines/<area>/` seen as a value.

    The module declares `TITLE`, `TARGETS` (target kinds), `COVERS`, `ROLE` (the contact role that owns it) and a
    `Settings` class, and defines those of `observe`, `judge`, `plan`, `act` and `verify` that it needs. Its
    docstring is its runbook.

    Two more declarations are for heavy work. `EXCLUSIVE = timedelta(...)`: no other exclusive routine works on the same
    PostgreSQL target at the same time, whichever Airflow it runs in, and so long it waits for its turn.
    `WINDOWED = True`: it begins only in the maintenance window.

    Instead of `act`, which does one action after the other, a routine may define `act_all(job, actions)`, a generator
    that does several at a time. It yields batches of `Begun` and `Ended`; when it is resumed after a batch, that batch
    is on record, so what it does to anything must come after the `Begun` of it.
    """

    name: str
    title: str
    targets: tuple[str, ...]
    covers: Covers
    role: str
    runbook: str
    settings: type[RoutineSettings]
    observe: Callable[[Job[Any, Any]], Any]
    judge: Callable[[Job[Any, Any], Any], Judgement]
    plan: Callable[[Job[Any, Any], Any], Plan]
    act: Callable[[Job[Any, Any], Action], Outcome]
    verify: Callable[[Job[Any, Any], Any, tuple[Outcome, ...]], Judgement]
    act_all: Callable[[Job[Any, Any], Sequence[Action]], Iterator[Sequence[Begun | Ended]]] | None = None
    exclusive: timedelta | None = None
    windowed: bool = False

    @property
    def area(self) -> str:
        """First part of the name: the part of the report that the routine belongs to."""
        return self.name.split(".", 1)[0]

    @classmethod
    def load(cls, path: str) -> Routine:
        """Import the module at a dotted `path`.

        :raises ConfigurationError: it cannot be imported or does not declare what a routine must.
        """
        return cls.of(_import(path))

    @classmethod
    def of(cls, module: ModuleType) -> Routine:
        """Read the declaration of an imported module.

        :raises ConfigurationError: it does not declare what a routine must.
        """
        name = routine_name(module.__name__)
        if wrong := list(_complaints(module)):
            raise ConfigurationError(
                f"routine {name!r} ({module.__name__}) {' and '.join(wrong)}",
                "see upkeep.core.routine.Routine for what a routine declares",
            )
        return cls(
            name=name,
            title=module.TITLE,
            targets=tuple(module.TARGETS),
            covers=module.COVERS,
            role=module.ROLE,
            runbook=(module.__doc__ or "").strip(),
            settings=module.Settings,
            observe=module.observe,
            judge=getattr(module, "judge", _nothing_judged),
            plan=getattr(module, "plan", _nothing_planned),
            act=getattr(module, "act", _cannot_act),
            act_all=getattr(module, "act_all", None),
            verify=getattr(module, "verify", _nothing_to_verify),
            exclusive=getattr(module, "EXCLUSIVE", None),
            windowed=getattr(module, "WINDOWED", False),
        )

    def resolve_settings(self, *layers: tuple[str, dict[str, Any]]) -> RoutineSettings:
        """Merge named layers of settings, later ones over earlier ones, and validate the result.

        :raises ConfigurationError: a key is unknown or a value out of bounds; the message names layer and key.
        """
        merged = self.settings().model_dump()
        origin: dict[str, str] = {}
        for layer, values in layers:
            merged = _merge(merged, values)
            origin |= dict.fromkeys(values, layer)
        try:
            return self.settings.model_validate(merged)
        except pydantic.ValidationError as error:
            raise ConfigurationError(
                f"settings of {self.name}: " + "; ".join(_describe(e, origin) for e in error.errors()),
                f"known settings: {', '.join(self.settings.model_fields)}",
            ) from error


def _import(path: str) -> ModuleType:
    """Import a module of somebody's, in which anything may go wrong."""
    try:
        return importlib.import_module(path)
    except (Exception, SystemExit) as error:
        raise ConfigurationError(
            f"{path!r} cannot be imported: {type(error).__name__}: {error}",
            "check the module, the operator's `routine` and PYTHONPATH",
        ) from error


def _complaints(module: ModuleType) -> Iterator[str]:
    """Yield what is wrong with the declaration of a routine."""
    missing = [n for n in ("TITLE", "TARGETS", "COVERS", "ROLE", "Settings", "observe") if not hasattr(module, n)]
    if missing:
        yield f"lacks {', '.join(missing)}"
        return
    if not (module.__doc__ or "").strip():
        yield "lacks a docstring (its runbook)"
    if not isinstance(module.COVERS, Covers):
        yield f"has COVERS = {module.COVERS!r}, expected Covers.NOW or Covers.WINDOW"
    # A string is a tuple whose comma was forgotten.
    if isinstance(module.TARGETS, str) or not set(module.TARGETS) <= set(TARGET_KINDS):
        yield f"has TARGETS = {module.TARGETS!r}, expected a tuple of {', '.join(TARGET_KINDS)}"
    if not (isinstance(module.Settings, type) and issubclass(module.Settings, RoutineSettings)):
        yield "has a Settings that is not derived from RoutineSettings"
    elif bare := [name for name, field in module.Settings.model_fields.items() if field.is_required()]:
        yield f"has settings without a default: {', '.join(bare)}"


def routine_name(path: str) -> str:
    """Return the routine's name for its module's dotted path: the last two parts.

    >>> routine_name("upkeep.routines.database.health")
    'database.health'
    """
    return ".".join(path.split(".")[-2:])


def discover() -> list[Routine]:
    """Return every routine there is; see `discover_paths`. :raises ConfigurationError: one cannot be loaded."""
    return [Routine.load(path) for path in discover_paths()]


def discover_paths() -> list[str]:
    """Return the dotted path of every routine of this package and of the entry points in `upkeep.routines`.

    An entry point names a package whose sub-packages are areas, laid out as `upkeep.routines` is.

    :raises ConfigurationError: a package cannot be imported.
    """
    packages = ["upkeep.routines", *(point.value for point in entry_points(group="upkeep.routines"))]
    return [path for package in packages for path in _modules(_import(package))]


def _modules(package: ModuleType) -> list[str]:
    """Return the dotted paths of the public modules two levels below a package.

    An area that cannot be imported has none: whoever loads one of its routines by path is told the reason.
    """
    found = pkgutil.walk_packages(package.__path__, package.__name__ + ".", onerror=lambda _: None)
    depth = package.__name__.count(".") + 2
    return sorted(m.name for m in found if not m.ispkg and m.name.count(".") == depth and "._" not in m.name)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another, key by key: `{critical: 2}` must not drop the warning limit beneath it."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _merge(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _describe(error: Any, origin: dict[str, str]) -> str:
    place = ".".join(map(str, error["loc"]))
    layer = origin.get(str(error["loc"][0]), "") if error["loc"] else ""
    # A value may be a secret put into the wrong field; a long one would also fill the message.
    seen = "(a value that looks like a secret)" if looks_secret(str(error["input"])) else repr(error["input"])[:80]
    return f"{layer + ': ' if layer else ''}{place} = {seen}: {error['msg']}"


def _nothing_judged(job: Job[Any, Any], seen: Any) -> Judgement:
    return Judgement()


def _nothing_planned(job: Job[Any, Any], seen: Any) -> Plan:
    return Plan()


def _cannot_act(job: Job[Any, Any], action: Action) -> Outcome:
    raise ConfigurationError(
        f"{job.routine} planned {action.name!r} but defines no act()", "define act() in its module"
    )


def _nothing_to_verify(job: Job[Any, Any], seen: Any, outcomes: tuple[Outcome, ...]) -> Judgement:
    return Judgement()
