"""Numbers as people read them, and names as SQL has them."""

from __future__ import annotations


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
