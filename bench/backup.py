"""Our backup against `pg_dump | gzip` and against a bare parallel dump, to the same store: `python -m bench.backup`.

In turn, so that a busy machine is busy for all of them:

- *gzip*: `pg_dump | gzip > file`, then the file is uploaded: the shipped default of most scripts;
- *bare*: `pg_dump --format=directory` with our jobs and compression, then its files are uploaded: no proof of anything;
- *ours*: the same dump with fingerprints of every row, SHA-256 of every file, manifest, roles.

`BENCH_GB` (1.0) is the size of the database, `BENCH_ROUNDS` (2) how often each is run, `BENCH_LEVEL` (7) and
`BENCH_LONG` (1) the compression of the two dumps; the best of each counts. Server, store and all of them share the
cores.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lab.postgres import PostgresServer
from lab.process import scratch_folder
from lab.servers import ObjectStoreServer

BUCKET = "bench"
GB = float(os.environ.get("BENCH_GB", "1.0"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "2"))
JOBS, LEVEL, LONG = 2, int(os.environ.get("BENCH_LEVEL", "7")), os.environ.get("BENCH_LONG") != "0"
# Rows per GB of database, indexes included.
SALES, AUDITS, NOTES, ACCOUNTS, SMALL = 2_400_000, 750_000, 350_000, 1_100_000, 50

# Like the tables of an application with UUIDs as keys: numbers and references, an audit log of JSON (people, sessions
# and records come again and again, some of them often), prose (a vocabulary of 4,096 words in a Zipf-like
# distribution), pgbench's accounts, and many small tables.
TABLES = (
    """create function u(i bigint, salt int) returns float8 immutable parallel safe language sql
       return (hashint8extended(i, salt) & 4294967295) / 4294967296.0""",
    """create table word as select i as id, (array['ba','con','de','el','fi','gra','ho','in'])[1 + i % 8]
              || (array['la','mer','ni','or','pu','ra','so','ter'])[1 + i / 8 % 8]
              || (array['','na','tion','ly','ment','s','ing','ed'])[1 + i / 64 % 8]
              || (array['','al','ive','ous','er','or','ic','y'])[1 + i / 512 % 8] as word
         from generate_series(0, 4095) as i""",
    "alter table word add primary key (id)",
    """create table sale as select i as id, md5((20000 * u(i, 1) ^ 2)::int::text)::uuid as customer,
              (900 * u(i, 2) ^ 3)::numeric(10, 2) as amount, 'item ' || (2000 * u(i, 4) ^ 2)::int as item,
              timestamptz '2026-01-01' + i * interval '7 s' + u(i, 3) * interval '7 s' as sold_at,
              (array['paid', 'open', 'void'])[1 + (3 * u(i, 5) ^ 4)::int] as state
         from generate_series(1, {sales}) as i""",
    """create table audit as select i as id, jsonb_build_object(
              'at', timestamptz '2026-01-01' + i * interval '20 s', 'actor', md5((700 * u(i, 1) ^ 2)::int::text)::uuid,
              'session', md5('s' || i / 25)::uuid, 'status', 200 + 4 * (i % 50), 'ms', (400 * u(i, 5) ^ 3)::int,
              'path', '/api/v1/' || (array['claims', 'policies', 'files'])[1 + i % 3]
              || '/' || md5((20000 * u(i, 2) ^ 2)::int::text)::uuid,
              'method', (array['GET', 'POST', 'PUT'])[1 + (2 * u(i, 3))::int],
              'agent', 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/' || (100 + 30 * u(i, 4))::int,
              'changes', jsonb_build_array(jsonb_build_object('field', 'status',
              'before', 'submitted', 'after', (array['approved', 'rejected'])[1 + i % 2]))) as entry
         from generate_series(1, {audits}) as i""",
    """create table note as select i as id, md5(i::text)::uuid as key, i % 90000 as about,
              (select string_agg(w.word, ' ' order by k) from generate_series(1, 40) as k
                 join word as w on w.id = floor(4096 ^ u(i * 64 + k, 7))::int - 1) as body
         from generate_series(1, {notes}) as i""",
    """create table account as select i as aid, 1 + i / 100000 as bid, (10000 * u(i, 1))::int as abalance,
              ''::char(84) as filler from generate_series(1, {accounts}) as i""",
    "alter table sale add primary key (id)",
    "alter table audit add primary key (id)",
    "alter table note add primary key (key)",
    "alter table account add primary key (aid)",
    "create index on sale (customer, sold_at)",
)


def fill(postgres: PostgresServer) -> int:
    """Make the database and return its size in bytes."""
    postgres.create_database("bench")
    rows = {"sales": SALES, "audits": AUDITS, "notes": NOTES, "accounts": ACCOUNTS}
    counts = {name: int(count * GB) for name, count in rows.items()}
    with postgres.connect("bench") as connection:
        for statement in TABLES:
            connection.execute(statement.format(**counts).encode())
        for number in range(SMALL):
            connection.execute(f"create table small_{number} as select generate_series(1, 1000) as n".encode())
        connection.execute("vacuum (analyze)")
        row = connection.execute("select pg_database_size('bench')").fetchone()
        assert row is not None
        return int(row[0])


def gzip(order: dict[str, Any], work: Path) -> int:
    """`pg_dump | gzip > file`, then upload; return the bytes stored."""
    path = work / "dump.sql.gz"
    with path.open("wb") as file:
        dump = subprocess.Popen([f"{order['programs']}/pg_dump", order["dsn"]], stdout=subprocess.PIPE)
        packed = subprocess.run(["gzip"], stdin=dump.stdout, stdout=file, check=False)
    assert dump.wait() == 0 and packed.returncode == 0
    client(order).upload_file(str(path), BUCKET, f"gzip/{time.time()}")
    return path.stat().st_size


def bare(order: dict[str, Any], work: Path) -> int:
    """A parallel dump with our settings, then upload; return the bytes stored."""
    method = f"zstd:level={LEVEL},long" if LONG else f"zstd:{LEVEL}"
    command = [f"{order['programs']}/pg_dump", "-Fd", f"-j{JOBS}", f"--compress={method}", "--no-sync"]
    subprocess.run([*command, "-f", str(work / "dump"), order["dsn"]], check=True)
    files = sorted((work / "dump").iterdir())
    s3, prefix = client(order), f"bare/{time.time()}"
    for path in files:
        s3.upload_file(str(path), BUCKET, f"{prefix}/{path.name}")
    return sum(path.stat().st_size for path in files)


def ours(order: dict[str, Any], work: Path) -> int:
    """Our backup; return the bytes stored."""
    from upkeep.adapters.archive import make_archiver
    from upkeep.adapters.object_store_s3 import S3Store
    from upkeep.core.backup import Database, Options, Place
    from upkeep.core.targets import StoreRef

    s3 = client(order)
    archive = make_archiver(lambda _: order["dsn"], lambda _: S3Store(s3, BUCKET, "ours"), work)
    place = Place(store=StoreRef(url=f"s3://{BUCKET}/ours", conn_id="store"), target="bench/db")
    options = Options(programs=order["programs"], jobs=JOBS, compression_level=LEVEL, long_window=LONG)
    kept = archive.backup(Database(conn_id="db"), place, options, "bench", lambda _: None)
    print(json.dumps(kept.manifest.seconds), file=sys.stderr)
    return kept.manifest.size_bytes


def client(order: dict[str, Any]) -> Any:
    """Return a client for the store."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3", endpoint_url=order["endpoint"], region_name="us-east-1", aws_access_key_id=order["key"],
        aws_secret_access_key=order["secret"], config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip


