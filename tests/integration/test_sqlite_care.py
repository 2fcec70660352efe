"""SQLite care on real files: what is done and what is not, beside writers, readers and lockers in other processes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.sqlite_bench import Care, content, make, opened, somebody
from upkeep.adapters import sqlite_work
from upkeep.core.errors import ConfigurationError, UnsafeError
from upkeep.core.job import Disk, Failed
from upkeep.core.model import Severity

HOLD = "db.execute('BEGIN EXCLUSIVE'); ready(); time.sleep(60)"
READ = "c = db.execute('SELECT * FROM pupil'); c.fetchone(); ready(); time.sleep(60)"


@pytest.fixture(params=["delete", "wal"])
def care(request: pytest.FixtureRequest, tmp_path: Path) -> Care:
    """A database of some hundred pages, in each journal mode, under a name that means something in a URI."""
    (tmp_path / "data").mkdir()
    return Care(make(tmp_path / "data" / "pupils 100%? #1'\".db", mode=request.param), tmp_path / "keep")


def thin(path: Path) -> None:
    """Make most of a database free pages."""
    with opened(path) as db:
        db.execute("DELETE FROM pupil WHERE id > 100")


def mode(path: Path) -> str:
    with opened(path) as db:
        return str(db.execute("PRAGMA journal_mode").fetchone()[0])


def test_what_is_needed_is_done_once(care: Care):
    """Copy, ANALYZE and VACUUM, each with evidence; then nothing more is to be done, and nothing is changed."""
    before = content(care.path)
    thin(care.path)
    thinned, journal = content(care.path), mode(care.path)
    assert thinned != before
    first = care.run(analyze_rows=50)
    assert first.did == {"copy": "done", "analyze": "done", "vacuum": "done"}
    assert (first.state, first.troubles) == ("success", [])
    sizes = first.evidence("vacuum")
    assert sizes["after"]["bytes"] < sizes["before"]["bytes"] / 2 and sizes["after"]["free_bytes"] == 0
    assert first.measurements["vacuum.after", ""] == sizes["after"]["bytes"] == care.path.stat().st_size
    assert content(care.path) == thinned and mode(care.path) == journal
    second = care.run(analyze_rows=50)
    assert second.did == {"copy": "unchanged"}
    assert second.troubles == []
    assert len(care.copies) == 1


def test_a_dry_run_changes_nothing(care: Care):
    """The plan is on record; neither the file, nor its folder, nor the place for copies is touched."""
    thin(care.path)
    before = care.path.read_bytes()
    result = care.run(dry_run=True)
    assert set(result.did.values()) == {"planned"} and "vacuum" in result.did
    assert care.path.read_bytes() == before
    assert not care.root.exists()
    assert {p.name.removeprefix(care.path.name) for p in care.path.parent.iterdir()} <= {"", "-wal", "-shm"}


def test_a_copy_is_private_noted_and_whole(care: Care):
    """The copy holds what the source holds, alone in the folder with its note; mode 0600 in a folder of mode 0700."""
    result = care.run()
    [copy] = care.copies
    path = care.folder / copy.name
    assert content(path) == content(care.path)
    assert {p.name for p in care.folder.iterdir() if p.suffix not in ("-wal", "-shm")} >= {copy.name, ".lock"}
    assert stat.S_IMODE(care.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in care.folder.glob("*.[dj]*")} == {0o600}
    noted = result.evidence("copy")["copy"]
    assert (noted["sha256"], noted["rows"], noted["tables"]) == (copy.sha256, 3000 + 1 + 3 + 2, 4)
    subprocess.run(["sha256sum", "--check"], input=f"{copy.sha256}  {path}\n", text=True, check=True, stdout=-3)


def test_old_copies_go_and_the_good_ones_stay(care: Care):
    """The newest two good copies stay; a damaged one does not count as one of them."""
    made = []
    for n in range(4):
        with opened(care.path) as db:
            db.execute("INSERT INTO school (name) VALUES (?)", (str(n),))
        care.run()
        made = [*made, *(c.name for c in care.copies if c.name not in made)]
    assert [c.name for c in care.copies] == made[:1:-1]
    newest = care.folder / made[-1]
    newest.write_bytes(b"\0" * newest.stat().st_size)
    result = care.run()
    assert result.did["remove"] == "unchanged", "the damaged one took the place of a good one"
    assert (result.found("copy").severity, made[-1] in result.found("copy").message) == (Severity.WARNING, True)
    assert {made[2], made[3]} < {c.name for c in care.copies}
    assert (
        not sqlite_work.Workshop(care.root)
        .keep("student/sqlite")
        .is_good(next(c for c in care.copies if c.name == made[-1]))
    )


@pytest.mark.parametrize("damage", ["page", "index"])
def test_nothing_is_done_to_a_damaged_file(care: Care, damage: str):
    """Damage is critical, and neither the file nor a copy is written; an index that lacks rows is damage too."""
    with opened(care.path) as db:
        db.execute("PRAGMA wal_checkpoint(truncate)")
        if damage == "index":  # an entry of the index points to a row that is not there
            db.execute("PRAGMA writable_schema = on")
            db.execute("UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'loose')"
                       " WHERE name = 'school'")  # fmt: skip
    if damage == "page":
        data = bytearray(care.path.read_bytes())
        data[4096 * 30 : 4096 * 30 + 64] = b"\xff" * 64
        care.path.write_bytes(data)
    before = care.path.read_bytes()
    result = care.run()
    assert result.found("integrity").severity is Severity.CRITICAL
    assert ".recover" in result.found("integrity").hint
    assert (result.state, result.did) == ("failed", {})
    assert care.path.read_bytes() == before and not care.root.exists()


def test_a_check_that_takes_too_long_is_unknown(care: Care):
    """What was not read is not called intact; the copy has its own check and its own time."""
    with opened(care.path) as db:
        db.execute("INSERT INTO pupil (name) SELECT a.name FROM pupil a, (SELECT 1 FROM pupil LIMIT 15)")
    result = care.run(check_seconds=0.001)
    assert result.found("integrity").severity is Severity.UNKNOWN
    assert "check_seconds" in result.found("integrity").hint
    assert result.did["copy"] == "done"


def test_rows_that_point_to_nothing(care: Care):
    """Each broken reference is a warning with its number."""
    with opened(care.path) as db:
        db.execute("UPDATE pupil SET school = 99 WHERE id <= 7")
    broken = care.run().found("foreign_key")
    assert (broken.severity, broken.subject, broken.observed) == (Severity.WARNING, "pupil -> school", "7")


def test_a_locked_file_is_left_for_later(tmp_path: Path):
    """Whoever cannot even be read is unknown, nothing is done, and nobody waited longer than the time-out."""
    care = Care(make(tmp_path / "a.db"), tmp_path / "keep")
    with somebody(care.path, HOLD):
        begun = time.monotonic()
        result = care.run()
        assert time.monotonic() - begun < 2
    assert result.found("locked").severity is Severity.UNKNOWN
    assert (result.state, result.did) == ("success", {})


def test_a_writer_that_does_not_let_go(care: Care):
    """What needs a lock is tried twice, skipped and a warning, no failure; the copy is made all the same."""
    thin(care.path)
    with somebody(care.path, "db.execute('BEGIN IMMEDIATE'); ready(); time.sleep(60)"):
        result = care.run()
    assert result.did == {"copy": "done", "analyze": "skipped", "vacuum": "skipped"}
    locked = [f for f in result.findings if f.check == "locked"]
    assert {(f.subject, f.severity) for f in locked} == {("analyze", Severity.WARNING), ("vacuum", Severity.WARNING)}
    assert result.state == "success"
    assert care.run().did == {"copy": "unchanged", "analyze": "done", "vacuum": "done"}


def test_a_reader_keeps_vacuum_from_beginning(care: Care):
    """VACUUM would lose its work (rollback journal) or only make the log grow (WAL): it is not begun, quickly."""
    thin(care.path)
    size = care.path.stat().st_size
    with somebody(care.path, READ), opened(care.path) as db:
        if mode(care.path) == "wal":
            db.execute(
                "INSERT INTO school (name) VALUES ('later')"
            )  # the reader's snapshot is older than the log's end
        result = care.run(copies=0)
        assert result.did["vacuum"] == "skipped"
        assert any((f.check, f.subject) == ("locked", "vacuum") for f in result.findings)
        assert care.path.stat().st_size == size
    assert care.run(copies=0).did["vacuum"] == "done"


def test_a_lock_that_is_gone_at_the_end_costs_nothing(care: Care):
    """What was locked is tried again when all else is done, and then succeeds without a finding."""
    thin(care.path)
    short = "db.execute('BEGIN IMMEDIATE'); ready(); time.sleep(1.2); db.execute('COMMIT'); time.sleep(60)"
    with somebody(care.path, short):
        result = care.run(busy_timeout=0.5)
    assert result.did["vacuum"] == "done"
    assert result.troubles == []


WRITE = """
n = 0
worst = 0.0
ready()
while True:
    begun = time.monotonic()
    db.execute("INSERT INTO loose VALUES (?, ?)", (n, n))
    worst = max(worst, time.monotonic() - begun)
    n += 1
    print(f"{worst:.3f}", flush=True)
    time.sleep(0.02)
