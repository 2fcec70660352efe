"""Looks packages up in several sources of advisories and makes one answer of theirs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from upkeep.adapters import advisories_cvss, advisories_folder, advisories_service
from upkeep.adapters.advisories_answer import Answer, Hit, Key, keys_of
from upkeep.adapters.advisories_osv import by_version, looked_up_as, normal
from upkeep.core.audit import Audited, Limits, Listed, Package, Rating, Unlisted, Vulnerability, verdict_of
from upkeep.core.dependencies import AdvisorySource

type OpenHttp = Callable[..., AbstractContextManager[Any]]
_NAME_ONE = (
    "name one in `advisories` of the target or in the routine's setting: a `folder` with OSV files, or the `url` of a"
    " service that speaks OSV's API (https://api.osv.dev learns which packages you use)"
)
_WORST_FIRST = (Rating.CRITICAL, Rating.HIGH, Rating.MEDIUM, Rating.LOW, Rating.UNKNOWN)


@dataclass(frozen=True)
class World:
    """What looking something up needs: how to reach services, where indexes are kept, limits and the time."""

    http: OpenHttp
    indexes: Path
    limits: Limits
    now: datetime


def audit(listed: Listed, sources: Sequence[AdvisorySource], world: World) -> Audited:
    """Look every package up in every source. What no source could answer is unanswered, never clean.

    :raises ConfigurationError: a source names a connection that does not exist.
    """
    own = {normal("PyPI", name) for name in world.limits.own}
    asked = [package for package in listed.packages if normal("PyPI", package.name) not in own]
    keys = keys_of(asked)
    answers = [_ask(source, keys, world) for source in sources] if keys else []
    answered = set[Key]().union(*(answer.answered for answer in answers))
    unanswered = tuple(package for package in asked if looked_up_as(package) not in answered)
    problems = tuple(problem for answer in answers for problem in answer.problems)
    if not sources:
        problems = (Unlisted(where="advisories", reason="no source is named", hint=_NAME_ONE),)
    vulnerabilities = tuple(_vulnerabilities(asked, answers))
    return Audited(
        verdict=verdict_of(listed, vulnerabilities, problems, unanswered, asked),
        listed=listed,
        vulnerabilities=vulnerabilities,
        problems=problems,
        unanswered=unanswered,
        sources=tuple(answer.state for answer in answers),
        undecided=max((answer.undecided for answer in answers), default=0),
    )


def _ask(source: AdvisorySource, keys: Sequence[Key], world: World) -> Answer:
    if source.folder is not None:
        return advisories_folder.ask(
            Path(source.folder),
            keys,
            world.indexes,
            max_age_days=source.max_age_days,
            limits=world.limits,
            now=world.now,
        )
    place = (source.url or f"connection {source.conn_id}").rstrip("/")
    return advisories_service.ask(
        lambda: world.http(conn_id=source.conn_id, base_url=source.url), place, keys, world.limits
    )


def _vulnerabilities(packages: Iterable[Package], answers: Sequence[Answer]) -> Iterator[Vulnerability]:
    found = [
        _merged(package, group)
        for package in packages
        for group in _groups(
            [(answer.place, hit) for answer in answers for hit in answer.hits.get(looked_up_as(package), ())]
        )
    ]
    yield from sorted(found, key=lambda v: (_WORST_FIRST.index(v.rating), v.package.name, v.id, v.package.where))


def _groups(told: Sequence[tuple[str, Hit]]) -> list[list[tuple[str, Hit]]]:
    """Put advisories together that share a name: one vulnerability is told of by several databases."""
    groups = list[tuple[set[str], list[tuple[str, Hit]]]]()
    for place, hit in told:
        names = {hit.id, *(hit.advisory.aliases if hit.advisory else ())}
        joined = [group for group in groups if group[0] & names]
        groups = [group for group in groups if not group[0] & names]
        groups.append((names.union(*(g[0] for g in joined)), [*(one for g in joined for one in g[1]), (place, hit)]))
    return [members for _, members in groups]


def _merged(package: Package, told: Sequence[tuple[str, Hit]]) -> Vulnerability:
    hits = [hit for _, hit in told]
    names = sorted({n for hit in hits for n in (hit.id, *(hit.advisory.aliases if hit.advisory else ()))}, key=_rank)
    rating, score, rated_by = _rated(hits, package)
    read = [hit.advisory for hit in hits if hit.advisory]
    return Vulnerability(
        package=package,
        id=names[0],
        aliases=tuple(names[1:]),
        rating=rating,
        score=score,
        rated_by=rated_by,
        fixed=_fixed(package.ecosystem, hits),
        summary=next((a.summary for a in read if a.summary), ""),
        source=told[0][0],
        note="; ".join(dict.fromkeys(hit.note for hit in hits if hit.note)),
    )


def _rank(name: str) -> tuple[int, str]:
    """CVE first: it is the name that databases share and that does not change when another one learns of it."""
    prefix = re.split(r"[-_]", name, maxsplit=1)[0]
    return {"CVE": 0, "GHSA": 1, "PYSEC": 2}.get(prefix, 3), name


def _rated(hits: Sequence[Hit], package: Package) -> tuple[Rating, float | None, str]:
    """Return the worst of what the databases say, and which says it; vectors count before words."""
    scored, worded = list[tuple[float, str]](), list[tuple[Rating, str]]()
    ecosystem, name, _ = looked_up_as(package)
    for advisory in (hit.advisory for hit in hits if hit.advisory):
        parts = advisory.about(ecosystem, name)
        vectors = [one.score for one in (*advisory.severity, *(one for part in parts for one in part.severity))]
        for vector in vectors:
            if (value := advisories_cvss.score(vector)) is not None:
                scored.append((value, f"{advisory.id} {vector}"))
        # Of Ubuntu a "vector" is a word.
        for word in (advisory.word, *(part.word for part in parts), *vectors):
            if (rating := advisories_cvss.rating_named(word)) is not Rating.UNKNOWN:
                worded.append((rating, f"{advisory.id} {word}"))
    if scored:
        value, source = max(scored)
        return advisories_cvss.rating_of(value), value, source
    if worded:
        rating, source = min(worded, key=lambda one: _WORST_FIRST.index(one[0]))
        return rating, None, source
    return Rating.UNKNOWN, None, ""


def _fixed(ecosystem: str, hits: Sequence[Hit]) -> str:
    """Return the version that ends it by every database that names one: the highest of theirs."""
    versions = [hit.fixed for hit in hits if hit.fixed]
    return max(versions, key=by_version(ecosystem), default="")
