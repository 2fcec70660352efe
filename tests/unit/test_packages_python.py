"""What Python manifests, locks and environments name: nothing lost, nothing fetched, nothing executed."""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from pip_requirements_parser import RequirementsFile

from upkeep.adapters.packages_python import read_environment, read_manifest
from upkeep.adapters.packages_python_markers import counts, from_file_name, showable
from upkeep.core.audit import Listed


def requirements(folder: Path, text: str | bytes, **markers: str) -> Listed:
    path = folder / "requirements.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_manifest(path, markers)


def pairs(listed: Listed) -> dict[str, str]:
    return {package.name: package.version for package in listed.packages}


def reasons(listed: Listed) -> dict[str, str]:
    return {entry.where: entry.reason for entry in listed.unlisted}


EVERYTHING = """\
# a comment -r other.txt
Django==3.2.0   # inline
requests[security,socks] == 2.19.0 ; python_version >= "3.6"
zope.interface===5.0.0
Flask_SQLAlchemy==2.5.1 --hash=sha256:00 \\
    --hash=sha256:11
pillow==\\
8.0.0
urllib3 == 1.24.1 --config-settings "a=b"
six==1.16.0,>=1.0
only-old==1.0 ; python_version < "3.0"
--index-url https://user:secret@pypi.example/simple
--extra-index-url=https://pypi.example/simple
-f ./wheels
--no-binary :all:
--require-hashes
--pre
attrs @ https://files.example/attrs-21.1.0-py2.py3-none-any.whl#sha256=00
https://files.example/certifi-2020.4.5.tar.gz
./wheels/idna-2.8-py2.py3-none-any.whl
"""


def test_every_form_that_pins(tmp_path: Path) -> None:
    """Extras, markers, hashes, continuations, comments, options, and wheels and archives by URL or path."""
    listed = requirements(tmp_path, EVERYTHING)
    assert not listed.unlisted
    assert pairs(listed) == {
        "django": "3.2.0",
        "requests": "2.19.0",
        "zope-interface": "5.0.0",
        "flask-sqlalchemy": "2.5.1",
        "pillow": "8.0.0",
        "urllib3": "1.24.1",
        "six": "1.16.0",
        "only-old": "1.0",
        "attrs": "21.1.0",
        "certifi": "2020.4.5",
        "idna": "2.8",
    }
    where = {package.name: package.where for package in listed.packages}
    assert where["django"] == "requirements.txt:2"
    assert where["pillow"] == "requirements.txt:7"
    assert not listed.open_ended  # with hashes, all that is installed is named


def test_markers_count_only_where_the_environment_is_stated(tmp_path: Path) -> None:
    """Nobody said which Python is meant: every line counts. Somebody did: only those meant for it."""
    text = 'old==1.0 ; python_version < "3.8"\nnew==1.0 ; python_version >= "3.8"\nwin==1.0 ; sys_platform == "win32"\n'
    assert set(pairs(requirements(tmp_path, text))) == {"old", "new", "win"}
    assert set(pairs(requirements(tmp_path, text, python_version="3.7"))) == {"old"}
    assert set(pairs(requirements(tmp_path, text, python_version="3.12", sys_platform="win32"))) == {"new", "win"}
    assert counts('python_full_version < "3.7.1"', {"python_version": "3.7"})
    assert counts("no marker at all", {"python_version": "3.7"})


