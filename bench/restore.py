"""Our restore test against a bare `pg_restore -j2` into a server tuned alike: `python -m bench.restore`.

- *bare*: the backup's files are copied out of the store, a fresh server is started, `pg_restore --jobs=2`, the server
  is removed. It shows that pg_restore ended with code 0, and nothing more.
- *ours*: the same, with SHA-256 of every file, row count and content hash of every table, sequences, large objects,
  pg_amcheck over every table and index, smoke questions. *proof* is ours without pg_amcheck.

`BENCH_GB` (1.0) is the size of the database, `BENCH_ROUNDS` (2) how often each is run, in turn; the best of each
counts. `BENCH_JOBS` (2). CPU is what this process, its programs and the scratch server took together: where others work
on the same machine, its ratio tells more than that of the times.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bench import backup as made
from lab.postgres import PostgresServer
from lab.process import scratch_folder
from upkeep.adapters.archive import make_archiver
from upkeep.adapters.object_store import FolderStore
from upkeep.adapters.restore_test import Restorer
from upkeep.adapters.scratch_cluster import Cluster, server_programs
from upkeep.adapters.scratch_place import scratch_place
from upkeep.core import backup, restore
from upkeep.core.backup import Kept, Manifest, Place
from upkeep.core.targets import Smoke, StoreRef

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "2"))
JOBS = int(os.environ.get("BENCH_JOBS", "2"))
AIM = 0.25


class Bench:
    """One backup of one database, restored again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.scratch = folder, folder / "scratch"
        self.scratch.mkdir()
        self.store = FolderStore(folder / "store")
        self.place = Place(store=StoreRef(url=f"file://{folder}/store"), target="bench/db")
        with PostgresServer(18, folder / "pg", settings={"shared_buffers": "256MB", "max_wal_size": "4GB"}) as postgres:
            self.size = made.fill(postgres)
            self.bin = str(postgres.bin)
            archive = make_archiver(lambda _: postgres.dsn("bench"), lambda _: self.store, self.scratch)
            options = backup.Options(programs=self.bin, jobs=JOBS)
            database = backup.Database(conn_id="db")
            self.kept: Kept[Manifest] = archive.backup(database, self.place, options, "bench", lambda _: None)
        shutil.rmtree(folder / "pg")  # the source's memory and disk are not part of this

    def bare(self) -> dict[str, float]:
        """Copy, start, pg_restore, remove; return seconds by phase."""
        begun = time.monotonic()
        with (
            scratch_place(self.scratch, "bench/db", "bare") as folder,
            Cluster(server_programs(180000, self.bin), folder) as cluster,
        ):
            shutil.copytree(self.store.folder / "bench/db" / self.kept.manifest.id, folder / "archive")
            copied = time.monotonic()
            cluster.create()
            cluster.start()
            with cluster.connect() as connection:
                connection.execute("create database bench template template0")
            started = time.monotonic()
            command = [f"{self.bin}/pg_restore", f"--jobs={JOBS}", "--no-owner", "--no-acl"]
            subprocess.run([*command, f"--dbname={cluster.conninfo('bench')}", str(folder / "archive")], check=True)
            restored = time.monotonic()
        ended = time.monotonic()
        parts = (copied - begun, started - copied, restored - started, ended - restored)
        return dict(zip(("fetch", "start", "restore", "remove"), parts, strict=True))

    def ours(self, *, amcheck: bool) -> dict[str, float]:
        """Return the phases of a restore test."""
        restorer = Restorer(lambda _: self.store, self.scratch)
        smoke = {"sales": Smoke(sql="select count(*) from sale", least=1)}
        options = restore.Options(programs=self.bin, jobs=JOBS, amcheck=amcheck, smoke=smoke)
        tested = restorer.test(self.place, self.kept.manifest.id, options, lambda _: None)
        assert tested.ok, tested
        return tested.phases


def cpu() -> float:
    """Return the CPU seconds of this process and of all its descendants that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Run both in turn and print the ratio."""
    with scratch_folder() as folder:
        bench = Bench(folder)
        ways: dict[str, Callable[[], dict[str, float]]] = {
            "bare": bench.bare,
            "proof": lambda: bench.ours(amcheck=False),
            "ours": lambda: bench.ours(amcheck=True),
        }
        best: dict[str, dict[str, float]] = {}
        spent: dict[str, float] = {}
        for number in range(1, ROUNDS + 1):
            for way, run in ways.items():
                before = cpu()
                seen = run()
                spent[way] = min(spent.get(way, float("inf")), cpu() - before)
                told = ", ".join(f"{name} {seconds:.1f}" for name, seconds in seen.items())
                print(f"round {number} {way:5} {sum(seen.values()):6.1f} s: {told}", flush=True)
                if way not in best or sum(seen.values()) < sum(best[way].values()):
                    best[way] = seen
        total = {way: sum(seen.values()) for way, seen in best.items()}
        print(f"\ndatabase {bench.size / 1e9:.2f} GB, {bench.kept.manifest.rows} rows, archive ", end="")
        print(f"{bench.kept.manifest.size_bytes / 1e6:.0f} MB, best of {ROUNDS}, load {os.getloadavg()[0]:.1f}")
        print(f"  fingerprints alone: {total['proof'] / total['bare'] - 1:+.2f}")
        print(f"  CPU: {', '.join(f'{way} {seconds:.1f} s' for way, seconds in spent.items())};", end="")
        print(f" overhead of ours {spent['ours'] / spent['bare'] - 1:+.2f}")
        over = total["ours"] / total["bare"] - 1
        print(f"  overhead of ours:   {over:+.2f}  (aim <= {AIM:.2f}: {'met' if over <= AIM else 'NOT met'})")


if __name__ == "__main__":
    main()
