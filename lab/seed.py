"""Believable data, made by the servers themselves, the same every time for the same scale and day."""

from __future__ import annotations

import hashlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import sql

from lab import scoring
from lab.systems import SYSTEMS, SampleSystem

if TYPE_CHECKING:
    import psycopg

    from lab.cache_server import RedisServer
    from lab.object_store import ObjectStoreServer
    from lab.postgres import PostgresServer

_SQL = Path(__file__).with_name("sql")
_TABLES = """
  SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2
"""


def seed_database(server: PostgresServer, system: SampleSystem, scale: float, today: date) -> bool:
    """Make and fill a system's database unless this very seed is in it; tell whether anything was done.

    The day does not count: data that are a week old are no reason to throw a database away.
    """
    _make_roles(server, system)
    mark = f"lab seed {_digest(system)} at scale {scale:g}"
    if _mark(server, system.database) == mark:
        with server.connect() as admin:
            _let_connect(admin, system)
        return False
    _drop(server, system.database)
    server.create_database(system.database, system.owner)
    with server.connect(system.database) as admin:
        admin.execute("CREATE EXTENSION pg_stat_statements; CREATE EXTENSION pgstattuple")
        _let_connect(admin, system)
    with server.connect(system.database, system.owner) as owner:
        _fill(owner, system, scale, today)
        _open_large_objects(owner, server.major, system)
        # Named tables: of the shared catalogues it would only say that they are not its own.
        for schema, table in owner.execute(_TABLES).fetchall():
            owner.execute(sql.SQL("VACUUM ANALYZE {}").format(sql.Identifier(schema, table)))
    with server.connect() as admin:
        admin.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(system.database), mark))
    return True


def seed_databases(servers: dict[str, PostgresServer], scale: float, today: date) -> None:
    """Fill the databases of all systems, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one: seed_database(servers[one.cluster], one, scale, today), SYSTEMS))


def fingerprint(connection: psycopg.Connection) -> dict[str, tuple[int, str]]:
    """Return row count and an order-independent hash of the rows as text, by table name, of what is seeded here."""
    # The number of a large object is the server's to choose.
    statement = (
        "SELECT count(*), coalesce(sum(hashtextextended((to_jsonb(t) - 'scan')::text, 0)), 0)::text FROM {} AS t"
    )
    found = {}
    for schema, table in connection.execute(_TABLES).fetchall():
        if table in scoring.TABLES.values():
            continue
        row = connection.execute(sql.SQL(statement).format(sql.Identifier(schema, table))).fetchone()
        assert row is not None
        found[f"{schema}.{table}"] = (int(row[0]), str(row[1]))
    return found


def seed_sqlite(path: Path, rows: int = 5000) -> None:
    """Make the student system's SQLite file unless it exists."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with closing(sqlite3.connect(fresh)) as db, db:
        db.executescript(_SQL.joinpath("mvp_data.sql").read_text())
        db.executemany("INSERT INTO students VALUES (?, ?, ?)", ((i, f"SC{i % 40:04}", i % 13) for i in range(1, rows)))
        db.executemany(
            "INSERT INTO predictions (student_id, probability, explanation, made_at) VALUES (?, ?, ?, ?)",
            (
                (i, i * 7919 % 1000 / 1000, f'{{"clicks": {i % 400}}}', f"2026-01-{i % 28 + 1:02}")
                for i in range(1, rows)
            ),
        )
    fresh.replace(path)


def seed_cache(cache: RedisServer) -> None:
    """Put sessions and cached answers into a cache and read them, so that its hit ratio is a healthy one."""
    with cache.client() as client:
        if client.exists("session:1"):
            return
        with client.pipeline(transaction=False) as pipe:
            for number in range(1, 201):
                pipe.set(f"session:{number}", f"user{number}", ex=14 * 86400)
                pipe.hset(f"cache:answer:{number}", mapping={"status": 200, "body": "x" * 200})
                pipe.get(f"session:{number}")
                pipe.hgetall(f"cache:answer:{number}")
            for number in range(201, 221):
                pipe.get(f"session:{number}")
            pipe.execute()


def seed_store(store: ObjectStoreServer, buckets: list[str], objects: int = 12) -> None:
    """Put a few files into the buckets of the systems."""
    client = store.client()
    for bucket in buckets:
        if client.list_objects_v2(Bucket=bucket, MaxKeys=1).get("KeyCount"):
            continue
        for number in range(objects):
            body = hashlib.sha256(f"{bucket}{number}".encode()).digest() * 500
            client.put_object(Bucket=bucket, Key=f"2026/{number:03}.bin", Body=body, ChecksumAlgorithm="SHA256")


def _make_roles(server: PostgresServer, system: SampleSystem) -> None:
    server.create_role(system.owner)
    # Reads everything, changes nothing; reaches this database only, since PUBLIC may not connect.
    server.create_role(system.keeper, member_of=("pg_monitor", "pg_read_all_data"))
    # Vacuum and REINDEX want the owner's rights (up to 16 no lesser ones will do), and to connect is one of them.
    server.create_role(system.carer, member_of=("pg_monitor", system.owner))
    if system.copied:
        server.create_role(system.copier, member_of=("pg_monitor",))
        with server.connect() as admin:
            admin.execute(sql.SQL("ALTER ROLE {} REPLICATION").format(sql.Identifier(system.copier)))


def _fill(owner: psycopg.Connection, system: SampleSystem, scale: float, today: date) -> None:
    owner.execute(
        "SELECT set_config('lab.scale', %s, false), set_config('lab.today', %s, false)", [f"{scale:g}", str(today)]
    )
    with owner.transaction():
        for name in ("helpers", system.name):
            owner.execute((_SQL / f"{name}.sql").read_bytes())


def _open_large_objects(owner: psycopg.Connection, major: int, system: SampleSystem) -> None:
    """Let the maintenance role dump large objects, which pg_read_all_data does not cover (up to PostgreSQL 18)."""
    keeper = sql.Identifier(system.keeper)
    for (number,) in owner.execute("SELECT oid FROM pg_largeobject_metadata").fetchall():
        owner.execute(sql.SQL("GRANT SELECT ON LARGE OBJECT {} TO {}").format(sql.Literal(number), keeper))
    if major >= 18:  # those made later, too
        owner.execute(sql.SQL("ALTER DEFAULT PRIVILEGES GRANT SELECT ON LARGE OBJECTS TO {}").format(keeper))


def _let_connect(admin: psycopg.Connection, system: SampleSystem) -> None:
    for role in (system.keeper, *([system.copier] if system.copied else [])):
        names = sql.Identifier(system.database), sql.Identifier(role)
        admin.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(*names))


def _drop(server: PostgresServer, database: str) -> None:
    with server.connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))


def _mark(server: PostgresServer, database: str) -> str | None:
    with server.connect() as admin:
        row = admin.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [database]
        ).fetchone()
    return str(row[0]) if row and row[0] else None


def _digest(system: SampleSystem) -> str:
    texts = [(_SQL / f"{name}.sql").read_bytes() for name in ("helpers", system.name)]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:16]
