"""Access logs read from bookmarks: only what is new, and never another answer than without them."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.log_review_bench import DAY, rotate
from upkeep.adapters.log_review import Reader
from upkeep.core.access_log import AccessOptions, AccessReview
from upkeep.core.log_review import LogReport, ReviewOrder
from upkeep.core.model import Judgement, Severity
from upkeep.routines.logs import review as routine
from upkeep.routines.logs._access import judge
from upkeep.routines.logs._access_settings import AccessLimits

HOUR = timedelta(hours=1)
GARBAGE = (b"\x16\x03\x01 torn", b"", b"<b>evil</b> \x1b[2J", b"10.0.0.9 - - [02/Mar/2026:10:", b"x" * 3000, b"\0\0\0")


@dataclass
class Site:
    """A web server's log, and reviews of it whose bookmarks lie in some folder beside it."""

    root: Path
    format: Any = "combined_time"
    window: timedelta = timedelta(days=1)

    @property
    def folder(self) -> Path:
        return self.root / "logs"

    @property
    def log(self) -> Path:
        return self.folder / "app.log"

    def write(self, *lines: bytes) -> None:
        self.folder.mkdir(exist_ok=True)
        with self.log.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))

    def look(
        self, start: datetime, home: str = "home", *, newest: bool = True, **options: Any
    ) -> tuple[LogReport, AccessReview]:
        order = ReviewOrder(
            target="x/access-log", paths=(str(self.folder / "*.log*"),), format=self.format, zone="UTC",
            start=start, end=start + self.window, newest=newest,
        )  # fmt: skip
        report, seen = Reader(self.root / home).access(order, AccessOptions(**options))
        lines = seen.lines
        assert lines.read == lines.in_window + lines.outside + lines.unparsed
        return report, seen

    def answers(self, start: datetime, home: str = "home", *, newest: bool = True) -> dict[str, Any]:
        """Return all that a window says, without how much was read for it."""
        report, seen = self.look(start, home, newest=newest)
        told = seen.model_dump(mode="json")
        for name in ("read", "outside", "bytes"):
            del told["lines"][name]
        unread = [(u.reason, u.hint) for u in report.lines.unread]
        judged = judge(seen, AccessLimits()).model_dump(mode="json")
        return {"said": told, "unread": unread, "judged": judged}

    def book(self, home: str = "home") -> Path:
        (path,) = (self.root / home).glob("*.json")
        return path


def request(at: datetime, target: str = "/", client: int = 1, status: int = 200, took: int = 50) -> bytes:
    return (
        f'10.0.0.{client} - - [{at:%d/%b/%Y:%H:%M:%S} +0000] "GET {target} HTTP/1.1" {status} 100 "-" "curl/8"'
        f" {took / 1000:.3f}"
    ).encode()


def traffic(begin: datetime, length: timedelta, dice: random.Random, count: int, late: int) -> list[bytes]:
    """Return lines in the order in which they are written: with garbage, and up to `late` minutes out of order."""
    lines = []
    for n in range(count):
        at = begin + length * n / count - timedelta(minutes=dice.choice((0, 0, 0, dice.random() * late)))
        target = dice.choice(
            (f"/claims/{n}", "/login", "/a?q=1%27%20or%20%271", "/.env", f"/x?token=s3cr3t{n:06}", "/")
        )
        line = request(at, target, dice.randrange(40), dice.choice((200, 200, 200, 404, 500, 403)), dice.randrange(99))
        kind = dice.random()
        if kind < 0.05:
            line = line.replace(b"curl/8", b'say \\"hi\\"')
        lines.append(dice.choice(GARBAGE) if kind > 0.9 else line)
    return lines


@pytest.mark.parametrize("late", [0, 15])
def test_ten_days_later_each_day_gives_what_it_gave_on_time(late: int, tmp_path: Path):
    """On time from bookmarks, with rotation in between, garbage and lines out of order; then without, and again.

    What is written later than the run that reviews its window, only a backfill can see.
    """
    site, dice = Site(tmp_path), random.Random(late)
    on_time = []
    for day in range(10):
        begin = DAY + timedelta(days=day)
        # A run begins some minutes after the window's end, when some of the next day is written.
        site.write(*traffic(begin + timedelta(minutes=20), timedelta(days=1), dice, 120, late))
        on_time.append(site.answers(begin))
        rotate(site.folder, day)
        if day % 3 == 1:
            site.write(*GARBAGE[:day])  # what a new file begins with belongs where the old one ended
    assert all(a["said"]["lines"]["in_window"] > 90 for a in on_time)
    assert all(a["said"]["lines"]["unparsed"] > 5 for a in on_time)
    assert any(p.suffix == ".gz" for p in site.folder.iterdir())
    for day, expected in enumerate(on_time):
        assert site.answers(DAY + timedelta(days=day), "none", newest=False) == expected, f"day {day}"
    for home in ("home", "none", "other"):
        for day in reversed(range(10)):
            again = site.answers(DAY + timedelta(days=day), home, newest=day == 9)
            assert again == on_time[day], f"day {day} with bookmarks in {home}"


