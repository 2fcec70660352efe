"""Secrets in log text: found fast, and taken out of everything that is shown.

One Python expression for all kinds takes long on a whole log (measured: 5 MB/s). So lines that may hold one are sifted
out first, all at once; in these literals are looked for, and the expression of a kind is tried only where one of its
literals stands. For card numbers the literal is a run of digits, after all digits were made the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from upkeep.adapters.log_app_sift import sift

_AROUND = 120
"""Bytes before a literal at which what it belongs to may begin."""
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_VALUE = rb"""(?:\\?["'](?P<quoted>[^"'\\\r\n]{3,256})\\?["']|(?P<bare>[^\s"'&,;<>(){}\[\]]{3,256}))"""


@dataclass(frozen=True)
class _Kind:
    """One kind of secret: lower-case literals, with one of which it begins, and its shape; a group is the secret."""

    name: str
    literals: tuple[bytes, ...]
    shape: re.Pattern[bytes]
    real: Callable[[re.Match[bytes]], bool] = lambda _: True


_MASKED = re.compile(
    rb"(?i)[*xX.#\-_?]+|(?:\xe2\x80\xa2)+|.*(?:\*{3}|x{4}|\.\.\.).*|[\[<({%$].*|.*\[[a-z -]+\].*|redacted|filtered|"
    rb"hidden|masked|none|null|nil|true|false|undefined|required|invalid|incorrect|missing|wrong|changed?|reset|expired?|empty|"
    rb"set|unset|ok|yes|no|failed|failure|success|accepted|rejected|authentication|authorization|must|cannot|is|was|not|"
    rb"too|for|field|string|str|bytes|len|length|type|\d{1,3}"
)


def _told(match: re.Match[bytes]) -> bool:
    """Whether a value after `password=` is one, and no mask, placeholder or word of prose."""
    value = match[match.lastgroup or 0].rstrip(b".:!")
    if len(value) < 3 or _MASKED.fullmatch(value):
        return False
    # `password: looks wrong` is prose; after a colon and a space only what no word looks like counts.
    prose = match["sep"].strip() == b":" and match["bare"] is not None and match["sep"] != b":"
    return not (prose and (value.isalpha() or len(value) < 6))


def _token(match: re.Match[bytes]) -> bool:
    """Whether a value after `token=` looks drawn at random: names of tokens and counts of them do not."""
    value = match[match.lastgroup or 0]
    mixed = bool(re.search(rb"\d", value)) and bool(re.search(rb"[A-Za-z]", value))
    return _told(match) and len(value) >= 12 and mixed


def luhn(digits: bytes) -> bool:
    """Tell whether a card number's check digit is right.

    >>> luhn(b"4111111111111111"), luhn(b"4111111111111112")
    (True, False)
    """
    total = 0
    for n, code in enumerate(reversed(digits)):
        digit = (code - 48) * (1 + n % 2)
        total += digit - 9 * (digit > 9)
    return total % 10 == 0


# Prefixes and lengths by issuer: Visa, Mastercard (51-55, 2221-2720), American Express, Discover, Diners, JCB.
_CARD = re.compile(
    rb"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|"
    rb"6(?:011|5\d\d|4[4-9]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}"
)


_IDENTIFIER = re.compile(rb"""(?:(?<![A-Za-z])[iI][dD]|[a-z]I[dD])\\?["']?[ \t]{0,2}[=:][ \t]{0,2}\\?["']?\Z""")


def _card(match: re.Match[bytes]) -> bool:
    digits = re.sub(rb"[ -]", b"", match["s"])
    if len(set(digits)) == 1 or _CARD.fullmatch(digits) is None or not luhn(digits):
        return False
    before = match.string[max(match.start() - 40, 0) : match.start()].rpartition(b"\n")[2]
    if re.search(rb"(?i)card|pan\b", before):
        return True
    # Ids of traces are 64 random bits: one in a hundred has 19 digits, a known prefix and the check digit.
    unlikely = len(digits) in (13, 19) and digits == match["s"]
    return not unlikely and not _IDENTIFIER.search(before)


_SEPARATOR = rb"""(?P<sep>\\?["']?[ \t]{0,2}(?:=>|[=:])[ \t]{0,2})"""
# Every shape is tried where one of its literals begins.
KINDS = (
    _Kind("private key", (b"-----begin",), re.compile(rb"-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----")),
    _Kind("AWS key", (b"akia", b"asia"), re.compile(rb"(?<![A-Za-z0-9+/])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9+/])")),
    _Kind(
        "API token",
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"github_pat_", b"glpat-", b"xox", b"sk-", b"sk_live_", b"rk_live_"),
        re.compile(
            rb"(?<![A-Za-z0-9_])(?:gh[opsu]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{16,}|"
            rb"xox[abeprs]-[A-Za-z0-9-]{10,}|sk-(?:[a-z]+-)?[A-Za-z0-9]{20,}[\w-]*|[sr]k_live_[A-Za-z0-9]{16,})"
        ),
    ),
    _Kind("JWT", (b"eyj",), re.compile(rb"(?<![\w-])eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}")),
    _Kind(
        "bearer token",
        (b"bearer ", b"authorization"),
        re.compile(
            rb"(?i)(?:authorization\\?[\"']?[ \t]?[:=][ \t]?\\?[\"']?(?:basic|bearer|token)|bearer)[ \t]+"
            rb"(?P<s>(?=[A-Za-z._~+/-]*\d)[\w.~+/-]{16,}=*)"
        ),
    ),
    _Kind(
        "password in URL",
        (b"://",),
        re.compile(rb"://[^\s/:@\"'<>]{0,80}:(?P<s>[^\s/@\"'<>]{1,128})@(?=[\w\[])"),
        lambda match: not _MASKED.fullmatch(match["s"]),
    ),
    _Kind(
        "password",
        (b"password", b"passwd", b"passphrase", b"pwd"),
        re.compile(rb"(?i)(?:password|passwd|passphrase|pwd)[0-9]?" + _SEPARATOR + _VALUE),
        _told,
    ),
    _Kind(
        "token",
        (b"token", b"secret", b"api_key", b"apikey", b"api-key", b"access_key", b"accesskey", b"sessionid"),
        re.compile(
            rb"(?i)(?:token|secret(?:[_-]?(?:access)?[_-]?key)?|api[_-]?key|access[_-]?key(?:[_-]id)?|sessionid)"
            + _SEPARATOR
            + _VALUE
        ),
        _token,
    ),
    _Kind(
        "card number",
        (b"0" * 13, b"0000 0000 0000", b"0000-0000-0000", b"0000 000000 0000", b"0000-000000-0000"),
        re.compile(rb"(?<![\w.+/-])(?P<s>\d(?:[ -]?\d){12,18})(?![\w+/=]|[.-]\d)"),
        _card,
    ),
)
CARD = KINDS[-1].name
# For RE2: no line without one of these holds a secret of any kind but card numbers.
_MAYBE = (
    r"(?i)(?:password|passwd|passphrase|pwd)[0-9]?\\?[\"']?[ \t]{0,2}[=:]"
    r"|(?:token|secret(?:[_-]?(?:access)?[_-]?key)?|api[_-]?key|access[_-]?key(?:[_-]id)?|sessionid)"
    r"\\?[\"']?[ \t]{0,2}[=:]|-----BEGIN|(?-i:AKIA|ASIA)|gh[opsu]_|github_pat_|glpat-|xox[abeprs]-|sk-|[sr]k_live_"
    r"|eyJ[a-z0-9_-]+\.eyJ|bearer[ \t]|authorization\\?[\"']?[ \t]?[=:]|://[^\s/:@\"'<>]*:[^\s/@\"'<>]+@"
)
_SMALL = 16 << 10
"""Bytes below which sifting costs more than it saves."""
WORST = frozenset({"private key", "AWS key", "API token", "password in URL", "password", "card number"})
"""Kinds that open a door for long, or must by law not be in a log; tokens usually end by themselves."""


@dataclass(frozen=True)
class Leak:
    """Where in a block a secret stands."""

    kind: str
    start: int
    end: int


class Scanner:
    """Finds secrets in blocks of log text.

    :param allow: expressions; what one of them matches somewhere in a secret and the key before it is none.
    """

    def __init__(self, allow: Sequence[str] = ()) -> None:
        self._allow = [re.compile(a.encode()) for a in allow]

    def scan(self, block: bytes) -> Iterator[Leak]:
        """Yield the secrets of a block of lines."""
        taken = set[int]()
        if len(block) < _SMALL:
            yield from self._scan(block, 0, KINDS, taken)
            return
        for start, end in sift(block, _MAYBE):
            yield from self._scan(block[start:end], start, KINDS[:-1], taken)
        yield from self._scan(block, 0, KINDS[-1:], taken)

    def _scan(self, text: bytes, offset: int, kinds: Sequence[_Kind], taken: set[int]) -> Iterator[Leak]:
        """Yield the secrets of some kinds; where another one begins already (`taken`), none does."""
        lower = text.lower()
        for kind in kinds:
            for match in _matches(kind, text, text.translate(_DIGITS) if kind.name == CARD else lower):
                start, end = _span(match)
                if offset + start not in taken and kind.real(match) and not self._allowed(text, match):
                    taken.add(offset + start)
                    yield Leak(kind.name, offset + start, offset + end)

    def _allowed(self, block: bytes, match: re.Match[bytes]) -> bool:
        """Whether the text around a match (its line, from a little before it) is on the allow-list."""
        if not self._allow:
            return False
        begin = max(block.rfind(b"\n", 0, match.start()) + 1, match.start() - _AROUND)
        return any(a.search(block, begin, match.end()) for a in self._allow)


def _matches(kind: _Kind, block: bytes, text: bytes) -> Iterator[re.Match[bytes]]:
    """Yield what has the shape of a kind, wherever one of its literals stands in `text`."""
    shape, find = kind.shape.match, text.find
    for literal in kind.literals:
        at = find(literal)
        while at >= 0:
            match = shape(block, at, at + 600)
            if match is not None:
                yield match
            at = find(literal, at + len(literal) if match is None else match.end())


def _span(match: re.Match[bytes]) -> tuple[int, int]:
    group = next((g for g in ("s", "quoted", "bare") if match.re.groupindex.get(g) and match[g] is not None), 0)
    return match.span(group)


_MAIL = re.compile(rb"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_KEYS_OF_ROWS = re.compile(rb"(Key \([^)]{0,200}\)=)\(.{0,400}?\)(?= |\.|$)|(Failing row contains )\(.*")
# A line of a key that was written in several; words, paths and digests in hexadecimal are none.
_BASE64 = re.compile(
    rb"(?<![\w+/=])(?=[+/0-9A-Z]*[a-z])(?=[+/0-9a-z]*[A-Z])(?=[+/A-Za-z]*\d)[A-Za-z0-9+/]{60,}={0,2}(?![\w+/])"
)
_BLOCK_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY.*", re.DOTALL)
_ALL = Scanner()


def redact(text: bytes) -> bytes:
    """Return text with its secrets, e-mail addresses and values of database rows taken out.

    >>> redact(b"login of bob@example.com with password=hunter2 at postgres://app:pw@db/x")
    b'login of [email] with password=[password] at postgres://app:[password in URL]@db/x'
    """
    # Without its heading nothing would tell that the rest is a key.
    text = _BLOCK_KEY.sub(b"[private key]", text) if b"-----BEGIN" in text else text
    found = sorted(_ALL.scan(text), key=lambda leak: (leak.start, -leak.end))
    out, at = [], 0
    for leak in found:
        if leak.start >= at:
            out += [text[at : leak.start], f"[{leak.kind}]".encode()]
        at = max(at, leak.end)
    cleaned = b"".join([*out, text[at:]])
    cleaned = _BASE64.sub(b"[base64]", cleaned) if len(cleaned) >= 60 else cleaned
    cleaned = _MAIL.sub(b"[email]", cleaned) if b"@" in cleaned else cleaned
    return _KEYS_OF_ROWS.sub(lambda m: (m[1] or m[2]) + b"(?)", cleaned) if b"(" in cleaned else cleaned


_SHOWN = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160))} | {9: " ", 10: "\\n", 13: "\\r"}
# What turns or hides the text around it: bidirectional marks, zero-width characters, separators of lines.
_SHOWN |= {c: f"\\u{c:04x}" for c in (*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)}


