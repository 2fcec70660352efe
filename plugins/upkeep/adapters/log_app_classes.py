"""Kinds of trouble: lines that hold all words of one of a kind's phrases, in any order."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence

from upkeep.adapters.log_app import NO_FILE, Entry
from upkeep.adapters.log_app_seen import Seen, moment
from upkeep.adapters.log_app_sift import sift
from upkeep.adapters.log_secrets import clipped, shown
from upkeep.core.log_review import Hits

_EXAMPLES = 3
_KEPT = 2000


class Class:
    """One kind. A word counts where a word of the line begins with it: `fail` stands in "failed" and "failure"."""

    def __init__(self, name: str, phrases: Sequence[str]) -> None:
        self.name = name
        self.phrases = [tuple(word.encode() for word in phrase.lower().split()) for phrase in phrases if phrase.split()]
        self.seen = Seen(keep=_EXAMPLES)

    def holds(self, line: bytes) -> bool:
        """Whether a line (in lower case) is of this kind."""
        return any(all(_begins(line, word) for word in words) for words in self.phrases)

    def result(self) -> Hits:
        """Return what was counted."""
        seen = self.seen
        return Hits(
            name=self.name,
            count=seen.count,
            first=moment(seen.first),
            last=moment(seen.last),
            examples=tuple(shown(text, 200) for _, text in seen.examples),
        )


def _begins(line: bytes, word: bytes) -> bool:
    at = line.find(word)
    while at > 0 and line[at - 1 : at].isalnum():
        at = line.find(word, at + 1)
    return at >= 0


class Classes:
    """Several kinds, looked for together."""

    def __init__(self, classes: Sequence[Class]) -> None:
        self._classes = classes
        self._words = "(?i)" + "|".join(re.escape(w.decode()) for w in _covering(classes))

    def take(self, part: bytes, starts: list[int], entries: Sequence[Entry]) -> None:
        """Count the entries of some lines, each once by kind. `starts`: where in `part` each begins; all follow."""
        if not self._classes or not part:
            return
        counted = set[tuple[int, str]]()
        for begin, end in sift(part, self._words):
            n = bisect_right(starts, begin) - 1
            line = part[begin : min(end, begin + (64 << 10))]
            lower = line.lower()
            if b'() "' in line and NO_FILE.search(line):
                continue  # its words are those of somebody's address
            if n < 0 or begin - starts[n] >= entries[n].end - entries[n].start:
                continue  # between two entries of the window stands one of another
            for kind in self._classes:
                if (n, kind.name) not in counted and kind.holds(lower):
                    counted.add((n, kind.name))
                    kind.seen.add(entries[n].time, clipped(line, _KEPT))

    def result(self) -> Iterator[Hits]:
        """Yield what was counted of each kind."""
        for kind in self._classes:
            yield kind.result()


def _covering(classes: Sequence[Class]) -> list[bytes]:
    """Return few words, one of which stands in every phrase."""
    left, chosen = [words for kind in classes for words in kind.phrases], list[bytes]()
    while left:
        counts = Counter(word for words in left for word in set(words))
        best = max(sorted(counts), key=lambda w: (counts[w], len(w)))
        chosen.append(best)
        left = [words for words in left if best not in words]
    return chosen
