"""Traps for log review: halves of secrets, twins, look-alikes, reused inodes, quotes without end."""

from __future__ import annotations

import gzip
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.log_review_bench import DAY, LogBench, answers, entry

AT = DAY + timedelta(hours=3)


@pytest.fixture
def bench(tmp_path: Path) -> LogBench:
    return LogBench(tmp_path / "logs", tmp_path / "home")


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "s3Cr3t" * 70


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (f"login jwt {JWT} password=hunter2 ok", ("s3Cr3t", "hunter2")),
        ("login password=hunter2 from postgres://app:w0nderl4nd-and-a-half-of-it@db/x", ("hunter2", "w0nder")),
        ("login password=hunter2 then password='secr3t words of a long sentence that goes on'", ("hunter2", "secr3t")),
        ("x " * 960 + f"password=hunter2 {JWT}", ("eyJzdWIi", "s3Cr3t")),
        (f"{JWT} {JWT} {JWT} {JWT} {JWT}", ("s3Cr3t",)),
        (f"{JWT};{JWT};{JWT};postgres://app:{'w0nder' * 20}@db/x", ("s3Cr3t", "w0nder")),
    ],
)
def test_half_a_secret_is_not_shown_either(bench: LogBench, text: str, parts: tuple[str, ...]):
    """What is shown is cut from redacted text: a secret that a cut goes through would not be known as one."""
    for level in ("ERROR", "INFO"):
        bench.write(entry("python", AT, level, text))
    bench.write(text + "\n")
    said = bench.run().judgement.model_dump_json()
    assert not [part for part in parts if part in said]


def test_twins_count_once_however_short(bench: LogBench):
    """After a run that was killed while compressing, the plain and the compressed file are both there."""
    text = entry("python", AT, "ERROR", "short")
    plain = bench.write(text, "app.log-20260302-1772420400")
    Path(f"{plain}.gz").write_bytes(gzip.compress(text.encode()))
    result = bench.run()
    assert result.report.errors == 1
    plain.write_text(text + entry("python", AT, "ERROR", "came later"))
    assert bench.run().report.errors == 2
    Path(f"{plain}.gz").write_bytes(gzip.compress(text.encode())[:-9])
    assert bench.run().report.errors == 2 and not bench.run().troubles


def test_logs_that_begin_alike_are_no_copies(bench: LogBench):
    """Two machines are asked by one load balancer; only what another file of the folder holds altogether is a copy."""
    same = "".join(entry("python", AT + timedelta(seconds=n), "INFO", f"GET /health {n}") for n in range(200))
    bench.globs = ("*/app.log*", "app.log*")
    bench.write(same, "a/app.log")
    bench.write(same, "b/app.log")
    assert bench.run().report.entries == 400
    bench.write(same + entry("python", AT, "ERROR", "one"), "app.log.1")
    bench.write(same + entry("python", AT, "ERROR", "two"), "app.log")
    result = bench.run()
    assert result.report.entries == 802 and not result.checks("copies")


def test_a_log_without_times_that_begins_as_yesterdays(tmp_path: Path):
    """A bookmark holds only where what stands before it is what stood there: a banner says nothing of a file."""
    bench = LogBench(tmp_path / "logs", tmp_path / "home", "plain")
    now = datetime.now(UTC).replace(microsecond=0)
    ends = [now - timedelta(hours=3 - n) for n in range(4)]
    banner = "".join(f"=== the service of claims, version 4.2, banner line {n} ===\n" for n in range(20))
    path = bench.write(banner + "old work\n" * 50)
    bench.run(ends[0], ends[1])
    bench.write("an error of the first file\n")
    assert bench.run(ends[1], ends[2]).report.errors == 1
    path.rename(path.with_name("app.log.1"))
    bench.write(banner + "an error of the second file\n" * 3 + "other work\n" * 500)
    assert bench.run(ends[2], ends[3]).report.errors == 3
    os.system(f"gzip {path.with_name('app.log.1')}")
    assert bench.run(ends[1], ends[2], newest=False).report.errors == 1