"""


def test_a_busy_application_goes_on(care: Care):
    """While somebody writes without pause, the copy is one moment of the database, and nobody waits for long."""
    with opened(care.path) as db:
        db.execute("INSERT INTO pupil (name) SELECT a.name FROM pupil a, (SELECT 1 FROM pupil LIMIT 20)")
        db.execute("PRAGMA synchronous = normal")
    with somebody(care.path, WRITE) as writer:
        result = care.run(busy_timeout=5)
        writer.kill()
        waits = [float(line) for line in (writer.stdout or "") if line.endswith("\n")]
    assert result.did["copy"] == "done", result.findings
    assert waits[-1] < 2.5
    [copy] = care.copies
    with contextlib.closing(sqlite3.connect(f"file:{care.folder / copy.name}?immutable=1", uri=True)) as db:
        rows = db.execute("SELECT value FROM loose WHERE typeof(value) = 'integer'").fetchall()
        assert [v for (v,) in rows] == list(range(len(rows))), "a row is missing in the middle"


def test_a_database_that_never_holds_still(tmp_path: Path):
    """Without a log and with little patience no copy is made: a warning, nothing partial, and no VACUUM without it."""
    care = Care(make(tmp_path / "a.db", rows=60_000), tmp_path / "keep")
    thin_ = "DELETE FROM pupil WHERE id % 3"
    with opened(care.path) as db:
        db.execute(thin_)
    with somebody(care.path, WRITE):
        result = care.run(busy_timeout=5, hold_seconds=0.05)
    assert (result.did["copy"], result.did["vacuum"]) == ("skipped", "skipped")
    assert result.found("moved").severity is Severity.WARNING and "wal" in result.found("moved").hint
    assert {p.name for p in care.folder.iterdir()} == {".lock"}


def test_a_large_log_is_emptied(tmp_path: Path):
    """A log that grew behind a reader is brought into the file; while the reader is there it is a warning."""
    care = Care(make(tmp_path / "a.db", mode="wal"), tmp_path / "keep")
    with opened(care.path) as application:
        with somebody(care.path, READ):
            application.execute("UPDATE pupil SET name = name || 'x'")
            kept = care.run(wal_bytes=100_000, copies=0)
            assert kept.did["checkpoint"] == "skipped"
            assert ("locked", "checkpoint") in {(f.check, f.subject) for f in kept.findings}
        result = care.run(wal_bytes=100_000, copies=0)
        assert result.did["checkpoint"] == "done"
        assert result.evidence("checkpoint")["after"] == {"wal_bytes": 0}
        assert care.run(wal_bytes=100_000, copies=0).did == {}


def test_a_file_that_only_the_log_has_made_smaller(tmp_path: Path):
    """Somebody's VACUUM, killed or not, has reached the log only: emptying it makes the file small."""
    care = Care(make(tmp_path / "a.db", mode="wal"), tmp_path / "keep")
    thin(care.path)
    size = care.path.stat().st_size
    with opened(care.path) as application:
        application.execute("PRAGMA wal_autocheckpoint = 0")
        application.execute("VACUUM")
        assert care.path.stat().st_size == size
        assert care.run(copies=0, analyze_rows=10**6).did == {"checkpoint": "done"}
        assert care.path.stat().st_size < size / 2
        assert care.run(copies=0, analyze_rows=10**6).did == {}


