"""What is wrong with a system file, in words that let somebody mend it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

from upkeep.core import text
from upkeep.core.model import Model

_CREDENTIAL_KEY = re.compile(r"(?i)pass(word|wd|phrase)?$|secret|token|api_?key|private_?key|credential")
_HIDDEN = "a value that is not shown, as it may be a secret"


class Problem(Model):
    """One thing wrong with one file: where, what was seen, what was expected, what to do."""

    file: str
    line: int | None = None
    key: str = ""
    seen: str
    expected: str
    hint: str = ""

    @property
    def subject(self) -> str:
        """File and key, without the line: the same trouble keeps its name while lines above it come and go."""
        return f"{PurePath(self.file).name}:{self.key}" if self.key else PurePath(self.file).name

    @property
    def message(self) -> str:
        """Where, what was seen, what was expected."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key + ': ' if self.key else ''}seen {self.seen}, expected {self.expected}"

    def __str__(self) -> str:
        return f"{self.message} -> {self.hint}" if self.hint else self.message


class SourceError(Exception):
    """A file that cannot be read as YAML at all; becomes one `Problem`."""

    def __init__(self, seen: str, expected: str, hint: str = "", line: int | None = None) -> None:
        super().__init__(seen, expected, hint, line)
        self.seen, self.expected, self.hint, self.line = seen, expected, hint, line

    def problem(self, file: str) -> Problem:
        """Return it as a problem of `file`."""
        return Problem(file=file, line=self.line, seen=self.seen, expected=self.expected, hint=self.hint)


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """Return the end of a sentence with the nearest known word, or an empty text.

    >>> did_you_mean("titel", ["title", "targets"])
    "; did you mean 'title'?"
    """
    near = suggestion(word, known)
    return f"; {near}" if near else ""


def suggestion(word: Any, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for the nearest known word, else an empty text."""
    by_fold = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(str(word)[:200].casefold(), by_fold, n=1, cutoff=0.6)
    return f"did you mean {by_fold[near[0]]!r}?" if near else ""


def holds_credentials(key: Any) -> bool:
    """Tell whether a key's name says that its value is a credential."""
    return bool(_CREDENTIAL_KEY.search(str(key)))


def show(value: Any, key: Any = "") -> str:
    """Return a value as a message may repeat it: short, and never a secret.

    Whatever stands where a connection id or a URL belongs is hidden: a credential pasted there is the usual mistake.
    """
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None:
        return "nothing"
    word = str(value)
    guarded = isinstance(value, str) and (str(key).endswith(("conn_id", "url")) or holds_credentials(key))
    if guarded or text.looks_secret(word) or text.looks_random(word):
        return _HIDDEN
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
