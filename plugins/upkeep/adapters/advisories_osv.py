"""One advisory in OSV's format: what it says, and whether a version is affected.

Source: https://ossf.github.io/osv-schema/ (1.x), "evaluation" for the algorithm. An advisory applies when the version
is in its list of versions or in one of its ranges; ranges of commits (GIT) cannot be compared with versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cmp_to_key, partial
from itertools import groupby
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from upkeep.adapters._package_text import UnreadableError, shown
from upkeep.adapters.versions import compare, is_version
from upkeep.core.audit import Package

_Text = Annotated[str, Field(max_length=2000)]
_Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:+~-]{2,99}$")]
_SUMMARY = 300


class _Part(pydantic.BaseModel, frozen=True, extra="ignore"):
    """A part of an advisory. Keys that we do not need are not even looked at."""


class Event(_Part):
    """A version at which something changes; one of these is given. `introduced: "0"` is before every version."""

    introduced: _Text | None = None
    fixed: _Text | None = None
    last_affected: _Text | None = None
    limit: _Text | None = None


class Range(_Part):
    """Versions from an `introduced` to a `fixed` (exclusive) or a `last_affected` (inclusive)."""

    type: _Text
    events: Annotated[tuple[Event, ...], Field(max_length=20_000)] = ()

    @pydantic.model_validator(mode="after")
    def _begins(self) -> Range:
        """The format demands it, and what begins nowhere would affect nothing."""
        if self.type != "GIT" and not any(event.introduced is not None for event in self.events):
            raise ValueError("it has no `introduced`")
        return self


class _Named(_Part):
    ecosystem: _Text
    name: _Text


class _Rated(_Part):
    type: _Text
    score: _Text


class Affected(_Part):
    """One package of an advisory. `severity` and `word` are for this package alone."""

    package: _Named | None = None
    ranges: Annotated[tuple[Range, ...], Field(max_length=5000)] = ()
    versions: Annotated[tuple[_Text, ...], Field(max_length=100_000)] = ()
    severity: Annotated[tuple[_Rated, ...], Field(max_length=50)] = ()
    word: str = ""


class Advisory(_Part):
    """What of an advisory is needed here."""

    id: _Id
    aliases: Annotated[tuple[_Id, ...], Field(max_length=1000)] = ()
    modified: pydantic.AwareDatetime
    withdrawn: bool = False
    summary: str = ""
    severity: Annotated[tuple[_Rated, ...], Field(max_length=50)] = ()
    word: str = ""
    """The severity in the words of the database that it comes from."""
    affected: Annotated[tuple[Affected, ...], Field(max_length=20_000)]

    def about(self, ecosystem: str, name: str) -> tuple[Affected, ...]:
        """Return what it says about a package, whose name is normalised."""
        return tuple(
            part
            for part in self.affected
            if part.package
            and part.package.ecosystem in (ecosystem, ecosystem.partition(":")[0])
            and normal(ecosystem, part.package.name) == name
        )


@dataclass(frozen=True)
class Decision:
    """Whether a version is affected: `no` and `yes`, or `unclear` and why. `fixed` is empty when there is no fix."""

    applies: Literal["yes", "no", "unclear"]
    fixed: str = ""
    why: str = ""


def read(document: Any) -> Advisory:
    """Return the advisory that a document holds.

    :raises UnreadableError: it holds none; the message says why.
    """
    if not isinstance(document, dict):
        raise UnreadableError(f"it holds a {type(document).__name__}, expected an advisory in OSV's format")
    version = document.get("schema_version", "1")
    if not isinstance(version, str) or version.partition(".")[0] != "1":
        raise UnreadableError(f"its schema_version is {_brief(version)}, expected 1.x")
    withdrawn = document.get("withdrawn") not in (None, "", "null", "~")
    if not isinstance(document.get("affected"), list) and not withdrawn:
        old = " (a draft of the format has `affects` there)" if "affects" in document else ""
        raise UnreadableError(f"it names no `affected` packages{old}")
    wanted = {
        **{key: document[key] for key in ("id", "modified") if key in document},
        "aliases": document.get("aliases") or (),
        "severity": document.get("severity") or (),
        "withdrawn": withdrawn,
        "summary": _summary(document),
        "word": _word(document),
        "affected": [_affected(part) for part in document.get("affected") or ()],
    }
    try:
        return Advisory.model_validate(wanted)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UnreadableError(f"`{place}` is {_brief(first['input'])}: {first['msg'].lower()}") from None
    except RecursionError:
        raise UnreadableError("it is nested too deeply") from None


def _brief(value: Any) -> str:
    """Return a value in a few words. Not of a container: with YAML's aliases a small file holds one of gigabytes."""
    return shown(value, 40) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


def _summary(document: dict[str, Any]) -> str:
    texts = (document.get(key) for key in ("summary", "details"))
    return shown(next((t for t in texts if isinstance(t, str) and t.strip()), ""), _SUMMARY).strip()