def test_pins_for_other_machines(tmp_path: Path) -> None:
    """Constraints under several markers all count; a pin for one platform does not pin the line for another."""
    (tmp_path / "c.txt").write_text('six==1.1 ; python_version < "3"\nsix==1.2 ; python_version >= "3"\n')
    text = '-c c.txt\nsix\nidna>=2 ; sys_platform == "win32"\nidna==2.8 ; sys_platform != "win32"\n'
    listed = requirements(tmp_path, text)
    assert {(p.name, p.version) for p in listed.packages} == {("six", "1.1"), ("six", "1.2"), ("idna", "2.8")}
    (left,) = listed.unlisted
    assert left.where == "requirements.txt:3" and "idna>=2" in left.reason
    assert not requirements(tmp_path, text, sys_platform="linux").unlisted


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("django", "'django' does not pin"),
        ("django>=3.2", "does not pin"),
        ("django==3.*", "does not pin"),
        ("django==3.2,==4.0", "does not pin"),
        ("-e ..", "an editable source"),
        ("-e git+https://x:token123@git.example/a.git@main#egg=a", "an editable source"),
        ("--editable=./src/thing", "an editable source"),
        ("git+ssh://git@git.example/a.git#egg=a", "a file or repository"),
        ("a @ git+https://git.example/a.git@v1.0", "a from elsewhere"),
        ("https://files.example/master.zip", "a file or repository"),
        ("./local", "a file or repository"),
        ("../app2", "a file or repository"),
        ("django==${DJANGO}", "depends on a variable"),
        ("-r ${MORE}", "depends on a variable"),
        ("-r https://files.example/requirements.txt", "nothing is fetched"),
        ("-r file:///etc/passwd", "nothing is fetched"),
        ("-r ../other.txt", "outside of the manifest's folder"),
        ("-r /etc/passwd", "outside of the manifest's folder"),
        ("-r missing.txt", "cannot be read"),
        ("-r .", "cannot be read"),
        ("-c ../constraints.txt", "outside of the manifest's folder"),
        ("--install-everything", "no option"),
        ("django = 3.2", "no requirement"),
        ("<<<<<<< HEAD", "no requirement"),
        ("django==not-a-version", "no requirement"),
        ("django===not a version", "no requirement"),
    ],
)
def test_what_is_not_known_is_named(tmp_path: Path, line: str, reason: str) -> None:
    """A line whose package or version is not known is named with its place; the lines beside it are not lost."""
    folder = tmp_path / "app"
    folder.mkdir()
    listed = requirements(folder, f"six==1.16.0\n{line}\nidna==2.8\n")
    assert pairs(listed) == {"six": "1.16.0", "idna": "2.8"}
    (entry,) = listed.unlisted
    assert entry.where in ("requirements.txt:2", "missing.txt", ".")
    assert reason in entry.reason
    assert entry.hint
    assert "token123" not in entry.reason


@pytest.mark.parametrize("line", ["-e .", "-e .[dev]", "./local", "--editable=local", "."])
def test_code_of_the_project_itself(tmp_path: Path, line: str) -> None:
    """A folder beside the manifest is the project's own code: nothing to look up, but it may bring packages along."""
    (tmp_path / "local").mkdir()
    listed = requirements(tmp_path, f"{line}\nsix==1.16.0 --hash=sha256:00\n")
    assert pairs(listed) == {"six": "1.16.0"}
    assert not listed.unlisted
    assert listed.open_ended == ("requirements.txt",)


