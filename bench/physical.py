"""Physical backups against Debian's pgBackRest, to a local folder both: `python -m bench.physical`.

- *full*: a cluster of PostgreSQL 15 (the newest that pgBackRest 2.45 knows well), copied by each in turn;
- *incremental*: after the same change, pgBackRest's on the 15 and ours on an 18 with the same data: native incremental
  backups begin with 17. Two servers, so this ratio is less exact than the first;
- *restore*: from the store to the first answer of a server that was started on the restored files.

pgBackRest runs with zstd and two processes, fast checkpoints, WAL archived by `archive_command` as it wants it; its
size counts the backup and the WAL that it needs. Ours is compressed by two threads, its WAL lies in it.

`BENCH_SCALE` (35) is the scale of pgbench's tables, `BENCH_GB` (0.5) the size of further tables like an application's
(see bench.backup), `BENCH_ROUNDS` (2) how often each is run, of which the best counts. Server, store and both programs
share the cores; `cpu` is the processor time of all of them, which a busy machine distorts less than seconds. Without
`pgbackrest` on the PATH only ours is measured, and it says so.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("BENCH_GB", "0.5")

import psutil

from bench import pgbackrest
from bench.backup import fill  # it reads BENCH_GB when it is imported
from bench.pgbackrest import PgBackRest
from lab.postgres import PostgresServer
from lab.process import scratch_folder
from upkeep.adapters.object_store import FolderStore
from upkeep.adapters.physical import make_physical
from upkeep.adapters.physical_restore import fetch_and_unpack
from upkeep.core.backup import Database, Place
from upkeep.core.physical import PhysicalOptions
from upkeep.core.targets import StoreRef

SCALE = os.environ.get("BENCH_SCALE", "35")
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "2"))
CHANGES = "4000"  # transactions of pgbench, by each of two clients, between full and incremental
MAJOR, NEWER = 15, 18
_SETTINGS = {"max_wal_size": "4GB", "shared_buffers": "256MB"}


class Ours:
    """Our backups of one server, in a folder."""

    name = "ours"

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        (folder / "scratch").mkdir(parents=True)
        self.store = FolderStore(folder / "store")
        self.place = Place(store=StoreRef(url=f"file://{folder}/store"), target="bench/db", kind="physical")
        self.maker = make_physical(lambda _: server.dsn("bench"), lambda _: self.store, folder / "scratch")
        self.last: str | None = None

    def backup(self, kind: str) -> int:
        """Make a backup and return the bytes stored for it."""
        parent = self.last if kind == "incr" else None
        options = PhysicalOptions(programs=str(self.server.bin), parent=parent, piece_bytes=64_000_000)
        kept = self.maker.backup(Database(conn_id="db"), self.place, options, "bench", lambda _: None)
        if kept.manifest.parent != parent:
            raise SystemExit(f"it should have been incremental: {kept.manifest.settings}")
        self.last = kept.manifest.id
        return kept.manifest.size_bytes

    def restore(self, folder: Path) -> None:
        """Bring the last one back as `folder/pgdata`."""
        work = folder / "work"
        work.mkdir()
        assert self.last is not None
        programs = str(self.server.bin)
        fetch_and_unpack(self.store, self.place, self.last, work, programs=programs, say=lambda _: None).rename(
            folder / "pgdata"
        )
        own(folder / "pgdata")


class Theirs:
    """pgBackRest's backups of one server, in a folder."""

    name = "pgbackrest"

    def __init__(self, server: PostgresServer, rest: PgBackRest) -> None:
        self.server, self.rest = server, rest
        rest.introduce(server)
        rest.run(server, "stanza-create")

    def backup(self, kind: str) -> int:
        """Make a backup and return the bytes of backup and WAL that it added to the repository."""
        before = size(self.rest.repository)
        self.rest.run(self.server, "backup", f"--type={kind}")
        return size(self.rest.repository) - before

    def restore(self, folder: Path) -> None:
        """Bring the last one back as `folder/pgdata`, to be recovered to where it is consistent."""
        (folder / "pgdata").mkdir(mode=0o700)
        own(folder / "pgdata")
        where = f"--pg1-path={folder}/pgdata"
        self.rest.run(self.server, "restore", where, "--type=immediate", "--target-action=promote")


Way = Ours | Theirs


def own(folder: Path) -> None:
    """Give files to the user that the lab's servers run as."""
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "nobody:nogroup", folder], check=True)


def size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def load(server: PostgresServer) -> int:
    """Make the data, and return the size of the cluster."""
    fill(server)
    subprocess.run([server.bin / "pgbench", "-iq", f"-s{SCALE}", server.dsn("bench")], check=True, capture_output=True)
    with server.connect("bench") as connection:
        connection.execute("checkpoint")
        row = connection.execute("select sum(pg_database_size(oid)) from pg_database").fetchone()
    assert row is not None
    return int(row[0])


def change(server: PostgresServer) -> None:
    """Change the data, each time in the same way."""
    command = [server.bin / "pgbench", "-n", "-c2", f"-t{CHANGES}", "--random-seed=2026", server.dsn("bench")]
    subprocess.run(command, check=True, capture_output=True)
    with server.connect("bench") as connection:
        connection.execute("vacuum pgbench_accounts")
        connection.execute("checkpoint")


