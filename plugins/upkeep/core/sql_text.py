"""SQL statements without what people put into them."""

from __future__ import annotations

import re

# `plain` takes many words at once: one match a word takes three times as long.
_TOKEN = re.compile(
    r"""
    (?P<line>--[^\n]*)
  | (?P<block>/\*)
  | (?P<dollar>\$(?:[A-Za-z_\x80-\uffff]\w*)?\$)
  | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z|\\\Z))
  | (?P<text>(?:[uU]&|[bBxXnN])?'[^']*(?:''[^']*)*(?:'|\Z))
  | (?P<quoted>(?:[uU]&)?"[^"]*(?:""[^"]*)*(?:"|\Z))
  | (?P<plain>(?:(?![eE]'|[uU]&['"]|[bBxXnN]')[^\W\d][\w$]*+|\$\d++|[\s(),=*<>:;+|\[\]]++|\.(?!\d))++)
  | (?P<number>\.?\d[\w.]*(?:(?<=[eE])[+-]\d+)?)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
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
    while (match := _TOKEN.search(statement, at)) is not None:
        out.append(statement[at : match.start()])
        kept, at = _replace(match, statement)
        out.append(kept)
    out.append(statement[at:])
    text = " ".join("".join(out).split())
    text = _ROWS.sub("(?)", _LIST.sub("?", text)).strip()
    return text if len(text) <= length else text[: length - 1] + "…"


def _replace(match: re.Match[str], statement: str) -> tuple[str, int]:
    """Return what stands in a token's place, and where the search for the next one begins."""
    kind = match.lastgroup
    if kind == "block":
        return " ", _end_of_comment(statement, match.end())
    if kind == "dollar":
        end = statement.find(match[0], match.end())
        return "?", len(statement) if end < 0 else end + len(match[0])
    if kind == "text" and "\\'" in match[0]:
        # With standard_conforming_strings off the backslash would quote the quote: nobody can tell from here.
        return "?…", len(statement)
    return {"line": " ", "quoted": match[0], "plain": match[0]}.get(kind or "", "?"), match.end()


def _end_of_comment(statement: str, at: int) -> int:
    """Return where a comment ends that was opened before `at`; comments nest."""
    depth = 1
    for mark in _COMMENT.finditer(statement, at):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(statement)
