"""The files of a model: which there are, their hashes, and what the metadata file says of them.

No symbolic link is followed below the model's folder: whoever may write there must not make this read, copy or
overwrite what lies elsewhere. Nothing is loaded here, only read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from upkeep.adapters import tree_scan
from upkeep.adapters.model_files_metadata import understood
from upkeep.core.errors import ConfigurationError
from upkeep.core.model_health import FilesSeen, Metadata, ModelFile
from upkeep.core.targets import ModelTarget
from upkeep.core.tree import FileSet

VERSIONS, REFERENCE = "versions", "reference"
"""Folders beside the model's files that hold their dated copies, and the reference profiles of its data."""
_USUAL_METADATA = ("model_metadata.json", "metadata.json")
_METADATA_BYTES, _JSON_BYTES = 8 << 20, 64 << 20


def look(target: ModelTarget) -> FilesSeen:
    """Return the files of a model with their hashes, and its metadata.

    :raises ConfigurationError: the folder or a glob cannot be one.
    """
    folder = target.path.rstrip("/") or "/"
    if not Path(folder).is_absolute():
        raise ConfigurationError(f"{target.id}: path {target.path!r} is relative", "write an absolute path")
    if not Path(folder).is_dir():
        reason = "there is no such folder" if not Path(folder).exists() else "it is no folder"
        return FilesSeen(folder, (), Metadata(error=reason), target.files, {".": reason})
    names, absent, refused = _names(folder, target)
    files: dict[str, ModelFile] = {}
    for name in names:
        try:
            files[name] = read(folder, name)
        except OSError as error:
            refused[name] = error.strerror or str(error)
    metadata = _metadata(folder, target.metadata)
    return FilesSeen(folder, tuple(files.values()), metadata, tuple(absent), refused, _broken(folder, files.values()))


def read(folder: str, name: str) -> ModelFile:
    """Read a file and return its size, hash and time.

    :raises OSError: it cannot be read, is a link, or somebody writes to it at this moment.
    """
    with tree_scan.opened(folder, name, os.O_RDONLY | os.O_NONBLOCK) as handle:
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(0, "is no regular file")
        with os.fdopen(os.dup(handle), "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(handle)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise OSError(0, "is being written at this moment")
    return ModelFile(name, after.st_size, sha256, datetime.fromtimestamp(after.st_mtime, UTC))


def _names(folder: str, target: ModelTarget) -> tuple[list[str], list[str], dict[str, str]]:
    """Return the names that are chosen, the globs that choose nothing, and the links among what is chosen."""
    names, absent, refused = dict[str, None](), list[str](), dict[str, str]()
    above = _literal(folder)
    kept = [f"{above}/{own}/**" for own in (VERSIONS, REFERENCE)]
    if target.profile and target.profile.startswith(folder + "/"):
        kept.append(f"{_literal(target.profile.rstrip('/'))}/**")
    for glob in target.files or ("*",):
        found = tree_scan.scan(FileSet(paths=(f"{above}/{glob}",), exclude=tuple(kept)))
        hits = [one for one in found.found if not stat.S_ISDIR(one.stat.st_mode)]
        absent += [] if hits else [glob]
        for hit in hits:
            name = os.path.relpath(f"{hit.root}/{hit.path}", folder)
            if not target.files and name.startswith("."):
                continue
            if stat.S_ISLNK(hit.stat.st_mode):
                refused[name] = "is a symbolic link, which is not followed"
            else:
                names[name] = None
        refused |= dict.fromkeys(found.unreadable, "cannot be read")
    return list(names), absent, refused


def _literal(path: str) -> str:
    """Write a path as a glob that means only itself."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def _broken(folder: str, files: Iterable[ModelFile]) -> dict[str, str]:
    """Return the JSON files that are none, and why; larger ones than can be read at once are passed over."""
    broken = {}
    for one in files:
        if one.name.lower().endswith(".json") and one.size <= _JSON_BYTES:
            try:
                with tree_scan.opened(folder, one.name, os.O_RDONLY) as handle, os.fdopen(os.dup(handle), "rb") as file:
                    json.load(file)
            except (ValueError, RecursionError) as error:
                broken[one.name] = str(error)[:120]
            except OSError as error:
                broken[one.name] = error.strerror or str(error)
    return broken


def _metadata(folder: str, named: str | None) -> Metadata:
    """Read the metadata file: the one that is named, else one with a usual name."""
    for name in (named,) if named else _USUAL_METADATA:
        try:
            with tree_scan.opened(folder, name, os.O_RDONLY | os.O_NONBLOCK) as handle:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    return Metadata(name=name, error="it is no regular file")
                with os.fdopen(os.dup(handle), "rb") as file:
                    data = file.read(_METADATA_BYTES + 1)
        except FileNotFoundError:
            continue
        except OSError as error:
            return Metadata(name=name, error=error.strerror or str(error))
        if len(data) > _METADATA_BYTES:
            return Metadata(name=name, error=f"it is larger than {_METADATA_BYTES} bytes")
        return understood(data, name)
    return Metadata(name=named or "", error="it is missing")
