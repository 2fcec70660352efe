"""The base score of a CVSS v3 vector, by its published formula.

Source: https://www.first.org/cvss/v3.1/specification-document, sections 7.1, 7.4 and appendix A (roundup). Version 3.0
differs in roundup only, which makes no difference to the score of a base vector. Vectors of version 4 are not scored:
its scores come from a table of 270 entries that nobody can check by hand, and whoever publishes such a vector in OSV's
format also gives the severity as a word.
"""

from __future__ import annotations

from math import floor

from upkeep.core.audit import Rating

_VALUES = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "PR": {"N": 0.85, "L": 0.62, "H": 0.27},
    "UI": {"N": 0.85, "R": 0.62},
    "S": {"U": 0.0, "C": 1.0},
    "C": {"H": 0.56, "L": 0.22, "N": 0.0},
    "I": {"H": 0.56, "L": 0.22, "N": 0.0},
    "A": {"H": 0.56, "L": 0.22, "N": 0.0},
}
_PRIVILEGES_WHEN_CHANGED = {"N": 0.85, "L": 0.68, "H": 0.5}
# Section 5 of the specification; the words are OSV's and GitHub's (MODERATE) and Debian's (unimportant).
_BANDS = ((9.0, Rating.CRITICAL), (7.0, Rating.HIGH), (4.0, Rating.MEDIUM), (0.1, Rating.LOW))
_WORDS = {
    "critical": Rating.CRITICAL,
    "high": Rating.HIGH,
    "important": Rating.HIGH,
    "moderate": Rating.MEDIUM,
    "medium": Rating.MEDIUM,
    "low": Rating.LOW,
    "negligible": Rating.LOW,
    "unimportant": Rating.LOW,
    "none": Rating.LOW,
}


def score(vector: str) -> float | None:
    """Return the base score of a vector, None when it is none of version 3 or not whole.

    >>> score("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N")
    7.5
    """
    version, _, rest = vector.partition("/")
    if version not in ("CVSS:3.0", "CVSS:3.1"):
        return None
    pairs = [part.partition(":")[::2] for part in rest.rstrip("/").split("/")]
    given = dict(pairs)
    if len(given) < len(pairs) or any(given.get(name) not in values for name, values in _VALUES.items()):
        return None
    return _base({name: values[given[name]] for name, values in _VALUES.items()}, given["PR"])


def rating_of(base_score: float) -> Rating:
    """Return the band of a score."""
    return next((rating for lower, rating in _BANDS if base_score >= lower), Rating.LOW)


def rating_named(word: str) -> Rating:
    """Return the band of a word such as `MODERATE`, `unknown` for one that says nothing (`not yet assigned`)."""
    return _WORDS.get(word.strip().lower(), Rating.UNKNOWN)


def _base(value: dict[str, float], privileges: str) -> float:
    changed = value["S"] == 1.0
    needed = _PRIVILEGES_WHEN_CHANGED[privileges] if changed else value["PR"]
    lost = 1 - (1 - value["C"]) * (1 - value["I"]) * (1 - value["A"])
    impact = 7.52 * (lost - 0.029) - 3.25 * (lost - 0.02) ** 15 if changed else 6.42 * lost
    if impact <= 0:
        return 0.0
    total = impact + 8.22 * value["AV"] * value["AC"] * needed * value["UI"]
    return _roundup(min(1.08 * total if changed else total, 10))


def _roundup(number: float) -> float:
    whole = round(number * 100_000)
    return whole / 100_000 if whole % 10_000 == 0 else (floor(whole / 10_000) + 1) / 10
