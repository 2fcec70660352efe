"""Packages of a container image, listed from inside without running anything of it.

A container is created (never started), its files are streamed as a tar through memory, and it is removed. Nothing is
unpacked to disk, so that names and links in the image lead nowhere. Images are never pulled: that is a decision of
whoever runs the machine.
"""

from __future__ import annotations

import contextlib
import io
import re
import tarfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from typing import Any

from upkeep.adapters import packages_debian as debian
from upkeep.adapters import packages_npm as npm
from upkeep.adapters._package_text import UnreadableError, bounded, shown
from upkeep.adapters.docker_engine import LOCAL, lives, owner
from upkeep.adapters.versions import is_version
from upkeep.core.audit import Listed, Package, Unlisted

LABEL = "upkeep.listing"
_FILE_BYTES, _KEPT_BYTES, _HEADER_BYTES = 32 << 20, 256 << 20, 1 << 20
_BUFFER = 256 << 10
_LOCKS, _HIDDEN_LOCK = ("package-lock.json", "npm-shrinkwrap.json"), ".package-lock.json"
_APK = "lib/apk/db/installed"
_PYTHON = re.compile(r"(?:.*/)?[^/]+(?:\.dist-info/METADATA|\.egg-info/PKG-INFO|\.egg-info)")
_RPM = re.compile(r"(?:var/lib|usr/lib/sysimage)/rpm/(?:rpmdb\.sqlite|Packages(?:\.db)?)")
_PYTHON_NAME = re.compile(r"[A-Z0-9](?:[A-Z0-9._-]*[A-Z0-9])?", re.ASCII | re.IGNORECASE)
_SYSTEM = {debian.STATUS, debian.STATES, _APK, *debian.OS_RELEASE}
_LOOK = "look into the image: docker create, docker export"


def list_image(image: str, address: str = LOCAL, *, seconds: float = 600, limit: int = 50 << 30) -> Listed:
    """Return the packages of an image that a Docker daemon has.

    :param seconds: for the whole image. :param limit: bytes of files that are looked through.
    """
    import docker  # type: ignore[import-untyped]

    try:
        api = docker.APIClient(base_url=address, version="auto", timeout=60)
    except (docker.errors.DockerException, OSError) as error:
        return _none(
            image, f"no Docker daemon answers at {address}: {_short(error)}", "start it, or correct its address"
        )
    with contextlib.closing(api):
        try:
            _remove_leftovers(api)
            with _container(api, image) as container:
                return read_tar(_timed(api.export(container, 1 << 20), seconds), image, limit)
        except docker.errors.ImageNotFound:
            return _none(image, "the Docker daemon does not have it", f"docker pull {shown(image)}")
        except (docker.errors.DockerException, OSError) as error:
            return _none(image, f"the Docker daemon refuses or went away: {_short(error)}", "look at its log")


def read_tar(chunks: Iterable[bytes], image: str, limit: int = 50 << 30) -> Listed:
    """Return the packages of an image whose files come as a tar."""
    found = _Files()
    try:
        with tarfile.open(fileobj=_Stream(chunks, limit), mode="r|", tarinfo=_Entry, bufsize=_BUFFER) as tar:
            for entry in tar:
                found.take(tar, entry)
                tar.members.clear()  # type: ignore[attr-defined]  # a stream cannot go back, and they would fill memory
    except (tarfile.TarError, UnreadableError, EOFError, OverflowError) as error:
        found.unlisted.append(Unlisted(where=image, reason=f"its files end early: {shown(error)}", hint=_LOOK))
    return _listed(found, image)


def _none(image: str, reason: str, hint: str) -> Listed:
    return Listed(unlisted=(Unlisted(where=f"image {shown(image)}", reason=reason, hint=hint),))


@contextlib.contextmanager
def _container(api: Any, image: str) -> Iterator[str]:
    """Create a container that is never started; remove it whatever happens, with the volumes of the image."""
    config = api.create_host_config(network_mode="none")
    made = api.create_container(
        image, entrypoint=["/never-started"], command=[], host_config=config, labels={LABEL: owner()}
    )["Id"]
    try:
        yield made
    finally:
        api.remove_container(made, force=True, v=True)


