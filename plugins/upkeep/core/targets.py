"""What routines work on: the targets of a system, each with what is to be known of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from upkeep.core.dependencies import AdvisorySource, Ignore
from upkeep.core.fields import ConnId, Name, Path
from upkeep.core.logs import LogFormat, Rotation, StrayFiles
from upkeep.core.ml import DataSource, Labels, Registry, Retraining
from upkeep.core.model import Model, Threshold


class StoreRef(Model):
    """Where backups go: `s3://bucket/prefix` with an aws connection, or an absolute `file:///folder`."""

    # A folder may still begin with a variable: without an environment in the context it is not filled in.
    url: Path = Field(pattern=r"^(s3://[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9](/.*)?|file://(/|\$\{).+)$")
    conn_id: ConnId | None = None
    key_conn_id: ConnId | None = Field(
        None, description="connection with the keys by which backups are encrypted before they leave the worker"
    )
    lock_days: int | None = Field(
        None, ge=1, le=36_500, description="days for which the store refuses to delete what is written (S3 object lock)"
    )
    storage_class: dict[Literal["daily", "weekly", "monthly", "quarterly"], str] = Field(
        default_factory=dict, description="S3 storage class of the backups of each tier; default: the bucket's"
    )

    @pydantic.model_validator(mode="after")
    def _connected(self) -> StoreRef:
        if self.url.startswith("s3://") and not self.conn_id:
            raise ValueError("an s3 store needs `conn_id`, an Airflow connection of type aws")
        if not self.url.startswith("s3://") and (self.lock_days or self.storage_class):
            raise ValueError("`lock_days` and `storage_class` are for s3 stores; a folder has neither")
        return self


class Volume(Model):
    """The disk space that a server has: read at `path` when a worker sees it, else the `size` that is stated."""

    path: Path | None = Field(None, description="a folder on the volume, as the workers see it")
    size: pydantic.ByteSize | None = Field(None, description="stated size of the volume (`500 GB`); goes before path")

    @pydantic.model_validator(mode="after")
    def _known(self) -> Volume:
        if self.path is None and self.size is None:
            raise ValueError("give `path`, `size` or both")
        return self


class Target(Model):
    """One thing of a system that routines work on."""

    kind: str
    settings: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="per routine (`database.health`): settings that differ for this target"
    )
    skip: dict[str, str] = Field(default_factory=dict, description="per routine: the reason why it must not run here")
    thresholds: dict[str, Threshold] = Field(
        default_factory=dict,
        description="limits the system's guide states for this target, by measurement; a routine's settings go before",
    )
    # Filled in by System, so that a target knows its own id wherever it goes.
    id: str = ""


class Smoke(Model):
    """A question to a restored database whose answer tells that the application could work with it."""

    sql: str = Field(min_length=1, description="one SELECT that gives one value")
    equals: Any = None
    least: float | None = Field(None, description="the value must be at least this")

    @pydantic.model_validator(mode="after")
    def _one_condition(self) -> Smoke:
        if len({"equals", "least"} & self.model_fields_set) != 1:
            raise ValueError("give exactly one of `equals` and `least`")
        return self


class PostgresTarget(Target):
    """A PostgreSQL database."""

    kind: Literal["postgres"] = "postgres"
    conn_id: ConnId
    database: str | None = Field(None, description="database name; default: the connection's schema field")
    backup_conn_id: ConnId | None = Field(None, description="connection for dumps; default: `conn_id`")
    maintenance_conn_id: ConnId | None = Field(
        None, description="connection whose role may vacuum and reindex (owner, or pg_maintain); default: `conn_id`"
    )
    volume: Volume | None = Field(None, description="where its data lie; without it free space is unknown")
    store: StoreRef | None = Field(None, description="where backups go; default: the system's store")
    tables: tuple[str, ...] = Field((), description="tables that guides name for special care, schema-qualified")
    physical_conn_id: ConnId | None = Field(
        None, description="connection for physical backups (role with REPLICATION); default: that for dumps"
    )
    smoke: dict[Name, Smoke] = Field(default_factory=dict, description="questions that a restored database must answer")


class SqliteTarget(Target):
    """A SQLite database file."""

    kind: Literal["sqlite"] = "sqlite"
    path: Path
    store: StoreRef | None = Field(None, description="where backups go; default: the system's store")


class ObjectStoreTarget(Target):
    """A bucket, or a prefix in one."""

    kind: Literal["object_store"] = "object_store"
    conn_id: ConnId
    bucket: str
    prefix: str = ""


class FileSetTarget(Target):
    """Files that are backed up or checked together."""

    kind: Literal["files"] = "files"
    paths: tuple[Path, ...] = Field(min_length=1)
    exclude: tuple[Path, ...] = ()
    secret: bool = Field(False, description="contents and names are confidential (configuration, .env)")
    store: StoreRef | None = Field(None, description="where backups go; default: the system's store")
    copies: tuple[StoreRef, ...] = Field((), description="further places that hold the same backups")


class LogSetTarget(Target):
    """Log files of one writer and one format."""

    kind: Literal["logs"] = "logs"
    paths: tuple[Path, ...] = Field(min_length=1, description="the files, rotated and compressed ones included")
    format: LogFormat = "plain"
    time_zone: str | None = Field(None, description="zone of times without an offset; default: the system's")
    rotation: Rotation | None = Field(None, description="how the live files are rotated; default: not by us")
    stray: tuple[StrayFiles, ...] = Field((), description="files that must not stay, such as forgotten test databases")


class Expectation(Model):
    """What a JSON body must say at an RFC 6901 pointer (`/database/status`)."""

    pointer: str = Field("", pattern=r"^(/.*)?$")
    equals: Any = None
    contains: str | None = None
    degraded: Any = Field(None, description="another value, which means that the service is degraded and not down")

    @pydantic.model_validator(mode="after")
    def _one_condition(self) -> Expectation:
        if len({"equals", "contains"} & self.model_fields_set) != 1:
            raise ValueError("give exactly one of `equals` and `contains`")
        return self


class Endpoint(Model):
    """One address of a service and what a healthy answer looks like."""

    path: str = Field(pattern=r"^/")
    method: Literal["GET", "HEAD", "POST"] = "GET"
    json_body: Any = Field(None, description="request body of a POST")
    status: tuple[int, ...] = (200,)
    expect: tuple[Expectation, ...] = ()
    body_contains: str | None = None

    @pydantic.model_validator(mode="after")
    def _askable(self) -> Endpoint:
        if self.method == "HEAD" and (self.expect or self.body_contains is not None):
            raise ValueError("an answer to HEAD has no body; expected method GET where a body is looked at")
        if self.json_body is not None and self.method != "POST":
            raise ValueError(f"`json_body` goes with method POST, seen {self.method}")
        return self


class HttpTarget(Target):
    """A service that answers over HTTP."""

    kind: Literal["http"] = "http"
    conn_id: ConnId | None = Field(None, description="http connection: host, port, scheme, credentials")
    base_url: str | None = Field(None, pattern=r"^https?://[^@]+$", description="address without credentials")
    endpoints: dict[Name, Endpoint] = Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _one_address(self) -> HttpTarget:
        if (self.conn_id is None) == (self.base_url is None):
            raise ValueError("give exactly one of `conn_id` and `base_url`")
        return self


class Requirements(Model):
    """What a machine must at least have."""

    cores: int | None = Field(None, ge=1)
    memory_gb: float | None = Field(None, gt=0)
    storage_gb: float | None = Field(None, gt=0)
    network_gbps: float | None = Field(None, gt=0)


class HostTarget(Target):
    """A machine; `local` is the worker that runs the routine."""

    kind: Literal["host"] = "host"
    volumes: tuple[Path, ...] = ("/",)
    requires: Requirements = Requirements()


class ContainerTarget(Target):
    """Containers of a compose project, or one container."""

    kind: Literal["containers"] = "containers"
    project: str | None = None
    compose: Path | None = Field(None, description="the compose file that declares them")
    names: tuple[str, ...] = ()
    docker_conn_id: ConnId | None = None


class RedisTarget(Target):
    """A Redis (or Valkey) server."""

    kind: Literal["redis"] = "redis"
    conn_id: ConnId
    store: StoreRef | None = Field(None, description="where backups go; default: the system's store")


class TlsTarget(Target):
    """A server's TLS certificate chain."""

    kind: Literal["tls"] = "tls"
    host: str
    port: int = Field(443, ge=1, le=65535)
    server_name: str | None = None


