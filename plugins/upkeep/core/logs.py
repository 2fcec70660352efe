"""How log files are written, rotated and read."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import Field

from upkeep.core.fields import Path
from upkeep.core.model import Model

LogFormat = Literal["django", "python", "json", "combined", "combined_time", "access_json", "postgres", "plain"]
"""`combined_time` is nginx's or Apache's combined with the request time at the end, `access_json` one object a line."""


class Reopen(Model):
    """How the writer learns that its file was renamed. Nothing of it given: it opens the file for every line."""

    signal: Literal["HUP", "USR1", "USR2"] | None = Field(None, description="sent to the process in `pid_file`")
    pid_file: Path | None = None
    command: tuple[str, ...] = Field((), description="program with its arguments; no shell reads them")
    timeout: float = Field(30.0, gt=0, le=600, description="seconds within which the writer must write to the new file")

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> Reopen:
        if (self.signal is None) != (self.pid_file is None):
            raise ValueError("`signal` and `pid_file` belong together")
        if self.signal and self.command:
            raise ValueError("give `signal` with `pid_file`, or `command`, not both")
        return self


class Rotation(Model):
    """The policy for the live files of a log set. A file is rotated when it is over `size` or older than `age_days`."""

    live: tuple[Path, ...] = Field(min_length=1, description="files or globs that writers have open")
    folder: Path = Field(description="everything that is touched lies below this folder")
    size: pydantic.ByteSize | None = Field(None, description="rotate a file that is larger (`100 MB`)")
    age_days: float | None = Field(7, gt=0, description="rotate a file whose first line is older")
    compress_after_days: float = Field(7, ge=0)
    delete_after_days: float | None = Field(30, gt=0, description="None: never for its age")
    keep: int | None = Field(None, ge=1, description="rotated files of one log that stay at most; default: any number")
    reopen: Reopen = Reopen()
    copytruncate: bool = Field(
        False,
        description="copy and empty the file instead; lines written meanwhile are lost, and counted where possible",
    )

    @pydantic.model_validator(mode="after")
    def _sensible(self) -> Rotation:
        if self.size is None and self.age_days is None:
            raise ValueError("give `size`, `age_days` or both")
        if self.delete_after_days is not None and self.delete_after_days < self.compress_after_days:
            raise ValueError("`delete_after_days` is before `compress_after_days`")
        return self


class StrayFiles(Model):
    """Files that are found by pattern and age; they are deleted only below `folder`."""

    folder: Path
    patterns: tuple[str, ...] = Field(min_length=1, description="globs of names, relative to the folder (`test_*.db`)")
    older_than_days: float = Field(7, ge=0)
