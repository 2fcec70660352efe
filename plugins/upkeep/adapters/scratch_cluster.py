"""A PostgreSQL server that lives for one restore: made from local programs, reached by us only, gone afterwards.

    with scratch_place(scratch, "claims/db", backup_id) as folder, Cluster(programs, folder) as cluster:
        cluster.create()            # or: cluster.adopt(), when `cluster.data` holds an unpacked physical backup
        cluster.start()
        psycopg.connect(cluster.conninfo("postgres"))

It listens on no network, only on a socket in a folder of its own, where it lets in this worker's user (as `superuser`)
and nobody else: not by password, which could be in the backup, but by what the kernel says of who is asking.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from upkeep.adapters import pg_tools, statements
from upkeep.adapters.pg_tools import Programs
from upkeep.adapters.process import environment
from upkeep.adapters.scratch_place import check_reachable, private, server_user, socket_folder
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError, UnsafeError

if TYPE_CHECKING:
    import psycopg

SUPERUSER = "upkeep_restore"
_GUARD = Path(__file__).with_name("scratch_guard.py")
_POLL_SECONDS = 0.03
_LOG_LINES = 8
# Its data are thrown away: nothing needs to survive a crash, and what can be left out of the WAL is.
_TUNED: dict[str, str | int] = {
    "listen_addresses": "",
    "port": 5432,  # only part of the socket's name
    "max_connections": 40,
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "work_mem": "32MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": 0,
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "archive_mode": "off",
    "autovacuum": "off",
    "max_locks_per_transaction": 1024,
    # Several tables are restored at a time; workers would share memory that containers are short of.
    "max_parallel_maintenance_workers": 0,
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "lc_messages": "C",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "shared_preload_libraries": "",
    "ssl": "off",
    "summarize_wal": "off",
    "primary_conninfo": "",
    "restore_command": "",
    # A restored database's triggers would write to it at every login and refuse what we do in it.
    "event_triggers": "off",
}
_SINCE = {"summarize_wal": 17, "event_triggers": 17}
# What a server that takes over the files of another must have at least as much of.
_INHERITED = {
    "max_connections": "max_connections setting",
    "max_worker_processes": "max_worker_processes setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
}


def server_programs(version_num: int, folders: str = "") -> Programs:
    """Return programs of exactly the major of `version_num` among which there is a server.

    :raises ConfigurationError: there are none here.
    """
    major = version_num // 10_000
    found = pg_tools.find(version_num, folders)
    if not (found.folder / "postgres").exists() and not folders:
        # Debian's /usr/bin/pg_dump leads elsewhere; the server lies beside the real one.
        beside = subprocess.run([found.path("pg_config"), "--bindir"], capture_output=True, text=True, check=False)
        places = os.pathsep.join(
            [*beside.stdout.split(), f"/usr/lib/postgresql/{major}/bin", f"/usr/pgsql-{major}/bin"]
        )
        found = pg_tools.find(version_num, places)
    if found.major != major or not os.access(found.folder / "postgres", os.X_OK):
        raise ConfigurationError(
            f"a PostgreSQL {major} server is needed to restore into; in {found.folder} there is "
            + (f"version {found.version}" if found.major != major else "none"),
            f"install postgresql-{major} on the worker or set UPKEEP_PG_BIN to the folder with its programs",
        )
    return found


class Running(Protocol):
    """A program that was started for a scratch server; its output goes to a log."""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        ...

    def wait(self) -> int:
        """Wait for its end and return its code."""
        ...

    def ask_to_end(self) -> int:
        """Let it end in good order; return its code."""
        ...

    def stop(self) -> None:
        """End it at once and leave nothing of it; do nothing when it has ended."""
        ...


class Guarded:
    """A program run under `scratch_guard`: it ends when this process does."""

    def __init__(self, command: list[str | Path], log: Path, *, uid: int, gid: int) -> None:
        env = {k: v for k, v in environment().items() if k != "HOME"}
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARD), str(uid), str(gid), *map(str, command)],
                stdin=subprocess.PIPE, stdout=out, stderr=out, env=env, cwd="/", start_new_session=True,
            )  # fmt: skip

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait(self) -> int:
        """Wait for its end and return its code."""
        return self._process.wait()

    def ask_to_end(self) -> int:
        """Let it end in good order; return its code."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended
            self._process.stdin.write(b"f")
            self._process.stdin.flush()
        return self._process.wait()

    def stop(self) -> None:
        """End it at once; do nothing when it has ended."""
        if self._process.stdin and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()


