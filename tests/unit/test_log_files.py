"""Which files are meant, how their text is read, and the moments that lines tell."""

from __future__ import annotations

import gzip
import random
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from upkeep.adapters import log_app_sift, log_app_tally, log_files, log_postgres_tally, log_secrets
from upkeep.adapters.log_app_time import Clock
from upkeep.adapters.log_files import discover, family, fixed_part
from upkeep.adapters.log_lines import KEPT, LONGEST, MovedError, opened
from upkeep.adapters.log_postgres_tally import normalised
from upkeep.adapters.log_secrets import Scanner
from upkeep.core import sql_text


@pytest.mark.parametrize("module", [log_files, log_secrets, log_app_sift, log_app_tally, log_postgres_tally, sql_text])
def test_examples_in_the_documentation(module):
    import doctest

    result = doctest.testmod(module)
    assert result.attempted and not result.failed


@pytest.mark.parametrize(
    "name",
    ["app.log", "app.log.1", "app.log.12.gz", "app.log-20260131", "app.log-20260131-1769817600.gz",
     "app.log.2026-01-31", "app-2026-01-31.log", "app.2026-01-31_10.log.xz", "app.log.1.zst"],
)  # fmt: skip
def test_a_log_keeps_its_name_under_rotation(name: str):
    """So that what is said of it today is the same trouble tomorrow."""
    assert family(f"/var/log/{name}") == "app.log"


def test_the_fixed_part_of_a_glob():
    """What a glob may match lies below the folders that it names without wildcards."""
    assert str(fixed_part("/var/log/*/x.log")) == "/var/log"
    assert str(fixed_part("/var/log/**")) == "/var/log"
    assert str(fixed_part("/var/[l]og/x")) == "/var"


