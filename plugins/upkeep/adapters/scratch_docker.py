"""The scratch server of a restore test in a Docker container: the same cluster, its programs run inside an image.

Each program (initdb, postgres, pg_checksums ...) is a container of its own, started by its name and not by the image's
entrypoint, so that the official image and any other with PostgreSQL's programs will do. A container has no network, a
read-only root, no capabilities and a limit to its memory; it runs as the user who would run a local scratch server,
and sees the scratch server's folder under the path that it has outside, with data, settings and socket in it. Nothing
ends a container when its worker is killed: the next run finds it by its labels and removes it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
from collections.abc import Callable
from pathlib import Path

from upkeep.adapters import docker_engine, pg_tools, scratch_place
from upkeep.adapters.docker_engine import Engine, Found, Image
from upkeep.adapters.pg_tools import Programs
from upkeep.adapters.scratch_cluster import Cluster, Running
from upkeep.core.backup import Leftover
from upkeep.core.errors import ConfigurationError, TransientError
from upkeep.core.restore import Options

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(\S*)")
_PATIENCE_SECONDS = 15.0  # as in scratch_guard


class Contained:
    """One program in a container; see `scratch_cluster.Running`."""

    def __init__(self, engine: Engine, start: Callable[[], str], log: Path) -> None:
        self._engine, self._log = engine, log
        self._id = start()
        self._removed = False

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return bool(not self._removed and self._engine.state(self._id).get("Running"))

    def wait(self) -> int:
        """Wait for its end and return its code."""
        code = self._engine.wait(self._id)
        self.note()
        return code

    def ask_to_end(self) -> int:
        """Let it end in good order; return its code."""
        self._engine.signal(self._id, "SIGINT")
        return self.wait()

    def stop(self) -> None:
        """End it at once and remove it."""
        if self._removed:
            return
        self._engine.signal(self._id, "SIGQUIT")
        with contextlib.suppress(TransientError):  # it does not end, or the daemon is away, which removing will tell
            self._engine.wait(self._id, _PATIENCE_SECONDS)
            self.note()
        self._engine.remove(self._id)
        self._removed = True

    def note(self) -> None:
        """Write what it said into its log, and when memory was what ended it, that."""
        if self._removed:
            return
        said = self._engine.log(self._id)
        if self._engine.state(self._id).get("OOMKilled"):
            said += b"\nthe container ran out of its memory: raise docker_memory_mb\n"
        self._log.write_bytes(said)


class DockerCluster(Cluster):
    """A scratch server whose programs run in an image.

    :param programs: client programs of the worker, for whatever connects to the server.
    :param major: what the image's server must be.
    :param memory: bytes that a container may take.
    """

    def __init__(
        self, programs: Programs, folder: Path, *, engine: Engine, image: Image, major: int, memory: int
    ) -> None:
        super().__init__(programs, folder)
        self._engine, self._image, self._memory = engine, image, memory
        self._major, self._version = major, ""
        self._labels = labels(folder)
        self._users = folder / "passwd"
        self._write("passwd", *_users(self._uid, self._gid))

    @property
    def version(self) -> str:
        """The server's version, and the image it comes from."""
        return f"{self._version or self._major} ({self._image.name}, {self._image.id[:19]})"

    @property
    def major(self) -> int:
        """The server's major version."""
        return self._major

    def check(self) -> None:
        """See that containers of the image run here and hold a server of the right major.

        :raises ConfigurationError: they do not.
        """
        code, said = self._output("postgres", "--version")
        found = _VERSION.search(said)
        if code or found is None:
            raise ConfigurationError(
                f"`postgres --version` in image {self._image.name} (code {code}) says {said.strip()[-300:]!r}",
                "set `image` to one with PostgreSQL's server for this machine's processor",
            )
        self._version = found[1] + found[2]
        if int(found[1]) != self._major:
            raise ConfigurationError(
                f"image {self._image.name} holds PostgreSQL {self._version}; the backup needs a server of major"
                f" {self._major}",
                "set `image` to one of that major; {major} in its name is filled in",
            )

    def log_tail(self) -> str:
        """Return the last lines of the server's log."""
        if isinstance(self._server, Contained):
            with contextlib.suppress(TransientError):
                self._server.note()
        return super().log_tail()

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            try:
                for found in self._engine.ours():
                    if found.scratch == self._labels[docker_engine.SCRATCH]:
                        self._engine.remove(found.id)
            finally:
                self._engine.close()

    @property
    def _uid(self) -> int:
        return self._user.uid if self._user.uid >= 0 else os.geteuid()

    @property
    def _gid(self) -> int:
        return self._user.gid if self._user.uid >= 0 else os.getegid()

    def _check_programs(self) -> None:
        """Leave the worker's programs alone: the server's user does not run them."""

    def _program(self, name: str) -> str | Path:
        folder = self._image.env.get("PG_BIN", "")
        return f"{folder}/{name}" if folder else name

    def _launch(self, command: list[str | Path], log: Path) -> Running:
        binds = {self.folder: (self.folder, True), self._users: (Path("/etc/passwd"), False)}
        if not self.socket.is_relative_to(self.folder):
            binds[self.socket] = (self.socket, True)

        def start() -> str:
            return self._engine.start(
                self._image,
                [str(word) for word in command],
                user=f"{self._uid}:{self._gid}",
                binds=binds,
                labels=self._labels,
                memory=self._memory,
            )

        return Contained(self._engine, start, log)

    def _control_data(self) -> tuple[int, str]:
        return self._output("pg_controldata", str(self.data))

    def _output(self, program: str, *arguments: str) -> tuple[int, str]:
        log = self.folder / f"{program}.out"
        done = self._launch([self._program(program), *arguments], log)
        try:
            code = done.wait()
        finally:
            done.stop()
        return code, log.read_text(errors="replace")


