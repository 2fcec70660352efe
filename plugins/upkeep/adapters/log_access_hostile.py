"""Finds attacks, probes, scanners, foreign pages and leaked secrets in batches of requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np  # noqa: TID253 - imported by log_access inside its function only

from upkeep.adapters.log_access_batch import Batch, encoded
from upkeep.adapters.log_access_groups import Few
from upkeep.adapters.log_access_look import Look, Texts
from upkeep.adapters.log_access_routes import Routes
from upkeep.adapters.log_access_rules import SCANNERS, Rule, attacks
from upkeep.adapters.log_access_secrets import secrets
from upkeep.adapters.log_access_words import Array

_TARGET_LIMIT = 4096
_TIES = 100


@dataclass
class Seen:
    """How often something was seen, by the first digit of the status, and an example."""

    answers: Array = field(default_factory=lambda: np.zeros(10, np.int64))
    sample: bytes = b""
    route: bytes = b""
    first: int = 1 << 62
    best: tuple[int, int] = (-1, 0)
    """How far the example got, and when (negative: earlier is better)."""


class Hostile:
    """What of the requests was meant badly, or says too much."""

    def __init__(self) -> None:
        self.attacks: dict[Rule, Seen] = {}
        self.probes: dict[str, Seen] = {}
        self.scanners: dict[str, Seen] = {}
        self.refused: Few[str] = Few(2_000)
        self.passed: Few[str] = Few(2_000)
        self.leaks: Few[tuple[str, bytes]] = Few(2_000)
        self.leak_samples: dict[tuple[str, bytes], bytes] = {}

    def add(self, seen: Look, write: Array) -> dict[str, Array]:
        """Count a batch, and return which of its requests were attacks, probes and a scanner's."""
        attack = np.zeros(len(seen.batch), bool)
        self._addresses(seen, attack)
        self._headers(seen, seen.agents, attack)
        self._headers(seen, seen.referers, attack)
        self._leaks(seen)
        self._foreign(seen, write)
        return {"attacks": attack, "probes": self._probes(seen), "scanner": self._scanners(seen)}

    def _addresses(self, seen: Look, attack: Array) -> None:
        if not len(seen.odd):
            return
        codes, texts = encoded(seen.batch.target.take(seen.odd))
        for number, rows in _grouped(codes, seen.odd):
            attack[self._attacked(seen, rows, texts[number].as_py())] = True

    def _headers(self, seen: Look, texts: Texts, attack: Array) -> None:
        for number in texts.odd.tolist():
            attack[self._attacked(seen, np.flatnonzero(texts.code == number), texts.values[number].as_py())] = True

    def _attacked(self, seen: Look, rows: Array, text: bytes) -> Array:
        """Count requests that share a text, and return those that are attacks: all or none."""
        rules = attacks(text) if len(rows) else ()
        for rule in rules:
            _count(self.attacks.setdefault(rule, Seen()), seen.batch, rows, text, seen.named)
        return rows if rules else rows[:0]

    def _probes(self, seen: Look) -> Array:
        hit = np.zeros(len(seen.batch), bool)
        for name, mask in seen.named.probe.items():
            rows = np.flatnonzero(mask[seen.named.code])
            hit[rows] = True
            _count(self.probes.setdefault(name, Seen()), seen.batch, rows, None, seen.named)
        return hit

    def _scanners(self, seen: Look) -> Array:
        for number in np.flatnonzero(seen.scanners).tolist():
            agent = seen.agents.values[number].as_py()
            name = next(s for s in SCANNERS if s.encode() in agent.lower())
            rows = np.flatnonzero(seen.agents.code == number)
            _count(self.scanners.setdefault(name, Seen()), seen.batch, rows, agent, None)
        found: Array = seen.scanners[seen.agents.code]
        return found

    def _foreign(self, seen: Look, write: Array) -> None:
        status, pages = seen.batch.status, seen.referers
        for counter, mask in ((self.refused, status == 403), (self.passed, status < 400)):
            counts = np.bincount(pages.code[write & mask], minlength=len(pages.values))
            for number in np.flatnonzero(counts).tolist():
                if host := _host(pages.values[number].as_py()):
                    counter.add(host, int(counts[number]))

    def _leaks(self, seen: Look) -> None:
        if len(seen.leaky):
            codes, texts = encoded(seen.batch.target.take(seen.leaky))
            for number, rows in _grouped(codes, seen.leaky):
                self._leaked(texts[number].as_py(), seen.named.of(int(rows[0])), len(rows))
        if len(seen.leaky_referers):
            counts = np.bincount(seen.referers.code, minlength=len(seen.referers.values))
            for number in seen.leaky_referers.tolist():
                self._leaked(seen.referers.values[number].as_py(), b"(referring page)", int(counts[number]))

    def _leaked(self, text: bytes, route: bytes, count: int) -> None:
        if not count:
            return
        for kind in {kind for kind, _, _ in secrets(text[: 4 * _TARGET_LIMIT])}:
            self.leaks.add((kind, route), count)
            if len(self.leak_samples) < 4 * self.leaks.limit:
                key, sample = (kind, route), text[:_TARGET_LIMIT]
                self.leak_samples[key] = min(sample, self.leak_samples.get(key, sample))


def _grouped(codes: Array, rows: Array) -> Iterator[tuple[int, Array]]:
    """Yield each code with its rows, in order."""
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes))
    for number, end in enumerate(ends.tolist()):
        yield number, rows[order[ends[number - 1] if number else 0 : end]]


def _count(seen: Seen, batch: Batch, rows: Array, text: bytes | None, named: Routes | None) -> None:
    """Count requests. The example is the first of those that got farthest: answered, failed, redirected, refused.

    Of those of one second it is the least one, so that it does not depend on where blocks begin.
    """
    if not len(rows):
        return
    hundreds = batch.status[rows] // 100
    seen.answers += np.bincount(hundreds, minlength=10)[:10]
    seen.first = min(seen.first, int(batch.at[rows].min()))
    rank = np.array([0, 0, 3, 1, 0, 2, 0, 0, 0, 0])[hundreds]
    farthest = rows[rank == rank.max()]
    at = batch.at[farthest]
    best = (int(rank.max()), -int(at.min()))
    if best < seen.best:
        return
    told = [
        ((batch.target[row].as_py() if text is None else text)[:_TARGET_LIMIT], named.of(row) if named else b"")
        for row in farthest[at == at.min()][:_TIES].tolist()
    ]
    if best == seen.best:
        told.append((seen.sample, seen.route))
    seen.best, (seen.sample, seen.route) = best, min(told)


def _host(page: bytes) -> str:
    """Return the host of a referring page; empty: there is none."""
    try:
        return (urlsplit(page[:_TARGET_LIMIT].decode("ascii", "replace")).hostname or "")[:253]
    except ValueError:
        return ""
