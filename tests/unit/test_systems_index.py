"""The index that DAG files read: right, quick, and never the cause of an import error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from upkeep.core.cadence import Cadence
from upkeep.systems import cache, index
from upkeep.systems.index import Alert, read_index
from upkeep.systems.load import load_all

LADDER = "ladder:\n  deadlines: {daily: 15 min, weekly: 1 h}\n  rungs:\n    - {after: 0 s}\n    - {after: 30 min}\n"
HEAD = "name: x\ntitle: X\n"
TAIL = "targets:\n  db: {kind: postgres, conn_id: x}\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a cache of its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("UPKEEP_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def systems(tmp_path: Path) -> Path:
    """Return an empty folder for system files."""
    folder = tmp_path / "systems"
    folder.mkdir()
    return folder


def test_agrees_with_the_full_load() -> None:
    """For the sample systems, the index has the very deadlines and rungs that their models have."""
    loaded = load_all(environ=None).systems
    for entry in read_index().entries:
        ladder = loaded[entry.name].ladder
        assert entry.late == ladder.deadlines
        assert entry.rungs == tuple(rung.after for rung in ladder.rungs)
    assert read_index().names == tuple(loaded)


@pytest.mark.parametrize(
    "text",
    [
        HEAD + LADDER + TAIL,
        LADDER + HEAD + TAIL,
        HEAD + TAIL + LADDER.rstrip(),
        "---\n" + HEAD + LADDER + TAIL,
        (HEAD + LADDER + TAIL).replace("\n", "\r\n"),
        HEAD + "# ladder: none\n\n" + LADDER.replace("  rungs", "\n# a comment\n  rungs") + TAIL,
        HEAD + "'ladder': {deadlines: {daily: 15 min, weekly: 1 h}, rungs: [{after: 0 s}, {after: 30 min}]}\n",
        "{name: x, ladder: {deadlines: {daily: 15 min, weekly: PT1H}, rungs: [{after: 0 s}, {after: 30 min}]}}\n",
        "x: &wait 15 min\n" + HEAD + LADDER.replace("daily: 15 min", "daily: *wait"),
        HEAD + "description: |\n  ladder:\n    deadlines: {daily: 1 s}\n" + LADDER + TAIL,
    ],
)
def test_finds_the_ladder_however_it_is_written(systems: Path, text: str) -> None:
    """The ladder is the same at the top, in the middle, at the end, in flow style, quoted, or with an alias."""
    (systems / "x.yaml").write_bytes(text.encode())
    quarter = timedelta(minutes=15)
    assert read_index(systems).deadlines(Cadence.DAILY) == (Alert(quarter, 1), Alert(3 * quarter, 2))
    assert read_index(systems).deadlines(Cadence.MONTHLY) == ()


@pytest.mark.parametrize(
    "text",
    ["", "- a\n", "\t", "[" * 100_000, "ladder: 3\n", "ladder: {deadlines: {hourly: 1 h}}\n", "ladder: {rungs: 1}\n",
     "ladder: {rungs: [{after: 5}]}\n", "ladder: {deadlines: [1]}\n",
     "ladder: {rungs: [{after: 1 h}, {after: 0 s}]}\n"],
)  # fmt: skip
def test_a_bad_file_contributes_its_name(systems: Path, text: str) -> None:
    """Whatever is wrong with a file, DAG files are parsed: it has a name and no deadlines."""
    (systems / "x.yaml").write_text(text)
    assert read_index(systems).names == ("x",)
    assert read_index(systems).deadlines(Cadence.DAILY) == ()


def test_union_of_ladders(systems: Path) -> None:
    """Deadlines of all systems are joined, each moment and rung once, soonest first."""
    (systems / "a.yaml").write_text(HEAD + LADDER)
    (systems / "b.yaml").write_text(HEAD + LADDER)
    (systems / "c.yaml").write_text(HEAD + LADDER.replace("15 min", "5 min"))
    minutes = [
        (alert.after / timedelta(minutes=1), alert.rung) for alert in read_index(systems).deadlines(Cadence.DAILY)
    ]
    assert minutes == [(5, 1), (15, 1), (35, 2), (45, 2)]


def test_warm_cache_reads_no_file(systems: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that has not changed is not opened again; one that has is."""
    (systems / "a.yaml").write_text(HEAD + LADDER)
    (systems / "b.yaml").write_text(HEAD + LADDER)
    before = read_index(systems)
    opened: list[str] = []
    real = index.read_text
    monkeypatch.setattr(index, "read_text", lambda path: opened.append(path.name) or real(path))
    assert read_index(systems) == before
    assert opened == []
    (systems / "b.yaml").write_text(HEAD + LADDER.replace("15 min", "16 min"))
    assert read_index(systems) != before
    assert opened == ["b.yaml"]


