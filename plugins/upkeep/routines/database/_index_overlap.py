"""Indexes that another one makes needless, and those that no query may use."""

from __future__ import annotations

import re
from collections.abc import Set

from upkeep.core.model import Finding, Judgement, Severity
from upkeep.routines.database._index_seen import Review, counted, label, labelled, limited
from upkeep.routines.database._index_settings import Settings
from upkeep.routines.database._seen import Row, judged
from upkeep.routines.database._text import byte_size

# What REINDEX CONCURRENTLY leaves behind when it is cut short; a number follows when the name was taken.
# https://www.postgresql.org/docs/current/sql-reindex.html#SQL-REINDEX-CONCURRENTLY
_LEFTOVER = re.compile(r"_cc(?P<which>new|old)\d*$")


def duplicates(review: Review) -> list[Row]:
    """Return the rows of indexes whose twin is kept."""
    return [row for row in review.seen.rows("index_overlaps") if row["duplicate"]]


def judge(review: Review, settings: Settings, gone: Set[int]) -> Judgement:
    """Judge duplicate and redundant indexes.

    :param gone: object ids of indexes that may be dropped because nobody uses them. One of these is no reason to drop
        another, and needs no second reason itself.
    """
    same = duplicates(review)
    redundant = [
        row
        for row in review.seen.rows("index_overlaps")
        if not row["duplicate"] and row["oid"] not in gone and row["cover_oid"] not in gone
    ]
    twins = [f for row in same for f in _duplicate(row, review, settings)]
    prefixes = [f for row in redundant for f in _redundant(row, review, settings)]
    findings = limited(twins, settings.top) + limited(prefixes, settings.top)
    return counted("duplicate", same) + counted("redundant", redundant) + Judgement(findings=findings)


def _duplicate(row: Row, review: Review, settings: Settings) -> tuple[Finding, ...]:
    return judged(
        "duplicate",
        labelled(row),
        settings.duplicate_bytes,
        row["bytes"],
        message=f"index {labelled(row)} ({byte_size(row['bytes'])}) on {row['table']} holds the same as"
        f" {label(row['schema'], row['cover'])}: every write pays twice, scans do not need it",
        hint=review.drop_hint(row["oid"]),
        say=byte_size,
    )


def _redundant(row: Row, review: Review, settings: Settings) -> tuple[Finding, ...]:
    return judged(
        "redundant",
        labelled(row),
        settings.needless_bytes,
        row["bytes"],
        message=f"index {labelled(row)} ({byte_size(row['bytes'])}, {row['scans']} scans) on {row['table']} is the"
        f" beginning of {label(row['schema'], row['cover'])} ({row['cover_scans']} scans), which can serve the same"
        " scans, though it is wider",
        hint=review.drop_hint(row["oid"]),
        say=byte_size,
    )


def judge_invalid(review: Review, settings: Settings) -> Judgement:
    """Judge indexes that cost writes, or space, and serve no query."""
    rows = review.seen.rows("index_invalid")
    findings = [_partial(row) if row["partitioned"] else _invalid(row, review) for row in rows]
    broken = [row for row in rows if not row["partitioned"]]
    return counted("invalid", broken) + Judgement(findings=limited(findings, settings.top))


def _partial(row: Row) -> Finding:
    """An index on a partitioned table is invalid until every partition has its part, which may take weeks."""
    return Finding(
        check="invalid",
        subject=labelled(row),
        severity=Severity.INFO,
        message=f"partitioned index {labelled(row)} on {row['table']} waits for its parts:"
        f" {row['parts']} of {row['partitions']} partitions have a valid one attached",
        hint="for each partition that lacks it: CREATE INDEX CONCURRENTLY ... with the same definition, then"
        f" ALTER INDEX {label(row['schema'], row['index'])} ATTACH PARTITION ...;",
    )


def _invalid(row: Row, review: Review) -> Finding:
    why, hint = _reason(row, review)
    return Finding(
        check="invalid",
        subject=labelled(row),
        severity=Severity.WARNING,
        message=f"index {labelled(row)} ({byte_size(row['bytes'])}) on {row['table']} serves no query"
        f"{' and yet costs every write' if row['ready'] else ''}: {why}",
        hint=hint,
    )


def _reason(row: Row, review: Review) -> tuple[str, str]:
    """Return how the index came to be invalid, as its marks tell, and what to do about it."""
    definition = review.definitions.get(row["oid"])
    if definition is None:
        return "its table is locked at this moment", "run the review again for the statement that cures it"
    nothing_lost = f"{definition.drop}\nundo: none is needed, it holds nothing that another index does not"
    leftover = _LEFTOVER.search(row["index"])
    if not row["live"]:
        return "a DROP INDEX CONCURRENTLY was cut short", nothing_lost
    if row["constrained"] or row["attached"]:
        return "a rebuild was cut short, and a constraint or a partitioned index needs it", definition.rebuild_hint()
    if leftover and leftover["which"] == "new":
        return "left by a REINDEX CONCURRENTLY that did not finish; the index itself goes on working", nothing_lost
    if leftover:
        return "left by a REINDEX CONCURRENTLY that had replaced it already", nothing_lost
    return (
        "a CREATE INDEX CONCURRENTLY did not finish (cancelled, a deadlock, or values that are not unique)",
        f"{definition.drop_hint()}\nIf it is wanted, do both: the undo makes it, valid this time",
    )
