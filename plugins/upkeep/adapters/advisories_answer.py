"""What one source of advisories says of some packages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from upkeep.adapters.advisories_osv import Advisory, decide, looked_up_as
from upkeep.core.audit import Package, SourceState, Unlisted

type Key = tuple[str, str, str]
"""Ecosystem, name and version as advisories know them."""


@dataclass(frozen=True)
class Hit:
    """An advisory that applies. `advisory` is None when the source named it and could not show it."""

    id: str
    advisory: Advisory | None
    fixed: str = ""
    note: str = ""


@dataclass
class Answer:
    """What a source said. A package that is not in `answered` may have more wrong with it than `hits` holds."""

    place: str
    state: SourceState
    hits: dict[Key, list[Hit]] = field(default_factory=dict)
    answered: set[Key] = field(default_factory=set)
    problems: list[Unlisted] = field(default_factory=list)
    undecided: int = 0
    changes: dict[str, datetime] = field(default_factory=dict)
    """Of a folder: when the youngest of its advisories was changed, by ecosystem."""

    def add(self, key: Key, advisory: Advisory, *, claimed: bool = False) -> None:
        """Take in an advisory about a package, when it applies to that version.

        :param claimed: the source says itself that it applies: it is kept even where we would not have seen that.
        """
        decision = decide(advisory, *key)
        if decision.applies == "yes":
            self._hit(key, Hit(advisory.id, advisory, decision.fixed))
        elif claimed:
            self._hit(
                key, Hit(advisory.id, advisory, note="the source says that it applies; its ranges do not show it")
            )
        elif decision.applies == "unclear":
            self._unclear(key, advisory, decision.why)

    def name_only(self, key: Key, advisory: str, why: str) -> None:
        """Take in an advisory of which only the id is known."""
        self._hit(key, Hit(advisory, None, note=f"its details could not be read: {why}"))

    def trouble(self, reason: str, hint: str, where: str = "") -> None:
        """Take in what kept the source from answering."""
        self.problems.append(Unlisted(where=where or self.place, reason=reason, hint=hint))

    def _hit(self, key: Key, hit: Hit) -> None:
        self.hits.setdefault(key, []).append(hit)

    def _unclear(self, key: Key, advisory: Advisory, why: str) -> None:
        if why.startswith("it names commits"):
            self.undecided += 1
            return
        self.answered.discard(key)
        self.trouble(
            f"advisory {advisory.id} on {key[1]} {key[2]}: {why}",
            "compare by hand; the version in use, or the one in the advisory, does not follow the ecosystem's rules",
        )


def keys_of(packages: Iterable[Package]) -> list[Key]:
    """Return what is to be asked, each thing once, in a fixed order."""
    return sorted({looked_up_as(package) for package in packages})
