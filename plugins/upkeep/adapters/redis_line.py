"""Connections to Redis and Valkey servers: who they are, and the stream that they send to a new replica.

A server sends a snapshot of all its data to whoever asks as a replica does (PSYNC), so that nothing of its disk need be
seen. https://redis.io/docs/latest/operate/oss_and_stack/management/replication/
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upkeep.core.copies import RedisFacts, Refused
from upkeep.core.errors import ConfigurationError, TransientError, UpkeepError

_BLOCK = 1 << 18
# While a server prepares the snapshot it sends an empty line every ten seconds (repl-ping-replica-period).
_SILENCE = 60.0
_ACL = "ACL SETUSER <user> +info +psync +replconf +ping; or a connection whose user may do so"
_SSL = {"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"}
_PASSING = ("LOADING", "NOMASTERLINK", "MASTERDOWN", "TRYAGAIN", "BUSY")


def options(connection: Any) -> dict[str, Any]:
    """Return what the driver needs of an Airflow connection of type redis.

    :raises ConfigurationError: it is of another type.
    """
    if connection.conn_type != "redis":
        raise ConfigurationError(
            f"connection {connection.conn_id!r} is of type {connection.conn_type!r}, expected redis", "correct it"
        )
    extra = connection.extra_dejson
    given = {
        "host": connection.host or "localhost",
        "port": int(connection.port or 6379),
        "username": connection.login or None,
        "password": connection.password or None,
    }
    return given | ({"ssl": True} if extra.get("ssl") else {}) | {k: v for k, v in extra.items() if k in _SSL}


def place(given: dict[str, Any]) -> str:
    """Return where a connection leads, in words."""
    return str(given.get("path") or f"{given['host']}:{given['port']}")


@contextmanager
def told(where: str) -> Iterator[None]:
    """Turn errors of the driver into errors that say what to do; it never quotes a password."""
    import redis

    try:
        yield
    except (redis.AuthenticationError, redis.exceptions.AuthorizationError) as error:
        raise ConfigurationError(f"{where}: {error}", "correct login and password of the Airflow connection") from None
    except redis.exceptions.NoPermissionError as error:
        raise ConfigurationError(f"{where}: {error}", _ACL) from None
    except redis.ResponseError as error:
        raise _refusal(where, str(error)) from None
    except (redis.RedisError, OSError) as error:
        raise TransientError(
            f"{where}: {error}", "is the server up, and may this machine reach it? Tried again"
        ) from None


def facts(given: dict[str, Any]) -> RedisFacts:
    """Ask a server who it is."""
    import redis

    where = place(given)
    with told(where), closing(redis.Redis(**calm(given))) as client:
        return read(client)


def read(client: Any) -> RedisFacts:
    """Read what a server says to INFO; errors are the driver's."""
    said: dict[str, Any] = client.info()
    saved = said.get("rdb_last_save_time")
    return RedisFacts(
        version=str(said.get("valkey_version") or said.get("redis_version") or ""),
        role=str(said.get("role", "")),
        keys={name[2:]: int(db["keys"]) for name, db in said.items() if name[:2] == "db" and name[2:].isdigit()},
        used_memory=int(said.get("used_memory", 0)),
        loading=bool(said.get("loading")),
        link_up=said.get("master_link_status", "up") == "up",
        last_save=datetime.fromtimestamp(int(saved), UTC) if saved else None,
        cluster=bool(said.get("cluster_enabled")),
    )


def receive(given: dict[str, Any], into: Path, deadline: float, progress: Any) -> Refused | None:
    """Have the server send its data into a file. Nothing of the file counts unless this returns None.

    :param deadline: monotonic time at which to give up.
    :param progress: called now and then with the bytes so far.
    :raises TransientError: the stream ended too early, or the server cannot serve now.
    """
    import redis

    where = place(given)
    wanted = calm(given)
    kind = redis.SSLConnection if wanted.pop("ssl", False) else redis.Connection
    line: Any = kind(**wanted)
    try:
        with told(where):
            line.connect()
            for words in (("capa", "eof"), ("rdb-only", "1")):
                try:
                    line.send_command("REPLCONF", *words)
                    line.read_response()
                except redis.exceptions.NoPermissionError as error:
                    return Refused(reason="privilege", message=f"{where}: {error}", hint=_ACL)
                except redis.ResponseError:
                    continue  # older servers know no `rdb-only`: they would go on with what is written meanwhile
            line.send_command("PSYNC", "?", "-1")
            # From here on these are no answers that a client could read. Everything before was read to its end.
            return _stream(_Reader(line._sock, where, deadline), into, progress)
    finally:
        line.disconnect()