def test_included_files(tmp_path: Path) -> None:
    """-r and -c inside of the folder are read, whatever their form; circles end; a link that leads out is refused."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "base.txt").write_text("six==1.16.0\n-r ../requirements.txt\n-r more.txt\n")
    (tmp_path / "deep" / "more.txt").write_text("idna==2.8\n-c limits.txt\n")
    (tmp_path / "deep" / "limits.txt").write_text("django==3.2.0\nnot-asked-for==1.0\nrequests<3\n")
    (tmp_path / "out.txt").symlink_to("/etc/passwd")
    text = "-rdeep/base.txt\n--requirement=deep/more.txt\ndjango\nrequests\n-r out.txt\nsix\n"
    listed = requirements(tmp_path, text)
    assert pairs(listed) == {"six": "1.16.0", "idna": "2.8", "django": "3.2.0"}
    assert {p.where for p in listed.packages} == {"deep/base.txt:1", "deep/more.txt:1", "requirements.txt:3"}
    told = reasons(listed)
    assert "which includes this file" in told["deep/base.txt:2"]
    assert "does not pin" in told["requirements.txt:4"]
    assert "outside" in told["requirements.txt:5"]
    assert len(told) == 3


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + b"django==3.2.0\n",
        codecs.BOM_UTF16_LE + "django==3.2.0\n".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "django==3.2.0\n".encode("utf-16-be"),
        codecs.BOM_UTF32_LE + "django==3.2.0\n".encode("utf-32-le"),
        b"# -*- coding: latin-1 -*-\n# caf\xe9\ndjango==3.2.0\n",
        b"# caf\xe9, without saying how it is encoded\ndjango==3.2.0\n",
        b"django==3.2.0\r\n",
        b"django==3.2.0\x0c",
        b"# coding: no-such-thing\ndjango==3.2.0",
    ],
)
def test_encodings(tmp_path: Path, content: bytes) -> None:
    """Byte order marks, coding comments, Windows line ends, and bytes that are nothing in particular."""
    listed = requirements(tmp_path, content)
    assert pairs(listed) == {"django": "3.2.0"}
    assert not listed.unlisted


def test_hostile_files(tmp_path: Path) -> None:
    """Binary content, a line of a megabyte, ANSI and HTML, a pipe and a folder end in named entries."""
    listed = requirements(
        tmp_path,
        b"\x7fELF\x00\x01\nsix==1.16.0\n"
        + b"a" * (1 << 20)
        + b"\nidna==2.8"
        + b" " * (1 << 20)
        + b"\n\x1b[31mred==1\n<b>x</b>==1\n",
    )
    assert pairs(listed) == {"six": "1.16.0", "idna": "2.8"}
    assert len(listed.unlisted) == 4
    assert all(len(e.reason) < 300 and e.reason.isprintable() for e in listed.unlisted)
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, tmp_path / "none.txt"):
        assert len(read_manifest(path, {}).unlisted) == 1


def test_secrets_are_not_shown() -> None:
    """Credentials in a line do not reach a message."""
    assert showable("git+https://bob:hunter2@git.example/a.git") == "git+https://***@git.example/a.git"
    assert "ghp_" not in showable("a @ https://x.example/a?t=ghp_abcdefghijklmnopqrstuvwxyz123456")


def test_same_lines_as_the_reference_reader(tmp_path: Path) -> None:
    """pip's own reader, as packaged apart, sees the same names and pins in a file without includes."""
    path = tmp_path / "requirements.txt"
    path.write_text("\n".join(line for line in EVERYTHING.splitlines() if not line.startswith("./")) + "\n")
    theirs = {
        r.name.lower().replace("_", "-").replace(".", "-"): r.get_pinned_version
        for r in RequirementsFile.from_file(str(path)).requirements
        if r.name and not r.is_url
    }
    ours = pairs(read_manifest(path, {}))
    assert {n: ours.get(n) for n, v in theirs.items() if v} == {n: v for n, v in theirs.items() if v}
    assert set(ours) >= set(theirs)  # `==1.16.0,>=1.0` is no pin to theirs


def test_direct_and_transitive_by_pip_compile(tmp_path: Path) -> None:
    """The comments of pip-compile and uv tell who asked for a package, on the same line or below."""
    listed = requirements(
        tmp_path,
        "django==3.2.0\n    # via -r requirements.in\nasgiref==3.4.0 \\\n    --hash=sha256:00\n    # via django\n"
        "pytz==2021.1\n    # via\n    #   django\n    #   pandas\nsix==1.16.0  # via claims (pyproject.toml)\n"
        "idna==2.8\n",
    )
    assert {p.name: p.direct for p in listed.packages} == {
        "django": True, "asgiref": False, "pytz": False, "six": True, "idna": None,
    }  # fmt: skip


def test_file_names() -> None:
    """A wheel's or archive's name tells what it is, with hash, query, encoded sign and folder around it."""
    assert from_file_name("https://x.example/a/torch-2.0.0%2Bcpu-cp311-cp311-linux_x86_64.whl?x=1#sha256=00") == (
        "torch",
        "2.0.0+cpu",
    )
    assert from_file_name("https://x.example/archive/refs/heads/main.zip") is None


