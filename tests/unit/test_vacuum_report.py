"""The verbose reports of 14 to 18 as numbers; what cannot be read is unknown."""

from __future__ import annotations

from upkeep.core.job import ServerNotice
from upkeep.routines.database._vacuum_report import by_table, parse, warnings, was_done

V14 = (
    'vacuuming "public.big"',
    'scanned index "big_pkey" to remove 1000 row versions\nCPU: user: 0.00 s, system: 0.00 s, elapsed: 0.00 s',
    'table "big": removed 1000 dead item identifiers in 13 pages\nCPU: user: 0.00 s, system: 0.00 s, elapsed: 0.00 s',
    'index "big_pkey" now contains 1000 row versions in 8 pages\n1000 index row versions were removed.',
    'table "big": found 58 removable, 1000 nonremovable row versions in 13 out of 14 pages\n'
    "333 dead row versions cannot be removed yet, oldest xmin: 741\nSkipped 0 pages due to buffer pins",
    'table "big": truncated 14 to 10 pages',
    'vacuuming "pg_toast.pg_toast_16406"',
    'table "pg_toast_16406": found 2000 removable, 2000 nonremovable row versions in 1000 out of 1000 pages\n'
    "666 dead row versions cannot be removed yet, oldest xmin: 741",
    'analyzing "public.big"',
    '"big": scanned 13 of 13 pages, containing 667 live rows and 333 dead rows; 667 rows in sample, 667 estimated',
)
V18 = (
    'vacuuming "claims.public.big"',
    'finished vacuuming "claims.public.big": index scans: 1\n'
    "pages: 2 removed, 13 remain, 13 scanned (100.00% of total), 0 eagerly scanned\n"
    "tuples: 58 removed, 1000 remain, 333 are dead but not yet removable\n"
    "removable cutoff: 760, which was 1 XIDs old when operation ended\n"
    "new relfrozenxid: 758, which is 2 XIDs ahead of previous value\n"
    "frozen: 4 pages from table (0.00% of total) had 9 tuples frozen\n"
    "visibility map: 0 pages set all-visible, 0 pages set all-frozen (0 were all-visible)\n"
    "index scan needed: 13 pages from table (100.00% of total) had 1000 dead item identifiers removed\n"
    'index "big_pkey": pages: 8 in total, 0 newly deleted, 0 currently deleted, 0 reusable\n'
    'index "big_a": pages: 5 in total, 0 newly deleted, 0 currently deleted, 0 reusable\n'
    "avg read rate: 0.000 MB/s, avg write rate: 60.719 MB/s\n"
    "buffer usage: 71 hits, 6 reads, 3 dirtied\n"
    "WAL usage: 25 records, 3 full page images, 30359 bytes, 0 buffers full",
)


def told(*messages: str, severity: str = "INFO") -> list[ServerNotice]:
    return [ServerNotice(severity, message) for message in messages]


def numbers(*messages: str) -> dict[str, float]:
    return {key: value for key, value in parse(told(*messages)).items() if value is not None}


def test_reports_of_14():
    """Several messages; the table and its TOAST are added up."""
    assert numbers(*V14) == {
        "removed": 2058, "remain": 3000, "unremovable": 999, "pages": 1010, "pages_scanned": 1013, "pages_removed": 4,
        "dead_items": 1000, "index_pages": 8, "sampled": 667, "cutoff": 741,
    }  # fmt: skip


def test_reports_of_15_and_newer():
    """One message a table; what 18 calls reads were misses before."""
    expected = {
        "removed": 58, "remain": 1000, "unremovable": 333, "pages": 13, "pages_scanned": 13, "pages_removed": 2,
        "dead_items": 1000, "index_scans": 1, "index_pages": 13, "frozen": 9, "hits": 71, "reads": 6, "dirtied": 3,
        "wal_bytes": 30359, "cutoff": 760,
    }  # fmt: skip
    assert numbers(*V18) == expected
    assert numbers(*(m.replace("6 reads", "6 misses") for m in V18)) == expected


def test_what_cannot_be_read_is_unknown():
    """A report in another language was a report, and its numbers are not 0."""
    foreign = told("vacuume »claims.public.big«", "Tupel: 58 entfernt, 1000 übrig")
    assert was_done(foreign) and not any(v is not None for v in parse(foreign).values())
    assert not was_done(told('permission denied to vacuum "big", skipping it', severity="WARNING"))
    assert warnings(told("permission denied\nmore", severity="WARNING")) == "permission denied"


def test_several_tables_in_one_report():
    """Messages go to the table named last, whatever their database is called; a skipped table has none."""
    notices = told(
        *V18, 'vacuuming "claims.pg_toast.pg_toast_1"', 'vacuuming "claims.public.odd "" name"', "more of it"
    )
    said = by_table(notices, {"public.big": 1, 'public.odd "" name': 2, "public.skipped": 3})
    assert [len(said[n]) for n in (1, 2)] == [3, 2] and 3 not in said