def _affected(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    kept = {key: part[key] for key in ("package", "ranges", "versions", "severity") if part.get(key) is not None}
    return {**kept, "word": _word(part)}


def _word(part: dict[str, Any]) -> str:
    """Return a severity in words: GitHub's `database_specific.severity`, Debian's `ecosystem_specific.urgency`."""
    for place in ("database_specific", "ecosystem_specific"):
        specific = part.get(place)
        for key in ("severity", "urgency"):
            if isinstance(specific, dict) and isinstance(specific.get(key), str):
                return shown(specific[key], 40)
    return ""


def normal(ecosystem: str, name: str) -> str:
    """Return a package's name as its ecosystem compares names.

    >>> normal("PyPI", "Flask_SQLAlchemy")
    'flask-sqlalchemy'
    """
    if ecosystem != "PyPI":
        return name
    from packaging.utils import canonicalize_name

    return str(canonicalize_name(name))


def looked_up_as(package: Package) -> tuple[str, str, str]:
    """Return ecosystem, name and version by which advisories know a package (Debian: those of its source).

    Advisories do not know builds: 1.9.0+cu118 has the faults of 1.9.0, though PEP 440 orders it after that.
    """
    name, version = package.source_package or package.name, package.source_version or package.version
    if package.ecosystem in ("PyPI", "npm"):
        version = version.partition("+")[0]
    return package.ecosystem, normal(package.ecosystem, name), version


def decide(advisory: Advisory, ecosystem: str, name: str, version: str) -> Decision:
    """Tell whether an advisory applies to a version of a package, and which version ends it."""
    parts = advisory.about(ecosystem, name)
    ranges = [r for part in parts for r in part.ranges if r.type != "GIT"]
    hit, puzzle = any(_listed(ecosystem, part.versions, version) for part in parts), ""
    for span in ranges:
        try:
            hit = hit or _within(_family(ecosystem, span), span, version)
        except ValueError as error:  # another range may still show that it applies
            puzzle = puzzle or shown(error)
    if hit:
        return Decision("yes", _fix(ecosystem, parts, ranges, version))
    if puzzle:
        return Decision("unclear", why=f"versions cannot be compared: {puzzle}")
    if parts and not ranges and not any(part.versions for part in parts):
        commits = any(part.ranges for part in parts)
        told = "it names commits of a repository, not versions" if commits else "it names no version and no range"
        return Decision("unclear", why=told)
    return Decision("no")


def by_version(ecosystem: str) -> Callable[[str], Any]:
    """Return a sort key for versions of an ecosystem."""
    return cmp_to_key(partial(compare, ecosystem))


def _family(ecosystem: str, span: Range) -> str:
    return "npm" if span.type == "SEMVER" else ecosystem


def _listed(ecosystem: str, versions: tuple[str, ...], version: str) -> bool:
    if version in versions or ecosystem != "PyPI":
        return version in versions
    from packaging.utils import canonicalize_version

    # 3.2.0 and 3.2 are the same version there; `versions` may also hold what PEP 440 no longer allows.
    wanted = canonicalize_version(version)
    return any(canonicalize_version(other) == wanted for other in versions)


def _within(ecosystem: str, span: Range, version: str) -> bool:
    """Tell whether a version lies in a range."""
    limits = [e.limit for e in span.events if e.limit is not None]
    if limits and not any(limit == "*" or _order(ecosystem, version, limit) < 0 for limit in limits):
        return False
    return any(
        _order(ecosystem, version, begin) >= 0
        and (end is None or (order := _order(ecosystem, version, end)) < 0 or (inclusive and order == 0))
        for begin, end, inclusive in _spans(ecosystem, span)
    )


def _spans(ecosystem: str, span: Range) -> Iterator[tuple[str, str | None, bool]]:
    """Yield from where to where a range reaches, and whether the end belongs to it, by its events in any order.

    Where one span ends and the next begins at the same version, the end comes first; where none is open, the beginning
    does: `introduced: "0", fixed: "0"` (never affected) is a span without any version.
    """
    key = cmp_to_key(partial(_order, ecosystem))
    begun: str | None = None
    for _, together in groupby(sorted(_steps(span), key=lambda step: key(step[1])), key=lambda step: key(step[1])):
        ends_first = begun is not None
        for kind, at in sorted(together, key=lambda step: (step[0] == "introduced") == ends_first):
            if kind == "introduced":
                begun = begun if begun is not None else at
            elif begun is not None:
                yield begun, at, kind == "last_affected"
                begun = None
    if begun is not None:
        yield begun, None, False


def _steps(span: Range) -> Iterator[tuple[str, str]]:
    for event in span.events:
        for kind in ("introduced", "fixed", "last_affected"):
            if (at := getattr(event, kind)) is not None:
                yield kind, at


def _order(ecosystem: str, a: str, b: str) -> int:
    if a == "0" or b == "0":
        return (a != "0") - (b != "0")
    return compare(ecosystem, a, b)


def _fix(ecosystem: str, parts: Sequence[Affected], ranges: Sequence[Range], version: str) -> str:
    """Return the smallest fixed version above ours that nothing in the advisory counts as affected."""
    ends = {e.fixed for span in ranges for e in span.events if e.fixed and is_version(ecosystem, e.fixed)}
    try:
        above = [end for end in ends if _order(ecosystem, end, version) > 0]
    except ValueError:  # ours is no version: it stands in a list as it is
        return ""
    for end in sorted(above, key=by_version(ecosystem)):
        listed = any(_listed(ecosystem, part.versions, end) for part in parts)
        if not listed and not any(_may_hold(ecosystem, span, end) for span in ranges):
            return end
    return ""


def _may_hold(ecosystem: str, span: Range, version: str) -> bool:
    try:
        return _within(_family(ecosystem, span), span, version)
    except ValueError:
        return True
