"""The releases of a package, as an index of Python packages or an npm registry tells them.

Formats: PEP 691 (JSON) with the upload times of PEP 700 and the withdrawn files of PEP 592; PEP 503 (HTML) where an
index knows no other; npm's packument (https://github.com/npm/registry/blob/main/docs/responses/package-metadata.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import quote

from upkeep.adapters._package_text import UnreadableError, json_object, shown
from upkeep.adapters.http import Client
from upkeep.core.http import Cause, NoReply, Reply, Request

_LIMIT_BYTES = 128 << 20


class AwayError(Exception):
    """The index itself cannot be reached: asking it for more packages is of no use."""


class SlowError(Exception):
    """The answer did not come, or not all of it."""


class Release(NamedTuple):
    """A release that could be installed here, unless it was withdrawn."""

    version: str
    at: datetime | None
    pre: bool
    withdrawn: str


def python_releases(client: Client, name: str, python: str, timeout: float) -> list[Release] | None:
    """Return the releases of a package that run on a Python; None when the index does not have the package.

    :raises UnreadableError: the answer cannot be read. :raises AwayError: there was none, nor will be.
    :raises SlowError: it did not come whole.
    """
    reply = _get(client, f"/{quote(name, safe='')}/", timeout)
    if reply is None:
        return None
    kind = reply.headers.get("content-type", "")
    files = list(_html_files(reply.body) if "html" in kind else _json_files(reply.body))
    if not files:
        raise UnreadableError("it names no file of the package")
    return _python_releases(files, name, python)


def python_hashes(client: Client, name: str, version: str, timeout: float) -> list[str]:
    """Return the SHA-256 of every file of a version; nothing when the index does not give all of them.

    :raises UnreadableError: the answer cannot be read. :raises AwayError: there was none. :raises SlowError: as above.
    """
    from packaging.version import Version

    reply = _get(client, f"/{quote(name, safe='')}/", timeout)
    if reply is None or "html" in reply.headers.get("content-type", ""):
        return []
    files = json_object(reply.body).get("files")
    ours = [
        one
        for one in (files if isinstance(files, list) else ())
        if isinstance(one, dict) and _version_of(str(one.get("filename")), name) == Version(version)
    ]
    hashes = [one["hashes"].get("sha256") for one in ours if isinstance(one.get("hashes"), dict)]
    known = [one for one in hashes if isinstance(one, str) and re.fullmatch(r"[0-9a-f]{64}", one)]
    return known if len(known) == len(ours) else []


def npm_releases(client: Client, name: str, timeout: float) -> tuple[list[Release], str] | None:
    """Return the releases of a package and what its makers call the latest; None when the registry has no such package.

    :raises UnreadableError: the answer cannot be read. :raises AwayError: there was none, nor will be.
    :raises SlowError: it did not come whole.
    """
    reply = _get(client, "/" + quote(name, safe="@"), timeout)
    if reply is None:
        return None
    found = json_object(reply.body)
    versions, times, tags = (_mapping(found, key) for key in ("versions", "time", "dist-tags"))
    if not versions:
        raise UnreadableError("it names no version of the package")
    releases = [
        Release(version, _moment(times.get(version)), "-" in version.partition("+")[0], _deprecated(entry))
        for version, entry in versions.items()
    ]
    return releases, str(tags.get("latest", ""))


def _get(client: Client, path: str, timeout: float) -> Reply | None:
    reply = client.ask(Request(path=path, timeout=timeout, limit_bytes=_LIMIT_BYTES, follow_redirects=True))
    if isinstance(reply, NoReply):
        raise (SlowError if reply.cause in (Cause.TIMEOUT, Cause.CUT) else AwayError)(reply.detail)
    if reply.status in (404, 410):
        return None
    if reply.status in (401, 403, 407) or reply.status >= 500:
        raise AwayError(f"it answers with status {reply.status}")
    if reply.status != 200:
        raise UnreadableError(f"it answers with status {reply.status}")
    if reply.truncated:
        raise UnreadableError(f"the answer is larger than {_LIMIT_BYTES >> 20} MiB")
    return reply


def _mapping(found: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = found.get(key) or {}
    if not isinstance(value, dict):
        raise UnreadableError(f"`{key}` is a {type(value).__name__}, expected an object")
    return value


def _deprecated(entry: Any) -> str:
    said = entry.get("deprecated") if isinstance(entry, dict) else None
    return shown(said or "deprecated", 200) if said else ""


class _File(NamedTuple):
    """A file of a release, as an index tells it."""

    name: str
    at: datetime | None
    python: str
    yanked: str


def _json_files(body: bytes) -> Iterator[_File]:
    files = json_object(body).get("files")
    if not isinstance(files, list):
        raise UnreadableError("it is no answer by PEP 691: there is no list `files`")
    for one in files:
        if isinstance(one, dict) and isinstance(one.get("filename"), str):
            yanked = one.get("yanked")
            why = shown(yanked if isinstance(yanked, str) else "no reason given", 200) if yanked else ""
            yield _File(one["filename"], _moment(one.get("upload-time")), str(one.get("requires-python") or ""), why)


class _Anchors(HTMLParser):
    """The links of a page by PEP 503."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append(dict(attrs))


def _html_files(body: bytes) -> Iterator[_File]:
    parser = _Anchors()
    parser.feed(body.decode(errors="replace"))
    for one in parser.found:
        name = (one.get("href") or "").partition("#")[0].rpartition("/")[2]
        why = (one.get("data-yanked") or "no reason given") if "data-yanked" in one else ""
        yield _File(name, None, one.get("data-requires-python") or "", shown(why, 200))


def _python_releases(files: list[_File], name: str, python: str) -> list[Release]:
    """Gather files into releases: one is withdrawn when all its files are, and as old as the first of them."""
    from packaging.version import Version

    by_version: dict[Version, list[_File]] = {}
    for file in files:
        version = _version_of(file.name, name)
        if version is not None and _runs_on(file.python, python):
            by_version.setdefault(version, []).append(file)
    return [
        Release(
            str(version),
            min((f.at for f in same if f.at), default=None),
            version.is_prerelease,
            same[0].yanked if all(f.yanked for f in same) else "",
        )
        for version, same in by_version.items()
    ]


def _version_of(filename: str, name: str) -> Any:
    """Return the version in a file's name; None when it is no wheel and no source archive of this package."""
    from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
    from packaging.version import InvalidVersion

    try:
        if filename.endswith(".whl"):
            found, version, *_ = parse_wheel_filename(filename)
        else:
            found, version = parse_sdist_filename(re.sub(r"\.(tar\.bz2|tgz)$", ".tar.gz", filename))
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion, ValueError):
        return None
    return version if found == name else None


def _runs_on(requires: str, python: str) -> bool:
    """Tell whether a file says that it runs on a Python; what says nothing readable is taken to run, as pip does."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return not requires or SpecifierSet(requires).contains(python, prereleases=True)
    except InvalidSpecifier:
        return True


def _moment(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found and found.tzinfo is None else found


__all__ = ["AwayError", "Release", "SlowError", "npm_releases", "python_hashes", "python_releases"]
