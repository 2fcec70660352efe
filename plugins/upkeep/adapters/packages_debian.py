"""Packages of Debian and of those that descend from it, and of Alpine: what is installed, what updates wait.

Only files are read, and `apt-get` is asked to simulate: nothing is locked, fetched or changed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from upkeep.adapters._package_run import ask
from upkeep.adapters._package_text import UnreadableError, bounded, read_bytes, shown
from upkeep.adapters.process import environment
from upkeep.adapters.versions import is_version
from upkeep.core.audit import Listed, Package, Unlisted
from upkeep.core.outdated import Pending

STATUS, STATUS_PARTS = "var/lib/dpkg/status", "var/lib/dpkg/status.d"
STATES, LISTS = "var/lib/apt/extended_states", "var/lib/apt/lists"
OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+", re.ASCII)
_APK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+.-]*", re.ASCII)
_SOURCE = re.compile(r"(\S+)(?: \((\S+)\))?", re.ASCII)
# Inst libc6 [2.36-9+deb12u9] (2.36-9+deb12u10 Debian-Security:12/oldstable-security [amd64]) []
_INST = re.compile(r"Inst (\S+) (?:\[(\S+)\] )?\((\S+) (.*) \[\S+\]\)")
_HINT = "look at the file with `dpkg --audit`; restore it from /var/backups/dpkg.status.0 where it is damaged"


def installed(root: Path = Path("/")) -> Listed:
    """Return the Debian packages that are installed below a folder: this machine's, or those of an unpacked image."""
    where = f"/{STATUS}"
    try:
        release = release_of(_release_file(root))
        content = read_bytes(root / STATUS)
    except UnreadableError as error:
        return Listed(unlisted=(Unlisted(where=where, reason=str(error), hint=_HINT),))
    return parse_status(content, release, where, automatic(root / STATES))


def release_of(os_release: bytes) -> str:
    """Return OSV's word for the ecosystem of an `os-release` file: `Debian:12`, `Ubuntu:24.04:LTS`, `Alpine:v3.20`.

    :raises UnreadableError: it names a system for which there are no such advisories, or no version.
    """
    found = dict(re.findall(r"^([A-Z_]+)=[\"']?([^\"'\n]*)[\"']?\s*$", os_release.decode(errors="replace"), re.M))
    system, version = found.get("ID", ""), found.get("VERSION_ID", "")
    if system == "debian" and version.isdigit():
        return f"Debian:{version}"
    if system == "ubuntu" and re.fullmatch(r"\d\d\.\d\d", version):
        return f"Ubuntu:{version}{':LTS' if 'LTS' in found.get('VERSION', '') else ''}"
    if system == "alpine" and (short := re.match(r"\d+\.\d+", version)):
        return f"Alpine:v{short[0]}"
    seen = f"ID={shown(system, 30) or '(none)'}, VERSION_ID={shown(version, 30) or '(none)'}"
    raise UnreadableError(f"os-release says {seen}; expected a release of Debian, Ubuntu or Alpine")


def _release_file(root: Path) -> bytes:
    for name in OS_RELEASE:
        try:
            return read_bytes(root / name, 1 << 16)
        except UnreadableError:
            continue
    raise UnreadableError("there is no os-release file: of which release its packages are is not known")


def automatic(states: Path) -> frozenset[str] | None:
    """Return the names of what apt has installed for the sake of others; None when it keeps no record."""
    try:
        return automatic_of(read_bytes(states))
    except UnreadableError:
        return None


def automatic_of(states: bytes) -> frozenset[str]:
    """Return the same of the content of apt's `extended_states`."""
    return frozenset(s.get("Package", "") for s in _stanzas(states) if s.get("Auto-Installed") == "1")


def parse_status(content: bytes, release: str, where: str, automatic: frozenset[str] | None = None) -> Listed:
    """Return the packages of a dpkg status file (or of one of the parts that distroless images keep).

    A package of several architectures counts once. What is removed and has left its configuration is not installed.
    """
    packages: dict[tuple[str, str], Package] = {}
    unlisted: list[Unlisted] = []
    for number, stanza in enumerate(_stanzas(content), 1):
        if stanza.get("Status", "ok ok installed").split(" ")[-1] in ("not-installed", "config-files"):
            continue
        one = _package(stanza, release, where, automatic)
        if isinstance(one, str):
            unlisted.append(Unlisted(where=f"{where}, entry {number}", reason=one, hint=_HINT))
        else:
            packages.setdefault((one.name, one.version), one)
    if not packages and not unlisted:
        unlisted.append(Unlisted(where=where, reason="it names no installed package", hint=_HINT))
    return Listed(packages=tuple(packages.values()), unlisted=bounded(unlisted, where))


