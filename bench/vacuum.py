"""Our vacuum against `vacuumdb --all --analyze --jobs=2`, on one database in turn: `python -m bench.vacuum`.

2,000 tables (`BENCH_TABLES`) of 2,000 rows (`BENCH_ROWS`): 0.3 MB with indexes and 1.5 ms of work for the server. The
less a table takes, the more what we record of it weighs. Two cases: a few per cent of the tables have a quarter of
their rows updated (`few`), or all of them have (`all`). Before each way the same updates are made anew, so both find
the same dead rows. Ours runs as a task does: through the lifecycle, with two lanes, cost limits as shipped and a ledger
on a server of its own. Both servers wait for their disks (fsync), as they do where they are used. `BENCH_ROUNDS` (2) is
how often each is run; the best counts.

Printed: the dead rows that are left (`pgstattuple`, every table), seconds, WAL, blocks read from outside the server's
buffers and blocks touched, and the ratios.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lab.postgres import PostgresServer
from lab.process import scratch_folder

TABLES = int(os.environ.get("BENCH_TABLES", "2000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "2"))
ROWS = int(os.environ.get("BENCH_ROWS", "2000"))
CASES = {"few": (33, 0.30), "all": (1, 1.10)}  # every which table needs work, and the ratio of times aimed at

LOADED = ("psycopg", "upkeep.ledger.store", "upkeep.operators.lifecycle", "upkeep.routines.database.vacuum")


def fill(postgres: PostgresServer) -> None:
    """Make the tables, vacuumed and analyzed."""
    postgres.create_database("bench")
    with postgres.connect("bench") as connection:
        connection.execute("create extension pgstattuple")
        for first in range(0, TABLES, 100):
            connection.execute(
                f"""do $$ begin for n in {first} .. {min(first + 100, TABLES) - 1} loop
                    execute format('create table app_%s (id int primary key, state int, note text)', n);
                    execute format('insert into app_%s select g, 0, md5(g::text) || md5((g * 7)::text)
                                      from generate_series(1, {ROWS}) as g', n);
                    execute format('create index on app_%s (state)', n);
                end loop; end $$""".encode()
            )
        connection.execute("vacuum (analyze)")


def soil(postgres: PostgresServer, every: int) -> None:
    """Update a quarter of the rows of every so many tables."""
    with postgres.connect("bench") as connection:
        for first in range(0, TABLES, 100):
            connection.execute(
                f"""do $$ begin for n in {first} .. {min(first + 100, TABLES) - 1} loop
                    if n % {every} = 0 then
                        execute format('update app_%s set state = state + 1 where id %% 4 = 0', n);
                    end if; end loop; end $$""".encode()
            )
        # Counters arrive when a session has time for it; what was written goes to disk for nobody's account.
        connection.execute("select pg_stat_force_next_flush()")
        connection.execute("checkpoint")
    time.sleep(1.5)


def dead(postgres: PostgresServer) -> int:
    """Return the dead rows in all tables, counted by reading them."""
    with postgres.connect("bench") as connection:
        row = connection.execute(
            "select coalesce(sum((pgstattuple(oid)).dead_tuple_count), 0) from pg_class where relname ~ '^app_' and"
            " relkind = 'r'"
        ).fetchone()
        assert row is not None
        return int(row[0])


def counters(postgres: PostgresServer) -> dict[str, float]:
    """Return the server's position in the WAL and the blocks it has read and touched."""
    with postgres.connect("bench") as connection:
        row = connection.execute(
            "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0'), sum(reads), sum(reads) + sum(hits) from pg_stat_io"
            " where object = 'relation' and backend_type in ('client backend', 'background worker')"
        ).fetchone()
        assert row is not None
        return dict(zip(("wal", "read", "touched"), map(float, row), strict=True))


def vacuumdb(order: dict[str, Any]) -> None:
    """The peer."""
    command = [f"{order['programs']}/vacuumdb", "--all", "--analyze", "--jobs=2", "--quiet"]
    subprocess.run([*command, f"--maintenance-db={order['dsn']}"], check=True)


def ours(order: dict[str, Any]) -> None:
    """The routine, as a task runs it."""
    from upkeep.adapters import postgres, target_lock, volume, workbench
    from upkeep.core.cadence import Window
    from upkeep.core.job import Job, Tools
    from upkeep.core.routine import Routine
    from upkeep.core.targets import PostgresTarget
    from upkeep.ledger.events import RoutineKey
    from upkeep.ledger.spool import Spool
    from upkeep.ledger.store import Ledger, LedgerHistory
    from upkeep.operators.lifecycle import Lifecycle

    routine = Routine.load("upkeep.routines.database.vacuum")
    now = datetime.now(UTC)
    key = RoutineKey(dag_id="bench", run_id=now.isoformat(), routine=routine.name, target="bench/db", try_number=1)
    ledger = Ledger(lambda: order["ledger"], Spool(Path(order["spool"])))
    anything: Any = None
    tools = Tools(
        **dict.fromkeys(Tools.__dataclass_fields__, anything)
        | {
            "postgres": postgres.opener(lambda _: order["dsn"]),
            "workbench": workbench.opener(lambda _: order["dsn"]),
            "disk": volume.disk,
            "history": LedgerHistory(ledger, key),
            "now": lambda: datetime.now(UTC),
            "log": logging.getLogger("bench"),
        }
    )
    system: Any = type("System", (), {"name": "bench"})
    job: Job[Any, Any] = Job(
        routine=routine.name, target=PostgresTarget(conn_id="db", id="bench/db"), system=system,
        settings=routine.resolve_settings(("bench", order["settings"])), window=Window(start=now, end=now),
        run_id=key.run_id, try_number=1, tools=tools, until=now + timedelta(hours=5),
    )  # fmt: skip

    def alone() -> Any:
        return target_lock.hold(order["dsn"], database=None, application_name="bench", patience=10)

    print(Lifecycle(routine, job, key, ledger, dry_run=False, last_try=True, alone=alone).run(), file=sys.stderr)
    ledger.close()
    if ledger.spool:
        raise SystemExit("the ledger was away")


WAYS = {"vacuumdb": vacuumdb, "ours": ours}


def one(order: dict[str, Any]) -> None:
    """In a process of its own: work one way and print the seconds."""
    for name in LOADED:  # imports are nobody's merit: Airflow's task runner has most of them loaded, too
        importlib.import_module(name)
    begun = time.monotonic()
    WAYS[order["way"]](order)
    print(json.dumps(time.monotonic() - begun))


def measure(postgres: PostgresServer, order: dict[str, Any], way: str, every: int) -> dict[str, float]:
    """Make the same dead rows, clean them up one way, and return what that took."""
    soil(postgres, every)
    before, found = counters(postgres), dead(postgres)
    done = subprocess.run(
        [sys.executable, "-m", "bench.vacuum", "one"], input=json.dumps({**order, "way": way}),
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    after = counters(postgres)
    seen = {name: after[name] - before[name] for name in after}
    return seen | {"seconds": float(done.stdout.splitlines()[-1]), "found": found, "left": dead(postgres)}


def tell(case: str, best: dict[str, dict[str, float]]) -> None:
    """Print the figures and the ratios, with what they are meant to be."""
    every, aim = CASES[case]
    print(f"\n{case}: {-(-TABLES // every)} of {TABLES} tables need work; load {os.getloadavg()[0]:.1f}")
    for way, seen in best.items():
        print(
            f"  {way:9} {seen['seconds']:7.2f} s  dead rows {seen['found']:,.0f} -> {seen['left']:,.0f}  "
            f"WAL {seen['wal'] / 1e6:8.1f} MB  read {seen['read']:9,.0f} blocks  touched {seen['touched']:10,.0f}"
        )
    for name in ("seconds", "wal", "read", "touched"):
        ratio = best["ours"][name] / max(best["vacuumdb"][name], 1e-9)
        goal = f"  (aim <= {aim:.2f}: {'met' if ratio <= aim else 'NOT met'})" if name == "seconds" else ""
        print(f"  {name:8} ours / vacuumdb {ratio:6.2f}{goal}")
    same = best["ours"]["left"] <= best["vacuumdb"]["left"]
    print(f"  same dead rows gone: {'yes' if same else 'NO'}")


def main() -> None:
    """Make the database, run both ways in turn, print the ratios."""
    settings: dict[str, str | int] = {
        "shared_buffers": "128MB", "max_wal_size": "4GB", "autovacuum": "off", "max_locks_per_transaction": 256,
        "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
    }  # fmt: skip
    with (
        scratch_folder() as folder,
        PostgresServer(18, folder / "pg", settings=settings) as postgres,
        PostgresServer(18, folder / "ledger", settings={"fsync": "on", "synchronous_commit": "on"}) as ledger,
    ):
        fill(postgres)
        ledger.create_database("ledger")
        order = {
            "dsn": postgres.dsn("bench"), "ledger": ledger.dsn("ledger"), "programs": str(postgres.bin),
            "spool": str(folder / "spool"), "settings": json.loads(os.environ.get("BENCH_SETTINGS", "{}")),
        }  # fmt: skip
        for case, (every, _) in CASES.items():
            best: dict[str, dict[str, float]] = {}
            for number in range(1, ROUNDS + 1):
                for way in WAYS:
                    seen = measure(postgres, order, way, every)
                    print(f"{case} round {number} {way:9} {seen['seconds']:7.2f} s", flush=True)
                    if way not in best or seen["seconds"] < best[way]["seconds"]:
                        best[way] = seen
            tell(case, best)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one(json.load(sys.stdin))
    else:
        main()
