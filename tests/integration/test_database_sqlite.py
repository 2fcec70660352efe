"""SQLite health on real files: fine, missing, locked, damaged, slow to check."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from tests.integration.database_bench import found, sqlite_health, troubles, value
from upkeep.core.model import Severity


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of some hundred pages, under a name that means something in a URI."""
    file = tmp_path / "pupils 100%? #1.db"
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE pupil (id INTEGER PRIMARY KEY, name TEXT)")
        db.execute("CREATE INDEX by_name ON pupil (name)")
        db.executemany("INSERT INTO pupil (name) VALUES (?)", ((f"{n:0200}",) for n in range(3000)))
        db.commit()
    return file


def test_a_healthy_file(path: Path):
    """Nothing is found, and size, free pages and time are measured."""
    judgement = sqlite_health(str(path)).run()
    assert judgement.findings == ()
    assert value(judgement, "file.size") == path.stat().st_size
    assert value(judgement, "freelist.ratio") == 0
    assert value(judgement, "query_time.median") > 0


def test_an_empty_file_is_an_empty_database(tmp_path: Path):
    """SQLite writes nothing before the first table."""
    (tmp_path / "new.db").touch()
    assert sqlite_health(str(tmp_path / "new.db")).run().findings == ()


def test_looking_changes_nothing(path: Path):
    """The file and its folder are as before; a missing file is not made."""
    before = path.read_bytes()
    sqlite_health(str(path)).run()
    missing = path.with_name("missing.db")
    gone = found(sqlite_health(str(missing)).run(), "reachable")
    assert gone.severity is Severity.CRITICAL and str(missing) in gone.message
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_instead_of_a_file(tmp_path: Path):
    """What cannot be read is named."""
    assert found(sqlite_health(str(tmp_path)).run(), "reachable").severity is Severity.CRITICAL


def test_a_locked_file(path: Path):
    """A writer that does not let go is a finding, and only after the busy time-out."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        locked = found(sqlite_health(str(path)).run(busy_timeout=0.1), "locked")
        writer.execute("COMMIT")
    assert locked.severity is Severity.CRITICAL
    assert sqlite_health(str(path)).run().findings == ()


def test_a_writer_in_wal_mode_disturbs_nobody(path: Path):
    """In WAL mode readers go on; what has not reached the file yet is seen, and its log is measured."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = wal")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO pupil (name) VALUES ('x')")
        judgement = sqlite_health(str(path)).run(busy_timeout=0.1, journal_mode="wal")
        writer.execute("COMMIT")
        after = sqlite_health(str(path)).run()
    assert judgement.findings == () == after.findings
    assert value(after, "wal.size") > 0


def test_the_journal_mode_that_a_system_asks_for(path: Path):
    """A restored copy that lost its mode is a warning."""
    assert found(sqlite_health(str(path)).run(journal_mode="wal"), "journal_mode").observed == "delete"


@pytest.mark.parametrize("damage", ["header", "schema", "page", "truncated"])
def test_a_damaged_file(path: Path, damage: str):
    """Damage in the header, the schema, any page, or a missing end is critical."""
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        del data[len(data) // 2 :]
    else:
        at = {"header": 0, "schema": 100, "page": 4096 * 20}[damage]
        data[at : at + 64] = b"\xff" * 64
    path.write_bytes(data)
    broken = found(sqlite_health(str(path)).run(), "integrity")
    assert broken.severity is Severity.CRITICAL
    assert str(path) in broken.message


def test_a_check_that_takes_too_long_is_unknown(path: Path):
    """What could not be read within the budget is not called intact."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executemany("INSERT INTO pupil (name) VALUES (?)", ((f"{n:0200}",) for n in range(40_000)))
        db.commit()
    [open_] = troubles(sqlite_health(str(path)).run(check_seconds=0.001))
    assert (open_.check, open_.severity) == ("integrity", Severity.UNKNOWN)
    assert "check_seconds" in open_.hint


def test_free_pages(path: Path):
    """Space that VACUUM would give back is info."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM pupil WHERE id > 100")
        db.commit()
    judgement = sqlite_health(str(path)).run()
    assert found(judgement, "free").severity is Severity.INFO
    assert value(judgement, "freelist.size") > 100_000
