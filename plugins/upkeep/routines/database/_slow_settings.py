"""Settings of `database.slow_queries`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from upkeep.core.model import Threshold
from upkeep.routines._looking import LookSettings


class Settings(LookSettings):
    """What counts as a slow statement, which statements are the application's, and how they are explained."""

    mean_time: Threshold = Field(
        Threshold(warning=1000),
        description="ms that a statement takes on average (CM-M05: > 1000 ms; CL-W03: > 100 ms; student: 50 ms)",
    )
    least_calls: int = Field(
        20, ge=1, description="calls since the last run below which an average says nothing (pganalyze: 50, by the day)"
    )
    top: int = Field(10, ge=1, le=100, description="how many statements are named, of each kind (CM-W03: top 10)")
    list_seconds: float = Field(
        60,
        ge=0,
        description="seconds that statements must take since the last run for a list of the heaviest to be of use",
    )
    keep: int = Field(
        200,
        ge=10,
        le=5000,
        description="statements whose counters are kept for the next run, by each of total, mean and I/O time",
    )
    ignore: tuple[str, ...] = Field(
        (
            "ALTER", "ANALYZE", "BEGIN", "CHECKPOINT", "CLUSTER", "COMMENT", "COMMIT", "COPY", "CREATE", "DEALLOCATE",
            "DISCARD", "DO", "DROP", "EXPLAIN", "GRANT", "LOAD", "LOCK", "REASSIGN", "REFRESH", "REINDEX", "RELEASE",
            "RESET", "REVOKE", "ROLLBACK", "SAVEPOINT", "SET", "SHOW", "START", "TRUNCATE", "VACUUM",
        ),
        description="beginnings of statements that are administration and no query of an application, in any case",
    )  # fmt: skip
    ignore_roles: tuple[str, ...] = Field((), description="roles whose statements are not the application's")
    own_role: bool = Field(
        False, description="judge the statements of the role that maintenance connects as, too: it is the application's"
    )
    plan: Literal["trusted", "always", "never"] = Field(
        "trusted",
        description="show plans. Planning runs stable and immutable functions with the rights of our role; `trusted`:"
        " only where superusers or our role wrote all functions (but for those in C)",
    )
    search_path: str = Field(
        "",
        max_length=1000,
        description="schemas in which the tables of statements are looked for; empty: what their role has set, else"
        ' "$user", public',
    )
    plan_lines: int = Field(10, ge=1, le=12, description="lines of a plan that are shown")
