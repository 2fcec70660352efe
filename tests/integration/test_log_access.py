"""The review of access logs over real files: windows, traps of real logs, compression, offsets, judgement."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bench.logs_make import write
from upkeep.adapters.log_access import review_access
from upkeep.core.access_log import AccessOptions, AccessReview
from upkeep.core.log_files import Segment
from upkeep.core.model import Judgement, Severity
from upkeep.routines.logs._access import judge
from upkeep.routines.logs._access_settings import AccessLimits

DAY = datetime(2026, 10, 10, tzinfo=UTC)


def line(second: int = 0, **parts: Any) -> bytes:
    """Return a line of the day, so many seconds after its beginning."""
    at = (DAY + timedelta(seconds=second)).strftime("%d/%b/%Y:%H:%M:%S +0000")
    p = {"client": "10.0.0.1", "user": "-", "method": "GET", "target": "/", "status": 200, "size": 100, "referer": "-",
         "agent": "Mozilla/5.0", "took": "0.050"} | parts  # fmt: skip
    took = f" {p['took']}" if p["took"] is not None else ""
    text = (
        f'{p["client"]} - {p["user"]} [{at}] "{p["method"]} {p["target"]} HTTP/1.1" {p["status"]} {p["size"]}'
        f' "{p["referer"]}" "{p["agent"]}"{took}'
    )
    return text.encode()


def segment(path: Path, start: int = 0, end: int | None = None) -> Segment:
    seen = path.stat()
    packed = path.suffix == ".gz"
    last = end if end is not None or packed else seen.st_size
    return Segment(path=str(path), device=seen.st_dev, inode=seen.st_ino, start=start, end=last, compressed=packed)


def review(*files: Path | Segment, format: Any = "combined_time", **options: Any) -> AccessReview:
    found = review_access(
        [file if isinstance(file, Segment) else segment(file) for file in files],
        format=format, zone=ZoneInfo("Europe/Berlin"), start=DAY, end=DAY + timedelta(days=1),
        options=AccessOptions(**options),
    )  # fmt: skip
    seen = found.lines
    assert seen.read == seen.in_window + seen.outside + seen.unparsed
    assert sum(found.statuses.values()) == found.requests == sum(found.methods.values())
    return found


def save(path: Path, lines: Sequence[bytes], ending: bytes = b"\n") -> Path:
    path.write_bytes(ending.join(lines) + ending)
    return path


def severities(judgement: Judgement) -> dict[str, Severity]:
    return {f"{f.check}/{f.subject}": f.severity for f in judgement.findings}


def test_exactly_the_lines_of_the_window(tmp_path: Path) -> None:
    """A window begins with its first second and ends before its last; zones do not matter."""
    lines = [line(-1), line(0), line(86_399), line(86_400)]
    lines.append(lines[1].replace(b"10/Oct/2026:00:00:00 +0000", b"10/Oct/2026:01:30:00 +0200"))  # 23:30 the day before
    lines.append(lines[1].replace(b"10/Oct/2026:00:00:00 +0000", b"09/Oct/2026:20:00:00 -0500"))  # 01:00
    found = review(save(tmp_path / "a.log", lines))
    assert (found.lines.in_window, found.lines.outside, found.lines.unparsed) == (3, 3, 0)
    assert (found.first, found.last) == (DAY, DAY + timedelta(seconds=86_399))


def test_no_line_is_dropped_and_none_swallows_its_neighbour(tmp_path: Path) -> None:
    """Torn, quoted, bare, empty, binary, long, hostile lines: each is counted once, and all good ones between are."""
    odd = [
        line(took=None),
        line(user="bob the builder"),
        line(agent='say \\"hi\\"'),
        line(agent="\\x22"),
        line(agent="<script>alert(1)</script>"),
        line(agent="x\x1b[31mred"),
        line() + b"\r",
        b"\0" * 100_000 + line(),
        line(target="/" + "a" * 1_000_000),
        line(client="2001:db8::1"),
        line().replace(b"GET / HTTP/1.1", b"\\x16\\x03\\x01"),
        line().replace(b"Mozilla", b"\xff\xfe\x80"),
    ]
    bad = [
        line()[:70],
        line().replace(b'"Mozilla/5.0"', b'"Mozilla/5.0'),
        line().replace(b'"GET', b"GET"),
        b"",
        b"\0\0\0\0",
        b"\x1b[2J\x07 <b>evil</b>",
        b'"' * 1001,
        line(-100)[40:] + line(),
        b"x" * 3_000_000,
        "日本".encode("utf-16"),
    ]
    lines = [line(n, target="/good") for n in range(40)]
    for n, extra in enumerate([*odd, *bad]):
        lines.insert(1 + 2 * n % len(lines), extra)
    found = review(save(tmp_path / "a.log", lines))
    assert found.lines.read == len(lines)
    assert found.lines.unparsed == len(bad)
    assert found.lines.in_window == 40 + len(odd)
    assert next(r.requests for r in found.routes if r.route == "/good") == 40
    assert found.untimed == 1
    assert len(found.lines.samples) == 5
    text = (tmp_path / "a.log").read_bytes()
    for sample in found.lines.samples:
        assert sample.text.isprintable()
        assert len(sample.text) <= 200
        assert sample.offset == 0 or text[sample.offset - 1] == 10


def test_lines_that_stand_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a block ends, the answer is the same; offsets of samples stay right."""
    lines = [line(n, target=f"/x/{n}", status=200 + n % 3) for n in range(60)]
    lines[30] = b"torn"
    path = save(tmp_path / "a.log", lines)
    whole = review(path)
    for size in (1, 150, 1000):
        monkeypatch.setattr("upkeep.adapters.log_access_read.BLOCK", size)
        assert review(path) == whole