def test_incremental_auto_vacuum(tmp_path: Path):
    """Where the file can give pages back by itself, they are asked for, and no room is needed."""
    care = Care(make(tmp_path / "a.db", auto_vacuum="incremental"), tmp_path / "keep")
    thin(care.path)
    result = care.run()
    assert result.did["release"] == "done" and "vacuum" not in result.did
    assert result.evidence("release")["after"]["free_bytes"] == 0
    assert care.path.stat().st_size == result.evidence("release")["after"]["bytes"]


def test_no_room(care: Care):
    """Where a volume is too full, VACUUM is not planned, and that is a warning; not to know it is unknown."""
    thin(care.path)
    size = care.path.stat().st_size
    tight = dataclasses.replace(care, disk=lambda path: Disk(total=10**9, free=int(size * 1.5)))
    result = tight.run()
    assert "vacuum" not in result.did and result.did["copy"] == "done"
    assert (result.found("room").subject, result.found("room").severity) == ("vacuum", Severity.WARNING)
    blind = dataclasses.replace(care, disk=lambda path: Failed("privilege", f"{path}: Permission denied"))
    result = blind.run()
    assert {f.severity for f in result.findings if f.check == "room"} == {Severity.UNKNOWN}
    assert result.did.keys() == {"analyze"} & result.did.keys()


