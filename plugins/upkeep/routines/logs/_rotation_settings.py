"""Settings of `logs.rotation`; the policy itself (size, age, reopening) stands with the target in the system file."""

from __future__ import annotations

from pydantic import Field

from upkeep.core.model import Threshold
from upkeep.core.rotation import Program
from upkeep.core.routine import RoutineSettings


class Settings(RoutineSettings):
    """By what logs are rotated, and what of it is worth a finding."""

    program: Program = Field(
        "auto",
        description="`logrotate`: the system's program (>= 3.15) renames and makes the new file; `builtin`: ours does;"
        " `auto`: logrotate where it is installed and suits the log. Copying, compressing and deleting are always ours",
    )
    force: bool = Field(
        False, description="rotate every log that is not empty, due or not, also again in the same window (CM-L01)"
    )
    slack_minutes: float = Field(
        60, ge=0, le=1440, description="minutes by which a file may be younger than an age in the policy: a weekly run"
        " that begins some seconds earlier must not put everything off by a week (at most a twentieth of the age)",
    )  # fmt: skip
    compression_level: int = Field(6, ge=1, le=9, description="of gzip")
    quiet_minutes: float = Field(
        60, ge=0, le=10_080, description="minutes that nobody must have written to a rotated file before it is"
        " compressed, where there are processes that we cannot look into",
    )  # fmt: skip
    late_minutes: float = Field(
        5, ge=0, le=1440, description="minutes after the writer's time to reopen within which a rotated file may still"
        " be written to",
    )  # fmt: skip
    growth: Threshold = Field(
        Threshold(info=3, warning=20),
        description="how many times the size or age of the policy a live log has reached when rotation comes to it",
    )
