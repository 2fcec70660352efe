"""Which hash of a model file is known, and the limits of the process that may load such a file."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ByteSize, Field

from upkeep.core.model_health import Confined, FilesSeen, ModelFile, ModelVersion, Registered
from upkeep.core.routine import RoutineSettings


class ConfinedSettings(RoutineSettings):
    """The restricted process in which a model file is loaded."""

    python: str = Field("", description="interpreter with the model's libraries; default: the worker's own")
    load_seconds: float = Field(60, gt=0, le=3600, description="seconds for loading and what is done with it")
    load_memory: ByteSize = Field(ByteSize(4 << 30), ge=64 << 20, description="address space of the process, bytes")
    load_size: ByteSize = Field(ByteSize(1 << 30), ge=1, description="larger files are not loaded, bytes unpacked")
    allow: tuple[str, ...] = Field((), description="further classes that model files may name, in full: module.Class")

    def confined(self) -> Confined:
        """Return the limits as the restricted process takes them."""
        return Confined(
            python=self.python,
            seconds=self.load_seconds,
            memory_bytes=int(self.load_memory),
            max_bytes=int(self.load_size),
            allow=self.allow,
        )


def trusted(file: ModelFile, seen: FilesSeen, kept: Sequence[ModelVersion], registered: Registered | None) -> str:
    """Return by what a file's hash is known, empty when by nothing."""
    if seen.stated(file) == file.sha256:
        return "the metadata"
    if registered and registered.sha256 == file.sha256:
        return "the registry"
    return next((v.approved for v in kept if v.approved and v.files.get(file.name) == file.sha256), "")