def test_quotes_that_do_not_end_take_no_time(tmp_path: Path):
    """A csvlog in which a quote is missing: every line is a possible end of it."""
    bench = LogBench(tmp_path / "logs", tmp_path / "home", "postgres")
    line = '2026-03-02 03:00:00.1 UTC,"a","b",7,"",x,1,"-",2026-03-02 03:00:00 UTC,,0,LOG,0,"m",,,,,,,,"","","",,0\n'
    bench.write(line + line.replace('"m"', '"m') + line * 60_000)
    begun = time.monotonic()
    bench.run()
    assert time.monotonic() - begun < 10


def test_a_key_in_several_lines_is_not_shown_as_lines_that_nobody_understands(bench: LogBench):
    """Without its heading nothing tells what such a line is."""
    body = [f"{'MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7'[n:]}k3yB0dy+/{n:02d}" for n in range(26)]
    key = "-----BEGIN PRIVATE KEY-----\n" + "\n".join(body) + "\nk3yB0dy==\n-----END PRIVATE KEY-----\n"
    bench.write(entry("python", AT, "INFO", "the key is ").rstrip("\n") + key + entry("python", AT, "INFO", "next"))
    bench.write(entry("python", AT, "INFO", "the key is") + key)
    bench.write("k3yB0dy" + "aB3/" * 16 + "\n")
    result = bench.run()
    assert "k3yB0dy" not in result.judgement.model_dump_json() + result.report.model_dump_json()
    assert result.found("secret").severity == "critical"


def test_what_copytruncate_has_copied_and_not_named_yet_counts(bench: LogBench):
    """Between emptying a log and naming its copy a disk takes its time, and a run may be killed there."""
    text = "".join(entry("python", AT + timedelta(seconds=n), "ERROR", f"number {n}") for n in range(3))
    hidden = bench.write(text, ".app.log-20260302-1772420400.upkeep-copied")
    bench.write(text)
    result = bench.run()
    assert result.report.errors == 3  # not emptied yet: the copy is one
    (bench.folder / "app.log").write_text("")
    assert bench.run().report.errors == 3
    bench.write(entry("python", AT + timedelta(seconds=9), "ERROR", "later"))
    before = bench.run()
    assert before.report.errors == 4
    hidden.rename(bench.folder / "app.log-20260302-1772420400")
    assert answers(bench.run())["report"] == answers(before)["report"]


def test_a_job_that_says_the_same_every_day(tmp_path: Path):
    """Without times two days of it look like copies of each other, and are none."""
    bench = LogBench(tmp_path / "logs", tmp_path / "home", "plain")
    now = datetime.now(UTC).replace(microsecond=0)
    bench.write("an error as every day\nall is well\n" * 40, "app.log.1")
    bench.write("an error as every day\nall is well\n" * 20)
    assert bench.run(now - timedelta(hours=1), now + timedelta(hours=1)).report.errors == 60


def test_bookmarks_of_a_job_that_says_the_same_every_day(tmp_path: Path):
    """Yesterday's file is there under its own inode: what was noted of it says nothing of today's."""
    bench = LogBench(tmp_path / "logs", tmp_path / "home", "plain")
    now = datetime.now(UTC).replace(microsecond=0)
    ends = [now - timedelta(hours=3 - n) for n in range(4)]
    path = bench.write("all is well, as on every day\nan error as every day\n" * 40)
    assert bench.run(ends[0], ends[1]).report.errors == 40
    path.rename(path.with_name("app.log.1"))
    bench.write("all is well, as on every day\nan error as every day\n" * 50)
    assert bench.run(ends[1], ends[2]).report.errors == 50
    assert bench.run(ends[2], ends[3]).report.errors == 0
    assert bench.run(ends[1], ends[2], newest=False).report.errors == 50
