"""What the server says about a vacuum or an analyze that was asked to be verbose, 14 to 18.

14 tells it in several messages a table, 15 and newer in one; 18 calls misses reads. What is not there, or stands in a
language other than English, is unknown (None), never 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from upkeep.core.job import ServerNotice

Report = Mapping[str, float | None]

# What a line begins with (15 and newer) or holds (14), and what its numbers are called. A line may come once for the
# table, once for its TOAST and once for each index: numbers are added up.
_LINES = [
    (re.compile(pattern), names)
    for pattern, *names in (
        (r"^pages: (\d+) removed, (\d+) remain, (\d+) scanned", "pages_removed", "pages", "pages_scanned"),
        (r"^tuples: (\d+) removed, (\d+) remain, (\d+) are dead", "removed", "remain", "unremovable"),
        (r"^frozen: .* had (\d+) tuples frozen", "frozen"),
        (r"^index scan .* (?:had|have) (\d+) dead item identifiers", "dead_items"),
        (r'^index ".*": pages: (\d+) in total', "index_pages"),
        (r"^buffer usage: (\d+) hits, (\d+) \w+, (\d+) dirtied", "hits", "reads", "dirtied"),
        (r"^WAL usage: .* (\d+) bytes", "wal_bytes"),
        (r"^finished vacuuming .*index scans: (\d+)", "index_scans"),
        (r'^".*": scanned .* (\d+) rows in sample', "sampled"),
        (
            r'^table ".*": found (\d+) removable, (\d+) nonremovable row versions in (\d+) out of (\d+) pages',
            "removed", "remain", "pages_scanned", "pages",
        ),
        (r'^table ".*": removed (\d+) dead item identifiers', "dead_items"),
        (r'^index ".*" now contains \d+ row versions in (\d+) pages', "index_pages"),
        (r"^(\d+) dead row versions cannot be removed yet", "unremovable"),
    )
]  # fmt: skip
# Two letters tell which of them can fit a line, one for those that begin with a quote or a number: reports have many
# lines, and a run many reports.
_BY_BEGINNING = {
    start: [(p, names) for p, names in _LINES if p.pattern.replace("^", "").startswith(start)]
    for start in ("pa", "tu", "fr", "in", "bu", "WA", "fi", "ta")
}
_QUOTE = [(p, names) for p, names in _LINES if p.pattern.startswith('^"')]
_NUMBER = [(p, names) for p, names in _LINES if p.pattern.startswith("^(")]
_NOTHING = _LINES[:0]
_BY_FIRST = {'"': _QUOTE} | dict.fromkeys("0123456789", _NUMBER)
_NAMES = sorted({name for _, names in _LINES for name in names})
_TRUNCATED = re.compile(r'^table ".*": truncated (\d+) to (\d+) pages')
_QUOTED = re.compile(r'^[^"\n]*"([^\n]*)"')
_CUTOFF = re.compile(r"removable cutoff: (\d+)|oldest xmin: (\d+)")


def parse(notices: Sequence[ServerNotice]) -> Report:
    """Return the numbers of a report: rows, pages, bytes, summed over the table, its TOAST and its indexes."""
    found: dict[str, float | None] = dict.fromkeys((*_NAMES, "cutoff"))
    for notice in notices:
        if notice.severity == "INFO":
            for line in notice.message.splitlines():
                _read(line, found)
    return found


def _read(line: str, found: dict[str, float | None]) -> None:
    if (line.startswith("rem") or line[:1].isdigit()) and (cutoff := _CUTOFF.search(line)):
        found["cutoff"] = found["cutoff"] or float(cutoff[1] or cutoff[2])
    elif cut := _TRUNCATED.match(line) if line.startswith("table") else None:
        _add(found, "pages_removed", int(cut[1]) - int(cut[2]))
        _add(found, "pages", int(cut[2]) - int(cut[1]))
        return
    for pattern, names in _BY_BEGINNING.get(line[:2]) or _BY_FIRST.get(line[:1], _NOTHING):
        if match := pattern.match(line):
            for name, number in zip(names, match.groups(), strict=True):
                _add(found, name, int(number))
            return


def _add(found: dict[str, float | None], name: str, number: int) -> None:
    found[name] = (found[name] or 0.0) + number


def was_done(notices: Sequence[ServerNotice]) -> bool:
    """Tell whether the server did anything. It only warns of a table that it skips, in whatever language."""
    return any(notice.severity == "INFO" for notice in notices)


def warnings(notices: Sequence[ServerNotice]) -> str:
    """Return what the server warned of, on one line."""
    return "; ".join(n.message.splitlines()[0] for n in notices if n.severity == "WARNING" and n.message)


def by_table(notices: Sequence[ServerNotice], tables: Mapping[str, int]) -> dict[int, list[ServerNotice]]:
    """Return what was said about each of several tables: names (`schema.table`, unquoted) -> any number of theirs.

    A message that names none of them belongs to the table named before it: its TOAST, its indexes.
    """
    said: dict[int, list[ServerNotice]] = {}
    current: int | None = None
    for notice in notices:
        if notice.severity == "INFO":
            match = _QUOTED.search(notice.message)
            name = match[1] if match else ""
            current = tables.get(name, tables.get(name.partition(".")[2], current))
            if current is not None:
                said.setdefault(current, []).append(notice)
    return said
