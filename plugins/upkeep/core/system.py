"""A system under maintenance, as a site describes it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pydantic
from pydantic import Field

from upkeep.core.errors import ConfigurationError
from upkeep.core.fields import ConnId, Duration, Name
from upkeep.core.model import Model
from upkeep.core.targets import AnyTarget, HttpTarget, ModelTarget, RecoveryTarget, StoreRef, Target

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