def test_same_size_and_time_but_changed(systems: Path) -> None:
    """A change that keeps size and modification time, as `cp -p` can, is seen."""
    path = systems / "a.yaml"
    path.write_text(HEAD + LADDER)
    before, times = read_index(systems), path.stat()
    path.write_text(HEAD + LADDER.replace("15 min", "16 min"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert read_index(systems) != before


def test_removed_system_leaves_the_index(systems: Path) -> None:
    """A file that is gone is gone from the index too, whatever the cache remembers."""
    (systems / "a.yaml").write_text(HEAD)
    (systems / "b.yaml").write_text(HEAD)
    assert read_index(systems).names == ("a", "b")
    (systems / "a.yaml").unlink()
    assert read_index(systems).names == ("b",)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\xff", b"{", b"[]", b"[" * 100_000, b'{"format": 1, "files": {"a.yaml": 3}}',
     b'{"format": 0, "files": {}}',
     b'{"format": 1, "files": {"a.yaml": [[1, 2, 3], [{"daily": "x"}, [0]]]}}', b'{"format": 1, "files": []}',
     b'{"format": 1, "files": {"a.yaml": [[1, 2, 3], [{"daily": 1e300}, [NaN]]]}}'],
)  # fmt: skip
def test_corrupt_cache_is_ignored(systems: Path, own_cache: Path, content: bytes) -> None:
    """A damaged cache makes parsing slower and never wrong."""
    (systems / "a.yaml").write_text(HEAD + LADDER)
    before = read_index(systems)
    (stored,) = own_cache.iterdir()
    stored.write_bytes(content)
    assert read_index(systems) == before
    assert json.loads(stored.read_bytes())["format"] == index.FORMAT


def test_cache_of_another_is_not_used(systems: Path, own_cache: Path) -> None:
    """A folder that others may write to, or a link, is not trusted; parsing works without a cache."""
    (systems / "a.yaml").write_text(HEAD + LADDER)
    own_cache.mkdir(mode=0o777)
    own_cache.chmod(0o777)
    assert cache.folder() is None
    assert read_index(systems).names == ("a",)
    assert list(own_cache.iterdir()) == []
    own_cache.rmdir()
    own_cache.symlink_to(systems)
    assert cache.folder() is None


def test_cache_is_private(systems: Path, own_cache: Path) -> None:
    """The cache folder is made for its owner alone, and no half-written file stays behind."""
    (systems / "a.yaml").write_text(HEAD)
    read_index(systems)
    assert own_cache.stat().st_mode & 0o777 == 0o700
    assert len(list(own_cache.iterdir())) == 1


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    """Without a folder there are no systems, and DAG files are parsed all the same."""
    assert read_index(tmp_path / "none").entries == ()


def test_imports_nothing_heavy() -> None:
    """Reading the index loads no driver, no cloud and no model of a system."""
    heavy = ["psycopg", "boto3", "httpx", "upkeep.core.system", "airflow"]
    code = (
        "import sys; from upkeep.systems.index import read_index; read_index();"
        f" print([m for m in {heavy} if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert found.stdout.strip() == "[]"
