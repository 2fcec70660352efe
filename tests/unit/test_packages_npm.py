"""Lock files of npm are read whole; what cannot be read of one is told with its place."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from upkeep.adapters.packages_npm import parse_lock, read_lock
from upkeep.core.audit import Listed

V3: dict[str, Any] = {
    "name": "shop",
    "version": "1.0.0",
    "lockfileVersion": 3,
    "packages": {
        "": {
            "name": "shop",
            "workspaces": ["packages/*"],
            "dependencies": {"lodash": "^4.17.0", "old": "npm:lodash@3.10.1", "a": "*", "@scope/b": "1.x"},
            "devDependencies": {"mocha": "^9"},
            "optionalDependencies": {"fsevents": "2"},
        },
        "node_modules/lodash": {"version": "4.17.11", "resolved": "x"},
        "node_modules/old": {"name": "lodash", "version": "3.10.1"},
        "node_modules/@scope/b": {"version": "1.2.3-beta.1+build"},
        "node_modules/@scope/b/node_modules/lodash": {"version": "2.4.2"},
        "node_modules/mocha": {"version": "9.2.2", "dev": True},
        "node_modules/minimist": {"version": "0.0.8", "dev": True, "optional": True},
        "node_modules/a": {"resolved": "packages/a", "link": True},
        "packages/a": {"version": "0.0.1", "dependencies": {"minimist": "0.0.8", "lodash": "4.0.0"}},
        "packages/a/node_modules/lodash": {"version": "4.0.0"},
    },
}


def names(listed: Listed) -> dict[str, tuple[str, str, bool | None]]:
    """Return place -> name, version, direct."""
    return {p.where: (p.name, p.version, p.direct) for p in listed.packages}


def lock(value: Any) -> Listed:
    """Read a value as the content of a lock."""
    return parse_lock(json.dumps(value).encode(), "package-lock.json")


@pytest.mark.parametrize("version", [2, 3])
def test_the_tree_of_version_2_and_3(version: int, tmp_path: Path) -> None:
    """Nested packages, scopes, aliases, workspaces and what the project itself asks for are told apart.

    Of version 2 the other half counts, too, by which npm 6 installs; in version 3 nobody reads it.
    """
    path = tmp_path / "npm-shrinkwrap.json"
    path.write_text(json.dumps({**V3, "lockfileVersion": version, "dependencies": {"six": {"version": "6.0.0"}}}))
    listed = read_lock(path)
    place = "npm-shrinkwrap.json:"
    other_half = {f"{place}node_modules/six": ("six", "6.0.0", None)} if version == 2 else {}
    assert names(listed) == other_half | {
        f"{place}node_modules/lodash": ("lodash", "4.17.11", True),
        f"{place}node_modules/old": ("lodash", "3.10.1", True),
        f"{place}node_modules/@scope/b": ("@scope/b", "1.2.3-beta.1+build", True),
        f"{place}node_modules/@scope/b/node_modules/lodash": ("lodash", "2.4.2", False),
        f"{place}node_modules/mocha (dev)": ("mocha", "9.2.2", True),
        f"{place}node_modules/minimist (dev, optional)": ("minimist", "0.0.8", True),
        f"{place}packages/a/node_modules/lodash": ("lodash", "4.0.0", True),
    }
    assert {p.ecosystem for p in listed.packages} == {"npm"}
    assert not listed.unlisted


def test_the_tree_of_version_1(tmp_path: Path) -> None:
    """Dependencies nest; what the project asks for is in the package.json beside, and unknown without it."""
    tree = {
        "name": "x",
        "version": "1.0.0",
        "lockfileVersion": 1,
        "requires": True,
        "dependencies": {
            "minimist": {"version": "0.0.8", "dev": True},
            "old": {"version": "npm:@s/lodash@3.10.1"},
            "b": {
                "version": "1.0.0",
                "requires": {"c": "2"},
                "dependencies": {"c": {"version": "2.0.0", "bundled": True}},
            },
        },
    }
    path = tmp_path / "package-lock.json"
    path.write_text(json.dumps(tree))
    assert {direct for _, _, direct in names(read_lock(path)).values()} == {None}
    (tmp_path / "package.json").write_text(json.dumps({"dependencies": {"b": "1", "c": "1"}}))
    assert names(read_lock(path)) == {
        "package-lock.json:node_modules/minimist (dev)": ("minimist", "0.0.8", False),
        "package-lock.json:node_modules/old": ("@s/lodash", "3.10.1", False),
        "package-lock.json:node_modules/b": ("b", "1.0.0", True),
        "package-lock.json:node_modules/b/node_modules/c": ("c", "2.0.0", False),
    }


@pytest.mark.parametrize(
    "version",
    ["git+ssh://git@x.test/b.git#0", "github:a/b", "file:../b", "https://x.test/b.tgz", "1.x", "", None, 7, []],
)
def test_what_comes_from_elsewhere_has_no_known_version(version: Any) -> None:
    """A git branch, file or address is no version that an advisory could name: it is unlisted, not clean."""
    for listed in (
        lock({"lockfileVersion": 1, "dependencies": {"b": {"version": version}}}),
        lock({"lockfileVersion": 3, "packages": {"": {}, "node_modules/b": {"version": version}}}),
    ):
        assert not listed.packages
        (one,) = listed.unlisted
        assert one.where == "package-lock.json:node_modules/b" and "b has " in one.reason and "pin" in one.hint


def test_a_git_dependency_whose_version_the_lock_tells_is_listed() -> None:
    """As npm audit does it."""
    entry = {"version": "1.2.3", "resolved": "git+ssh://git@github.com/a/b.git#0123"}
    assert [p.version for p in lock({"lockfileVersion": 3, "packages": {"node_modules/b": entry}}).packages] == [
        "1.2.3"
    ]


def test_a_lock_that_lacks_what_the_project_asks_for_says_so() -> None:
    """Half a lock is not a clean one; what is optional may be missing, and a link must lead somewhere."""
    root = {
        "dependencies": {"gone": "1", "soft": "1"},
        "optionalDependencies": {"soft": "1"},
        "peerDependencies": {"p": "1"},
    }
    listed = lock({"lockfileVersion": 3, "packages": {"": root, "node_modules/l": {"link": True, "resolved": "../l"}}})
    assert ["'gone'" in u.reason or "'../l'" in u.reason for u in listed.unlisted] == [True, True]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "line 1, column 1 is no JSON"),
        (b'{"lockfileVersion": 3, "packages": {', "is no JSON"),
        (b"[]", "a JSON list"),
        (b"\xff{}", "no UTF-8"),
        (b'{"lockfileVersion": 3, "packages": {"a": {"version": "1.0.0", "version": "9.9.9"}}}', "'version' twice"),
        (b'{"lockfileVersion": 3, "dependencies": {}}', "neither"),
        (b'{"lockfileVersion": 4, "packages": {}}', "expected 1, 2 or 3"),
        (b'{"lockfileVersion": true, "packages": {}}', "expected 1, 2 or 3"),
        (b'{"lockfileVersion": {"a": 1}}', "expected 1, 2 or 3"),
        (b'{"name": "x"}', "neither"),
        (b'{"lockfileVersion": 3, "packages": []}', "`packages` is a list"),
        (b'{"lockfileVersion": 1, "dependencies": "x"}', "`dependencies` is a str"),
        (b'{"lockfileVersion": 1, "dependencies": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "nested too deeply"),
        (b'{"lockfileVersion": ' + b"9" * 5000 + b"}", "no usable JSON"),
    ],
)  # fmt: skip
def test_what_is_no_lock_is_told(content: bytes, reason: str) -> None:
    """Nothing is listed of it, and why not is said."""
    listed = parse_lock(content, "package-lock.json")
    assert not listed.packages
    (one,) = listed.unlisted
    assert reason in one.reason and one.where == "package-lock.json"


def test_one_bad_entry_does_not_lose_the_rest() -> None:
    """Wrong types, impossible names and control characters are told; every other package is listed."""
    names = ("<b>", "\x1b[31mred\u202e", "n" * 300, "../../etc", "a b", "@x", "", "a/b", ".hidden")
    bad: dict[str, Any] = {f"node_modules/{name}": {"version": "1.0.0"} for name in names}
    bad |= {"node_modules/a": 7, "node_modules/x": {"name": ["x"]}, "packages/w": {"dependencies": 3}}
    listed = lock({"lockfileVersion": 3, "packages": {"": {}, **bad, "node_modules/good": {"version": "1.0.0"}}})
    assert [p.name for p in listed.packages] == ["good"]
    assert len(listed.unlisted) == len(bad)
    assert all(c.isprintable() for u in listed.unlisted for c in u.where + u.reason + u.hint)
    assert max(len(u.where + u.reason) for u in listed.unlisted) < 500


def test_a_flood_of_bad_entries_is_counted() -> None:
    """A hostile lock does not fill the report."""
    listed = lock({"lockfileVersion": 3, "packages": {f"node_modules/{n}!": {} for n in range(5000)}})
    assert len(listed.unlisted) == 101 and "4900 more" in listed.unlisted[-1].reason


def test_a_deep_tree_of_folders_ends() -> None:
    """Looking for a package upwards takes few steps, however long the name of a folder is."""
    deep = "/".join(["d"] * 5000)
    assert not lock({"lockfileVersion": 3, "packages": {"": {}, deep: {"dependencies": {"x": "1"}}}}).packages


def test_a_pipe_or_a_folder_is_no_lock(tmp_path: Path) -> None:
    """Nobody waits for a pipe to be written."""
    os.mkfifo(tmp_path / "package-lock.json")
    for path in (tmp_path / "package-lock.json", tmp_path, tmp_path / "gone"):
        listed = read_lock(path)
        assert not listed.packages and len(listed.unlisted) == 1
