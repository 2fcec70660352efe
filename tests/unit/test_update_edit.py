"""A pin moves, and not a byte besides."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from upkeep.adapters.update_edit import diff, edit
from upkeep.core.outdated import Wanted

DJANGO = Wanted(name="Django", version="3.2.5", why="high: CVE-1")


def no_hashes(name: str, version: str) -> Sequence[str]:
    """An index that gives none."""
    return ()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("django==3.2.0\n", "django==3.2.5\n"),
        ("django==3.2.0", "django==3.2.5"),
        ("DJANGO == 3.2.0  # keep\r\n", "DJANGO == 3.2.5  # keep\r\n"),
        ("\ufeffdjango[a, b] ==3.2 ; os_name < '3'\n", "\ufeffdjango[a, b] ==3.2.5 ; os_name < '3'\n"),
        ("\tdjango==3.2.0;os_name=='nt'\n", "\tdjango==3.2.5;os_name=='nt'\n"),
        ("django (==3.2.0)\n", "django (==3.2.5)\n"),
        ("django \\\n    ==3.2.0\n", "django \\\n    ==3.2.5\n"),
        ("django==3.2.0 \\\n  ; os_name=='nt'\n", "django==3.2.5 \\\n  ; os_name=='nt'\n"),
        ("django==3.2.0 --config-settings=a=b\n", "django==3.2.5 --config-settings=a=b\n"),
        ("django==3.2.0; os_name=='nt'\ndjango==3.2.7\n", "django==3.2.5; os_name=='nt'\ndjango==3.2.7\n"),
        ("django==3.2rc1\n", "django==3.2.5\n"),
    ],
)  # fmt: skip
def test_a_pin_moves(before: str, after: str) -> None:
    """Name, extras, markers, comments, spaces, continuation and line ending stay; what is high enough stays, too."""
    around = "# django==3.2.0 is old\r\n-r base.txt\r\n\r\nsix==1.16.0 # via django\x0cdjango==1\n"
    edited = edit(around + before, [DJANGO], "r.txt", no_hashes)
    assert edited.text == around + after
    assert [(one.name, one.after) for one in edited.bumps] == [("django", "3.2.5")]
    assert not edited.refused and not edited.missing
    again = edit(edited.text, [DJANGO], "r.txt", no_hashes)
    assert again.text == edited.text and not again.bumps


@pytest.mark.parametrize(
    "line",
    ["django>=3.2,<4\n", "django~=3.2.0\n", "django==3.2.*\n", "django===3.2.0\n", "django\n",
     "django==3.2.0,!=3.2.1\n", "django ==3.2.0 , <4\n",
     "django @ https://x.test/django.zip\n", "django==${VERSION}\n", "django<4 # ==3.2.0\n", "django==3.2.0+ours1\n",
     "django==3.2.0 \\\n  --hash=sha256:00\n", "django == \\\n 3.2.0,<4\n"],
)  # fmt: skip
def test_what_is_no_plain_pin_is_refused(line: str) -> None:
    """A range says what its author wants; it is left alone, with its place and the version that would be safe."""
    edited = edit("six==1.0\n" + line, [DJANGO], "r.txt", no_hashes)
    assert edited.text == "six==1.0\n" + line and not edited.bumps
    (one,) = edited.refused
    assert one.where == "r.txt:2" and one.reason.startswith("Django ") and one.reason.isprintable()


@pytest.mark.parametrize(
    "line",
    ["-e git+https://x.test/django.git#egg=django\n", "https://x.test/django-3.2.0.zip\n", "./django\n",
     "django-extra==1\n",
     "--find-links django==3.2.0\n", "#django==3.2.0\n", "mydjango==3.2.0\n", "django.core==1\n", ""],
)  # fmt: skip
def test_what_is_another_thing_is_missing(line: str) -> None:
    """Other packages, options and addresses are not the package."""
    edited = edit(line, [DJANGO], "r.txt", no_hashes)
    assert edited.text == line and edited.missing == ["Django"] and not edited.refused


LOCK = """\
# compiled
django==3.2.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via -r requirements.in
six==1.16.0 \\
    --hash=sha256:cc
"""


def test_hashes_are_those_of_the_new_version() -> None:
    """Laid out as the old ones were; the rest of the lock stays."""
    edited = edit(LOCK, [DJANGO], "r.txt", lambda name, version: ["22", "11", "33"])
    assert edited.text == LOCK.replace("3.2.0", "3.2.5").replace(
        "--hash=sha256:aa \\\n    --hash=sha256:bb", " \\\n    ".join(f"--hash=sha256:{n}" for n in ("11", "22", "33"))
    )
    one = edit("django==3.2.0 \\\r\n    --hash=sha256:aa\r\n", [DJANGO], "r.txt", lambda *_: ["11", "22"])
    assert one.text == "django==3.2.5 \\\r\n    --hash=sha256:11 \\\r\n    --hash=sha256:22\r\n"
    same_line = edit("django==3.2.0 --hash=sha256:aa\n", [DJANGO], "r.txt", lambda *_: ["11", "22"])
    assert same_line.text == "django==3.2.5 --hash=sha256:11 --hash=sha256:22\n"


def test_the_change_is_shown_without_secrets_and_control_characters() -> None:
    """What stands around a pin may be an index with a password, or an attempt on the reader's terminal."""
    before = "--index-url https://me:hunter2@x.test/simple\ndjango==3.2.0\n# \x1b[2J<script>\u202e\r\n"
    text = diff(before, edit(before, [DJANGO], "r.txt", no_hashes).text, "r.txt")
    assert "-django==3.2.0\n+django==3.2.5\n" in text and text.startswith("--- a/r.txt\n+++ b/r.txt\n")
    assert "hunter2" not in text and "not shown" in text
    assert all(c.isprintable() or c == "\n" for c in text)


def test_a_long_hostile_line_takes_no_time() -> None:
    """No pattern tries all ways to match."""
    for line in (
        "django" + " " * 200_000 + "x",
        "django[" + "a," * 100_000,
        "a" * 200_000,
        "-" * 200_000,
        "a-" * 100_000,
    ):
        assert not edit(line, [DJANGO], "r.txt", no_hashes).bumps