class Cluster:
    """One scratch server: `data`, `log`, `socket`. Use as a context manager, inside `scratch_place`.

    :param folder: the folder of `scratch_place`.
    :param settings: server settings that win over the built-in ones.
    """

    def __init__(self, programs: Programs, folder: Path, settings: Mapping[str, str | int] | None = None) -> None:
        self.programs, self.folder = programs, folder
        self.data, self.log = folder / "data", folder / "server.log"
        self.superuser = SUPERUSER
        self.adopted = False
        self._user = server_user()
        self._settings = dict(settings or {})
        self._server: Running | None = None
        self._check_programs()
        check_reachable(folder, self._user)
        self.socket = socket_folder(folder, self._user)

    @property
    def version(self) -> str:
        """The server's version."""
        return self.programs.version

    @property
    def major(self) -> int:
        """The server's major version."""
        return self.programs.major

    def check(self) -> None:
        """See that its programs can be run, as far as its making has not shown it.

        :raises ConfigurationError: they cannot.
        """

    def _check_programs(self) -> None:
        check_reachable(self.programs.folder, self._user)

    def _program(self, name: str) -> str | Path:
        return self.programs.path(name)

    def _launch(self, command: list[str | Path], log: Path) -> Running:
        return Guarded(command, log, uid=self._user.uid, gid=self._user.gid)

    def create(self) -> None:
        """Make an empty cluster, with checksums, in the C locale.

        :raises TransientError: initdb failed.
        """
        private(self.data, self._user)
        self._run(
            "initdb", f"--pgdata={self.data}", f"--username={SUPERUSER}", "--auth=reject", "--data-checksums",
            "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions",
        )  # fmt: skip

    def adopt(self) -> None:
        """Take over the files of another cluster, unpacked in `data`: its settings are put aside, its owner is asked.

        :raises UnsafeError: a tablespace or the WAL leads out of this folder.
        :raises DamagedError: the files do not let themselves be read.
        """
        self._check_inside()
        if self._user.uid >= 0:
            for path in (self.data, *self.data.rglob("*")):
                os.chown(path, self._user.uid, self._user.gid, follow_symlinks=False)
        self.data.chmod(0o700)
        for name in ("postgresql.auto.conf", "standby.signal"):
            (self.data / name).unlink(missing_ok=True)
        self.adopted = True
        self._configure()
        self.superuser = self._owner()

    def _check_inside(self) -> None:
        for link in (self.data, self.data / "pg_wal", *(self.data / "pg_tblspc").glob("*")):
            if not link.resolve().is_relative_to(self.folder):
                raise UnsafeError(
                    f"{link} leads to {link.resolve()}, out of the scratch folder",
                    "unpack tablespaces into folders of the scratch server; the source's must not be touched",
                )

    def start(self, seconds: float = 60.0) -> None:
        """Start it and return when it has left recovery.

        :param seconds: how long that may take.
        :raises DamagedError: the files of another cluster did not start. :raises TransientError: an own one did not.
        """
        import psycopg

        self._configure()
        self._server = self._launch(self._command("postgres"), self.log)
        deadline = time.monotonic() + seconds
        while True:
            try:
                with psycopg.connect(self.conninfo("template1"), connect_timeout=5, autocommit=True) as connection:
                    if connection.execute("select pg_catalog.pg_is_in_recovery()").fetchone() == (False,):
                        break
            except psycopg.OperationalError as error:
                if not self._server.running or time.monotonic() > deadline:
                    raise self._failed(f"it does not start: {str(error).strip().splitlines()[-1]}") from None
            if time.monotonic() > deadline:
                raise self._failed(f"it is still in recovery after {seconds:.0f} s")
            time.sleep(_POLL_SECONDS)
        self.check_own()

    def stop(self, *, clean: bool = False) -> None:
        """End it, at once or, so that its files can be checked, in good order."""
        if self._server is not None:
            if clean:
                self._server.ask_to_end()
            self._server.stop()
            self._server = None

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._server is not None and self._server.running

    def conninfo(self, database: str) -> str:
        """Return the connection string of a database; it holds no secret."""
        from psycopg.conninfo import make_conninfo

        return make_conninfo(
            host=str(self.socket), port="5432", user=self.superuser, dbname=database, application_name="upkeep restore"
        )

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """Connect in autocommit mode."""
        import psycopg

        try:
            return psycopg.connect(self.conninfo(database), autocommit=True, connect_timeout=10)
        except psycopg.OperationalError as error:
            raise self._failed(f"it does not let us in: {str(error).strip().splitlines()[-1]}") from None

    def check_own(self, source: str | None = None) -> None:
        """See that whoever answers is this server, and not the source, before anything is written to it.

        :param source: the system identifier of the source. That of a physical copy is the source's by nature; there,
            data folder and socket tell them apart.
        :raises UnsafeError: it is another server.
        """
        with self.connect("template1") as connection:
            row = connection.execute(statements.load("restore", "identity").encode()).fetchone()
        expected = (str(self.data), "", str(self.socket))
        if row is None or row[:3] != expected:
            raise UnsafeError(f"the server that answers is {row}, expected {expected}", "nothing was written to it")
        if source and not self.adopted and row[3] == source:
            raise UnsafeError(
                f"the scratch server has the source's system identifier {source}", "nothing was written to it"
            )

    def check_checksums(self) -> list[str]:
        """Return what pg_checksums complains of, with the server down; empty when every page is as it was written.

        :raises ConfigurationError: the cluster has no checksums.
        """
        if self.control().get("Data page checksum version", "0") == "0":
            raise ConfigurationError("the cluster's pages carry no checksums", "initdb --data-checksums, pg_checksums")
        log = self.folder / "checksums.log"
        check = self._launch([self._program("pg_checksums"), "--check", "-D", self.data], log)
        try:
            code = check.wait()
        finally:
            check.stop()
        lines = log.read_text(errors="replace").splitlines()
        return [line for line in lines if "error:" in line] or ([f"pg_checksums: code {code}"] if code else [])

    def control(self) -> dict[str, str]:
        """Return what pg_controldata says of the cluster's files."""
        code, said = self._control_data()
        if code:
            raise DamagedError(f"pg_controldata: {said.strip()}", "the cluster's control file is damaged")
        pairs = (line.split(":", 1) for line in said.splitlines() if ":" in line)
        return {name.strip(): value.strip() for name, value in pairs}

    def _control_data(self) -> tuple[int, str]:
        done = subprocess.run(
            [self._program("pg_controldata"), self.data], capture_output=True, text=True, check=False, env=environment()
        )
        return done.returncode, done.stderr if done.returncode else done.stdout

    def log_tail(self) -> str:
        """Return the last lines of the server's log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return " | ".join(line.strip() for line in lines[-_LOG_LINES:])[:2000]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _command(self, program: str) -> list[str | Path]:
        return [self._program(program), "-D", self.data, f"--config_file={self.folder / 'server.conf'}"]

    def _configure(self) -> None:
        """Write settings and who is let in, in files beside the data: those in it, a backup's, are not read."""
        values = {k: v for k, v in _TUNED.items() if _SINCE.get(k, 0) <= self.major}
        if self.adopted:
            values |= self._inherited()
        values |= {"unix_socket_directories": str(self.socket), **self._settings}
        values |= {"hba_file": str(self.folder / "hba.conf"), "ident_file": str(self.folder / "ident.conf")}
        us = pwd.getpwuid(os.geteuid()).pw_name
        self._write("server.conf", *(f"{name} = '{str(v).replace("'", "''")}'" for name, v in values.items()))
        self._write("hba.conf", "local all all peer map=upkeep")
        self._write("ident.conf", f'upkeep "{us}" "{self.superuser}"')

    def _inherited(self) -> dict[str, str | int]:
        seen = self.control()
        most = {name: int(seen.get(field, "0")) for name, field in _INHERITED.items()}
        own = {name: int(_TUNED.get(name, 0)) for name in most}
        return {"wal_level": "replica", **{n: max(most[n], own[n]) for n in most if max(most[n], own[n])}}

    def _write(self, name: str, *lines: str) -> None:
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o644)

    def _owner(self) -> str:
        """Return the name of the cluster's first superuser, asked without a server, as nobody is let in yet."""
        log = self.folder / "single.log"
        question = self.folder / "question.sql"
        question.write_text("select rolname from pg_catalog.pg_authid where oid = 10\n")
        question.chmod(0o644)
        command = [*self._command("postgres")[1:], "template1"]
        # The guard gives programs nothing to read.
        shell: list[str | Path] = ["/bin/sh", "-c", 'read_from=$0; exec "$@" <"$read_from"', question]
        asked = self._launch([*shell, self._program("postgres"), "--single", *command], log)
        try:
            code = asked.wait()
        finally:
            asked.stop()
        said = log.read_text(errors="replace")
        found = re.search(r'1: rolname = "(.*)"\t\(typeid', said)
        if found is None:
            tail = " | ".join(said.splitlines()[-_LOG_LINES:])[:1500]
            raise DamagedError(
                f"the files of the backup do not start (code {code}): {tail}",
                "make a new backup now, keep this one for the search",
            )
        return found[1]

    def _run(self, program: str, *arguments: str) -> None:
        log = self.folder / f"{program}.log"
        done = self._launch([self._program(program), *arguments], log)
        try:
            code = done.wait()
        finally:
            done.stop()
        if code:
            tail = " | ".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])[:1500]
            raise TransientError(f"{program} (code {code}): {tail}", "look at space and rights of the scratch folder")

    def _failed(self, text: str) -> TransientError | DamagedError:
        message = f"scratch server PostgreSQL {self.version}: {text}; its log ends with: {self.log_tail()}"
        if self.adopted:
            return DamagedError(message, "this backup does not start: make a new one now, keep this one for the search")
        return TransientError(message, "look at space and memory of the worker; it is tried again")