FULL = """
import resource, sys
from pathlib import Path
from tests.integration.sqlite_bench import Care
care = Care(Path(sys.argv[1]), Path(sys.argv[2]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
for name, values in (("vacuum", {"copies": 0}), ("copy", {})):
    did, findings = care.bare(**values)
    print("did", name, did[name], flush=True)
"""


def test_a_disk_that_becomes_full(care: Care):
    """When a file cannot grow, VACUUM and the copy fail, the original is intact and nothing partial stays."""
    with opened(care.path) as db:
        db.execute("DELETE FROM pupil WHERE id % 2")
        db.execute("DELETE FROM pupil WHERE id < 1400")
    before = content(care.path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(care.path), str(care.root), "131072"],
        text=True, capture_output=True, env=environment, timeout=60, check=False,
    )  # fmt: skip
    said = dict(line.split(" ")[1:3] for line in done.stdout.splitlines() if line.startswith("did "))
    assert said.keys() == {"vacuum", "copy"}, done.stderr
    assert set(said.values()) == {"failed"}
    assert content(care.path) == before
    assert care.copies == () and {p.name for p in care.folder.iterdir()} == {".lock"}
    assert care.run().did["vacuum"] == "done"
    assert content(care.path) == before


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A volume of 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    order = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(folder)]
    tried = subprocess.run(order, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"mounting needs root: {tried.stderr.strip()}; a limit on file sizes is tried elsewhere")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_real_volume_without_room(small_volume: Path, tmp_path: Path):
    """On a real full volume nothing is begun, and both lacks are told."""
    care = Care(make(small_volume / "a.db", rows=2000), small_volume / "keep")
    thin(care.path)
    space = os.statvfs(small_volume)
    (small_volume / "others").write_bytes(b"x" * (space.f_bavail * space.f_frsize - care.path.stat().st_size // 2))
    result = care.run()
    assert {f.subject for f in result.findings if f.check == "room"} == {"copy", "vacuum"}
    assert not {"copy", "vacuum"} & result.did.keys()
    elsewhere = Care(care.path, tmp_path / "keep").run()
    assert (elsewhere.did["copy"], "vacuum" in elsewhere.did) == ("done", False)


def test_no_time_left(care: Care):
    """What would not be done when the window closes is not begun; the ledger's own rates tell how long it takes."""
    thin(care.path)
    care.until = datetime.now(UTC) + timedelta(milliseconds=10)
    result = care.run()
    assert (result.did["copy"], result.did["vacuum"]) == ("skipped", "skipped")
    assert {f.subject for f in result.findings if f.check == "window"} == {"copy", "vacuum"}
    care.until = datetime.now(UTC) + timedelta(hours=1)
    assert care.run().did["vacuum"] == "done"
    assert care.history.last("vacuum.rate") is not None


def test_vacuum_gives_up_in_time(care: Care):
    """Past its time VACUUM is rolled back; nothing is lost."""
    with opened(care.path) as db:
        db.execute("INSERT INTO pupil (name) SELECT a.name FROM pupil a, (SELECT 1 FROM pupil LIMIT 15)")
        db.execute("DELETE FROM pupil WHERE id > 8000")
    before = content(care.path)
    result = care.run(vacuum_seconds=0.001)
    assert (result.did["vacuum"], result.found("timeout").subject) == ("skipped", "vacuum")
    assert content(care.path) == before


def test_search_indexes_that_know_rows_by_number(tmp_path: Path):
    """VACUUM may renumber rows without INTEGER PRIMARY KEY: a full-text index over such a table needs a person."""
    care = Care(make(tmp_path / "a.db"), tmp_path / "keep")
    with opened(care.path) as db:
        db.execute("CREATE VIRTUAL TABLE safe USING fts5(name, content='pupil', content_rowid='id')")
    thin(care.path)
    assert care.run(dry_run=True).actions[-1].action.approval == ""
    with opened(care.path) as db:
        db.execute("CREATE VIRTUAL TABLE risky USING fts5(value, content = loose)")
    result = care.run()
    assert result.did["vacuum"] == "proposed"
    assert "risky" in result.actions[-1].action.approval


def test_stale_statistics(tmp_path: Path):
    """Statistics are collected when missing and when a table has grown tenfold, not in between."""
    care = Care(make(tmp_path / "a.db", rows=1000), tmp_path / "keep")
    assert care.run(copies=0).did == {"analyze": "done"}
    with opened(care.path) as db:
        db.execute("INSERT INTO pupil (name) SELECT name FROM pupil")
    assert care.run(copies=0).did == {}
    with opened(care.path) as db:
        db.execute("INSERT INTO pupil (name) SELECT p.name FROM pupil p, (SELECT 1 FROM pupil LIMIT 9)")
    result = care.run(copies=0)
    assert result.did == {"analyze": "done"}
    assert result.actions[0].evidence == {"tables": ["pupil"]}
    assert care.run(copies=0).did == {}


def test_another_run_is_at_work(tmp_path: Path):
    """Two runs do not write into one folder; what the other is writing is not swept."""
    care = Care(make(tmp_path / "a.db"), tmp_path / "keep")
    care.run()
    partial = care.folder / "20260101T000000000000Z-00000000.db.partial"
    partial.write_bytes(b"x")
    taken = f"import fcntl; f = open({str(care.folder / '.lock')!r}); fcntl.flock(f, fcntl.LOCK_EX)"
    with somebody(care.path, f"{taken}; ready(); time.sleep(60)"):
        result = care.run()
        assert (result.did, partial.exists()) == ({"copy": "skipped"}, True)
        assert result.found("locked").severity is Severity.WARNING
    foreign = care.folder / "notes.db.partial"
    foreign.write_bytes(b"x")
    assert care.run().did["sweep"] == "done"
    assert (partial.exists(), foreign.exists()) == (False, True)


def test_files_that_are_none(tmp_path: Path):
    """Missing, a folder, no database, encrypted, empty: each is said, nothing is made, nothing fails otherwise."""
    (tmp_path / "text.db").write_text("this is no database, it is a text")
    (tmp_path / "encrypted.db").write_bytes(os.urandom(8192))
    (tmp_path / "new.db").touch()
    for name, check in (("missing", "reachable"), ("", "reachable"), ("text", "integrity"), ("encrypted", "integrity")):
        path = tmp_path / f"{name}.db" if name else tmp_path
        found = Care(path, tmp_path / "keep").run().found(check)
        assert found.severity is Severity.CRITICAL and str(path) in found.message and found.hint
    empty = Care(tmp_path / "new.db", tmp_path / "keep").run()
    assert (empty.findings, empty.did) == ((), {})
    assert {p.name for p in tmp_path.iterdir()} == {"text.db", "encrypted.db", "new.db"}


def test_links(care: Care):
    """A symbolic link is followed, log and all; a second name is a danger, and the file is not even opened."""
    thin(care.path)
    link = care.path.parent.parent / "link.db"
    link.symlink_to(care.path)
    with opened(care.path):
        assert Care(link, care.root).run().did["vacuum"] == "done"
    link.unlink()
    os.link(care.path, link)
    for path in (link, care.path):
        result = Care(path, care.root).run()
        assert (result.found("links").severity, result.did) == (Severity.UNKNOWN, {})


AS_NOBODY = """
import os, sys
from pathlib import Path
from tests.integration.sqlite_bench import Care
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
did, findings = Care(Path(sys.argv[1]), Path(sys.argv[2])).bare()
print(did, [(f.check, str(f.severity), f.message) for f in findings])
"""


def test_a_file_that_may_only_be_read(tmp_path: Path):
    """It is checked and copied; what would need writing is named. One that may not be read is critical."""
    import tempfile

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        path = make(folder / "a.db")
        thin(path)
        (folder / "keep").mkdir()
        (folder / "keep").chmod(0o777)

        def run() -> str:
            order = [sys.executable, "-c", AS_NOBODY, str(path), str(folder / "keep")]
            return subprocess.run(order, text=True, capture_output=True, env=environment, timeout=60, check=True).stdout

        folder.chmod(0o555)
        path.chmod(0o444)
        said = run()
        assert "{'copy': 'done'}" in said and "('privilege', 'warning'" in said and "vacuum" in said
        path.chmod(0o000)
        assert "('reachable', 'critical'" in run()
        folder.chmod(0o755)


def test_a_folder_that_others_can_read(tmp_path: Path):
    """A keep that is open to others, or has an id that leads elsewhere, is refused."""
    care = Care(make(tmp_path / "a.db"), tmp_path / "keep")
    care.folder.mkdir(parents=True, mode=0o755)
    with pytest.raises(UnsafeError, match="0700"):
        care.run()
    with pytest.raises(ConfigurationError):
        sqlite_work.Workshop(tmp_path).keep("student/..")