def image_name(template: str, version_num: int) -> str:
    """Return the name of the image for a server's version (`server_version_num`)."""
    return template.replace("{major}", str(version_num // 10_000))


def maker(address: str, version_num: int, options: Options) -> Callable[[Path], Cluster]:
    """Return what makes a scratch server of a version in a folder.

    :raises ConfigurationError: daemon, image or the worker's own client programs are missing.
    """
    programs = pg_tools.find(version_num, options.programs)
    engine = Engine(address)
    image = engine.image(image_name(options.image, version_num))
    major, memory = version_num // 10_000, options.docker_memory
    return lambda folder: DockerCluster(programs, folder, engine=engine, image=image, major=major, memory=memory)


def labels(folder: Path) -> dict[str, str]:
    """Return the labels of every container of a scratch server."""
    return {
        docker_engine.SCRATCH: folder.name,
        docker_engine.FOLDER: str(folder),
        docker_engine.OWNER: docker_engine.owner(),
    }


def abandoned(engine: Engine, target: str) -> list[Leftover]:
    """List the scratch servers of this target that have containers and no worker any more."""
    prefix = scratch_place.prefix(target)
    names = {found.scratch for found in engine.ours() if found.scratch.startswith(prefix) and _is_abandoned(found)}
    reason = "the worker that made it is gone, its containers are not"
    return [Leftover(kind="staging", name=name, bytes=0, reason=reason) for name in sorted(names)]


def remove(engine: Engine, leftover: Leftover) -> None:
    """Remove the containers of an abandoned scratch server, and no other."""
    for found in engine.ours():
        if found.scratch == leftover.name and _is_abandoned(found):
            engine.remove(found.id)


def _is_abandoned(found: Found) -> bool:
    """Judge by the lock on its folder, which the kernel lets go of with its owner; without the folder, by the label."""
    if found.folder.is_dir():
        return not scratch_place.owned(found.folder)
    return not docker_engine.lives(found.owner)


def _users(server: int, group: int) -> list[str]:
    """Return a user file in which the server finds itself and whoever connects, by their numbers."""
    us = os.geteuid()
    known = {us: (pwd.getpwuid(us).pw_name, os.getegid())}
    if server != us:
        known[server] = (pwd.getpwuid(server).pw_name, group)
    return [f"{name}:x:{uid}:{gid}::/:/bin/false" for uid, (name, gid) in known.items()]
