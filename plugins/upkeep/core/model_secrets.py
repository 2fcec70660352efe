"""Secrets in what the programs of a retraining are given and write, so that they are not shown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from upkeep.core.text import looks_random, looks_secret

_NAME = r"[\w-]*(?:passw|passphrase|pwd|secret|token|credential|authorization|(?:api|access|private)[_-]?key)[\w-]*"
# Numbers are counts: of the tokens that a model has seen, for example.
_NUMBER = r"\d+(?:[.,]\d+)?(?:[\s,;%)]|$)"
_NAMED_SECRET = re.compile(
    rf"(?i:(?<![\w-]){_NAME}[\"']?\s*[=:]\s*(?!{_NUMBER})\S|(?<![\w-])-{_NAME}\s+[^\s-]|\bbearer\s+\S)"
)
_SECRET_OPTION = re.compile(rf"(?i:-{_NAME})")


def names_secret(text: str) -> bool:
    """Tell whether a text gives something a name as secrets have: `PGPASSWORD=x`, `"token": "x"`, `--password x`.

    >>> names_secret("PGPASSWORD=x"), names_secret("tokens: 512"), names_secret("secret of success")
    (True, False, False)
    """
    return bool(_NAMED_SECRET.search(text))


def shown(command: Sequence[str]) -> list[str]:
    """Return a program's arguments as they may be shown.

    >>> shown(["train", "--db-password", "x", "--token=y", "--rows", "10"])
    ['train', '--db-password', '***', '***', '--rows', '10']
    """
    before = ["", *command]
    return [
        "***" if _SECRET_OPTION.fullmatch(option) or _is_secret(part) else part
        for option, part in zip(before, command, strict=False)
    ]


def _is_secret(part: str) -> bool:
    return looks_secret(part) or names_secret(part) or any(looks_random(word) for word in re.split(r"[=:,]", part))
