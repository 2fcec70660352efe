"""Moves pins of a requirements file and leaves every other byte of it as it is.

Only `name==version` is a pin. What else a line may hold (extras, markers, comments, continuation, line ending) stays.
Hashes are replaced by those that the index gives for the new version; a pin with hashes that nobody gives is refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from upkeep.adapters._package_text import shown
from upkeep.adapters.versions import compare, is_version
from upkeep.core.audit import Unlisted
from upkeep.core.outdated import Bump, Wanted
from upkeep.core.text import looks_secret

_NAME = re.compile(
    r"\ufeff?\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\]\s*)?(?=[=<>!~;@#\\\s]|$)", re.ASCII
)
_PIN = re.compile(r"((?:\s|\\\r?\n)*)\(?(==\s*)([^\s,;#()\\=]+)\)?\s*+(?=;|\\\r?\n|#|--|$)", re.ASCII)
_HASH = re.compile(r"--hash[= ](\w+):([0-9a-fA-F]+)", re.ASCII)
_BY_HAND = "change it by hand"

type Hashes = Callable[[str, str], Sequence[str]]
"""Returns the SHA-256 of every file of a version, nothing when they are not known."""


class Edited(NamedTuple):
    """A manifest's new text, and what of the wishes is met."""

    text: str
    bumps: list[Bump]
    refused: list[Unlisted]
    missing: list[str]


def normal(name: str) -> str:
    """Return a Python package's name as PEP 503 writes it.

    >>> normal("Zope.Interface")
    'zope-interface'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def edit(text: str, wanted: Sequence[Wanted], place: str, hashes: Hashes) -> Edited:
    """Return the text with its pins moved."""
    wishes = {normal(one.name): one for one in wanted}
    done, met = Edited("", [], [], []), set[str]()
    out = []
    for number, line in _logical(text):
        named = _NAME.match(line)
        wish = wishes.get(normal(named[1])) if named else None
        if named is None or wish is None:
            out.append(line)
            continue
        met.add(normal(wish.name))
        out.append(_moved(line, named, wish, where=f"{place}:{number}", done=done, hashes=hashes))
    done.missing.extend(one.name for key, one in wishes.items() if key not in met)
    return done._replace(text="".join(out))


def _logical(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number of each line that is not the continuation of another, with what continues it."""
    start, parts = 1, list[str]()
    # Not splitlines(): that also splits at form feeds and other signs that pip takes for part of a line.
    for number, line in enumerate(re.findall(r"[^\n]*\n|[^\n]+", text), 1):
        if not parts:
            start = number
        parts.append(line)
        bare = line.rstrip("\r\n")
        if not bare.endswith("\\") or bare.lstrip().startswith("#"):
            yield start, "".join(parts)
            parts = []
    if parts:
        yield start, "".join(parts)


def _moved(line: str, named: re.Match[str], wish: Wanted, *, where: str, done: Edited, hashes: Hashes) -> str:
    """Return a line with its pin moved; as it is when that is not possible or not needed."""
    pin = _PIN.match(line, named.end())
    if pin is None or not is_version("PyPI", pin[3]):
        seen = shown(
            line[named.end() :].partition("#")[0].partition("--hash")[0].strip(" \t\r\n\\") or "no version", 60
        )
        reason = f"{wish.name} is not pinned with ==: {seen}"
        done.refused.append(Unlisted(where=where, reason=reason, hint=f"{_BY_HAND}: at least {wish.version}"))
        return line
    if compare("PyPI", pin[3], wish.version) >= 0:
        return line
    if "+" in pin[3]:
        reason = f"{wish.name} is pinned to a build of its own: {shown(pin[3], 60)}"
        hint = f"{_BY_HAND}: the same build of {wish.version} or later, from where this one comes"
        done.refused.append(Unlisted(where=where, reason=reason, hint=hint))
        return line
    after = line[pin.end(3) :]
    if _HASH.search(after):
        known = sorted(set(hashes(wish.name, wish.version)))
        if not known:
            reason = f"{wish.name} is pinned with hashes, and the index gives none for {wish.version}"
            hint = "compile the file anew with hashes: uv pip compile --generate-hashes, or pip-compile"
            done.refused.append(Unlisted(where=where, reason=reason, hint=hint))
            return line
        after = _rehashed(after, known)
    done.bumps.append(Bump(name=normal(wish.name), before=pin[3], after=wish.version, why=wish.why))
    return line[: pin.start(3)] + wish.version + after


def _rehashed(after: str, known: Sequence[str]) -> str:
    """Replace all hashes of a pin by others, laid out as the first two are."""
    found = list(_HASH.finditer(after))
    between = after[found[0].end() : found[1].start()] if len(found) > 1 else _separator(after, found[0])
    return after[: found[0].start()] + between.join(f"--hash=sha256:{one}" for one in known) + after[found[-1].end() :]


def _separator(after: str, first: re.Match[str]) -> str:
    """Return what stands before a lone hash, which is how a second one would be set apart from it."""
    before = re.search(r"[ \t]*(\\\r?\n)?[ \t]*$", after[: first.start()])
    return before[0] if before and before[0] else " "


def diff(before: str, after: str, name: str) -> str:
    """Return the change as people read it: unified, without credentials and control characters."""
    lines = difflib.unified_diff(_lines(before), _lines(after), f"a/{shown(name)}", f"b/{shown(name)}", lineterm="")
    return "".join(f"{line}\n" for line in lines)


def _lines(text: str) -> list[str]:
    return [_safe(line.rstrip("\r\n")) for line in re.findall(r"[^\n]*\n|[^\n]+", text)]


def _safe(line: str) -> str:
    if looks_secret(line):
        return "(a line with a credential is not shown)"
    return shown(line.replace("\t", "    "), 400)
