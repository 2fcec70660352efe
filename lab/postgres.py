"""PostgreSQL servers, major 14 to 18."""

from __future__ import annotations

import functools
import json
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.process import LabError, Server, birth, exclusive, write_private
from lab.wheels import MAJORS, bin

if TYPE_CHECKING:
    import psycopg

__all__ = ["MAJORS", "PostgresServer", "bin"]

SUPERUSER = "postgres"
_DEFAULTS: dict[str, str | int | float] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path may not be longer than 107 characters; data folders are
    "max_connections": 60,
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    # It is a lab: what a power cut would lose can be made again. A SIGKILL loses nothing that was committed.
    "fsync": "off",
    "shared_preload_libraries": "pg_stat_statements",
    "track_io_timing": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
    "log_lock_waits": "on",
}


@functools.cache
def _unprivileged() -> dict[str, Any]:
    """Return the arguments for Popen that leave root, which PostgreSQL refuses to run as."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


class PostgresServer(Server):
    """A PostgreSQL cluster: `data_dir/pgdata`, `data_dir/log`, passwords in `data_dir/passwords.json` (mode 0600).

    `settings` are lines of postgresql.conf; they win over the lab's own (which turn fsync off) and are written anew at
    every start. Run as root, the server runs as `nobody`, so `data_dir` must not lie below a folder that only root can
    enter: `lab.process.scratch_folder` gives one that works.
    """

    # SIGINT: fast shutdown (roll back, disconnect, checkpoint); SIGQUIT: immediate.
    stop_steps = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))

    def __init__(
        self,
        major: int,
        data_dir: str | Path,
        port: int | None = None,
        settings: Mapping[str, str | int | float] | None = None,
    ) -> None:
        super().__init__(data_dir, port)
        self.major = major
        self.settings = _DEFAULTS | dict(settings or {})

    @property
    def pgdata(self) -> Path:
        """The cluster's data directory."""
        return self.data_dir / "pgdata"

    @property
    def bin(self) -> Path:
        """The folder with this version's programs."""
        return bin(self.major)

    def password(self, user: str = SUPERUSER) -> str:
        """Return the password of a role that this lab made. :raises LabError: it made no such role."""
        known = self._passwords()
        if user not in known:
            raise LabError(f"{self.data_dir}: no password for role {user!r}; known are {', '.join(sorted(known))}")
        return known[user]

    def dsn(self, database: str = "postgres", user: str = SUPERUSER) -> str:
        """Return a connection URI with password."""
        return f"postgresql://{user}:{self.password(user)}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres", user: str = SUPERUSER, **options: Any) -> psycopg.Connection:
        """Connect in autocommit mode (unless told otherwise) with psycopg."""
        import psycopg

        wanted: dict[str, Any] = {"autocommit": True, "connect_timeout": 5, "application_name": "lab", **options}
        return psycopg.connect(self.dsn(database, user), **wanted)

    def create_role(self, name: str, *, member_of: tuple[str, ...] = ()) -> str:
        """Make a login role with a random password, when it is missing, and return the password."""
        from psycopg import sql

        with exclusive(self.data_dir / ".roles.lock"):
            if name not in self._passwords():
                self._remember(name, secrets.token_hex(16))
            word = self.password(name)
            with self.connect() as connection:
                known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
                verb = sql.SQL("ALTER" if known else "CREATE")
                connection.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(name), word))
                for group in member_of:
                    connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(name)))
        return word

    def create_database(self, name: str, owner: str = SUPERUSER) -> None:
        """Make a database when it is missing. Only its owner may connect until someone grants more."""
        from psycopg import sql

        with self.connect() as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                made = sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner))
                connection.execute(made)
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))

    # The life of the process.

    def prepare(self) -> None:
        """Make the cluster when there is none and write its settings."""
        if not (self.pgdata / "PG_VERSION").exists():
            self._check_reachable()
            self._initdb()
        self._forget_zombie()
        settings = {**self.settings, "port": self.port}
        lines = [f"{name} = '{str(value).replace("'", "''")}'" for name, value in settings.items()]
        conf = self.pgdata / "lab.conf"
        conf.write_text("\n".join(lines) + "\n")
        conf.chmod(0o644)

    def command(self) -> list[str]:
        """Return the server's command line."""
        return [str(self.bin / "postgres"), "-D", str(self.pgdata)]

    def spawn_options(self) -> dict[str, Any]:
        """Return the user to run as and an environment without the caller's PG* variables and locale."""
        return {"env": {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}, "cwd": "/", **_unprivileged()}

    def check_ready(self) -> None:
        """Pass when the server takes connections and has left recovery."""
        with self.connect(connect_timeout=2) as connection:
            row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
        if row != (False,):
            raise LabError("still in recovery")

    # Details.

    @property
    def _password_file(self) -> Path:
        return self.data_dir / "passwords.json"

    def _passwords(self) -> dict[str, str]:
        return dict(json.loads(self._password_file.read_text())) if self._password_file.exists() else {}

    def _remember(self, user: str, word: str) -> None:
        write_private(self._password_file, json.dumps({**self._passwords(), user: word}))

    def _check_reachable(self) -> None:
        """Refuse a folder (or programs) that the unprivileged user cannot reach, before initdb says it less clearly."""
        if not _unprivileged():
            return
        for folder in (self.data_dir, *self.data_dir.parents, *self.bin.parents):
            if not folder.stat().st_mode & stat.S_IXOTH:
                raise LabError(
                    f"{self.data_dir}: PostgreSQL, started by root, runs as user nobody, who cannot enter {folder}. "
                    "Use a folder that others may enter, for instance one of lab.process.scratch_folder()."
                )

    def _forget_zombie(self) -> None:
        """Remove the lock file of a killed server that its parent has not reaped: to PostgreSQL a zombie is alive.

        Containers often have no init that reaps. For ids that are gone PostgreSQL removes the file itself.
        """
        lock = self.pgdata / "postmaster.pid"
        if lock.exists() and birth(int(lock.read_text().splitlines()[0])) is None:
            lock.unlink()

    def _initdb(self) -> None:
        """Make the cluster beside its final place and rename it, so that a cluster that exists is whole."""
        self._remember(SUPERUSER, secrets.token_hex(16))
        fresh = self.data_dir / "pgdata.new"
        word = self.data_dir / "pwfile"
        try:
            write_private(word, self.password())
            if user := _unprivileged():
                os.chown(word, user["user"], user["group"])
            said = ""
            for locale in self._locales():
                shutil.rmtree(fresh, ignore_errors=True)
                fresh.mkdir(mode=0o700)
                if user:
                    os.chown(fresh, user["user"], user["group"])
                done = subprocess.run(
                    [str(self.bin / "initdb"), "-D", str(fresh), f"--username={SUPERUSER}", f"--pwfile={word}",
                     "--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8", "--no-sync", *locale],
                    capture_output=True, text=True, check=False, **self.spawn_options(),
                )  # fmt: skip
                if done.returncode == 0:
                    break
                said = done.stderr.strip()
            else:
                raise LabError(f"initdb of PostgreSQL {self.major} in {self.data_dir} failed: {said}")
        finally:
            word.unlink(missing_ok=True)
        with (fresh / "postgresql.conf").open("a") as conf:
            conf.write("include = 'lab.conf'\n")
        fresh.rename(self.pgdata)

    def _locales(self) -> list[list[str]]:
        """Return locale options from best to last resort: C.UTF-8 is built in from 17 on, of the system before."""
        if self.major >= 17:
            return [["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]]
        return [["--locale=C.UTF-8"], ["--locale=C"]]
