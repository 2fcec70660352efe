"""From the place of an error in the data to a line of the file, and to the fields that belong there."""

from __future__ import annotations

import types
from functools import cached_property
from typing import Annotated, Any, Union, get_args, get_origin

import pydantic
import yaml

from upkeep.core.model import Model
from upkeep.systems.source import Loader, Loc


class Lines:
    """The lines of a text's values. The text is composed at the first question: good files never pay for it."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _root(self) -> Any:
        return yaml.compose(self._text, Loader=Loader)

    def of(self, place: Loc) -> int | None:
        """Return the line of the deepest part of a place that the file has."""
        node: Any = self._root
        line = 1 if node is not None else None
        for part in place:
            found = _step(node, part)
            if found is not None:
                line, node = found
        return line


def _step(node: Any, part: Any) -> tuple[int, Any] | None:
    """Go down one part; parts that exist only for pydantic (a union's tag, `[key]`) lead nowhere."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == str(part):
                return key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line + 1, node.value[part]
    return None


def written(place: Loc, data: Any) -> Loc:
    """Return a pydantic place as its writer knows it: without union tags and `[key]` marks.

    >>> written(("targets", "db", "postgres", "conn_id"), {"targets": {"db": {"kind": "postgres"}}})
    ('targets', 'db', 'conn_id')
    """
    kept: list[Any] = []
    for number, part in enumerate(place):
        tagged = isinstance(data, dict) and part not in data and data.get("kind") == part
        if part == "[key]" or (tagged and number < len(place) - 1):
            continue
        kept.append(part)
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            data = None
    return tuple(kept)


def fields_at(model: Any, place: Loc) -> dict[str, pydantic.fields.FieldInfo]:
    """Return the fields that a pydantic place of a model may hold."""
    here: Any = model
    for part in place:
        here = _inner(here, part)
    return dict(here.model_fields) if isinstance(here, type) and issubclass(here, Model) else {}


def _inner(annotation: Any, part: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        field = annotation.model_fields.get(str(part))
        return field.annotation if field else None
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _inner(inside[0], part)
    if origin in (Union, types.UnionType):
        tagged = [m for m in inside if _tag(m) == part]
        return tagged[0] if tagged else _inner(next((m for m in inside if m is not type(None)), None), part)
    if origin is dict:
        return _bare(inside[1])
    return _bare(inside[0]) if origin in (tuple, list) else None


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _tag(model: Any) -> Any:
    fields = getattr(model, "model_fields", {})
    return fields["kind"].default if "kind" in fields else None