def backup(way: Way, kind: str) -> dict[str, float]:
    """Make one backup and measure it."""
    begun, before = time.monotonic(), cpu(way.server)
    stored = way.backup(kind)
    return {"seconds": time.monotonic() - begun, "cpu": cpu(way.server) - before, "stored": stored}


def cpu(server: PostgresServer) -> float:
    """Return the seconds of processor time that we, our programs and the server's ended processes have taken."""
    ours = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    theirs = psutil.Process(server.pid).cpu_times()
    return sum(u.ru_utime + u.ru_stime for u in ours) + theirs.children_user + theirs.children_system


def restore(way: Way, folder: Path) -> dict[str, float]:
    """Restore the last backup into a new place, start a server there and ask it something."""
    target = folder / "restored"
    target.mkdir()
    target.chmod(0o755)
    shutil.copy(way.server.data_dir / "passwords.json", target)
    begun, before = time.monotonic(), cpu(way.server)
    way.restore(target)
    fetched, used = time.monotonic() - begun, cpu(way.server) - before
    options = {**_SETTINGS, "archive_mode": "off"}
    with PostgresServer(way.server.major, target, settings=options) as server, server.connect("bench") as connection:
        row = connection.execute("select count(*) from pgbench_branches").fetchone()
        seconds = time.monotonic() - begun
        assert row == (int(SCALE),), row
    shutil.rmtree(target)
    return {"seconds": seconds, "fetched": fetched, "cpu": used}


def best(ways: list[Way], act: Callable[[Way], dict[str, float]], title: str) -> dict[str, dict[str, float]]:
    """Let each way do something in turn, a few times; return the fastest of each."""
    found: dict[str, dict[str, float]] = {}
    for number in range(1, ROUNDS + 1):
        for way in ways:
            seen = act(way)
            told = "  ".join(f"{k} {v / 1e6:.1f} MB" if k == "stored" else f"{k} {v:.2f} s" for k, v in seen.items())
            print(f"{title:12} round {number} {way.name:10} {told}", flush=True)
            if way.name not in found or seen["seconds"] < found[way.name]["seconds"]:
                found[way.name] = seen
    return found


def tell(title: str, seen: dict[str, dict[str, float]], keys: tuple[str, ...], aim: float | None = 1.0) -> None:
    """Print the ratios."""
    for key in keys if len(seen) > 1 else ():
        ratio = seen["ours"][key] / seen["pgbackrest"][key]
        verdict = "" if aim is None or key == "cpu" else f"  (aim <= {aim:.2f}: {'met' if ratio <= aim else 'NOT met'})"
        print(f"  {title + ', ' + key:24} ours / pgbackrest {ratio:6.2f}{verdict}")


def incremental(older: Way | None, newer: Ours) -> dict[str, dict[str, float]]:
    """A full backup, the same change, then what it takes to keep the change."""
    found: dict[str, dict[str, float]] = {}
    for way in [newer, *([older] if older else [])]:
        way.backup("full")
        change(way.server)
        found[way.name] = backup(way, "incr")
        seen = found[way.name]
        print(f"incremental  {way.name:10} {seen['seconds']:.2f} s  {seen['stored'] / 1e6:.1f} MB", flush=True)
    return found


def main() -> None:
    """Measure and print."""
    there = pgbackrest.installed()
    command = [pgbackrest.PROGRAM, "version"]
    version = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() if there else ""
    print(version or "pgbackrest is NOT installed: only ours is measured, nothing is compared", flush=True)
    with scratch_folder() as folder:
        rest = PgBackRest(folder / "rest", "log-level-console=warn", "log-level-file=off") if there else None
        settings = {**_SETTINGS, **(rest.settings if rest else {})}
        with (
            PostgresServer(MAJOR, folder / "pg", settings=settings) as server,
            PostgresServer(NEWER, folder / "newer", settings={**_SETTINGS, "summarize_wal": "on"}) as newer,
        ):
            theirs = Theirs(server, rest) if rest else None
            total = load(server)
            load(newer)
            print(f"cluster of {total / 1e9:.2f} GB, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
            ours, ours_newer = Ours(server, folder / "ours"), Ours(newer, folder / "ours-newer")
            ways: list[Way] = [ours, *([theirs] if theirs else [])]
            full = best(ways, lambda way: backup(way, "full"), "full")
            back = best(ways, lambda way: restore(way, folder), "restore")
            changed = incremental(theirs, ours_newer)
            ways = [ours_newer, *([theirs] if theirs else [])]
            chain = best(ways, lambda way: restore(way, folder), "restore incr")
    print(f"\nbest of {ROUNDS}, load now {os.getloadavg()[0]:.1f}")
    tell("full", full, ("seconds", "cpu", "stored"))
    tell("full, first query", back, ("seconds", "cpu"))
    tell("incremental", changed, ("seconds", "cpu", "stored"), None)
    tell("incr, first query", chain, ("seconds", "cpu"), None)


if __name__ == "__main__":
    main()
