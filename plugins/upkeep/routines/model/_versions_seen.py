"""A model's files in service beside its dated copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from hashlib import sha256
from typing import Any, Literal

from upkeep.core.job import Job
from upkeep.core.model_health import FilesSeen, ModelVersion, NotKept, Trial


@dataclass(frozen=True)
class Seen:
    """What is in service, what is kept, and what a killed worker left."""

    files: FilesSeen
    kept: tuple[ModelVersion, ...]
    spoilt: Mapping[str, tuple[str, ...]]
    leftovers: tuple[str, ...]
    unfinished: str
    trial: Trial | NotKept | None
    busy: bool

    @property
    def current(self) -> dict[str, str]:
        """The files in service and their hashes."""
        return hashes(self.files)

    @property
    def in_service(self) -> ModelVersion | None:
        """The newest good copy of exactly what is in service."""
        return next((v for v in self.kept if v.files == self.current and v.name not in self.spoilt), None)

    @property
    def stable(self) -> ModelVersion | None:
        """The newest trusted copy of something else."""
        return next(
            (v for v in self.kept if v.approved and v.files != self.current and v.name not in self.spoilt), None
        )


def look(job: Job[Any, Any], check: int) -> Seen:
    """Read the files in service and the copies, of which the newest `check` are compared with their manifests."""
    models = job.tools.models
    files = models.files(job.target)
    folder = files.folder
    if "." in files.refused:
        return Seen(files, (), {}, (), "", None, False)
    kept = models.versions.kept(folder)
    spoilt = {v.name: bad for v in kept[:check] if (bad := models.versions.spoilt(folder, v))}
    note = models.retrainer.note(folder)
    busy = False
    if isinstance(note, Trial):
        with models.retrainer.held(folder) as mine:
            busy = not mine
    left = models.versions.leftovers(folder)
    return Seen(files, kept, spoilt, left, models.versions.unfinished(folder), note, busy)


def hashes(files: FilesSeen) -> dict[str, str]:
    """Return the files and their hashes."""
    return {file.name: file.sha256 for file in files.files}


def digest(files: Mapping[str, str]) -> str:
    """Return the hash of a set of files, name -> SHA-256, in twelve letters.

    >>> digest({"a": "0" * 64})
    'dac6a4afdb4f'
    """
    lines = "".join(f"{one}  {name}\n" for name, one in sorted(files.items()))
    return sha256(lines.encode()).hexdigest()[:12]


def vouched(files: FilesSeen) -> str:
    """Return by what files may be loaded; empty when a pickle's hash is not stated, or a stated one differs."""
    if any(files.stated(file) not in ("", file.sha256) for file in files.models):
        return ""
    pickles = [file for file in files.models if file.loadable]
    if not pickles:
        return "nothing in it runs"
    return "the metadata" if all(files.stated(file) for file in pickles) else ""


def fresh(
    job: Job[Any, Any], files: FilesSeen, origin: Literal["change", "retraining", "rollback"], approved: str = ""
) -> ModelVersion:
    """Return the version that a copy of some files would be."""
    named, now = hashes(files), job.tools.now().astimezone(UTC)
    return ModelVersion(
        name=f"{now:%Y%m%dT%H%M%SZ}-{digest(named)}",
        made=now,
        files=named,
        size=sum(file.size for file in files.files),
        origin=origin,
        approved=approved or vouched(files),
        version=files.metadata.version,
        run_id=job.run_id,
    )