def _package(stanza: dict[str, str], release: str, where: str, automatic: frozenset[str] | None) -> Package | str:
    name, version = stanza.get("Package", ""), stanza.get("Version", "")
    source = _SOURCE.fullmatch(stanza.get("Source", name))
    if not _NAME.fullmatch(name):
        return f"{shown(name, 60)!r} is no name of a package"
    if source is None or not _NAME.fullmatch(source[1]):
        return f"{name} has source {shown(stanza.get('Source'), 60)!r}"
    if not all(is_version("Debian", one) for one in (version, source[2] or version)):
        return f"{name} has version {shown(version, 60)!r} of source version {shown(source[2], 60)!r}"
    return Package(
        ecosystem=release,
        name=name,
        version=version,
        where=where,
        direct=None if automatic is None else name not in automatic,
        source_package=source[1],
        source_version=source[2] or version,
    )


def _stanzas(content: bytes) -> Iterator[dict[str, str]]:
    """Yield the fields of each paragraph; lines that continue a field are left out, none of ours has any."""
    for paragraph in re.split(r"\n[ \t\r]*\n", content.decode(errors="replace")):
        lines = (line.partition(":") for line in paragraph.split("\n") if line[:1] not in (" ", "\t"))
        if stanza := {key: value.strip() for key, colon, value in lines if colon}:
            yield stanza


def parse_apk(content: bytes, release: str, where: str) -> Listed:
    """Return the packages of Alpine's `lib/apk/db/installed`; advisories are kept by origin, the source package."""
    packages, unlisted = list[Package](), list[Unlisted]()
    for number, entry in enumerate(_stanzas(content), 1):
        name, version, origin = entry.get("P", ""), entry.get("V", ""), entry.get("o", entry.get("P", ""))
        if _APK_NAME.fullmatch(name) and _APK_NAME.fullmatch(origin) and is_version("Alpine", version):
            packages.append(
                Package(ecosystem=release, name=name, version=version, where=where,
                        source_package=origin, source_version=version)
            )  # fmt: skip
        else:
            reason = f"{shown(name, 60)!r} in version {shown(version, 60)!r} is no package"
            unlisted.append(Unlisted(where=f"{where}, entry {number}", reason=reason, hint="run `apk audit --system`"))
    return Listed(packages=tuple(packages), unlisted=bounded(unlisted, where))


def pending(root: Path = Path("/"), *, timeout: float = 120) -> tuple[Pending, ...]:
    """Return the updates that `apt-get dist-upgrade` would install, by the package lists that are there.

    :raises UnreadableError: apt is not there, fails, or takes too long.
    """
    program = shutil.which("apt-get")
    if program is None:
        raise UnreadableError("there is no apt-get on this machine")
    # Simulation needs no lock; without caches and the planner's log it writes nothing either.
    options = {
        "Debug::NoLocking": "true", "APT::Get::Show-User-Simulation-Note": "false",
        "Dir::Cache::pkgcache": "", "Dir::Cache::srcpkgcache": "", "Dir::Log::Planner": "/dev/null",
    }  # fmt: skip
    if root != Path("/"):  # not `RootDir`: that makes a path of the empty ones above
        options |= {"Dir": str(root), "Dir::State::status": str(root / STATUS)}
    flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    said = ask(
        [program, "-s", *flags, "dist-upgrade"], timeout=timeout, env=environment(DEBIAN_FRONTEND="noninteractive")
    )
    if said.code:
        raise UnreadableError(f"apt-get failed with code {said.code}: {said.complaint}")
    return tuple(_read_updates(said.out.decode(errors="replace")))


def _read_updates(text: str) -> Iterator[Pending]:
    for line in text.splitlines():
        if not line.startswith("Inst "):
            continue
        found = _INST.match(line)
        if not found or not _NAME.fullmatch(found[1].partition(":")[0]):
            raise UnreadableError(f"apt-get wrote a line that cannot be read: {shown(line)!r}")
        name, before, after, origin = found.groups()
        if before:  # without it, it is a new package that an update brings along
            yield Pending(
                name=name.partition(":")[0],
                installed=shown(before),
                candidate=shown(after),
                origin=shown(origin),
                security="security" in origin.lower(),
            )


def lists_at(root: Path = Path("/")) -> datetime | None:
    """Return of when the newest package list is; None when there is none.

    The time is the mirror's (apt keeps it), not that of the last attempt to fetch: one that failed made nothing newer.
    """
    times = [path.stat().st_mtime for path in (root / LISTS).glob("*Release") if path.is_file()]
    return datetime.fromtimestamp(max(times), UTC) if times else None