class ModelTarget(Target):
    """A machine-learning model in service."""

    kind: Literal["model"] = "model"
    path: Path = Field(description="folder with the model's files and metadata")
    metadata: str | None = Field(None, description="metadata file inside the folder")
    files: tuple[str, ...] = Field((), description="globs in the folder: the files that make up the model")
    endpoint: str | None = Field(None, description="`<http target>/<endpoint>` of this system that serves it")
    scoring: DataSource | None = Field(None, description="the rows that it was asked about, with its answers")
    features: tuple[str, ...] = Field((), description="columns that are features; default: those of the metadata")
    prediction: str | None = Field(None, description="column of `scoring` with its answer")
    labels: Labels | None = Field(None, description="what turned out to be true, which comes later")
    profile: Path | None = Field(
        None, description="folder of the reference profiles; default: `reference` in the model's folder"
    )
    registry: Registry | None = Field(None, description="where versions are registered; default: the metadata file")
    retraining: Retraining | None = Field(None, description="when and how it is trained anew; default: never by us")
    store: StoreRef | None = Field(None, description="where backups go; default: the system's store")


class DependenciesTarget(Target):
    """Packages that are audited: of manifests, of an environment, of this machine, or of container images."""

    kind: Literal["dependencies"] = "dependencies"
    ecosystem: Literal["python", "npm", "debian", "containers"] = "python"
    manifests: tuple[Path, ...] = Field((), description="requirements files, locks, package-lock.json")
    environment: Path | None = Field(None, description="python: interpreter of an environment that is installed")
    images: tuple[str, ...] = Field((), description="containers: images whose packages are listed from inside")
    docker_conn_id: ConnId | None = Field(None, description="containers: connection to the Docker daemon")
    advisories: tuple[AdvisorySource, ...] = Field(
        (), description="where known vulnerabilities are looked up, in this order; default: the routine's setting"
    )
    ignores: tuple[Ignore, ...] = Field((), description="findings that somebody answers for, until a day")
    tests: tuple[str, ...] = Field((), description="command that must pass with updated packages; default: none is run")

    @pydantic.model_validator(mode="after")
    def _something(self) -> DependenciesTarget:
        given = {"python": self.manifests or self.environment, "npm": self.manifests, "containers": self.images}
        if not given.get(self.ecosystem, True):
            raise ValueError(
                f"nothing to audit: ecosystem {self.ecosystem} needs `manifests`, `environment` or `images`"
            )
        return self


class RecoveryTarget(Target):
    """What brings a whole system back from its backups alone, in a place of its own, to show that it can be done."""

    kind: Literal["recovery"] = "recovery"
    parts: tuple[Name, ...] = Field(min_length=1, description="targets of this system, in the order of their restore")
    services: tuple[str, ...] = Field(
        (), description="command that serves the restored system; {folder}, {port} and {dsn} are filled in"
    )
    check: Name | None = Field(None, description="http target of this system whose endpoints must answer")


AnyTarget = Annotated[
    PostgresTarget
    | SqliteTarget
    | ObjectStoreTarget
    | FileSetTarget
    | LogSetTarget
    | HttpTarget
    | HostTarget
    | ContainerTarget
    | RedisTarget
    | TlsTarget
    | ModelTarget
    | DependenciesTarget
    | RecoveryTarget,
    Field(discriminator="kind"),
]
TARGET_KINDS: tuple[str, ...] = tuple(
    target.model_fields["kind"].default for target in Target.__subclasses__() if target.__module__ == __name__
)
