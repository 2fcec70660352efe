"""A backfill of log review: each day's own answers, whatever happened to the files meanwhile."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.log_review_bench import DAY, LogBench, answers, day_of, rotate

FORMATS = ("python", "django", "json", "plain", "postgres")


@pytest.mark.parametrize("kind", FORMATS)
def test_ten_days_later_each_day_gives_what_it_gave_on_time(kind: str, tmp_path: Path):
    """Runs on time, with bookmarks, under rotation; then the same windows without, backwards, and again."""
    live = LogBench(tmp_path / "logs", tmp_path / "home", kind)
    written = sorted(
        (
            (at, n, text)
            for day in range(11)
            for n, (at, text) in enumerate(day_of(kind, DAY + timedelta(days=day), day))
        ),
        key=lambda e: e[:2],
    )
    on_time = []
    for day in range(10):
        end = DAY + timedelta(days=day + 1)
        # The run begins some minutes after the window's end, and some of the next day is written already.
        now = end + timedelta(minutes=20)
        while written and written[0][0] < now:
            live.write(written.pop(0)[2])
        on_time.append(live.run(DAY + timedelta(days=day)))
        rotate(live.folder, day)
        for n in range(5):
            live.write(written.pop(0)[2])
            assert n < 5
    assert len({r.numbers["entries", ""] for r in on_time}) > 1
    assert all(r.numbers["errors", ""] > 0 for r in on_time)
    assert {p.suffix for p in live.folder.iterdir()} >= {".gz", ".log"}
    bare = LogBench(live.folder, tmp_path / "elsewhere", kind)
    for day, expected in enumerate(on_time):
        assert answers(bare.run(DAY + timedelta(days=day), newest=False)) == answers(expected), f"day {day}"
    for home in ("home", "elsewhere", "nowhere"):
        again = LogBench(live.folder, tmp_path / home, kind)
        for day in reversed(range(10)):
            result = again.run(DAY + timedelta(days=day), newest=day == 9)
            assert answers(result)["report"] == answers(on_time[day])["report"], f"day {day} with bookmarks in {home}"


def test_only_what_is_new_is_read(tmp_path: Path):
    """With bookmarks a run reads little more than its own day; that is what they are for."""
    live = LogBench(tmp_path / "logs", tmp_path / "home")
    sizes = []
    for day in range(6):
        text = "".join(text for _, text in day_of("python", DAY + timedelta(days=day), day))
        live.write(text)
        sizes.append((live.run(DAY + timedelta(days=day)).report.lines.bytes, len(text)))
    assert all(read <= 1.2 * day for read, day in sizes), sizes
    assert LogBench(live.folder, tmp_path / "other").run(DAY + timedelta(days=5)).report.lines.bytes > 5 * sizes[0][1]
