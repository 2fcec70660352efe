"""Settings of `database.settings_review`."""

from __future__ import annotations

import re
from typing import Annotated, Any

import pydantic
from pydantic import Field

from upkeep.core.model import Threshold
from upkeep.routines._looking import LookSettings

_NAME = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?")


def _words(values: Any) -> Any:
    """Write numbers and switches, which YAML reads as such, the way PostgreSQL does; names in lower case."""
    if not isinstance(values, dict):
        return values
    switch = {True: "on", False: "off"}
    return {
        str(name).lower(): switch[v] if isinstance(v, bool) else str(v) if isinstance(v, int | float) else v
        for name, v in values.items()
    }


def _names(values: dict[str, str]) -> dict[str, str]:
    for name in values:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a setting")
    return values


Expected = Annotated[dict[str, str], pydantic.BeforeValidator(_words), pydantic.AfterValidator(_names)]


class Settings(LookSettings):
    """What a system wants of its server, and from where on a value is worth a word."""

    top: int = Field(10, ge=1, le=100, description="how many tables of a kind are named")
    most: int = Field(500, ge=1, le=5000, description="how many tables are asked for, largest first")

    expected: Expected = Field(
        {}, description="values that this system wants, by setting (`autovacuum_vacuum_scale_factor: 0.1`, MO-B04)"
    )
    memory_gb: float | None = Field(
        None, gt=0, description="GB of memory of the server; SQL cannot see it, so without it little is said of memory"
    )
    small_buffers_bytes: int = Field(
        4 * 2**30, ge=0, description="bytes of a database from which on shared_buffers of 128 MB or less is told (ours)"
    )
    work_mem_share: Threshold = Field(
        Threshold(info=50), description="percent of memory that all connections may take with one work_mem each (ours)"
    )
    maintenance_share: Threshold = Field(
        Threshold(info=25), description="percent of memory that all autovacuum workers may take together (ours)"
    )
    trigger_rows: int = Field(
        20_000_000, ge=1, description="dead rows that a table gathers before autovacuum comes (ours; 18 caps at 100 M)"
    )
    tables_per_worker: int = Field(
        5000, ge=1, description="tables for each autovacuum worker, from which on more workers are proposed (ours)"
    )
    vacuum_rate: Threshold = Field(
        Threshold(info=8, direction="below"),
        description="MB/s that all autovacuum workers together may dirty (ours; the defaults allow 40, before 12: 4)",
    )
    checkpoints_asked: Threshold = Field(
        Threshold(info=50), description="percent of the checkpoints since the last run that were not due by time (ours)"
    )
    checkpoints_least: int = Field(20, ge=1, description="checkpoints since the last run below which nothing is said")
