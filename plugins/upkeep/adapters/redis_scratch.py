"""A Redis server of our own that loads a dump, to see that one could: no network, no writing, gone with the worker."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from upkeep.adapters import redis_line
from upkeep.adapters.process import Program
from upkeep.core.errors import TransientError

ENVIRONMENT = "UPKEEP_REDIS_BIN"
_NAMES = ("redis-server", "valkey-server")
# What a server says that could read the file if it were another build of itself.
_OTHER = ("handle RDB format version", "module data", "module type", "MODULE")
_PAUSE = 0.02


class Loaded(NamedTuple):
    """What became of loading: keys by database, or why not; `damaged` when the file is at fault and not the server."""

    keys: dict[str, int] | None
    message: str = ""
    damaged: bool = False


def find(programs: str) -> Path | None:
    """Return the server program: in a named folder, else in `UPKEEP_REDIS_BIN`, else on PATH."""
    for folders in (programs, os.environ.get(ENVIRONMENT, ""), os.environ.get("PATH", "")):
        for name in _NAMES if folders else ():
            if found := shutil.which(name, path=folders):
                return Path(found)
    return None


def load(program: Path, rdb: Path, deadline: float) -> Loaded:
    """Start a server on a dump, count its keys, end it.

    As a replica of nobody: a primary throws away on loading what has expired since, and the counts would differ.

    :raises TransientError: it was not up in time.
    """
    folder, log = rdb.parent, rdb.with_name("redis.log")
    settings = {
        "port": "0", "unixsocket": "socket", "unixsocketperm": "700", "dir": str(folder), "dbfilename": rdb.name,
        "save": "", "appendonly": "no", "maxmemory": "0", "databases": "4096", "daemonize": "no", "logfile": log.name,
        "replica-serve-stale-data": "yes", "rdbchecksum": "yes",
    }  # fmt: skip
    conf = rdb.with_name("redis.conf")
    conf.write_text("".join(f'{key} "{value}"\n' for key, value in settings.items()) + "replicaof 127.0.0.1 1\n")
    with Program([program, conf], cwd=folder) as server:
        while server.running and time.monotonic() < deadline:
            if (keys := _keys(folder)) is not None:
                return Loaded(keys)
            time.sleep(_PAUSE)
        if server.running:
            raise TransientError(f"{program.name} did not load {rdb.name} in time", "give it more `seconds`")
        said = _said(log) or "; ".join(server.tail)
    return Loaded(None, f"{program.name} did not load it: {said}", damaged=not any(word in said for word in _OTHER))


def _keys(folder: Path) -> dict[str, int] | None:
    """Return the counts; None while it still loads. A socket's path may have 107 bytes only, ours is longer."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        way = Path(f"/proc/self/fd/{opened}/socket")
        return _ask(way if way.parent.exists() else folder / "socket")
    finally:
        os.close(opened)


def _ask(socket: Path) -> dict[str, int] | None:
    import redis

    if not socket.exists():
        return None
    with closing(redis.Redis(**redis_line.calm({"unix_socket_path": str(socket)}))) as client:
        try:
            seen = redis_line.read(client)
        except (redis.RedisError, OSError):
            return None
    return None if seen.loading else seen.keys


def _said(log: Path) -> str:
    """Return the last complaints of a server."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    told = [line.split(" # ", 1)[-1].strip() for line in lines if " # " in line and "WARNING" not in line]
    return "; ".join(told[-3:])[:500]