def visible(text: bytes | str, length: int = 300) -> str:
    """Return text as it may be shown: control characters written out, bad UTF-8 too, at most `length` characters.

    >>> visible(b"a\\x1b[31mred\\xff\\x00")
    'a\\\\x1b[31mred\\\\xff\\\\x00'
    """
    if isinstance(text, bytes):
        text = text[: 4 * length + 4].decode("utf-8", "backslashreplace")
    else:
        text = text[: length + 1].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    shown = text[: length + 1].translate(_SHOWN)
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def shown(text: bytes, length: int = 300) -> str:
    """Return text redacted, on one line, with control characters written out. Cut last: a half secret is one, too."""
    return visible(redact(clipped(text, 16 * length).rstrip(b"\r\n")), length)


_ENDS_OF_WORDS = b" \t\r\n,;&|}])"
_UNENDED = re.compile(rb"""://[^\s/@"'<>]*\Z|[=:][ \t]{0,2}\\?["'][^"']{0,300}\Z|(?:\d[ -]?){1,19}\Z""")


def clipped(text: bytes, length: int) -> bytes:
    """Return the beginning of a text, cut where no secret is cut in two: half of one would not be known as one.

    >>> clipped(b"a postgres://app:pw,7@db/x", 21), clipped(b"a b", 3)
    (b'a postgres', b'a b')
    >>> clipped(b"x" * 99, 50)
    b'(a word of 99 bytes)'
    """
    if len(text) <= length:
        return text
    end = max(text.rfind(bytes([code]), 0, length) for code in _ENDS_OF_WORDS) + 1
    unended = _UNENDED.search(text, max(end - 400, 0), end)
    return text[: end if unended is None else unended.start()] or b"(a word of %d bytes)" % len(text)
