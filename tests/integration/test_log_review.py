"""Log review on real files: formats, the window's edges, clocks that change, files without times, findings."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.log_review_bench import DAY, TRACEBACK, LogBench, answers, day_of, entry
from upkeep.core.errors import ConfigurationError
from upkeep.core.model import Severity


@pytest.fixture
def bench(tmp_path: Path) -> LogBench:
    return LogBench(tmp_path / "logs", tmp_path / "home")


AT = DAY + timedelta(hours=3)
LINES = {
    "python": [
        ("info", "2026-03-02 03:00:00,123 - app.core - INFO - fine"),
        ("error", "2026-03-02T03:00:00.123456+00:00 ERROR app: broken"),
        ("warning", "[2026-03-02 03:00:00,123] WARNING in views: odd"),
        ("info", "[2026-03-02 03:00:00 +0000] [42] [INFO] Booting worker"),
        ("debug", "2026-03-02 03:00:00.123 | DEBUG    | app.core:f:3 - loguru"),
        ("critical", "CRITICAL 2026-03-02 03:00:00,123 core dead"),
        ("error", "[ERROR] 2026-03-02 03:00:00 bracketed"),
        ("error", "ERROR:root:no time at all"),
        ("error", 'time="2026-03-02T03:00:00Z" level=error msg="logfmt"'),
        ("warning", "\x1b[33m2026-03-02 03:00:00 [WARNING] coloured\x1b[0m"),
        ("none", "2026-03-02 03:00:00 just a line"),
    ],
    "django": [
        ("info", '[02/Mar/2026 03:00:00] "GET /claims/ HTTP/1.1" 200 1234'),
        ("error", '[02/Mar/2026 03:00:00] "POST /claims/17/ HTTP/1.1" 500 27'),
        ("warning", '[02/Mar/2026 03:00:00] "GET /nothing HTTP/1.1" 404 27'),
        ("error", "ERROR 2026-03-02 03:00:00,123 exception 12 139 Internal Server Error: /claims/"),
        ("info", "INFO 2026-03-02 03:00:00,123 autoreload fine"),
    ],
    "json": [
        ("error", '{"timestamp": "2026-03-02T03:00:00.1Z", "level": "ERROR", "message": "x"}'),
        ("warning", '{"time": 1772420400, "severity": "warning", "msg": "epoch seconds"}'),
        ("info", '{"ts": 1772420400123, "level": 30, "msg": "pino, milliseconds"}'),
        ("error", '{"asctime": "2026-03-02 03:00:00,123", "levelname": "ERROR", "message": "python-json-logger"}'),
        ("info", '{"@timestamp": "2026-03-02T04:00:00+01:00", "log.level": "info", "message": "ecs"}'),
        ("none", '{"log": "docker", "stream": "stderr", "time": "2026-03-02T03:00:00.123456789Z"}'),
        ("critical", '{"t": 1772420400.5, "lvl": "fatal", "event": "structlog"}'),
    ],
    "plain": [
        ("none", "2026-03-02 03:00:00 anything"),
        ("error", "2026-03-02 03:00:00 backend error: no such thing"),
        ("error", "Mar  2 03:00:00 host app[12]: fatal: gone"),
        ("warning", "2026-03-02 03:00:00 WARN low"),
        ("error", "2026-03-02 03:00:00 [error] 12#0: *3 upstream"),
        ("warning", "2026/03/02 03:00:00 [warn] own"),
        ("none", "no time here"),
        ("error", "an Exception without time"),
    ],
    "postgres": [
        ("info", "2026-03-02 03:00:00.123 UTC [12] LOG:  database system is ready"),
        ("error", "2026-03-02 03:00:00 UTC [12] app@claims ERROR:  relation does not exist at character 15"),
        ("error", "2026-03-02 03:00:00 UTC:10.0.0.1(5432):app@claims:[12]:FATAL:  too many connections"),
        ("info", "2026-03-02 03:00:00.123 UTC [12]: [3-1] user=a,db=b,app=c,client=::1 LOG:  x"),
        ("critical", "1772420400.123 [9] PANIC:  could not write"),
        ("warning", "db-1  | 2026-03-02 03:00:00.123 UTC [7] WARNING:  there is no transaction in progress"),
        ("error", "2026-03-02 03:00:00.123 UTC [12] 42P01 ERROR:  no table"),
    ],
}


@pytest.mark.parametrize("kind", LINES)
def test_every_usual_way_to_write_a_line_is_understood(kind: str, tmp_path: Path):
    """Level and moment of each; none is unparsed. Alone, and among the others."""
    for n, (level, line) in enumerate(LINES[kind]):
        alone = LogBench(tmp_path / f"{kind}{n}", tmp_path / "home", kind)
        os.utime(alone.write(line + "\n"), (AT.timestamp(), AT.timestamp()))
        report = alone.run().report
        assert (report.levels, report.lines.unparsed) == ({level: 1}, 0), line
    bench = LogBench(tmp_path / "all", tmp_path / "home", kind)
    os.utime(bench.write("".join(line + "\n" for _, line in LINES[kind])), (AT.timestamp(), AT.timestamp()))
    report = bench.run().report
    assert report.entries == report.lines.in_window == len(LINES[kind])
    assert bench.run(DAY - timedelta(days=1)).report.entries == 0


def test_exactly_the_window(bench: LogBench):
    """From the first second of the window to the last before its end; a traceback goes with its line."""
    for seconds, text in ((-1, "before"), (0, "first"), (86_399, "last"), (86_400, "after")):
        bench.write(entry("python", DAY + timedelta(seconds=seconds), "ERROR", text, TRACEBACK))
    report = bench.run().report
    assert [p.text for p in report.patterns] == ["error: first | KeyError: <text>", "error: last | KeyError: <text>"]
    assert (report.lines.in_window, report.lines.outside) == (10, 10)
    assert [p.first for p in report.patterns] == [DAY, DAY + timedelta(seconds=86_399)]


def test_two_windows_that_meet_share_no_line(bench: LogBench):
    """Also when they meet within a second."""
    for n in range(10):
        bench.write(entry("python", DAY + timedelta(seconds=n), "INFO", "x"))
    middle = DAY + timedelta(seconds=4, milliseconds=300)
    assert bench.run(DAY, middle).report.entries + bench.run(middle, DAY + timedelta(days=1)).report.entries == 10


def test_local_times_when_the_clock_changes(tmp_path: Path):
    """Hours that come twice, and one that never comes, in Berlin 2026: each line lies in its own hour."""
    bench = LogBench(tmp_path / "logs", tmp_path / "home", zone="Europe/Berlin")
    autumn = datetime(2026, 10, 24, 22, tzinfo=UTC)
    for quarter in range(24):
        at = autumn + timedelta(minutes=15 * quarter)
        bench.write(entry("python", at + timedelta(hours=2 if at < autumn + timedelta(hours=3) else 1), "INFO", "x"))
    for hour in range(6):
        assert bench.run(autumn + timedelta(hours=hour), autumn + timedelta(hours=hour + 1)).report.entries == 4, hour
    bench.write(entry("python", datetime(2026, 3, 29, 2, 30), "INFO", "never was"), "spring.log")
    spring = datetime(2026, 3, 29, 0, tzinfo=UTC)
    assert bench.run(spring, spring + timedelta(hours=3)).report.entries == 1
    bench.zone = "Nowhere/City"
    with pytest.raises(ConfigurationError, match="IANA"):
        bench.run()


def test_a_lines_own_offset_goes_first(bench: LogBench):
    """Whatever zone the target has."""
    bench.zone = "Asia/Tokyo"
    bench.write("2026-03-02T00:00:00-05:00 INFO a\n2026-03-02 08:59:59 INFO b\n2026-03-02 09:00:00 INFO c\n")
    assert bench.run().report.entries == 2


def test_files_without_times_are_told_by_bookmarks(tmp_path: Path):
    """What was added between two runs belongs to the window between; repeated, rotated and compressed it still does."""
    bench = LogBench(tmp_path / "logs", tmp_path / "home", "plain")
    now = datetime.now(UTC).replace(microsecond=0)
    ends = [now - timedelta(hours=3 - n) for n in range(4)]
    path = bench.write("".join(f"old line {n} of some length, so that it can be told from others\n" for n in range(9)))
    first = bench.run(ends[0], ends[1])
    assert first.report.entries == 9 and first.found("window").severity is Severity.INFO
    bench.write("an error here\nfine\n")
    second = bench.run(ends[1], ends[2])
    assert second.report.levels == {"none": 1, "error": 1} and not second.checks("window")
    path.rename(path.with_name("app.log.1"))
    bench.write("brand new\n")
    third = bench.run(ends[2], ends[3])
    assert third.report.entries == 1
    assert answers(bench.run(ends[1], ends[2], newest=False))["report"] == answers(second)["report"]
    assert bench.run(ends[2], ends[3]).report.entries == 1
    os.system(f"gzip {path.with_name('app.log.1')}")
    assert bench.run(ends[1], ends[2], newest=False).report.entries == 2
    old = bench.run(ends[0] - timedelta(days=30), ends[0] - timedelta(days=29), newest=False)
    assert old.report.entries == 0 and {f.severity for f in old.troubles} == {Severity.UNKNOWN}
    assert old.checks("window") == ["app.log"]


def test_a_healthy_log_is_no_trouble(tmp_path: Path):
    """Some ordinary days: no finding of warning or worse, and none unknown."""
    for kind in LINES:
        bench = LogBench(tmp_path / kind, tmp_path / f"home-{kind}", kind)
        for day in range(7):
            begin = DAY + timedelta(days=day)
            for n in range(300):
                text = ("login ok for user u7", "0 checks failed, database check passed", f"request {n} took 3 ms")[
                    n % 3
                ]
                bench.write(entry(kind, begin + timedelta(minutes=n), "INFO", text))
            assert bench.run(begin).troubles == []


def test_new_errors_are_told_from_known_ones(bench: LogBench):
    """First look: nothing is new. Then a pattern is new once. With the ledger away it is unknown."""
    for day in range(3):
        for n in range(200):
            bench.write(entry("python", DAY + timedelta(days=day, minutes=n), "INFO", "fine"))
        bench.write(
            entry("python", DAY + timedelta(days=day, hours=5), "ERROR", f"claim {day} of 'bob{day}' failed", TRACEBACK)
        )
    bench.write(entry("python", DAY + timedelta(days=2, hours=6), "ERROR", "never seen before") * 5)
    bench.write(entry("python", DAY + timedelta(days=2, hours=7), "CRITICAL", "out of claims"))
    first = bench.run()
    assert first.found("new_pattern").severity is Severity.INFO and first.troubles == []
    assert bench.run(DAY + timedelta(days=1)).checks("new_pattern") == []
    third = bench.run(DAY + timedelta(days=2))
    assert {f.subject: f.severity for f in third.judgement.findings if f.check == "new_pattern"} == {
        "critical: out of claims": "info", "error: never seen before": "warning"
    }  # fmt: skip
    assert {f.severity for f in third.troubles} == {Severity.WARNING}
    assert third.checks("critical") == ["critical: out of claims"]
    assert third.numbers["pattern", "error: claim <n> of <text> failed | KeyError: <text>"] == 1
    assert bench.run(DAY + timedelta(days=2)).checks("new_pattern") == []
    away = LogBench(bench.folder, bench.home, ledger=False)
    assert away.run(DAY).found("new_pattern").severity is Severity.UNKNOWN


def test_rates_spikes_and_silence(bench: LogBench):
    """A share of errors above its limits, more than usual, and none where there always were some."""
    for day in range(9):
        errors = {6: 60, 7: 700, 8: 0}.get(day, 2)
        for n in range(0 if day == 8 else 1000):
            level = "ERROR" if n < errors else "INFO"
            bench.write(entry("python", DAY + timedelta(days=day, seconds=n), level, "x"))
    results = [bench.run(DAY + timedelta(days=day)) for day in range(9)]
    assert all(not r.troubles for r in results[:6])
    assert {f.check: f.severity for f in results[6].troubles} == {"error_rate": "warning", "spike": "warning"}
    assert results[7].found("error_rate").severity is Severity.CRITICAL
    assert results[7].found("error_rate").observed == "70 %"
    assert results[8].checks("silent") == [""]


def test_kinds_of_trouble(bench: LogBench):
    """Words in any order and form, each line once by kind; the harmless use of the same words does not count."""
    bad = {
        "failed_login": "Failed login for user 'ann' from 10.0.0.9",
        "token": "JWT token has expired for session",
        "failed_check": "health check failed: disk",
        "notification": "could not send notification: email delivery failed",
        "database": "django.db.utils.OperationalError: could not connect to server",
        "integration": "requests.exceptions.ConnectionError: Max retries exceeded with url /x",
    }
    for n, text in enumerate(bad.values()):
        for minute in range(30):
            bench.write(entry("python", AT + timedelta(minutes=minute), "WARNING" if n else "INFO", text))
            bench.write(
                entry("python", AT + timedelta(minutes=minute), "INFO", "database check passed, 0 integration errors")
            )
    result = bench.run()
    assert {h.name: h.count for h in result.report.hits} == dict.fromkeys(bad, 30)
    assert {f.subject: f.severity for f in result.judgement.findings if f.check == "hits"} == {
        name: "info" if name == "token" else "warning" for name in bad
    }
    assert result.numbers["hits", "failed_login"] == 30
    assert "Failed login" in result.found("hits", "failed_login").message
    own = bench.run(classes={"own": ["delivery failed"]}, class_limits={"own": {"critical": 10}})
    assert own.found("hits", "own").severity is Severity.CRITICAL


def test_secrets_are_found_and_never_shown(bench: LogBench):
    """A finding by kind and log; the same subject after rotation; nothing of them anywhere; a site may allow some."""
    secrets = ("hunter2x", "s3cr3t-pw", "4111 1111 1111 1111", "abcdef0123456789abcdef", "AKIAIOSFODNN7EXAMPLE")
    bench.write(entry("python", AT, "INFO", f"password={secrets[0]} card {secrets[2]}"))
    bench.write(entry("python", AT, "ERROR", f"postgres://app:{secrets[1]}@db/x failed, Bearer {secrets[3]}"))
    bench.write(entry("python", AT, "INFO", f"something\n  aws {secrets[4]}"), "other.log.1")
    result = bench.run()
    assert {(f.subject, f.severity) for f in result.judgement.findings if f.check == "secret"} == {
        ("password in app.log", "critical"), ("password in URL in app.log", "critical"),
        ("card number in app.log", "critical"), ("bearer token in app.log", "warning"),
        ("AWS key in other.log", "critical"),
    }  # fmt: skip
    everything = result.judgement.model_dump_json() + result.report.model_dump_json()
    assert not any(secret in everything for secret in secrets)
    (bench.folder / "app.log").rename(bench.folder / "app.log.7")
    assert sorted(bench.run().checks("secret")) == sorted(result.checks("secret"))
    assert "password in app.log" not in bench.run(allow=[r"password=hunter\d"]).checks("secret")
    with pytest.raises(ConfigurationError, match="no regular expression"):
        bench.run(allow=["("])


def test_lines_that_nobody_understands_are_counted_and_shown(bench: LogBench):
    """Above a share a warning with samples, redacted; they belong to the moment of the line above."""
    for n in range(50):
        bench.write(
            entry("python", AT + timedelta(seconds=n), "INFO", "fine") + f"stray {n} password=geheim77\n" * (n % 2)
        )
    result = bench.run()
    assert (result.report.lines.in_window, result.report.lines.unparsed) == (50, 25)
    finding = result.found("unparsed")
    assert finding.severity is Severity.WARNING and "stray" in finding.message and "geheim" not in finding.message
    assert bench.run(DAY - timedelta(days=1)).report.lines.unparsed == 0


def test_patterns_are_capped_and_it_is_said(bench: LogBench):
    """Errors that are all different do not fill memory, ledger or report."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = (a + b + c for a in letters for b in letters for c in letters[:12])
    bench.write("".join(entry("python", AT, "ERROR", f"{word}!") for word in words))
    result = bench.run()
    assert result.report.entries == 8112 and len(result.report.patterns) == 200
    assert sum(p.count for p in result.report.patterns) + result.report.more_patterns == 8112
    assert "not all could be told apart" in result.found("errors").message
    assert len(result.judgement.findings) < 40


def test_a_run_by_hand_looks_back(bench: LogBench):
    """A run without a window reviews the hours before it."""
    bench.write(entry("python", AT, "INFO", "fine"))
    end = AT + timedelta(hours=1)
    assert bench.run(end, end).report.entries == 1
    assert bench.run(end, end, lookback_hours=0.5).report.entries == 0


def test_copies_are_left_out(bench: LogBench):
    """A file that is being compressed, or was copied by copytruncate a moment ago, counts once."""
    import gzip

    text = "".join(text for _, text in day_of("python", DAY, 1))
    bench.write(text)
    bench.write(text[: len(text) // 2], "app.log.1")
    (bench.folder / "app.log.2.gz").write_bytes(gzip.compress(text.encode()))
    result = bench.run()
    assert result.report.entries == LogBench(bench.folder, bench.home, globs=("app.log",)).run().report.entries
    assert len(result.checks("copies")) == 2