def test_offsets_are_kept(tmp_path: Path) -> None:
    """Only the bytes of a segment are read, of compressed files those of the text; a last line may lack its end."""
    lines = [line(n, target=f"/n/{n}") for n in range(10)]
    size = len(lines[0]) + 1
    path = save(tmp_path / "a.log", lines)
    packed = tmp_path / "a.log.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for file in (path, packed):
        found = review(segment(file, 2 * size, 7 * size))
        assert (found.lines.read, found.lines.in_window, found.lines.bytes) == (5, 5, 5 * size)
        assert found.first == DAY + timedelta(seconds=2)
    path.write_bytes(path.read_bytes()[:-1])
    assert review(path).lines.in_window == 10


def test_several_files_are_one_answer(tmp_path: Path) -> None:
    """Rotated, compressed and live files count together, in any order; a gzip file may have several parts."""
    lines = [line(n, status=404 if n % 5 == 0 else 200, took=f"{n / 1000:.3f}") for n in range(300)]
    whole = review(save(tmp_path / "whole.log", lines))
    old, new = tmp_path / "a.log.1.gz", save(tmp_path / "a.log", lines[200:])
    parts = [b"\n".join(part) + b"\n" for part in (lines[:50], lines[50:200])]
    old.write_bytes(b"".join(map(gzip.compress, parts)) + b"\0" * 512)
    for files in ((old, new), (new, old)):
        assert review(*files) == whole
    assert whole.statuses == {200: 240, 404: 60}
    assert whole.times is not None
    assert (whole.times.p50, whole.times.p95, whole.times.p99, whole.times.max) == (0.149, 0.284, 0.296, 0.299)


def test_json_lines(tmp_path: Path) -> None:
    """One object a line; times without an offset are in the zone of the log."""
    rows = [
        {"time_local": "10/Oct/2026:10:00:00 +0000", "remote_addr": "10.0.0.1", "request": "POST /login HTTP/1.1",
         "status": 401, "body_bytes_sent": 5, "request_time": 0.2},
        {"time": "2026-10-10T01:30:00", "remote_addr": "10.0.0.2", "method": "GET", "uri": "/a/7", "status": "200"},
        {"time": "2026-10-10T02:30:00", "remote_addr": "10.0.0.2", "method": "GET", "uri": "/a/8", "status": "200"},
    ]  # fmt: skip
    path = save(tmp_path / "a.json", [json.dumps(row).encode() for row in rows] + [b"{", b"", b"\xff"])
    found = review(path, format="access_json")
    assert (found.lines.in_window, found.lines.outside, found.lines.unparsed) == (2, 1, 3)
    assert (found.failed_logins, found.untimed) == (1, 1)
    assert {r.route for r in found.routes} == {"/login", "/a/{id}"}


def test_what_was_planted_is_counted(tmp_path: Path) -> None:
    """Every attack, login, upload, token, probe and leak of a busy log, to the last one."""
    path = tmp_path / "busy.log"
    planted = write(path, 0.008)
    found = review(path)
    assert (found.lines.read, found.lines.unparsed) == (8 * 4700, 0)
    kinds = {
        kind: sum(a.answers.requests for a in found.attacks if a.kind == kind) for kind in ("sqli", "xss", "traversal")
    }
    assert kinds == {kind: planted[kind] for kind in kinds}
    assert found.failed_logins == planted["failed_logins"]
    assert found.uploads.requests == planted["uploads"]
    assert found.tokens.requests == planted["tokens"]
    assert found.writes.refused + found.writes.failed == planted["writes_failed"]
    assert sum(p.answers.requests for p in found.probes) == planted["probes"]
    assert sum(s.answers.requests for s in found.scanners) == planted["scanners"]
    assert sum(leak.count for leak in found.leaks) == planted["leaks"]
    assert "a1b2c3d4e5f6" not in found.model_dump_json()
    assert found.capped == ()


