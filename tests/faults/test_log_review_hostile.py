"""Log review among hostile lines, files, folders and names, and while files are rotated under it."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import resource
import shutil
import threading
import time
import zlib
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.log_review_bench import DAY, LogBench, answers, day_of, entry
from upkeep.core.model import Severity


@pytest.fixture
def bench(tmp_path: Path) -> LogBench:
    return LogBench(tmp_path / "logs", tmp_path / "home")


AT = DAY + timedelta(hours=3)


def as_nobody(bench: LogBench) -> str:
    """Return what a run gives in a process of a user who may do nothing."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(into, bench.run().judgement.model_dump_json().encode())
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out) as result:
        said = result.read()
    os.waitpid(child, 0)
    return said


GOOD = entry("python", AT, "INFO", "fine")


def test_lines_of_any_kind_break_nothing(bench: LogBench):
    """1 MB and 5 MB lines, NULs, invalid UTF-8, ANSI, CRLF, lone CR: counted, shortened, shown harmlessly."""
    bench.write(b"\0" * 3_000_000 + GOOD.encode())
    bench.write(entry("python", AT, "ERROR", "long " + "x" * 1_000_000))
    bench.write(entry("python", AT, "ERROR", "longer " + "y" * 5_000_000))
    bench.write(
        b"2026-03-02 03:00:01,1 - a - ERROR - bad \xff\xfe \x1b[2J\x1b]0;pwn\x07 <script>alert(1)</script> \x00 end\r\n"
    )
    bench.write(b"\x1b[31m2026-03-02 03:00:02,1 - a - ERROR - coloured\x1b[0m\n")
    bench.write(b"2026-03-02 03:00:03,1 - a - ERROR - torn\r2026-03-02 03:00:04,1 - a - CRITICAL - hidden\n")
    bench.write(GOOD + GOOD.rstrip("\n"))
    result = bench.run()
    report = result.report
    assert report.levels == {"error": 5, "info": 3}
    assert (report.lines.read, report.lines.in_window, report.lines.unparsed) == (8, 8, 0)
    shown = result.judgement.model_dump_json()
    assert not any(
        c in json.dumps(json.loads(shown), ensure_ascii=False) for c in ("\x1b", "\x07", "\x00", "\r", "\x7f")
    )
    assert all(len(p.example) <= 300 and len(p.text) <= 120 for p in report.patterns)
    assert any("\\x1b[2J" in p.example and "\\xff\\xfe" in p.example for p in report.patterns)
    assert max(len(f.message) for f in result.judgement.findings) < 3000


