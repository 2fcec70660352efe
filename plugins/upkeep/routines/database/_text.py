"""Statements without what people put into them, and numbers as people read them."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
    (?P<line>--[^\n]*)
  | (?P<block>/\*)
  | (?P<dollar>\$(?P<tag>[A-Za-z_\x80-\uffff][\w]*)?\$)
  | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z|\\\Z))
  | (?P<text>(?:[uU]&|[bBxXnN])?'(?:[^']|'')*(?:'|\Z))
  | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*(?:"|\Z))
  | (?P<parameter>\$\d+)
  | (?P<word>[^\W\d][\w$]*)
  | (?P<number>\.?\d[\w.]*(?:(?<=[eE])[+-]\d+)?)
    """,
    re.VERBOSE | re.DOTALL,
)
_LIST = re.compile(r"\?(?:\s*,\s*\?)+")
_ROWS = re.compile(r"\(\?\)(?:\s*,\s*\(\?\))+")


def without_literals(statement: str, length: int = 200) -> str:
    """Return a statement with every literal and comment taken out, on one line of at most `length` characters.

    Literals hold names, dates of birth, passwords; comments may. A text that the server cut short in the middle of a
    literal, or whose quoting could be read in two ways, ends there.

    >>> without_literals("select * from t where name = 'O''Hara' and id in (1, 2, 3) -- for Bob")
    'select * from t where name = ? and id in (?)'
    """
    out: list[str] = []
    at = 0
    while at < len(statement):
        match = _TOKEN.match(statement, at)
        if match is None:
            out.append(statement[at])
            at += 1
            continue
        kept, at = _replace(match, statement)
        out.append(kept)
    text = " ".join("".join(out).split())
    text = _ROWS.sub("(?)", _LIST.sub("?", text)).strip()
    return text if len(text) <= length else text[: length - 1] + "…"


def _replace(match: re.Match[str], statement: str) -> tuple[str, int]:
    """Return what stands in a token's place, and where the next token begins."""
    kind = next(name for name, value in match.groupdict().items() if value is not None and name != "tag")
    if kind == "block":
        return " ", _end_of_comment(statement, match.end())
    if kind == "dollar":
        end = statement.find(match[0], match.end())
        return "?", len(statement) if end < 0 else end + len(match[0])
    if kind == "text" and "\\'" in match[0]:
        # With standard_conforming_strings off the backslash would quote the quote: nobody can tell from here.
        return "?…", len(statement)
    return {"line": " ", "escaped": "?", "text": "?", "number": "?"}.get(kind, match[0]), match.end()


def _end_of_comment(statement: str, at: int) -> int:
    """Return where a comment ends that was opened before `at`; comments nest."""
    depth = 1
    for mark in re.finditer(r"/\*|\*/", statement[at:]):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return at + mark.end()
    return len(statement)


def byte_size(count: float) -> str:
    """Return bytes as people read them.

    >>> byte_size(1536), byte_size(3 * 2**30)
    ('1.5 kB', '3.0 GB')
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"


def span(seconds: float) -> str:
    """Return a time as people read it.

    >>> span(4.2), span(90), span(7260)
    ('4 s', '1 min 30 s', '2 h 1 min')
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 172_800:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def quoted(identifier: str) -> str:
    """Return a name as an SQL identifier.

    >>> quoted('x"; drop table y;--')
    '"x""; drop table y;--"'
    """
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
