"""What PostgreSQL's own logs say, written by real servers of several majors: stderr, csvlog and jsonlog."""

from __future__ import annotations

import contextlib
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from lab.postgres import MAJORS, PostgresServer
from lab.process import scratch_folder
from tests.integration.log_review_bench import DAY, LogBench, Result, entry

SETTINGS: dict[str, str | int] = {
    "logging_collector": "on",
    "log_directory": "log",
    "log_file_mode": "0644",
    "log_min_duration_statement": 100,
    "log_lock_waits": "on",
    "deadlock_timeout": "50ms",
    "log_temp_files": 0,
    "work_mem": "64kB",
    "log_timezone": "America/New_York",
}
GLOBS = {"stderr": "*.log", "csvlog": "*.csv", "jsonlog": "*.json"}
CASES = [
    (MAJORS[-1], "stderr,csvlog,jsonlog", "%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h %e "),
    (MAJORS[2], "stderr", "%t:%r:%u@%d:[%p]:"),
    (MAJORS[0], "stderr,csvlog", "%m [%p] %q%u@%d "),
]


def make_trouble(server: PostgresServer) -> None:
    """Slow statements, errors, a wrong password, a deadlock, a lock wait, a temporary file."""
    with server.connect(autocommit=True) as one, server.connect(autocommit=True) as two:
        one.execute("CREATE TABLE claim (id int PRIMARY KEY, note text)")
        one.execute("INSERT INTO claim SELECT g, repeat('n', 100) FROM generate_series(1, 5000) AS g")
        for name in ("Bob", "O''Hara", "line\n2026-03-02 01:02:03.000 UTC [1] ERROR:  forged"):
            one.execute(f"SELECT pg_sleep(0.12), '{name}' AS\n\twho".encode())
        one.execute("SELECT count(*) FROM (SELECT note, id FROM claim ORDER BY note, id DESC OFFSET 1) AS s")
        for statement in ("SELECT * FROM nothing", "INSERT INTO claim VALUES (1, 'secret value')", "SELECT 1/0"):
            with contextlib.suppress(psycopg.Error):
                one.execute(statement.encode())
        lock = "BEGIN; UPDATE claim SET note = 'x' WHERE id = {}"
        one.execute(lock.format(1).encode())
        two.execute(lock.format(2).encode())
        waiting = threading.Thread(target=_ignoring, args=(one, "UPDATE claim SET note = 'y' WHERE id = 2"))
        waiting.start()
        time.sleep(0.3)
        _ignoring(two, "UPDATE claim SET note = 'z' WHERE id = 1")
        waiting.join()
    for _ in range(3):
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(server.dsn(), user="nobody_of_us", password="wrong", connect_timeout=5)


def _ignoring(connection: psycopg.Connection, statement: str) -> None:
    with contextlib.suppress(psycopg.Error):
        connection.execute(statement.encode())


@pytest.mark.parametrize(("major", "destinations", "prefix"), CASES)
def test_a_real_servers_log(major: int, destinations: str, prefix: str, tmp_path: Path):
    """Everything that was done to the server is found, nobody's data is shown, and nothing is unparsed."""
    settings = SETTINGS | {"log_destination": destinations, "log_line_prefix": prefix}
    with scratch_folder() as folder, PostgresServer(major, folder, settings=settings) as server:
        make_trouble(server)
        for kind in destinations.split(","):
            log = server.pgdata / "log"
            bench = LogBench(log, tmp_path / kind, "postgres", zone="America/New_York", globs=(GLOBS[kind],))
            now = datetime.now(UTC)
            result = bench.run(now - timedelta(hours=1), now + timedelta(minutes=1), slow_query={"warning": 50})
            look_over(result, states=kind != "stderr" or "%e" in prefix)


def look_over(result: Result, *, states: bool) -> None:
    """Compare what was found with what was done."""
    report, database = result.report, result.report.database
    assert database is not None
    assert (report.lines.unparsed, report.lines.outside, report.lines.unread) == (0, 0, ())
    slow = [s for s in database.statements if "pg_sleep" in s.text]
    assert [(s.text, s.count) for s in slow] == [("SELECT pg_sleep(?), ? AS who", 3)]
    assert 100 < slow[0].total_ms / slow[0].count < 5000
    assert any(subject.startswith("SELECT pg_sleep(?)") for subject in result.checks("slow_query"))
    assert database.events["deadlock"] == 1 and database.events["failed_login"] == 3, database.events
    assert database.events["lock_wait"] >= 1 and database.events["temp_file"] >= 1, database.events
    assert database.temp_bytes > 100_000
    if states:
        assert {database.sqlstates.get(state) for state in ("42P01", "22012", "23505", "40P01")} == {1}
    texts = {p.text: p.count for p in report.patterns}
    assert texts["error: division by zero"] == 1 and not any("forged" in text for text in texts)
    everything = result.judgement.model_dump_json()
    assert not any(word in everything for word in ("secret value", "O'Hara", "Bob"))


def test_a_zones_abbreviation_tells_the_hour_that_comes_twice(tmp_path: Path):
    """CEST and CET of a Berlin night; an entry's further lines belong to it."""
    bench = LogBench(tmp_path / "logs", tmp_path / "home", "postgres", zone="Europe/Berlin")
    bench.write("2026-10-25 02:30:00.000 CET [1] LOG:  second\n2026-10-25 02:30:00.000 CEST [1] LOG:  first\n")
    begin = datetime(2026, 10, 25, 0, tzinfo=UTC)
    assert [bench.run(begin + timedelta(hours=h), begin + timedelta(hours=h + 1)).report.entries for h in (0, 1)] == [
        1,
        1,
    ]


def test_too_frequent_checkpoints_and_many_refused_logins(tmp_path: Path):
    """By their limits, with the cure."""
    bench = LogBench(tmp_path / "logs", tmp_path / "home", "postgres")
    for n in range(30):
        at = DAY + timedelta(minutes=n)
        bench.write(entry("postgres", at, "FATAL", f'password authentication failed for user "u{n}"'))
        if n < 10:
            bench.write(entry("postgres", at, "INFO", f"checkpoints are occurring too frequently ({n} seconds apart)"))
    result = bench.run()
    assert {f.subject: f.severity for f in result.judgement.findings if f.check == "event"} == {
        "failed_login": "warning", "checkpoint": "warning"
    }  # fmt: skip
    assert "max_wal_size" in result.found("event", "checkpoint").hint
