"""Text from manifests, images and registries, none of which can be trusted: bounded, and safe to show."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from upkeep.core.audit import Unlisted

MAX_BYTES = 64 << 20
MAX_UNLISTED = 100
_CREDENTIALS = re.compile(r"://[^/\s@]{1,900}@")
_LOOK = "look at the file; if a program wrote it, let it write it anew"


class UnreadableError(Exception):
    """A file or a text cannot be read as what it should be; the message says why."""


def shown(value: Any, limit: int = 120) -> str:
    """Return a value from outside in one line without control characters, shortened, for places and messages.

    Credentials in addresses are masked. Markup is left as it is: who shows it escapes it.
    """
    text = _CREDENTIALS.sub("://***@", str(value)[: limit + 1000])
    text = "".join(c if c.isprintable() else "?" for c in text[: limit + 1])
    return text if len(text) <= limit else text[:limit] + "…"


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Return a regular file's content.

    :raises UnreadableError: it is none, is larger than `limit`, or cannot be read. A pipe is not waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnreadableError("it is no regular file")
            content = file.read(limit + 1)
    except OSError as error:
        raise UnreadableError((error.strerror or type(error).__name__).lower()) from None
    if len(content) > limit:
        raise UnreadableError(f"it is larger than {limit >> 20} MiB")
    return content


def json_object(content: bytes) -> dict[str, Any]:
    """Return the JSON object that a text holds.

    :raises UnreadableError: it holds none, or is nested too deeply, or names a key twice: readers do not agree on
        which of the two counts, so that one could be shown a harmless version and another install the other.
    """
    try:
        found = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_once)
    except RecursionError:
        raise UnreadableError("its JSON is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise UnreadableError(f"byte {error.start} is no UTF-8") from None
    except json.JSONDecodeError as error:
        raise UnreadableError(f"line {error.lineno}, column {error.colno} is no JSON: {error.msg}") from None
    except ValueError as error:  # a number of thousands of digits
        raise UnreadableError(f"it is no usable JSON: {shown(error)}") from None
    if not isinstance(found, dict):
        raise UnreadableError(f"it holds a JSON {type(found).__name__}, expected an object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set[str]()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise UnreadableError(f"its JSON names the key {shown(twice, 60)!r} twice")
    return found


def bounded(unlisted: list[Unlisted], where: str) -> tuple[Unlisted, ...]:
    """Return what could not be listed; of very many only the first, and how many more there are."""
    if len(unlisted) <= MAX_UNLISTED:
        return tuple(unlisted)
    left = len(unlisted) - MAX_UNLISTED
    more = Unlisted(where=where, reason=f"{left} more entries cannot be read", hint=_LOOK)
    return (*unlisted[:MAX_UNLISTED], more)