def test_a_healthy_log_gives_no_warning(tmp_path: Path) -> None:
    """A day of people, some mistyped passwords, some 404, a scanner that finds nothing: nothing to be woken for."""
    lines = [line(n * 20, target=f"/api/claims/{n}", client=f"10.0.{n % 7}.{n % 50}") for n in range(3000)]
    lines += [line(n * 60, method="POST", target="/login", status=302, client=f"10.1.0.{n % 90}") for n in range(400)]
    lines += [line(n * 900, method="POST", target="/login", status=401, client=f"10.1.0.{n}") for n in range(30)]
    for n, path in enumerate(["/.env", "/wp-login.php", "/.git/config", "/a?f=../../etc/passwd"] * 10):
        lines.append(line(n * 5, target=path, status=404, client="192.0.2.9", agent="Nikto/2.1.6"))
    judgement = judge(review(save(tmp_path / "a.log", lines)), AccessLimits())
    assert judgement.severity is Severity.INFO, severities(judgement)
    assert severities(judgement)["attack/traversal"] is Severity.INFO
    assert severities(judgement)["scanners/requests"] is Severity.INFO


def test_trouble_is_named(tmp_path: Path) -> None:
    """Errors, slowness, guessing, an attack that was answered, a leak, an open file, a foreign form: each by itself."""
    lines = [line(n * 20, took="0.100") for n in range(900)]
    lines += [line(n * 20, target=f"/slow/{n}", took="6.500", status=500) for n in range(60)]
    lines += [line(40_000 + n, method="POST", target="/login", status=401, client="192.0.2.7") for n in range(150)]
    lines += [line(50_000, target="/item?id=1%20union%20select%201", status=200, client="192.0.2.8")]
    lines += [line(50_001, target="/.env", status=200, client="192.0.2.8")]
    lines += [line(50_002, target="/reset?token=abcdef123456", referer="https://app.example/?password=hunter2")]
    lines += [line(50_100 + n, method="POST", target="/transfer", status=403, referer="https://evil.example/")
              for n in range(25)]  # fmt: skip
    judgement = judge(review(save(tmp_path / "a.log", lines)), AccessLimits())
    found = severities(judgement)
    expected = {
        "server_errors/requests": Severity.CRITICAL, "response_time/p95": Severity.CRITICAL,
        "route_time//slow/{id}": Severity.WARNING, "route_errors//slow/{id}": Severity.CRITICAL,
        "failed_logins/logins": Severity.WARNING, "client_logins/192.0.2.7": Severity.WARNING,
        "burst/192.0.2.7": Severity.WARNING, "attack/sqli": Severity.WARNING, "probe/.env": Severity.WARNING,
        "leak/token in /reset": Severity.WARNING, "leak/password in (referring page)": Severity.WARNING,
        "foreign_writes/evil.example": Severity.WARNING,
    }  # fmt: skip
    assert {key: found.get(key) for key in expected} == expected
    text = judgement.model_dump_json()
    assert "hunter2" not in text
    assert "abcdef123456" not in text
    loud = judge(review(tmp_path / "a.log"), AccessLimits(attack="critical"))
    assert severities(loud)["attack/sqli"] is Severity.CRITICAL


def test_few_requests_say_nothing_about_rates(tmp_path: Path) -> None:
    """One error of two requests is no error rate; an empty window is no trouble."""
    path = save(tmp_path / "a.log", [line(1, status=500, took="9.000"), line(2)])
    assert judge(review(path), AccessLimits()).severity is Severity.OK
    (tmp_path / "empty.log").touch()
    assert judge(review(tmp_path / "empty.log"), AccessLimits()).findings == ()


def test_bursts_do_not_stop_at_round_minutes(tmp_path: Path) -> None:
    """The worst minutes are looked for wherever they begin."""
    lines = [line(270 + n, status=401, client="192.0.2.1") for n in range(60)]
    lines += [line(3600 * n, status=401, client="192.0.2.2") for n in range(20)]
    found = review(save(tmp_path / "a.log", lines))
    assert [(b.client, b.count) for b in found.bursts] == [("192.0.2.1", 60), ("192.0.2.2", 1)]


def test_many_files_of_one_line_each(tmp_path: Path) -> None:
    """Many small files are one answer."""
    files = [save(tmp_path / f"{n}.log", [line(n)]) for n in range(60)]
    assert review(*files).requests == 60


def test_a_file_that_was_replaced_or_is_gone_is_unread(tmp_path: Path) -> None:
    """Another inode, a vanished file, a truncated one: unknown, with the reason."""
    path = save(tmp_path / "a.log", [line()])
    before = segment(path)
    os.link(path, tmp_path / "kept")
    path.unlink()
    path.write_bytes(line() + b"\n")
    gone = before.model_copy(update={"path": str(tmp_path / "gone")})
    short = segment(path).model_copy(update={"end": 10_000})
    found = review(before, gone, short)
    assert [u.path for u in found.lines.unread] == [before.path, gone.path, short.path]
    assert found.requests == 1
    judgement = judge(found, AccessLimits())
    assert judgement.severity is Severity.UNKNOWN