UV_LOCK = """\
version = 1
[[package]]
name = "claims"
version = "0.1.0"
source = { editable = "." }
dependencies = [{ name = "django" }]
[package.dev-dependencies]
dev = [{ name = "pytest" }]
[[package]]
name = "django"
version = "3.2.0"
source = { registry = "https://index.example/simple" }
dependencies = [{ name = "asgiref" }]
[[package]]
name = "asgiref"
version = "3.4.0"
source = { registry = "https://index.example/simple" }
[[package]]
name = "pytest"
version = "8.0.0"
source = { git = "https://git.example/pytest" }
"""
POETRY_LOCK = """\
[[package]]
name = "Django"
version = "3.2.0"
[[package]]
name = "asgiref"
version = "3.4.0"
markers = "python_version >= \\"3.8\\""
[metadata]
lock-version = "2.1"
"""
PYLOCK = """\
lock-version = "1.0"
created-by = "uv"
[[packages]]
name = "django"
version = "3.2.0"
[[packages]]
name = "idna"
archive = { url = "https://x.example/idna-2.8-py2.py3-none-any.whl" }
[[packages]]
name = "own"
directory = { path = "." }
[[packages]]
name = "forked"
vcs = { type = "git", url = "https://git.example/forked", commit-id = "00" }
[[packages]]
name = "old"
version = "1.0"
marker = "python_version < '3.0'"
"""


