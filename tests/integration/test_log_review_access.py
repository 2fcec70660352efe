"""Access logs in the routine: each day's own answers, rotated and compressed files included, and what is not known."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.integration.log_review_bench import DAY, LogBench, Result, rotate
from upkeep.core.model import Severity


def request(at: datetime, dice: random.Random) -> str:
    client, number = dice.randrange(1, 40), dice.randrange(9999)
    status = dice.choice((200,) * 30 + (301, 404, 403, 500))
    path = dice.choice((f"/claims/{number}", "/login", f"/api/x?q={number}", "/upload"))
    return (
        f'10.0.0.{client} - - [{at:%d/%b/%Y:%H:%M:%S} +0000] "GET {path} HTTP/1.1" {status} {number} "-" "curl/8"'
        f" {dice.randrange(900) / 1000:.3f}\n"
    )


def told(result: Result) -> dict[str, Any]:
    return result.judgement.model_dump(mode="json")


def test_a_backfill_of_an_access_log_gives_each_days_own_answers(tmp_path: Path):
    """On time under rotation, then later without anything kept."""
    live, dice = LogBench(tmp_path / "logs", tmp_path / "home", "combined_time"), random.Random(7)
    on_time = []
    for day in range(6):
        begin = DAY + timedelta(days=day)
        live.write("".join(request(begin + timedelta(minutes=n), dice) for n in range(15, 1440 + 15)))
        on_time.append(live.run(begin))
        rotate(live.folder, day)
    assert [r.numbers["access.requests", ""] for r in on_time] == [1425, *(1440,) * 5]
    later = LogBench(live.folder, tmp_path / "elsewhere", "combined_time")
    for day, expected in enumerate(on_time):
        assert told(later.run(DAY + timedelta(days=day), newest=False)) == told(expected)


def test_of_access_logs_too_the_unknown_is_said(tmp_path: Path):
    """Nothing there, a link that leads out, a file that is being compressed."""
    bench = LogBench(tmp_path / "logs", tmp_path / "home", "combined")
    bench.folder.mkdir()
    assert bench.run().found("missing").severity is Severity.UNKNOWN
    (tmp_path / "other").write_text("x")
    (bench.folder / "a.log").symlink_to(tmp_path / "other")
    (bench.folder / "b.log.gz").write_bytes(b"\x1f\x8b\x08\x00torn")
    assert {f.severity for f in bench.run().troubles if f.check == "unread"} == {Severity.UNKNOWN}
