"""What looking costs: every health and review routine on a database with 10,000 tables: `python -m bench.health`.

Each routine observes and judges as a task does, without changing anything. `pg_stat_statements` on the server says how
long its statements ran there, the session how many round trips it made. `BENCH_TABLES` (10000) tables with two indexes
each; `BENCH_MAJOR` (18) is the server. Aims: 2 s of server time for all together, 5 round trips for each (the health
routine is asked for one `SELECT 1`: each further one is a round trip on purpose, since that is what it measures).
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from lab.postgres import PostgresServer
from lab.process import scratch_folder

TABLES = int(os.environ.get("BENCH_TABLES", "10000"))
MAJOR = int(os.environ.get("BENCH_MAJOR", "18"))
SECONDS, ROUND_TRIPS = 2.0, 5
ROUTINES = (
    "database.health",
    "database.vacuum",
    "database.analyze",
    "database.reindex",
    "database.index_review",
    "database.slow_queries",
    "database.settings_review",
    "capacity.database",
)

GIVEN: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {"database.health": (("bench", {"query_tries": 1}),)}


def fill(postgres: PostgresServer) -> None:
    """Make the tables, analyzed, with foreign keys, rows and statistics."""
    postgres.create_role("keeper", member_of=("pg_monitor", "pg_read_all_data"))
    postgres.create_database("bench", "keeper")
    with postgres.connect("bench") as connection:
        connection.execute("create extension pg_stat_statements; create extension pgstattuple")
    with postgres.connect("bench", "keeper") as connection:
        connection.execute("create table parent (id int primary key); insert into parent select generate_series(1, 50)")
        for first in range(0, TABLES, 250):
            connection.execute(
                f"""do $$ begin for n in {first} .. {min(first + 250, TABLES) - 1} loop
                    execute format('create table app_%s (id serial primary key, parent int references parent,
                                      note text)', n);
                    execute format('insert into app_%s (parent, note) select g, md5(g::text)
                                      from generate_series(1, 50) as g', n);
                    execute format('create index on app_%s (parent)', n);
                end loop; end $$""".encode()
            )
        connection.execute("vacuum (analyze)")


def observe(postgres: PostgresServer, name: str) -> tuple[float, float, int, int]:
    """Observe and judge once; return server seconds, seconds in all, round trips and statements."""
    from upkeep.adapters import postgres as adapter
    from upkeep.adapters import volume, workbench
    from upkeep.core.cadence import Window
    from upkeep.core.job import Job
    from upkeep.core.routine import Routine
    from upkeep.core.targets import PostgresTarget

    trips = 0

    def counted(opener: Any) -> Any:
        @contextmanager
        def opened(*given: Any, **options: Any) -> Any:
            nonlocal trips
            with opener(*given, **options) as session:
                try:
                    yield session
                finally:
                    trips += session.round_trips

        return opened

    dsn = postgres.dsn("bench", "keeper")
    none: Any = SimpleNamespace(last=lambda *_: None, latest=lambda *_: {}, series=lambda *_, **__: [])
    tools: Any = SimpleNamespace(
        postgres=counted(adapter.opener(lambda _: dsn)), workbench=counted(workbench.opener(lambda _: dsn)),
        disk=volume.disk, history=none, now=lambda: datetime.now(UTC), log=logging.getLogger("bench"),
    )  # fmt: skip
    routine, now = Routine.load(f"upkeep.routines.{name}"), datetime.now(UTC)
    job: Job[Any, Any] = Job(
        routine=name, target=PostgresTarget(conn_id="db", id="bench/db"),
        system=SimpleNamespace(name="bench"), settings=routine.resolve_settings(*GIVEN.get(name, ())),  # type: ignore[arg-type]
        window=Window(start=now, end=now), run_id="bench", try_number=1, tools=tools,
    )  # fmt: skip
    with postgres.connect("bench") as admin:
        admin.execute("select pg_stat_statements_reset()")
        begun = time.monotonic()
        seen = routine.observe(job)
        routine.judge(job, seen)
        routine.plan(job, seen)
        seconds = time.monotonic() - begun
        row = admin.execute(
            "select coalesce(sum(total_exec_time + total_plan_time), 0) / 1000, coalesce(sum(calls), 0)"
            " from pg_stat_statements where userid = 'keeper'::regrole"
        ).fetchone()
        assert row is not None
    return float(row[0]), seconds, trips, int(row[1])


def main() -> None:
    """Make the database, observe with every routine, print what it took."""
    settings: dict[str, str | int] = {
        "shared_buffers": "512MB", "autovacuum": "off", "max_locks_per_transaction": 1024, "max_wal_size": "4GB",
        "pg_stat_statements.track_planning": "on",
    }  # fmt: skip
    with scratch_folder() as folder, PostgresServer(MAJOR, folder / "pg", settings=settings) as postgres:
        fill(postgres)
        total, worst = 0.0, 0
        print(f"PostgreSQL {MAJOR}, {TABLES} tables, load {os.getloadavg()[0]:.1f}")
        for name in ROUTINES:
            observe(postgres, name)  # the first reads the catalogues into the buffers
            server, seconds, trips, statements = observe(postgres, name)
            total, worst = total + server, max(worst, trips)
            print(
                f"  {name:26} {server * 1000:8.0f} ms on the server  {seconds * 1000:8.0f} ms in all  "
                f"{trips:2} round trips  {statements:3} statements",
                flush=True,
            )
        verdict = "met" if total <= SECONDS else "NOT met"
        print(f"  all together {total:.2f} s on the server  (aim <= {SECONDS}: {verdict})")
        print(f"  most round trips {worst}  (aim <= {ROUND_TRIPS}: {'met' if worst <= ROUND_TRIPS else 'NOT met'})")


if __name__ == "__main__":
    main()