def test_locks(tmp_path: Path) -> None:
    """uv.lock, poetry.lock, pylock.toml and Pipfile.lock name versions, and who asked for what."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["Django>=3"]\n')
    (tmp_path / "uv.lock").write_text(UV_LOCK)
    listed = read_manifest(tmp_path / "uv.lock", {})
    assert {p.name: p.direct for p in listed.packages} == {"django": True, "asgiref": False, "pytest": True}
    (tmp_path / "poetry.lock").write_text(POETRY_LOCK)
    listed = read_manifest(tmp_path / "poetry.lock", {"python_version": "3.7"})
    assert {p.name: p.direct for p in listed.packages} == {"django": True}
    (tmp_path / "pylock.prod.toml").write_text(PYLOCK)
    listed = read_manifest(tmp_path / "pylock.prod.toml", {"python_version": "3.12"})
    assert pairs(listed) == {"django": "3.2.0", "idna": "2.8"}
    assert reasons(listed) == {"pylock.prod.toml: forked": "its version is none"}
    lock = {
        "default": {"django": {"version": "==3.2.0"}, "x": {"git": "https://git.example/x"}},
        "develop": {"six": {"version": "==1.16.0"}},
    }
    (tmp_path / "Pipfile.lock").write_text(json.dumps(lock))
    listed = read_manifest(tmp_path / "Pipfile.lock", {})
    assert pairs(listed) == {"django": "3.2.0", "six": "1.16.0"}
    assert set(reasons(listed)) == {"Pipfile.lock: x"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("uv.lock", "version = 2\n"),
        ("uv.lock", "version = 1\n[[package]]\nversion = '1'\n"),
        ("uv.lock", "version = 1\npackage = 'x'\n"),
        ("uv.lock", "<<<<<<< HEAD\n"),
        ("poetry.lock", ""),
        ("pylock.toml", "lock-version = '2.0'\n"),
        ("Pipfile.lock", "[]"),
        ("Pipfile.lock", '{"default": {"x": "1.0"}}'),
        ("Pipfile.lock", '{"default": {"x": 1, "x": 2}}'),
        ("pyproject.toml", "[project]\n"),
        ("setup.py", "raise SystemExit('executed')\n"),
    ],
)
def test_what_is_no_lock_is_named(tmp_path: Path, name: str, content: str) -> None:
    """A lock of another version, a damaged one, or a file that is no manifest is one named entry and no packages."""
    (tmp_path / name).write_text(content)
    listed = read_manifest(tmp_path / name, {})
    assert not listed.packages
    assert len(listed.unlisted) == 1


def dist_info(folder: Path, name: str, text: str, **files: str) -> None:
    path = folder / f"{name}.dist-info"
    path.mkdir(parents=True)
    (path / "METADATA").write_text(text)
    for file, content in files.items():
        (path / file).write_text(content)


def test_environment(tmp_path: Path) -> None:
    """An environment is read by its folders, not by its interpreter; broken metadata is named."""
    prefix = tmp_path / "venv"
    site = prefix / "lib" / "python3.12" / "site-packages"
    dist_info(
        site, "django-3.2", "Metadata-Version: 2.1\nName: Django\nVersion: 3.2\n", REQUESTED="", INSTALLER="pip\n"
    )
    dist_info(site, "asgiref-3.4", "Name: asgiref\nVersion: 3.4\n\nBody", INSTALLER="uv")
    dist_info(site, "other-1", "Name: other\nVersion: 1\n")
    dist_info(site, "noversion-1", "Name: noversion\n")
    (site / "empty-1.dist-info").mkdir()
    (prefix / "bin").mkdir()
    trap = prefix / "bin" / "python"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/executed\n")
    trap.chmod(0o755)
    listed = read_environment(trap)
    assert {p.name: (p.version, p.direct) for p in listed.packages} == {
        "django": ("3.2", True),
        "asgiref": ("3.4", False),
        "other": ("1", None),
    }
    assert {u.where for u in listed.unlisted} == {"noversion-1.dist-info", "empty-1.dist-info"}
    assert not (tmp_path / "executed").exists()
    (site / "django-3.2.dist-info" / "REQUESTED").unlink()  # then nothing says what was asked for by name
    assert {p.direct for p in read_environment(trap).packages} == {None}
    (missing,) = read_environment(tmp_path / "none" / "bin" / "python").unlisted
    assert "no such environment" in missing.reason


def test_environment_with_eggs_and_folders_elsewhere(tmp_path: Path) -> None:
    """What a `.pth` file or an egg adds to the path is in use too, is seen once, and no line of it is executed."""
    site, src = tmp_path / "venv" / "lib" / "python3.12" / "site-packages", tmp_path / "src"
    dist_info(site, "own-1", "Name: own\nVersion: 1\n", REQUESTED="")
    egg = site / "old-4-py3.12.egg" / "EGG-INFO"
    egg.mkdir(parents=True)
    (egg / "PKG-INFO").write_text("Name: old\nVersion: 4\n")
    for name, version in (("own", "1"), ("beside", "2")):
        (src / f"{name}.egg-info").mkdir(parents=True)
        (src / f"{name}.egg-info" / "PKG-INFO").write_text(f"Name: {name}\nVersion: {version}\n")
    code = f"import pathlib; pathlib.Path({str(tmp_path / 'executed')!r}).touch()"
    (site / "a.pth").write_text(f"{src}\n# {src}\n{code}\n/nowhere\n\0\n{'x' * 300}\n./old-4-py3.12.egg\n\n")
    listed = read_environment(tmp_path / "venv" / "bin" / "python")
    assert [(p.name, p.version) for p in listed.packages] == [("own", "1"), ("old", "4"), ("beside", "2")]
    assert not listed.unlisted and not (tmp_path / "executed").exists()


def test_environment_that_shares_the_systems_packages(tmp_path: Path) -> None:
    """What a virtual environment sees of its base interpreter is in use too."""
    base = tmp_path / "base"
    dist_info(base / "lib" / "python3.12" / "site-packages", "six-1", "Name: six\nVersion: 1\n")
    prefix = tmp_path / "venv"
    dist_info(prefix / "lib" / "python3.12" / "site-packages", "idna-2", "Name: idna\nVersion: 2\n")
    for shared, expected in (("false", {"idna"}), ("true", {"idna", "six"})):
        (prefix / "pyvenv.cfg").write_text(f"home = {base}/bin\ninclude-system-site-packages = {shared}\n")
        assert {p.name for p in read_environment(prefix / "bin" / "python").packages} == expected


def test_environment_as_its_own_interpreter_sees_it(tmp_path: Path) -> None:
    """Our own environment: the same packages and versions that its interpreter reports."""
    code = "import importlib.metadata as m; print('\\n'.join(f'{d.name} {d.version}' for d in m.distributions()))"
    out = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    theirs = {line.lower().replace("_", "-").replace(".", "-").split()[0] for line in out.splitlines()}
    listed = read_environment(Path(sys.executable))
    assert not listed.unlisted
    assert {p.name for p in listed.packages} == theirs
    venv.create(tmp_path / "new", with_pip=False)
    assert read_environment(tmp_path / "new" / "bin" / "python") == Listed()
