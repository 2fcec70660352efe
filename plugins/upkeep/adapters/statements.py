"""SQL statements as files: `include/sql/<area>/<name>.sql`, with variants for newer servers (`<name>.pg16.sql`).

A statement without a number serves every version; `.pg16.sql` serves servers of major 16 and up, until a variant with a
higher number takes over. A file begins with a comment that says what the statement returns, in which units.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from pathlib import Path
from typing import NamedTuple

from upkeep.core.errors import ConfigurationError

_FILE = re.compile(r"(?P<name>[a-z][a-z0-9_]*)(\.pg(?P<major>\d+))?\.sql")
# psycopg's own syntax: `%(name)s` takes a value, `%%` is a percent sign.
_PLACEHOLDER = re.compile(r"%(?:%|\((\w+)\)s)")


class Variant(NamedTuple):
    """One file: a statement, as servers from `major` on understand it (0: every server)."""

    area: str
    name: str
    major: int
    path: Path

    @property
    def statement(self) -> str:
        """The statement's full name, `<area>/<name>`."""
        return f"{self.area}/{self.name}"


def folder() -> Path:
    """Return the folder of all statements: `UPKEEP_SQL_DIR`, else that of the wheel, else that of the checkout."""
    given = os.environ.get("UPKEEP_SQL_DIR")
    return Path(given) if given else _own_folder(__file__)


@functools.cache
def _own_folder(module: str) -> Path:
    package = Path(module).resolve().parents[1]
    packed = package / "_sql"
    return packed if packed.is_dir() else package.parents[1] / "include" / "sql"


def load(area: str, name: str, version: int | None = None) -> str:
    """Return the text of a statement without its leading comment.

    :param version: `server_version_num` of the server that is asked (160004); None takes the variant for every server.
    :raises ConfigurationError: there is no such statement, or none that this version understands.
    """
    return _text(folder(), area, name, version // 10_000 if version is not None else 0)


def named(statement: str, version: int | None = None) -> str:
    """Return the text of the statement with the full name `<area>/<name>`; see `load`."""
    area, _, name = statement.partition("/")
    return load(area, name, version)


def variants(area: str | None = None) -> list[Variant]:
    """Return every statement file, of one area or of all, ordered by name and version."""
    return [v for v in _catalogue(folder()) if area in (None, v.area)]


def placeholders(text: str) -> tuple[str, ...]:
    """Return the names of a statement's values, in order of first use.

    >>> placeholders("select %(top)s, 5 %% 2, %(least)s, %(top)s")
    ('top', 'least')
    """
    return tuple(dict.fromkeys(match[1] for match in _PLACEHOLDER.finditer(text) if match[1]))


def numbered(text: str) -> str:
    """Return a statement with the server's own placeholders, numbered as `placeholders` lists them.

    >>> numbered("select %(top)s, 5 %% 2, %(least)s, %(top)s")
    'select $1, 5 % 2, $2, $1'
    """
    order = {name: number for number, name in enumerate(placeholders(text), 1)}
    return _PLACEHOLDER.sub(lambda match: f"${order[match[1]]}" if match[1] else "%", text)


@functools.cache
def _catalogue(root: Path) -> tuple[Variant, ...]:
    found = []
    for path in root.glob("*/*.sql"):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise ConfigurationError(
                f"{path}: not a statement's file name", "expected <name>.sql or <name>.pg<major>.sql, in lower case"
            )
        found.append(Variant(path.parent.name, match["name"], int(match["major"] or 0), path))
    return tuple(sorted(found))


@functools.cache
def _text(root: Path, area: str, name: str, major: int) -> str:
    known = [v for v in _catalogue(root) if (v.area, v.name) == (area, name)]
    if not known:
        raise _unknown(root, f"{area}/{name}")
    fitting = [v for v in known if v.major <= major]
    if not fitting:
        raise ConfigurationError(
            f"statement {area}/{name} exists for PostgreSQL {known[0].major} and newer, this server is {major}",
            "upgrade the server, or leave this check out for it",
        )
    return _without_comment(fitting[-1].path.read_text(encoding="utf-8"))


def _unknown(root: Path, statement: str) -> ConfigurationError:
    names = sorted({v.statement for v in _catalogue(root)})
    if not names:
        return ConfigurationError(f"{root} holds no statements", "reinstall the package or correct UPKEEP_SQL_DIR")
    close = difflib.get_close_matches(statement, names, n=1, cutoff=0)
    return ConfigurationError(f"there is no statement {statement!r} in {root}", f"did you mean {close[0]!r}?")


def _without_comment(text: str) -> str:
    lines = text.splitlines()
    while lines and (not lines[0].strip() or lines[0].startswith("--")):
        lines.pop(0)
    return "\n".join(lines).rstrip().rstrip(";") + "\n"
