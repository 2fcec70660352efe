"""What the sample services ask before they call themselves healthy: their database, cache and store."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row


class Database:
    """One kept connection, opened when needed and again after it was lost, as in an application's pool of one."""

    def __init__(self, dsn: str, application: str) -> None:
        self._dsn, self._application = dsn, application
        self._connection: psycopg.Connection[dict[str, Any]] | None = None
        self._lock = threading.Lock()

    def query(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """Return the rows of a statement. :raises psycopg.Error: the database does not answer."""
        with self._lock:
            try:
                return self._connected().execute(statement, parameters).fetchall()
            except psycopg.OperationalError:
                self._connection = None  # the server has gone and come back: one new connection, then give up
                return self._connected().execute(statement, parameters).fetchall()

    def _connected(self) -> psycopg.Connection[dict[str, Any]]:
        if self._connection is None or self._connection.closed:
            options: dict[str, Any] = {"application_name": self._application, "connect_timeout": 3}
            self._connection = psycopg.connect(self._dsn, autocommit=True, row_factory=dict_row, **options)
        return self._connection


@dataclass(frozen=True)
class Backends:
    """The parts behind one service; a system without a cache or a store has none."""

    database: Database
    redis_url: str = ""
    store: dict[str, str] | None = None

    def probe(self) -> dict[str, str]:
        """Ask every part and return `ok` or the kind of error by part; never more, as strangers read this."""
        asked = {"database": self._database, "cache": self._cache, "storage": self._storage}
        wanted = {"database": True, "cache": bool(self.redis_url), "storage": self.store is not None}
        return {name: _outcome(ask) for name, ask in asked.items() if wanted[name]}

    def _database(self) -> None:
        self.database.query("SELECT count(*) AS tables FROM pg_class WHERE relkind = 'r'")

    def _cache(self) -> None:
        import redis

        with redis.Redis.from_url(self.redis_url, socket_timeout=3) as client:
            client.ping()
            client.get("session:1")

    def _storage(self) -> None:
        import boto3

        assert self.store is not None
        with _CLIENT_LOCK:
            client = _CLIENTS.get(self.store["endpoint"])
            if client is None:
                client = _CLIENTS[self.store["endpoint"]] = boto3.client(
                    "s3", endpoint_url=self.store["endpoint"], region_name="us-east-1",
                    aws_access_key_id=self.store["access_key"], aws_secret_access_key=self.store["secret_key"],
                )  # fmt: skip
        client.head_bucket(Bucket=self.store["bucket"])


_CLIENTS: dict[str, Any] = {}
_CLIENT_LOCK = threading.Lock()


def _outcome(ask: Any) -> str:
    try:
        ask()
    except Exception as error:
        return type(error).__name__
    return "ok"
