"""Debian's and Alpine's records of what is installed, and apt's simulation, are read; nothing of them is guessed."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from upkeep.adapters._package_text import UnreadableError
from upkeep.adapters.packages_debian import installed, lists_at, parse_apk, parse_status, pending, release_of

STATUS = """Package: libssl3
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Source: openssl
Version: 3.0.15-1~deb12u1
Description: toolkit
 Package: not-a-field
 .

Package: libssl3
Status: install ok installed
Architecture: i386
Source: openssl
Version: 3.0.15-1~deb12u1

Package: libgcc-s1
Status: hold ok installed
Source: gcc-12 (12.2.0-14+deb12u1)
Version: 12.2.0-14

Package: gone
Status: deinstall ok config-files
Version: 1.0

Package: half
Status: install reinstreq half-configured
Version: 2:1.0-1
"""


def image(root: Path, status: str = STATUS, release: str = 'ID=debian\nVERSION_ID="12"\n') -> Path:
    """Lay the files of a machine out below a folder."""
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "var/lib/dpkg/status").write_text(status)
    if release:
        (root / "etc/os-release").write_text(release)
    return root


def test_installed_packages_with_their_source(tmp_path: Path) -> None:
    """Source and its version follow dpkg; two architectures are one package; what is half installed is there."""
    listed = installed(image(tmp_path))
    assert [
        (p.ecosystem, p.name, p.version, p.source_package, p.source_version, p.direct) for p in listed.packages
    ] == [
        ("Debian:12", "libssl3", "3.0.15-1~deb12u1", "openssl", "3.0.15-1~deb12u1", None),
        ("Debian:12", "libgcc-s1", "12.2.0-14", "gcc-12", "12.2.0-14+deb12u1", None),
        ("Debian:12", "half", "2:1.0-1", "half", "2:1.0-1", None),
    ]
    assert not listed.unlisted


def test_apt_knows_what_was_asked_for(tmp_path: Path) -> None:
    """What apt installed for the sake of others is not direct."""
    (image(tmp_path) / "var/lib/apt").mkdir()
    (tmp_path / "var/lib/apt/extended_states").write_text(
        "Package: libssl3\nArchitecture: amd64\nAuto-Installed: 1\n\n"
    )
    assert {p.name: p.direct for p in installed(tmp_path).packages} == {
        "libssl3": False,
        "libgcc-s1": True,
        "half": True,
    }


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="needs dpkg")
def test_this_machine_is_read_as_dpkg_reads_it() -> None:
    """Names, versions and sources are dpkg-query's."""
    form = "${db:Status-Status} ${Package} ${Version} ${source:Package} ${source:Version}\n"
    said = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True).stdout
    expected = {tuple(line.split()[1:]) for line in said.splitlines() if line.startswith("installed ")}
    listed = installed()
    assert {(p.name, p.version, p.source_package, p.source_version) for p in listed.packages} == expected
    assert not listed.unlisted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('ID=debian\nVERSION_ID="12"', "Debian:12"),
        ("ID=ubuntu\nVERSION_ID='24.04'\nVERSION=\"24.04.1 LTS (Noble)\"", "Ubuntu:24.04:LTS"),
        ('ID=ubuntu\nVERSION_ID="23.10"\nVERSION="23.10 (Mantic)"', "Ubuntu:23.10"),
        ("ID=alpine\nVERSION_ID=3.20.3", "Alpine:v3.20"),
    ],
)
def test_the_release_names_the_ecosystem(text: str, expected: str) -> None:
    """As OSV names them."""
    assert release_of(text.encode()) == expected


@pytest.mark.parametrize(
    "text", ["", "ID=debian", "ID=raspbian\nVERSION_ID=12\nID_LIKE=debian", "ID=debian\nVERSION_ID=\x1b[0m", "\xff"]
)
def test_a_release_without_advisories_is_told(text: str) -> None:
    """Debian's advisories say nothing of what others make of Debian, and testing has no number."""
    with pytest.raises(UnreadableError) as told:
        release_of(text.encode())
    assert str(told.value).isprintable()


@pytest.mark.parametrize(
    ("status", "release"),
    [(STATUS, ""), ("", "ID=debian\nVERSION_ID=12"), ("<html>", "ID=debian\nVERSION_ID=12"), (STATUS, "ID=fedora")],
)
def test_what_cannot_be_told_is_unlisted(tmp_path: Path, status: str, release: str) -> None:
    """An empty or foreign record is unknown, not clean."""
    listed = installed(image(tmp_path, status, release))
    assert not listed.packages and len(listed.unlisted) == 1


