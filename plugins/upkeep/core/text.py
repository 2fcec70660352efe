"""Values that a site writes as text: durations, paths with environment variables, things that must not be secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

_UNITS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|sec|min|m|h|d)\s*", re.ASCII)
_ISO = re.compile(r"P(?=.)(?:(\d+)D)?(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.ASCII)
_LONGEST = timedelta(days=3660)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# Prefixes of tokens that providers publish, and the shape of credentials inside a URL. Schemes of URLs and the first
# part of a JWT are looked for from the beginning of their run of letters only: tried at every letter of it, they would
# take time that grows with the square of a line's length.
_SECRET = re.compile(
    r"(?<![a-z0-9+.\-])[0-9+.\-]*+[a-z][a-z0-9+.\-]*+://[^/\s:@]*+:[^/\s@]++@"
    r"|(?<![A-Za-z0-9_-])(?>(?:(?!\beyJ)[A-Za-z0-9_-])*)eyJ[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}"
    r"|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[opsu]_[A-Za-z0-9]{20,}|\bxox[abprs]-"
    r"|\bsk-[A-Za-z0-9_-]{20,}|\bglpat-[A-Za-z0-9_-]{10,}|-----BEGIN"
    r"|(?i:\b(password|passwd|secret|token|api_?key)\s*+=\s*+\S)|https://hooks\.slack\.com/services/\S"
)


def duration(value: Any) -> timedelta:
    """Read a duration with its unit: `90 s`, `30 min`, `2 h`, `1 d`, or ISO 8601 (`PT30M`).

    A bare number is refused: nobody can tell whether its writer meant seconds or minutes.

    >>> duration("30 min"), duration("PT1H30M")
    (datetime.timedelta(seconds=1800), datetime.timedelta(seconds=5400))

    :raises ValueError: the text is no duration, or longer than ten years.
    """
    if isinstance(value, timedelta):
        return value
    found = _parse(value) if isinstance(value, str) else None
    if found is None or found > _LONGEST:
        raise ValueError("expected a duration with its unit, such as 90 s, 30 min, 2 h or 1 d (at most 3660 d)")
    return found


def _parse(text: str) -> timedelta | None:
    try:
        if short := _DURATION.fullmatch(text):
            return timedelta(seconds=float(short[1]) * _UNITS[short[2]])
        if iso := _ISO.fullmatch(text):
            days, hours, minutes, seconds = (float(part or 0) for part in iso.groups())
            return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        return _LONGEST * 2
    return None


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Replace every `${NAME}` in a path by the environment variable of that name.

    >>> expand("${HOME}/x", {"HOME": "/home/a"})
    '/home/a/x'

    :raises ValueError: a variable is not set, or empty: `${DATA}/logs` must not turn into `/logs`.
    """
    missing = sorted({name for name in _VARIABLE.findall(text) if not environ.get(name)})
    if missing:
        raise ValueError(f"expected environment variable {', '.join(missing)} to be set where maintenance runs")
    return _VARIABLE.sub(lambda match: environ[match[1]], text)


def looks_secret(text: str) -> bool:
    """Tell whether a text has the shape of a credential: a known token, a key, a URL with a password.

    >>> looks_secret("postgresql://app:hunter2@db/claims"), looks_secret("claims_db")
    (True, False)
    """
    return bool(_SECRET.search(text))


def looks_random(text: str) -> bool:
    """Tell whether a word looks drawn at random, as keys are; names do not mix digits and both cases for 32 letters."""
    if not re.fullmatch(r"[A-Za-z0-9+/_=.-]{32,}", text):
        return False
    cases = any(c.islower() for c in text) and any(c.isupper() for c in text)
    return (cases and sum(c.isdigit() for c in text) >= 4) or re.fullmatch(r"[0-9a-fA-F]{32,}", text) is not None
