"""Finds secrets in addresses and lines of a log, and blots them out of whatever is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Names of parameters whose value is a secret, as they stand in query strings.
_NAMES = (
    rb"password|passwd|pwd|passphrase|secret|client_secret|token|access_token|refresh_token|id_token|auth_token|jwt"
    rb"|api[_-]?key|apikey|access[_-]?key|private[_-]?key|j?session(?:id|_id)?|phpsessid|sid|sig|signature|authorization|csrf_?token"
)
_PARAMETER = re.compile(rb"(?i)(?:^|[?&;#\s\"'])((?:[a-z0-9_-]{0,32}[_-])?(?:" + _NAMES + rb"))(?:=|%3D)([^&\s\"'#;]+)")
_SHAPES = {
    "jwt": re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    "aws key": re.compile(rb"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "provider token": re.compile(
        rb"\b(?:gh[opsur]_[A-Za-z0-9]{20,}|xox[abprs]-[A-Za-z0-9-]{10,}|sk-[A-Za-z0-9_-]{20,}|sk_live_[A-Za-z0-9]{16,}"
        rb"|glpat-[A-Za-z0-9_-]{10,})"
    ),
    "url password": re.compile(rb"[a-zA-Z][a-zA-Z0-9+.-]*(?:://|%3A%2F%2F)[^\s/:@\"]{0,64}(?::|%3A)([^\s/@\"]{1,200}?)(?:@|%40)"),
    "bearer": re.compile(rb"(?i)\bbearer(?:\s|\+|%20)+([A-Za-z0-9._~+/=-]{8,})"),
}  # fmt: skip
_GAP = r"(?:[ +-]|%20)"
# In one piece, in groups of four, or as American Express prints it: longer rows of digits and dashes are no cards.
_DIGITS = rf"(?:\d{{13,19}}|\d{{4}}(?:{_GAP}\d{{4}}){{2}}{_GAP}\d{{1,7}}|3[47]\d{{2}}{_GAP}\d{{6}}{_GAP}\d{{5}})"
_CARD = re.compile(rf"(?<![0-9A-Za-z.%-]){_DIGITS}(?![0-9A-Za-z-])".encode())
# Beginnings and lengths that issuers use (ISO/IEC 7812): other numbers often pass Luhn's check, one in ten does.
_ISSUED = re.compile(
    rb"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|6(?:011|5\d\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|35\d{14}"
)

LIKELY = (
    r"(?i)(passw|pwd=|pwd%3d|passphrase|secret|token|jwt|key(=|%3d)|session|sid(=|%3d)|sig(nature)?(=|%3d)|authorization"
    r"|bearer|eyj[a-z0-9_-]{8}|a[ks]ia[a-z0-9]{16}|gh[opsur]_|xox[abprs]-|sk[-_]|glpat-|:[^/@]*(@|%40)"
    rf"|(^|[^0-9A-Za-z.%-]){_DIGITS}([^0-9A-Za-z-]|$))"
)
"""RE2: only texts with this can hold a secret."""
MASK = b"[redacted]"


def secrets(text: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield kind, start and end of every secret in a text. Values that are obviously masked already are none."""
    for found in _PARAMETER.finditer(text):
        if not _masked(found[2]):
            yield _parameter_kind(found[1]), *found.span(2)
    for kind, pattern in _SHAPES.items():
        for found in pattern.finditer(text):
            group = found.re.groups
            if not _masked(found[group]):
                yield kind, *found.span(group)
    for found in _CARD.finditer(text):
        number = re.sub(rb"%20|\D", b"", found[0])
        if _ISSUED.fullmatch(number) and luhn(number):
            yield "card number", *found.span()


def _parameter_kind(name: bytes) -> str:
    low = name.lower()
    if b"pass" in low or b"pwd" in low:
        return "password"
    if b"key" in low:
        return "api key"
    return "session" if b"sess" in low or low in (b"sid", b"csrf_token", b"csrftoken") else "token"


def _masked(value: bytes) -> bool:
    """Tell whether somebody has blotted a value out, or left a placeholder."""
    return not value.strip(b"*xX.-") or value.lower() in (b"null", b"undefined", b"none", b"true", b"false") or (
        value[:1] in (b"[", b"<", b"{") or value.startswith((b"%5B", b"%3C", b"%7B"))
    )  # fmt: skip


def luhn(number: bytes) -> bool:
    """Tell whether the last digit is the check digit of ISO/IEC 7812.

    >>> luhn(b"4111111111111111"), luhn(b"4111111111111112")
    (True, False)
    """
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = (digit - 48) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0 and len(set(number)) > 1


def redacted(text: bytes) -> bytes:
    """Return a text with every secret in it replaced."""
    made, at = [], 0
    for start, end in sorted((start, end) for _, start, end in secrets(text)):
        if end > at:
            made += [text[at : max(start, at)], MASK]
            at = end
    return b"".join((*made, text[at:]))


def shown(text: bytes, longest: int = 200) -> str:
    """Return a text for people: redacted, shortened, without anything that a terminal or a page would act upon."""
    # What a cut could make unrecognisable is redacted before the cut.
    plain = redacted(text[: longest + 4096]).decode("utf-8", "backslashreplace")
    short = plain if len(plain) <= longest else plain[: longest - 1] + "…"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}" for c in short)
