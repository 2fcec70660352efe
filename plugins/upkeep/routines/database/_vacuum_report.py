"""What the server says about a vacuum or an analyze that was asked to be verbose, 14 to 18.

14 tells it in several messages a table, 15 and newer in one; 18 calls misses reads. What is not there, or stands in a
language other than English, is unknown (None), never 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from upkeep.core.job import ServerNotice

Report = Mapping[str, float | None]

# Every pattern may match once for the table and once for its TOAST (and once an index): the numbers are added up.
_FIELDS = {
    "pages": r"pages: \d+ removed, (\d+) remain|in \d+ out of (\d+) pages",
    "pages_removed": r"pages: (\d+) removed, \d+ remain",
    "pages_scanned": r"(\d+) scanned \(|row versions in (\d+) out of \d+ pages",
    "removed": r"tuples: (\d+) removed|found (\d+) removable, \d+ nonremovable",
    "remain": r"tuples: \d+ removed, (\d+) remain|found \d+ removable, (\d+) nonremovable",
    "unremovable": r"(\d+) are dead but not yet removable|(\d+) dead row versions cannot be removed yet",
    "dead_items": r"had (\d+) dead item identifiers removed|removed (\d+) dead item identifiers in",
    "index_scans": r"index scans: (\d+)",
    "index_pages": r'index ".*": pages: (\d+) in total|now contains \d+ row versions in (\d+) pages',
    "frozen": r"had (\d+) tuples frozen",
    "hits": r"buffer usage: (\d+) hits",
    "reads": r"buffer usage: \d+ hits, (\d+) (?:misses|reads)",
    "dirtied": r"buffer usage: .* (\d+) dirtied",
    "wal_bytes": r"WAL usage: .* (\d+) bytes",
    "sampled": r"(\d+) rows in sample",
}
_PATTERNS = {name: re.compile(pattern) for name, pattern in _FIELDS.items()}
_TRUNCATED = re.compile(r'table ".*": truncated (\d+) to (\d+) pages')
_CUTOFF = re.compile(r"removable cutoff: (\d+)|oldest xmin: (\d+)")


def parse(notices: Sequence[ServerNotice]) -> Report:
    """Return the numbers of a report: rows, pages, bytes, summed over the table, its TOAST and its indexes."""
    text = "\n".join(notice.message for notice in notices if notice.severity == "INFO")
    found: dict[str, float | None] = {name: _summed(pattern, text) for name, pattern in _PATTERNS.items()}
    if cut := _TRUNCATED.findall(text):
        removed = float(sum(int(before) - int(after) for before, after in cut))
        found |= {"pages_removed": removed, "pages": (found["pages"] or 0.0) - removed}
    cutoffs = [a or b for a, b in _CUTOFF.findall(text)]
    found["cutoff"] = float(cutoffs[0]) if cutoffs else None
    return found


def was_done(notices: Sequence[ServerNotice]) -> bool:
    """Tell whether the server did anything. It only warns of a table that it skips, in whatever language."""
    return any(notice.severity == "INFO" for notice in notices)


def warnings(notices: Sequence[ServerNotice]) -> str:
    """Return what the server warned of, on one line."""
    return "; ".join(n.message.splitlines()[0] for n in notices if n.severity == "WARNING" and n.message)


def _summed(pattern: re.Pattern[str], text: str) -> float | None:
    numbers = [next(group for group in match.groups() if group is not None) for match in pattern.finditer(text)]
    return float(sum(map(int, numbers))) if numbers else None
