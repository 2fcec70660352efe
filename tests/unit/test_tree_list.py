"""Lists of trees: what is written is what is read, and a list by which a restore could write outside is refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from upkeep.adapters import tree_scan
from upkeep.adapters.tree_restore import choose
from upkeep.core.errors import ConfigurationError, DamagedError
from upkeep.core.tree import Entry, FileSet, list_sha256, pack, read_list, shown, unpack, write_list

NAMES = st.binary(min_size=1, max_size=40).filter(lambda b: not set(b) & {0, 47} and b not in (b".", b".."))


def entry(name: str, kind: Any = "f", **more: Any) -> Entry:
    return Entry(name=name, type=kind, mode=0o644, uid=1, gid=2, mtime_ns=10**18 + 1, **more)


@given(st.lists(NAMES, unique=True, max_size=20), NAMES)
def test_any_name_survives(raw: list[bytes], target: bytes) -> None:
    """Every name that a file system can hold comes back, whether or not it is text."""
    entries = [entry(os.fsdecode(name), "l", target=os.fsdecode(target)) for name in sorted(raw)]
    lines = list(write_list("/base", entries))
    assert all(line.isascii() and line.count(b"\n") == 1 for line in lines)
    base, read = read_list(lines, "here")
    assert (base, read) == ("/base", entries)
    assert list_sha256(read) == list_sha256(reversed(entries))
    assert all("\n" not in shown(e.name) for e in entries)


@given(NAMES)
def test_packing_tells_text_from_bytes(raw: bytes) -> None:
    """What is text stays readable, everything else is marked."""
    name = os.fsdecode(raw)
    assert unpack(pack(name)) == name
    assert pack(name).startswith("\0") == any("\udc80" <= letter <= "\udcff" for letter in name)


@pytest.mark.parametrize(
    "bad",
    [
        [entry("../x")], [entry("/etc/passwd")], [entry("a/../../x")], [entry("")], [entry("a//b")],
        [entry("x"), entry("x")],
        [entry("d", "l", target="/etc"), entry("d/passwd")], [entry("d/f")], [entry("f"), entry("f/g")], [entry(".")],
        [entry("h", "h", target="/etc/passwd")], [entry("h", "h", target="g")], [entry("x", "z")], [entry("a\0b")],
    ],
)  # fmt: skip
def test_lists_that_lead_outside_are_refused(bad: list[Entry]) -> None:
    """Such a list was not written by us: it is damaged, and nothing is restored by it."""
    with pytest.raises(DamagedError, match="no list of files"):
        read_list(list(write_list("/base", bad)), "here")


@pytest.mark.parametrize("bad", [[], [b"\n"], [b"{}\n"], [b'{"format":"upkeep-tree/1","base":"/"}\n', b"[1]\n"]])
def test_what_is_no_list_is_told_without_its_content(bad: list[bytes]) -> None:
    """A damaged list is told as such, and no word of it."""
    with pytest.raises(DamagedError, match="here is no list of files"):
        read_list(bad, "here")


def test_the_hash_is_of_names_attributes_and_contents() -> None:
    """Where a content lies and when it was touched do not count; everything else does."""
    one = entry("a", size=3, sha256="1" * 64)
    same = list_sha256([one])
    assert list_sha256([one._replace(object="x", offset=9, object_bytes=99, ino=4, ctime_ns=5, data=((0, 3),))]) == same
    for change in ({"name": "b"}, {"mode": 0}, {"uid": 9}, {"gid": 9}, {"mtime_ns": 1}, {"size": 4}, {"sha256": "2"}):
        assert list_sha256([one._replace(**change)]) != same


def test_choosing_parts_keeps_folders_and_makes_hard_links_files() -> None:
    """Of two links to a file that was not asked for the first becomes the file, the second a link to it."""
    everything = [entry("a", "d"), entry("a/f", sha256="1"), entry("b", "d"), entry("b/c", "d"),
                  entry("b/c/h", "h", target="a/f"), entry("b/c/i", "h", target="a/f"), entry("bc")]  # fmt: skip
    chosen = choose(everything, ("b/c",), secret=False)
    assert [(e.name, e.type, e.target) for e in chosen] == [
        ("b", "d", ""), ("b/c", "d", ""), ("b/c/h", "f", ""), ("b/c/i", "h", "b/c/h"),
    ]  # fmt: skip
    with pytest.raises(ConfigurationError) as raised:
        choose(everything, ("secret-name",), secret=True)
    assert "secret-name" not in str(raised.value)


NAME = st.text("ab.é-", min_size=1, max_size=3).filter(lambda n: n not in (".", ".."))
GLOB = st.lists(st.sampled_from(["**", "*", "a*", "?b", "[ab]", "b", ".*"]), min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(paths=st.lists(st.lists(NAME, min_size=1, max_size=4), min_size=1, max_size=8), parts=GLOB)
def test_globs_match_what_the_library_matches(
    tmp_path_factory: pytest.TempPathFactory, paths: list[list[str]], parts: list[str]
) -> None:
    """The files chosen by a glob are those that Python's own matching of paths finds, hidden ones included."""
    root = tmp_path_factory.mktemp("globs")
    for path in paths:
        file = root.joinpath(*path)
        if not any(p.is_file() for p in [file, *file.parents]) and not file.is_dir():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    pattern = "/".join(parts)
    assume(not (root / pattern).is_dir())  # named without wildcards, a folder means all that is in it
    found = tree_scan.scan(FileSet(paths=(f"{root}/{pattern}",)))
    ours = {Path(found.base, f.name) for f in found.found if stat.S_ISREG(f.stat.st_mode)}
    # `**` at the end means folders there (Python 3.12), and everything here.
    theirs = {
        p for p in (*root.glob(pattern), *(root.glob(f"{pattern}/*") if parts[-1] == "**" else ())) if p.is_file()
    }
    assert ours == theirs
