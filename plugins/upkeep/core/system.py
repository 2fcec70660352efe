"""A system under maintenance and its targets, as a site describes them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import pydantic
from pydantic import Field

from upkeep.core.dependencies import AdvisorySource, Ignore
from upkeep.core.errors import ConfigurationError
from upkeep.core.fields import ConnId, Duration, Name, Path
from upkeep.core.logs import LogFormat, Rotation, StrayFiles
from upkeep.core.ml import DataSource, Labels, Registry, Retraining
from upkeep.core.model import Model, Threshold

Days = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_WEEK: tuple[Days, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class MaintenanceWindow(Model):
    """The hours, in the system's time zone, in which heavy or locking work may start."""

    days: tuple[Days, ...] = Field(_WEEK, min_length=1)
    start: time = time(0, 0)
    end: time = time(0, 0)

    def contains(self, moment: datetime, zone: ZoneInfo) -> bool:
        """Tell whether work may start at `moment`; a window past midnight belongs to the day it starts on.

        Equal start and end mean the whole day.
        """
        return self._span(moment, zone) is not None

    def closes(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        """Return when the window that is open at `moment` closes (UTC), None when it never does.

        :raises ValueError: it is not open.
        """
        span = self._span(moment, zone)
        if span is None:
            raise ValueError("the maintenance window is not open")
        return None if self.start == self.end and set(self.days) == set(_WEEK) else span[1]

    def opens(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """Return when the window next opens (UTC), which is `moment` when it is open."""
        if self.contains(moment, zone):
            return moment
        return next(opens for opens, _ in self._spans(moment, zone) if opens > moment)

    def _span(self, moment: datetime, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
        return next((span for span in self._spans(moment, zone) if span[0] <= moment < span[1]), None)

    def _spans(self, moment: datetime, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
        """Return from when to when (UTC) the window is open, from the days before `moment` to those after it.

        Everything else follows from these spans, so that no clock change makes the answers differ. A time that the
        clock repeats is meant the first time, one that it leaves out an hour later, as `zoneinfo` does it; a window
        that the clock leaves out altogether is none. Two weeks, because that may be the only one of its week.
        """
        first, spans = moment.astimezone(zone).date(), list[tuple[datetime, datetime]]()
        for day in (first + timedelta(days=n) for n in range(-8, 17)):
            last = day + timedelta(days=int(self.start >= self.end))
            opens, closes = (
                datetime.combine(on, at, zone).astimezone(UTC) for on, at in ((day, self.start), (last, self.end))
            )
            if _WEEK[day.weekday()] not in self.days or opens >= closes:
                continue
            # Where one day's window ends as the next one's begins, it does not close.
            if spans and opens <= spans[-1][1]:
                opens = spans.pop()[0]
            spans.append((opens, closes))
        return spans


class Channel(Model):
    """One way to reach a contact."""

    kind: Literal["email", "webhook", "phone", "sms", "pager"]
    address: str = Field("", description="e-mail address or number; for a webhook leave empty and name a connection")
    conn_id: ConnId | None = Field(None, description="webhook: the connection that holds URL and token")

    @pydantic.model_validator(mode="after")
    def _reachable(self) -> Channel:
        if self.kind == "webhook" and not self.conn_id:
            raise ValueError("a webhook needs `conn_id`: its URL is a secret and lives in an Airflow connection")
        if self.kind != "webhook" and not self.address:
            raise ValueError(f"a channel of kind {self.kind} needs `address`")
        return self


class Contact(Model):
    """A person or team."""

    name: str
    channels: tuple[Channel, ...] = Field(min_length=1)


class Role(Model):
    """Who answers for a role, and who when the first does not."""

    primary: Contact
    secondary: Contact | None = None


class Rung(Model):
    """One step of the ladder: who is told when nobody has reacted after `after`."""

    after: Duration = Field(description="time since the run was due (deadlines) or since the failure")
    roles: tuple[str, ...] = Field((), description="roles told on this rung; empty means the role that owns the work")
    level: Literal["primary", "secondary", "both"] = "primary"


class Ladder(Model):
    """Who is told, after how long without an acknowledgement, and when a cadence counts as late."""

    deadlines: dict[Literal["daily", "weekly", "monthly", "quarterly"], Duration] = Field(
        default_factory=dict, description="time after queueing at which a run of the cadence is late"
    )
    rungs: tuple[Rung, ...] = (Rung(after=timedelta(0)),)

    @pydantic.field_validator("rungs")
    @classmethod
    def _climbing(cls, rungs: tuple[Rung, ...]) -> tuple[Rung, ...]:
        waits = [r.after for r in rungs]
        if not waits or waits != sorted(set(waits)):
            raise ValueError("rungs must exist and their `after` must grow from one to the next")
        return rungs


class Retention(Model):
    """How many backups of each age are kept."""

    daily: int = Field(7, ge=1)
    weekly: int = Field(4, ge=0)
    monthly: int = Field(12, ge=0)
    quarterly: int = Field(4, ge=0)
    yearly: int = Field(0, ge=0)


class Hold(Model):
    """Backups that must be kept whatever retention says: for a court, an auditor, an open incident."""

    reason: str = Field(min_length=1, description="who asked for it, and why")
    target: Name | None = Field(None, description="only backups of this target; default: of all")
    first: date | None = Field(None, description="only backups taken on this day or later (UTC)")
    last: date | None = Field(None, description="only backups taken on this day or before (UTC)")
    until: date | None = Field(None, description="the day on which the hold ends; default: never")


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


class System(Model):
    """An application under maintenance: one file `include/systems/<name>.yaml`."""

    name: Name
    title: str
    description: str = ""
    timezone: str = "UTC"
    maintenance_window: MaintenanceWindow = MaintenanceWindow()
    contacts: dict[Name, Role] = Field(min_length=1)
    vendors: dict[Name, Contact] = Field(default_factory=dict)
    links: dict[str, str] = Field(default_factory=dict)
    software: dict[str, str] = Field(default_factory=dict, description="product -> versions it must have (`>=12`)")
    ladder: Ladder = Ladder()
    retention: Retention = Retention()
    holds: tuple[Hold, ...] = Field((), description="backups that retention must not remove")
    rto: Duration | None = Field(None, description="how long restoring may take")
    rpo: Duration | None = Field(None, description="how much of the newest work may be lost: age of the newest backup")
    store: StoreRef | None = None
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    targets: dict[Name, AnyTarget] = Field(min_length=1)

    @pydantic.field_validator("timezone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        # Not `in available_timezones()`: that reads the whole zone database, for every system, at every load.
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise ValueError("expected an IANA time zone such as Europe/Berlin") from None
        return zone

    @pydantic.model_validator(mode="before")
    @classmethod
    def _targets_know_their_id(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("targets"), dict):
            named: dict[Any, Any] = {
                key: {"id": f"{data.get('name')}/{key}", **value} if isinstance(value, dict) else value
                for key, value in data["targets"].items()
            }
            return {**data, "targets": named}
        return data

    @pydantic.model_validator(mode="after")
    def _ids_follow_from_names(self) -> System:
        for key, target in self.targets.items():
            if target.id != f"{self.name}/{key}":
                raise ValueError(f"target {key!r} has an `id` of its own; expected none: it follows from the names")
        return self

    @pydantic.model_validator(mode="after")
    def _roles_exist(self) -> System:
        for number, rung in enumerate(self.ladder.rungs, 1):
            for role in rung.roles:
                if role not in self.contacts:
                    raise ValueError(
                        f"ladder rung {number} names role {role!r}; contacts has {', '.join(sorted(self.contacts))}"
                    )
        return self

    @pydantic.model_validator(mode="after")
    def _parts_exist(self) -> System:
        named = {h.target for h in self.holds if h.target}
        for target in self.targets.values():
            if isinstance(target, RecoveryTarget):
                named |= {*target.parts, *([target.check] if target.check else [])}
        if unknown := sorted(named - set(self.targets)):
            raise ValueError(
                f"holds or recovery name target {unknown[0]!r}; targets are {', '.join(sorted(self.targets))}"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _endpoints_exist(self) -> System:
        for key, target in self.targets.items():
            if isinstance(target, ModelTarget) and target.endpoint:
                service, _, endpoint = target.endpoint.partition("/")
                serving = self.targets.get(service)
                if not isinstance(serving, HttpTarget) or endpoint not in serving.endpoints:
                    raise ValueError(
                        f"target {key!r} names endpoint {target.endpoint!r}; expected `<http target>/<endpoint>`"
                    )
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The system's time zone."""
        return ZoneInfo(self.timezone)

    def target(self, target_id: str) -> Target:
        """Return the target with an id such as `claims/db`.

        :raises ConfigurationError: the system has no such target.
        """
        found = self.targets.get(target_id.partition("/")[2])
        if found is None or found.id != target_id:
            raise ConfigurationError(
                f"system {self.name} has no target {target_id!r}", f"its targets: {', '.join(sorted(self.targets))}"
            )
        return found