def test_a_folder_link_inside_a_glob_leads_nowhere(tmp_path: Path):
    """A link to a folder outside is refused for every file in it; a tree that is itself a link is no trouble."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "shadow.log").write_text("x")
    (tmp_path / "logs" / "a").mkdir(parents=True)
    (tmp_path / "logs" / "a" / "x.log").write_text("x")
    (tmp_path / "logs" / "b").symlink_to(tmp_path / "etc")
    found = discover([str(tmp_path / "logs" / "*" / "*.log")])
    assert [Path(f.path).name for f in found.files] == ["x.log"]
    assert [Path(u.path).name for u in found.unread] == ["shadow.log"]
    (tmp_path / "here").symlink_to(tmp_path / "logs")
    assert len(discover([str(tmp_path / "here" / "a" / "*.log")]).files) == 1
    assert len(discover([str(tmp_path / "here" / "a" / "*"), str(tmp_path / "logs" / "a" / "x*")]).files) == 1


def test_blocks_join_to_the_text(tmp_path: Path):
    """Whatever the lines: offsets follow each other, whole lines only, long ones cut, NULs before them left out."""
    dice = random.Random(5)
    kinds = (b"a" * 90, b"\0" * 70 + b"x", b"y" * (LONGEST + 1), b"y" * LONGEST, b"", b"\0" * (2 * LONGEST) + b"z")
    lines = [dice.choices(kinds, (90, 5, 1, 1, 20, 0.5))[0] for _ in range(900)]
    text = b"\n".join(lines)
    (tmp_path / "a.log").write_bytes(text)
    (tmp_path / "b.gz").write_bytes(gzip.compress(text, 1))
    seen = []
    for file in discover([str(tmp_path / "*")]).files:
        with opened(file, 1 << 30) as opened_text:
            blocks = list(opened_text.blocks())
            middle = b"".join(opened_text.pieces(1000, 5_000_000))
        assert [b.offset for b in blocks] == [0, *(b.offset + b.size for b in blocks)][:-1]
        assert blocks[-1].offset + blocks[-1].size == len(text) and middle == text[1000:5_000_000]
        seen.append(b"".join(b.data for b in blocks))
    kept = [line.lstrip(b"\0")[:KEPT] if len(line) > LONGEST else line for line in lines]
    assert seen[0] == seen[1] and [s.rstrip(b"\n") for s in (seen[0],)] == [b"\n".join(kept).rstrip(b"\n")]


def test_a_file_that_is_another_by_now_is_not_read(tmp_path: Path):
    """Replaced, shortened or gone between the look and the reading: look again."""
    path = tmp_path / "a.log"
    for change in (
        path.unlink,
        lambda: path.write_text("x"),
        lambda: (path.rename(tmp_path / "b"), path.write_text("y" * 99)),
    ):
        path.write_text("y" * 99)
        [file] = discover([str(tmp_path / "*.log")]).files
        change()
        with pytest.raises(MovedError), opened(file, 1 << 20) as text:
            list(text.blocks())


def test_moments():
    """Offsets, abbreviations, leap seconds, times that are none, and years that syslog leaves out."""
    clock = Clock(ZoneInfo("Europe/Berlin"), datetime(2026, 1, 3, tzinfo=UTC).timestamp())

    def at(text: bytes, zone: bytes | None = None) -> str | None:
        found = clock.moment(text, zone, None)
        return None if found is None else f"{datetime.fromtimestamp(found, UTC):%Y-%m-%d %H:%M:%S}"

    assert at(b"2026-01-02 03:04:05") == "2026-01-02 02:04:05"
    assert at(b"2026-07-02T03:04:05") == "2026-07-02 01:04:05"
    assert at(b"2026/01/02 03:04:05", b"Z") == "2026-01-02 03:04:05"
    assert at(b"2026-01-02 03:04:05", b"-0530") == "2026-01-02 08:34:05"
    assert at(b"2026-01-02 03:04:05", b"+02") == "2026-01-02 01:04:05"
    assert at(b"02/Jan/2026:03:04:05", b"+0000") == "2026-01-02 03:04:05"
    assert at(b"2016-12-31 23:59:60", b"UTC") == "2016-12-31 23:59:59"
    assert at(b"2026-13-02 03:04:05") is None and at(b"02/Foo/2026:03:04:05") is None
    assert at(b"Jan  2 03:04:05") == "2026-01-02 02:04:05"
    assert at(b"Dec 31 23:04:05") == "2025-12-31 22:04:05"


@pytest.mark.parametrize(
    ("statement", "bare"),
    [
        (b"SELECT 1;", "SELECT ?"),
        (b"select E'it\\'s', $tag$a'b$tag$, U&'x' from \"T 1\" -- c", 'select ? from "T 1"'),
        (b"insert into t values (1,'a'), (2,'b'), (3,'c')", "insert into t values (?)"),
        (b"select 'unsure \\' or', 'secret'", "select ?…"),
        (b"select 'cut off secret", "select ?"),
        (b"/* for bob */ select a1 from t2 where x=$1 and y>.5e3", "select a1 from t2 where x=$1 and y>?"),
    ],
)
def test_statements_lose_their_literals(statement: bytes, bare: str):
    """Quotes of every kind; what could be read in two ways is left out."""
    assert normalised(statement) == bare


def test_a_block_and_its_lines_hold_the_same_secrets():
    """Sifting first changes no answer: a large block gives what its lines give one by one."""
    dice = random.Random(3)
    parts = (b"password", b"=", b": ", b'"', b"hunter22", b"://", b"app:", b"pw7", b"@", b"db", b"token", b"Bearer ",
             b"eyJhbGciOi9.", b"eyJzdWIiOj1.", b"abcdef0123456789", b"4111111111111111", b" ",
             b"-----BEGIN PRIVATE KEY-----", b"AKIAIOSFODNN7EXAMPLE",
             b"ghp_" + b"a1" * 18, b"\xff", b"\r", b"secret_key", b"sk-")  # fmt: skip
    lines = [b"".join(dice.choices(parts, k=dice.randrange(1, 9))) for _ in range(6000)]
    block, scanner = b"\n".join(lines), Scanner()
    at, expected = 0, set()
    for line in lines:
        expected |= {(k.kind, at + k.start, at + k.end) for k in scanner.scan(line)}
        at += len(line) + 1
    assert len(expected) > 500
    assert {(k.kind, k.start, k.end) for k in scanner.scan(block)} == expected