WAYS = {"gzip": gzip, "bare": bare, "ours": ours}


def one(order: dict[str, Any]) -> None:
    """In a process of its own: back up one way and print what it took."""
    work = Path(order["work"])
    client(order).head_bucket(Bucket=BUCKET)  # the imports and the first connection are nobody's merit
    import upkeep.adapters.archive  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    stored = WAYS[order["way"]](order, work)
    seconds = time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    programs = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(json.dumps({"seconds": seconds, "stored": stored, "before": before, "peak": peak, "programs": programs}))


def measure(order: dict[str, Any], way: str) -> dict[str, Any]:
    """Run one way in a fresh process."""
    work = Path(order["scratch"]) / way
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "bench.backup", "one"], input=json.dumps({**order, "way": way, "work": str(work)}),
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    shutil.rmtree(work)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def tell(best: dict[str, dict[str, Any]], size: int) -> None:
    """Print the figures and the ratios, with what they are meant to be."""
    print(f"\ndatabase {size / 1e9:.2f} GB, best of {ROUNDS}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for way, seen in best.items():
        print(
            f"  {way:5} {seen['seconds']:7.1f} s  {seen['stored'] / 1e6:8.1f} MB stored  "
            f"peak {seen['peak'] / 1024:5.0f} MiB (before it began {seen['before'] / 1024:.0f}), "
            f"programs {seen['programs'] / 1024:.0f} MiB"
        )
    ratios = {
        "time, ours / gzip": (best["ours"]["seconds"] / best["gzip"]["seconds"], 0.60),
        "size, ours / gzip": (best["ours"]["stored"] / best["gzip"]["stored"], 0.65),
        "proof, ours / bare - 1": (best["ours"]["seconds"] / best["bare"]["seconds"] - 1, 0.35),
    }
    for name, (ratio, aim) in ratios.items():
        print(f"  {name:23} {ratio:6.2f}  (aim <= {aim:.2f}: {'met' if ratio <= aim else 'NOT met'})")


def main() -> None:
    """Make the database, run every way in turn, print the ratios."""
    with scratch_folder() as folder:
        settings = {"shared_buffers": "256MB", "max_wal_size": "4GB"}
        with (
            PostgresServer(18, folder / "pg", settings=settings) as postgres,
            ObjectStoreServer(folder / "s3", buckets=[BUCKET]) as s3,
        ):
            size = fill(postgres)
            (folder / "scratch").mkdir()
            order = {
                "dsn": postgres.dsn("bench"), "programs": str(postgres.bin), "endpoint": s3.endpoint_url,
                "key": s3.access_key, "secret": s3.secret_key, "scratch": str(folder / "scratch"),
            }  # fmt: skip
            best: dict[str, dict[str, Any]] = {}
            for number in range(1, ROUNDS + 1):
                for way in WAYS:
                    seen = measure(order, way)
                    print(f"round {number} {way:5} {seen['seconds']:7.1f} s", flush=True)
                    if way not in best or seen["seconds"] < best[way]["seconds"]:
                        best[way] = seen
            tell(best, size)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one(json.load(sys.stdin))
    else:
        main()
