"""A database made of everything that a dump can stumble over; see hostile.sql."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_FILE = Path(__file__).with_name("hostile.sql")
_SINCE = re.compile(r"-- from (\d+)\n")
WIDE = 1600


def statements(major: int) -> Iterator[str]:
    """Return the blocks of hostile.sql that a major version understands, each to be carried out at once."""
    for block in _FILE.read_text().split("\n\n")[1:]:
        since = _SINCE.match(block)
        if since is None or major >= int(since[1]):
            yield block
    yield from _wide()


def _wide() -> Iterator[str]:
    """Return tables of the most columns there can be, for which PostgreSQL has no row constructor when doubled."""
    for name, type_ in (("wide", "int2"), ("wide_arrays", "bool[]")):
        columns = ", ".join(f"c{n} {type_}" for n in range(1, WIDE + 1))
        yield f"create table {name} ({columns})"
    yield "insert into wide (c1, c800, c1600) values (1, 2, 3), (4, 5, 6)"
    yield "insert into wide_arrays (c1, c800, c1600) values ('{t}', '{f,t}', '{}')"