class _Reader:
    """Lines and bytes from a socket, each within its time."""

    def __init__(self, sock: Any, where: str, deadline: float) -> None:
        self._sock, self.where, self._deadline = sock, where, deadline
        self.held = b""
        sock.settimeout(_SILENCE)

    def more(self) -> bytes:
        """Return what arrived. :raises TransientError: the server is gone, silent or too slow."""
        if time.monotonic() > self._deadline:
            raise TransientError(f"{self.where}: not all was sent in time", "give it more `seconds`; it is tried again")
        got: bytes = self._sock.recv(_BLOCK)
        if not got:
            raise TransientError(
                f"{self.where}: the server ended the connection before all was sent",
                "see its log: was it stopped, out of memory, or did its child process fail? It is tried again",
            )
        return got

    def line(self) -> str:
        """Return the next line that is not empty."""
        while True:
            end = self.held.find(b"\n")
            if end < 0:
                self.held += self.more()
                continue
            text, self.held = self.held[:end].strip(), self.held[end + 1 :]
            if text:
                return text.decode(errors="replace")


def _stream(reader: _Reader, into: Path, progress: Any) -> Refused | None:
    said = reader.line()
    if said.startswith("-"):
        return _refused(reader.where, said[1:])
    if not said.startswith("+FULLRESYNC"):
        raise UpkeepError(f"{reader.where} answered {said[:80]!r} to PSYNC, expected +FULLRESYNC", "see its version")
    size = reader.line()
    if size.startswith("-"):
        return _refused(reader.where, size[1:])
    with into.open("xb") as file:
        if size.startswith("$EOF:"):
            _until(reader, file, size[5:].encode(), progress)
        else:
            _exactly(reader, file, int(size[1:]), progress)
    return None


def _exactly(reader: _Reader, file: Any, size: int, progress: Any) -> None:
    done = 0
    while done < size:
        block = (reader.held or reader.more())[: size - done]
        reader.held = b""
        done += file.write(block)
        progress(done)


def _until(reader: _Reader, file: Any, mark: bytes, progress: Any) -> None:
    """Write what comes before the mark, which nothing follows: the server had not known the size (diskless)."""
    tail, done = reader.held, 0
    while not tail.endswith(mark):
        keep = tail[-len(mark) :]
        done += file.write(tail[: len(tail) - len(keep)])
        progress(done)
        tail = keep + reader.more()
    file.write(tail[: -len(mark)])


def _refused(where: str, said: str) -> Refused:
    if said.startswith("NOPERM"):
        return Refused(reason="privilege", message=f"{where}: {said}", hint=_ACL)
    if "unknown command" in said.lower():
        return Refused(
            reason="unsupported",
            message=f"{where}: {said}",
            hint="this server lets nobody replicate it (managed services do so): have its provider make snapshots,"
            " keep their proof elsewhere, and skip backup.redis here with that reason",
        )
    raise _refusal(where, said)


def _refusal(where: str, said: str) -> UpkeepError:
    if said.startswith(("NOAUTH", "WRONGPASS")):
        return ConfigurationError(f"{where}: {said}", "correct login and password of the Airflow connection")
    if said.startswith("NOPERM") or "has no permissions" in said:
        return ConfigurationError(f"{where}: {said}", _ACL)
    if said.startswith(_PASSING):
        return TransientError(f"{where}: {said}", "it is tried again; a replica must hear its primary")
    return TransientError(f"{where}: {said}", "see the server's log: disk full, no memory for a child? Tried again")


def calm(given: dict[str, Any]) -> dict[str, Any]:
    """Add what keeps the driver from adding to the conversation: it neither names itself nor tries again."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    waits = {"socket_timeout": 30.0, "socket_connect_timeout": 10.0, "retry": Retry(NoBackoff(), 0)}
    return {**given, "protocol": 2, "driver_info": None, **waits}
