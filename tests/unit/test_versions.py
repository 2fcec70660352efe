"""Versions are ordered as each ecosystem's own program orders them."""

from __future__ import annotations

import shutil
import subprocess
from itertools import combinations, pairwise

import pytest

from upkeep.adapters.versions import compare, is_version

# https://peps.python.org/pep-0440/#summary-of-permitted-suffixes-and-relative-ordering
PYTHON = ["1.dev0", "1.0.dev456", "1.0a1", "1.0a2.dev456", "1.0a12", "1.0b1.dev456", "1.0rc1", "1.0", "1.0+abc.5",
          "1.0+abc.7", "1.0.post456.dev34", "1.0.post456", "1.1.dev1", "1!0.1"]  # fmt: skip
# https://semver.org/#spec-item-11
NPM = ["0.9.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
       "1.0.0-rc.1", "1.0.0", "2.0.0", "2.1.0", "2.1.1", "10.0.0"]  # fmt: skip
ALPINE = ["1.2_alpha1", "1.2_beta", "1.2_pre3", "1.2_rc1", "1.2", "1.2-r1", "1.2-r10", "1.2_git20240101", "1.2_p1",
          "1.2a", "1.2.01", "1.2.1", "1.10"]  # fmt: skip
DEBIAN = ["1.0~~", "1.0~~a", "1.0~", "1.0", "1.0-0", "1.0-0~bpo12+1", "1.0-1", "1.0-1+deb12u1", "1.0-1+deb12u2",
          "1.0-1.1", "1.0-10", "1.0a", "1.0+dfsg-1", "1.0.1", "1.00.1-1", "1:0.9", "2:0~rc1-1", "1.2-3-4", "20240203",
          "1.0A-z", "009", "7.88.1-10+deb12u12", "3.0.15-1~deb12u1", "1.0~rc1+git2020.abc-2", "0", "0~"]  # fmt: skip


@pytest.mark.parametrize(("ecosystem", "ordered"), [("PyPI", PYTHON), ("npm", NPM), ("Alpine:v3.20", ALPINE)])
def test_a_list_that_the_specification_orders_is_ordered_so(ecosystem: str, ordered: list[str]) -> None:
    """Every version is newer than the one before it, the other way round older, and the same as itself."""
    for older, newer in pairwise(ordered):
        assert (compare(ecosystem, older, newer), compare(ecosystem, newer, older)) == (-1, 1), (older, newer)
        assert compare(ecosystem, older, older) == 0


@pytest.mark.skipif(not shutil.which("dpkg"), reason="needs dpkg")
def test_debian_versions_are_ordered_as_dpkg_orders_them() -> None:
    """dpkg is asked about every pair."""
    pairs = list(combinations(DEBIAN, 2))
    ask = "dpkg --compare-versions"
    script = "".join(
        f"{ask} '{a}' lt '{b}' && echo -1 || {{ {ask} '{a}' eq '{b}' && echo 0 || echo 1; }}\n" for a, b in pairs
    )
    said = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True).stdout.split()
    for (a, b), expected in zip(pairs, map(int, said), strict=True):
        assert (compare("Debian:12", a, b), compare("Debian:12", b, a)) == (expected, -expected), (a, b)


def test_what_means_the_same_is_the_same() -> None:
    """Spellings and build metadata do not make a version newer."""
    assert compare("PyPI", "1.0", "1.0.0") == compare("PyPI", "v1.0-RC1", "1.0rc1") == 0
    assert compare("npm", "v1.0.0+linux", "1.0.0+mac") == 0
    assert compare("Debian:12", "0:1.0-0", "1.0") == compare("Ubuntu:24.04", "1.01", "1.1") == 0


@pytest.mark.parametrize(
    ("ecosystem", "version"),
    [
        ("PyPI", "latest"), ("PyPI", ""), ("PyPI", "1.0\n"), ("PyPI", "1" * 5000), ("PyPI", "1.0; rm"),
        ("npm", "1.0"), ("npm", "01.0.0"), ("npm", "1.0.0-01"), ("npm", "^1.0.0"), ("npm", "1.0.0-é"), ("npm", "١.0.0"),
        ("Debian:12", ""), ("Debian:12", "1.0-"), ("Debian:12", ":1.0"), ("Debian:12", "a:1.0"), ("Debian:12", "1.0_1"),
        ("Debian:12", "1:"), ("Debian:12", "1.0 2"), ("Debian:12", "9999999999:1"), ("Debian:12", "1:1:\n"),
        ("Alpine", "1.x"), ("Go", "1.0.0"), ("", "1.0"),
    ],
)  # fmt: skip
def test_what_is_no_version_is_refused(ecosystem: str, version: str) -> None:
    """Nothing is guessed: an unreadable version must not pass for an old or a new one."""
    with pytest.raises(ValueError):
        compare(ecosystem, version, "1.0.0")
    assert not is_version(ecosystem, version)
