"""A Docker daemon of this machine, as far as scratch servers need it: containers made, watched, and removed by label.

Only a daemon behind a socket of this machine: what runs in its containers is reached through a folder that both see.
Images are never pulled; that is a decision of whoever runs the machine.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from upkeep.core.errors import ConfigurationError, TransientError

LOCAL = "unix:///var/run/docker.sock"
SCRATCH, OWNER, FOLDER = "upkeep.scratch", "upkeep.owner", "upkeep.folder"
_AWAY = "start it (systemctl start docker), let the worker's user use its socket (group docker), or set `method: local`"
_LOG_BYTES = "10m"


class Image(NamedTuple):
    """An image that is here: its name, the digest that containers are made from, and its environment."""

    name: str
    id: str
    env: dict[str, str]


class Found(NamedTuple):
    """A container of ours: for which scratch server it was made, where that lies, and by whom."""

    id: str
    scratch: str
    folder: Path
    owner: str
    state: str


class Engine:
    """A daemon.

    :param address: `unix://` and the path of its socket.
    :raises ConfigurationError: it is on another machine, does not answer, or runs without root.
    """

    def __init__(self, address: str = LOCAL) -> None:
        import docker  # type: ignore[import-untyped]

        if not address.startswith("unix://"):
            raise ConfigurationError(
                f"the Docker daemon at {address} is reached over a network; a scratch server has none, its socket"
                " lies in a folder that worker and container must share",
                "use a daemon of the worker's own machine (host unix:///var/run/docker.sock) or `method: local`",
            )
        self.address = address
        try:
            self._api: Any = docker.APIClient(base_url=address, version="auto", timeout=60)
            options = [str(one) for one in self._api.info().get("SecurityOptions") or ()]
        except (docker.errors.DockerException, OSError) as error:
            raise ConfigurationError(f"no Docker daemon answers at {address}: {_short(error)}", _AWAY) from None
        if any("name=rootless" in one for one in options):
            self.close()
            raise ConfigurationError(
                f"the Docker daemon at {address} runs without root: its containers cannot have the worker's user",
                "use a daemon that runs as root, or `method: local`",
            )

    def close(self) -> None:
        """Let go of the socket."""
        self._api.close()

    def image(self, name: str) -> Image:
        """Return an image that is here.

        :raises ConfigurationError: it is not.
        """
        import docker

        try:
            with self._asked():
                seen = self._api.inspect_image(name)
        except docker.errors.NotFound:
            raise ConfigurationError(
                f"the Docker daemon at {self.address} has no image {name}", f"docker pull {name}"
            ) from None
        pairs = (line.partition("=") for line in seen["Config"].get("Env") or ())
        return Image(name, seen["Id"], {key: value for key, _, value in pairs})

    def start(
        self,
        image: Image,
        command: Sequence[str],
        *,
        user: str,
        binds: Mapping[Path, tuple[Path, bool]],
        labels: Mapping[str, str],
        memory: int,
    ) -> str:
        """Start a program in a container with nothing but itself and `binds`; return the container's id.

        :param binds: source -> (place in the container, whether it may be written to).
        :param memory: bytes that it may take; there is no swap beyond.
        :raises ConfigurationError: the image has no such program, or the daemon does not see our folders.
        """
        import docker

        mounts = [
            docker.types.Mount(str(inside), str(source), type="bind", read_only=not write)
            for source, (inside, write) in binds.items()
        ]
        limits = self._api.create_host_config(
            network_mode="none", read_only=True, tmpfs={"/tmp": "size=64m,mode=1777"}, mounts=mounts,  # noqa: S108
            cap_drop=["ALL"], pids_limit=512, mem_limit=memory, memswap_limit=memory, shm_size=256 << 20,
            # Our folder is not labelled for containers. The worker's user is the server's: their numbers must agree.
            security_opt=["no-new-privileges", "label=disable"], userns_mode="host",
            # Whatever the daemon's default is: we must be able to read it, and it must not fill the disk.
            log_config=docker.types.LogConfig(type="json-file", config={"max-size": _LOG_BYTES, "max-file": "1"}),
        )  # fmt: skip
        try:
            with self._asked():
                made: str = self._api.create_container(
                    image.id, entrypoint=[command[0]], command=list(command[1:]), user=user, working_dir="/",
                    environment={"LC_ALL": "C", "TZ": "UTC"}, labels=dict(labels), host_config=limits,
                )["Id"]  # fmt: skip
        except docker.errors.NotFound:
            raise ConfigurationError(f"image {image.name} was removed just now", f"docker pull {image.name}") from None
        try:
            with self._asked():
                self._api.start(made)
        except BaseException:
            self.remove(made)
            raise
        return made

    def state(self, container: str) -> dict[str, Any]:
        """Return the container's state (Running, ExitCode, OOMKilled); empty when it is gone."""
        import docker

        try:
            with self._asked():
                return dict(self._api.inspect_container(container)["State"])
        except docker.errors.APIError:
            return {}

    def wait(self, container: str, seconds: float | None = None) -> int:
        """Wait for its end and return its code.

        :raises TransientError: it has not ended after `seconds`, or is gone.
        """
        import docker

        try:
            with self._asked():
                return int(self._api.wait(container, timeout=seconds)["StatusCode"])
        except docker.errors.APIError:
            raise TransientError("somebody has removed the scratch server's container", "it is tried again") from None

    def log(self, container: str) -> bytes:
        """Return what it wrote, the last 10 MB of it; nothing when it is gone."""
        import docker

        try:
            with self._asked():
                return bytes(self._api.logs(container, stdout=True, stderr=True))
        except docker.errors.APIError:
            return b""

    def signal(self, container: str, name: str) -> None:
        """Send its program a signal; one that has ended needs none."""
        import docker

        with contextlib.suppress(docker.errors.APIError), self._asked():
            self._api.kill(container, signal=name)

    def remove(self, container: str) -> None:
        """End it by force and remove it with the volumes that its image asks for."""
        import docker

        # Another may be removing it at this moment (409), or has (404).
        with contextlib.suppress(docker.errors.APIError), self._asked():
            self._api.remove_container(container, force=True, v=True)

    def ours(self) -> list[Found]:
        """List the containers that carry our labels, running or not."""
        with self._asked():
            listed = self._api.containers(all=True, filters={"label": [SCRATCH, OWNER, FOLDER]})
        return [
            Found(one["Id"], one["Labels"][SCRATCH], Path(one["Labels"][FOLDER]), one["Labels"][OWNER], one["State"])
            for one in listed
        ]

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Turn what the daemon answers into errors of ours, but that something is gone or has ended: an `APIError`."""
        import docker

        try:
            yield
        except docker.errors.APIError as error:
            text = _short(error)
            if "bind source path does not exist" in text:
                raise ConfigurationError(
                    f"the Docker daemon at {self.address} does not see the scratch folder: {text}",
                    "worker and daemon must see it under one path: where the worker is a container itself, mount"
                    " UPKEEP_SCRATCH_DIR from the machine at the same path; or set `method: local`",
                ) from None
            if "exec: " in text or "exec format error" in text:  # runc's words
                raise ConfigurationError(
                    f"the image's program cannot be run: {text}",
                    "set `image` to one with initdb and postgres on PATH or in its PG_BIN, such as postgres:18",
                ) from None
            if error.status_code in (404, 409):  # 409: ended, or just being removed
                raise
            raise TransientError(
                f"the Docker daemon at {self.address} refuses: {text}", "look at its log; it is tried again"
            ) from None
        except (docker.errors.DockerException, OSError) as error:
            raise TransientError(
                f"the Docker daemon at {self.address} went away: {_short(error)}", "look at it; it is tried again"
            ) from None


def owner() -> str:
    """Return who we are, as the label of a container: boot, namespace of processes, process and its birth."""
    me = psutil.Process()
    return f"{_boot()}/{_namespace()}/{me.pid}/{me.create_time():.2f}"


def lives(told: str) -> bool:
    """Whether the process of such a label may live: whoever cannot be looked at may."""
    boot, namespace, pid, birth = (told.split("/") + [""] * 4)[:4]
    if boot != _boot():
        return not boot  # the daemon is of this machine, which was started anew since; a label that we did not write
    if namespace != _namespace():
        return True
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(birth)) < 1
    except psutil.Error:
        return False
    except ValueError:
        return True


def _boot() -> str:
    if sys.platform != "linux":
        return f"{psutil.boot_time():.0f}"
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _namespace() -> str:
    return str(os.stat("/proc/self/ns/pid").st_ino) if sys.platform == "linux" else "0"  # noqa: PTH116


def _short(error: BaseException) -> str:
    said = getattr(error, "explanation", None) or error
    return " ".join(str(said).split())[:400]