@pytest.mark.parametrize("seed", range(int(os.environ.get("UPKEEP_TEST_SEEDS", "4"))))
def test_bookmarks_change_nothing_whatever_happens_to_the_files(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Many short windows, some left out or repeated, rotation of any kind at any moment, blocks of any size."""
    site, dice = Site(tmp_path, window=HOUR), random.Random(seed)
    monkeypatch.setattr("upkeep.adapters.log_access_read.BLOCK", dice.choice((300, 4000, 1 << 20)))
    for hour in range(8):
        begin = DAY + hour * HOUR
        for part in range(3):
            # A run comes when some of the next hour is written.
            site.write(*traffic(begin + HOUR / 6 + part * HOUR / 3, HOUR / 3, dice, dice.choice((0, 3, 25)), 90))
            if dice.random() < 0.2 and site.log.exists():
                rotate(site.folder, dice.randrange(3))
        if dice.random() < 0.8:
            for _ in range(dice.choice((1, 1, 2))):
                assert site.answers(begin) == site.answers(begin, "none", newest=False), f"hour {hour}"


def test_only_what_is_new_is_read(tmp_path: Path):
    """A run reads about its own window, wherever rotation by rename left the rest; a second run reads the same."""
    site, dice = Site(tmp_path), random.Random(1)
    sizes = []
    for day in range(6):
        begin = DAY + timedelta(days=day)
        lines = traffic(begin, timedelta(days=1), dice, 300, 0)
        site.write(*lines)
        written = sum(map(len, lines)) + len(lines)
        sizes += [(site.look(begin)[1].lines.bytes, written), (site.look(begin)[1].lines.bytes, written)]
        if day == 3:
            site.log.rename(site.folder / "app.log.1")
    assert all(read <= 1.1 * day for read, day in sizes), sizes
    assert site.look(DAY + timedelta(days=5), "other")[1].lines.bytes > 5 * sizes[0][1]


def test_lines_out_of_order_are_not_passed_over(tmp_path: Path):
    """A bookmark stands before the first line of a later window, though lines of earlier ones follow it."""
    site = Site(tmp_path)
    end = DAY + timedelta(days=1)
    early, late = (request(end + timedelta(minutes=n)) for n in (-5, 5))
    site.write(early, late, early, early)
    assert site.look(DAY)[1].requests == 3
    site.write(early, late, request(end + timedelta(hours=9)))
    assert site.look(end)[1].requests == 3
    # One clock that is a year ahead keeps later bookmarks from being made, and costs no line.
    site.write(request(end + timedelta(days=365)), late, late)
    assert site.look(end)[1].requests == 5
    site.write(request(end + timedelta(days=1)))
    assert site.look(end + timedelta(days=1))[1].requests == 1


def pack(site: Site) -> Path:
    """Rotate and compress the log."""
    packed = site.folder / "app.log.1.gz"
    packed.write_bytes(gzip.compress(site.log.read_bytes()))
    shutil.copystat(site.log, packed)
    site.log.unlink()
    return packed


def spoil(site: Site, how: str) -> None:
    """Do something to bookmarks or to the file that they are of."""
    book = site.book()
    if how == "lost":
        book.unlink()
    elif how == "torn":
        book.write_bytes(book.read_bytes()[:-9])
    elif how == "zeros":
        book.write_bytes(bytes(200))
    elif how == "of another file":
        checksum, _, text = book.read_text().partition("\n")
        book.write_text(f"{checksum}\n{text.replace('offset', 'offsets')}")
    elif how == "folder":
        book.unlink()
        book.mkdir()
    elif how == "replaced in place":
        text = site.log.read_bytes()
        site.log.write_bytes(text[:2000] + text[2000:].replace(b"/login", b"/other", 1))
    elif how == "begins alike":
        text = site.log.read_bytes()
        begins = text[: text.index(b"\n", 600) + 1]
        site.log.write_bytes(begins)
        while site.log.stat().st_size <= len(text):
            site.write(request(DAY + timedelta(hours=25), "/alike"), b"garbage")
    elif how == "longer than the file":
        site.log.write_bytes(site.log.read_bytes()[:900])
    elif how == "copytruncate":
        shutil.copy2(site.log, site.folder / "app.log.1")
        os.truncate(site.log, 0)
        site.write(request(DAY + timedelta(hours=30), "/after"), b"garbage")
    elif how == "compressed":
        pack(site)


@pytest.mark.parametrize(
    "how",
    ["nothing", "lost", "torn", "zeros", "of another file", "folder", "replaced in place", "begins alike",
     "longer than the file", "copytruncate", "compressed"],
)  # fmt: skip
def test_a_wrong_bookmark_costs_time_and_no_line(how: str, tmp_path: Path):
    """Whatever became of bookmarks or of the file: the answer is that of a run that has none."""
    site, dice = Site(tmp_path), random.Random(3)
    site.write(*traffic(DAY, timedelta(days=1.5), dice, 300, 5))
    site.look(DAY)
    spoil(site, how)
    site.write(*traffic(DAY + timedelta(days=1.5), timedelta(days=0.5), dice, 100, 5))
    for day in (1, 0, 1):
        begin = DAY + timedelta(days=day)
        assert site.answers(begin) == site.answers(begin, "none", newest=False)
    assert site.look(DAY + timedelta(days=1))[1].requests > 80


def test_a_backfill_neither_needs_nor_changes_bookmarks(tmp_path: Path):
    """It reads the files from their beginning; what it finds out is not kept."""
    site, dice = Site(tmp_path), random.Random(4)
    site.write(*traffic(DAY, timedelta(days=2), dice, 300, 5))
    site.look(DAY)
    before = site.book().read_bytes()
    _, seen = site.look(DAY + timedelta(days=1), newest=False)
    assert seen.lines.bytes == site.log.stat().st_size
    assert site.book().read_bytes() == before
    site.look(DAY, "nowhere", newest=False)
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_was_not_read_to_its_end_is_read_again(tmp_path: Path):
    """What is unknown stays unknown until it is read: no bookmark covers it."""
    site = Site(tmp_path)
    site.write(request(DAY))
    lines = [request(DAY + timedelta(minutes=n), f"/{n * n}") + b"\n" for n in range(900)]
    first, second = (gzip.compress(b"".join(part)) for part in (lines[:500], lines[500:]))
    (site.folder / "app.log.1.gz").write_bytes(first + second[:12])
    for start in (DAY, DAY, DAY + timedelta(days=1)):
        assert len(site.look(start)[0].lines.unread) == 1
    (site.folder / "app.log.1.gz").write_bytes(first + second)
    report, seen = site.look(DAY)
    assert (seen.requests, report.lines.unread) == (901, ())


def test_a_line_that_is_being_written_is_read_again(tmp_path: Path):
    """A bookmark does not stand behind half a line."""
    site = Site(tmp_path)
    whole = request(DAY + timedelta(days=1), "/whole")
    site.write(request(DAY))
    with site.log.open("ab") as file:
        file.write(whole[:60])
    site.look(DAY)
    with site.log.open("ab") as file:
        file.write(whole[60:] + b"\n")
    _, seen = site.look(DAY + timedelta(days=1))
    assert (seen.requests, seen.lines.unparsed, [r.route for r in seen.routes]) == (1, 0, ["/whole"])


def test_a_line_that_nobody_understands_belongs_where_the_line_above_does(tmp_path: Path):
    """Also at a window's edges and at the beginning of a file; at that of a log, where the first line does."""
    site, noon, day = Site(tmp_path), timedelta(hours=12), timedelta(days=1)
    site.write(b"first", request(DAY + noon), b"one", b"two", request(DAY + day + noon), b"three")
    site.log.rename(site.folder / "app.log.1")
    site.write(b"four", b"five", request(DAY + 2 * day + noon), b"six")
    seen = {
        n: site.look(DAY + n * day, f"home{newest}", newest=newest)[1] for n in range(4) for newest in (True, False)
    }
    assert [[s.text for s in seen[n].lines.samples] for n in range(4)] == [
        ["first", "one", "two"], ["three", "four", "five"], ["six"], [],
    ]  # fmt: skip
    assert [(seen[n].requests, seen[n].lines.unparsed) for n in range(4)] == [(1, 3), (1, 3), (1, 1), (0, 0)]


@pytest.mark.parametrize("old", [False, True])
def test_a_file_begins_where_the_one_before_it_ended_though_that_is_not_read(old: bool, tmp_path: Path):
    """It holds nothing new, or was last written to days ago: what the next one begins with belongs to it."""
    site, begin = Site(tmp_path), DAY + timedelta(days=4)
    site.write(request(DAY))
    packed = pack(site)
    site.write(b"garbage")
    if old:
        os.utime(packed, (DAY.timestamp(), DAY.timestamp()))
    else:
        site.look(DAY)
    site.write(request(begin))
    for home, newest in (("home", True), ("none", False)):
        _, seen = site.look(begin, home, newest=newest)
        assert (seen.requests, seen.lines.unparsed) == (1, 0)
    assert seen.lines.bytes == site.log.stat().st_size + (0 if old else len(request(DAY)) + 1)


def test_samples_are_named_as_the_log_is_whatever_its_file_is_called(tmp_path: Path):
    """Rotation changes neither the name nor the place of a sample, nor the share of such lines."""
    site = Site(tmp_path)
    site.write(request(DAY - timedelta(hours=1)), *[request(DAY)] * 60, *[b"what?"] * 40)
    before = site.answers(DAY)
    (sample, *_) = before["said"]["lines"]["samples"]
    assert sample["path"] == "app.log"
    assert [f["check"] for f in before["judged"]["findings"]] == ["unparsed"]
    for name in ("app.log.1", "app.log-20260303", "app.log.7.gz"):
        text = next(site.folder.iterdir()).read_bytes()
        shutil.rmtree(site.folder)
        site.folder.mkdir()
        (site.folder / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
        assert site.answers(DAY, "other", newest=False) == before
        (site.folder / name).write_bytes(text)


def judged(site: Site, start: datetime, newest: bool) -> Judgement:
    """Return what the routine says of a window."""
    seen = routine.Seen(*site.look(start, f"home{newest}", newest=newest))
    files = Judgement(findings=tuple(routine._review_trouble.of_files(seen.report)))
    assert seen.access is not None
    return files + judge(seen.access, AccessLimits())


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("newest", [True, False])
def test_a_log_that_changes_its_format_is_unknown_from_then_on(newest: bool, packed: bool, tmp_path: Path):
    """Its lines belong to the window of the last one that was understood, and what later windows say is unknown."""
    site, day = Site(tmp_path), timedelta(days=1)
    site.write(*[request(DAY + timedelta(minutes=n)) for n in range(100)])
    other = [json.dumps({"time": f"{DAY + timedelta(hours=n)}", "status": 200}).encode() for n in range(6, 100)]
    assert judged(site, DAY, newest).severity is Severity.OK
    site.write(*other)
    if packed:
        pack(site)
    for n in (1, 2, 3):
        judgement = judged(site, DAY + n * day, newest)
        assert judgement.severity is Severity.UNKNOWN, n
        assert "declared format" in judgement.findings[0].message
    site.write(request(DAY + 2 * day))
    assert judged(site, DAY + day, newest).severity is Severity.UNKNOWN
    assert judged(site, DAY + 2 * day, newest).severity is Severity.OK


def test_a_log_of_which_nothing_is_understood_is_loud(tmp_path: Path):
    """In the newest window all its lines are strange; of an old one nobody knows."""
    site = Site(tmp_path)
    site.write(*[b"nothing that we know"] * 3)
    for _ in range(2):
        report, seen = site.look(DAY)
        assert (seen.lines.unparsed, report.lines.unread) == (3, ())
    report, seen = site.look(DAY, newest=False)
    assert (seen.lines.unparsed, [u.path for u in report.lines.unread]) == (0, ["app.log"])
    assert judged(site, DAY, newest=False).severity is Severity.UNKNOWN


def test_json_lines_have_bookmarks_too(tmp_path: Path):
    """Offsets are those of lines in any format."""
    site, dice = Site(tmp_path, format="access_json", window=HOUR), random.Random(5)
    for hour in range(5):
        begin = DAY + hour * HOUR
        for _ in range(30):
            at = begin + HOUR * dice.random()
            line = {"time": at.isoformat(), "remote_addr": "10.0.0.1", "status": 200, "uri": "/"}
            site.write(dice.choice((json.dumps(line).encode(),) * 5 + (b"{",)))
        assert site.answers(begin) == site.answers(begin, "none", newest=False)
    assert site.look(begin)[1].lines.bytes < 0.4 * site.log.stat().st_size