def test_one_bad_entry_does_not_lose_the_rest() -> None:
    """Impossible names and versions are told with their place, without control characters."""
    bad = "Package: <b>\nVersion: 1\n\nPackage: aa\nVersion: 1\x1b[2J\n\n"
    bad += "Package: bb\nSource: x (y z)\nVersion: 1\n\nVersion: 1\n\n"
    listed = parse_status((bad + STATUS).encode() + b"\n\nPackage: \xff\xfe\n", "Debian:12", "/status")
    assert len(listed.packages) == 3 and len(listed.unlisted) == 5
    assert all((u.where + u.reason).isprintable() and u.where.startswith("/status, entry ") for u in listed.unlisted)


def test_alpine() -> None:
    """Advisories are kept by origin."""
    listed = parse_apk(
        b"C:Q1\nP:libcrypto3\nV:3.1.4-r5\no:openssl\nF:lib\n\nP:musl\nV:1.2.4-r2\n\nP:?\nV:1\n\n", "Alpine:v3.19", "/x"
    )
    assert [(p.name, p.version, p.source_package) for p in listed.packages] == [
        ("libcrypto3", "3.1.4-r5", "openssl"), ("musl", "1.2.4-r2", "musl"),
    ]  # fmt: skip
    assert len(listed.unlisted) == 1


def deb(folder: Path, name: str, version: str, depends: str = "") -> None:
    """Build a real package."""
    (folder / "b/DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: a <a@x.test>\nDescription: d\n"
    (folder / "b/DEBIAN/control").write_text(control + (f"Depends: {depends}\n" if depends else ""))
    subprocess.run(["dpkg-deb", "-b", "-Znone", "b", f"{name}.deb"], cwd=folder, check=True, capture_output=True)
    shutil.rmtree(folder / "b")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root whose apt has fetched the lists of a local security archive with two newer packages."""
    if not all(map(shutil.which, ("apt-get", "dpkg-deb", "dpkg-scanpackages"))):
        pytest.skip("needs apt and dpkg-dev")
    archive, root = tmp_path / "archive", tmp_path / "root"
    archive.mkdir()
    deb(archive, "tool", "2.0-1+deb12u1", "tool-data")
    deb(archive, "tool-data", "1.0")
    deb(archive, "same", "1.0")
    (archive / "Packages").write_bytes(
        subprocess.run(["dpkg-scanpackages", "."], cwd=archive, capture_output=True, check=True).stdout
    )
    (archive / "Release").write_text("Suite: stable-security\nLabel: Debian-Security\nOrigin: Debian\nVersion: 12\n")
    names = ("tool", "2.0-1"), ("same", "1.0")
    image(
        root,
        "".join(f"Package: {n}\nStatus: install ok installed\nArchitecture: all\nVersion: {v}\n\n" for n, v in names),
    )
    for folder in (
        "etc/apt/apt.conf.d",
        "etc/apt/preferences.d",
        "var/lib/apt/lists/partial",
        "var/cache/apt/archives/partial",
        "var/log/apt",
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{archive} ./\n")
    options = ["-o", f"Dir={root}", "-o", f"Dir::State::status={root}/var/lib/dpkg/status", "-o", "APT::Sandbox::User="]
    subprocess.run(["apt-get", *options, "update"], check=True, capture_output=True)
    return root


def test_security_updates_that_wait(machine: Path) -> None:
    """Real apt simulates: one update, of security, which needs a package more; nothing below the root changes."""
    before = {p: p.stat().st_mtime_ns for p in machine.rglob("*")}
    (update,) = pending(machine)
    assert (update.name, update.installed, update.candidate, update.security) == (
        "tool",
        "2.0-1",
        "2.0-1+deb12u1",
        True,
    )
    assert "Debian-Security:12/stable-security" in update.origin
    assert {p: p.stat().st_mtime_ns for p in machine.rglob("*")} == before


def test_the_age_of_the_lists_is_the_mirrors(machine: Path) -> None:
    """An old list stays old however often somebody tried to fetch another; without lists there is no age."""
    for path in (machine / "var/lib/apt/lists").glob("*Release"):
        os.utime(path, (0, 1_700_000_000))
    (machine / "var/lib/apt/lists/partial/x").touch()
    assert lists_at(machine) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert lists_at(machine / "nowhere") is None


def test_apt_that_fails_is_unknown(machine: Path) -> None:
    """A broken record of packages is told in apt's words."""
    (machine / "var/lib/dpkg/status").write_text("Package: broken\nVersion\n")
    with pytest.raises(UnreadableError, match="apt-get failed with code 100"):
        pending(machine)


def test_without_apt_it_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without apt has no answer, which is not the same as no updates."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UnreadableError, match="no apt-get"):
        pending()
