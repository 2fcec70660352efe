"""Backups that are whole and yet not what they should be: too old, or of another database."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.faults_world import RUN, Bench
from upkeep.adapters import postgres, workbench
from upkeep.core.cadence import Window
from upkeep.core.job import Job
from upkeep.core.routine import Routine
from upkeep.core.targets import PostgresTarget


def routine_faults(world: Bench) -> Iterator[tuple[str, str, Path]]:
    """Yield each fault with what the routines say of it, and the folder that others may be asked about."""
    kept = Path(world.dump(True).location.removeprefix("file://"))
    yield "dump: whole, but ten days old", told(findings(world, "backup.verify", later=timedelta(days=10)), "age"), kept
    with world.postgres.connect() as connection:
        connection.execute("create database shop_of_last_year template shop")
    other = findings(world, "backup.postgres", database="shop_of_last_year")
    newest = max(path for path in kept.parent.iterdir() if path != kept)
    yield "dump: of another database with the same tables", told(other, "stale"), newest
    if found := findings(world, "backup.postgres"):
        raise SystemExit(f"false alarm on the right database: {found}")


def told(found: list[str], check: str) -> str:
    """Score what was found."""
    return f"yes ({check})" if check in found else f"no ({', '.join(found) or 'nothing'})"


def findings(world: Bench, name: str, *, later: timedelta = timedelta(0), database: str = "shop") -> list[str]:
    """Run a routine on the database, some time later or with a backup connection that leads elsewhere."""
    routine = Routine.load(f"upkeep.routines.{name}")
    now = datetime.now(UTC) + later
    tools: Any = SimpleNamespace(
        archive=world.archive(database=database),
        postgres=postgres.opener(lambda i: world.postgres.dsn(database if i == "db" else "shop")),
        workbench=workbench.opener(lambda _: world.postgres.dsn("shop")),
        catalogue=SimpleNamespace(reachable=False, entries=lambda *_: ()),
        history=SimpleNamespace(series=lambda *_, **__: [], last=lambda *_: None, latest=lambda *_: {}),
        now=lambda: now, log=logging.getLogger("bench"), scratch=world.scratch,
    )  # fmt: skip
    target = PostgresTarget(conn_id="db", id="shop/db", maintenance_conn_id="care", store=world.place("good").store)
    system: Any = SimpleNamespace(name="shop", store=None, rto=None, rpo=None)
    job: Job[Any, Any] = Job(
        routine=name, target=target, system=system, settings=routine.settings(programs=str(world.postgres.bin)),  # type: ignore[call-arg]
        window=Window(start=now - timedelta(days=1), end=now), run_id=RUN, try_number=1, tools=tools,
    )  # fmt: skip
    seen = routine.observe(job)
    said = routine.judge(job, seen)
    outcomes = tuple(routine.act(job, action) for action in routine.plan(job, seen).actions)
    said += routine.verify(job, seen, outcomes)
    every = [*said.findings, *(f for outcome in outcomes for f in outcome.findings)]
    return [f.check for f in every if f.severity.rank >= 2]
