"""Finds attacks, probes, scanners, foreign pages and leaked secrets in batches of requests."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np  # noqa: TID253 - imported by log_access inside its function only

from upkeep.adapters.log_access_batch import Batch, encoded
from upkeep.adapters.log_access_groups import Few
from upkeep.adapters.log_access_routes import Routes, matches
from upkeep.adapters.log_access_rules import LIKELY, SCANNERS, SPECIAL, Rule, attacks
from upkeep.adapters.log_access_secrets import LIKELY as SECRET
from upkeep.adapters.log_access_secrets import secrets
from upkeep.adapters.log_access_words import Array

_SCANNER = "|".join(map(re.escape, SCANNERS))
_HEADER = r"\$\{|\(\)\s*\{|<\s*(script|img|svg|iframe)|%3c|union.{1,20}select|\.\./|sleep\s*\(|javascript:"
"""Signs of an attack in a browser's name or a referring page; what `LIKELY` looks for is usual there."""
_TARGET_LIMIT = 4096


@dataclass
class Seen:
    """How often something was seen, by the first digit of the status, and an example."""

    answers: Array = field(default_factory=lambda: np.zeros(10, np.int64))
    sample: bytes = b""
    route: bytes = b""
    first: int = 1 << 62
    best: int = -1


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

    def add(self, batch: Batch, named: Routes, write: Array) -> dict[str, Array]:
        """Count a batch, and return which of its requests were attacks, probes and a scanner's."""
        agent, agents = encoded(batch.agent)
        referer, referers = encoded(batch.referer)
        attack = np.zeros(len(batch), bool)
        self._addresses(batch, named, attack)
        self._headers(batch, named, agent, agents, attack)
        self._headers(batch, named, referer, referers, attack)
        self._leaks(batch, named, referer, referers)
        self._foreign(batch, referer, referers, write)
        return {
            "attacks": attack,
            "probes": self._probes(batch, named),
            "scanner": self._scanners(batch, agent, agents),
        }

    def _addresses(self, batch: Batch, named: Routes, attack: Array) -> None:
        where = _where(batch.target, SPECIAL)
        where = where[_where(batch.target.take(where), LIKELY)]
        if not len(where):
            return
        codes, texts = encoded(batch.target.take(where))
        for number, text in enumerate(texts.to_pylist()):
            attack[self._attacked(batch, named, where[codes == number], text)] = True

    def _headers(self, batch: Batch, named: Routes, codes: Array, texts: Any, attack: Array) -> None:
        for number in np.flatnonzero(matches(texts, _HEADER)).tolist():
            rows = np.flatnonzero(codes == number)
            attack[self._attacked(batch, named, rows, texts[number].as_py())] = True

    def _attacked(self, batch: Batch, named: Routes, rows: Array, text: bytes) -> Array:
        """Count requests that share a text, and return those that are attacks: all or none."""
        rules = attacks(text) if len(rows) else ()
        for rule in rules:
            _count(self.attacks.setdefault(rule, Seen()), batch, rows, text, named)
        return rows if rules else rows[:0]

    def _probes(self, batch: Batch, named: Routes) -> Array:
        hit = np.zeros(len(batch), bool)
        for name, mask in named.probe.items():
            rows = np.flatnonzero(mask[named.code])
            hit[rows] = True
            _count(self.probes.setdefault(name, Seen()), batch, rows, None, named)
        return hit

    def _scanners(self, batch: Batch, codes: Array, texts: Any) -> Array:
        known = matches(texts, _SCANNER)
        for number in np.flatnonzero(known).tolist():
            agent = texts[number].as_py()
            name = next(s for s in SCANNERS if s.encode() in agent.lower())
            _count(self.scanners.setdefault(name, Seen()), batch, np.flatnonzero(codes == number), agent, None)
        return known[codes]

    def _foreign(self, batch: Batch, codes: Array, texts: Any, write: Array) -> None:
        for counter, mask in ((self.refused, batch.status == 403), (self.passed, batch.status < 400)):
            rows = np.flatnonzero(write & mask)
            for number, count in enumerate(np.bincount(codes[rows], minlength=len(texts)).tolist()):
                if count and (host := _host(texts[number].as_py())):
                    counter.add(host, count)

    def _leaks(self, batch: Batch, named: Routes, codes: Array, texts: Any) -> None:
        where = _where(batch.target, SECRET)
        if len(where):
            again, targets = encoded(batch.target.take(where))
            counts = np.bincount(again, minlength=len(targets))
            first = np.zeros(len(targets), np.int64)
            first[again[::-1]] = where[::-1]
            for number, text in enumerate(targets.to_pylist()):
                self._leaked(text, named.of(int(first[number])), int(counts[number]))
        likely = np.flatnonzero(matches(texts, SECRET))
        if len(likely):
            counts = np.bincount(codes, minlength=len(texts))
            for number in likely.tolist():
                self._leaked(texts[number].as_py(), b"(referring page)", int(counts[number]))

    def _leaked(self, text: bytes, route: bytes, count: int) -> None:
        if not count:
            return
        for kind in {kind for kind, _, _ in secrets(text[: 4 * _TARGET_LIMIT])}:
            self.leaks.add((kind, route), count)
            if len(self.leak_samples) < 4 * self.leaks.limit:
                self.leak_samples.setdefault((kind, route), text[:_TARGET_LIMIT])


def _where(texts: Any, pattern: str) -> Array:
    import pyarrow.compute as pc

    found: Array = np.flatnonzero(pc.match_substring_regex(texts, pattern=pattern).to_numpy(zero_copy_only=False))
    return found


def _count(seen: Seen, batch: Batch, rows: Array, text: bytes | None, named: Routes | None) -> None:
    """Count requests. The example is the first of those that got farthest: answered, failed, redirected, refused."""
    if not len(rows):
        return
    hundreds = batch.status[rows] // 100
    seen.answers += np.bincount(hundreds, minlength=10)[:10]
    seen.first = min(seen.first, int(batch.at[rows].min()))
    rank = np.array([0, 0, 3, 1, 0, 2, 0, 0, 0, 0])[hundreds]
    best = int(rank.argmax())
    if rank[best] > seen.best:
        seen.best = int(rank[best])
        row = int(rows[best])
        seen.sample = (batch.target[row].as_py() if text is None else text)[:_TARGET_LIMIT]
        seen.route = named.of(row) if named is not None else b""


def _host(page: bytes) -> str:
    """Return the host of a referring page; empty: there is none."""
    try:
        return (urlsplit(page[:_TARGET_LIMIT].decode("ascii", "replace")).hostname or "")[:253]
    except ValueError:
        return ""
