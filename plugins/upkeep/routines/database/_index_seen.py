"""What `database.index_review` observes, and what several of its judges share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from upkeep.core.job import Failed
from upkeep.core.model import Finding, Judgement, Severity
from upkeep.routines.database._bloat import Bloat, Tool
from upkeep.routines.database._index_ddl import Definition
from upkeep.routines.database._seen import Row, Seen, measured
from upkeep.routines.database._text import quoted

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
# Which check a statement that fails leaves open, and what it would have shown.
QUESTIONS = {
    "index_server": ("unused", "what the statistics cover"),
    "index_totals": ("size", "the number and size of all indexes"),
    "index_invalid": ("invalid", "invalid indexes"),
    "index_unused": ("unused", "unused indexes"),
    "index_overlaps": ("duplicate", "duplicate and redundant indexes"),
    "index_foreign_keys": ("foreign_key", "foreign keys without an index"),
    "index_seq_scans": ("sequential_scans", "large tables that are read as a whole"),
    "index_definitions": ("unused", "the definitions of the indexes named"),
    "bloat_extension": ("bloat", "whether bloat can be measured"),
    "bloat_indexes": ("bloat", "the bloat of indexes"),
    "bloat_tables": ("bloat", "the bloat of tables"),
    "bloat_measured_indexes": ("bloat", "the measured bloat of indexes"),
    "bloat_measured_tables": ("bloat", "the measured bloat of tables"),
}


@dataclass(frozen=True)
class Replica:
    """What a standby said; `trouble` says why it did not."""

    conn_id: str
    seen: Seen
    trouble: str = ""


@dataclass(frozen=True)
class Review:
    """Everything that one review of a database's indexes saw."""

    seen: Seen
    definitions: dict[int, Definition]
    replicas: tuple[Replica, ...]
    bloats: tuple[Bloat, ...]
    tool: Tool

    @property
    def round_trips(self) -> int:
        """Trips made to the database itself."""
        return self.seen.round_trips

    def drop_hint(self, oid: int) -> str:
        """Return how to drop an index and how to take that back."""
        definition = self.definitions.get(oid)
        return definition.drop_hint() if definition else "its table is locked: run the review again for the statement"


def label(*parts: str) -> str:
    """Return a qualified name as people read it, quoted where SQL needs it.

    >>> label("public", "claim"), label("public", 'My"Table')
    ('public.claim', 'public."My""Table"')
    """
    return ".".join(part if _PLAIN.fullmatch(part) else quoted(part) for part in parts)


def labelled(row: Row) -> str:
    """Return the name of the index of a row."""
    return label(row["schema"], row["index"])


def counted(kind: str, rows: Sequence[Row]) -> Judgement:
    """Return how many of a kind there are and what they take, for the trend."""
    size = sum(row["bytes"] for row in rows)
    return Judgement(
        measurements=measured(f"index.{kind}", len(rows), "indexes") + measured(f"index.{kind}_bytes", size, "bytes")
    )


def limited(findings: Iterable[Finding], top: int) -> tuple[Finding, ...]:
    """Keep the `top` worst findings of a check; one more says how many are left."""
    ordered = sorted(findings, key=lambda f: -f.severity.rank)
    kept, left = ordered[:top], ordered[top:]
    if left:
        message = f"{len(left)} more of this kind; raise `top` of database.index_review to see each"
        kept.append(Finding(check=left[0].check, subject="others", severity=left[0].severity, message=message))
    return tuple(kept)


def undetermined(seen: Seen) -> tuple[Finding, ...]:
    """Return a finding for every statement that gave no rows."""
    return tuple(_undetermined(name, failed) for name, failed in seen.failed.items())


def _undetermined(name: str, failed: Failed) -> Finding:
    check, what = QUESTIONS[name]
    reason = "measuring" if failed.reason == "timeout" and name.startswith("bloat_measured") else failed.reason
    return Finding(
        check=check,
        subject=name,
        severity=Severity.UNKNOWN,
        message=f"could not be determined: {what}: {failed.message}",
        hint=_CURES.get(reason, f"read the server's log; the statement is include/sql/database/{name}.sql"),
    )


_CURES = {
    "timeout": "the server is slow today: look at its load, or raise `statement_timeout` of database.index_review",
    "locked": "somebody changes tables: run it again later, or raise `lock_timeout` of database.index_review",
    "measuring": "reading takes too long: lower `measure_each_bytes` or `measure_seconds` of database.index_review,"
    " or raise its `statement_timeout`",
    "privilege": "GRANT pg_monitor TO the role of this connection",
}
