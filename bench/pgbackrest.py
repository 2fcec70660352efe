"""Debian's pgBackRest beside us: a repository in a folder, and its commands as the server's own user."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from lab.postgres import PostgresServer

PROGRAM = "pgbackrest"
_STANZA = "bench"


def installed() -> bool:
    """Tell whether the program is there (`apt-get install pgbackrest`)."""
    return shutil.which(PROGRAM) is not None


class PgBackRest:
    """One repository. Make it before the server starts: the server archives its WAL into it by `settings`."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.folder = folder
        self.repository = folder / "repo"
        self.socket = folder / "s"
        self.lines = lines
        for path in (folder, self.repository, self.socket, folder / "log", folder / "lock", folder / "spool"):
            path.mkdir(mode=0o777, exist_ok=True)
            path.chmod(0o777)

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "pgbackrest.conf"

    @property
    def settings(self) -> dict[str, str | int]:
        """What the server needs to be backed up by it."""
        push = f"{PROGRAM} --config={self.config} --stanza={_STANZA} archive-push %p"
        return {
            "archive_mode": "on", "archive_command": push, "wal_level": "replica",
            "unix_socket_directories": str(self.socket),
        }  # fmt: skip

    def introduce(self, postgres: PostgresServer) -> None:
        """Write the configuration for a server that has started: until then it archives nothing."""
        lines = [
            "[global]", f"repo1-path={self.repository}", f"log-path={self.folder}/log", f"lock-path={self.folder}/lock",
            f"spool-path={self.folder}/spool", "repo1-retention-full=9", "start-fast=y", "compress-type=zst",
            "process-max=2", *self.lines, f"[{_STANZA}]", f"pg1-path={postgres.pgdata}", f"pg1-port={postgres.port}",
            f"pg1-socket-path={self.socket}", "pg1-user=postgres",
        ]  # fmt: skip
        self.config.write_text("\n".join(lines) + "\n")
        self.config.chmod(0o644)

    def run(self, postgres: PostgresServer, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of it, as the user that the server runs as."""
        command = [PROGRAM, f"--config={self.config}", f"--stanza={_STANZA}", *arguments]
        password = {"PGPASSWORD": postgres.password()}
        user = {
            key: value for key, value in postgres.spawn_options().items() if key in ("user", "group", "extra_groups")
        }
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd="/", env={"PATH": os.defpath, **password}, **user
        )
        if check and done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        return done
