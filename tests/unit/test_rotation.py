"""Decisions and readings of log rotation that need no file: what is due, what goes, names, times, configurations."""

from __future__ import annotations

import gzip
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.adapters import rotation_logrotate, rotation_when
from upkeep.adapters.rotation_folder import Folder, OutsideError, fits
from upkeep.adapters.rotation_look import leftover_of, rotated_form
from upkeep.adapters.rotation_pack import decoded
from upkeep.core.cadence import Window
from upkeep.core.logs import Rotation
from upkeep.core.model import Severity
from upkeep.core.rotation import Holder, LiveLog, Order, Reopened, RotatedFile, quoted, unquoted
from upkeep.routines.logs import _rotation_need as need
from upkeep.routines.logs._rotation_proof import reopened
from upkeep.routines.logs._rotation_settings import Settings

NOW = datetime(2026, 11, 22, 2, 0, 5, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = Window(start=NOW - 7 * DAY, end=NOW - timedelta(seconds=5))


def policy(settings: dict[str, Any] | None = None, **rotation: Any) -> need.Policy:
    given = {"live": ("/logs/*.log",), "folder": "/logs"} | rotation
    return need.Policy(Rotation(**given), Settings(**(settings or {})), NOW, WEEK)


def old(days: float, number: int = 0, **more: Any) -> RotatedFile:
    """A file that was rotated so many days ago."""
    moment = NOW - days * DAY
    name = f"app.log-{moment:%Y%m%d}-{int(moment.timestamp())}" + (".gz" if more.get("compressed") else "")
    return RotatedFile(
        name=name, device=1, inode=number, size=100, modified=moment, rotated=moment.replace(microsecond=0), **more
    )


def log(*rotated: RotatedFile, days: float = 1, size: int = 1000) -> LiveLog:
    return LiveLog(name="app.log", size=size, since=NOW - days * DAY, modified=NOW, rotated=rotated)


@pytest.mark.parametrize(
    ("seen", "rule", "why"),
    [
        (log(days=8), {}, "age"),
        (log(days=6.9), {}, None),
        (log(days=6.97), {}, "age"),  # a weekly run that begins 40 minutes earlier
        (log(size=2001), {"size": 2000}, "size"),
        (log(size=2000), {"size": 2000}, None),
        (log(days=99, size=0), {"size": 1}, None),
        (log(days=99), {"size": 2000, "age_days": None}, None),
        (log(days=0.05), {"age_days": 0.05, "compress_after_days": 0}, "age"),
        (LiveLog(name="app.log", there=False), {}, None),
        (LiveLog(name="app.log", size=5, modified=NOW - 9 * DAY), {}, "age"),  # nobody knows when it began
        (log(old(0), days=8), {}, "age"),
    ],
)
def test_what_is_due(seen: LiveLog, rule: dict[str, Any], why: str | None) -> None:
    """By size when larger, by age give or take an hour; never when empty or missing."""
    seen = seen.model_copy(update={"rotated": ()})
    found = need.due(seen, policy(**rule))
    assert (found.why if found else None) == why


def test_once_for_a_window() -> None:
    """What was rotated after the window ended was rotated for it; `force` does it again."""
    seen = log(old(0), days=8)
    assert need.due(seen, policy()) is None
    assert need.due(log(old(7), days=8), policy()) is not None
    forced = need.due(seen, policy({"force": True}))
    assert forced and forced.why == "asked"


def test_what_is_compressed_and_deleted() -> None:
    """By age of the last line; what goes is not compressed first, what is written to or shifted by others is left."""
    files = (
        old(1, 1), old(8, 2), old(9, 3, holders=(Holder(pid=9, name="app"),)), old(10, 4, compressed=True),
        old(11, 5, numbered=True), old(31, 6), old(40, 7, compressed=True),
        old(12, 8, holders=(Holder(pid=9, name="tail", writes=False),)),
    )  # fmt: skip
    seen = log(*files)
    assert [f.inode for f in need.to_compress(seen, policy())] == [2, 8]
    assert [f.inode for f in need.to_delete(seen, policy())] == [6, 7]
    assert need.to_delete(seen, policy(delete_after_days=None)) == ()
    assert [f.inode for f in need.still_written(seen)] == [3]


@given(ages=st.lists(st.floats(0, 60), max_size=12, unique=True), keep=st.integers(1, 12), coming=st.integers(0, 1))
def test_the_newest_stay(ages: list[float], keep: int, coming: int) -> None:
    """Of any files at most `keep` stay with those to come, and none goes that is newer than one that stays."""
    files = tuple(old(days, number) for number, days in enumerate(ages))
    going = {f.inode for f in need.to_delete(log(*files), policy(keep=keep, delete_after_days=None), coming)}
    staying = [f for f in files if f.inode not in going]
    assert len(staying) == min(len(files), keep - coming)
    oldest = min((f.modified for f in staying), default=None)
    assert oldest is None or all(f.modified <= oldest for f in files if f.inode in going)


def test_twins_are_one_file_and_stay_until_they_are_one() -> None:
    """A file that lies there plain and compressed is neither deleted nor counted twice; it is compressed to the end."""
    twin = old(40, 1, twin=True)
    packed = twin.model_copy(update={"name": f"{twin.name}.gz", "inode": 2, "compressed": True, "twin": False})
    seen = log(twin, packed, old(2, 3))
    assert need.to_delete(seen, policy(keep=2)) == ()
    assert [f.inode for f in need.to_compress(seen, policy(keep=2))] == [1]


def test_written_to_after_its_rotation() -> None:
    """Only the newest file tells, and only when its time to reopen is long over."""
    late = old(5, 1).model_copy(update={"modified": NOW - 4 * DAY})
    assert need.written_late(log(late), policy()) == late
    assert need.written_late(log(old(1), late), policy()) is None
    just = old(5, 1).model_copy(update={"modified": NOW - 5 * DAY + timedelta(minutes=5)})
    assert need.written_late(log(just), policy()) is None


@given(st.text(st.characters(exclude_characters="/\0"), max_size=20))
def test_names_can_be_had_back(text: str) -> None:
    """Any name a file may have becomes text that is printable and means that name."""
    try:
        name = os.fsdecode(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return  # no file has this name
    assert quoted(name).isprintable() and unquoted(quoted(name)) == name
    quoted(name).encode()


@given(st.binary(max_size=20))
def test_names_of_any_bytes(raw: bytes) -> None:
    """Bytes that are no UTF-8 come back as they were."""
    assert os.fsencode(unquoted(quoted(os.fsdecode(raw)))) == raw


@pytest.mark.parametrize(
    ("line", "moment"),
    [
        ("2026-11-14 10:00:00,123 ERROR x", "2026-11-14T09:00:00"),
        ("[2026-11-14T10:00:00.5Z] x", "2026-11-14T10:00:00"),
        ("2026-11-14 10:00:00.123 UTC [12] LOG:", "2026-11-14T10:00:00"),
        ("2026-11-14T10:00:00+02:00 x", "2026-11-14T08:00:00"),
        ("2026/11/14 10:00:00 [error] 7#7", "2026-11-14T09:00:00"),
        ('1.2.3.4 - - [14/Nov/2026:10:00:00 +0530] "GET / HTTP/1.1" 200', "2026-11-14T04:30:00"),
        ('{"ts": 1794650400.25, "level": "info"}', "2026-11-14T10:00:00"),
        ("  File x, line 3\n2026-11-14 10:00:00 y", "2026-11-14T09:00:00"),
        ("2026-13-45 99:99:99 no time", None),
        ("order 12026-11-14 10:00:00", None),
        ("", None),
    ],
)
def test_times_in_first_lines(line: str, moment: str | None) -> None:
    """Times of the formats that are reviewed are read, in the log's zone where they have no offset."""
    found = rotation_when.first_time(line, "Europe/Berlin")
    assert (found and found.replace(tzinfo=None).isoformat()) == moment


def test_names_of_rotated_files() -> None:
    """Ours are known anywhere, those of others only beside the log that they were."""
    names = {"app.log", "worker.2"}
    for name in ("app.log-20261121-1795283941", "app.log-20261121-1795283941.gz", "app.log.1", "app.log.2.gz",
                 "app.log-20261121", "app.log.2026-11-14", "app.log.2026-11-14_10-00.gz"):  # fmt: skip
        found = rotated_form(name, names)
        assert found and found["base"] == "app.log", name
    assert rotated_form("worker.2", names) is None and rotated_form("app.log", names) is None
    assert leftover_of(".app.log.upkeep-rotating") == "app.log"
    assert leftover_of(".app.log-20261121-1795283941.upkeep-copied") == "app.log"
    assert leftover_of(".hidden") is None


def test_folder_and_globs(tmp_path: Path) -> None:
    """A path is taken for one of the folder when it lies there as written; globs do not mean hidden files."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with Folder(str(tmp_path / "link")) as folder:
        assert folder.relative(f"{tmp_path}/link/a/*.log") == ("a", "*.log")
        assert folder.relative(f"{tmp_path}/real/x") == ("x",)
        for outside in (f"{tmp_path}/x", f"{tmp_path}/link/../x", "/etc/passwd", f"{tmp_path}/linkage/x"):
            with pytest.raises(OutsideError):
                folder.relative(outside)
        for name in ("../x", "a/../../x", "", ".."):
            with pytest.raises(OSError), folder.parent(name):
                pass
    assert fits("a[1].log", "a[1].log") and fits("a.log", "*.log") and not fits(".a.log", "*.log")


def test_the_configuration_for_logrotate() -> None:
    """It forces no rotation: size or age are asked again by logrotate, for which the state is seeded."""
    by_age = Order("app.log", 1, "auto", "age", NOW - 8 * DAY)
    text = rotation_logrotate.render("/logs/app.log", by_age)
    for line in ("daily", "dateformat -%Y%m%d-%s", "create", "rotate -1", "nocompress", "notifempty"):
        assert f"    {line}\n" in text
    assert rotation_logrotate.seed("/logs/app.log", by_age).splitlines()[1] == '"/logs/app.log" 2026-11-14-2:0:5'
    assert "    size 1\n" in rotation_logrotate.render("/logs/app.log", Order("app.log", 1, "auto", "size"))


def test_a_bomb_is_decoded_block_by_block() -> None:
    """What grows a thousandfold comes in pieces; what is cut off or garbage ends early and raises nothing."""
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert max(len(piece) for piece in decoded(iter([bomb]))) <= 1 << 20
    assert sum(len(piece) for piece in decoded(iter([bomb[:-2000]]))) < 50_000_000
    assert list(decoded(iter([b"no gzip at all"]))) == []


def test_unknown_is_never_fine() -> None:
    """A reopening that could not be seen is unknown, with the cure; one that was proved is nothing to talk about."""
    (found,) = reopened("app.log", Reopened(state="unknown", proof="x", unseen=3))
    assert found.severity is Severity.UNKNOWN and "root" in found.hint
    assert reopened("app.log", Reopened(state="yes", proof="x")) == ()
    assert reopened("app.log", Reopened(state="yes", proof="x", trouble="no pid"))[0].severity is Severity.WARNING
    assert reopened("app.log", Reopened(state="no", proof="x"))[0].severity is Severity.WARNING


def test_when_a_log_began(tmp_path: Path) -> None:
    """By its first line, but not before the last rotation: a backlog must not have it rotated each time."""
    path = tmp_path / "app.log"
    path.write_text("2026-11-01 10:00:00 x\n")
    with path.open("rb") as file:
        first = datetime(2026, 11, 1, 10, tzinfo=UTC)
        assert rotation_when.began(file.fileno(), "UTC", NOW, None) == first
        assert rotation_when.began(file.fileno(), "UTC", NOW, NOW - DAY) == NOW - DAY
    path.write_text("2126-11-01 10:00:00 a time to come, and none before\n")
    os.utime(path, (1e9, 1e9))
    with path.open("rb") as file:
        assert rotation_when.began(file.fileno(), "UTC", NOW, None) in (datetime.fromtimestamp(1e9, UTC), None)