def _remove_leftovers(api: Any) -> None:
    """Remove containers of ours whose maker has died."""
    import docker

    for one in api.containers(all=True, filters={"label": [LABEL]}):
        if not lives(one["Labels"][LABEL]):
            with contextlib.suppress(docker.errors.APIError):  # another removes it at this moment
                api.remove_container(one["Id"], force=True, v=True)


def _timed(chunks: Iterable[bytes], seconds: float) -> Iterator[bytes]:
    ends = time.monotonic() + seconds
    for chunk in chunks:
        if time.monotonic() > ends:
            raise UnreadableError(f"reading it took longer than {seconds:g} s")
        yield chunk


class _Entry(tarfile.TarInfo):
    """An entry whose own header is bounded: tarfile would read one of any size into memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        headers = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, *_LONG_NAMES)
        if self.size < 0 or (self.type in headers and self.size > _HEADER_BYTES):
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]


_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class _Stream(io.RawIOBase):
    """Chunks as a file that can only be read on."""

    def __init__(self, chunks: Iterable[bytes], limit: int) -> None:
        self._chunks, self._left, self._limit = iter(chunks), limit, limit
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        parts, wanted = list[memoryview](), size
        while wanted > 0:
            if not self._rest and not self._next():
                break
            part, self._rest = self._rest[:wanted], self._rest[wanted:]
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)

    def _next(self) -> bool:
        chunk = next(self._chunks, b"")
        self._left -= len(chunk)
        if self._left < 0:
            raise UnreadableError(f"it is larger than {self._limit} bytes")
        self._rest = memoryview(chunk)
        return bool(chunk)


@dataclass
class _Files:
    """The few files of an image that name packages, by path."""

    kept: dict[str, bytes] = field(default_factory=dict)
    requested: set[str] = field(default_factory=set)
    unlisted: list[Unlisted] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    node: set[str] = field(default_factory=set)
    """Folders in whose `node_modules` packages lie."""

    def take(self, tar: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        path = entry.name.removeprefix("./").lstrip("/")
        if _RPM.fullmatch(path):
            self.others.append(path)
        if path.endswith("/package.json") and "/node_modules/" in f"/{path}" and len(self.node) < 10_000:
            self.node.add(f"/{path}".partition("/node_modules/")[0][1:])
        if path.endswith(".dist-info/REQUESTED"):
            self.requested.add(path.rpartition("/")[0])
        if not _names_packages(path) or entry.isdir():
            return
        if entry.islnk() and (same := entry.linkname.removeprefix("./").lstrip("/")) in self.kept:
            self.kept[path] = self.kept[same]
        elif entry.isreg():
            self._read(tar, entry, path)
        elif not (entry.issym() and path in debian.OS_RELEASE):
            self._refuse(path, "a link or a device, expected a file")

    def _read(self, tar: tarfile.TarFile, entry: tarfile.TarInfo, path: str) -> None:
        used = sum(map(len, self.kept.values())) if entry.size > 1 << 16 else 0
        if entry.size > _FILE_BYTES or used + entry.size > _KEPT_BYTES or len(self.kept) > 100_000:
            self._refuse(path, f"too large ({entry.size} bytes)")
            return
        file = tar.extractfile(entry)
        # The rest of a METADATA is prose.
        size = 1 << 16 if _PYTHON.fullmatch(path) else _FILE_BYTES
        self.kept[path] = file.read(size) if file else b""

    def _refuse(self, path: str, seen: str) -> None:
        self.unlisted.append(Unlisted(where=f"/{shown(path, 300)}", reason=f"it is {seen}", hint=_LOOK))


def _names_packages(path: str) -> bool:
    return (
        path in _SYSTEM
        or path.startswith(debian.STATUS_PARTS + "/")
        or path.rpartition("/")[2] in (*_LOCKS, _HIDDEN_LOCK)
        or _PYTHON.fullmatch(path) is not None
    )


def _listed(found: _Files, image: str) -> Listed:
    parts = [_system(found), *_python(found), *_npm(found)]
    unlisted = [*found.unlisted, *(one for part in parts for one in part.unlisted)]
    packages = [one for part in parts for one in part.packages]
    for path in found.others:
        reason = "the image is built of RPM packages, which are not read"
        unlisted.append(Unlisted(where=f"/{path}", reason=reason, hint="audit it with a scanner that knows RPM"))
    if not packages and not unlisted:
        reason = "it holds no list of packages: what its programs are made of is not known"
        unlisted.append(Unlisted(where="", reason=reason, hint="audit what it was built from"))
    name = shown(image)
    return Listed(
        packages=tuple(one.model_copy(update={"where": f"{name}:{one.where}"}) for one in packages),
        unlisted=bounded([one.model_copy(update={"where": f"image {name}:{one.where}"}) for one in unlisted], name),
    )


def _npm(found: _Files) -> Iterator[Listed]:
    """Yield what each lock names; where an image holds the installed packages alone, what npm has left among them."""
    locked = set[str]()
    for path, content in found.kept.items():
        folder, _, name = path.rpartition("/")
        # What a package brings along for its own development is installed nowhere.
        if name in _LOCKS and "node_modules/" not in path:
            locked.add(folder)
            yield npm.parse_lock(content, f"/{path}", None)
    for folder in sorted(found.node - locked):
        path = f"{folder}/node_modules/{_HIDDEN_LOCK}".removeprefix("/")
        if path in found.kept:
            yield _without_root(npm.parse_lock(found.kept[path], f"/{path}", None))
        # What lies below `lib` is npm itself and what it installed for everybody; Python packages bring pages along.
        elif not re.search(r"(^|/)lib$|-packages(/|$)", folder):
            reason = "packages of npm lie there, and no lock tells which"
            hint = "leave package-lock.json in the image, or audit the lock that it is built by as a target of its own"
            yield Listed(unlisted=(Unlisted(where=f"/{shown(folder, 300)}", reason=reason, hint=hint),))


def _without_root(listed: Listed) -> Listed:
    """Return packages of which nobody can tell who asked for them."""
    return listed.model_copy(
        update={"packages": tuple(one.model_copy(update={"direct": None}) for one in listed.packages)}
    )


def _system(found: _Files) -> Listed:
    """Return the packages of the image's distribution."""
    kept = found.kept
    lists = [path for path in kept if path in (debian.STATUS, _APK) or path.startswith(debian.STATUS_PARTS + "/")]
    lists = [path for path in lists if not path.endswith(".md5sums")]
    if not lists:
        return Listed()
    try:
        release = debian.release_of(next((kept[name] for name in debian.OS_RELEASE if name in kept), b""))
    except UnreadableError as error:
        return Listed(unlisted=(Unlisted(where=f"/{shown(lists[0])}", reason=str(error), hint=_LOOK),))
    states = debian.automatic_of(kept[debian.STATES]) if debian.STATES in kept else None
    parts = [
        debian.parse_apk(kept[path], release, f"/{path}")
        if path == _APK
        else debian.parse_status(kept[path], release, f"/{shown(path)}", states)
        for path in lists
    ]
    return Listed(
        packages=tuple(one for part in parts for one in part.packages),
        unlisted=tuple(one for part in parts for one in part.unlisted),
    )


def _python(found: _Files) -> Iterator[Listed]:
    for path, content in found.kept.items():
        # A cache of downloads is not installed.
        if _PYTHON.fullmatch(path) and "/.cache/" not in f"/{path}":
            folder = path.rpartition("/")[0]
            direct = folder in found.requested if found.requested else None
            yield _distribution(content, path, direct)


def _distribution(content: bytes, path: str, direct: bool | None) -> Listed:
    head = BytesHeaderParser().parsebytes(content)
    name, version, where = (
        str(head.get("Name", "")).strip(),
        str(head.get("Version", "")).strip(),
        f"/{shown(path, 300)}",
    )
    if not _PYTHON_NAME.fullmatch(name) or not is_version("PyPI", version):
        reason = f"{shown(name, 60)!r} in version {shown(version, 60)!r} is no distribution"
        return Listed(unlisted=(Unlisted(where=where, reason=reason, hint=_LOOK),))
    normal = re.sub(r"[-_.]+", "-", name).lower()  # PEP 503
    return Listed(packages=(Package(ecosystem="PyPI", name=normal, version=version, where=where, direct=direct),))


def _short(error: BaseException) -> str:
    return shown(" ".join(str(getattr(error, "explanation", None) or error).split()), 300)