def test_a_block_boundary_changes_nothing(bench: LogBench):
    """Entries of many lines across the blocks in which files are read are one entry, wherever blocks end."""
    more = "Traceback (most recent call last):\n" + "  x\n" * 90 + "ValueError: v"
    text = "".join(entry("python", AT + timedelta(seconds=n // 10), "ERROR", f"e {n}", more) for n in range(9000))
    bench.write(text)
    [pattern] = bench.run().report.patterns
    assert (pattern.text, pattern.count) == ("error: e <n> | ValueError: v", 9000)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files_are_read_whatever_their_name(bench: LogBench, pack):
    """By their first bytes; several members and padding are one text."""
    bench.folder.mkdir()
    (bench.folder / "app.log.1").write_bytes(pack(GOOD.encode() * 3) + pack(GOOD.encode() * 4) + b"\0" * 512)
    assert bench.run().report.entries == 7


def test_a_bomb_is_bounded_and_said(bench: LogBench):
    """A small file that decodes to gigabytes is given up early, in little memory, and is unknown."""
    bench.write(GOOD)
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(600)) + packer.flush()
    (bench.folder / "app.log.2.gz").write_bytes(bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    result = bench.run()
    assert time.monotonic() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
    finding = result.found("unread")
    assert finding.severity is Severity.UNKNOWN and "app.log.2.gz" in finding.message and finding.hint
    assert result.report.entries == 1
    text = GOOD.encode() * 40_000
    (bench.folder / "app.log.2.gz").write_bytes(gzip.compress(text))
    assert "decodes to more than" in bench.run(decoded=1 << 20).found("unread").message


def test_a_torn_archive_gives_what_it_holds_and_is_said(bench: LogBench):
    """The lines before the damage are counted; that more are missing is unknown. A stranger's format is named."""
    bench.write(GOOD)
    whole = gzip.compress("".join(text for _, text in day_of("python", DAY, 1, 3000)).encode())
    (bench.folder / "app.log.3.gz").write_bytes(whole[: len(whole) // 2])
    (bench.folder / "app.log.4.zst").write_bytes(b"\x28\xb5\x2f\xfd rest")
    result = bench.run()
    assert result.report.entries > 500
    messages = " ".join(f.message for f in result.judgement.findings if f.check == "unread")
    assert "ends in the middle" in messages and "zst" in messages


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not read")
def test_what_may_not_be_read_is_unknown_with_the_cure(bench: LogBench, tmp_path: Path):
    """Files and folders without permission: a finding each with the command that cures it."""
    bench.write(GOOD)
    bench.write(GOOD, "closed.log").chmod(0)
    bench.write(GOOD, "sub/x.log").parent.chmod(0)
    for parent in (bench.folder, *bench.folder.parents):
        if parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    bench.globs = ("*.log", "*/*.log")
    bench.run()  # so that whatever is imported late is there when we may not read it any more
    said = as_nobody(bench)
    findings = [f for f in json.loads(said)["findings"] if f["check"] == "unread"]
    assert len(findings) == 1 and findings[0]["severity"] == "unknown", findings
    assert (
        "closed.log: Permission denied" in findings[0]["message"]
        and "/sub: Permission denied" in findings[0]["message"]
    )
    assert "usermod -aG adm" in findings[0]["hint"]


def test_links_pipes_and_strange_names(bench: LogBench, tmp_path: Path):
    """One inode is read once; links that lead out are refused and named; pipes hang nobody; names are escaped."""
    bench.write(GOOD)
    outside = tmp_path / "secret.txt"
    outside.write_text(GOOD * 50)
    os.link(bench.folder / "app.log", bench.folder / "hard.log")
    (bench.folder / "soft.log").symlink_to("app.log")
    (bench.folder / "out.log").symlink_to(outside)
    (bench.folder / "dead.log").symlink_to("nothing")
    (bench.folder / "folder.log").mkdir()
    os.mkfifo(bench.folder / "pipe.log")
    bench.write(GOOD, "new\nline\x1b[31m\udcff.log")
    result = bench.run()
    assert result.report.entries == 2
    told = {f.subject: f for f in result.judgement.findings if f.check == "unread"}
    assert all(f.severity is Severity.UNKNOWN for f in told.values()) and len(told) == 3
    text = " ".join(f.message for f in told.values())
    assert "out.log: a symbolic link that leads out of" in text and "pipe.log: not a regular file" in text
    assert str(outside) not in result.judgement.model_dump_json()


def test_nothing_there_is_unknown(bench: LogBench):
    """A glob without files says nothing, which is not that all is well."""
    bench.folder.mkdir()
    finding = bench.run().found("missing")
    assert finding.severity is Severity.UNKNOWN and str(bench.folder) in finding.message
    bench.globs = (str(bench.folder / "nowhere" / "*.log"),)
    assert bench.run().found("missing").severity is Severity.UNKNOWN


def test_bookmarks_may_be_lost_stale_damaged_or_wrong(bench: LogBench):
    """They are a shortcut: whatever happens to them or to the file, the answer is that of a reader without any."""
    for day in range(3):
        bench.write("".join(text for _, text in day_of("python", DAY + timedelta(days=day), day)))
        bench.run(DAY + timedelta(days=day))
    [book] = bench.home.glob("*.json")
    kept, live, last = book.read_bytes(), bench.folder / "app.log", DAY + timedelta(days=2)
    fresh = 0

    def truth() -> dict:
        nonlocal fresh
        fresh += 1
        return answers(LogBench(bench.folder, bench.home.with_name(f"fresh{fresh}")).run(last))

    def seen() -> dict:
        return answers(LogBench(bench.folder, bench.home).run(last))

    for damage in (b"", b"garbage", kept[:-20], kept.replace(b'"offset":', b'"offset":1'), kept[:33] + b"{}"):
        book.write_bytes(damage)
        assert seen() == truth()
    text = live.read_bytes()
    for change in (
        lambda: live.write_bytes(text[len(text) // 2 :]),  # shorter, in place
        lambda: live.write_bytes(b""),
        lambda: live.write_bytes(text.replace(b"request", b"REQUEST")),  # same size
        lambda: live.write_bytes(text[: len(text) // 2] + text[len(text) // 2 :].replace(b"INFO", b"WARN")),
        lambda: (live.unlink(), live.write_bytes(text + GOOD.encode() * 5)),  # another inode, perhaps the same number
        lambda: shutil.copy2(live, live.with_name("app.log.1")) and os.truncate(live, 0),
    ):
        book.write_bytes(kept)
        change()
        assert seen() == truth()


def test_rotation_while_it_reads(bench: LogBench):
    """Files that are renamed, compressed and copied all the time: every line is counted once, in every run."""
    for m in range(5):
        text = "".join(entry("python", AT, "INFO", f"request {n} of {m}") for n in range(2000))
        bench.write(text, f"app.log.{m}" if m else "app.log")
    stop = threading.Event()

    def keep_rotating() -> None:
        while not stop.is_set():
            time.sleep(0.05)
            names = [bench.folder / f"app.log{'' if n == 0 else f'.{n}'}" for n in range(5)]
            for n in range(4, -1, -1):
                names[n].rename(bench.folder / f"app.log.{n + 1}")
            (bench.folder / "app.log").touch()
            packed = bench.folder / "app.log.5.gz"
            packed.write_bytes(gzip.compress((bench.folder / "app.log.5").read_bytes()))
            time.sleep(0.05)
            (bench.folder / "app.log.5").unlink()
            (bench.folder / "app.log").write_bytes(gzip.decompress(packed.read_bytes()))
            packed.unlink()

    rotating = threading.Thread(target=keep_rotating)
    rotating.start()
    counts = []
    try:
        while len(counts) < 6:
            try:
                counts.append(bench.run().report.entries)
            except Exception as error:
                counts.append(type(error).__name__)
    finally:
        stop.set()
        rotating.join()
    # While the writer above has nothing in place, or a file twice, a run may find that; it must never invent lines.
    assert set(counts) <= {8000, 10_000, "TransientError"} and 10_000 in counts, counts
